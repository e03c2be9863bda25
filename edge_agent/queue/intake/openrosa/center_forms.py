"""The forms that the center gives to devices, put into the folder that form programs are served from.

They come as statements, which the engine has verified and keeps; here they become files, one folder for each form:

    <state directory>/forms/center-<subject of its statements>/form.xml, media/<file>

A folder is made whole under a hidden name and then takes the place of the one before, so that form programs never meet
half of a version. One whose files are not all here yet waits, and the version before stays.

Looked at when a form program asks for the list, so that an idle device does nothing. An operator's own folders are left
alone.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from edge_agent.engine.ports import QueueDesk
from edge_agent.engine.store import StoreFault, StoreTransaction
from edge_agent.queue.intake.openrosa.forms import MEDIA_FOLDER_NAME, XFORM_FILE_NAME
from operations.durable_files import sync_directory, write_durably
from sync_protocol import statement
from sync_protocol.errors import ProtocolError
from sync_protocol.form import PublishedForm, read_form
from sync_protocol.form_file import file_subject, read_file
from sync_protocol.statement import Statement, parse_statement

Content = TypeVar("Content")

PREFIX: Final = "center-"
_FOLDER_MODE: Final = 0o750
_FILE_MODE: Final = 0o640


class CenterForms:
    """Keeps the folder as the center's newest statements say; `tell` is given a folder's name and what is wrong."""

    def __init__(self, folder: Path, queue: QueueDesk, tell: Callable[[str, str], None]) -> None:
        self._folder = folder
        self._queue = queue
        self._tell = tell
        self._refused: set[bytes] = set()
        self._turn = asyncio.Lock()

    async def renew(self) -> None:
        """Write what is new; what cannot be written now is written another time."""
        async with self._turn:
            try:
                given = await self._queue.ask(lambda transaction: transaction.statements(statement.FORM))
                for name, form in (await asyncio.to_thread(self._stale, given)).items():
                    files = await self._queue.ask(partial(_files_here, form))
                    await asyncio.to_thread(self._put, name, form, files)
            except (StoreFault, OSError) as error:
                self._tell(PREFIX.rstrip("-"), f"the center's forms cannot be written: {error}")

    def _stale(self, given: Sequence[bytes]) -> Mapping[str, PublishedForm]:
        """Return the forms whose folders are not yet as the statements say, by the folders' names."""
        stale: dict[str, PublishedForm] = {}
        for source in map(parse_statement, given):
            name = f"{PREFIX}{source.subject.hex()}"
            form = self._read(name, source.data, read_form)
            if form is not None and not _is_there(self._restored(name), form):
                stale[name] = form
        return stale

    def _restored(self, name: str) -> Path:
        """Return a form's folder, put back first if a change of it was cut short between its two renames."""
        folder, before = self._folder / name, self._before(name)
        if before.is_dir() and not folder.exists():
            before.rename(folder)
        return folder

    def _put(self, name: str, form: PublishedForm, files: Sequence[bytes]) -> None:
        """Write a form's folder if all its files are here, or remove that of one that is withdrawn."""
        contents: dict[str, bytes] = {}
        for data in files:
            file = self._read(name, data, read_file)
            if file is not None and form.files[file.name] == sha256(file.content).digest():
                contents[file.name] = file.content
        if contents.keys() != form.files.keys():
            return
        self._folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        folder, before, after = self._folder / name, self._before(name), self._folder / f".{name}.part"
        for leftover in (before, after):
            shutil.rmtree(leftover, ignore_errors=True)
        if form.xform:
            _write(after, form.xform, contents)
        if folder.exists():
            folder.rename(before)
        if form.xform:
            after.rename(folder)
        sync_directory(self._folder)
        shutil.rmtree(before, ignore_errors=True)

    def _before(self, name: str) -> Path:
        return self._folder / f".{name}.before"

    def _read(self, name: str, data: bytes, read: Callable[[Statement], Content]) -> Content | None:
        """Read a statement; one that this release cannot read is told once."""
        try:
            return read(parse_statement(data))
        except ProtocolError as error:
            if data not in self._refused:
                self._refused.add(data)
                self._tell(name, error.detail)
            return None


def _files_here(form: PublishedForm, transaction: StoreTransaction) -> list[bytes]:
    found = (transaction.statement(statement.FORM_FILE, file_subject(form.form, name)) for name in form.files)
    return [data for data in found if data is not None]


def _is_there(folder: Path, form: PublishedForm) -> bool:
    path = folder / XFORM_FILE_NAME
    if not form.xform:
        return not folder.exists()
    if not path.is_file() or path.read_bytes() != form.xform:
        return False
    media = folder / MEDIA_FOLDER_NAME
    return all(
        (media / name).is_file() and sha256((media / name).read_bytes()).digest() == digest
        for name, digest in form.files.items()
    )


def _write(folder: Path, xform: bytes, contents: Mapping[str, bytes]) -> None:
    """Make a folder with everything that belongs to a form, on disk before it returns."""
    media = folder / MEDIA_FOLDER_NAME
    media.mkdir(mode=_FOLDER_MODE, parents=True)
    for name, content in contents.items():
        write_durably(media / name, content, mode=_FILE_MODE)
    write_durably(folder / XFORM_FILE_NAME, xform, mode=_FILE_MODE)
