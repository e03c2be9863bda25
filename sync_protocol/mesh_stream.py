"""Messages between neighbours as bytes (SPEC.md §9), and a reader that takes them as they come from a stream.

Not responsible for which message may come when: that is the conversation's business.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final

from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.layout import pack
from sync_protocol.limits import (
    BUNDLE_BYTES_MAX,
    MESH_INVENTORY_ITEMS_MAX,
    MESH_OFFER_ENVELOPES_MAX,
    MESH_PAYLOAD_BYTES_MAX,
    MESH_SHARDS,
)
from sync_protocol.mesh import (
    DIGEST_BYTES,
    ITEM_LAYOUT,
    Arrived,
    BundleMessage,
    Digests,
    Hello,
    Inventory,
    Item,
    Message,
    Offer,
    Offered,
    PassedOver,
    Ping,
    Pong,
    Taken,
    Verdict,
    Verdicts,
)

_HEADER: Final = struct.Struct(">B3sI")
_HELLO: Final = struct.Struct(">B3sQQ")
_NUMBER: Final = struct.Struct(">Q")
_TAKEN: Final = struct.Struct(">QB3sI")
_OFFERED: Final = struct.Struct(">32sIB3s")
_SHARDS: Final = struct.Struct(">H2s")
_ID_BYTES: Final = 32
_REACHES_CENTER: Final = 0x01
_IS_COLLECTION_POINT: Final = 0x02
_NEVER: Final = (1 << 64) - 1

MESSAGE_HEADER_BYTES: Final = _HEADER.size
PING_BYTES: Final = 8
INVENTORY_ITEM_BYTES: Final = ITEM_LAYOUT.size


class _MessageType(IntEnum):
    HELLO = 1
    BUNDLE = 2
    TAKEN = 3
    PING = 4
    PONG = 5
    DIGESTS = 6
    INVENTORY = 7
    OFFER = 8
    VERDICTS = 9


def write_message(message: Message) -> bytes:
    """Return the message's bytes; raises ProtocolError (bad_field, oversized) for what has no place in it."""
    match message:
        case Hello():
            return _framed(_MessageType.HELLO, _hello_payload(message))
        case BundleMessage(number, bundle):
            return _framed(_MessageType.BUNDLE, pack(_NUMBER, number) + bundle)
        case Taken(number, recorded, declined):
            if any(len(one) != _ID_BYTES for one in declined):
                raise ProtocolError(Fault.BAD_FIELD, f"an envelope's id has {_ID_BYTES} bytes")
            prefix = pack(_TAKEN, number, 0 if recorded else 1, bytes(3), len(declined))
            return _framed(_MessageType.TAKEN, prefix + b"".join(declined))
        case Ping(data):
            return _framed(_MessageType.PING, _checked_ping(data))
        case Pong(data):
            return _framed(_MessageType.PONG, _checked_ping(data))
        case Digests(digests):
            return _framed(_MessageType.DIGESTS, b"".join(digests))
        case Inventory(shards, items):
            listed = pack(_SHARDS, sum(1 << shard for shard in shards), bytes(2)) + b"".join(
                item.data for item in items
            )
            return _framed(_MessageType.INVENTORY, listed)
        case Offer(number, envelopes):
            entries = (pack(_OFFERED, one.id, one.size_bytes, one.copies, bytes(3)) for one in envelopes)
            return _framed(_MessageType.OFFER, pack(_NUMBER, number) + b"".join(entries))
        case Verdicts(number, verdicts):
            return _framed(_MessageType.VERDICTS, pack(_NUMBER, number) + bytes(verdicts))


class MessageReader:
    """Takes a stream in pieces of any size and gives the messages in it.

    Keeps at most one message that is not yet complete, and of messages of unknown types nothing. Once it has raised,
    the stream has no more to say: every further call raises the same.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._passing_over_bytes = 0
        self._fault: ProtocolError | None = None

    @property
    def kept_bytes(self) -> int:
        """How many bytes wait for the rest of their message."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Arrived]:
        """Return what has become complete; raises ProtocolError (oversized, truncated, bad_field) and nothing else."""
        if self._fault is not None:
            raise self._fault
        try:
            return self._read(data)
        except ProtocolError as fault:
            self._fault = fault
            self._buffer.clear()
            raise

    def _read(self, data: bytes) -> list[Arrived]:
        skipped = min(self._passing_over_bytes, len(data))
        self._passing_over_bytes -= skipped
        self._buffer += memoryview(data)[skipped:]
        messages: list[Arrived] = []
        offset = 0
        while len(self._buffer) - offset >= _HEADER.size:
            message_type, _, length = _HEADER.unpack_from(self._buffer, offset)
            begins, ends = offset + _HEADER.size, offset + _HEADER.size + length
            _check_length(message_type, length)
            if message_type not in _READERS:
                messages.append(PassedOver(message_type, length))
                self._passing_over_bytes = max(0, ends - len(self._buffer))
                offset = min(ends, len(self._buffer))
                continue
            if len(self._buffer) < ends:
                break
            messages.append(_READERS[_MessageType(message_type)](bytes(memoryview(self._buffer)[begins:ends])))
            offset = ends
        del self._buffer[:offset]
        return messages


def _framed(message_type: _MessageType, payload: bytes) -> bytes:
    _check_length(message_type, len(payload))
    return _HEADER.pack(message_type, bytes(3), len(payload)) + payload


def _check_length(message_type: int, length: int) -> None:
    """Raise ProtocolError for a length that no message of this type has."""
    if length > MESH_PAYLOAD_BYTES_MAX:
        raise ProtocolError(Fault.OVERSIZED, f"a message's payload has at most {MESH_PAYLOAD_BYTES_MAX} bytes")
    if message_type in _EXACT_LENGTHS:
        _check_exactly(*_EXACT_LENGTHS[message_type], length)
    elif message_type in _LISTS:
        _check_entries(*_LISTS[message_type], length)
    elif message_type == _MessageType.BUNDLE:
        if length < _NUMBER.size:
            raise ProtocolError(Fault.TRUNCATED, "a bundle message ends within its number")
        if length > _NUMBER.size + BUNDLE_BYTES_MAX:
            raise ProtocolError(Fault.OVERSIZED, f"a neighbour's bundle has at most {BUNDLE_BYTES_MAX} bytes")


def _check_entries(before: int, entry: int, entries_max: int, what: str, length: int) -> None:
    if length < before:
        raise ProtocolError(Fault.TRUNCATED, f"{what} ends before its first entry")
    if (length - before) % entry:
        raise ProtocolError(Fault.BAD_FIELD, f"{what} ends within an entry")
    if (length - before) // entry > entries_max:
        raise ProtocolError(Fault.OVERSIZED, f"{what} has at most {entries_max} entries")


def _check_exactly(expected: int, what: str, length: int) -> None:
    if length != expected:
        raise ProtocolError(Fault.BAD_FIELD, f"the payload of {what} has {expected} bytes, this has {length}")


def _checked_ping(data: bytes) -> bytes:
    _check_exactly(PING_BYTES, "ping or pong", len(data))
    return data


def _hello_payload(hello: Hello) -> bytes:
    if hello.last_contact_seconds == _NEVER:
        raise ProtocolError(Fault.BAD_FIELD, "the time since the last contact is too large for its field")
    seconds = _NEVER if hello.last_contact_seconds is None else hello.last_contact_seconds
    flags = _REACHES_CENTER * hello.reaches_center | _IS_COLLECTION_POINT * hello.is_collection_point
    return pack(_HELLO, flags, bytes(3), seconds, hello.room_bytes)


def _read_hello(payload: bytes) -> Hello:
    flags, _, seconds, room_bytes = _HELLO.unpack(payload)
    contact_seconds = None if seconds == _NEVER else seconds
    return Hello(bool(flags & _REACHES_CENTER), contact_seconds, room_bytes, bool(flags & _IS_COLLECTION_POINT))


def _read_bundle_message(payload: bytes) -> BundleMessage:
    return BundleMessage(_NUMBER.unpack_from(payload)[0], payload[_NUMBER.size :])


def _read_taken(payload: bytes) -> Taken:
    number, outcome, _, count = _TAKEN.unpack_from(payload)
    if outcome not in (0, 1):
        raise ProtocolError(Fault.BAD_FIELD, "the outcome of a bundle is not known here")
    if count * _ID_BYTES != len(payload) - _TAKEN.size:
        raise ProtocolError(Fault.BAD_FIELD, "an answer to a bundle has another number of ids than it says")
    ids = tuple(payload[at : at + _ID_BYTES] for at in range(_TAKEN.size, len(payload), _ID_BYTES))
    return Taken(number, outcome == 0, ids)


def _read_digests(payload: bytes) -> Digests:
    return Digests(tuple(payload[at : at + DIGEST_BYTES] for at in range(0, len(payload), DIGEST_BYTES)))


def _read_inventory(payload: bytes) -> Inventory:
    (bits, _) = _SHARDS.unpack_from(payload)
    shards = frozenset(shard for shard in range(MESH_SHARDS) if bits >> shard & 1)
    items = [
        Item(subject, kind, epoch, (newness, then))
        for kind, _, epoch, subject, newness, then in ITEM_LAYOUT.iter_unpack(memoryview(payload)[_SHARDS.size :])
    ]
    if any(item.shard not in shards for item in items):
        raise ProtocolError(Fault.BAD_FIELD, "an inventory has an item of a shard that it does not list")
    return Inventory(shards, tuple(items))


def _read_offer(payload: bytes) -> Offer:
    entries = _OFFERED.iter_unpack(memoryview(payload)[_NUMBER.size :])
    return Offer(_NUMBER.unpack_from(payload)[0], tuple(Offered(*entry[:3]) for entry in entries))


def _read_verdicts(payload: bytes) -> Verdicts:
    try:
        verdicts = tuple(map(Verdict, payload[_NUMBER.size :]))
    except ValueError as error:
        raise ProtocolError(Fault.BAD_FIELD, "a verdict on an envelope is not known here") from error
    return Verdicts(_NUMBER.unpack_from(payload)[0], verdicts)


_EXACT_LENGTHS: Final[Mapping[int, tuple[int, str]]] = {
    _MessageType.HELLO: (_HELLO.size, "hello"),
    _MessageType.PING: (PING_BYTES, "ping or pong"),
    _MessageType.PONG: (PING_BYTES, "ping or pong"),
    _MessageType.DIGESTS: (MESH_SHARDS * DIGEST_BYTES, "digests"),
}
_LISTS: Final[Mapping[int, tuple[int, int, int, str]]] = {
    _MessageType.TAKEN: (_TAKEN.size, _ID_BYTES, MESH_PAYLOAD_BYTES_MAX, "an answer to a bundle"),
    _MessageType.INVENTORY: (_SHARDS.size, ITEM_LAYOUT.size, MESH_INVENTORY_ITEMS_MAX, "an inventory"),
    _MessageType.OFFER: (_NUMBER.size, _OFFERED.size, MESH_OFFER_ENVELOPES_MAX, "an offer"),
    _MessageType.VERDICTS: (_NUMBER.size, 1, MESH_OFFER_ENVELOPES_MAX, "an answer to an offer"),
}
"""Bytes before the first entry, and of each; how many there may be."""

_READERS: Final[Mapping[int, Callable[[bytes], Message]]] = {
    _MessageType.HELLO: _read_hello,
    _MessageType.BUNDLE: _read_bundle_message,
    _MessageType.TAKEN: _read_taken,
    _MessageType.PING: Ping,
    _MessageType.PONG: Pong,
    _MessageType.DIGESTS: _read_digests,
    _MessageType.INVENTORY: _read_inventory,
    _MessageType.OFFER: _read_offer,
    _MessageType.VERDICTS: _read_verdicts,
}
