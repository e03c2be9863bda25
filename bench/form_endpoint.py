"""The endpoint for form programs: its memory, idle and at its peak, and how many questionnaires it takes a second."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from bench.census_forms import long_questionnaires
from bench.center import BenchCenter, BenchDevice
from bench.process_figures import peak_resident_bytes, precise_cpu_seconds, resident_bytes
from bench.rows import Aim, Judged, Row, Sample, middle_cpu, middle_rate, middle_ratio, take_turns
from bench.sizes import Size
from bench.submits import Disk
from bench.tablet import Tablet
from demo.processes import accepts_connections, free_port, wait_until
from edge_agent.queue.intake.openrosa.key import read_key
from tests.support.collect import CollectClient, HttpAnswer

_MEGABYTE: Final = 1_000_000
_PROGRAMS: Final = 8
_PHOTOGRAPHS: Final = 5
_PHOTOGRAPH_BYTES: Final = 1_900_000
"""Five of them and the XML: just below the 10 MB that a questionnaire may have."""
_CENTRAL_A_SECOND: Final = 50.0
"""What ODK Central's own load test sends."""


def measure_endpoint(folder: Path, size: Size) -> Iterator[Row]:
    """Yield the rows."""
    folder.mkdir(parents=True)
    with BenchCenter(folder / "center") as center:
        device = center.enrol(folder / "provisioning", "tablet")
        # The first start compiles what an installation has compiled already.
        with _serving(folder / "compiling", device):
            pass
        yield _resting(folder, device)
        yield _large(folder, device)
        yield _soak(folder, device, size)


@contextmanager
def _serving(folder: Path, device: BenchDevice) -> Iterator[tuple[Tablet, CollectClient]]:
    port = free_port()
    with Tablet(folder, device, free_port(), openrosa_port=port) as tablet:
        tablet.start()
        wait_until(lambda: accepts_connections(port), "the endpoint listens")
        key = read_key(folder / "state")
        if key is None:
            raise RuntimeError("the endpoint has made no key")
        yield tablet, CollectClient(port, key)


def _resting(folder: Path, device: BenchDevice) -> Row:
    """With nobody at it but for one look at the form list."""
    with Tablet(folder / "without", device, free_port()) as tablet:
        tablet.start()
        without = resident_bytes(tablet.pid) / _MEGABYTE
    with _serving(folder / "resting", device) as (tablet, client):
        client.request("GET", "/formList")
        rests = resident_bytes(tablet.pid) / _MEGABYTE
    return Row(
        "resident memory of a daemon with the endpoint, at rest",
        rests,
        "MB",
        peer="the daemon without it",
        peer_figure=without,
        ratio=rests / without,
    )


def _large(folder: Path, device: BenchDevice) -> Row:
    photograph = os.urandom(_PHOTOGRAPH_BYTES)
    files = [(f"{number}.jpg", "image/jpeg", photograph) for number in range(_PHOTOGRAPHS)]
    with _serving(folder / "large", device) as (tablet, client):
        rested = peak_resident_bytes(tablet.pid) / _MEGABYTE
        _at_once([partial(client.submit, xml, files) for xml in long_questionnaires(0, _PROGRAMS)])
        peak = peak_resident_bytes(tablet.pid) / _MEGABYTE
        kept = resident_bytes(tablet.pid) / _MEGABYTE
    return Row(
        f"peak memory while {_PROGRAMS} programs submit 10 MB each at once, with photographs",
        peak,
        "MB",
        peer="before it",
        peer_figure=rested,
        ratio=peak / rested,
        note=f"{kept:.1f} MB after it",
    )


def _soak(folder: Path, device: BenchDevice, size: Size) -> Row:
    sent = 0
    disk = Disk(folder, len(long_questionnaires(0, 1)[0]))
    with closing(disk), _serving(folder / "soak", device) as (tablet, client):

        def submits() -> Sample:
            nonlocal sent
            bodies = long_questionnaires(sent, size.soak_submits)
            sent += len(bodies)
            cpu, started = precise_cpu_seconds(tablet.pid), time.perf_counter()
            _at_once([partial(client.submit, body) for body in bodies])
            seconds = time.perf_counter() - started
            return Sample(
                len(bodies) / seconds, {"daemon": (precise_cpu_seconds(tablet.pid) - cpu) / len(bodies) * 1e6}
            )

        taken = take_turns({"ours": submits, "disk": lambda: disk.measure(size.soak_submits)}, size.rounds)
        waiting = tablet.waiting()
    if waiting != sent:
        raise RuntimeError(f"{sent} questionnaires were taken, and {waiting} are in the queue")
    return Row(
        f"questionnaires of 250 questions a second, {_PROGRAMS} programs, each durable before its answer",
        middle_rate(taken["ours"]),
        "/s",
        peer="append the same bytes + fdatasync",
        peer_figure=middle_rate(taken["disk"]),
        ratio=middle_ratio(taken["ours"], taken["disk"]),
        aim=Aim(Judged.FIGURE_AT_LEAST, _CENTRAL_A_SECOND),
        cpu_microseconds=middle_cpu(taken["ours"]),
        note=f"ODK Central's own load test sends {_CENTRAL_A_SECOND:.0f}",
    )


def _at_once(requests: Sequence[Callable[[], HttpAnswer]]) -> None:
    """Send them all, so many at a time as there are programs; raises RuntimeError when one is not taken."""
    with ThreadPoolExecutor(max_workers=_PROGRAMS) as programs:
        for answer in programs.map(lambda request: request(), requests):
            if answer.status != 201:
                raise RuntimeError(f"the endpoint answered {answer.status}: {answer.body.decode()}")
