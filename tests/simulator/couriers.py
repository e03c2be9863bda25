"""Sticks and neighbours: a dead drop that is carried about, and two devices that meet.

Generic on purpose: files on a medium and bundles over a wire. What USB and the mesh add (mounting, discovery, custody
on record) joins the simulator with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from random import Random

from edge_agent.engine.links import Link, LinkShape
from sync_protocol.bundle import FrameType, read_bundle
from sync_protocol.envelope import parse_envelope
from sync_protocol.errors import ProtocolError
from sync_protocol.limits import BUNDLE_BYTES_MAX, MEDIUM_BUNDLE_BYTES_MAX
from tests.simulator.clockwork import SECOND, Appointment, Clockwork
from tests.simulator.device import Device
from tests.simulator.faults import Fault, Faults
from tests.simulator.oracle import Oracle

_FILE_TIME = SECOND // 2
_FILES_MAX = 64


@dataclass(frozen=True)
class MediumTroubles:
    """Probabilities for each file that is written, or read."""

    torn: float = 0
    rotten: float = 0


def ids_in_bundle(data: bytes) -> frozenset[bytes]:
    """Return the ids of the envelopes that can be salvaged from a bundle."""
    try:
        frames = read_bundle(data, MEDIUM_BUNDLE_BYTES_MAX).frames
        return frozenset(parse_envelope(one.payload).id for one in frames if one.type is FrameType.ENVELOPE)
    except ProtocolError:
        return frozenset()


@dataclass(frozen=True)
class StickFile:
    """One bundle on a stick; `ids` are what can be salvaged from it."""

    writer: bytes
    data: bytes
    ids: frozenset[bytes]


class Stick:
    """A medium. It is a carrier in the oracle's sense."""

    def __init__(self, name: str, identity: bytes, clockwork: Clockwork, oracle: Oracle, faults: Faults) -> None:
        self.name = name
        self.identity = identity
        self.clockwork = clockwork
        self.faults = faults
        self.troubles = MediumTroubles()
        self.files: list[StickFile] = []
        self.visit: Visit | None = None
        self._oracle = oracle
        oracle.carriers.append(self)

    def holds(self, envelope_id: bytes) -> bool:
        return any(envelope_id in file.ids for file in self.files)

    def write(self, writer: bytes, data: bytes, randomness: Random) -> bool:
        """Write a file; False when it was damaged on the way, which the check after writing finds."""
        if self.faults.strikes(self.name, Fault.BUNDLE_TORN, self.troubles.torn):
            data = data[: randomness.randrange(len(data))]
            self.files.append(StickFile(writer, data, ids_in_bundle(data)))
            return False
        self.files.append(StickFile(writer, data, ids_in_bundle(data)))
        return True

    def rot(self, randomness: Random) -> None:
        """Let a file that was good decay."""
        if self.files and self.faults.strikes(self.name, Fault.BUNDLE_ROTTEN, self.troubles.rotten):
            index = randomness.randrange(len(self.files))
            before = self.files[index]
            data = bytearray(before.data)
            for _ in range(1 + randomness.randrange(3)):
                if data:
                    data[randomness.randrange(len(data))] ^= 1 << randomness.randrange(8)
            self.files[index] = StickFile(before.writer, bytes(data), ids_in_bundle(bytes(data)))
            self._oracle.carrier_lost(before.ids - self.files[index].ids)

    def put_back(self, files: Iterable[StickFile]) -> None:
        """Be what it was before, or a copy of another stick, or empty."""
        before = {i for file in self.files for i in file.ids}
        self.files = list(files)
        self._oracle.carrier_lost(before)

    def clear_receipted(self, device: Device) -> None:
        """Make room, as whoever wrote a file may once the center has what is in it."""
        if len(self.files) > _FILES_MAX:
            self.files = [file for file in self.files if file.writer != device.id or not self._is_done(file)]

    def _is_done(self, file: StickFile) -> bool:
        return all(envelope_id in self._oracle.database for envelope_id in file.ids)


class Visit:
    """One stick in one device; its outlet in the sense of `device.Outlet`."""

    def __init__(self, stick: Stick, device: Device, randomness: Random) -> None:
        self.stick = stick
        self.device = device
        self._random = randomness
        self._writing: list[Appointment] = []
        self.key = device.link_key("stick")
        self.is_up = True
        stick.visit = self

    def begin(self) -> None:
        self.stick.rot(self._random)
        files = list(self.stick.files)
        link = Link(
            key=self.key,
            shape=LinkShape.DEAD_DROP,
            far_end=self.stick.identity,
            reaches_center=False,
            bundles_in_flight_max=1,
            bundle_bytes_max=BUNDLE_BYTES_MAX,
        )
        self.device.link_up(link, self)
        for number, file in enumerate(files, start=1):
            if file.writer != self.device.id:
                self._later(number * _FILE_TIME, "read file", partial(self._read, file))

    def _later(self, delay: int, what: str, action: Callable[[], None]) -> Appointment:
        return self.stick.clockwork.after(delay, self.device.name, what, action)

    def _read(self, file: StickFile) -> None:
        if self.is_up:
            self.device.bundle_arrived(self.key, file.data)

    def send(self, token: int, data: bytes) -> None:
        self._writing.append(self._later(_FILE_TIME, "write file", lambda: self._write(token, data)))

    def _write(self, token: int, data: bytes) -> None:
        if self.is_up:
            self._writing.pop(0)
            taken = self.stick.write(self.device.id, data, self._random)
            self.device.settled(self.key, token, taken=taken)

    def follow(self, origins: frozenset[bytes]) -> None:
        """A stick has what it has."""

    def close(self) -> None:
        self.end()

    def dropped(self) -> None:
        self._leave()

    def end(self, *, pulled: bool = False) -> None:
        """Take the stick out: after everything is written, or in the middle of a file."""
        if not self.is_up:
            return
        if pulled and self._writing:
            self.stick.faults.note(self.device.name, Fault.STICK_PULLED)
        self._leave()
        self.stick.clear_receipted(self.device)
        self._later(0, "stick gone", lambda: self.device.link_down(self.key))

    def _leave(self) -> None:
        self.is_up = False
        for appointment in self._writing:
            appointment.called_off = True
        if self.stick.visit is self:
            self.stick.visit = None


class Meeting:
    """Two devices near each other; each has the other as a duplex link."""

    def __init__(self, one: Device, other: Device, clockwork: Clockwork, faults: Faults, randomness: Random) -> None:
        self.clockwork = clockwork
        self.faults = faults
        self.randomness = randomness
        self.is_up = True
        self.ends = (_End(self, one), _End(self, other))
        self.ends[0].far, self.ends[1].far = self.ends[1], self.ends[0]
        self.in_flight = 0

    def begin(self) -> None:
        for end in self.ends:
            end.come_up()

    def end(self) -> None:
        """Part; what is on the way is lost."""
        if not self.is_up:
            return
        if self.in_flight:
            self.faults.note(self.ends[0].device.name, Fault.PARTITION)
        self.is_up = False
        for end in self.ends:
            end.go_down()


class _End:
    """One side of a meeting; its outlet in the sense of `device.Outlet`."""

    far: _End

    def __init__(self, meeting: Meeting, device: Device) -> None:
        self._meeting = meeting
        self.device = device
        self.key = device.link_key("near")
        self._arrives_at = 0

    def come_up(self) -> None:
        link = Link(
            key=self.key,
            shape=LinkShape.DUPLEX,
            far_end=self.far.device.id,
            reaches_center=False,
            bundles_in_flight_max=2,
            bundle_bytes_max=BUNDLE_BYTES_MAX,
        )
        self.device.link_up(link, self)

    def go_down(self) -> None:
        self._meeting.clockwork.after(0, self.device.name, "neighbour gone", lambda: self.device.link_down(self.key))

    def send(self, token: int, data: bytes) -> None:
        meeting = self._meeting
        meeting.in_flight += 1
        delay = SECOND // 100 + int(meeting.randomness.random() * SECOND // 5)
        self._arrives_at = max(self._arrives_at, meeting.clockwork.now + delay)
        meeting.clockwork.at(self._arrives_at, self.device.name, "to neighbour", lambda: self._arrive(token, data))

    def _arrive(self, token: int, data: bytes) -> None:
        self._meeting.in_flight -= 1
        if not self._meeting.is_up:
            return
        recorded = self.far.device.bundle_arrived(self.far.key, data)
        if self._meeting.is_up and recorded:
            self._meeting.clockwork.after(
                SECOND // 50, self.device.name, "neighbour took it", lambda: self._settle(token)
            )

    def _settle(self, token: int) -> None:
        if self._meeting.is_up:
            self.device.settled(self.key, token, taken=True)

    def follow(self, origins: frozenset[bytes]) -> None:
        """Neighbours pass on what they have."""

    def close(self) -> None:
        self._meeting.end()

    def dropped(self) -> None:
        self._meeting.end()
