"""Packing fields without loss: `struct` alone pads and cuts byte strings silently and raises its own error."""

from __future__ import annotations

import struct

from sync_protocol.errors import Fault, ProtocolError


def pack(layout: struct.Struct, *fields: object) -> bytes:
    """Return the packed fields; raises ProtocolError (bad_field) unless they would read back the same."""
    try:
        packed = layout.pack(*fields)
    except struct.error:
        raise ProtocolError(Fault.BAD_FIELD, "a number is too large or negative for its field") from None
    if layout.unpack(packed) != fields:
        raise ProtocolError(Fault.BAD_FIELD, "a name, key or id does not have the length of its field")
    return packed
