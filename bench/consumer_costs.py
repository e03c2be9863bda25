"""What bundles, envelopes and receipts cost the consumer, the receipt publisher, the database and the broker.

Two loads of the same devices: an evening's backlog from each, and the same envelopes one to a bundle. From the two sums
follows what a bundle costs by itself and what each envelope in it adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench.broker_client import Client, connect_as_tablet, device_tls
from bench.bundles import SentBundle, make_backlog, make_trickle, publish_all, reserve_sessions
from bench.center import BenchCenter, BenchDevice, now
from bench.consumer_identity import consumer_id
from bench.databases import Database, Databases
from bench.process_figures import cpu_seconds, precise_cpu_seconds
from bench.questionnaires import Questionnaires
from bench.ready_process import ReadyProcess
from bench.receipt_watch import ReceiptWatch
from bench.rows import Row
from bench.sizes import Size
from central_broker.storage import open_storage

EVENING_ENVELOPES: Final = 26
"""A tablet's share of the busiest day: 552,000 interviews, 21,000 tablets."""

ENVELOPE: Final = "an envelope at the consumer"
BUNDLE: Final = "a bundle at the consumer, beside its envelopes"
RECEIPT: Final = "a receipt: signed, published, retained, delivered to its tablet"

_DEADLINE_SECONDS: Final = 120.0


@dataclass(frozen=True)
class _Spent:
    consumer: float
    database: float


class _Run:
    """What all runs share: the center, its devices, and PostgreSQL."""

    def __init__(self, folder: Path, size: Size, center: BenchCenter, database: Database) -> None:
        self._folder = folder
        self._size = size
        self._center = center
        self._database = database
        self._runs = 0

    @contextmanager
    def working(self, devices: Sequence[BenchDevice]) -> Iterator[tuple[str, ReadyProcess, ReadyProcess, int]]:
        """A fresh broker and database, a consumer and a receipt publisher ready to go, the broker's process id."""
        url = self._database.fresh()
        self._center.prepare_database(url, devices)
        broker = self._center.start_broker()
        reserve_sessions(self._center, [consumer_id("0")])
        self._runs += 1
        with ExitStack() as ends:
            processes = []
            for role in ("consumer", "receipts"):
                arguments: list[str | Path] = [role, self._center.folder, "0"]
                log = self._folder / f"{role}-{self._runs}.log"
                process = ReadyProcess("bench.center_process", arguments, log, database=url)
                processes.append(ends.enter_context(process))
                process.wait_for("ready")
            yield url, processes[0], processes[1], broker.pid
        self._center.stop_broker()

    def consume(self, devices: Sequence[BenchDevice], sent: Sequence[SentBundle], envelopes: int) -> _Spent:
        """CPU seconds for bringing this load into the database."""
        with self.working(devices) as (_, consumer, publisher, _broker), ExitStack() as ends:
            publish_all(self._center, devices, sent)
            # Only now: the watcher has the name of a device, and the broker lets in one of a name.
            watch = ends.enter_context(ReceiptWatch(self._center, devices[0]))
            # The database's part of making receipts is in its figure, too.
            before = _Spent(precise_cpu_seconds(consumer.pid), self._database_seconds())
            publisher.go()
            consumer.go()
            watch.wait_until_receipted(envelopes, _DEADLINE_SECONDS)
            return _Spent(
                precise_cpu_seconds(consumer.pid) - before.consumer, self._database_seconds() - before.database
            )

    def receipts(self, devices: Sequence[BenchDevice], sent: Sequence[SentBundle]) -> Mapping[str, float]:
        """CPU microseconds a receipt, by who spends them, when every origin wants one again and again."""
        with ExitStack() as ends:
            url, consumer, publisher, broker = ends.enter_context(self.working(devices))
            publish_all(self._center, devices, sent)
            tablets = [
                ends.enter_context(connect_as_tablet(self._center.port, one, device_tls(one))) for one in devices
            ]
            storage = open_storage(url)
            ends.callback(storage.close)
            consumer.go()
            publisher.go()
            origins = [device.name for device in devices]
            # The first receipts come by themselves, for what was committed.
            _want_all(tablets, lambda: None)
            before = (precise_cpu_seconds(publisher.pid), precise_cpu_seconds(broker), self._database_seconds())
            for _ in range(self._size.receipt_rounds):
                _want_all(tablets, lambda: storage.want_receipts(origins, now()))
            after = (precise_cpu_seconds(publisher.pid), precise_cpu_seconds(broker), self._database_seconds())
            each = 1e6 / (len(origins) * self._size.receipt_rounds)
            names = ("publisher", "broker", "database")
            return {name: (b - a) * each for name, a, b in zip(names, before, after, strict=True)}

    def _database_seconds(self) -> float:
        pid = self._database.server_pid
        return 0.0 if pid is None else cpu_seconds(pid, with_descendants=True)


def measure_consumer_and_receipts(
    folder: Path, size: Size, questionnaires: Questionnaires, center: BenchCenter, devices: Sequence[BenchDevice]
) -> Iterator[Row]:
    """Yield the rows."""
    envelopes = EVENING_ENVELOPES * len(devices)
    evening = make_backlog(folder / "evening", devices, questionnaires, envelopes)
    trickle = make_trickle(folder / "trickle", devices, questionnaires, envelopes)
    with Databases(folder / "databases") as databases:
        database = list(databases.both())[-1]
        run = _Run(folder, size, center, database)
        backlogs = [run.consume(devices, evening, envelopes) for _ in range(size.rounds)]
        trickles = [run.consume(devices, trickle, envelopes) for _ in range(size.rounds)]
        receipts = run.receipts(devices, evening)
    by_envelope, by_bundle = {}, {}
    for who in ("consumer", "database"):
        together = median(getattr(spent, who) for spent in backlogs)
        apart = median(getattr(spent, who) for spent in trickles)
        by_bundle[who] = (apart - together) / (len(trickle) - len(evening)) * 1e6
        by_envelope[who] = together / envelopes * 1e6 - by_bundle[who] * len(evening) / envelopes
    about = f"{len(evening) / len(devices):.1f} bundles for {EVENING_ENVELOPES} envelopes, {database.name}"
    sizes = f"{sum(len(data) for _, data in evening) / len(devices) / 1024:.0f} KB from a tablet"
    yield Row(ENVELOPE, by_envelope["consumer"], "µs CPU", cpu_microseconds=by_envelope, note=f"{about}, {sizes}")
    yield Row(BUNDLE, by_bundle["consumer"], "µs CPU", cpu_microseconds=by_bundle)
    yield Row(RECEIPT, receipts["publisher"], "µs CPU", cpu_microseconds=receipts)


def _want_all(tablets: Sequence[Client], want: Callable[[], None]) -> None:
    """Have every tablet's receipt wanted, and wait until each has come."""
    expected = [tablet.arrived + 1 for tablet in tablets]
    want()
    for tablet, count in zip(tablets, expected, strict=True):
        tablet.wait_for(count)
