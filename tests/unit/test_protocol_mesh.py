"""Messages of mesh links: they read back in pieces of any size, and hostile bytes cost one error and little memory."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.limits import BUNDLE_BYTES_MAX, MESH_PAYLOAD_BYTES_MAX
from sync_protocol.mesh import (
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
    digests_of,
)
from sync_protocol.mesh_stream import MessageReader, write_message

NUMBERS = st.integers(0, (1 << 64) - 1)
ITEMS = st.builds(
    Item,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 255),
    st.integers(0, (1 << 32) - 1),
    st.tuples(NUMBERS, NUMBERS),
)
OFFERED = st.builds(Offered, st.binary(min_size=32, max_size=32), st.integers(0, (1 << 32) - 1), st.integers(0, 255))
MESSAGES = st.one_of(
    st.builds(Digests, st.lists(st.binary(min_size=8, max_size=8), min_size=16, max_size=16).map(tuple)),
    st.lists(ITEMS, max_size=5).map(lambda items: Inventory(frozenset(item.shard for item in items), tuple(items))),
    st.builds(Offer, NUMBERS, st.lists(OFFERED, max_size=4).map(tuple)),
    st.builds(Verdicts, NUMBERS, st.lists(st.sampled_from(Verdict), max_size=9).map(tuple)),
    st.builds(Hello, st.booleans(), st.none() | st.integers(0, (1 << 64) - 2), NUMBERS, st.booleans()),
    st.builds(BundleMessage, NUMBERS, st.binary(max_size=300)),
    st.builds(Taken, NUMBERS, st.booleans(), st.lists(st.binary(min_size=32, max_size=32), max_size=4).map(tuple)),
    st.builds(Ping, st.binary(min_size=8, max_size=8)),
    st.builds(Pong, st.binary(min_size=8, max_size=8)),
)


def raw(message_type: int, payload: bytes, *, zeros: bytes = bytes(3), length: int | None = None) -> bytes:
    return struct.pack(">B3sI", message_type, zeros, len(payload) if length is None else length) + payload


def read(data: bytes, piece_bytes: int) -> list[Arrived]:
    reader = MessageReader()
    return [one for at in range(0, len(data), piece_bytes) for one in reader.feed(data[at : at + piece_bytes])]


@given(st.lists(MESSAGES, max_size=6), st.integers(1, 400))
def test_messages_read_back_in_pieces_of_any_size(messages: list[Message], piece_bytes: int) -> None:
    assert read(b"".join(map(write_message, messages)), piece_bytes) == messages


@given(st.lists(ITEMS, max_size=8), st.randoms(use_true_random=False), ITEMS)
def test_digests_tell_what_is_known_in_whatever_order_it_is_listed(
    items: list[Item], randomness: random.Random, more: Item
) -> None:
    shuffled = list(items)
    randomness.shuffle(shuffled)
    assert digests_of(items) == digests_of(shuffled)
    before, after = digests_of(items).digests, digests_of([*items, more]).digests
    assert [shard for shard in range(16) if before[shard] != after[shard]] == [more.shard]


@given(st.lists(st.binary(max_size=80), max_size=10))
def test_any_bytes_give_messages_or_the_one_error(pieces: list[bytes]) -> None:
    reader = MessageReader()
    for piece in pieces:
        try:
            reader.feed(piece)
        except ProtocolError:
            with pytest.raises(ProtocolError):
                reader.feed(b"")
            return


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60), st.binary(max_size=80)), max_size=8), st.data())
def test_whatever_is_announced_the_error_does_not_depend_on_the_pieces(
    parts: list[tuple[int, int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(raw(kind, payload, length=length) for kind, length, payload in parts)

    def outcome(piece_bytes: int) -> Fault | list[Arrived]:
        try:
            return read(stream, piece_bytes)
        except ProtocolError as error:
            return error.fault

    assert outcome(data.draw(st.integers(1, 50))) == outcome(max(1, len(stream)))


@given(st.integers(10, 255), st.binary(max_size=500), st.integers(1, 200), MESSAGES)
def test_unknown_types_are_passed_over_and_what_follows_is_read(
    kind: int, payload: bytes, piece_bytes: int, message: Message
) -> None:
    stream = raw(kind, payload, zeros=b"new") + write_message(message)
    assert read(stream, piece_bytes) == [PassedOver(kind, len(payload)), message]


def test_of_an_unknown_type_nothing_is_kept() -> None:
    reader = MessageReader()
    reader.feed(raw(77, b"", length=MESH_PAYLOAD_BYTES_MAX))
    for _ in range(MESH_PAYLOAD_BYTES_MAX // 100):
        assert reader.feed(bytes(100)) == []
        assert reader.kept_bytes == 0


def test_the_largest_message_is_all_that_is_ever_kept() -> None:
    reader = MessageReader()
    largest = write_message(BundleMessage(1, bytes(BUNDLE_BYTES_MAX)))
    for at in range(0, len(largest), 1000):
        messages = reader.feed(largest[at : at + 1000])
        assert reader.kept_bytes <= len(largest)
    assert messages == [BundleMessage(1, bytes(BUNDLE_BYTES_MAX))]
    assert reader.kept_bytes == 0


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6, 255])
def test_a_length_is_refused_before_a_byte_of_it_has_come(kind: int) -> None:
    with pytest.raises(ProtocolError) as refusal:
        MessageReader().feed(raw(kind, b"", length=MESH_PAYLOAD_BYTES_MAX + 1))
    assert refusal.value.fault is Fault.OVERSIZED


def test_a_short_message_that_announces_much_is_refused_at_once() -> None:
    for kind in (1, 4, 5):
        with pytest.raises(ProtocolError):
            MessageReader().feed(raw(kind, b"", length=200_000))


def test_zeros_that_are_none_and_unknown_flags_are_passed_over() -> None:
    hello = write_message(Hello(True, 7, 9))
    changed = hello[:1] + b"abc" + hello[4:8] + b"\xfd" + b"def" + hello[12:]
    assert read(changed, len(changed)) == [Hello(True, 7, 9)]


@pytest.mark.parametrize(
    "message",
    [
        Hello(True, -1, 0),
        Hello(True, (1 << 64) - 1, 0),
        Hello(True, None, 1 << 64),
        BundleMessage(-1, b""),
        Taken(0, True, (b"short",)),
        Ping(b"seven.."),
        Pong(b""),
    ],
)
def test_what_has_no_place_in_a_message_is_not_written(message: Message) -> None:
    with pytest.raises(ProtocolError) as refusal:
        write_message(message)
    assert refusal.value.fault is Fault.BAD_FIELD


def test_a_bundle_or_an_answer_that_is_too_large_is_not_written() -> None:
    for message in (BundleMessage(1, bytes(BUNDLE_BYTES_MAX + 1)), Taken(1, True, (bytes(32),) * 8_200)):
        with pytest.raises(ProtocolError) as refusal:
            write_message(message)
        assert refusal.value.fault is Fault.OVERSIZED
