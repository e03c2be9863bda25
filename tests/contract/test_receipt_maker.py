"""Receipts of both databases: chains that grow give what chains read anew give; retries move what was held."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from central_broker.acceptance import accept_envelope, decode_whole, hold
from central_broker.broker_link import BrokerLink, BrokerSettings
from central_broker.receipt_maker import ReceiptMaker
from central_broker.receipt_publisher import PublisherSettings, ReceiptPublisher
from central_broker.retry import RetryResult, retry_held
from central_broker.stopping import Stop
from central_broker.storage import issuing, open_storage
from central_broker.storage.batch_records import AcceptedEnvelope, Arrival, Batch, HeldItem, HeldReason, Route
from central_broker.storage.contract import Storage
from central_broker.storage.inquiry_records import RouteCount
from central_broker.storage.receipt_records import Want
from sync_protocol.bundle import read_bundle
from sync_protocol.receipt import SpanStatus, read_receipt
from sync_protocol.statement import parse_statement
from sync_protocol.way import Leg, Way
from tests.support.center import Center, LinkChain, SealingDevice, body_of


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    sqlite = request.param == "sqlite"
    opened = open_storage(
        f"sqlite:///{tmp_path}/census.sqlite" if sqlite else request.getfixturevalue("quick_postgresql_dsn")
    )
    yield opened
    opened.close()


def receipt_by(maker: ReceiptMaker, storage: Storage, origin: bytes, *, fresh: bool = True) -> bytes:
    with storage.issue_receipts([origin], 1) as issue:
        return maker.make(issue, [Want(origin, 1, fresh)])[origin]


@pytest.mark.parametrize("seed_number", range(3))
def test_growing_chains_give_the_same_receipts_as_chains_read_anew(storage: Storage, seed_number: int) -> None:
    chooser = random.Random(seed_number)
    center = Center()
    chains = [LinkChain(name) for name in ("a", "b", "c")]
    waiting: list[AcceptedEnvelope] = []
    held: list[AcceptedEnvelope] = []
    growing = ReceiptMaker(center.receipt_signer)
    for now in range(1, 40):
        waiting += [chain.accepted() for chain in chains for _ in range(chooser.randint(0, 2))]
        chosen = [one for one in waiting if chooser.random() < 0.8]
        waiting = [one for one in waiting if one not in chosen]
        aside = [one for one in chosen if chooser.random() < 0.1]
        moving, held = (held, aside) if chooser.random() < 0.3 else ([], held + aside)
        items = [hold(one.data, one.arrival, HeldReason.UNKNOWN_FORM, "", one.link, receiptable=True) for one in aside]
        batch = [one for one in chosen if one not in aside] + moving
        storage.commit(Batch(brought(b"c" * 16, *batch) if now % 3 == 0 else batch, items), decode_whole, now)
        chain = chooser.choice(chains)
        grown = read_receipt(parse_statement(receipt_by(growing, storage, chain.origin)))
        anew = read_receipt(parse_statement(receipt_by(ReceiptMaker(center.receipt_signer), storage, chain.origin)))
        assert grown.spans == anew.spans
        assert anew.serial > grown.serial


def spans_of(storage: Storage, maker: ReceiptMaker, origin: bytes) -> list[tuple[int, int]]:
    receipt = read_receipt(parse_statement(receipt_by(maker, storage, origin)))
    return [(span.first, span.last) for span in receipt.spans]


def brought(by: bytes, *envelopes: AcceptedEnvelope, route: Route = Route.RELAY) -> list[AcceptedEnvelope]:
    return [replace(one, arrival=Arrival(by, route, 1)) for one in envelopes]


@pytest.mark.parametrize("route", [Route.MESH, Route.USB, Route.RELAY])
def test_a_receipt_ends_a_span_with_each_run_that_a_carrier_brought_whenever_that_was(
    storage: Storage, route: Route
) -> None:
    chain, carrier, other = LinkChain("a"), b"c" * 16, b"o" * 16
    envelopes = [chain.accepted() for _ in range(8)]
    maker = ReceiptMaker(Center().receipt_signer)
    storage.commit(Batch(brought(carrier, *envelopes[:3], route=route)), decode_whole, 10)
    storage.commit(Batch(envelopes[3:]), decode_whole, 11)
    assert spans_of(storage, maker, chain.origin) == [(1, 3), (4, 8)]
    again = brought(carrier, envelopes[6], envelopes[1], route=route) + brought(other, envelopes[5], route=route)
    assert storage.commit(Batch(again), decode_whole, 12).committed_at is None
    assert spans_of(storage, maker, chain.origin) == [(1, 2), (3, 3), (4, 6), (7, 7), (8, 8)]


def test_what_an_origin_brought_itself_ends_no_span(storage: Storage) -> None:
    chain = LinkChain("a")
    envelopes = [chain.accepted() for _ in range(4)]
    for now in (10, 11):
        storage.commit(Batch(envelopes[: now - 7]), decode_whole, now)
    storage.commit(Batch(envelopes[:2]), decode_whole, 12)
    assert spans_of(storage, ReceiptMaker(Center().receipt_signer), chain.origin) == [(1, 4)]


def test_a_run_of_what_is_held_ends_a_span_too_and_what_is_not_the_origins_does_not(storage: Storage) -> None:
    chain, carrier = LinkChain("a"), b"c" * 16
    envelopes = brought(carrier, *(chain.accepted() for _ in range(3)))
    items = [
        hold(one.data, one.arrival, HeldReason.UNKNOWN_FORM, "", one.link, receiptable=True) for one in envelopes[:2]
    ]
    storage.commit(Batch([], items), decode_whole, 10)
    retried = [replace(one, arrival=Arrival(None, Route.RELAY, 1)) for one in envelopes]
    storage.commit(Batch(retried), decode_whole, 11)
    forged = hold(b"forged", envelopes[0].arrival, HeldReason.BAD_SIGNATURE, "", envelopes[0].link)
    storage.commit(Batch([], [forged]), decode_whole, 12)
    assert spans_of(storage, ReceiptMaker(Center().receipt_signer), chain.origin) == [(1, 2), (3, 3)]


def test_only_the_newest_ends_of_runs_are_told(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuing, "RUN_ENDS_MAX", 2)
    chain, carrier = LinkChain("a"), b"c" * 16
    envelopes = brought(carrier, *(chain.accepted() for _ in range(6)))
    for now, number in enumerate((0, 1, 2, 3, 4, 5, 1), start=10):
        storage.commit(Batch([envelopes[number]]), decode_whole, now)
    assert spans_of(storage, ReceiptMaker(Center().receipt_signer), chain.origin) == [(1, 2), (3, 6)]


def test_a_head_that_is_behind_gets_the_same_receipt_again_and_a_new_key_signs_a_new_one(storage: Storage) -> None:
    chain = LinkChain("a")
    storage.commit(Batch([chain.accepted()]), decode_whole, 10)
    center = Center()
    first = receipt_by(ReceiptMaker(center.receipt_signer), storage, chain.origin)
    assert receipt_by(ReceiptMaker(center.receipt_signer), storage, chain.origin, fresh=False) == first
    assert receipt_by(ReceiptMaker(center.issuer), storage, chain.origin, fresh=False) != first
    assert storage.receipt(chain.origin) != first


class WatchingLink:
    """A connection that looks, at the moment of each publish, what another connection to the database sees."""

    connected = True

    def __init__(self, url: str, origin: bytes) -> None:
        self._url = url
        self._origin = origin
        self.published: dict[int, bool] = {}
        self.seen: list[tuple[bytes, bytes | None]] = []

    def publish(self, _topic: str, payload: bytes) -> int:
        statements = [frame.payload for frame in read_bundle(payload).frames]
        other = open_storage(self._url)
        self.seen.append((statements[-1], other.receipt(self._origin)))
        other.close()
        self.published[1] = True
        return 1

    def pump(self, _timeout_seconds: float) -> None:
        """Nothing travels."""


def test_no_receipt_is_published_before_the_database_has_it(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Else a publisher that dies in between gives its serial to another receipt, which devices take for stale."""
    chain, center = LinkChain("a"), Center()
    for url in (f"sqlite:///{tmp_path}/census.sqlite", request.getfixturevalue("quick_postgresql_dsn")):
        storage = open_storage(url)
        storage.commit(Batch([chain.accepted()]), decode_whole, 10)
        link = WatchingLink(url, chain.origin)
        settings = PublisherSettings(BrokerSettings("127.0.0.1", 1, "publisher", None))
        publisher = ReceiptPublisher(
            settings,
            storage,
            cast(BrokerLink, link),
            signer=center.receipt_signer,
            certificates=(),
            now=lambda: 20,
            stop=Stop(),
        )
        assert publisher.publish_once()
        storage.close()
        ((published, recorded),) = link.seen
        assert recorded == published


def test_a_retry_knows_how_the_held_envelope_came(storage: Storage) -> None:
    center = Center()
    device = SealingDevice("tablet", center)
    [envelope] = device.seal(body_of(1))
    way = Way(Leg.MESH, 2)
    item = accept_envelope(envelope.data, carrier=b"l" * 16, received_at=5, directory=center.directory(), way=way)
    assert isinstance(item, HeldItem)
    storage.commit(Batch(held=[item]), decode_whole, 10)
    storage.store_devices([center.certify(device)], 11)
    assert retry_held(storage, center.directory([device]), [item.id], 20) == RetryResult(1, 0, 0)
    record = storage.device(device.id)
    assert record is not None
    assert (record.last_route, record.last_carrier, record.last_hops) == (Route.MESH, b"l" * 16, 2)
    assert storage.routes() == [RouteCount(Route.MESH, 1, 2.0)]


def test_what_was_held_is_committed_once_its_origin_and_form_are_known(storage: Storage) -> None:
    center = Center()
    device = SealingDevice("tablet", center)
    for number in range(3):
        device.seal(body_of(number))
    ruined = device.sealed[0].data[:-1] + bytes([device.sealed[0].data[-1] ^ 1])
    payloads = [ruined, *(envelope.data for envelope in device.sealed)]
    stranger = center.directory()
    items = [accept_envelope(data, carrier=device.id, received_at=5, directory=stranger) for data in payloads]
    storage.commit(Batch(held=[item for item in items if isinstance(item, HeldItem)]), decode_whole, 10)
    ids = [record.id for record in storage.held(reason=HeldReason.UNKNOWN_ORIGIN)]
    assert len(ids) == 4
    assert retry_held(storage, center.directory([device], forms=[]), ids, 20) == RetryResult(0, 0, 4)
    assert storage.held_counts() == {HeldReason.BAD_SIGNATURE: 1, HeldReason.UNKNOWN_FORM: 3}
    assert retry_held(storage, center.directory([device]), [*ids, b"unknown"], 30) == RetryResult(3, 0, 1)
    assert storage.held_counts() == {HeldReason.BAD_SIGNATURE: 1}
    assert storage.totals().questionnaires == 3
    receipt = read_receipt(parse_statement(receipt_by(ReceiptMaker(center.receipt_signer), storage, device.id)))
    [span] = receipt.spans
    assert (span.first, span.last, span.status) == (1, 3, SpanStatus.COMMITTED)
    assert [at for _, _, at in span.times()] == [30]
