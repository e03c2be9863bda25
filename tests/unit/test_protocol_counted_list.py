"""Counted lists: what is sealed is opened by its device alone, and hostile bytes end in one typed error."""

from __future__ import annotations

import random
import struct
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_protocol.counted_list import (
    CountedList,
    Entry,
    ListTooLarge,
    Section,
    Status,
    open_counted_list,
    read_sealed_list,
    seal_counted_list,
)
from sync_protocol.device_key import decode_device_key, encode_device_key
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.keys import RecipientPrivateKey, SigningKey
from sync_protocol.statement import COUNTED_LIST, Statement, parse_statement, sign_statement

ISSUER = SigningKey(bytes(range(32)))
KEY, OTHER = RecipientPrivateKey(b"a" * 32), RecipientPrivateKey(b"b" * 32)
DEVICE = b"d" * 16
TEXTS = st.text(st.characters(codec="utf-8"), max_size=250)
MAYBE = st.none() | TEXTS
ENTRIES = st.builds(
    Entry,
    name=TEXTS,
    status=st.sampled_from(Status),
    birth_date=MAYBE,
    room=MAYBE,
    channel=MAYBE,
    counted_on=MAYBE,
)
SECTIONS = st.builds(
    Section,
    place=TEXTS,
    title=TEXTS,
    entries=st.lists(ENTRIES, max_size=3).map(tuple),
    notices=st.lists(TEXTS, max_size=3).map(tuple),
)
TIMES = st.integers(1, (1 << 63) - 1)
LISTS = st.builds(CountedList, as_of=TIMES, keep_until=TIMES, sections=st.lists(SECTIONS, max_size=3).map(tuple))


def people(count: int, *, digits: int = 40) -> CountedList:
    names = random.Random(count)
    entries = tuple(
        Entry(name=names.randbytes(digits // 2).hex(), status=Status.MISSING, birth_date="1990-01-01")
        for _ in range(count)
    )
    half = Section(place="1", title="School 4", entries=entries[: count // 2], notices=("1", "2"))
    rest = Section(place="2", title="Barracks", entries=entries[count // 2 :])
    return CountedList(as_of=5, keep_until=9, sections=(half, rest))


@cache
def sealed() -> Statement:
    return seal_counted_list(ISSUER, KEY.public_key, DEVICE, people(20), 7)


@settings(deadline=None)
@given(list_=LISTS, serial=st.integers(1, (1 << 64) - 1))
def test_what_is_sealed_is_opened(list_: CountedList, serial: int) -> None:
    source = parse_statement(seal_counted_list(ISSUER, KEY.public_key, DEVICE, list_, serial).data)
    assert (source.kind, source.subject, source.serial) == (COUNTED_LIST, DEVICE, serial)
    assert read_sealed_list(source).keep_until == list_.keep_until
    assert open_counted_list(source, KEY) == list_


def test_only_the_device_that_it_is_sealed_to_can_open_it() -> None:
    with pytest.raises(ProtocolError) as refusal:
        open_counted_list(sealed(), OTHER)
    assert refusal.value.fault is Fault.WRONG_RECIPIENT
    renamed = sealed().body[:8] + OTHER.name + sealed().body[24:]
    with pytest.raises(ProtocolError) as refusal:
        open_counted_list(of_body(renamed), OTHER)
    assert refusal.value.fault is Fault.UNDECRYPTABLE


def test_the_size_tells_little_of_how_many_are_on_it() -> None:
    sizes = {len(seal_counted_list(ISSUER, KEY.public_key, DEVICE, people(count), 1).data) for count in range(1, 40, 9)}
    assert len(sizes) == 1


def of_body(body: bytes, *, kind: int = COUNTED_LIST, subject: bytes = DEVICE, serial: int = 7) -> Statement:
    return sign_statement(ISSUER, kind=kind, subject=subject, serial=serial, body=body)


@settings(deadline=None)
@given(at=st.integers(0, 1 << 16), with_=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_body_is_never_opened(at: int, with_: int, cut: bool) -> None:
    body = sealed().body
    at %= len(body)
    damaged = body[:at] if cut else body[:at] + bytes([body[at] ^ with_]) + body[at + 1 :]
    with pytest.raises(ProtocolError):
        open_counted_list(of_body(damaged), KEY)


@settings(deadline=None)
@given(beginning=st.sampled_from([b"", b"\1", struct.pack(">B3xII", 1, 9, 9)]), rest=st.binary(max_size=60))
def test_whatever_else_the_center_seals_ends_in_one_typed_error(beginning: bytes, rest: bytes) -> None:
    clear = struct.pack(">Q", 9) + KEY.name
    info = b"census-sync/1 list\0" + DEVICE + struct.pack(">Q", 7) + clear
    padded = beginning + rest + bytes(-len(beginning + rest) % 4096)
    with pytest.raises(ProtocolError):
        open_counted_list(of_body(clear + KEY.public_key.encrypt(padded, info)), KEY)


def test_a_list_moved_to_another_device_or_serial_cannot_be_opened() -> None:
    for moved in (of_body(sealed().body, subject=b"e" * 16), of_body(sealed().body, serial=8)):
        with pytest.raises(ProtocolError) as refusal:
            open_counted_list(moved, KEY)
        assert refusal.value.fault is Fault.UNDECRYPTABLE
    with pytest.raises(ProtocolError) as refusal:
        read_sealed_list(of_body(sealed().body, kind=32))
    assert refusal.value.fault is Fault.UNKNOWN_KIND


def test_a_list_that_is_too_large_says_how_many_entries_fit() -> None:
    with pytest.raises(ListTooLarge) as refusal:
        seal_counted_list(ISSUER, KEY.public_key, DEVICE, people(12_000), 1)
    fits = refusal.value.entries_max
    assert str(fits) in refusal.value.detail
    entries = [entry for section in people(12_000).sections for entry in section.entries]

    def of(count: int) -> CountedList:
        first = Section(place="1", title="School 4", entries=tuple(entries[:6_000]))
        second = Section(place="2", title="Barracks", entries=tuple(entries[6_000:count]))
        return CountedList(as_of=5, keep_until=9, sections=(first, second))

    assert fits > 6_000
    assert seal_counted_list(ISSUER, KEY.public_key, DEVICE, of(fits), 1)
    with pytest.raises(ListTooLarge):
        seal_counted_list(ISSUER, KEY.public_key, DEVICE, of(fits + 1), 1)


@pytest.mark.parametrize(
    "wrong",
    [
        CountedList(as_of=0, keep_until=9),
        CountedList(as_of=1, keep_until=1 << 63),
        CountedList(as_of=1, keep_until=9, sections=(Section(place="x" * 251, title=""),)),
    ],
)
def test_a_list_that_no_reader_would_take_is_not_sealed(wrong: CountedList) -> None:
    with pytest.raises(ProtocolError) as refusal:
        seal_counted_list(ISSUER, KEY.public_key, DEVICE, wrong, 1)
    assert refusal.value.fault is Fault.BAD_FIELD


@given(content=st.binary(max_size=2_100))
def test_what_is_no_device_key_ends_in_one_typed_error(content: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_device_key(content)


def test_a_device_key_is_read_as_it_was_told() -> None:
    assert decode_device_key(encode_device_key(KEY.public_key)).public_bytes == KEY.public_key.public_bytes
