"""The daemon at rest: a real process, provisioned, connected to a real broker, with nothing to do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench.center import BenchCenter
from bench.process_figures import precise_cpu_seconds, private_bytes, resident_bytes, thread_count, wakeups
from bench.questionnaires import Questionnaires
from bench.rows import Aim, Judged, Row
from bench.sizes import Size
from bench.tablet import Tablet, start_center_process, submit
from demo.processes import wait_until

_MEGABYTE: Final = 1_000_000
_BARE: Final = "import asyncio, ssl, sqlite3, sys; print('ready', flush=True); sys.stdin.read()"
_BARE_NAME: Final = "bare Python with asyncio, ssl, sqlite3"
_CALM_SECONDS: Final = 4.0
_WAIT_SECONDS: Final = 60.0
_SUBMITTED_BEFORE: Final = 20


@dataclass(frozen=True)
class _Start:
    resident: int
    private: int
    cpu_seconds: float


def measure_idle(folder: Path, size: Size, questionnaires: Questionnaires) -> Iterator[Row]:
    """Yield the rows."""
    folder.mkdir(parents=True)
    url = f"sqlite:///{folder / 'census.sqlite3'}"
    with BenchCenter(folder / "center") as center, ExitStack() as ends:
        device = center.enrol(folder / "provisioning", "tablet")
        center.prepare_database(url, [device])
        center.start_broker()
        for role in ("consumer", "receipts"):
            ends.enter_context(start_center_process(role, center, url, folder))
        with Tablet(folder / "tablet", device, center.port) as tablet:
            # The first start makes the state folder, and compiles what an installation has compiled already.
            tablet.start()
            submit(tablet, questionnaires.take(_SUBMITTED_BEFORE))
            wait_until(lambda: tablet.waiting() == 0, "everything is receipted", timeout_seconds=_WAIT_SECONDS)
        bare: list[_Start] = []
        daemon: list[_Start] = []
        for _ in range(size.start_rounds):
            bare.append(_start_bare())
            with _connected(Tablet(folder / "tablet", device, center.port)) as tablet:
                daemon.append(_figures(tablet.pid))
        with _connected(Tablet(folder / "tablet", device, center.port)) as tablet:
            time.sleep(min(_CALM_SECONDS, size.idle_seconds))
            pid = tablet.pid
            woken, spent, started = wakeups(pid), precise_cpu_seconds(pid), time.monotonic()
            time.sleep(size.idle_seconds)
            seconds = time.monotonic() - started
            a_second = (wakeups(pid) - woken) / seconds
            cpu = (precise_cpu_seconds(pid) - spent) / seconds
            threads, rested = thread_count(pid), resident_bytes(pid)
    yield _compared(
        "resident memory, connected",
        "MB",
        [one.resident / _MEGABYTE for one in daemon],
        [one.resident / _MEGABYTE for one in bare],
        Aim(Judged.FIGURE_AT_MOST, 40),
        f"{median(one.private for one in daemon) / _MEGABYTE:.1f} MB of it private; "
        f"{rested / _MEGABYTE:.1f} MB after {seconds:.0f} s",
    )
    yield _compared(
        "CPU to start, until connected",
        "s",
        [one.cpu_seconds for one in daemon],
        [one.cpu_seconds for one in bare],
        Aim(Judged.FIGURE_AT_MOST, 0.3),
        "",
    )
    yield Row(
        "wakeups at rest, connected",
        a_second,
        "/s",
        peer="bare Python asleep",
        peer_figure=0.0,
        aim=Aim(Judged.FIGURE_BELOW, 1),
        note=f"over {seconds:.0f} s, {threads} threads, {cpu * 1e6:.0f} µs CPU a second",
    )


def _compared(what: str, unit: str, figures: list[float], peers: list[float], aim: Aim, note: str) -> Row:
    figure, peer = median(figures), median(peers)
    return Row(what, figure, unit, peer=_BARE_NAME, peer_figure=peer, ratio=figure / peer, aim=aim, note=note)


@contextmanager
def _connected(tablet: Tablet) -> Iterator[Tablet]:
    with tablet:
        tablet.start()
        tablet.wait_until_connected()
        yield tablet


def _figures(pid: int) -> _Start:
    return _Start(resident_bytes(pid), private_bytes(pid), precise_cpu_seconds(pid))


def _start_bare() -> _Start:
    process = subprocess.Popen([sys.executable, "-c", _BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise RuntimeError("the bare Python did not start")
        figures = _figures(process.pid)
        process.terminate()
    return figures
