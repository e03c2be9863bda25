"""A random life: what people, links and faults do to a world, day by day, each drawn from its own node's stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from sync_protocol.identity import Role, Standing
from sync_protocol.limits import PART_BYTES_MAX
from tests.simulator.clockwork import DAY, HOUR, MINUTE
from tests.simulator.faults import Fault
from tests.simulator.mixes import Mix
from tests.simulator.sticks import Stick
from tests.simulator.world import FORM, NEW_FORM, Resident, World

_CLOCKS = (0, -56 * 365 * DAY, 11 * 365 * DAY, -3 * DAY, 5 * DAY, -HOUR)
"""How wrong a clock may be: a dead battery says 1970, a careless hand 2037."""


_RESIDENTS_MAX = 8


class Life:
    """Lets a world live by a mix."""

    def __init__(self, world: World, mix: Mix) -> None:
        self.world = world
        self.mix = mix
        world.broker.troubles = mix.broker
        world.center.troubles = mix.center
        self._linked: set[str] = set()
        for number in range(1, mix.tablets + 1):
            self._arrive(f"tablet-{number}", Role.TABLET)
        for number in range(1, mix.laptops + 1):
            self._arrive(f"laptop-{number}", Role.COLLECTION_POINT)
        for number in range(1, mix.sticks + 1):
            world.add_stick(f"stick-{number}").troubles = mix.medium

    def _arrive(self, name: str, role: Role) -> None:
        resident = self.world.add_device(name, role)
        resident.step_fault_rate = self.mix.step_faults
        if role is Role.COLLECTION_POINT or self._stream(name, "linked").random() < self.mix.linked:
            self._linked.add(name)

    def _stream(self, node: str, purpose: str) -> Random:
        """Return a stream. What is drawn when plans are carried out ("deeds") depends on what others have done
        meanwhile; so it must come from another stream than the plans ("day").
        """
        return self.world.stream(f"{purpose} of {node}")

    def run(self) -> None:
        """Live all days of the mix."""
        for _ in range(self.mix.days):
            for name in list(self.world.residents):
                self._plan_device(self.world.residents[name])
            self._plan_center()
            for stick in self.world.sticks.values():
                self._plan_stick(stick)
            self._plan_meetings()
            self.world.run(DAY)

    def _sometime(self, random: Random, node: str, what: str, action: Callable[[], None]) -> None:
        """Let something happen at a random time of the coming day."""
        self._after(int(random.random() * DAY), node, what, action)

    def _after(self, delay: int, node: str, what: str, action: Callable[[], None]) -> None:
        """Let something happen later, unless life is over by then."""
        self.world.clockwork.after(delay, node, what, lambda: None if self.world.faults.stopped else action())

    # Devices.

    def _plan_device(self, resident: Resident) -> None:
        name = resident.device.name
        if resident.device.is_gone:
            return
        random = self._stream(name, "day")
        if resident.role is Role.TABLET:
            self._plan_questionnaires(resident, random)
        self._plan_link(resident, random)
        self._plan_failures(resident, random)
        self._plan_fate(resident, random)

    def _plan_questionnaires(self, resident: Resident, random: Random) -> None:
        deeds = self._stream(resident.device.name, "deeds")
        wanted = random.expovariate(1 / self.mix.questionnaires)
        for _ in range(min(20, round(wanted))):
            self._sometime(random, resident.device.name, "interview", lambda: self._interview(resident, deeds))

    def _interview(self, resident: Resident, random: Random) -> None:
        if resident.device.is_gone:
            return
        name = resident.device.name
        strange = self.world.faults.strikes(name, Fault.FORM_UNKNOWN, self.mix.unknown_forms)
        body = None
        if random.random() < self.mix.parts:
            body = random.randbytes(PART_BYTES_MAX + random.randrange(PART_BYTES_MAX))
            body = b'{"photograph":"' + body.hex()[: len(body)].encode() + b'"}'
        self.world.submit(resident, body=body, form=NEW_FORM if strange else FORM)

    def _plan_link(self, resident: Resident, random: Random) -> None:
        if resident.device.name not in self._linked:
            return
        # Twins that are connected at once push each other out every minute, which shows nothing new all day long.
        is_twin = resident.device.id in self.world.oracle.twins
        for _ in range(random.choice((0, 0, 1, 1) if is_twin else (0, 1, 1, 2, 4))):
            begins = int(random.random() * DAY)
            lasts = int(random.expovariate(1 / (HOUR // 4 if is_twin else 2 * HOUR)))
            self._after(begins, resident.device.name, "VPN up", resident.uplink.open)
            self._after(begins + lasts, resident.device.name, "VPN down", resident.uplink.shut)

    def _plan_failures(self, resident: Resident, random: Random) -> None:
        world, mix, name = self.world, self.mix, resident.device.name
        if random.random() < mix.kills:
            self._sometime(random, name, "kill", lambda: world.kill(resident))
        if random.random() < mix.power_cuts:
            off = int(random.random() * 10 * HOUR)
            self._sometime(random, name, "power cut", lambda: world.cut_power(resident, boot_after=off))
        if random.random() < mix.disk_full:
            begins, lasts = int(random.random() * DAY), int(random.random() * 20 * HOUR)
            self._after(begins, name, "disk full", lambda: world.fill_disk(resident, full=True))
            self._after(begins + lasts, name, "disk freed", lambda: world.fill_disk(resident, full=False))
        if random.random() < mix.clock_jumps:
            offset = random.choice(_CLOCKS)
            self._sometime(random, name, "clock jumps", lambda: world.jump_clock(resident, offset))
        deeds = self._stream(name, "deeds")
        while random.random() < mix.hostile / (1 + mix.hostile):
            self._sometime(random, name, "strange post", lambda: self._strange_post(resident, deeds))

    def _plan_fate(self, resident: Resident, random: Random) -> None:
        world, mix, name = self.world, self.mix, resident.device.name
        deeds = self._stream(name, "deeds")
        if random.random() < mix.images:
            self._sometime(random, name, "image taken", lambda: self._image(resident))
        if resident.images and random.random() < mix.queue_rollbacks:
            self._sometime(random, name, "queue rolled back", lambda: self._roll_back(resident, deeds, whole=False))
        if resident.images and random.random() < mix.tablet_rollbacks:
            self._sometime(random, name, "rolled back", lambda: self._roll_back(resident, deeds, whole=True))
        if resident.images and random.random() < mix.clones and len(world.residents) < _RESIDENTS_MAX:
            self._sometime(random, name, "cloned", lambda: self._clone(resident, deeds))
        if random.random() < mix.destroyed:
            self._sometime(random, name, "destroyed", lambda: self._destroy(resident))
        if random.random() < mix.stolen:
            self._sometime(random, name, "stolen", lambda: self._steal(resident, deeds))
        if random.random() < mix.revoked:
            self._sometime(random, name, "revoked", lambda: self._revoke(resident, deeds))
        if random.random() < mix.replaced and len(world.residents) < _RESIDENTS_MAX:
            self._sometime(random, name, "replaced", lambda: self._replace(resident))

    def _image(self, resident: Resident) -> None:
        if not resident.device.is_gone:
            self.world.take_image(resident)

    def _roll_back(self, resident: Resident, random: Random, *, whole: bool) -> None:
        if not resident.device.is_gone:
            self.world.roll_back(resident, random.choice(resident.images), keep_mirror=not whole)

    def _clone(self, resident: Resident, random: Random) -> None:
        if not resident.device.is_gone:
            twin = self.world.clone(resident, random.choice(resident.images))
            twin.step_fault_rate = self.mix.step_faults
            self._linked.add(twin.device.name)

    def _destroy(self, resident: Resident) -> None:
        if not resident.device.is_gone:
            self.world.destroy(resident)

    def _steal(self, resident: Resident, random: Random) -> None:
        """A thief has it; the operator hears of it, and days later it may be on the network again."""
        world, name = self.world, resident.device.name
        if resident.device.is_gone:
            return
        world.faults.note(name, Fault.TABLET_STOLEN, world.states(resident))
        resident.uplink.shut()
        self._linked.discard(name)
        self._after(
            int(random.random() * DAY), "operator", "loss told", lambda: world.give_standing(resident, Standing.LOST)
        )
        if random.random() < 0.5:
            delay = int(random.random() * 5 * DAY)
            self._after(delay, name, "found", lambda: self._reinstate(resident))
        else:
            self._after(int(random.random() * 10 * DAY), name, "VPN up", resident.uplink.open)

    def _reinstate(self, resident: Resident) -> None:
        self.world.faults.note(resident.device.name, Fault.REINSTATED, self.world.states(resident))
        self.world.give_standing(resident, Standing.ACTIVE)
        self._linked.add(resident.device.name)
        self._retry()

    def _revoke(self, resident: Resident, random: Random) -> None:
        world = self.world
        world.faults.note(resident.device.name, Fault.REVOKED, world.states(resident))
        world.give_standing(resident, random.choice((Standing.REVOKED, Standing.RETURNED)))

    def _replace(self, resident: Resident) -> None:
        """The person gets another tablet; the old one is returned with what is still on it."""
        world = self.world
        if resident.device.is_gone:
            return
        world.faults.note(resident.device.name, Fault.REPLACED, world.states(resident))
        world.give_standing(resident, Standing.RETURNED)
        self._arrive(f"{resident.device.name}-new{len(world.residents)}", resident.role)

    def _strange_post(self, resident: Resident, random: Random) -> None:
        """Play an old receipt back, or another's, or a forged or damaged one; or forge what a device would say."""
        world, name = self.world, resident.device.name
        kind = random.choice((Fault.RECEIPT_STALE, Fault.RECEIPT_FOREIGN, Fault.RECEIPT_FORGED, Fault.ENVELOPE_FORGED))
        if kind is Fault.ENVELOPE_FORGED:
            world.faults.note(name, kind, world.states(resident))
            world.spread(world.forged_bundle(resident), random.choice(list(world.residents.values())))
            return
        payload: bytes | None = None
        if kind is Fault.RECEIPT_FORGED and resident.device.is_up:
            payload = world.forged_receipt(resident)
        elif world.broker.delivered:
            payload = random.choice(world.broker.delivered)[1]
            if kind is Fault.RECEIPT_FOREIGN:
                damaged = bytearray(payload)
                damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
                payload = bytes(damaged) if random.random() < 0.3 else payload
        connection = resident.uplink.connection
        if payload is not None and connection is not None and connection.is_up:
            world.faults.note(name, kind, world.states(resident))
            world.deliver(resident, payload)

    # The center.

    def _plan_center(self) -> None:
        mix, random = self.mix, self._stream("center", "day")
        if random.random() < mix.broker_crashes:
            down_for = int(random.random() * 6 * HOUR)
            self._sometime(random, "broker", "crash", lambda: self._crash_broker(down_for))
        if random.random() < mix.database_down:
            begins, lasts = int(random.random() * DAY), int(random.random() * 5 * HOUR)
            self._after(begins, "database", "down", lambda: self._database(is_down=True))
            self._after(begins + lasts, "database", "up", lambda: self._database(is_down=False))
        if random.random() < mix.center_clock_back:
            back = -int(random.random() * 2 * DAY)
            self._sometime(random, "database", "clock set back", lambda: self._set_center_clock(back))
        if random.random() < mix.backups:
            self._sometime(random, "database", "backup", self._back_up)
        if random.random() < mix.backups_unrecorded:
            self._sometime(random, "database", "backup unrecorded", self._back_up_unrecorded)
        if random.random() < mix.restores:
            later = random.random() < 0.3
            self._sometime(random, "database", "restore", lambda: self._restore(later=later))
        if random.random() < mix.key_rotations:
            self._sometime(random, "operator", "keys", lambda: self._rotate(self._stream("operator", "deeds")))
        if random.random() < 0.2:
            self._sometime(random, "operator", "retry", self._retry)

    def _crash_broker(self, down_for: int) -> None:
        if self.world.broker.is_up:
            self.world.faults.note("broker", Fault.BROKER_CRASH)
            self.world.broker.crash(down_for)

    def _database(self, *, is_down: bool) -> None:
        if is_down:
            self.world.faults.note("database", Fault.DATABASE_DOWN)
        self.world.database.is_down = is_down

    def _set_center_clock(self, back: int) -> None:
        self.world.faults.note("database", Fault.CENTER_CLOCK_BACK)
        self.world.database.clock_offset = back

    def _back_up(self) -> None:
        if not self.world.database.is_down:
            self.world.database.back_up()
            self.world.center.look_for_wants()

    def _back_up_unrecorded(self) -> None:
        if not self.world.database.is_down:
            self.world.faults.note("database", Fault.BACKUP_UNRECORDED)
            self.world.database.back_up(recorded=False)

    def _restore(self, *, later: bool) -> None:
        if not self.world.database.is_down and self.world.center.restore(later=later):
            self.world.faults.note("database", Fault.CENTER_RESTORED)

    def _rotate(self, random: Random) -> None:
        if random.random() < 0.5:
            self.world.faults.note("operator", Fault.RECIPIENT_KEY_ROTATED)
            self.world.center.rotate_recipient_key()
        else:
            self.world.faults.note("operator", Fault.RECEIPT_KEY_ROTATED)
            self.world.center.rotate_receipt_key()

    def _retry(self) -> None:
        if not self.world.database.is_down:
            self.world.center.retry_held()

    # Sticks and neighbours.

    def _plan_stick(self, stick: Stick) -> None:
        random, deeds = self._stream(stick.name, "day"), self._stream(stick.name, "deeds")
        if random.random() < self.mix.trips:
            begins = int(random.random() * DAY)
            stops = random.randrange(2, 5)
            for stop in range(stops):
                self._after(begins + stop * HOUR, stick.name, "stop", lambda: self._stop_at_somebody(stick, deeds))
        if random.random() < self.mix.twins:
            copied = stick.copy()
            self._sometime(random, stick.name, "twin", lambda: self.world.twin_stick(stick, copied))
        if random.random() < self.mix.sticks_lost:
            self._sometime(random, stick.name, "lost", lambda: self._lose(stick))
        if random.random() < self.mix.sticks_called_in:
            self._sometime(random, "operator", "calls in", lambda: self._call_in(stick, deeds))

    def _stop_at_somebody(self, stick: Stick, random: Random) -> None:
        residents = [one for one in self.world.residents.values() if not one.device.is_gone]
        if not residents:
            return
        visit = self.world.plug_in(stick, random.choice(residents))
        if visit is None:
            return
        if random.random() < self.mix.pulled:
            lasts, pulled = int(random.random() * 10 * MINUTE // 100), True
        else:
            lasts, pulled = 20 * MINUTE, False
        self._after(lasts, stick.name, "taken out", lambda: visit.end(pulled=pulled))

    def _call_in(self, stick: Stick, random: Random) -> None:
        if self.world.database.is_down:
            return
        self.world.give_stick_standing(stick, random.choice((Standing.LOST, Standing.REVOKED, Standing.RETURNED)))
        if random.random() < 0.5:
            delay = int(random.random() * 3 * DAY)
            self._after(delay, "operator", "gives back", lambda: self._give_back(stick))

    def _give_back(self, stick: Stick) -> None:
        if not self.world.database.is_down:
            self.world.give_stick_standing(stick, Standing.ACTIVE)

    def _lose(self, stick: Stick) -> None:
        if stick.visit is None:
            self.world.faults.note(stick.name, Fault.STICK_LOST)
            stick.put_back()

    def _plan_meetings(self) -> None:
        if self.mix.meetings == 0:
            return
        names = sorted(self.world.residents)
        for index, one in enumerate(names):
            for other in names[index + 1 :]:
                random = self._stream(f"{one}/{other}", "day")
                if random.random() < self.mix.meetings:
                    lasts = int(random.expovariate(1 / HOUR))
                    self._sometime(random, one, "meeting", partial(self._meet, one, other, lasts))

    def _meet(self, one: str, other: str, lasts: int) -> None:
        meeting = self.world.meet(self.world.residents[one], self.world.residents[other])
        if meeting is not None:
            self._after(lasts, one, "part", meeting.end)
