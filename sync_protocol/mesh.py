"""Messages of mesh links (SPEC.md §9): bytes <-> values, and a reader that takes them as they come from a stream.

Not responsible for which message may come when: that is the conversation's business.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.layout import pack
from sync_protocol.limits import BUNDLE_BYTES_MAX, MESH_PAYLOAD_BYTES_MAX

_HEADER: Final = struct.Struct(">B3sI")
_HELLO: Final = struct.Struct(">B3sQQ")
_NUMBER: Final = struct.Struct(">Q")
_TAKEN: Final = struct.Struct(">QB3sI")
_ID_BYTES: Final = 32
_REACHES_CENTER: Final = 0x01
_NEVER: Final = (1 << 64) - 1

MESSAGE_HEADER_BYTES: Final = _HEADER.size
PING_BYTES: Final = 8


class _MessageType(IntEnum):
    HELLO = 1
    BUNDLE = 2
    TAKEN = 3
    PING = 4
    PONG = 5


@dataclass(frozen=True, slots=True)
class Hello:
    """How a device stands. `last_contact_seconds` is the time since it last heard the center, None when it never did;
    `room_bytes` is what it can still keep of others' envelopes.
    """

    reaches_center: bool
    last_contact_seconds: int | None
    room_bytes: int


@dataclass(frozen=True, slots=True)
class BundleMessage:
    """A bundle under a number of its sender's; it is not looked into here."""

    number: int
    bundle: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer to a bundle: whether what is genuine in it is on disk, but for the declined envelopes (ids)."""

    number: int
    recorded: bool
    declined: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Ping:
    """A question whether anybody is there; 8 bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping: its 8 bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A message of a type that is not known here has begun; its payload is thrown away as it comes."""

    type: int
    payload_bytes: int


Message = Hello | BundleMessage | Taken | Ping | Pong
Arrived = Message | PassedOver


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
    match message_type:
        case _MessageType.HELLO:
            _check_exactly(_HELLO.size, length, "hello")
        case _MessageType.PING | _MessageType.PONG:
            _check_exactly(PING_BYTES, length, "ping or pong")
        case _MessageType.BUNDLE:
            if length < _NUMBER.size:
                raise ProtocolError(Fault.TRUNCATED, "a bundle message ends within its number")
            if length > _NUMBER.size + BUNDLE_BYTES_MAX:
                raise ProtocolError(Fault.OVERSIZED, f"a neighbour's bundle has at most {BUNDLE_BYTES_MAX} bytes")
        case _MessageType.TAKEN:
            if length < _TAKEN.size:
                raise ProtocolError(Fault.TRUNCATED, "an answer to a bundle ends before its ids")
            if (length - _TAKEN.size) % _ID_BYTES:
                raise ProtocolError(Fault.BAD_FIELD, "an answer to a bundle ends within an id")


def _check_exactly(expected: int, length: int, what: str) -> None:
    if length != expected:
        raise ProtocolError(Fault.BAD_FIELD, f"the payload of {what} has {expected} bytes, this has {length}")


def _checked_ping(data: bytes) -> bytes:
    _check_exactly(PING_BYTES, len(data), "ping or pong")
    return data


def _hello_payload(hello: Hello) -> bytes:
    if hello.last_contact_seconds == _NEVER:
        raise ProtocolError(Fault.BAD_FIELD, "the time since the last contact is too large for its field")
    seconds = _NEVER if hello.last_contact_seconds is None else hello.last_contact_seconds
    return pack(_HELLO, _REACHES_CENTER if hello.reaches_center else 0, bytes(3), seconds, hello.room_bytes)


def _read_hello(payload: bytes) -> Hello:
    flags, _, seconds, room_bytes = _HELLO.unpack(payload)
    return Hello(bool(flags & _REACHES_CENTER), None if seconds == _NEVER else seconds, room_bytes)


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


_READERS: Final[Mapping[int, Callable[[bytes], Message]]] = {
    _MessageType.HELLO: _read_hello,
    _MessageType.BUNDLE: _read_bundle_message,
    _MessageType.TAKEN: _read_taken,
    _MessageType.PING: Ping,
    _MessageType.PONG: Pong,
}
