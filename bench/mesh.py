"""Devices near each other: a backlog given to a neighbour, beside a plain socket and Syncthing; a meeting without news;
a device among many.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

from bench.center import BenchCenter
from bench.mesh_crowd import measure_crowd
from bench.mesh_meetings import measure_meeting
from bench.mesh_transfers import Backlog, RadioLink
from bench.questionnaires import Questionnaires
from bench.rows import Aim, Judged, Row, Sample, middle_cpu, middle_rate, middle_ratio, take_turns
from bench.sizes import Size
from bench.syncthing_pair import measure_syncthing, syncthing_program, syncthing_version
from operations.journal import configure_logging

_LIMIT_AIM: Final = Aim(Judged.RATIO_AT_LEAST, 0.5)
_SYNCTHING_AIM: Final = Aim(Judged.RATIO_AT_LEAST, 5)
_MEETING_AIM: Final = Aim(Judged.FIGURE_AT_MOST, 4096)
_ORIGINS: Final = 30
_LIMIT: Final = "the same bytes over one TLS socket, fsync every 256 KiB"
_WIRELESS: Final = RadioLink(bytes_per_second=4_000_000, delay_seconds=0.002)
_MEGABYTE: Final = 1_000_000


def measure_mesh(folder: Path, size: Size, questionnaires: Questionnaires) -> Iterator[Row]:
    """Yield the rows."""
    folder.mkdir(parents=True)
    with BenchCenter(folder / "center") as center, _told_to(folder / "meeting.log"):
        backlogs = [
            Backlog(center, folder / f"backlog-{envelopes}", questionnaires, envelopes)
            for envelopes in size.mesh_envelopes
        ]
        for backlog in backlogs:
            yield from _transfers(backlog, folder / f"syncthing-{len(backlog.envelopes)}", size)
        yield from _wireless(backlogs[-1], size)
        yield _meeting(center, folder / "meeting")
        yield from _crowd(center, folder / "crowd", size)


@contextmanager
def _told_to(path: Path) -> Iterator[None]:
    """Let devices of this process tell what they do as the daemon does, into a file."""
    with path.open("w") as stream:
        configure_logging("bench-mesh", style="text", level="info", sentences={}, stream=stream)
        try:
            yield
        finally:
            configure_logging("bench", style="text", level="warning", sentences={}, stream=sys.stderr)


def _transfers(backlog: Backlog, folder: Path, size: Size) -> Iterator[Row]:
    envelopes = len(backlog.envelopes)
    measures: dict[str, Callable[[], Sample]] = {
        "limit": backlog.send,
        "mesh": backlog.meet,
        "unchecked": partial(backlog.meet, checked=False),
    }
    program = syncthing_program()
    if program is not None:
        homes = count(1)

        def syncthing(suited: bool) -> Sample:
            return measure_syncthing(program, folder / str(next(homes)), backlog.envelopes, suited=suited)

        measures |= {"suited": partial(syncthing, True), "installed": partial(syncthing, False)}
    taken = take_turns(measures, size.mesh_rounds)
    what = f"{envelopes:,} envelopes to a neighbour"
    note = f"{sum(map(len, backlog.envelopes.values())) / _MEGABYTE:.1f} MB"
    yield _compared(f"{what}, every signature checked", taken, "mesh", "limit", _LIMIT, _LIMIT_AIM, note)
    if program is None:
        yield Row(f"{what}, every signature checked", middle_rate(taken["mesh"]), "/s", peer="Syncthing: not installed")
    else:
        peer = f"Syncthing {syncthing_version(program)}, the same envelopes as files"
        for name, layout in (("installed", "in one folder, as installed"), ("suited", "in 256 folders, set up for it")):
            said = f"{peer}, {layout}"
            yield _compared(f"{what}, every signature checked", taken, "mesh", name, said, _SYNCTHING_AIM)
            yield _alone(f"{envelopes:,} files by Syncthing itself, {layout}", taken[name])
    yield _compared(f"{what}, signature checks aside", taken, "unchecked", "limit", _LIMIT)


def _wireless(backlog: Backlog, size: Size) -> Iterator[Row]:
    taken = take_turns(
        {"limit": partial(backlog.send, _WIRELESS), "mesh": partial(backlog.meet, _WIRELESS)}, size.mesh_rounds
    )
    what = f"{len(backlog.envelopes):,} envelopes to a neighbour, over a link as fast as Wi-Fi"
    note = f"{_WIRELESS.bytes_per_second / _MEGABYTE:g} MB/s, {_WIRELESS.delay_seconds * 1000:g} ms each way"
    yield _compared(what, taken, "mesh", "limit", _LIMIT, _LIMIT_AIM, note)


def _compared(
    what: str,
    taken: Mapping[str, list[Sample]],
    name: str,
    peer_name: str,
    peer: str,
    aim: Aim | None = None,
    note: str = "",
) -> Row:
    return Row(
        what,
        middle_rate(taken[name]),
        "/s",
        peer=peer,
        peer_figure=middle_rate(taken[peer_name]),
        ratio=middle_ratio(taken[name], taken[peer_name]),
        aim=aim,
        cpu_microseconds=middle_cpu(taken[name]),
        note=note,
    )


def _alone(what: str, samples: list[Sample]) -> Row:
    return Row(what, middle_rate(samples), "/s", cpu_microseconds=middle_cpu(samples))


def _meeting(center: BenchCenter, folder: Path) -> Row:
    meeting = measure_meeting(center, folder, _ORIGINS)
    said = meeting.bytes - meeting.handshake_bytes
    return Row(
        f"a meeting without news, {_ORIGINS} origins known",
        meeting.bytes,
        "bytes",
        aim=_MEETING_AIM,
        note=f"TLS handshake {meeting.handshake_bytes}, messages {said}; "
        f"{meeting.bytes_by_dialler} by who dials, {meeting.bytes_by_dialled} by the other",
    )


def _crowd(center: BenchCenter, folder: Path, size: Size) -> Iterator[Row]:
    alone, together = measure_crowd(center, folder, peers=size.mesh_peers, seconds=size.mesh_idle_seconds)
    what = f"with {size.mesh_peers} neighbours connected, at rest"
    yield Row(
        f"memory {what}",
        together.resident / _MEGABYTE,
        "MB",
        peer="the same alone",
        peer_figure=alone.resident / _MEGABYTE,
        ratio=together.resident / alone.resident,
        note=f"{(together.private - alone.private) / size.mesh_peers / 1000:.0f} KB of its own for each",
    )
    yield Row(
        f"wakeups {what}",
        together.wakeups,
        "/s",
        peer="the same alone",
        peer_figure=alone.wakeups,
        note=f"over {together.seconds:.0f} s, {together.cpu_seconds * 1e6:.0f} µs CPU a second",
    )
