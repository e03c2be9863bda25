"""Lists of who is counted already, sealed to the device that needs them (SPEC.md §4.3).

Not responsible for who is counted (the center's coverage) nor for who keeps and passes on a list (the edge's engine).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from sync_protocol import domains
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.keys import SEALING_OVERHEAD_BYTES, Recipient, RecipientSecret, Signer
from sync_protocol.layout import pack
from sync_protocol.limits import (
    COUNTED_LIST_BUCKET_BYTES,
    COUNTED_LIST_BYTES_MAX,
    NAME_CHARACTERS_MAX,
    STATEMENT_BODY_BYTES_MAX,
)
from sync_protocol.statement import COUNTED_LIST, Statement, sign_statement

_VERSION: Final = 1
_CLEAR: Final = struct.Struct(">Q16s")
_PREFIX: Final = struct.Struct(">B3sII")
_BOUND_TO: Final = struct.Struct(">16sQ")
_DEFLATE_WINDOW_BITS: Final = -15
_DEFLATE_LEVEL: Final = 9
_TIME_MAX: Final = (1 << 63) - 1
_PLAINTEXT_BYTES_MAX: Final = (
    (STATEMENT_BODY_BYTES_MAX - _CLEAR.size - SEALING_OVERHEAD_BYTES)
    // COUNTED_LIST_BUCKET_BYTES
    * COUNTED_LIST_BUCKET_BYTES
)

_Text = Annotated[str, msgspec.Meta(max_length=NAME_CHARACTERS_MAX)]
_Time = Annotated[int, msgspec.Meta(ge=1, le=_TIME_MAX)]


class Status(StrEnum):
    """How one person stands."""

    MISSING = "missing"
    """Listed, and not counted by any channel."""
    COUNTED = "counted"
    """Listed, and counted."""
    UNLISTED = "unlisted"
    """Counted at this place, and not listed."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One person; dates as people write them (ISO 8601), `channel` how they were counted."""

    name: _Text
    status: Status
    birth_date: _Text | None = None
    room: _Text | None = None
    channel: _Text | None = None
    counted_on: _Text | None = None


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One institution or area: `place` is its code, `notices` the numbers that online answers there were given."""

    place: _Text
    title: _Text
    entries: tuple[Entry, ...] = ()
    notices: tuple[_Text, ...] = ()


class CountedList(msgspec.Struct, frozen=True, kw_only=True):
    """What one device is told; times in microseconds. From `keep_until` on nobody keeps it."""

    as_of: _Time
    keep_until: _Time
    sections: tuple[Section, ...] = ()


class ListTooLarge(ProtocolError):
    """The list does not fit a statement; its first `entries_max` entries would."""

    def __init__(self, entries: int, entries_max: int) -> None:
        detail = f"of the list's {entries} entries a statement has room for {entries_max}: give the device fewer places"
        super().__init__(Fault.OVERSIZED, detail)
        self.entries_max = entries_max


@dataclass(frozen=True)
class SealedList:
    """What everybody can read of a list."""

    device: bytes
    keep_until: int
    recipient: bytes
    ciphertext: bytes


_decoder = msgspec.json.Decoder(CountedList)


def encode_counted_list(list_: CountedList) -> bytes:
    """Return the list as JSON, the same for the same list; raises ProtocolError (bad_field) for one that no reader
    would take.
    """
    encoded = msgspec.json.encode(list_)
    try:
        _decoder.decode(encoded)
    except msgspec.ValidationError as error:
        raise ProtocolError(Fault.BAD_FIELD, f"the list breaks a limit: {error}") from None
    return encoded


def seal_counted_list(
    issuer: Signer, device_key: Recipient, device: bytes, list_: CountedList, serial: int
) -> Statement:
    """Make the statement; raises ProtocolError (bad_field) for a list that no reader would take, ListTooLarge."""
    plaintext = _plaintext(encode_counted_list(list_))
    if plaintext is None:
        raise ListTooLarge(sum(len(section.entries) for section in list_.sections), _entries_that_fit(list_))
    clear = pack(_CLEAR, list_.keep_until, device_key.name)
    ciphertext = device_key.encrypt(plaintext, _info(device, serial, clear))
    return sign_statement(issuer, kind=COUNTED_LIST, subject=device, serial=serial, body=clear + ciphertext)


def read_sealed_list(source: Statement) -> SealedList:
    """Read what is in the clear; raises ProtocolError: unknown_kind, truncated, bad_field."""
    if source.kind != COUNTED_LIST:
        raise ProtocolError(Fault.UNKNOWN_KIND, f"statement kind {source.kind} is not a counted list")
    if len(source.body) < _CLEAR.size + SEALING_OVERHEAD_BYTES:
        raise ProtocolError(Fault.TRUNCATED, f"{len(source.body)} bytes are too few for a counted list")
    keep_until, recipient = _CLEAR.unpack_from(source.body)
    if not 1 <= keep_until <= _TIME_MAX:
        raise ProtocolError(Fault.BAD_FIELD, "the counted list says no time until when to keep it")
    return SealedList(source.subject, keep_until, recipient, source.body[_CLEAR.size :])


def open_counted_list(source: Statement, secret: RecipientSecret) -> CountedList:
    """Open a list; never makes more than COUNTED_LIST_BYTES_MAX bytes of it.

    Raises ProtocolError: those of `read_sealed_list`, wrong_recipient, undecryptable, unknown_version, oversized,
    bad_content.
    """
    sealed = read_sealed_list(source)
    if sealed.recipient != secret.name:
        raise ProtocolError(Fault.WRONG_RECIPIENT, f"sealed to recipient key {sealed.recipient.hex()}")
    info = _info(source.subject, source.serial, source.body[: _CLEAR.size])
    list_ = _read(secret.decrypt(sealed.ciphertext, info))
    if list_.keep_until != sealed.keep_until:
        raise ProtocolError(Fault.BAD_CONTENT, "the list says another time until when to keep it than its statement")
    return list_


def _info(device: bytes, serial: int, clear: bytes) -> bytes:
    return domains.LIST + pack(_BOUND_TO, device, serial) + clear


def _plaintext(encoded: bytes) -> bytes | None:
    """Return the padded plaintext; None when it is too large for a statement."""
    compressor = zlib.compressobj(_DEFLATE_LEVEL, zlib.DEFLATED, _DEFLATE_WINDOW_BITS)
    coded = compressor.compress(encoded) + compressor.flush()
    plaintext = pack(_PREFIX, _VERSION, bytes(3), len(coded), len(encoded)) + coded
    plaintext += bytes(-len(plaintext) % COUNTED_LIST_BUCKET_BYTES)
    fits = len(encoded) <= COUNTED_LIST_BYTES_MAX and len(plaintext) <= _PLAINTEXT_BYTES_MAX
    return plaintext if fits else None


def _entries_that_fit(list_: CountedList) -> int:
    """Return how many of the first entries fit, without any notices."""
    fits, too_many = 0, sum(len(section.entries) for section in list_.sections) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if _plaintext(msgspec.json.encode(_first(list_, middle))) is None:
            too_many = middle
        else:
            fits = middle
    return fits


def _first(list_: CountedList, entries: int) -> CountedList:
    sections = []
    for section in list_.sections:
        sections.append(msgspec.structs.replace(section, entries=section.entries[:entries], notices=()))
        entries -= len(sections[-1].entries)
    return msgspec.structs.replace(list_, sections=tuple(sections))


def _read(plaintext: bytes) -> CountedList:
    if len(plaintext) < _PREFIX.size:
        raise ProtocolError(Fault.TRUNCATED, "the list ends within its prefix")
    version, zeros, coded_bytes, list_bytes = _PREFIX.unpack_from(plaintext)
    if version != _VERSION:
        raise ProtocolError(Fault.UNKNOWN_VERSION, f"list version {version} is not known here")
    if list_bytes > COUNTED_LIST_BYTES_MAX:
        raise ProtocolError(Fault.OVERSIZED, f"a counted list has at most {COUNTED_LIST_BYTES_MAX} bytes")
    end = _PREFIX.size + coded_bytes
    padded = end + (-end % COUNTED_LIST_BUCKET_BYTES)
    if any(zeros) or len(plaintext) != padded or any(plaintext[end:]):
        raise ProtocolError(Fault.BAD_CONTENT, "the list is not padded with zeros to its bucket")
    try:
        return _decoder.decode(_inflated(plaintext[_PREFIX.size : end], list_bytes))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # a ValidationError is a DecodeError
        raise ProtocolError(Fault.BAD_CONTENT, "the list is not what SPEC.md 4.3 asks for") from None


def _inflated(coded: bytes, length: int) -> bytes:
    reader = zlib.decompressobj(_DEFLATE_WINDOW_BITS)
    try:
        # One byte of room beyond what is announced shows a bomb without inflating it.
        encoded = reader.decompress(coded, length + 1)
    except zlib.error:
        raise ProtocolError(Fault.BAD_CONTENT, "the list does not inflate") from None
    if len(encoded) != length or not reader.eof or reader.unused_data:
        raise ProtocolError(Fault.BAD_CONTENT, "the list does not have the length that it announces")
    return encoded
