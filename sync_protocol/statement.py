"""Center statements (SPEC.md §4): the signed container of receipts, certificates, keys, forms and lists."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from sync_protocol import domains
from sync_protocol.domains import name_of
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.keys import SIGNATURE_BYTES, Signer, Verifier
from sync_protocol.layout import pack
from sync_protocol.limits import DELEGATED_SERIAL_MAX, STATEMENT_BODY_BYTES_MAX

MAGIC: Final = b"CNSS"
VERSION: Final = 1
_PREFIX: Final = struct.Struct(">4sBB2s16s16sQI")

RECEIPT: Final = 1
DEVICE_CERTIFICATE: Final = 2
KEY_CERTIFICATE: Final = 3
RECIPIENT_KEY: Final = 4
MEDIUM_CERTIFICATE: Final = 5
FORM: Final = 32
COUNTED_LIST: Final = 33
FORM_FILE: Final = 34
_IDENTITY_LAST: Final = 31
KIND_LAST: Final = 63
"""Kinds from 32 on are content (forms, lists)."""


class Usage(IntFlag):
    """What a certified key may sign."""

    NONE = 0
    CERTIFICATES = 1
    RECEIPTS = 2
    CONTENT = 4
    MEDIA = 8


@dataclass(frozen=True)
class Statement:
    """One parsed statement; `data` are its exact bytes. Parsed is not verified: see `identity.Trust`."""

    data: bytes
    kind: int
    signer: bytes
    subject: bytes
    serial: int
    body: bytes

    def may_be_signed_by(self, usage: Usage) -> bool:
        """Tell whether a key certified for this may sign it; never of a key certificate, which only the root signs."""
        if self.kind == KEY_CERTIFICATE:
            return False
        if self.kind == RECEIPT:
            return Usage.RECEIPTS in usage
        if self.kind > _IDENTITY_LAST:
            return Usage.CONTENT in usage
        if Usage.CERTIFICATES in usage:
            return True
        # Below every serial of the authority: a stolen collection point cannot take back what the authority says.
        return self.kind == MEDIUM_CERTIFICATE and Usage.MEDIA in usage and self.serial <= DELEGATED_SERIAL_MAX

    def verify(self, key: Verifier) -> None:
        """Raise ProtocolError (bad_signature) unless the holder of `key` signed this; says nothing of its right to."""
        key.verify(self.data[-SIGNATURE_BYTES:], domains.STATEMENT + self.data[:-SIGNATURE_BYTES])


def parse_statement(data: bytes) -> Statement:
    """Read a statement of any kind.

    Raises ProtocolError: truncated, oversized, trailing_bytes, bad_magic, unknown_version, unknown_kind, bad_field.
    """
    if len(data) < _PREFIX.size + SIGNATURE_BYTES:
        raise ProtocolError(Fault.TRUNCATED, f"{len(data)} bytes are too few for a statement")
    magic, version, kind, zeros, signer, subject, serial, length = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise ProtocolError(Fault.BAD_MAGIC, "not a statement")
    if version != VERSION:
        raise ProtocolError(Fault.UNKNOWN_VERSION, f"statement version {version} is not known here")
    if not RECEIPT <= kind <= KIND_LAST:
        raise ProtocolError(Fault.UNKNOWN_KIND, f"statement kind {kind} is outside every range")
    if length > STATEMENT_BODY_BYTES_MAX:
        raise ProtocolError(Fault.OVERSIZED, f"a statement's body has at most {STATEMENT_BODY_BYTES_MAX} bytes")
    expected = _PREFIX.size + length + SIGNATURE_BYTES
    if len(data) != expected:
        fault = Fault.TRUNCATED if len(data) < expected else Fault.TRAILING_BYTES
        raise ProtocolError(fault, f"the statement announces {expected} bytes, there are {len(data)}")
    if any(zeros) or serial < 1:
        raise ProtocolError(Fault.BAD_FIELD, "the fields of the statement do not go together")
    return Statement(data, kind, signer, subject, serial, data[_PREFIX.size : -SIGNATURE_BYTES])


def sign_statement(signer: Signer, *, kind: int, subject: bytes, serial: int, body: bytes) -> Statement:
    """Make a statement signed by `signer`; raises ProtocolError (oversized, bad_field) when that makes none."""
    name = name_of(domains.SIGNER, signer.public_bytes)
    unsigned = pack(_PREFIX, MAGIC, VERSION, kind, bytes(2), name, subject, serial, len(body)) + body
    return parse_statement(unsigned + signer.sign(domains.STATEMENT + unsigned))
