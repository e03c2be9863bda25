"""Keys that devices have told, and the lists given to them, over both databases."""

from __future__ import annotations

import pytest

from central_broker.acceptance import accept_envelope, decode_whole
from central_broker.counted_lists import Given, NoKeyYet, give_list
from central_broker.storage import open_storage
from central_broker.storage.batch_records import (
    AcceptedEnvelope,
    Batch,
    DeviceKeyContent,
    HeldItem,
    HeldReason,
    OutcomeKind,
)
from central_broker.storage.contract import Storage
from central_broker.storage.inquiry_records import CountedListRecord
from sync_protocol.counted_list import CountedList, Entry, Section, Status, open_counted_list
from sync_protocol.device_key import encode_device_key
from sync_protocol.envelope import KIND_DEVICE_KEY
from sync_protocol.keys import RecipientPrivateKey
from sync_protocol.statement import parse_statement
from tests.support.census_databases import rows, storage, url
from tests.support.center import Center, LinkChain, SealingDevice, seed

__all__ = ["storage", "url"]

KEY, NEW_KEY = (RecipientPrivateKey(seed(name)) for name in ("list key", "new list key"))
NOW = 1_790_000_000_000_000


def told(chain: LinkChain, public_key: bytes) -> AcceptedEnvelope:
    link = chain.link()
    return AcceptedEnvelope(link, chain.arrival(), b"data " + link.id, DeviceKeyContent(public_key))


def list_of(name: str, as_of: int = NOW) -> CountedList:
    section = Section(place="1", title="School 4", entries=(Entry(name=name, status=Status.COUNTED),))
    return CountedList(as_of=as_of, keep_until=NOW * 2, sections=(section,))


def record(serial: int, statement: bytes = b"statement") -> CountedListRecord:
    return CountedListRecord(serial, b"r" * 16, b"d" * 32, statement)


@pytest.fixture
def center() -> Center:
    return Center()


def test_a_key_is_a_committed_link_of_the_chain_and_no_questionnaire(storage: Storage, center: Center) -> None:
    device = SealingDevice("a", center)
    directory = center.directory([device])
    key = device.seal_content(encode_device_key(KEY.public_key), kind=KIND_DEVICE_KEY)
    (questionnaire,) = device.seal(b'{"persons":[]}')
    taken = [
        accept_envelope(one.data, carrier=None, received_at=5, directory=directory) for one in (key, questionnaire)
    ]
    accepted = [one for one in taken if isinstance(one, AcceptedEnvelope)]
    assert len(accepted) == 2
    for expected in (OutcomeKind.STORED, OutcomeKind.DUPLICATE):
        result = storage.commit(Batch(accepted), decode_whole, 1)
        assert [one.kind for one in result.envelopes] == [expected] * 2
    totals = storage.totals()
    assert (totals.envelopes_committed, totals.questionnaires, totals.held_items) == (2, 1, 0)
    (complete,) = storage.completeness()
    assert (complete.sealed, complete.committed, complete.missing_count) == (2, 2, 0)
    assert storage.device_key(device.id) == KEY.public_key.public_bytes


def test_what_is_no_key_is_held_like_everything_that_cannot_be_read(center: Center) -> None:
    device = SealingDevice("a", center)
    directory = center.directory([device])
    reasons = []
    for content, kind in ((b"\1none", KIND_DEVICE_KEY), (encode_device_key(KEY.public_key), 3)):
        sealed = device.seal_content(content, kind=kind)
        held = accept_envelope(sealed.data, carrier=None, received_at=5, directory=directory)
        assert isinstance(held, HeldItem)
        assert held.receiptable
        reasons.append(held.reason)
    assert reasons == [HeldReason.UNPARSABLE, HeldReason.UNKNOWN_VERSION]


def test_the_key_that_the_chain_told_last_is_in_force_in_whatever_order_they_come(storage: Storage) -> None:
    chain, next_epoch = LinkChain("a"), LinkChain("a", epoch=2)
    keys = [told(chain, public_key) for public_key in (b"1" * 1216, b"2" * 1216, b"3" * 1216, b"4" * 1216)]
    newest = told(next_epoch, b"5" * 1216)
    assert storage.device_key(chain.origin) is None
    for batch, expected in (([keys[2], keys[1]], b"3"), ([keys[0]], b"3"), ([newest], b"5"), ([keys[3]], b"5")):
        storage.commit(Batch(batch), decode_whole, 1)
        assert storage.device_key(chain.origin) == expected * 1216


def test_of_lists_for_one_device_the_newest_serial_is_kept(storage: Storage) -> None:
    device = b"d" * 16
    assert storage.counted_list(device) is None
    assert storage.put_counted_list(device, record(5))
    assert not storage.put_counted_list(device, record(5, b"the same serial"))
    assert not storage.put_counted_list(device, record(4, b"an older one"))
    assert storage.counted_list(device) == record(5)
    assert storage.put_counted_list(device, record(6, b"newer"))
    assert storage.counted_list(device) == record(6, b"newer")
    assert rows(storage, "SELECT count(*) FROM counted_list") == [(1,)]


def test_lists_are_read_in_the_order_in_which_they_were_put(storage: Storage, url: str) -> None:
    devices = [bytes([number]) * 16 for number in range(3)]
    for device in devices:
        storage.put_counted_list(device, record(9, device))
    first = storage.counted_lists(0, 2)
    assert [statement for _, statement in first] == devices[:2]
    turn = first[-1][0]
    other = open_storage(url)
    try:
        other.put_counted_list(devices[0], record(10, b"newer"))
        assert [statement for _, statement in other.counted_lists(turn, 10)] == [devices[2], b"newer"]
    finally:
        other.close()
    last = storage.counted_lists(0, 10)[-1][0]
    assert storage.counted_lists(last, 10) == []


def test_a_device_is_given_a_list_once_it_has_told_a_key_and_the_same_only_once(
    storage: Storage, center: Center
) -> None:
    chain = LinkChain("a")
    issuer = center.issuer
    assert give_list(storage, issuer, chain.origin, list_of("A"), NOW) == NoKeyYet(chain.origin)
    storage.commit(Batch([told(chain, KEY.public_key.public_bytes)]), decode_whole, 1)
    first = give_list(storage, issuer, chain.origin, list_of("A"), NOW)
    assert isinstance(first, Given)
    assert (first.serial, first.is_new) == (NOW, True)
    assert give_list(storage, issuer, chain.origin, list_of("A"), NOW + 9) == Given(NOW, first.statement_bytes, False)
    second = give_list(storage, issuer, chain.origin, list_of("B"), NOW - 9)
    assert isinstance(second, Given)
    assert (second.serial, second.is_new) == (NOW + 1, True), "a center whose clock went back goes on"
    storage.commit(Batch([told(chain, NEW_KEY.public_key.public_bytes)]), decode_whole, 1)
    again = give_list(storage, issuer, chain.origin, list_of("B"), NOW)
    assert isinstance(again, Given)
    assert (again.serial, again.is_new) == (NOW + 2, True), "the device has another key"
    ((_, statement),) = storage.counted_lists(0, 10)
    source = parse_statement(statement)
    assert (source.subject, source.serial) == (chain.origin, NOW + 2)
    assert open_counted_list(source, NEW_KEY) == list_of("B")
