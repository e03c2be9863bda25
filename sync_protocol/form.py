"""Forms as the center gives them to devices (SPEC.md §4.2): one statement for each form, the newest is in force."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from sync_protocol import domains
from sync_protocol.domains import name_of
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.keys import Signer
from sync_protocol.limits import FORM_TITLE_CHARACTERS_MAX, NAME_CHARACTERS_MAX, XFORM_BYTES_MAX
from sync_protocol.statement import FORM, Statement, sign_statement

_COUNTS: Final = struct.Struct(">HHHI")
_DEFLATE_WINDOW_BITS: Final = -15
_DEFLATE_LEVEL: Final = 9


@dataclass(frozen=True)
class PublishedForm:
    """One version of a form with its XForm XML, as it was added at the center."""

    form: str
    version: str
    title: str
    xform: bytes


def form_subject(form: str) -> bytes:
    """Return the 16 bytes that name a form as the subject of statements."""
    return name_of(domains.FORM, form.encode())


def publish_form(signer: Signer, form: PublishedForm, serial: int) -> Statement:
    """Make the statement; raises ProtocolError (bad_field, oversized) for a form that none can hold."""
    _check(form)
    texts = [text.encode() for text in (form.form, form.version, form.title)]
    compressor = zlib.compressobj(_DEFLATE_LEVEL, zlib.DEFLATED, _DEFLATE_WINDOW_BITS)
    coded = compressor.compress(form.xform) + compressor.flush()
    body = _COUNTS.pack(*map(len, texts), len(form.xform)) + b"".join(texts) + coded
    return sign_statement(signer, kind=FORM, subject=form_subject(form.form), serial=serial, body=body)


def read_form(source: Statement) -> PublishedForm:
    """Read the form of a statement of kind 32; never makes more than XFORM_BYTES_MAX bytes of it.

    Raises ProtocolError: truncated, oversized, bad_field, bad_content.
    """
    body = source.body
    if len(body) < _COUNTS.size:
        raise ProtocolError(Fault.TRUNCATED, f"{len(body)} bytes are too few for a form")
    *lengths, xform_bytes = _COUNTS.unpack_from(body)
    if xform_bytes > XFORM_BYTES_MAX:
        raise ProtocolError(Fault.OVERSIZED, f"a form has at most {XFORM_BYTES_MAX} bytes")
    texts: list[str] = []
    offset = _COUNTS.size
    for length in lengths:
        if offset + length > len(body):
            raise ProtocolError(Fault.TRUNCATED, "the names of the form are not all there")
        try:
            texts.append(body[offset : offset + length].decode())
        except UnicodeDecodeError:
            raise ProtocolError(Fault.BAD_FIELD, "a name of the form is not UTF-8") from None
        offset += length
    form, version, title = texts
    published = PublishedForm(form, version, title, _inflated(body[offset:], xform_bytes))
    _check(published)
    if source.subject != form_subject(form):
        raise ProtocolError(Fault.BAD_FIELD, "the statement's subject is another form")
    return published


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
    if not form.form or not form.xform:
        raise ProtocolError(Fault.BAD_FIELD, "a form has an id and an XForm")
    if len(form.xform) > XFORM_BYTES_MAX:
        raise ProtocolError(Fault.OVERSIZED, f"a form has at most {XFORM_BYTES_MAX} bytes")
    limits = (
        (form.form, NAME_CHARACTERS_MAX),
        (form.version, NAME_CHARACTERS_MAX),
        (form.title, FORM_TITLE_CHARACTERS_MAX),
    )
    if any(len(text) > limit or not text.isprintable() for text, limit in limits):
        raise ProtocolError(Fault.BAD_FIELD, "id, version or title of the form is too long, or not printable")
