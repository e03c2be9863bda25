"""Gives devices a form with its files, and takes it back (SPEC.md §4.2, §4.4).

Not responsible for sending: whatever is stored, the receipt publisher sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from central_broker.forms.definition import FormRefused
from central_broker.storage.contract import Storage
from sync_protocol.errors import ProtocolError
from sync_protocol.form import PublishedForm, publish_form, read_form, withdraw_form
from sync_protocol.form_file import FormFile, publish_file, read_file
from sync_protocol.keys import Signer
from sync_protocol.statement import Statement, parse_statement

PUBLISHED_FILES_BYTES_MAX: Final = 2 * 1024 * 1024
"""Of the files of all forms as they travel: every device keeps them, and is sent them when it starts and once a day."""


@dataclass(frozen=True, slots=True)
class Published:
    """What devices are given; `is_new` is False when it was the same before."""

    statement_bytes: int
    files_bytes: int
    is_new: bool


def current(statement: bytes | None) -> PublishedForm | None:
    """Return what devices are given by a record's statement; None where that is nothing, or a withdrawal."""
    if statement is None:
        return None
    form = read_form(parse_statement(statement))
    return form if form.xform else None


def publish(
    storage: Storage, signer: Signer, form: PublishedForm, contents: Mapping[str, bytes], now: int
) -> Published:
    """Publish a form with its files, all in one transaction; the same again changes nothing.

    Files that no longer belong to it are taken back. Raises FormRefused, StorageUnavailable.
    """
    form = PublishedForm(
        form.form, form.version, form.title, form.xform, {name: sha256(one).digest() for name, one in contents.items()}
    )
    before = _statement_of(storage, form.form)
    given = {name: parse_statement(data) for one, name, data in storage.form_files() if one == form.form}
    changed: list[tuple[str, Statement]] = []
    for name in sorted(contents.keys() | given.keys()):
        content = contents.get(name, b"")
        if name not in given or read_file(given[name]).content != content:
            changed.append((name, _file(signer, FormFile(form.form, name, content), _serial(given.get(name), now))))
    after = {**given, **dict(changed)}
    files_bytes = sum(len(after[name].data) for name in contents)
    others = sum(len(data) for one, _, data in storage.form_files() if one != form.form)
    if files_bytes + others > PUBLISHED_FILES_BYTES_MAX:
        raise FormRefused(
            f"its files take {files_bytes:,} bytes and those of other forms {others:,},"
            f" together more than {PUBLISHED_FILES_BYTES_MAX:,}",
            "make pictures smaller, or withdraw a form that is not needed any more",
        )
    if before is not None and not changed and current(before.data) == form:
        return Published(len(before.data), files_bytes, is_new=False)
    try:
        statement = publish_form(signer, form, _serial(before, now))
    except ProtocolError as error:
        raise FormRefused(error.detail, "move long lists of choices out of the form") from None
    storage.publish_form(form.form, form.version, statement.data, [(name, one.data) for name, one in changed])
    return Published(len(statement.data), files_bytes, is_new=True)


def withdraw(storage: Storage, signer: Signer, form: str, now: int) -> bool:
    """Have devices stop offering a form; return False when they are given none. Its files are taken back, too."""
    record = next((one for one in storage.form_records() if one.form == form and current(one.statement)), None)
    if record is None or record.statement is None:
        return False
    statement = withdraw_form(signer, form, record.version, _serial(parse_statement(record.statement), now))
    files = [
        (name, _file(signer, FormFile(form, name, b""), _serial(parse_statement(data), now)).data)
        for one, name, data in storage.form_files()
        if one == form and read_file(parse_statement(data)).content
    ]
    storage.publish_form(form, record.version, statement.data, files)
    return True


def _statement_of(storage: Storage, form: str) -> Statement | None:
    given = [one.statement for one in storage.form_records() if one.form == form and one.statement is not None]
    return parse_statement(given[0]) if given else None


def _serial(before: Statement | None, now: int) -> int:
    """A clock that was set back must not make a statement that is older than the one before."""
    return now if before is None else max(before.serial + 1, now)


def _file(signer: Signer, file: FormFile, serial: int) -> Statement:
    try:
        return publish_file(signer, file, serial)
    except ProtocolError as error:
        problem = f"{file.name} has {len(file.content):,} bytes and cannot be sent: {error.detail}"
        raise FormRefused(problem, "make the picture smaller, or divide the list") from None
