"""The center end to end: from the broker's queue to a signed receipt that covers everything, beside floor and peer.

What devices sent lies ready in the consumers' sessions at the broker. Measured is from letting the processes connect
until receipts for every envelope have reached a subscriber. Broker, database and receipt publisher work meanwhile on
the same cores, and their CPU time is told too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench.bundles import SentBundle, make_backlog, make_trickle, publish_all, reserve_sessions, write_bundles
from bench.center import BenchCenter, BenchDevice
from bench.consumer_identity import consumer_id
from bench.databases import Database, Databases
from bench.floor import RawRow, envelopes_of, raw_row, store_raw
from bench.process_figures import cpu_seconds
from bench.questionnaires import Questionnaires
from bench.ready_process import ReadyProcess
from bench.receipt_watch import ReceiptWatch
from bench.rows import Aim, Judged, Measure, Row, Sample, middle_cpu, middle_rate, middle_ratio, take_turns
from bench.sizes import Size
from sync_protocol.content import decode_content
from sync_protocol.envelope import parse_envelope

_FLOOR_AIM: Final = Aim(Judged.RATIO_AT_LEAST, 0.5)
_PEER_AIM: Final = Aim(Judged.RATIO_AT_LEAST, 8.0)
_DEADLINE_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Load:
    """Bundles in a file, and how many envelopes are in them."""

    path: Path
    sent: Sequence[SentBundle]
    envelopes: int


class EndToEnd:
    """Everything that the measurements share."""

    def __init__(self, folder: Path, size: Size, questionnaires: Questionnaires, center: BenchCenter) -> None:
        self._folder = folder
        self._size = size
        self._questionnaires = questionnaires
        self._center = center
        self._devices: list[BenchDevice] = [
            center.enrol(folder / f"device-{number}", f"device {number}") for number in range(size.devices)
        ]
        self._logs = folder / "logs"
        self._logs.mkdir()

    def load(self, name: str, count: int, *, one_by_one: bool) -> Load:
        """Have the devices make so many envelopes, as a backlog or one by one."""
        make = make_trickle if one_by_one else make_backlog
        sent = make(self._folder / name, self._devices, self._questionnaires, count)
        path = self._folder / f"{name}.bundles"
        write_bundles(path, sent)
        return Load(path, sent, count)

    def product(self, load: Load, database: Database, consumers: int) -> Sample:
        """The real consumers and the real receipt publisher."""
        url = database.fresh()
        self._center.prepare_database(url, self._devices)
        with (
            self._broker(load, [consumer_id(str(number)) for number in range(consumers)]) as broker,
            ExitStack() as ends,
        ):
            working = [self._process(ends, "consumer", url, str(number)) for number in range(consumers)]
            publisher = self._process(ends, "receipts", url, "0")
            watch = ends.enter_context(ReceiptWatch(self._center, self._devices[0]))
            for process in (*working, publisher):
                process.wait_for("ready")
            pids = {"consumers": [one.pid for one in working], "receipts": [publisher.pid], "broker": [broker]}
            before = _spent(pids, database)
            publisher.go()
            started = time.perf_counter()
            for process in working:
                process.go()
            watch.wait_until_receipted(load.envelopes, _DEADLINE_SECONDS)
            wall = time.perf_counter() - started
            return _sample(load.envelopes, wall, before, _spent(pids, database))

    def straightforward(self, load: Load, database: Database) -> Sample:
        """The peer, until its last row is committed."""
        url = database.fresh()
        with self._broker(load, [consumer_id("straightforward")]) as broker:
            arguments: list[str | Path] = [self._center.folder, str(load.envelopes)]
            module = "bench.straightforward_consumer"
            with ReadyProcess(module, arguments, self._logs / "straightforward.log", database=url) as process:
                process.wait_for("ready")
                pids = {"consumer": [process.pid], "broker": [broker]}
                before = _spent(pids, database)
                started = time.perf_counter()
                process.go()
                process.wait_for("done")
                wall = time.perf_counter() - started
                return _sample(load.envelopes, wall, before, _spent(pids, database))

    def floor(self, load: Load, database: Database, processes: int) -> Sample:
        """Cryptography in so many processes, then the raw copy: both times added."""
        with ExitStack() as ends:
            working = []
            for share in range(processes):
                arguments: list[str | Path] = [self._center.folder, load.path, str(share), str(processes)]
                log = self._logs / f"floor-{share}.log"
                working.append(ends.enter_context(ReadyProcess("bench.floor", arguments, log)))
            for process in working:
                process.wait_for("ready")
            before = sum(cpu_seconds(process.pid) for process in working)
            started = time.perf_counter()
            for process in working:
                process.go()
            for process in working:
                process.wait_for("done")
            crypto = time.perf_counter() - started
            spent = sum(cpu_seconds(process.pid) for process in working) - before
        rows = self._raw_rows(load)
        url = database.fresh()
        started = time.perf_counter()
        store_raw(url, rows)
        copy = time.perf_counter() - started
        each = 1e6 / load.envelopes
        return Sample(load.envelopes / (crypto + copy), {"cryptography": spent * each, "copy (wall)": copy * each})

    def _raw_rows(self, load: Load) -> list[RawRow]:
        secrets = {secret.name: secret for secret in self._center.files.recipient_keys()}
        opened = []
        for data in envelopes_of(data for _, data in load.sent):
            envelope = parse_envelope(data)
            opened.append(raw_row(envelope, *decode_content(envelope.open(secrets[envelope.recipient]))))
        return opened

    @contextmanager
    def _broker(self, load: Load, client_ids: Sequence[str]) -> Iterator[int]:
        """A fresh broker with the load in the sessions of these consumers; gives its process id."""
        broker = self._center.start_broker()
        reserve_sessions(self._center, client_ids)
        publish_all(self._center, self._devices, load.sent)
        try:
            yield broker.pid
        finally:
            self._center.stop_broker()

    def _process(self, ends: ExitStack, role: str, url: str, instance: str) -> ReadyProcess:
        arguments: list[str | Path] = [role, self._center.folder, instance]
        log = self._logs / f"{role}-{instance}.log"
        return ends.enter_context(ReadyProcess("bench.center_process", arguments, log, database=url))


def measure_end_to_end(folder: Path, size: Size, questionnaires: Questionnaires) -> Iterator[Row]:
    """Yield the rows."""
    folder.mkdir(parents=True)
    with BenchCenter(folder / "center") as center, Databases(folder / "databases") as databases:
        bench = EndToEnd(folder, size, questionnaires, center)
        loads = {
            "backlog": bench.load("backlog", size.backlog_envelopes, one_by_one=False),
            "trickle": bench.load("trickle", size.trickle_envelopes, one_by_one=True),
            "floor": bench.load("floor", size.floor_envelopes, one_by_one=False),
            "peer backlog": bench.load("peer-backlog", size.straightforward_envelopes, one_by_one=False),
            "peer trickle": bench.load("peer-trickle", size.straightforward_envelopes, one_by_one=True),
        }
        for database in databases.both():
            measures: dict[str, Measure] = {
                name: partial(bench.straightforward, loads[name], database) for name in ("peer backlog", "peer trickle")
            }
            for count in size.process_counts:
                measures[f"floor {count}"] = partial(bench.floor, loads["floor"], database, count)
                measures[f"backlog {count}"] = partial(bench.product, loads["backlog"], database, count)
                measures[f"trickle {count}"] = partial(bench.product, loads["trickle"], database, count)
            taken = take_turns(measures, size.rounds)
            for count in size.process_counts:
                yield from _compared_with_floor(database, count, taken)
            yield from _compared_with_peer(database, size.process_counts, taken, ("backlog", "trickle"))
        if size.slow_commits:
            slow = databases.slow()
            measures = {"peer backlog": partial(bench.straightforward, loads["peer backlog"], slow)}
            for count in size.process_counts:
                measures[f"backlog {count}"] = partial(bench.product, loads["backlog"], slow, count)
            yield from _compared_with_peer(slow, size.process_counts, take_turns(measures, size.rounds), ("backlog",))


def _consumers(count: int) -> str:
    return "1 consumer" if count == 1 else f"{count} consumers"


def _compared_with_floor(database: Database, count: int, taken: Mapping[str, Sequence[Sample]]) -> Iterator[Row]:
    backlog, floor, peer = taken[f"backlog {count}"], taken[f"floor {count}"], taken["peer backlog"]
    yield Row(
        f"{database.name}, {_consumers(count)}, backlog",
        middle_rate(backlog),
        "/s",
        peer=f"floor: {count} × cryptography, then raw copy",
        peer_figure=middle_rate(floor),
        ratio=middle_ratio(backlog, floor),
        aim=_FLOOR_AIM,
        cpu_microseconds=middle_cpu(backlog),
    )
    yield Row(
        f"{database.name}, the floor itself, {count} × cryptography",
        middle_rate(floor),
        "/s",
        peer="straightforward consumer, backlog",
        peer_figure=middle_rate(peer),
        ratio=middle_ratio(floor, peer),
        cpu_microseconds=middle_cpu(floor),
        note="the most that is possible",
    )


def _compared_with_peer(
    database: Database, counts: Sequence[int], taken: Mapping[str, Sequence[Sample]], loads: Sequence[str]
) -> Iterator[Row]:
    for load in loads:
        peer = taken[f"peer {load}"]
        for count in counts:
            samples = taken[f"{load} {count}"]
            yield Row(
                f"{database.name}, {_consumers(count)}, {load}",
                middle_rate(samples),
                "/s",
                peer=f"straightforward consumer, {load}",
                peer_figure=middle_rate(peer),
                ratio=middle_ratio(samples, peer),
                aim=_PEER_AIM if load == "backlog" else None,
                cpu_microseconds=middle_cpu(samples),
            )
        what = f"{database.name}, the straightforward consumer itself, {load}"
        yield Row(what, middle_rate(peer), "/s", cpu_microseconds=middle_cpu(peer))


def _spent(pids: Mapping[str, Sequence[int]], database: Database) -> dict[str, float]:
    spent = {name: sum(map(cpu_seconds, several)) for name, several in pids.items()}
    if database.server_pid is not None:
        spent["database"] = cpu_seconds(database.server_pid, with_descendants=True)
    return spent


def _sample(count: int, wall: float, before: Mapping[str, float], after: Mapping[str, float]) -> Sample:
    return Sample(count / wall, {name: (after[name] - before[name]) / count * 1e6 for name in after})
