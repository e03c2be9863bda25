"""Heads (SPEC.md §3): an origin's signed statement of how far its chain reaches."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from sync_protocol import domains
from sync_protocol.envelope import NO_ID
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.keys import SIGNATURE_BYTES, Signer, Verifier
from sync_protocol.layout import pack

MAGIC: Final = b"CNSH"
VERSION: Final = 1
_LAYOUT: Final = struct.Struct(">4sB3s16sIQ32sQQ")
_TIME_MAX: Final = (1 << 64) - 1
HEAD_BYTES: Final = _LAYOUT.size + SIGNATURE_BYTES


@dataclass(frozen=True)
class Head:
    """One parsed head; `data` are its exact bytes. Parsed is not verified."""

    data: bytes
    origin: bytes
    epoch: int
    sequence: int
    last_id: bytes
    receipt_serial: int
    stated_at: int

    @property
    def order(self) -> tuple[int, int]:
        """Among heads of one origin and epoch the greater one is the newer."""
        return (self.sequence, self.receipt_serial)

    def verify(self, key: Verifier) -> None:
        """Raise ProtocolError (bad_signature) unless the holder of `key` signed this head."""
        key.verify(self.data[-SIGNATURE_BYTES:], domains.HEAD + self.data[:-SIGNATURE_BYTES])


def parse_head(data: bytes) -> Head:
    """Read a head; raises ProtocolError: truncated, trailing_bytes, bad_magic, unknown_version, bad_field."""
    if len(data) < HEAD_BYTES:
        raise ProtocolError(Fault.TRUNCATED, f"a head has {HEAD_BYTES} bytes, this has {len(data)}")
    if len(data) > HEAD_BYTES:
        raise ProtocolError(Fault.TRAILING_BYTES, f"a head has {HEAD_BYTES} bytes, this has {len(data)}")
    magic, version, zeros, origin, epoch, sequence, last_id, receipt_serial, stated_at = _LAYOUT.unpack_from(data)
    if magic != MAGIC:
        raise ProtocolError(Fault.BAD_MAGIC, "not a head")
    if version != VERSION:
        raise ProtocolError(Fault.UNKNOWN_VERSION, f"head version {version} is not known here")
    if any(zeros) or epoch < 1 or (sequence == 0) != (last_id == NO_ID):
        raise ProtocolError(Fault.BAD_FIELD, "the fields of the head do not go together")
    return Head(data, origin, epoch, sequence, last_id, receipt_serial, stated_at)


def sign_head(
    signer: Signer, *, origin: bytes, epoch: int, sequence: int, last_id: bytes, receipt_serial: int, stated_at: int
) -> Head:
    """State how far the chain of this epoch reaches; raises ProtocolError (bad_field) when that makes no head.

    `stated_at` is the device's clock, for information only: one that no field can hold is written as its nearest.
    """
    clock = min(max(0, stated_at), _TIME_MAX)
    unsigned = pack(_LAYOUT, MAGIC, VERSION, bytes(3), origin, epoch, sequence, last_id, receipt_serial, clock)
    return parse_head(unsigned + signer.sign(domains.HEAD + unsigned))
