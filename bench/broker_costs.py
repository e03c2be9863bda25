"""What every operation of an evening peak costs the broker, the consumers and the receipt publisher, in CPU time.

The broker is a real mosquitto on the product's own configuration; each operation is done often enough, and what the
process has spent meanwhile is divided by how often. No rates: how fast our own clients are is not what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench.broker_client import Client, connect_as_tablet, device_tls, handshake, hello, touch
from bench.bundles import make_backlog, make_trickle
from bench.center import BenchCenter, BenchDevice, center_tls
from bench.consumer_costs import measure_consumer_and_receipts
from bench.process_figures import precise_cpu_seconds, resident_bytes
from bench.questionnaires import Questionnaires
from bench.rows import Row
from bench.sizes import Size
from sync_protocol.limits import BUNDLE_BYTES_MAX
from sync_protocol.topics import consumer_subscription, up_topic

TOUCH: Final = "a TCP connection, accepted and closed"
HELLO: Final = "a TLS hello answered, the client then gone"
HANDSHAKE: Final = "a full TLS 1.3 handshake, both certificates"
RESUMED: Final = "a resumed TLS session"
CONNECTION: Final = "a tablet's connection: handshake, CONNECT, 2 × SUBSCRIBE, DISCONNECT"
SMALL_BUNDLE: Final = "a bundle of one envelope, through to a consumer"
FULL_BUNDLE: Final = "a bundle as full as it gets, through to a consumer"
MEMORY: Final = "memory of a tablet's connection at the broker"

_ENVELOPES_BEFORE_FULL: Final = 345
"""A backlog's first bundles are smaller: a window of 20 with 32 KB each, then 64 and 128 KB."""
_ENVELOPES_A_FULL_BUNDLE: Final = 110


@dataclass(frozen=True)
class _Broker:
    center: BenchCenter
    pid: int
    device: BenchDevice
    size: Size

    def cost(self, count: int, work: Callable[[int], None]) -> float:
        """CPU microseconds of the broker for each of `count` operations, the median of the rounds."""
        spent = []
        for _ in range(self.size.rounds):
            before = precise_cpu_seconds(self.pid)
            work(count)
            spent.append((precise_cpu_seconds(self.pid) - before) / count * 1e6)
        return median(spent)


def measure_broker(folder: Path, size: Size, questionnaires: Questionnaires) -> Iterator[Row]:
    """Yield the rows."""
    folder.mkdir(parents=True)
    with BenchCenter(folder / "center") as center:
        devices = [center.enrol(folder / f"device-{n}", f"device {n}") for n in range(size.broker_devices)]
        broker = _Broker(center, center.start_broker().pid, devices[0], size)
        # First of all: later its memory has room from what has been freed.
        yield from _memory(broker, devices)
        yield from _connections(broker)
        yield from _bundles(folder, broker, questionnaires)
        center.stop_broker()
        yield from measure_consumer_and_receipts(folder, size, questionnaires, center, devices)


def _connections(broker: _Broker) -> Iterator[Row]:
    port, tls, count = broker.center.port, device_tls(broker.device), broker.size.broker_connections

    def repeated(work: Callable[[], object]) -> Callable[[int], None]:
        def run(times: int) -> None:
            for _ in range(times):
                work()

        return run

    for what, work in (
        (TOUCH, lambda: touch(port)),
        (HELLO, lambda: hello(port, tls)),
        (HANDSHAKE, lambda: handshake(port, tls)),
        (CONNECTION, lambda: connect_as_tablet(port, broker.device, tls).close()),
    ):
        yield _row(what, broker.cost(count, repeated(work)))
    yield _resumed(broker, count)


def _resumed(broker: _Broker, count: int) -> Row:
    """Whether the broker resumes at all is found out; our own client never asks for it."""
    port, tls = broker.center.port, device_tls(broker.device)
    reused = 0

    def run(times: int) -> None:
        nonlocal reused
        session, _ = handshake(port, tls)
        for _ in range(times):
            # A broker that refuses a session it gave ends the connection.
            with suppress(OSError):
                session, taken = handshake(port, tls, session)
                reused += taken

    spent = broker.cost(count, run)
    note = f"tablets do not ask for it; the broker resumed {reused} of {count * broker.size.rounds}"
    return _row(RESUMED, spent, note)


def _bundles(folder: Path, broker: _Broker, questionnaires: Questionnaires) -> Iterator[Row]:
    center, size = broker.center, broker.size
    full_count = _ENVELOPES_BEFORE_FULL + _ENVELOPES_A_FULL_BUNDLE * size.broker_full_bundles
    small = [data for _, data in make_trickle(folder / "small", [broker.device], questionnaires, 20)][1:]
    backlog = [data for _, data in make_backlog(folder / "full", [broker.device], questionnaires, full_count)]
    full = [data for data in backlog if len(data) > BUNDLE_BYTES_MAX * 0.9]
    configuration = center.files.configuration
    with (
        Client(configuration.broker.center_port, "bench-reader", center_tls(center.files, "consumer")) as reader,
        connect_as_tablet(center.port, broker.device, device_tls(broker.device)) as tablet,
    ):
        reader.subscribe([consumer_subscription(configuration.consumer.group)])
        for what, bundles, count in (
            (SMALL_BUNDLE, small, size.broker_bundles),
            (FULL_BUNDLE, full, max(1, size.broker_bundles // 10)),
        ):
            spent = broker.cost(count, lambda times, bundles=bundles: _carry(broker, tablet, reader, bundles, times))  # type: ignore[misc]  # mypy infers no type of a lambda with a default
            yield _row(what, spent, f"{sum(map(len, bundles)) // len(bundles)} bytes")


def _carry(broker: _Broker, tablet: Client, reader: Client, bundles: Sequence[bytes], times: int) -> None:
    expected = reader.arrived + times
    tablet.publish_all(up_topic(broker.device.name), [bundles[number % len(bundles)] for number in range(times)])
    reader.wait_for(expected)


def _memory(broker: _Broker, devices: Sequence[BenchDevice]) -> Iterator[Row]:
    before = resident_bytes(broker.pid)
    with ExitStack() as ends:
        for device in devices:
            ends.enter_context(connect_as_tablet(broker.center.port, device, device_tls(device)))
        yield Row(MEMORY, (resident_bytes(broker.pid) - before) / len(devices) / 1024, "KB")


def _row(what: str, microseconds: float, note: str = "") -> Row:
    return Row(what, microseconds, "µs CPU", cpu_microseconds={"broker": microseconds}, note=note)
