"""Forms as the center gives them to devices (SPEC.md §4.2): one statement for each form, the newest is in force."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from sync_protocol import domains
from sync_protocol.domains import name_of
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.form_file import is_file_name
from sync_protocol.keys import Signer
from sync_protocol.limits import FORM_FILES_MAX, FORM_TITLE_CHARACTERS_MAX, NAME_CHARACTERS_MAX, XFORM_BYTES_MAX
from sync_protocol.statement import FORM, Statement, sign_statement

_COUNTS: Final = struct.Struct(">HHHI")
_XFORM_BITS: Final = 24
"""Of the last of the counts; above them is the number of files."""
_DIGEST_BYTES: Final = sha256().digest_size
_DEFLATE_WINDOW_BITS: Final = -15
_DEFLATE_LEVEL: Final = 9


@dataclass(frozen=True)
class PublishedForm:
    """One version of a form with its XForm XML, as it was added at the center; without one it is withdrawn."""

    form: str
    version: str
    title: str
    xform: bytes
    files: Mapping[str, bytes] = field(default_factory=dict)
    """SHA-256 of what it shows, plays or looks up, by name."""


def form_subject(form: str) -> bytes:
    """Return the 16 bytes that name a form as the subject of statements."""
    return name_of(domains.FORM, form.encode())


def publish_form(signer: Signer, form: PublishedForm, serial: int) -> Statement:
    """Make the statement; raises ProtocolError (bad_field, oversized) for a form that none can hold."""
    if not form.xform:
        raise ProtocolError(Fault.BAD_FIELD, "a form has an XForm")
    _check(form)
    compressor = zlib.compressobj(_DEFLATE_LEVEL, zlib.DEFLATED, _DEFLATE_WINDOW_BITS)
    return _stated(signer, form, compressor.compress(form.xform) + compressor.flush(), serial)


def withdraw_form(signer: Signer, form: str, version: str, serial: int) -> Statement:
    """Make the statement by which devices stop offering a form; raises ProtocolError (bad_field)."""
    withdrawn = PublishedForm(form, version, "", b"")
    _check(withdrawn)
    return _stated(signer, withdrawn, b"", serial)


def _stated(signer: Signer, form: PublishedForm, coded: bytes, serial: int) -> Statement:
    texts = [text.encode() for text in (form.form, form.version, form.title)]
    names = sorted((name.encode(), digest) for name, digest in form.files.items())
    files = b"".join(bytes((len(name),)) + digest + name for name, digest in names)
    counts = _COUNTS.pack(*map(len, texts), len(names) << _XFORM_BITS | len(form.xform))
    body = counts + b"".join(texts) + files + coded
    return sign_statement(signer, kind=FORM, subject=form_subject(form.form), serial=serial, body=body)


def read_form(source: Statement) -> PublishedForm:
    """Read the form of a statement of kind 32; never makes more than XFORM_BYTES_MAX bytes of it.

    Raises ProtocolError: truncated, oversized, bad_field, bad_content.
    """
    body = source.body
    if len(body) < _COUNTS.size:
        raise ProtocolError(Fault.TRUNCATED, f"{len(body)} bytes are too few for a form")
    *lengths, last_count = _COUNTS.unpack_from(body)
    files_count, xform_bytes = divmod(last_count, 1 << _XFORM_BITS)
    if xform_bytes > XFORM_BYTES_MAX:
        raise ProtocolError(Fault.OVERSIZED, f"a form has at most {XFORM_BYTES_MAX} bytes")
    texts: list[str] = []
    offset = _COUNTS.size
    for length in lengths:
        texts.append(_text(body, offset, length))
        offset += length
    form, version, title = texts
    files, offset = _files(body, offset, files_count)
    coded = body[offset:]
    if not xform_bytes and (files or coded):
        raise ProtocolError(Fault.BAD_FIELD, "a form that is withdrawn has no files and no content")
    published = PublishedForm(form, version, title, _inflated(coded, xform_bytes) if xform_bytes else b"", files)
    _check(published)
    if source.subject != form_subject(form):
        raise ProtocolError(Fault.BAD_FIELD, "the statement's subject is another form")
    return published


def _files(body: bytes, offset: int, count: int) -> tuple[dict[str, bytes], int]:
    """Return the digests of the files by name, and where they end."""
    if count > FORM_FILES_MAX:
        raise ProtocolError(Fault.OVERSIZED, f"a form has at most {FORM_FILES_MAX} files")
    files: dict[str, bytes] = {}
    before = b""
    for _ in range(count):
        name_at = offset + 1 + _DIGEST_BYTES
        length = body[offset] if offset < len(body) else 0
        name = _text(body, name_at, length)
        if name.encode() <= before:
            raise ProtocolError(Fault.BAD_FIELD, "the files of the form are not in order")
        before = name.encode()
        files[name] = body[offset + 1 : name_at]
        offset = name_at + length
    return files, offset


def _text(body: bytes, offset: int, length: int) -> str:
    if offset + length > len(body):
        raise ProtocolError(Fault.TRUNCATED, "the names of the form are not all there")
    try:
        return body[offset : offset + length].decode()
    except UnicodeDecodeError:
        raise ProtocolError(Fault.BAD_FIELD, "a name of the form is not UTF-8") from None


def _inflated(coded: bytes, length: int) -> bytes:
    reader = zlib.decompressobj(_DEFLATE_WINDOW_BITS)
    try:
        xform = reader.decompress(coded, length + 1)
    except zlib.error:
        raise ProtocolError(Fault.BAD_CONTENT, "the form is not deflated as it should be") from None
    if len(xform) != length or not reader.eof or reader.unused_data or reader.unconsumed_tail:
        raise ProtocolError(Fault.BAD_CONTENT, "the form does not have the length that it announces")
    return xform


def _check(form: PublishedForm) -> None:
    if not form.form:
        raise ProtocolError(Fault.BAD_FIELD, "a form has an id")
    if len(form.files) > FORM_FILES_MAX:
        raise ProtocolError(Fault.OVERSIZED, f"a form has at most {FORM_FILES_MAX} files")
    if any(not is_file_name(name) or len(digest) != _DIGEST_BYTES for name, digest in form.files.items()):
        raise ProtocolError(Fault.BAD_FIELD, "the name of a file of the form is too long, or not a plain name")
    if len(form.xform) > XFORM_BYTES_MAX:
        raise ProtocolError(Fault.OVERSIZED, f"a form has at most {XFORM_BYTES_MAX} bytes")
    limits = (
        (form.form, NAME_CHARACTERS_MAX),
        (form.version, NAME_CHARACTERS_MAX),
        (form.title, FORM_TITLE_CHARACTERS_MAX),
    )
    if any(len(text) > limit or not text.isprintable() for text, limit in limits):
        raise ProtocolError(Fault.BAD_FIELD, "id, version or title of the form is too long, or not printable")
