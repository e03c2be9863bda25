"""Consumer and receipt publisher as real processes, with a real broker and real databases, killed at bad moments."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from central_broker.storage import open_storage
from central_broker.storage.batch_records import EnvelopeStatus, Route
from central_broker.storage.contract import Storage
from central_broker.storage.inquiry_records import RouteCount
from sync_protocol.bundle import Frame, FrameType, read_bundle, write_bundle
from sync_protocol.identity import Trust
from sync_protocol.receipt import Receipt, SpanStatus, read_receipt
from sync_protocol.statement import KEY_CERTIFICATE, RECEIPT, parse_statement
from sync_protocol.topics import receipts_topic, up_topic
from sync_protocol.way import Leg, Way, write_way
from tests.support.center import FORM, Center, SealingDevice, body_of
from tests.support.center_process import events, start
from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import PostgresqlCluster
from tests.support.processes import RunningProcess, wait_until

Starter = Callable[..., RunningProcess]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/census.sqlite"
    dsn: str = request.getfixturevalue("postgresql_dsn")
    return dsn


@pytest.fixture
def center() -> Center:
    return Center()


@pytest.fixture
def devices(center: Center) -> list[SealingDevice]:
    return [SealingDevice(name, center) for name in ("one", "two", "three")]


def prepare(url: str, center: Center, devices: list[SealingDevice]) -> Storage:
    storage = open_storage(url)
    storage.store_devices([center.certify(device) for device in devices], 1)
    storage.allow_form(FORM)
    return storage


@pytest.fixture
def storage(url: str, center: Center, devices: list[SealingDevice]) -> Iterator[Storage]:
    prepared = prepare(url, center, devices)
    yield prepared
    prepared.close()


@pytest.fixture
def run(url: str, mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Starter]:
    """Start a consumer or publisher on this test's broker and database; ended with the test."""
    started: list[RunningProcess] = []

    def begin(role: str, client_id: str, die: str = "") -> RunningProcess:
        process = start(tmp_path, role=role, url=url, port=mosquitto.port, client_id=client_id, die=die)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.terminate()


class Edge:
    """A client that publishes as devices do and collects what is said on topics."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.heard: list[tuple[str, bytes]] = []
        self._connected = threading.Event()
        self._client.on_connect = lambda *_: self._connected.set()
        self._client.on_message = self._hear
        self._client.connect("127.0.0.1", port)

    def _hear(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self.heard.append((message.topic, bytes(message.payload)))

    def __enter__(self) -> Self:
        self._client.loop_start()
        assert self._connected.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, carrier: bytes, payload: bytes) -> None:
        self._client.publish(up_topic(carrier), payload, qos=1).wait_for_publish(10)

    def listen(self, topic: str) -> None:
        self._client.subscribe(topic, qos=1)


def bundles_of(device: SealingDevice, bundles: int, envelopes: int) -> list[bytes]:
    made = []
    for _ in range(bundles):
        sealed = [device.seal(body_of(len(device.sealed)))[0] for _ in range(envelopes)]
        made.append(device.bundle(sealed, device.head()))
    return made


def committed(storage: Storage) -> int:
    return storage.totals().envelopes_committed


def listening(process: RunningProcess) -> RunningProcess:
    process.wait_until(lambda: bool(events(process, "broker_connected")), "connected to the broker")
    return process


@pytest.mark.parametrize("die", ["before_commit", "after_commit"])
def test_a_consumer_killed_around_its_commit_costs_nothing_and_doubles_nothing(
    storage: Storage, devices: list[SealingDevice], mosquitto: Mosquitto, run: Starter, die: str
) -> None:
    dying = listening(run("consumer", "consumer-1", die))
    bundles = bundles_of(devices[0], 8, 10)
    with Edge(mosquitto.port) as edge:
        for bundle in bundles:
            edge.send(devices[0].id, bundle)
        wait_until(lambda: not dying.is_alive, "the consumer has killed itself")
        assert dying.exit_status == -signal.SIGKILL
        assert 0 < committed(storage) < 80
        listening(run("consumer", "consumer-1"))
        # The edge sends again whatever no receipt has answered.
        for bundle in bundles:
            edge.send(devices[0].id, bundle)
        wait_until(lambda: committed(storage) == 80, "everything is committed")
    totals = storage.totals()
    assert (totals.questionnaires, totals.envelopes_held, totals.held_items) == (80, 0, 0)
    [found] = storage.completeness()
    assert (found.sealed, found.committed, found.missing_count, found.forks) == (80, 80, 0, 0)


def test_two_consumers_share_the_work_and_one_may_die(
    storage: Storage, devices: list[SealingDevice], mosquitto: Mosquitto, run: Starter
) -> None:
    consumers = [listening(run("consumer", f"consumer-{number}")) for number in (1, 2)]
    bundles = [(device, bundle) for device in devices for bundle in bundles_of(device, 12, 5)]
    with Edge(mosquitto.port) as edge:
        for device, bundle in bundles[:24]:
            edge.send(device.id, bundle)
        for consumer in consumers:
            wait_until(partial(events, consumer, "committed"), "this one commits too")
        consumers[0].kill9()
        for device, bundle in bundles:
            edge.send(device.id, bundle)
        # The broker keeps the dead consumer's share for it, and gives it when it is started again.
        listening(run("consumer", "consumer-1"))
        # What it loses nevertheless (mosquitto does), the edge sends again.
        for device, bundle in bundles:
            edge.send(device.id, bundle)
        wait_until(lambda: committed(storage) == 180, "everything is committed")
    assert storage.totals().questionnaires == 180
    assert [one.missing_count for one in storage.completeness()] == [0, 0, 0]


def test_while_the_database_is_down_nothing_is_acknowledged_and_then_everything_is_committed(
    running_postgresql: PostgresqlCluster,
    postgresql_dsn: str,
    center: Center,
    devices: list[SealingDevice],
    mosquitto: Mosquitto,
    tmp_path: Path,
) -> None:
    storage = prepare(postgresql_dsn, center, devices)
    consumer = start(tmp_path, role="consumer", url=postgresql_dsn, port=mosquitto.port, client_id="consumer-1", die="")
    acknowledgement = "Received PUBACK from consumer-1"
    try:
        listening(consumer)
        with Edge(mosquitto.port) as edge:
            edge.send(devices[0].id, bundles_of(devices[0], 1, 3)[0])
            wait_until(lambda: committed(storage) == 3, "the first bundle is committed")
            wait_until(lambda: mosquitto.log.read_text().count(acknowledgement) == 1, "and acknowledged")
            running_postgresql.kill9()
            for bundle in bundles_of(devices[0], 5, 3):
                edge.send(devices[0].id, bundle)
            wait_until(lambda: len(events(consumer, "database_unavailable")) >= 2, "the consumer waits")
            assert mosquitto.log.read_text().count(acknowledgement) == 1
            assert consumer.is_alive
            running_postgresql.start()
            wait_until(lambda: len(events(consumer, "committed")) > 1, "the consumer goes on")
            wait_until(lambda: mosquitto.log.read_text().count(acknowledgement) == 6, "all are acknowledged")
        storage.close()
        assert committed(storage) == 18
        assert storage.totals().questionnaires == 18
    finally:
        consumer.terminate()
        storage.close()


def test_ruined_messages_are_salvaged_held_and_acknowledged(
    storage: Storage, devices: list[SealingDevice], mosquitto: Mosquitto, run: Starter
) -> None:
    consumer = listening(run("consumer", "consumer-1"))
    [bundle] = bundles_of(devices[0], 1, 3)
    ruined = bytearray(bundle)
    ruined[len(bundle) // 2] ^= 1
    with Edge(mosquitto.port) as edge:
        edge.send(devices[0].id, b"")
        edge.send(devices[0].id, b"noise")
        edge.send(devices[0].id, bytes(300 * 1024))
        edge.send(devices[0].id, bytes(ruined))
        edge.send(devices[1].id, bundle[: len(bundle) // 2])
        acknowledgement = "Received PUBACK from consumer-1"
        wait_until(lambda: mosquitto.log.read_text().count(acknowledgement) == 5, "all are acknowledged")
    assert consumer.is_alive
    assert committed(storage) == 2
    assert [record.data_bytes for record in storage.held()] == [5]
    damaged = events(consumer, "bundle_damaged")
    assert [(one["payload_bytes"], one["oversized"]) for one in damaged if one["oversized"]] == [(300 * 1024, True)]
    assert len(damaged) == 5


def test_route_carrier_and_hops_of_what_a_laptop_brings_reach_the_database(
    storage: Storage, devices: list[SealingDevice], mosquitto: Mosquitto, run: Starter
) -> None:
    consumer = listening(run("consumer", "consumer-1"))
    tablet, laptop = devices[:2]
    envelopes = [Frame(FrameType.ENVELOPE, tablet.seal(body_of(number))[0].data) for number in range(5)]
    mesh, usb = (Frame(FrameType.WAY, write_way(Way(leg, hops))) for leg, hops in ((Leg.MESH, 3), (Leg.USB, 2)))
    odd = Frame(FrameType.WAY, b"\7\1\0\0")
    own = Frame(FrameType.ENVELOPE, laptop.seal(body_of(9))[0].data)
    of_others = [mesh, *envelopes[:2], usb, envelopes[2], odd, envelopes[3]]
    with Edge(mosquitto.port) as edge:
        edge.send(laptop.id, write_bundle([own, *of_others]))
        wait_until(lambda: committed(storage) == 5, "the laptop's bundle is committed")
        # The tablet finds a link and brings everything itself: what is here already keeps its route.
        edge.send(tablet.id, write_bundle([usb, *envelopes]))
        wait_until(lambda: committed(storage) == 6, "the tablet's is, too")
    [laptop_counts, tablet_counts] = [storage.routes(one.id) for one in (laptop, tablet)]
    assert laptop_counts == [RouteCount(Route.VPN, 1, 0.0)]
    assert tablet_counts == [
        RouteCount(Route.VPN, 1, 0.0),
        RouteCount(Route.MESH, 2, 3.0),
        RouteCount(Route.USB, 1, 2.0),
        RouteCount(Route.RELAY, 1, None),
    ]
    assert [one["frames"] for one in events(consumer, "ignored")] == [{"way:bad_field": 1}]
    assert storage.held() == []
    record = storage.device(tablet.id)
    assert record is not None
    assert (record.last_route, record.last_carrier, record.last_hops) == (Route.VPN, tablet.id, 0)


def test_a_consumer_outlives_its_broker(
    storage: Storage, devices: list[SealingDevice], mosquitto: Mosquitto, run: Starter
) -> None:
    consumer = listening(run("consumer", "consumer-1"))
    bundles = bundles_of(devices[0], 4, 5)
    with Edge(mosquitto.port) as edge:
        for bundle in bundles[:2]:
            edge.send(devices[0].id, bundle)
    mosquitto.kill9()
    wait_until(lambda: bool(events(consumer, "broker_lost")), "the loss is noticed")
    mosquitto.start()
    wait_until(lambda: len(events(consumer, "broker_connected")) == 2, "connected again")
    with Edge(mosquitto.port) as edge:
        for bundle in bundles:
            edge.send(devices[0].id, bundle)
        wait_until(lambda: committed(storage) == 20, "everything is committed")
    assert storage.totals().questionnaires == 20


def test_a_consumer_asked_to_end_finishes_and_leaves(
    storage: Storage, devices: list[SealingDevice], mosquitto: Mosquitto, run: Starter
) -> None:
    consumer = listening(run("consumer", "consumer-1"))
    with Edge(mosquitto.port) as edge:
        edge.send(devices[0].id, bundles_of(devices[0], 1, 3)[0])
        wait_until(lambda: committed(storage) == 3, "committed")
    consumer.signal(signal.SIGTERM)
    wait_until(lambda: not consumer.is_alive, "it has left")
    assert consumer.exit_status == 0


def receipts_in(payload: bytes, trust: Trust) -> list[Receipt]:
    found = []
    for frame in read_bundle(payload).frames:
        assert frame.type == FrameType.STATEMENT
        statement = parse_statement(frame.payload)
        if statement.kind == KEY_CERTIFICATE:
            trust = trust.learn(statement)
        if statement.kind == RECEIPT:
            trust.check(statement)
            found.append(read_receipt(statement))
    return found


@pytest.mark.parametrize("die", ["", "before_publish", "before_finish"])
def test_receipts_come_with_the_commit_times_whenever_the_publisher_dies(
    storage: Storage, center: Center, devices: list[SealingDevice], mosquitto: Mosquitto, run: Starter, die: str
) -> None:
    listening(run("consumer", "consumer-1"))
    root_only = Trust(center.root.public_bytes)
    device = devices[0]
    if die:
        dying = listening(run("publisher", "publisher-1", die))
    with Edge(mosquitto.port) as edge:
        for bundle in bundles_of(device, 3, 4):
            edge.send(device.id, bundle)
        wait_until(lambda: committed(storage) == 12, "everything is committed")
        if die:
            wait_until(lambda: not dying.is_alive, "the publisher has killed itself")
            assert dying.exit_status == -signal.SIGKILL
            assert storage.totals().outbox == 1
        listening(run("publisher", "publisher-2"))
        wait_until(lambda: storage.totals().outbox == 0, "the outbox is empty")
        # Retained: whoever comes later hears it too.
        edge.listen(receipts_topic(device.id))
        wait_until(lambda: bool(edge.heard), "a receipt is heard")
        [receipt] = receipts_in(edge.heard[-1][1], root_only)
        [span] = receipt.spans
        assert (span.first, span.last, span.last_id) == (1, 12, device.sealed[-1].id)
        assert span.status is SpanStatus.COMMITTED
        with storage.issue_receipts([device.id], 1) as issue:
            rows = issue.chain(device.id)[1]
        marked = [at for first, last, at in span.times() for _ in range(first, last + 1)]
        assert marked == [row.committed_at for row in rows]
        assert {row.status for row in rows} == {EnvelopeStatus.COMMITTED}
        edge.heard.clear()
        # A duplicate is answered by a fresh receipt, and so is the backup.
        edge.send(device.id, device.bundle(device.sealed[:1]))
        wait_until(lambda: bool(edge.heard), "a fresh receipt")
        [fresh] = receipts_in(edge.heard[-1][1], root_only)
        assert fresh.serial > receipt.serial
        assert fresh.spans == receipt.spans
        edge.heard.clear()
        storage.record_watermark(storage.clock(), 1)
        wait_until(lambda: bool(edge.heard), "a receipt with the watermark")
        assert receipts_in(edge.heard[-1][1], root_only)[0].watermark == rows[-1].committed_at
