"""How an envelope has come so far (SPEC.md §5): a carrier's word, for statistics. Bytes <-> values."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from sync_protocol.errors import Fault, ProtocolError

_LAYOUT: Final = struct.Struct(">BB2s")
HOPS_MAX: Final = 255


class Leg(IntEnum):
    """By what kind of link it was handed on; where there were several, the one with the greatest number."""

    NONE = 0
    MESH = 1
    USB = 2


@dataclass(frozen=True, slots=True)
class Way:
    """`hops` is how often it was handed on, 255 for more."""

    leg: Leg
    hops: int

    def further(self, leg: Leg) -> Way:
        """Return the way with one hop more; by no kind of link it goes no further."""
        if leg is Leg.NONE:
            return self
        return Way(max(self.leg, leg), min(self.hops + 1, HOPS_MAX))


NO_WAY: Final = Way(Leg.NONE, 0)
"""Of what is still with its origin."""


def write_way(way: Way) -> bytes:
    """Return the payload of a way frame."""
    return _LAYOUT.pack(way.leg, way.hops, bytes(2))


def read_way(data: bytes) -> Way:
    """Read a way frame's payload; raises ProtocolError: truncated, trailing_bytes, bad_field."""
    if len(data) != _LAYOUT.size:
        fault = Fault.TRUNCATED if len(data) < _LAYOUT.size else Fault.TRAILING_BYTES
        raise ProtocolError(fault, f"a way has {_LAYOUT.size} bytes, this has {len(data)}")
    leg, hops, _ = _LAYOUT.unpack(data)
    if leg not in iter(Leg) or (leg == Leg.NONE) != (hops == 0):
        raise ProtocolError(Fault.BAD_FIELD, "the fields of the way do not go together")
    return Way(Leg(leg), hops)
