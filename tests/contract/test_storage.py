"""One suite over both databases: what `central_broker.storage.contract` promises."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from central_broker.acceptance import decode_whole, hold
from central_broker.storage import open_storage
from central_broker.storage.batch_records import (
    AcceptedEnvelope,
    Arrival,
    Batch,
    EnvelopeStatus,
    HeldItem,
    HeldReason,
    OutcomeKind,
    PartContent,
    QuestionnaireContent,
    Route,
    Unreadable,
)
from central_broker.storage.contract import Storage, StorageRefused
from central_broker.storage.inquiry_records import RouteCount
from central_broker.storage.recording import RowRefused
from sync_protocol.identity import Standing
from tests.support.census_databases import rows, storage, url
from tests.support.center import Center, LinkChain, SealingDevice, arrived, seed

__all__ = ["storage", "url"]


def held_of(chain: LinkChain, reason: HeldReason, *, data: bytes = b"raw", receiptable: bool = True) -> HeldItem:
    return hold(data, chain.arrival(), reason, "why", chain.link(), receiptable=receiptable)


def chain_of(storage: Storage, origin: bytes) -> list[tuple[int, EnvelopeStatus, int]]:
    with storage.issue_receipts([origin], 1) as issue:
        return [(row.sequence, row.status, row.committed_at) for row in issue.chain(origin)[1]]


def test_every_envelope_is_stored_exactly_once_however_often_it_comes(storage: Storage) -> None:
    chain = LinkChain("a")
    first, second, third = (chain.accepted() for _ in range(3))
    one = storage.commit(Batch([first, second, first]), decode_whole, 100)
    two = storage.commit(Batch([second, third]), decode_whole, 100)
    again = storage.commit(Batch([first, second, third]), decode_whole, 100)
    stored, duplicate = OutcomeKind.STORED, OutcomeKind.DUPLICATE
    assert [outcome.kind for outcome in one.envelopes] == [stored, stored, duplicate]
    assert [outcome.kind for outcome in two.envelopes] == [duplicate, stored]
    assert [outcome.kind for outcome in again.envelopes] == [duplicate] * 3
    assert again.committed_at is None
    assert storage.totals().questionnaires == 3
    assert rows(storage, "SELECT count(*) FROM envelope") == [(3,)]


def test_body_is_exact_and_content_can_be_asked_by_sql(storage: Storage) -> None:
    chain = LinkChain("a")
    storage.commit(Batch([chain.accepted(content='{"age": 33, "name": "Әсем"}')]), decode_whole, 1)
    body, content = rows(storage, "SELECT body, content FROM questionnaire")[0]
    assert body == '{"age": 33, "name": "Әсем"}'.encode()
    assert (json.loads(content) if isinstance(content, str) else content) == {"age": 33, "name": "Әсем"}
    assert rows(storage, "SELECT CAST(content ->> 'age' AS integer) FROM questionnaire") == [(33,)]


def test_commit_times_grow_even_when_the_clock_stands_still_or_goes_back(storage: Storage) -> None:
    chain = LinkChain("a")
    times = [storage.commit(Batch([chain.accepted()]), decode_whole, now).committed_at for now in (1000, 1000, 7)]
    assert times == [1000, 1001, 1002]
    assert storage.clock() == 1002
    assert [row[2] for row in chain_of(storage, chain.origin)] == [1000, 1001, 1002]


def test_fork_keeps_both_and_raises_the_alarm(storage: Storage) -> None:
    one, other = LinkChain("a"), LinkChain("a")
    storage.commit(Batch([one.accepted(), one.accepted()]), decode_whole, 1)
    result = storage.commit(Batch([other.accepted(salt="other")]), decode_whole, 2)
    assert result.envelopes[0].kind is OutcomeKind.STORED
    assert result.envelopes[0].fork
    [fork] = storage.forks()
    assert (fork.origin, fork.epoch, fork.sequence, len(fork.ids)) == (one.origin, 1, 1, 2)
    assert storage.totals().questionnaires == 3
    assert storage.completeness()[0].forks == 1


def test_fork_within_one_batch_raises_the_alarm(storage: Storage) -> None:
    one, other = LinkChain("a"), LinkChain("a")
    result = storage.commit(Batch([one.accepted(), other.accepted(salt="other")]), decode_whole, 1)
    assert [outcome.fork for outcome in result.envelopes] == [True, True]


def test_receiptable_held_item_takes_its_place_in_the_chain(storage: Storage) -> None:
    chain = LinkChain("a")
    item = held_of(chain, HeldReason.UNKNOWN_FORM)
    result = storage.commit(Batch(held=[item]), decode_whole, 10)
    assert result.held[0].kind is OutcomeKind.HELD
    assert result.committed_at == 10
    assert chain_of(storage, chain.origin) == [(1, EnvelopeStatus.HELD, 10)]
    again = storage.commit(Batch(held=[item]), decode_whole, 11)
    assert again.held[0].kind is OutcomeKind.DUPLICATE
    assert [want.origin for want in storage.take_wants(10, 20, 5)] == [chain.origin]
    record, data = storage.held_item(item.id) or pytest.fail("not held")
    assert (record.reason, record.sequence, data) == (HeldReason.UNKNOWN_FORM, 1, b"raw")


def test_bad_signature_takes_no_place_asks_for_no_receipt_and_blocks_nothing(storage: Storage) -> None:
    chain, forger = LinkChain("a"), LinkChain("a")
    true = chain.accepted()
    forged = hold(b"forged", chain.arrival(), HeldReason.BAD_SIGNATURE, "", true.link)
    result = storage.commit(Batch(held=[forged]), decode_whole, 1)
    assert (result.held[0].kind, result.committed_at) == (OutcomeKind.HELD, None)
    assert storage.take_wants(10, 20, 5) == []
    assert chain_of(storage, forger.origin) == []
    assert storage.commit(Batch([true]), decode_whole, 2).envelopes[0].kind is OutcomeKind.STORED
    assert chain_of(storage, chain.origin) == [(1, EnvelopeStatus.COMMITTED, 2)]
    assert storage.held_counts() == {HeldReason.BAD_SIGNATURE: 1}
    assert storage.forks() == []


def test_what_cannot_be_parsed_is_held_without_origin(storage: Storage) -> None:
    item = hold(b"noise", Arrival(b"c" * 16, Route.RELAY, 3), HeldReason.MALFORMED, "bad_magic")
    storage.commit(Batch(held=[item, item]), decode_whole, 1)
    [record] = storage.held()
    assert (record.id, record.origin, record.carrier, record.data_bytes) == (
        sha256(b"noise").digest(),
        None,
        b"c" * 16,
        5,
    )
    assert storage.held(reason=HeldReason.UNKNOWN_FORM) == []
    assert len(storage.held(reason=HeldReason.MALFORMED, limit=5)) == 1


def test_held_envelope_that_is_accepted_later_moves_to_committed_with_a_new_time(storage: Storage) -> None:
    chain = LinkChain("a")
    accepted = chain.accepted()
    item = hold(accepted.data, accepted.arrival, HeldReason.UNKNOWN_ORIGIN, "", accepted.link, receiptable=True)
    storage.commit(Batch(held=[item]), decode_whole, 10)
    storage.finish_wants(storage.take_wants(10, 20, 5))
    result = storage.commit(Batch([accepted]), decode_whole, 30)
    assert result.envelopes[0].kind is OutcomeKind.STORED
    assert chain_of(storage, chain.origin) == [(1, EnvelopeStatus.COMMITTED, 30)]
    assert (storage.held(), storage.totals().questionnaires) == ([], 1)
    assert [want.fresh for want in storage.take_wants(10, 40, 5)] == [True]
    late = storage.commit(Batch(held=[item]), decode_whole, 50)
    assert (late.held[0].kind, storage.held()) == (OutcomeKind.DUPLICATE, [])


def test_forgery_for_an_unknown_origin_leaves_the_chain_once_disproved(storage: Storage) -> None:
    chain, true_chain = LinkChain("a"), LinkChain("a")
    link = chain.link("forged")
    item = hold(b"forged", chain.arrival(), HeldReason.UNKNOWN_ORIGIN, "", link, receiptable=True)
    storage.commit(Batch(held=[item]), decode_whole, 1)
    disproved = hold(b"forged", chain.arrival(), HeldReason.BAD_SIGNATURE, "", link)
    storage.commit(Batch([true_chain.accepted()], held=[disproved]), decode_whole, 2)
    assert chain_of(storage, chain.origin) == [(1, EnvelopeStatus.COMMITTED, 2)]
    assert storage.forks() == []
    assert storage.held_counts() == {HeldReason.BAD_SIGNATURE: 1}


def test_true_envelope_survives_a_variant_of_it_with_a_ruined_signature(storage: Storage) -> None:
    chain = LinkChain("a")
    true = chain.accepted()
    variant = hold(b"ruined", true.arrival, HeldReason.UNKNOWN_ORIGIN, "", true.link, receiptable=True)
    genuine = hold(true.data, true.arrival, HeldReason.UNKNOWN_ORIGIN, "", true.link, receiptable=True)
    storage.commit(Batch(held=[variant]), decode_whole, 1)
    storage.commit(Batch(held=[genuine]), decode_whole, 2)
    assert len(storage.held()) == 2
    disproved = hold(b"ruined", true.arrival, HeldReason.BAD_SIGNATURE, "", true.link)
    storage.commit(Batch(held=[disproved]), decode_whole, 3)
    assert [row[1] for row in chain_of(storage, chain.origin)] == [EnvelopeStatus.HELD]
    storage.commit(Batch([true]), decode_whole, 4)
    assert [row[1] for row in chain_of(storage, chain.origin)] == [EnvelopeStatus.COMMITTED]
    assert storage.held_counts() == {HeldReason.BAD_SIGNATURE: 1}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_parts_are_joined_once_when_the_last_one_is_in(storage: Storage, order: tuple[int, ...]) -> None:
    chain = LinkChain("a")
    body = b'{"photo": "' + b"x" * 1000 + b'"}'
    parts = chain.parts(body, 3)
    joined = [storage.commit(Batch([parts[i]]), decode_whole, 1).joined for i in order]
    assert joined == [0, 0, 1]
    assert storage.commit(Batch(parts), decode_whole, 1).joined == 0
    [(stored, first_id, count)] = rows(storage, "SELECT body, id, parts FROM questionnaire")
    assert (stored, first_id, count) == (body, parts[0].link.id, 3)
    assert storage.totals().parts_waiting == 0
    assert len(chain_of(storage, chain.origin)) == 3


def test_joined_parts_that_cannot_be_read_are_kept_and_held_until_they_can(storage: Storage) -> None:
    chain = LinkChain("a")
    storage.commit(Batch(chain.parts(b"not json, and long", 2)), decode_whole, 1)
    [record] = storage.held()
    assert (record.reason, record.whole, record.data_bytes) == (HeldReason.UNPARSABLE, True, 18)
    item = storage.held_item(record.id)
    assert item is not None
    assert item[1] == b"not json, and long"
    assert storage.totals().questionnaires_unreadable == 1
    assert storage.retry_wholes([record.id], decode_whole) == 0

    def learned(part: PartContent, body: bytes) -> QuestionnaireContent | Unreadable:
        return QuestionnaireContent("", "", "", "", 1, body, '{"read":1}')

    assert storage.retry_wholes([record.id], learned) == 1
    assert (storage.held(), storage.totals().questionnaires_unreadable) == ([], 0)


def test_content_that_the_database_refuses_is_held_alone(storage: Storage) -> None:
    chain = LinkChain("a")
    envelopes = [chain.accepted(content="{}" if i != 3 else '{"a": "\ud800"}') for i in range(8)]
    result = storage.commit(Batch(envelopes), decode_whole, 10)
    kinds = [outcome.kind for outcome in result.envelopes]
    assert kinds == [OutcomeKind.HELD if i == 3 else OutcomeKind.STORED for i in range(8)]
    assert result.envelopes[3].reason is HeldReason.DATABASE_REFUSED
    [record] = storage.held()
    assert record.sequence == 4
    assert [row[1] for row in chain_of(storage, chain.origin)].count(EnvelopeStatus.HELD) == 1
    assert len(chain_of(storage, chain.origin)) == 8


def test_outbox_row_stays_when_it_was_wanted_again_meanwhile(storage: Storage) -> None:
    chain = LinkChain("a")
    storage.commit(Batch([chain.accepted()]), decode_whole, 10)
    wants = storage.take_wants(10, 100, 50)
    assert [want.origin for want in wants] == [chain.origin]
    assert storage.take_wants(10, 149, 50) == []
    storage.commit(Batch([chain.accepted()]), decode_whole, 110)
    storage.finish_wants(wants)
    again = storage.take_wants(10, 120, 50)
    assert [want.origin for want in again] == [chain.origin]
    storage.finish_wants(again)
    assert storage.take_wants(10, 10_000, 50) == []


def test_lease_ends_and_a_lease_of_a_clock_set_back_does_not_last_for_ever(storage: Storage) -> None:
    chain = LinkChain("a")
    storage.commit(Batch([chain.accepted()]), decode_whole, 10)
    assert len(storage.take_wants(10, 1_000_000, 50)) == 1
    assert len(storage.take_wants(10, 1_000_050, 50)) == 1
    assert len(storage.take_wants(10, 10, 50)) == 1


def test_head_with_another_receipt_than_the_newest_asks_for_one(storage: Storage) -> None:
    center = Center()
    device = SealingDevice("tablet", center)
    storage.store_devices([center.certify(device)], 1)
    storage.commit(Batch(heads=[arrived(device, device.head(0))]), decode_whole, 1)
    assert storage.take_wants(10, 100, 5) == []
    with storage.issue_receipts([device.id], 50) as issue:
        assert [grant.serial for grant in issue.grants] == [50]
        issue.store(device.id, 50, b"receipt")
    storage.commit(Batch(heads=[arrived(device, device.head(50))]), decode_whole, 1)
    assert storage.take_wants(10, 100, 5) == []
    storage.commit(Batch(heads=[arrived(device, device.head(0))]), decode_whole, 1)
    assert [(want.origin, want.fresh) for want in storage.take_wants(10, 100, 5)] == [(device.id, False)]
    device.seal(b"{}")
    storage.commit(Batch(heads=[arrived(device, device.head(900))]), decode_whole, 1)
    with storage.issue_receipts([device.id], 60) as issue:
        assert [(grant.serial, grant.republishable) for grant in issue.grants] == [(901, False)]


def test_serials_grow_without_a_clock_and_nothing_is_stored_when_the_transaction_fails(storage: Storage) -> None:
    origin = seed("o")[:16]
    with storage.issue_receipts([origin], 50) as issue:
        issue.store(origin, issue.grants[0].serial, b"one")
    with pytest.raises(RuntimeError), storage.issue_receipts([origin], 50) as issue:
        issue.store(origin, issue.grants[0].serial, b"two")
        raise RuntimeError
    assert storage.receipt(origin) == b"one"
    with storage.issue_receipts([origin], 3) as issue:
        assert (issue.grants[0].serial, issue.grants[0].last) == (51, b"one")


def test_changes_are_exact(storage: Storage) -> None:
    one, other = LinkChain("a"), LinkChain("b")
    storage.commit(Batch([one.accepted(), other.accepted()]), decode_whole, 10)
    storage.commit(Batch([one.accepted()]), decode_whole, 20)
    with storage.issue_receipts([one.origin], 1) as issue:
        clock, found = issue.changes(0, 10) or pytest.fail("none")
        assert (clock, len(found)) == (20, 3)
        clock, found = issue.changes(10, 10) or pytest.fail("none")
        assert [(origin, row.sequence, row.committed_at) for origin, row in found] == [(one.origin, 2, 20)]
        assert issue.changes(20, 10) == (20, [])
        assert issue.changes(21, 10) is None
        assert issue.changes(0, 2) is None
        assert issue.chain(one.origin)[0] == 20


def test_watermark_moves_within_the_clock_and_never_back(storage: Storage) -> None:
    one, other = LinkChain("a"), LinkChain("b")
    storage.commit(Batch([one.accepted()]), decode_whole, 10)
    storage.commit(Batch([other.accepted()]), decode_whole, 20)
    storage.finish_wants(storage.take_wants(10, 100, 5))
    with pytest.raises(StorageRefused, match="newest commit"):
        storage.record_watermark(21, 200)
    assert storage.record_watermark(10, 200) == 1
    assert [want.origin for want in storage.take_wants(10, 300, 5)] == [one.origin]
    with pytest.raises(StorageRefused, match="never goes back"):
        storage.record_watermark(9, 200)
    assert storage.record_watermark(20, 200) == 1
    assert storage.watermark() == 20


def test_copy_tells_what_it_contains(storage: Storage, url: str, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite"
    if not url.startswith("sqlite"):
        with pytest.raises(StorageRefused, match="own means"):
            storage.copy_to(target)
        return
    chain = LinkChain("a")
    storage.commit(Batch([chain.accepted()]), decode_whole, 10)
    assert storage.copy_to(target) == 10
    storage.commit(Batch([chain.accepted()]), decode_whole, 20)
    copy = open_storage(f"sqlite:///{target}")
    assert (copy.clock(), copy.totals().questionnaires) == (10, 1)
    copy.close()
    with pytest.raises(StorageRefused, match="exists already"):
        storage.copy_to(target)


def test_completeness_tells_sealed_committed_held_and_missing(storage: Storage) -> None:
    center = Center()
    device = SealingDevice("tablet", center)
    for number in range(6):
        device.seal(b"{}", instance_id=str(number))
    chain = LinkChain("x")
    chain.origin = device.id
    links = [chain.accepted() for _ in range(5)]
    held = hold(b"h", chain.arrival(), HeldReason.UNKNOWN_FORM, "", links[3].link, receiptable=True)
    storage.commit(Batch([links[1]], held=[held], heads=[arrived(device, device.head())]), decode_whole, 10)
    [found] = storage.completeness()
    assert (found.sealed, found.highest, found.committed, found.held) == (6, 4, 1, 1)
    assert (found.missing, found.missing_count) == (((1, 1), (3, 3), (5, 6)), 4)
    assert found.last_committed_at == 10
    assert storage.completeness(device.id) == [found]
    assert storage.completeness(b"n" * 16) == []


def test_an_envelope_that_came_before_any_head_shows_how_far_its_origin_has_sealed(storage: Storage) -> None:
    chain = LinkChain("x")
    links = [chain.accepted() for _ in range(3)]
    storage.commit(Batch([links[0], links[2]]), decode_whole, 10)
    [found] = storage.completeness()
    assert (found.sealed, found.highest, found.missing) == (3, 3, ((2, 2),))


def test_devices_keep_the_newest_certificate_and_their_last_sign_of_life(storage: Storage) -> None:
    center = Center()
    device = SealingDevice("tablet", center)
    version = storage.directory_version()
    assert storage.store_devices([center.certify(device)], 7) == 1
    lost = center.certify(device, standing=Standing.LOST, serial=2)
    assert storage.commit(Batch(devices=[lost, lost]), decode_whole, 8).committed_at is None
    assert storage.store_devices([center.certify(device)], 9) == 0
    assert storage.directory_version() > version
    storage.commit(Batch(heads=[arrived(device, device.head())]), decode_whole, 9)
    record = storage.device(device.id)
    assert record is not None
    assert (record.standing, record.serial, record.enrolled_at) == (Standing.LOST, 2, 7)
    assert (record.last_seen_at, record.last_route, record.last_carrier) == (5, Route.VPN, device.id)
    assert storage.devices() == [record]
    assert storage.device(b"n" * 16) is None


def by(carrier: bytes, route: Route, hops: int | None, envelope: AcceptedEnvelope) -> AcceptedEnvelope:
    return replace(envelope, arrival=Arrival(carrier, route, 7, hops))


def arrivals(storage: Storage) -> list[tuple[int, str, bytes, int | None]]:
    found = rows(storage, "SELECT sequence, route, carrier, hops FROM envelope ORDER BY sequence")
    return [(sequence, route, bytes(carrier), hops) for sequence, route, carrier, hops in found]


def test_route_carrier_and_hops_of_every_envelope_are_recorded_and_those_of_a_duplicate_are_not(
    storage: Storage,
) -> None:
    chain, laptop, tablet = LinkChain("a"), b"l" * 16, b"t" * 16
    own, mesh, usb, old, web = (chain.accepted() for _ in range(5))
    batch = [
        by(chain.origin, Route.VPN, 0, own),
        by(tablet, Route.MESH, 2, mesh),
        by(laptop, Route.USB, 255, usb),
        by(laptop, Route.RELAY, None, old),
        by(chain.origin, Route.ONLINE, 0, web),
    ]
    storage.commit(Batch(batch), decode_whole, 10)
    first = [
        (1, "vpn", chain.origin, 0),
        (2, "mesh", tablet, 2),
        (3, "usb", laptop, 255),
        (4, "relay", laptop, None),
        (5, "online", chain.origin, 0),
    ]
    assert arrivals(storage) == first
    again = [by(laptop, Route.USB, 1, own), by(chain.origin, Route.VPN, 0, mesh), by(tablet, Route.MESH, 3, old)]
    result = storage.commit(Batch(again), decode_whole, 11)
    assert [outcome.kind for outcome in result.envelopes] == [OutcomeKind.DUPLICATE] * 3
    assert arrivals(storage) == first


def test_of_one_envelope_by_two_routes_in_one_batch_one_arrival_is_recorded_whole(storage: Storage) -> None:
    chain = LinkChain("a")
    envelope = chain.accepted()
    twice = [by(b"t" * 16, Route.MESH, 2, envelope), by(chain.origin, Route.VPN, 0, envelope)]
    storage.commit(Batch(twice), decode_whole, 10)
    assert arrivals(storage) == [(1, "mesh", b"t" * 16, 2)]
    items = [
        replace(held_of(LinkChain("b"), HeldReason.UNKNOWN_FORM), arrival=Arrival(b"c" * 16, route, 7, hops))
        for route, hops in ((Route.USB, 3), (Route.MESH, 1))
    ]
    storage.commit(Batch(held=items), decode_whole, 11)
    assert [(one.route, one.hops) for one in storage.held()] == [(Route.USB, 3)]
    assert (1, "usb", b"c" * 16, 3) in arrivals(storage)


def test_envelopes_are_counted_by_route_with_their_mean_hops(storage: Storage) -> None:
    one, other, laptop = LinkChain("a"), LinkChain("b"), b"l" * 16
    assert storage.routes() == []
    storage.commit(
        Batch(
            [
                by(laptop, Route.RELAY, None, one.accepted()),
                by(laptop, Route.MESH, 1, one.accepted()),
                by(laptop, Route.MESH, 2, one.accepted()),
                by(one.origin, Route.VPN, 0, one.accepted()),
                by(one.origin, Route.ONLINE, 0, one.accepted()),
                by(laptop, Route.MESH, 5, other.accepted()),
            ],
            [replace(held_of(other, HeldReason.UNKNOWN_FORM), arrival=Arrival(laptop, Route.USB, 7, 3))],
        ),
        decode_whole,
        10,
    )
    assert storage.routes(one.origin) == [
        RouteCount(Route.VPN, 1, 0.0),
        RouteCount(Route.ONLINE, 1, 0.0),
        RouteCount(Route.MESH, 2, 1.5),
        RouteCount(Route.RELAY, 1, None),
    ]
    assert [(count.route, count.envelopes) for count in storage.routes()] == [
        (Route.VPN, 1),
        (Route.ONLINE, 1),
        (Route.MESH, 3),
        (Route.USB, 1),
        (Route.RELAY, 1),
    ]
    assert storage.routes(b"n" * 16) == []


def test_held_things_keep_the_route_carrier_and_hops_of_their_first_arrival(storage: Storage) -> None:
    chain, laptop = LinkChain("a"), b"l" * 16
    item = replace(held_of(chain, HeldReason.UNKNOWN_FORM), arrival=Arrival(laptop, Route.USB, 7, 3))
    storage.commit(Batch(held=[item]), decode_whole, 10)
    storage.commit(Batch(held=[replace(item, arrival=Arrival(b"t" * 16, Route.MESH, 8, 1))]), decode_whole, 11)
    [record] = storage.held()
    assert (record.route, record.carrier, record.hops, record.received_at) == (Route.USB, laptop, 3, 7)
    assert storage.held_item(item.id) == (record, item.data)


def test_the_last_sign_of_life_tells_route_carrier_and_hops(storage: Storage) -> None:
    center = Center()
    device = SealingDevice("tablet", center)
    storage.store_devices([center.certify(device)], 1)
    chain = LinkChain("a")
    chain.origin = device.id
    for number, (route, hops) in enumerate([(Route.USB, 2), (Route.RELAY, None), (Route.VPN, None)]):
        carrier = device.id if route is Route.VPN else b"l" * 16
        storage.commit(Batch([by(carrier, route, hops, chain.accepted())]), decode_whole, 10 + number)
        record = storage.device(device.id)
        assert record is not None
        # By VPN there are none, whether a row says so or is of a time before hops were kept.
        expected = 0 if route is Route.VPN else hops
        assert (record.last_route, record.last_carrier, record.last_hops) == (route, carrier, expected)


def test_database_of_the_release_before_learns_of_hops_and_keeps_what_it_knew(storage: Storage, url: str) -> None:
    chain, laptop = LinkChain("a"), b"l" * 16
    old = [by(chain.origin, Route.VPN, None, chain.accepted()), by(laptop, Route.RELAY, None, chain.accepted())]
    storage.commit(Batch(old, [held_of(chain, HeldReason.UNKNOWN_FORM)]), decode_whole, 10)
    take_back(storage, url, 3)
    again = open_storage(url)
    assert [one.hops for one in again.held()] == [0]
    again.commit(Batch([by(laptop, Route.MESH, 4, chain.accepted())]), decode_whole, 11)
    assert again.routes() == [
        RouteCount(Route.VPN, 2, 0.0),
        RouteCount(Route.MESH, 1, 4.0),
        RouteCount(Route.RELAY, 1, None),
    ]
    again.close()


def test_media_keep_the_newest_certificate_whichever_comes_first(storage: Storage) -> None:
    center = Center()
    version = storage.directory_version()
    first, lost = center.certify_medium("0017"), center.certify_medium("0017", standing=Standing.LOST, serial=2)
    assert storage.store_media([first], 7) == 1
    assert storage.directory_version() == version + 1
    assert storage.store_media([lost, first, lost], 8) == 1
    assert storage.store_media([first], 9) == 0
    assert storage.directory_version() == version + 2
    [record] = storage.media()
    assert (record.number, record.holder, record.standing, record.serial) == ("0017", "Әсем", Standing.LOST, 2)
    assert (record.certificate, record.recorded_at) == (lost.data, 7)
    assert storage.medium(first.certificate.medium) == record
    assert storage.medium(b"n" * 16) is None


def test_media_come_with_a_batch_and_are_listed_by_number(storage: Storage) -> None:
    center = Center()
    second, first = center.certify_medium("0002", serial=5), center.certify_medium("0001", expires_at=(1 << 64) - 1)
    older = center.certify_medium("0002", serial=4)
    chain = LinkChain("a")
    result = storage.commit(Batch([chain.accepted()], media=[second, first, older]), decode_whole, 8)
    assert result.committed_at == 8
    assert [(one.number, one.serial) for one in storage.media()] == [("0001", 1), ("0002", 5)]
    assert storage.media()[0].expires_at == (1 << 63) - 1
    assert storage.commit(Batch(media=[second]), decode_whole, 9).committed_at is None


def test_media_survive_a_neighbour_that_the_database_refuses(storage: Storage) -> None:
    chain = LinkChain("a")
    bad = chain.accepted(content='{"name": "\ud800"}')
    batch = Batch([chain.accepted(), bad, chain.accepted()], media=[Center().certify_medium("0001")])
    storage.commit(batch, decode_whole, 8)
    assert [one.number for one in storage.media()] == ["0001"]


_LATER = {
    3: "0003_media",
    4: "0004_hops",
    5: "0005_forms",
    6: "0006_lists",
    7: "0007_coverage",
    8: "0008_form_files",
}
_COVERAGE_TABLES = ("state", "visit", "person", "decision", "assignment")


def take_back(storage: Storage, url: str, schema: int) -> None:
    """Make the database one that a release with this schema has left."""
    with storage.writing() as statements:  # type: ignore[attr-defined]  # the migrations are taken back
        for table in ("territory", "institution", *(f"coverage_{one}" for one in _COVERAGE_TABLES)):
            statements.execute(f"DROP TABLE {table}")
        statements.execute("DROP INDEX questionnaire_batch")
        statements.execute("DROP TABLE form_file")
        for column in ("title", "xform", "added_at", "statement"):
            statements.execute(f"ALTER TABLE form DROP COLUMN {column}")
        statements.execute("DROP TABLE device_key")
        statements.execute("DROP TABLE counted_list")
        statements.execute("DROP TABLE census_table")
        statements.execute("DROP TABLE finding")
        statements.execute("DROP INDEX questionnaire_form")
        if schema < 4:
            for table, column in (("envelope", "hops"), ("held", "hops"), ("device", "last_hops")):
                statements.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        if schema < 3:
            statements.execute("DROP TABLE medium")
        for name in (name for number, name in _LATER.items() if number > schema and url.startswith("sqlite")):
            statements.execute("DELETE FROM _sqlite_migrations WHERE name = %s", (name,))
        if not url.startswith("sqlite"):
            statements.execute("UPDATE schema_version SET number = %s", (schema,))


def test_database_of_an_early_release_gets_the_register_of_media(storage: Storage, url: str) -> None:
    storage.store_devices([Center().certify(SealingDevice("tablet", Center()))], 1)
    take_back(storage, url, 2)
    again = open_storage(url)
    assert again.media() == []
    assert again.store_media([Center().certify_medium("0001")], 2) == 1
    assert len(again.devices()) == 1
    again.close()


def test_database_of_the_release_before_gets_the_tables_of_forms_and_keeps_its_own(storage: Storage, url: str) -> None:
    storage.allow_form("household")
    storage.commit(Batch([LinkChain("a").accepted()]), decode_whole, 1)
    take_back(storage, url, 4)
    again = open_storage(url)
    assert [(one.form, one.xform) for one in again.form_records()] == [("household", None)]
    assert again.form_tables("household") == []
    assert again.form_files() == []
    assert again.totals().questionnaires == 1
    again.close()


def test_forms_are_known_by_version(storage: Storage) -> None:
    version = storage.directory_version()
    storage.allow_form("household")
    storage.allow_form("household", "2")
    storage.allow_form("household")
    assert storage.forms() == [("household", ""), ("household", "2")]
    assert storage.directory_version() == version + 2


def test_a_form_and_its_files_are_published_together_or_not_at_all(storage: Storage) -> None:
    storage.allow_form("household", "1")
    version = storage.directory_version()
    storage.publish_form("household", "1", b"form", [("map.png", b"map"), ("a.csv", b"a")])
    assert storage.directory_version() == version + 1
    assert storage.form_files() == [("household", "a.csv", b"a"), ("household", "map.png", b"map")]
    with pytest.raises(RowRefused):
        storage.publish_form("household", "1", b"later", [("map.png", b"later"), ("b.csv", None)])  # type: ignore[list-item]  # a file that the database refuses
    assert storage.form_records()[0].statement == b"form"
    assert storage.form_files() == [("household", "a.csv", b"a"), ("household", "map.png", b"map")]


def _store_part(url: str, chosen: int, barrier: Any, joined: Any) -> None:
    storage = open_storage(url)
    for round_number in range(15):
        parts = LinkChain(f"round {round_number}").parts(b'{"a": "%s"}' % (b"x" * 100), 3)
        if chosen == 0:
            storage.commit(Batch([parts[2]]), decode_whole, 1)
        barrier.wait()
        joined[chosen * 15 + round_number] = storage.commit(Batch([parts[chosen]]), decode_whole, 1).joined
    storage.close()


def test_two_consumers_that_store_the_last_two_parts_at_once_join_once(url: str) -> None:
    spawning = multiprocessing.get_context("spawn")
    barrier, joined = spawning.Barrier(2, timeout=60), spawning.Array("i", 30)
    consumers = [spawning.Process(target=_store_part, args=(url, i, barrier, joined)) for i in range(2)]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join()
    assert [consumer.exitcode for consumer in consumers] == [0, 0]
    assert [joined[i] + joined[15 + i] for i in range(15)] == [1] * 15
    storage = open_storage(url)
    assert (storage.totals().questionnaires, storage.totals().parts_waiting) == (15, 0)
    storage.close()


def _store_same(url: str, reverse: bool, barrier: Any, stored: Any) -> None:
    storage = open_storage(url)
    chains = [LinkChain(f"origin {number}") for number in range(3)]
    envelopes = [chain.accepted() for chain in chains for _ in range(60)]
    barrier.wait()
    for start in range(0, 180, 12):
        run = envelopes[start : start + 12]
        result = storage.commit(Batch(run[::-1] if reverse else run), decode_whole, 1)
        with stored.get_lock():
            stored.value += sum(outcome.kind is OutcomeKind.STORED for outcome in result.envelopes)
    storage.close()


def test_two_consumers_that_get_the_same_envelopes_at_once_store_them_once(url: str) -> None:
    spawning = multiprocessing.get_context("spawn")
    barrier, stored = spawning.Barrier(2, timeout=60), spawning.Value("i", 0)
    consumers = [spawning.Process(target=_store_same, args=(url, bool(i), barrier, stored)) for i in range(2)]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join()
    assert [consumer.exitcode for consumer in consumers] == [0, 0]
    assert stored.value == 180
    storage = open_storage(url)
    times = [row[0] for row in rows(storage, "SELECT committed_at FROM batch ORDER BY committed_at")]
    assert len(set(times)) == len(times)
    assert storage.totals().questionnaires == 180
    storage.close()
