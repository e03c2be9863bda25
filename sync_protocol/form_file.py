"""Files that a form shows, plays or looks up, as the center gives them to devices (SPEC.md §4.4)."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from sync_protocol import domains
from sync_protocol.domains import name_of
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.keys import Signer
from sync_protocol.limits import (
    FORM_FILE_BYTES_MAX,
    FORM_FILE_NAME_BYTES_MAX,
    FORM_FILE_NAME_CHARACTERS_MAX,
    NAME_CHARACTERS_MAX,
)
from sync_protocol.statement import FORM_FILE, Statement, sign_statement

_PREFIX: Final = struct.Struct(">HBBI32s")
_AS_IS: Final = 0
_DEFLATED: Final = 1
_WINDOW_BITS: Final = -15


@dataclass(frozen=True)
class FormFile:
    """A file of a form; one of no bytes is taken back."""

    form: str
    name: str
    content: bytes


def file_subject(form: str, name: str) -> bytes:
    """Return the 16 bytes that name a file of a form as the subject of statements."""
    return name_of(domains.FORM_FILE, form.encode() + b"\0" + name.encode())


def is_file_name(name: str) -> bool:
    """Tell whether a form's file may have this name: a plain one, never a path."""
    return (
        0 < len(name) <= FORM_FILE_NAME_CHARACTERS_MAX
        and name.isprintable()
        and not name.startswith(".")
        and not set(name) & {'"', "/", "\\"}
        and len(name.encode()) <= FORM_FILE_NAME_BYTES_MAX
    )


def publish_file(signer: Signer, file: FormFile, serial: int) -> Statement:
    """Make the statement; raises ProtocolError (bad_field, oversized) for a file that none can hold."""
    _check(file.form, file.name, len(file.content))
    compressor = zlib.compressobj(9, zlib.DEFLATED, _WINDOW_BITS)
    deflated = compressor.compress(file.content) + compressor.flush()
    coding, coded = (_DEFLATED, deflated) if len(deflated) < len(file.content) else (_AS_IS, file.content)
    form, name = file.form.encode(), file.name.encode()
    prefix = _PREFIX.pack(len(form), len(name), coding, len(file.content), sha256(file.content).digest())
    subject = file_subject(file.form, file.name)
    return sign_statement(signer, kind=FORM_FILE, subject=subject, serial=serial, body=prefix + form + name + coded)


def read_file(source: Statement) -> FormFile:
    """Read the file of a statement of kind 34; never makes more than FORM_FILE_BYTES_MAX bytes of it.

    Raises ProtocolError: truncated, oversized, bad_field, bad_content.
    """
    body = source.body
    if len(body) < _PREFIX.size:
        raise ProtocolError(Fault.TRUNCATED, f"{len(body)} bytes are too few for a form's file")
    form_bytes, name_bytes, coding, file_bytes, digest = _PREFIX.unpack_from(body)
    names_to = _PREFIX.size + form_bytes + name_bytes
    if names_to > len(body):
        raise ProtocolError(Fault.TRUNCATED, "the names of the form's file are not all there")
    try:
        form = body[_PREFIX.size : _PREFIX.size + form_bytes].decode()
        name = body[_PREFIX.size + form_bytes : names_to].decode()
    except UnicodeDecodeError:
        raise ProtocolError(Fault.BAD_FIELD, "a name of the form's file is not UTF-8") from None
    _check(form, name, file_bytes)
    if source.subject != file_subject(form, name):
        raise ProtocolError(Fault.BAD_FIELD, "the statement's subject is another file")
    if coding not in (_AS_IS, _DEFLATED):
        raise ProtocolError(Fault.BAD_FIELD, f"coding {coding} of a form's file is not known here")
    coded = body[names_to:]
    content = _inflated(coded, file_bytes) if coding == _DEFLATED else coded
    if len(content) != file_bytes or sha256(content).digest() != digest:
        raise ProtocolError(Fault.BAD_CONTENT, "the form's file is not the one that it announces")
    return FormFile(form, name, content)


def _inflated(coded: bytes, length: int) -> bytes:
    reader = zlib.decompressobj(_WINDOW_BITS)
    try:
        content = reader.decompress(coded, length + 1)
    except zlib.error:
        raise ProtocolError(Fault.BAD_CONTENT, "the form's file is not deflated as it should be") from None
    if not reader.eof or reader.unused_data or reader.unconsumed_tail:
        raise ProtocolError(Fault.BAD_CONTENT, "the form's file does not have the length that it announces")
    return content


def _check(form: str, name: str, file_bytes: int) -> None:
    if not 0 < len(form) <= NAME_CHARACTERS_MAX or not form.isprintable():
        raise ProtocolError(Fault.BAD_FIELD, "the form of the file has no id, or none that a form can have")
    if not is_file_name(name):
        raise ProtocolError(Fault.BAD_FIELD, "the name of a form's file is too long, or not a plain name")
    if file_bytes > FORM_FILE_BYTES_MAX:
        raise ProtocolError(Fault.OVERSIZED, f"a file of a form has at most {FORM_FILE_BYTES_MAX} bytes")
