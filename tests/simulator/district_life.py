"""Lives a district's plan with one policy, under the oracle's eyes, and measures what became of every questionnaire.

The engine, the queue, acceptance and receipts are the real ones, with stub keys; nothing fails but what people do:
those who part in the middle of an exchange, and go where nobody is.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from edge_agent.engine.routing import Shares
from edge_agent.engine.settings import EngineSettings
from sync_protocol.bundle import FrameType, count_envelopes, read_bundle
from sync_protocol.envelope import parse_envelope
from sync_protocol.identity import Role
from sync_protocol.mesh import Exchanged
from sync_protocol.mesh_stream import write_message
from sync_protocol.way import NO_WAY, read_way
from tests.simulator.clockwork import DAY, HOUR, START
from tests.simulator.device import Outlet
from tests.simulator.district import Encounter, Plan
from tests.simulator.ending import heal
from tests.simulator.neighbours import Meeting, Party
from tests.simulator.run import quiet
from tests.simulator.world import Resident, World
from tests.support.device import memory_folder

BACKUP_AT: Final = 3 * HOUR
"""The center's copy of each night: behind it carriers let go."""
YOUNG: Final = 3 * DAY
"""What is younger at the horizon may still be on its way for good reasons."""


@dataclass
class Passed:
    """What went from device to device."""

    envelopes: int = 0
    bytes: int = 0
    meetings: int = 0


class _Metered:
    """A meeting's outlet that counts what leaves by it."""

    def __init__(self, outlet: Outlet, passed: Passed) -> None:
        self._outlet = outlet
        self._passed = passed

    def send(self, token: int, data: bytes) -> None:
        self._passed.envelopes += count_envelopes(data)
        self._passed.bytes += len(data)
        self._outlet.send(token, data)

    def follow(self, origins: frozenset[bytes], listed: frozenset[bytes]) -> None:
        self._outlet.follow(origins, listed)

    def say(self, message: Exchanged) -> None:
        self._passed.bytes += len(write_message(message))
        self._outlet.say(message)

    def close(self) -> None:
        self._outlet.close()

    def dropped(self) -> None:
        self._outlet.dropped()


class _Hops(deque[tuple[str, bytes]]):
    """What the broker took lately; notes how often an envelope was handed on before it first came there."""

    def __init__(self) -> None:
        super().__init__(maxlen=20)
        self.of: dict[bytes, int] = {}
        self.envelope_bytes_max = 0

    def append(self, taken: tuple[str, bytes]) -> None:
        super().append(taken)
        way = NO_WAY
        for frame in read_bundle(taken[1]).frames:
            if frame.type is FrameType.WAY:
                way = read_way(frame.payload)
            elif frame.type is FrameType.ENVELOPE:
                self.of.setdefault(parse_envelope(frame.payload).id, way.hops)
                self.envelope_bytes_max = max(self.envelope_bytes_max, len(frame.payload))


@dataclass(frozen=True)
class Fate:
    """What became of one questionnaire by the horizon; microseconds since it was accepted, None while it has not
    happened.
    """

    accepted_at: int
    committed_after: int | None
    marked_after: int | None
    hops: int | None


@dataclass(frozen=True)
class Lived:
    """What came of one district, one seed and one policy."""

    plan: Plan
    fates: tuple[Fate, ...]
    passed: Passed
    foreign_bytes_max: int
    """The most that a tablet held for others at any time."""
    heal_days: int | None
    trace: str
    events: int
    cpu_seconds: float = field(compare=False)

    @property
    def transfers_each(self) -> float:
        """Return how many copies of a questionnaire were sent from device to device."""
        return self.passed.envelopes / len(self.fates)

    @property
    def bytes_each(self) -> float:
        """Return how many bytes went over the air for each questionnaire."""
        return self.passed.bytes / len(self.fates)

    @property
    def delivered(self) -> float:
        """Return the share that is committed at the horizon."""
        return _share_committed(self.fates)

    @property
    def old_delivered(self) -> float:
        """Return the same of those that are not young any more."""
        horizon = self.plan.district.days * DAY
        return _share_committed(tuple(fate for fate in self.fates if horizon - fate.accepted_at > YOUNG))

    @property
    def hops(self) -> float:
        """Return how often a questionnaire was handed on before it came to the center, in the mean."""
        known = [fate.hops for fate in self.fates if fate.hops is not None]
        return sum(known) / len(known) if known else 0.0

    def delay(self, share: float, *, of: Callable[[Fate], int | None]) -> tuple[float, bool]:
        """Return within how many days this share of the first half's questionnaires got there, and whether it is
        more: each is watched for half of the days, and what took longer counts as that.
        """
        half = self.plan.district.days * DAY // 2
        delays = sorted(min(half, after) if (after := of(fate)) is not None else half for fate in self.fates
                        if fate.accepted_at < half)  # fmt: skip
        delay = delays[min(len(delays) - 1, int(share * len(delays)))]
        return delay / DAY, delay >= half


def _share_committed(fates: tuple[Fate, ...]) -> float:
    return sum(fate.committed_after is not None for fate in fates) / len(fates) if fates else 1.0


class _DistrictWorld(World):
    """A world that carries out a plan and keeps count."""

    def __init__(self, plan: Plan, folder: Path, settings: EngineSettings) -> None:
        self.marked_at: dict[tuple[str, int], int] = {}
        self.foreign: Counter[str] = Counter()
        self.foreign_max: Counter[str] = Counter()
        self.passed = Passed()
        self.accepted_at: dict[tuple[str, str], int] = {}
        super().__init__(plan.seed, folder, settings=settings)
        self.hops = _Hops()
        self.broker.taken = self.hops
        for name in plan.tablets:
            self.add_device(name)
        for name in plan.laptops:
            self.add_device(name, Role.COLLECTION_POINT)
        for at, name in plan.questionnaires:
            self.clockwork.at(START + at, name, "interview", partial(self._interview, self.residents[name]))
        for tunnel in plan.tunnels:
            resident = self.residents[tunnel.who]
            self.clockwork.at(START + tunnel.begins, tunnel.who, "VPN up", resident.uplink.open)
            self.clockwork.at(START + tunnel.ends, tunnel.who, "VPN down", resident.uplink.shut)
        for met in plan.encounters:
            self.clockwork.at(START + met.begins, met.one, "meeting", partial(self._encounter, met))
        for day in range(plan.district.days):
            self.clockwork.at(START + day * DAY + BACKUP_AT, "database", "backup", self._back_up)

    def _interview(self, resident: Resident) -> None:
        instance_id = self.submit(resident)
        self.accepted_at[resident.device.name, instance_id] = self.clockwork.now

    def _encounter(self, met: Encounter) -> None:
        one, other = (_party(self.residents[name]) for name in (met.one, met.other))
        stream = self.stream(f"meeting {met.one}/{met.other}")
        meeting = _MeteredMeeting(one, other, self.clockwork, self.faults, stream)
        meeting.passed = self.passed
        self.meetings = [*(before for before in self.meetings if before.is_up), meeting]
        self.passed.meetings += 1
        meeting.begin()
        self.clockwork.after(met.ends - met.begins, met.one, "part", meeting.end)

    def _back_up(self) -> None:
        self.database.back_up()
        self.center.look_for_wants()

    def tell(self, node: str, what: str, fields: Mapping[str, object]) -> None:
        """Count what the devices say."""
        super().tell(node, what, fields)
        match what, fields:
            case "custody_taken", {"envelopes": int(taken)}:
                self.foreign[node] += taken
                self.foreign_max[node] = max(self.foreign_max[node], self.foreign[node])
            case "custody_ended", {"envelopes": int(ended)}:
                self.foreign[node] -= ended
            case "committed", {"sequence": int(first), "last_sequence": int(last)}:
                for sequence in range(first, last + 1):
                    self.marked_at.setdefault((node, sequence), self.clockwork.now)


class _MeteredMeeting(Meeting):
    """A meeting with a meter at both ends."""

    passed: Passed

    def begin(self) -> None:
        links = [end.link() for end in self.ends]
        for end, link in zip(self.ends, links, strict=True):
            if link is None:
                self.end()
                return
            end.device.link_up(link, _Metered(end, self.passed))


def _party(resident: Resident) -> Party:
    return Party(
        resident.device, resident.role is Role.COLLECTION_POINT, reaches_center=lambda: resident.uplink.is_connected
    )


def live_district(plan: Plan, shares: Shares, *, drain: bool = True, settings: EngineSettings | None = None) -> Lived:
    """Live a plan with a policy up to its horizon, then let everything drain and balance; raises Violation.

    Without `drain` the oracle watches up to the horizon only.
    """
    quiet()
    began = time.process_time()
    # What an idle device does every hour besides, to look whether receipts stay away, changes nothing here.
    settings = replace(settings or EngineSettings(), shares=shares, receipt_silence_check_interval=DAY)
    with ExitStack() as stack:
        world = _DistrictWorld(plan, Path(stack.enter_context(memory_folder())), settings)
        stack.enter_context(world)
        world.run(plan.district.days * DAY)
        fates, passed = tuple(_fates(world)), replace(world.passed)
        foreign = max((world.foreign_max[name] for name in plan.tablets), default=0)
        trace, events = world.clockwork.trace(), world.clockwork.events
        heal_days = heal(world) if drain else None
        return Lived(
            plan=plan,
            fates=fates,
            passed=passed,
            foreign_bytes_max=foreign * world.hops.envelope_bytes_max,
            heal_days=heal_days,
            trace=trace,
            events=events,
            cpu_seconds=time.process_time() - began,
        )


def _fates(world: _DistrictWorld) -> Iterator[Fate]:
    truth = world.oracle
    for (name, instance_id), accepted_at in world.accepted_at.items():
        origin = world.residents[name].device.id
        (envelope_id,) = truth.accepted[origin, instance_id].ids
        placed = truth.database.get(envelope_id)
        marked_at = None if placed is None else world.marked_at.get((name, placed.sequence))
        yield Fate(
            accepted_at=accepted_at - START,
            committed_after=None if placed is None else placed.committed_at - accepted_at,
            marked_after=None if marked_at is None else marked_at - accepted_at,
            hops=None if placed is None else world.hops.of[envelope_id],
        )
