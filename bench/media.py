"""USB media: leaving a backlog on one, taking it over from one, and a day's questionnaires, beside `cp` and fsync.

The same bytes in the same files, on the same medium, in turns. Every run begins with an empty file system.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Final
from unittest import mock

from bench.center import BenchCenter, BenchDevice
from bench.media_copies import Copied, copy_from, copy_to, make_durable
from bench.media_places import Place, places
from bench.media_visits import Moment, Visited, visit
from bench.questionnaires import Questionnaires
from bench.rows import Aim, Judged, Row, Sample, middle_cpu, middle_rate, middle_ratio, take_turns
from bench.sealing import SteppedDevice
from bench.sizes import Size
from edge_agent.queue.store import QueueStore
from edge_agent.usb_watch.actions import Stage
from operations.journal import configure_logging
from sync_protocol import statement
from sync_protocol.bundle import FrameType, read_bundle
from sync_protocol.envelope import parse_envelope
from sync_protocol.identity import Role, Standing
from sync_protocol.keys import VerifyingKey
from sync_protocol.limits import MEDIUM_BUNDLE_BYTES_MAX
from sync_protocol.medium import MEDIUM_FILE, MEDIUM_FOLDER, certify_medium, write_medium_identity
from sync_protocol.statement import parse_statement

_RATIO_AIM: Final = Aim(Judged.RATIO_AT_LEAST, 0.8)
_DAY_AIM: Final = Aim(Judged.FIGURE_BELOW, 2.0)
_DAY_QUESTIONNAIRES: Final = 30
_CHECKED_MAX: Final = 2_000
_CHECK: Final = "sync_protocol.keys.VerifyingKey.verify"
_COPY: Final = "cp + fsync"
_COPY_AND_READ: Final = "cp + fsync, mounted anew, compared"
_COPY_OFF: Final = "cp to this disk + fsync"


@dataclass
class _Bench:
    """Who visits, with what: `backlog` and `day` are folders of queues as the tablet had them before the visit."""

    tablet: BenchDevice
    laptop: BenchDevice
    identity: bytes
    backlog: Path
    day: Path
    envelopes: int
    rounds: int
    numbers: Iterator[int] = field(default_factory=count)

    def renew(self, place: Place) -> None:
        """Empty the medium and enrol it."""
        place.renew()
        with place.mounted() as root:
            (root / MEDIUM_FOLDER).mkdir()
            (root / MEDIUM_FOLDER / MEDIUM_FILE).write_bytes(self.identity)
            make_durable(root)

    def queue(self, place: Place, original: Path | None) -> Path:
        """Return a copy of a queue, or the place for a new one, on the disk that belongs to the medium."""
        queue = place.home / f"queue-{next(self.numbers)}"
        if original is not None:
            shutil.copytree(original, queue)
            make_durable(queue)
        return queue


def measure_media(folder: Path, size: Size, questionnaires: Questionnaires) -> Iterator[Row]:
    """Yield the rows."""
    folder.mkdir(parents=True)
    with BenchCenter(folder / "center") as center, _told_to(folder / "visits.log"):
        bench = _prepare(center, folder, size, questionnaires)
        with places(folder / "places", size.media_envelopes) as found:
            for place in found:
                yield from _backlog(bench, place)
            yield _checking(bench, found[0].home / bench.tablet.name.hex())
            for place in found:
                yield _day(bench, place)


@contextmanager
def _told_to(path: Path) -> Iterator[None]:
    """Let visits tell what they do as the daemon does, into a file."""
    with path.open("w") as stream:
        configure_logging("bench-media", style="text", level="info", sentences={}, stream=stream)
        try:
            yield
        finally:
            configure_logging("bench", style="text", level="warning", sentences={}, stream=sys.stderr)


def _prepare(center: BenchCenter, folder: Path, size: Size, questionnaires: Questionnaires) -> _Bench:
    tablet = center.enrol(folder / "tablet", "tablet")
    for name, number in (("backlog", size.media_envelopes), ("day", _DAY_QUESTIONNAIRES)):
        with SteppedDevice(folder / name, tablet.provisioned.identity, tablet.provisioned.statements) as device:
            device.submit(questionnaires.take(number))
    certificate = certify_medium(
        center.files.issuing_key(),
        medium=b"bench medium".ljust(16, b"."),
        number="1",
        holder="bench",
        standing=Standing.ACTIVE,
        issued_at=1,
        expires_at=0,
        serial=1 << 40,
    )
    statements = [parse_statement(data) for data in tablet.provisioned.statements]
    keys = [one for one in statements if one.kind == statement.KEY_CERTIFICATE]
    return _Bench(
        tablet=tablet,
        laptop=center.enrol(folder / "laptop", "laptop", Role.COLLECTION_POINT),
        identity=write_medium_identity(keys, certificate),
        backlog=folder / "backlog",
        day=folder / "day",
        envelopes=size.media_envelopes,
        rounds=size.media_rounds,
    )


# A backlog.


class _Backlog:
    """The runs on one medium. `bundles` is the tablet's folder, as its first visit left it."""

    def __init__(self, bench: _Bench, place: Place) -> None:
        self._bench = bench
        self._place = place
        self._bundles = place.home / bench.tablet.name.hex()
        self.left: list[Visited] = []
        self.taken: dict[bool, list[Visited]] = {True: [], False: []}

    def leave(self) -> Sample:
        """Leave everything; the sample is about the whole visit."""
        self._bench.renew(self._place)
        queue = self._bench.queue(self._place, self._bench.backlog)
        with self._place.measured():
            visited = visit(queue, self._bench.tablet, self._place)
        shutil.rmtree(queue)
        self._expect(visited.outcome.progress.envelopes_written, "left")
        if not self._bundles.exists():
            with self._place.mounted() as root:
                shutil.copytree(root / MEDIUM_FOLDER / self._bundles.name, self._bundles)
        self.left.append(visited)
        return self._sample(visited.ended)

    def left_durably(self) -> list[Sample]:
        """The same visits until everything was on the medium, unmounted, and only reading back was to be done."""
        return [self._sample(visited.stages[Stage.CHECKING]) for visited in self.left]

    def copy(self, *, reads_back: bool) -> Sample:
        """What a visit is compared with."""
        self._bench.renew(self._place)
        with self._place.measured():
            return self._copied(copy_to(self._place, self._bundles, reads_back=reads_back))

    def take(self, *, checks: bool) -> Sample:
        """Take everything over, until the last envelope is in the laptop's queue; `checks`: with the signatures."""
        self._fill()
        queue = self._bench.queue(self._place, None)
        with self._place.measured(), nullcontext() if checks else mock.patch(_CHECK, _believe):
            visited = visit(queue, self._bench.laptop, self._place)
        with closing(QueueStore(queue)) as store:
            self._expect(store.connection.execute("SELECT count(*) FROM envelope").fetchone()[0], "taken over")
        shutil.rmtree(queue)
        self.taken[checks].append(visited)
        return self._sample(visited.stages[Stage.WAITING])

    def copy_off(self) -> Sample:
        """What that is compared with."""
        self._fill()
        target = self._place.home / "copied"
        target.mkdir()
        with self._place.measured():
            copied = copy_from(self._place, self._bundles.name, target)
        shutil.rmtree(target)
        return self._copied(copied)

    def _fill(self) -> None:
        self._bench.renew(self._place)
        copy_to(self._place, self._bundles)

    def size(self) -> str:
        """What lies on the medium."""
        files = list(self._bundles.iterdir())
        megabytes = sum(file.stat().st_size for file in files) / 1e6
        return f"{self._bench.envelopes:,} envelopes, {len(files)} files, {megabytes:.1f} MB"

    def _expect(self, envelopes: int, what: str) -> None:
        if envelopes != self._bench.envelopes:
            raise RuntimeError(f"{envelopes} of {self._bench.envelopes} envelopes were {what}")

    def _sample(self, moment: Moment) -> Sample:
        return Sample(
            self._bench.envelopes / moment.seconds, {"device": moment.cpu_seconds / self._bench.envelopes * 1e6}
        )

    def _copied(self, copied: Copied) -> Sample:
        return Sample(self._bench.envelopes / copied.seconds, {"cp": copied.cpu_seconds / self._bench.envelopes * 1e6})


def _believe(_key: VerifyingKey, _signature: bytes, _message: bytes) -> None:
    """Believe every signature."""


def _backlog(bench: _Bench, place: Place) -> Iterator[Row]:
    backlog = _Backlog(bench, place)
    # The first visit makes the files that are copied. It pays for what is loaded and cached, too, and is not counted.
    backlog.leave()
    backlog.left.clear()
    taken = take_turns(
        {
            "leave": backlog.leave,
            "copy": partial(backlog.copy, reads_back=False),
            "copy, read": partial(backlog.copy, reads_back=True),
            "take unchecked": partial(backlog.take, checks=False),
            "copy off": backlog.copy_off,
            "take": partial(backlog.take, checks=True),
        },
        bench.rounds,
    )
    aim = _RATIO_AIM if place.is_judged else None
    until = [visited.stages[Stage.CHECKING] for visited in backlog.left]
    yield _row(
        f"offload to {place.words}, until unmounted",
        backlog.left_durably(),
        taken["copy"],
        _COPY,
        aim,
        f"{backlog.size()}; {_own(until)}",
    )
    yield _row(
        f"offload to {place.words}, until safe to remove",
        taken["leave"],
        taken["copy, read"],
        _COPY_AND_READ,
        aim,
        _own([visited.ended for visited in backlog.left]),
    )
    yield _row(f"offload to {place.words}, until safe to remove", taken["leave"], taken["copy"], _COPY, None, "")
    for name, checks, judged in (("take unchecked", False, aim), ("take", True, None)):
        words = "every signature checked" if checks else "signature checks aside"
        moments = [visited.stages[Stage.WAITING] for visited in backlog.taken[checks]]
        yield _row(
            f"import from {place.words}, {words}", taken[name], taken["copy off"], _COPY_OFF, judged, _own(moments)
        )


def _own(moments: Sequence[Moment]) -> str:
    return f"{median(one.own_seconds for one in moments):.2f} of {median(one.seconds for one in moments):.2f} s own"


def _row(what: str, samples: Sequence[Sample], peers: Sequence[Sample], peer: str, aim: Aim | None, note: str) -> Row:
    return Row(
        what,
        middle_rate(samples),
        "/s",
        peer=peer,
        peer_figure=middle_rate(peers),
        ratio=middle_ratio(samples, peers),
        aim=aim,
        cpu_microseconds={**middle_cpu(samples), **middle_cpu(peers)},
        note=note,
    )


# What is set aside, and what is small.


def _checking(bench: _Bench, bundles: Path) -> Row:
    """What checking one envelope's signature costs by itself."""
    frames = [
        frame
        for file in sorted(bundles.iterdir())
        for frame in read_bundle(file.read_bytes(), MEDIUM_BUNDLE_BYTES_MAX).frames
        if frame.type is FrameType.ENVELOPE
    ][:_CHECKED_MAX]
    envelopes = [parse_envelope(frame.payload) for frame in frames]
    key = VerifyingKey(bench.tablet.provisioned.identity.signer.public_bytes)
    started = time.process_time()
    for envelope in envelopes:
        envelope.verify(key)
    spent = (time.process_time() - started) / len(envelopes) * 1e6
    return Row("checking one envelope's signature", spent, "µs CPU", cpu_microseconds={"verify": spent})


def _day(bench: _Bench, place: Place) -> Row:
    """A tablet's day, from the plugged in medium to "safe to remove"."""
    visits: list[Visited] = []
    for _ in range(bench.rounds):
        bench.renew(place)
        queue = bench.queue(place, bench.day)
        with place.measured():
            visits.append(visit(queue, bench.tablet, place))
        shutil.rmtree(queue)
        if visits[-1].outcome.progress.envelopes_written != _DAY_QUESTIONNAIRES:
            raise RuntimeError(f"a day's questionnaires were not all left: {visits[-1].outcome}")
    whole = median(visited.ended.seconds for visited in visits)
    cpu = median(visited.ended.cpu_seconds for visited in visits)
    return Row(
        f"a day's {_DAY_QUESTIONNAIRES} questionnaires to {place.words}, from plug to safe, own work",
        median(visited.ended.own_seconds for visited in visits),
        "s",
        aim=_DAY_AIM if place.is_judged else None,
        cpu_microseconds={"device": cpu / _DAY_QUESTIONNAIRES * 1e6},
        note=f"{whole:.3f} s with the medium's own time; {cpu:.3f} s CPU",
    )
