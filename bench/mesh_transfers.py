"""One meeting of two fresh neighbours, and its limit: two processes each, over the loopback interface."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from bench.center import BenchCenter, BenchDevice
from bench.questionnaires import Questionnaires
from bench.ready_process import ReadyProcess
from bench.rows import Sample
from bench.sealing import SteppedDevice
from demo.processes import free_port
from demo.tcp_relay import TcpRelay
from edge_agent.queue.store import QUEUE_FILE_NAME
from sync_protocol.identity import Role


@dataclass(frozen=True)
class RadioLink:
    """What lies between the two in place of the loopback interface."""

    bytes_per_second: float
    delay_seconds: float

    def relay(self, port: int) -> TcpRelay:
        """Return a way to a port that is as fast as this."""
        return TcpRelay(("127.0.0.1", port), delay_seconds=self.delay_seconds, bytes_per_second=self.bytes_per_second)


class Backlog:
    """What a tablet holds for a collection point that it has never met; each run is between copies of the two."""

    def __init__(self, center: BenchCenter, folder: Path, questionnaires: Questionnaires, envelopes: int) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._runs = count(1)
        self._tablet: BenchDevice = center.enrol(folder / "tablet", f"{folder.name} tablet")
        self._laptop: BenchDevice = center.enrol(folder / "laptop", f"{folder.name} laptop", Role.COLLECTION_POINT)
        with SteppedDevice(
            folder / "queue", self._tablet.provisioned.identity, self._tablet.provisioned.statements
        ) as device:
            device.submit(questionnaires.take(envelopes))
        self.envelopes = _envelopes(folder / "queue")
        """By their ids, hexadecimal."""
        self._bytes = folder / "bytes"
        self._bytes.write_bytes(b"".join(self.envelopes.values()))

    def meet(self, link: RadioLink | None = None, *, checked: bool = True) -> Sample:
        """Let the tablet meet the collection point, and give it everything; signatures are `checked`, or not."""
        run = self._run()
        shutil.copytree(self._folder / "queue", run / "queue")
        giver = ("give", self._tablet.folder, run / "queue")
        taker = ("take" if checked else "take-unchecked", self._laptop.folder, run / "taken")
        sample = self._measure("bench.mesh_device", run, giver, taker, link)
        if _envelopes(run / "taken") != self.envelopes:
            raise RuntimeError("the collection point has other envelopes than the tablet")
        shutil.rmtree(run)
        return sample

    def send(self, link: RadioLink | None = None) -> Sample:
        """Send the same bytes over one connection, into a file."""
        run = self._run()
        giver = ("give", self._tablet.folder, self._bytes)
        taker = ("take", self._laptop.folder, run / "taken")
        sample = self._measure("bench.mesh_socket", run, giver, taker, link)
        if (run / "taken").read_bytes() != self._bytes.read_bytes():
            raise RuntimeError("other bytes came than were sent")
        shutil.rmtree(run)
        return sample

    def _run(self) -> Path:
        run = self._folder / f"run-{next(self._runs)}"
        run.mkdir()
        return run

    def _measure(
        self,
        module: str,
        run: Path,
        giver: tuple[str | Path, ...],
        taker: tuple[str | Path, ...],
        link: RadioLink | None,
    ) -> Sample:
        port = free_port()
        count = str(len(self.envelopes))
        reports = run / "giver.json", run / "taker.json"
        with ExitStack() as ends:
            takes = ends.enter_context(ReadyProcess(module, [*taker, str(port), count, reports[1]], run / "taker.log"))
            takes.wait_for("ready")
            if link is not None:
                port = ends.enter_context(link.relay(port)).port
            gives = ends.enter_context(ReadyProcess(module, [*giver, str(port), count, reports[0]], run / "giver.log"))
            gives.wait_for("ready")
            gives.go()
            gives.wait_for("done")
            takes.go()
            takes.wait_for("done")
        return _sample(len(self.envelopes), *(json.loads(report.read_text()) for report in reports))


def _sample(envelopes: int, giver: dict[str, Any], taker: dict[str, Any]) -> Sample:
    """From when both had met until the giver had its last answer."""
    began_seconds = max(giver["met"]["at_seconds"], taker["met"]["at_seconds"])
    spent = {
        name: (end["ended"]["cpu_seconds"] - end["met"]["cpu_seconds"]) / envelopes * 1e6
        for name, end in (("giver", giver), ("taker", taker))
    }
    return Sample(envelopes / (giver["ended"]["at_seconds"] - began_seconds), spent)


def _envelopes(queue: Path) -> dict[str, bytes]:
    with closing(sqlite3.connect(queue / QUEUE_FILE_NAME)) as database:
        rows = database.execute("SELECT id, data FROM envelope ORDER BY number")
        return {bytes(envelope_id).hex(): bytes(data) for envelope_id, data in rows}
