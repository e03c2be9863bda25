"""Sticks that are carried about: the real visit, step by step, on media in memory that fail, lie and are pulled out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from edge_agent.engine.store import StoreFault
from edge_agent.usb_watch import actions as steps
from edge_agent.usb_watch.actions import Bundle, Ending, Outcome, VisitInterrupted, Visitor
from edge_agent.usb_watch.visit import perform, visit
from edge_agent.usb_watch.volume import FaultKind, Volume, VolumeFault
from sync_protocol.bundle import FrameType, read_bundle
from sync_protocol.envelope import parse_envelope
from sync_protocol.errors import ProtocolError
from sync_protocol.identity import Standing
from sync_protocol.limits import MEDIUM_BUNDLE_BYTES_MAX
from sync_protocol.medium import MEDIUM_FILE, MEDIUM_FOLDER, read_medium_certificate
from sync_protocol.mesh import Exchanged
from sync_protocol.statement import MEDIUM_CERTIFICATE, parse_statement
from tests.simulator.clockwork import MINUTE, SECOND, Appointment, Clockwork
from tests.simulator.device import Device
from tests.simulator.faults import Fault, Faults
from tests.simulator.keys import seed_of
from tests.simulator.oracle import Oracle, Violation
from tests.support.memory_medium import File, MemoryMedium, Names

_ROOT: Final = Path("/medium")
_TIMES: Final[Mapping[type[steps.Action[Any]], int]] = {
    steps.Identify: SECOND // 10,
    steps.Read: SECOND // 4,
    steps.Write: SECOND // 2,
    steps.Sync: SECOND // 10,
    steps.MountAgain: SECOND // 10,
}
"""How long an action takes; the others take none."""
_RECEIPTS_WAIT: Final = 5 * MINUTE
_ROOM_WHEN_FULL: Final = 8 * 1024
_CALLS_UNTIL_FAILURE_MAX: Final = 80

Content = dict[Names, File]


@dataclass(frozen=True)
class MediumTroubles:
    """Probabilities: of damage to each file that is written, or read; of a visit to a medium in a bad state."""

    torn: float = 0
    rotten: float = 0
    full: float = 0
    read_only: float = 0
    failing: float = 0


class Stick:
    """A medium. It is a carrier in the oracle's sense."""

    def __init__(self, name: str, identity_file: bytes, clockwork: Clockwork, oracle: Oracle, faults: Faults) -> None:
        self.name = name
        self.clockwork = clockwork
        self.faults = faults
        self.troubles = MediumTroubles()
        self.medium = MemoryMedium()
        self.medium.files[(MEDIUM_FOLDER,)] = File(is_folder=True)
        self.medium.files[MEDIUM_FOLDER, MEDIUM_FILE] = File(identity_file)
        self.medium.unmount()
        self.visit: Visit | None = None
        self._empty = self.copy()
        self._ids: dict[bytes, frozenset[bytes]] = {}
        self._oracle = oracle
        oracle.carriers.append(self)

    @property
    def files(self) -> int:
        return sum(len(path) == 3 for path in self.medium.files)

    def holds(self, envelope_id: bytes) -> bool:
        return any(envelope_id in self._ids_in(data) for path, data in self._complete().items() if len(path) == 3)

    def ids(self) -> frozenset[bytes]:
        """Return the ids of all envelopes that can be salvaged from it."""
        return frozenset().union(*map(self._ids_in, self._complete().values()))

    def _complete(self) -> dict[Names, bytes]:
        files = self.medium.files
        return {path: file.data for path, file in files.items() if len(path) == 3 and path[-1].endswith(".CNS")}

    def _ids_in(self, data: bytes) -> frozenset[bytes]:
        known = self._ids.get(data)
        if known is None:
            known = self._ids[data] = ids_in_bundle(data)
        return known

    def copy(self) -> Content:
        """Return everything on it."""
        return deepcopy(self.medium.files)

    def put_back(self, content: Content | None = None) -> None:
        """Be what it was before, or another's copy, or empty."""
        before = self.ids()
        self.medium.files = deepcopy(self._empty if content is None else content)
        self.medium.unmount()
        self._oracle.carrier_lost(before - self.ids())

    def pull(self, randomness: Random) -> None:
        """Be pulled out: what was not durable is lost, or some of it."""
        before = self.ids()
        self.medium.pull(randomness)
        self._oracle.carrier_lost(before - self.ids())

    def rot(self, randomness: Random) -> None:
        """Let a file that was good decay."""
        paths = sorted(self._complete())
        if paths and self.faults.strikes(self.name, Fault.BUNDLE_ROTTEN, self.troubles.rotten):
            before = self.ids()
            file = self.medium.files[paths[randomness.randrange(len(paths))]]
            data = bytearray(file.data)
            for _ in range(1 + randomness.randrange(3)):
                if data:
                    data[randomness.randrange(len(data))] ^= 1 << randomness.randrange(8)
            file.data = bytes(data)
            self.medium.unmount()
            self._oracle.carrier_lost(before - self.ids())

    def tear(self, device: str, name: str, randomness: Random) -> None:
        """Let a file that was just written not be what was written, though the medium says so."""
        file = self.medium.files[MEDIUM_FOLDER, device, name]
        file.data = file.data[: randomness.randrange(len(file.data))]

    def remove(self, work: Callable[[], None]) -> None:
        """Let a device take a file away: the oracle must find that nobody needs it."""
        before = self.ids()
        work()
        self._oracle.carrier_cleared(self.name, before - self.ids())


def ids_in_bundle(data: bytes) -> frozenset[bytes]:
    """Return the ids of the envelopes that can be salvaged from a bundle."""
    try:
        frames = read_bundle(data, MEDIUM_BUNDLE_BYTES_MAX).frames
    except ProtocolError:
        return frozenset()
    found = set()
    for frame in frames:
        if frame.type is FrameType.ENVELOPE:
            try:
                found.add(parse_envelope(frame.payload).id)
            except ProtocolError:
                continue
    return frozenset(found)


class Visit:
    """One stick in one device; its outlet in the sense of `device.Outlet`."""

    def __init__(
        self, stick: Stick, device: Device, randomness: Random, *, number: int, reaches_center: Callable[[], bool]
    ) -> None:
        self.stick = stick
        self.device = device
        self.outcome: Outcome | None = None
        self._random = randomness
        self._reaches_center = reaches_center
        key = device.link_key("stick")
        self._visitor = Visitor(device.id.hex(), f"{number:016x}", key)
        self._volume = Volume(_ROOT, device.id.hex(), stick.medium)
        self._walk = visit(self._visitor)
        self._pending: Appointment | None = None
        self._sends: deque[Bundle] = deque()
        self._begun: steps.Action[Any] | None = None
        self._is_closed = False
        self.is_up = True
        stick.visit = self

    def begin(self) -> None:
        stick, medium = self.stick, self.stick.medium
        stick.rot(self._random)
        medium.calls, medium.trouble_at = 0, None
        medium.capacity_bytes = 1 << 30
        if stick.faults.strikes(stick.name, Fault.STICK_FULL, stick.troubles.full):
            medium.capacity_bytes = medium.used_bytes() + self._random.randrange(40) * _ROOM_WHEN_FULL
        medium.is_read_only = stick.faults.strikes(stick.name, Fault.STICK_READ_ONLY, stick.troubles.read_only)
        if stick.faults.strikes(stick.name, Fault.STICK_FAILING, stick.troubles.failing):
            medium.trouble, medium.trouble_at = "unreadable", self._random.randrange(_CALLS_UNTIL_FAILURE_MAX)
        self._go()

    def _go(self, result: object = None, fault: Exception | None = None) -> None:
        while self.outcome is None:
            try:
                action = self._walk.send(result) if fault is None else self._walk.throw(fault)
            except StopIteration as end:
                self._over(end.value)
                return
            delay = _TIMES.get(type(action), 0)
            if isinstance(action, steps.AwaitReceipts) and self._reaches_center():
                delay = _RECEIPTS_WAIT
            if delay and self.is_up:
                self._begun = action
                finish = partial(self._finish, action)
                self._pending = self.stick.clockwork.after(delay, self.device.name, type(action).__name__, finish)
                return
            result, fault = self._try(action)

    def _finish(self, action: steps.Action[Any]) -> None:
        self._pending = None
        if self.is_up:
            self._go(*self._try(action))

    def _try(self, action: steps.Action[Any]) -> tuple[Any, Exception | None]:
        try:
            return self._do(action), None
        except (VolumeFault, VisitInterrupted) as fault:
            return None, fault
        except StoreFault as failed:
            return None, VisitInterrupted(str(failed))

    def _do(self, action: steps.Action[Any]) -> Any:
        match action:
            case steps.Write(name, data):
                return self._write(name, data)
            case steps.Remove(name):
                return self.stick.remove(lambda: self._volume.remove(name))
            case steps.Question():
                return self.device.ask(lambda queue: action.answer(queue, self.device.identity))
            case steps.Unmount():
                return self.stick.medium.unmount()
            case steps.MountAgain():
                if self.stick.medium.is_gone:
                    raise VolumeFault(FaultKind.GONE, "no such device")
                return None
            case steps.OpenLink() | steps.Arrive() | steps.NextBundle() | steps.Settle() | steps.CloseLink():
                return self._tell_engine(action)
            case steps.AwaitReceipts() | steps.PowerOff() | steps.Tell():
                return None
            case _:
                return perform(action, self._volume)

    def _write(self, name: str, data: bytes) -> Any:
        file = self._volume.write(name, data)
        if self.stick.faults.strikes(self.stick.name, Fault.BUNDLE_TORN, self.stick.troubles.torn):
            self.stick.tear(file.device, name, self._random)
        return file

    def _check_standing(self) -> None:
        """Nothing is left on a medium of which this device knows that it was called in (I8)."""
        known = self.device.ask(lambda queue: queue.statement(MEDIUM_CERTIFICATE, seed_of(self.stick.name)[:16]))
        if known is not None and read_medium_certificate(parse_statement(known)).standing is not Standing.ACTIVE:
            raise Violation("I8", f"{self.device.name} writes to {self.stick.name}, which was called in")

    def _tell_engine(self, action: steps.Action[Any]) -> Any:
        match action:
            case steps.OpenLink(link):
                if link.bundles_in_flight_max:
                    self._check_standing()
                self._sends.clear()
                self.device.link_up(link, self)
            case steps.Arrive(key, data):
                self.device.bundle_arrived(key, data)
            case steps.Settle(key, token, taken):
                self.device.settled(key, token, taken=taken)
            case steps.CloseLink(key):
                self.device.link_down(key)
                return None
            case steps.NextBundle() if self._sends:
                return self._sends.popleft()
        if self._is_closed:
            raise VisitInterrupted("the queue cannot record what comes and goes")
        return None

    # The outlet.

    def send(self, token: int, data: bytes) -> None:
        self._sends.append(Bundle(token, data))

    def follow(self, origins: frozenset[bytes], listed: frozenset[bytes]) -> None:
        """A stick has what it has."""

    def say(self, message: Exchanged) -> None:
        """A stick hears nothing."""

    def close(self) -> None:
        self._is_closed = True

    def dropped(self) -> None:
        """The process is gone, and what it was doing with the stick."""
        if self.outcome is None:
            self._walk.close()
            self._over(Outcome(Ending.INTERRUPTED, None, steps.Progress(), "the device ended"))
            self.stick.pull(self._random)

    # The end.

    def end(self, *, pulled: bool = False) -> None:
        """Take the stick out: as somebody does who was told that it is safe, or without looking."""
        if not self.is_up:
            return
        if self.outcome is None:
            if pulled and isinstance(self._begun, steps.Write):
                self.stick.faults.note(self.device.name, Fault.STICK_PULLED)
            self._call_off()
            self.is_up = False
            self.stick.medium.is_gone = True
            self._go(fault=VolumeFault(FaultKind.GONE, "pulled out"))
            self.stick.pull(self._random)
        self._leave()

    def _over(self, outcome: Outcome) -> None:
        self._call_off()
        self.outcome = outcome
        self.stick.medium.is_read_only = False
        self.stick.medium.trouble_at = None

    def _call_off(self) -> None:
        if self._pending is not None:
            self._pending.called_off = True
            self._pending = None

    def _leave(self) -> None:
        self.is_up = False
        if self.stick.visit is self:
            self.stick.visit = None
