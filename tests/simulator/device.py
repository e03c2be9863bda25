"""A simulated tablet or laptop: the real engine, stepper, queue and mirror; power, clock and process are the world's.

Plays the part of `edge_agent.runner` (and of systemd, which starts the daemon again), in simulated time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from random import Random
from typing import Protocol, TypeVar

from edge_agent.engine.effects import Accepted, Declined, Effect, Follow, Notice, Refused, Say, Send, Wake
from edge_agent.engine.engine import Engine
from edge_agent.engine.events import (
    BundleArrived,
    Event,
    LinkDown,
    LinkUp,
    RecipientKeyMade,
    Said,
    Settled,
    Started,
    Submission,
    Submitted,
    TimePassed,
)
from edge_agent.engine.identity import DeviceIdentity
from edge_agent.engine.links import Link
from edge_agent.engine.settings import EngineSettings
from edge_agent.engine.stepper import Stepper
from edge_agent.engine.store import StoreFault, StoreTransaction
from sync_protocol.content import Questionnaire
from sync_protocol.identity import device_name
from sync_protocol.keys import Signer
from sync_protocol.mesh import Exchanged
from tests.simulator.clockwork import MINUTE, SECOND, Appointment, Clockwork
from tests.simulator.disk import Disk, StepPlan
from tests.simulator.faults import Fault
from tests.simulator.lossy_disk import PowerCut
from tests.simulator.oracle import Oracle, Violation
from tests.simulator.watch import QueueWatch

Answer = TypeVar("Answer")

RESTART_AFTER = 5 * SECOND
"""What the unit says (RestartSec), and a boot takes longer."""
STORE_PAUSE = 5 * SECOND
FORM_RETRY = 2 * MINUTE
WAKES_AT_ONCE_MAX = 1000
"""A device that wakes more often than this at one instant would do so for ever, and drain its battery."""

STEP_CUTS = (
    Fault.CUT_BEFORE_COMMIT,
    Fault.CUT_AFTER_COMMIT,
    Fault.CUT_BEFORE_MIRROR_IS_DURABLE,
    Fault.CUT_AFTER_MIRROR,
    Fault.CUT_AMONG_EFFECTS,
)
STEP_FAULTS = (
    *STEP_CUTS,
    Fault.IO_ERROR_AT_BEGIN,
    Fault.IO_ERROR_AT_COMMIT,
    Fault.MIRROR_UNWRITABLE,
    Fault.MIRROR_UNSYNCED,
)
LOSSY_STEP_FAULTS = (*STEP_CUTS, *(Fault.CUT_INSIDE_DISK,) * len(STEP_CUTS))
"""On a lossy disk every other cut comes inside a call to it."""


Tell = Callable[[str, str, Mapping[str, object]], None]
"""Takes what happened into the story: where, what, and more of it."""


class Outlet(Protocol):
    """The adapter's side of one link, as `edge_agent.engine.ports.Outlet`; `dropped` is the process's end."""

    def send(self, token: int, data: bytes) -> None: ...

    def follow(self, origins: frozenset[bytes], listed: frozenset[bytes]) -> None: ...

    def say(self, message: Exchanged) -> None: ...

    def close(self) -> None: ...

    def dropped(self) -> None: ...


@dataclass(frozen=True)
class Entry:
    """One questionnaire in the form program's hands until the device has accepted it."""

    key: bytes
    questionnaire: Questionnaire

    @property
    def digest(self) -> bytes:
        return sha256(self.questionnaire.body).digest()


@dataclass
class _Process:
    engine: Engine
    stepper: Stepper
    watch: QueueWatch
    outlets: dict[str, Outlet] = field(default_factory=dict)
    wake: Appointment | None = None
    woken_at: int = 0
    wakes_at_once: int = 0


class Device:
    """One device; `faults_of_step` is asked before every step which fault strikes it."""

    def __init__(
        self,
        name: str,
        *,
        signer: Signer,
        root_public_key: bytes,
        statements: Callable[[], Sequence[bytes]],
        disk: Disk,
        clockwork: Clockwork,
        oracle: Oracle,
        randomness: Random,
        settings: EngineSettings | None = None,
        list_key: bytes | None = None,
        tell: Tell = lambda _node, _what, _fields: None,
    ) -> None:
        """`list_key` is the public key that lists for this device are sealed to: each start announces it."""
        self.name = name
        self.signer = signer
        self.id = device_name(signer.public_bytes)
        self.disk = disk
        self.clockwork = clockwork
        self.oracle = oracle
        self.clock_offset = 0
        self.faults_of_step: Callable[[Device], Fault | None] = lambda _device: None
        self.on_start: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None
        self.waiting: dict[bytes, Entry] = {}
        """Typed, and not accepted yet."""
        self.notices: Counter[str] = Counter()
        self.is_gone = False
        self.identity = DeviceIdentity(self.id, signer, root_public_key)
        self._statements = statements
        self._settings = settings or EngineSettings()
        self._list_key = list_key
        self._randomness = randomness
        self._tell = tell
        self._plan = StepPlan()
        self._process: _Process | None = None
        self._requests = count(1)
        self._link_numbers = count(1)
        self._entries: dict[int, Entry] = {}

    @property
    def is_up(self) -> bool:
        return self._process is not None

    @property
    def clock(self) -> int:
        """What the device takes for the time."""
        return max(0, self.clockwork.now + self.clock_offset)

    # Power and process.

    def start(self) -> None:
        """Boot, or be started by the service manager; tries again while the disk refuses."""
        if self._process is not None or self.is_gone:
            return
        self._plan.fault = None
        try:
            store, mirror, watch = self.disk.open(self._plan)
        except StoreFault:
            self._later(RESTART_AFTER, "start", self.start)
            return
        except PowerCut:
            self.disk.crash(self._randomness)
            self._later(RESTART_AFTER, "start", self.start)
            return
        self.oracle.opened(self.name, watch.all_rows(), watch.receipts())
        engine = Engine(self.identity, self._settings, self._randomness.random)
        self._process = _Process(engine, Stepper(engine, store, mirror), watch)
        if self.step(Started(mirror.position(), tuple(self._statements()))) is None:
            if self._process is not None:
                self.end(power=False)
            return
        if self._list_key is not None:
            self.step(RecipientKeyMade(self._list_key))
        self._submit_waiting()
        self.on_start()

    def end(self, *, power: bool, restart_after: int | None = RESTART_AFTER) -> None:
        """End the process where it stands: killed, or without power."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.wake is not None:
            process.wake.called_off = True
        self._entries.clear()
        self.disk.crash(self._randomness if power else None)
        for outlet in process.outlets.values():
            outlet.dropped()
        self.on_end()
        if restart_after is not None and not self.is_gone:
            self._later(restart_after, "start", self.start)

    def _later(self, delay: int, what: str, action: Callable[[], None]) -> Appointment:
        return self.clockwork.after(delay, self.name, what, action)

    # The form program.

    def submit(self, questionnaire: Questionnaire) -> None:
        """A person has filled a form; the form program keeps it until the device has accepted it."""
        key = sha256(self.id + questionnaire.instance_id.encode()).digest()
        self.waiting[key] = Entry(key, questionnaire)
        self._submit([self.waiting[key]])

    def _submit_waiting(self) -> None:
        if self.waiting:
            self._submit(list(self.waiting.values()))

    def _submit(self, entries: Sequence[Entry]) -> None:
        if self._process is None:
            return
        numbered = {next(self._requests): entry for entry in entries}
        self._entries.update(numbered)
        self.step(Submitted(tuple(Submission(n, e.key, e.questionnaire) for n, e in numbered.items())))

    def _answered(self, effect: Accepted | Refused) -> None:
        entry = self._entries.pop(effect.request)
        if isinstance(effect, Refused):
            if effect.again:
                self._later(FORM_RETRY, "submit again", self._submit_waiting)
            else:
                del self.waiting[entry.key]
            return
        if self.waiting.pop(entry.key, None) is not None:
            instance_id = entry.questionnaire.instance_id
            place = (self.id, effect.epoch, effect.first_sequence)
            self.oracle.was_accepted(self.name, instance_id, entry.digest, place, effect.last_sequence)

    # Links.

    def link_key(self, kind: str) -> str:
        return f"{kind}-{next(self._link_numbers)}"

    def link_up(self, link: Link, outlet: Outlet) -> None:
        if self._process is None:
            outlet.dropped()
            return
        self._process.outlets[link.key] = outlet
        self.step(LinkUp(link))

    def link_down(self, link_key: str) -> None:
        if self._process is not None and self._process.outlets.pop(link_key, None) is not None:
            self.step(LinkDown(link_key))

    def has_link(self, link_key: str) -> bool:
        return self._process is not None and link_key in self._process.outlets

    def bundle_arrived(self, link_key: str, data: bytes) -> bool:
        """Return whether what came was recorded."""
        return self.handed_over(link_key, data) is not None

    def handed_over(self, link_key: str, data: bytes) -> tuple[bytes, ...] | None:
        """Return for which envelopes of what came there was no room; None when nothing was recorded."""
        effects = self.step(BundleArrived(link_key, data)) if self.has_link(link_key) else None
        if effects is None:
            return None
        return tuple(one for effect in effects if isinstance(effect, Declined) for one in effect.ids)

    def said(self, link_key: str, message: Exchanged) -> None:
        if self.has_link(link_key):
            self.step(Said(link_key, message))

    def settled(self, link_key: str, token: int, *, taken: bool, declined: tuple[bytes, ...] = ()) -> None:
        if self.has_link(link_key):
            self.step(Settled(link_key, token, taken, declined))

    def ask(self, question: Callable[[StoreTransaction], Answer]) -> Answer:
        """Look at the queue between two steps; raises StoreFault, also when the device is off, or its power goes."""
        if self._process is None:
            raise StoreFault("the device is off")
        try:
            return self._process.stepper.ask(question)
        except PowerCut:
            self.end(power=True, restart_after=self._boot_after())
            raise StoreFault("the power went") from None

    # Steps.

    def step(self, event: Event) -> list[Effect] | None:
        """Handle one event and release its effects; None when nothing of it was recorded, or the power went."""
        process = self._process
        if process is None:
            return None
        fault = self._plan.fault = self.faults_of_step(self)
        self._plan.committed = False
        self.disk.begin_step(self._plan, self._randomness)
        try:
            effects = process.stepper.step(event, self.clock)
            if fault is Fault.CUT_AFTER_MIRROR:
                raise PowerCut
        except StoreFault as problem:
            if self._plan.committed:
                # The mirror refused what the step would have sent.
                self.oracle.stepped(self.name, process.watch.committed(), released=False)
            else:
                process.watch.rolled_back()
            self._survive(process, event, problem)
            return None
        except PowerCut:
            self.end(power=True, restart_after=self._boot_after())
            return None
        finally:
            self._plan.fault = None
        cut_at = self._randomness.randrange(len(effects) + 1) if fault is Fault.CUT_AMONG_EFFECTS else None
        self.oracle.stepped(self.name, process.watch.committed(), released=cut_at is None)
        for index, effect in enumerate(effects):
            if index == cut_at:
                break
            self._release(process, effect)
            if self._process is not process:
                return None
        if cut_at is not None:
            self.end(power=True, restart_after=self._boot_after())
            return None
        return effects

    def _boot_after(self) -> int:
        return int(RESTART_AFTER + self._randomness.random() * 10 * MINUTE)

    def _release(self, process: _Process, effect: Effect) -> None:
        match effect:
            case Send(link_key, token, data):
                self.clockwork.note("send", data)
                outlet = process.outlets.get(link_key)
                if outlet is not None:
                    outlet.send(token, data)
            case Follow(link_key, origins, listed):
                outlet = process.outlets.get(link_key)
                if outlet is not None:
                    outlet.follow(origins, listed)
            case Say(link_key, message):
                outlet = process.outlets.get(link_key)
                if outlet is not None:
                    outlet.say(message)
            case Declined():
                pass
            case Accepted() | Refused():
                self._answered(effect)
            case Wake(at):
                self._wake_at(process, at)
            case Notice():
                self.notices[effect.event] += 1
                self._tell(self.name, effect.event, effect.fields)

    def _wake_at(self, process: _Process, at: int) -> None:
        if process.wake is not None:
            process.wake.called_off = True
        process.wake = self._later(max(0, at - self.clock), "wake", lambda: self._wake(process))

    def _wake(self, process: _Process) -> None:
        if self._process is not process:
            return
        process.wakes_at_once = process.wakes_at_once + 1 if process.woken_at == self.clockwork.now else 0
        process.woken_at = self.clockwork.now
        if process.wakes_at_once > WAKES_AT_ONCE_MAX:
            raise Violation("I6", f"{self.name} wakes without end and does nothing")
        self.step(TimePassed())

    def _survive(self, process: _Process, event: Event, problem: StoreFault) -> None:
        """As the runner does: refuse what was to be accepted, or close the links that the engine has forgotten."""
        self._tell(self.name, "store_fault", {"problem": problem})
        self._wake_at(process, self.clock + STORE_PAUSE)
        if isinstance(event, Submitted):
            for submission in event.submissions:
                self._entries.pop(submission.request, None)
            self._later(FORM_RETRY, "submit again", self._submit_waiting)
            return
        outlets, process.outlets = process.outlets, {}
        for outlet in outlets.values():
            outlet.close()
