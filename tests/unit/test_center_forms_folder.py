"""The folder of the center's forms: a version is offered whole or not at all, whatever ends the writing of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from edge_agent.engine.ports import Answer
from edge_agent.engine.store import StoreTransaction
from edge_agent.queue.intake.openrosa import center_forms
from edge_agent.queue.intake.openrosa.center_forms import CenterForms
from edge_agent.queue.intake.openrosa.forms import FolderShelf, Form
from edge_agent.queue.store import QueueStore
from operations.durable_files import write_durably
from sync_protocol.form import PublishedForm, publish_form, withdraw_form
from sync_protocol.form_file import FormFile, publish_file
from sync_protocol.keys import SigningKey
from sync_protocol.statement import Statement

SIGNER = SigningKey(bytes(range(32)))
FILES = {"map.png": b"map", "villages.csv": b"name,label\n"}


class Desk:
    """Asks a real queue; learns nothing."""

    def __init__(self, store: QueueStore) -> None:
        self.store = store

    async def ask(self, question: Callable[[StoreTransaction], Answer]) -> Answer:
        with self.store.transaction() as transaction:
            return question(transaction)

    async def learn(self, data: bytes) -> None:
        raise NotImplementedError


class Tablet:
    def __init__(self, folder: Path) -> None:
        self.forms = folder / "forms"
        self.store = QueueStore(folder / "queue")
        self.told: list[tuple[str, str]] = []

    def take(self, *statements: Statement) -> None:
        with self.store.transaction() as transaction:
            for one in statements:
                assert transaction.put_statement(one)

    def offered(self) -> dict[str, dict[str, bytes]]:
        """Renew as a new process would; return the files that are offered, by version."""
        desk = Desk(self.store)
        asyncio.run(CenterForms(self.forms, desk, lambda *told: self.told.append(told)).renew())
        shelf = FolderShelf(self.forms, lambda *told: self.told.append(told))
        return {form.version: self._files(shelf, form) for form in shelf.forms()}

    @staticmethod
    def _files(shelf: FolderShelf, form: Form) -> dict[str, bytes]:
        files = {}
        for one in form.media:
            with shelf.open_media(form.key, one.name) as file:
                files[one.name] = file.read()
        return files


@pytest.fixture
def tablet(tmp_path: Path) -> Iterator[Tablet]:
    made = Tablet(tmp_path)
    yield made
    made.store.close()


def form(version: str, contents: dict[str, bytes]) -> Statement:
    xform = (
        '<h:html xmlns="http://www.w3.org/2002/xforms" xmlns:h="http://www.w3.org/1999/xhtml"><h:head><model>'
        f'<instance><data id="visit" version="{version}"/></instance></model></h:head></h:html>'
    ).encode()
    digests = {name: sha256(content).digest() for name, content in contents.items()}
    return publish_form(SIGNER, PublishedForm("visit", version, "Visit", xform, digests), int(version))


def files(contents: dict[str, bytes], serial: int) -> list[Statement]:
    return [publish_file(SIGNER, FormFile("visit", name, content), serial) for name, content in contents.items()]


def test_a_version_is_offered_when_its_last_file_is_here_and_the_one_before_until_then(tablet: Tablet) -> None:
    first, last = files(FILES, 1)
    tablet.take(form("1", FILES), first)
    assert tablet.offered() == {}
    tablet.take(last)
    assert tablet.offered() == {"1": FILES}
    changed = {"map.png": b"another map"}
    tablet.take(form("2", changed))
    assert tablet.offered() == {"1": FILES}
    tablet.take(*files(changed, 2))
    assert tablet.offered() == {"2": changed}, "a file that it does not name is gone"
    assert [path.name for path in tablet.forms.iterdir() if path.name.startswith(".")] == []
    assert tablet.told == []


def test_a_withdrawn_form_is_offered_no_more_until_it_is_published_again(tablet: Tablet) -> None:
    tablet.take(form("1", FILES), *files(FILES, 1))
    assert tablet.offered() == {"1": FILES}
    tablet.take(withdraw_form(SIGNER, "visit", "1", 2), *files(dict.fromkeys(FILES, b""), 2))
    assert tablet.offered() == {}
    assert list(tablet.forms.iterdir()) == []
    tablet.take(form("3", FILES), *files(FILES, 3))
    assert tablet.offered() == {"3": FILES}


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_writing_that_ends_between_two_files_leaves_the_version_before(
    tablet: Tablet, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    tablet.take(form("1", FILES), *files(FILES, 1))
    assert tablet.offered() == {"1": FILES}
    changed = {name: content + b"2" for name, content in FILES.items()}
    tablet.take(form("2", changed), *files(changed, 2))
    left, write = writes, write_durably

    def failing(path: Path, data: bytes, *, mode: int) -> None:
        nonlocal left
        if not left:
            raise OSError(28, "No space left on device")
        left -= 1
        write(path, data, mode=mode)

    with monkeypatch.context() as disk:
        disk.setattr(center_forms, "write_durably", failing)
        assert tablet.offered() == {"1": FILES}
    assert "cannot be written" in tablet.told[0][1]
    assert tablet.offered() == {"2": changed}


@pytest.mark.parametrize("rename", [1, 2])
def test_an_end_at_either_rename_costs_nothing(tablet: Tablet, monkeypatch: pytest.MonkeyPatch, rename: int) -> None:
    tablet.take(form("1", FILES), *files(FILES, 1))
    assert tablet.offered() == {"1": FILES}
    tablet.take(form("2", {}))
    renamed, rename_path = 0, Path.rename

    def ending(path: Path, target: Path) -> Path:
        nonlocal renamed
        renamed += 1
        if renamed == rename:
            raise OSError(5, "Input/output error")
        return rename_path(path, target)

    with monkeypatch.context() as disk:
        disk.setattr(Path, "rename", ending)
        tablet.offered()
    tablet.take(form("3", {"late.csv": b"late"}))
    assert tablet.offered() == {"1": FILES}, "the next version is not whole: what was there is offered again"
    tablet.take(*files({"late.csv": b"late"}, 3))
    assert tablet.offered() == {"3": {"late.csv": b"late"}}
