"""The language of directed scenarios: a dozen lines that read as a story, told to a world without chance faults.

    with Story() as story:
        story.enrols("Aigul", "Bolat")
        story.fills("Aigul", 3)
        story.opens_vpn("Aigul")
        story.strikes("Aigul", Fault.CUT_BEFORE_COMMIT)
        story.passes(hours=1)
        story.ends_well()

The oracle looks on after every event, as in every other life. `ends_well` lets everything work and balances the
accounts.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from central_broker.storage.batch_records import HeldReason
from central_broker.storage.inquiry_records import Completeness, Fork
from sync_protocol import topics
from sync_protocol.identity import Role, Standing
from tests.simulator.broker import BrokerTroubles
from tests.simulator.center import CenterTroubles
from tests.simulator.clockwork import DAY, HOUR, MINUTE
from tests.simulator.ending import heal
from tests.simulator.faults import Fault
from tests.simulator.run import quiet
from tests.simulator.sticks import Content, MediumTroubles, Stick
from tests.simulator.watch import Row
from tests.simulator.world import FORM, NEW_FORM, Image, Resident, World
from tests.support.device import memory_folder


class Story:
    """One world and what is told to happen in it. People's names are devices' names."""

    def __init__(self, *, seed: int = 0, real_keys: bool = False) -> None:
        quiet()
        self._stack = ExitStack()
        folder = self._stack.enter_context(memory_folder())
        self.world = self._stack.enter_context(World(seed, folder, real_keys=real_keys, storied=True))
        self._planned: dict[str, list[tuple[int, Fault]]] = {}
        self._steps: dict[str, int] = {}
        self._first_told: dict[str, dict[str, int]] = {}
        self._images: dict[str, Image] = {}
        self._sticks: dict[str, Content] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note("The story so far:\n" + "\n".join(self.world.story or ()))
        self.close()

    def close(self) -> None:
        self._stack.close()

    def _resident(self, name: str) -> Resident:
        return self.world.residents[name]

    # Who there is.

    def enrols(self, *names: str, laptop: bool = False) -> None:
        for name in names:
            resident = self.world.add_device(name, Role.COLLECTION_POINT if laptop else Role.TABLET)
            self._watch_steps(resident)

    def _watch_steps(self, resident: Resident) -> None:
        name = resident.device.name
        self._steps[name] = 0
        self._first_told[name] = {}
        resident.device.faults_of_step = lambda _device: self._fault_of(name)

    def _fault_of(self, name: str) -> Fault | None:
        self._steps[name] += 1
        for notice in self._resident(name).device.notices:
            self._first_told[name].setdefault(notice, self._steps[name] - 1)
        for index, (step, fault) in enumerate(self._planned.get(name, [])):
            if step == self._steps[name]:
                del self._planned[name][index]
                self.world.faults.note(name, fault, self.world.states(self._resident(name)))
                return fault
        return None

    def steps(self, name: str) -> int:
        """How many steps the device's engine has made."""
        return self._steps[name]

    def step_that_told(self, name: str, notice: str) -> int:
        """Which step of a device, counted from 1, was the first to tell something; 0 when the last one or none did."""
        return self._first_told[name].get(notice, 0)

    # What people do.

    def fills(self, name: str, count: int = 1, *, unknown_form: bool = False, body: bytes | None = None) -> None:
        for _ in range(count):
            self.world.submit(self._resident(name), form=NEW_FORM if unknown_form else FORM, body=body)

    def opens_vpn(self, *names: str) -> None:
        for name in names:
            self._resident(name).uplink.open()

    def shuts_vpn(self, *names: str) -> None:
        for name in names:
            self._resident(name).uplink.shut()

    def passes(self, *, days: float = 0, hours: float = 0, minutes: float = 0) -> None:
        self.world.run(int(days * DAY + hours * HOUR + minutes * MINUTE))

    def is_up(self, name: str) -> bool:
        return self._resident(name).device.is_up

    def are_different(self, one: str, other: str) -> bool:
        """Whether two devices have names of their own: a clone has that of the first."""
        return self._resident(one).device.id != self._resident(other).device.id

    def waits_for(self, *names: str) -> None:
        """Let a minute pass, and more until these devices are on."""
        self.passes(minutes=1)
        while not all(self._resident(name).device.is_up for name in names):
            self.passes(minutes=1)

    def carries(self, stick: str, *names: str, minutes: float = 60, pulled: bool = False) -> None:
        """Take a stick from one device to the next, so long at each; or pull it out whatever is being written."""
        for name in names:
            visit = self.world.plug_in(self._stick(stick), self._resident(name))
            if visit is None:
                raise ValueError(f"{name} cannot take {stick} now")
            self.world.run(int(minutes * MINUTE))
            visit.end(pulled=pulled)
            self.world.run(MINUTE)

    def _stick(self, name: str) -> Stick:
        return self.world.sticks[name] if name in self.world.sticks else self.world.add_stick(name)

    def copies_stick(self, stick: str) -> None:
        self._sticks[stick] = self.world.sticks[stick].copy()

    def swaps_stick_for_its_copy(self, stick: str) -> None:
        self.world.twin_stick(self.world.sticks[stick], self._sticks[stick])

    def calls_in_stick(self, stick: str) -> None:
        self.world.give_stick_standing(self._stick(stick), Standing.LOST)

    def gives_stick_back(self, stick: str) -> None:
        self.world.give_stick_standing(self._stick(stick), Standing.ACTIVE)

    def loses_stick(self, stick: str) -> None:
        self.world.faults.note(stick, Fault.STICK_LOST)
        self.world.sticks[stick].put_back()

    def meet(self, one: str, other: str, *, minutes: float = 30) -> None:
        meeting = self.world.meet(self._resident(one), self._resident(other))
        if meeting is None:
            raise ValueError(f"{one} and {other} cannot meet now")
        self.world.run(int(minutes * MINUTE))
        meeting.end()
        self.world.run(MINUTE)

    # What goes wrong.

    def strikes(self, name: str, fault: Fault, *, step: int = 1) -> None:
        """Let a fault strike a device at its next step, or the one after so many; or one that is yet to be enrolled."""
        self._planned.setdefault(name, []).append((self._steps.get(name, 0) + step, fault))

    def kills(self, name: str) -> None:
        self.world.kill(self._resident(name))

    def cuts_power(self, name: str, *, for_minutes: float = 1) -> None:
        self.world.cut_power(self._resident(name), boot_after=int(for_minutes * MINUTE))

    def fills_disk(self, name: str) -> None:
        self.world.fill_disk(self._resident(name), full=True)

    def frees_disk(self, name: str) -> None:
        self.world.fill_disk(self._resident(name), full=False)

    def sets_clock(self, name: str, *, days: float) -> None:
        """Let a device's clock be so many days off from now on; raises ValueError before 1970, where clocks end."""
        if self.world.clockwork.now + days * DAY < 0:
            raise ValueError("a clock before 1970 would stand still")
        self.world.jump_clock(self._resident(name), int(days * DAY))

    def damages_stick(self, stick: str, **rates: float) -> None:
        """Let files on a stick be damaged at these rates from now on, and by nothing else."""
        self._stick(stick).troubles = MediumTroubles(**rates)

    def gets_receipt_again(self, name: str, *, of: str, number: int = 0) -> None:
        """Let a receipt that the center has published come in (again): the first of them, or the one so much later."""
        fault = Fault.RECEIPT_STALE if of == name else Fault.RECEIPT_FOREIGN
        self.world.faults.note(name, fault, self.world.states(self._resident(name)))
        topic = topics.receipts_topic(self._resident(of).device.id)
        published = [payload for where, payload in self.world.broker.delivered if where == topic]
        self.world.deliver(self._resident(name), published[number])

    def gets_own_bundle_back(self, name: str, *, number: int = -1) -> None:
        """Let a bundle that reached the broker from this device come back to it: the last of them, or another."""
        topic = topics.up_topic(self._resident(name).device.id)
        taken = [payload for where, payload in self.world.broker.taken if where == topic]
        self.world.deliver(self._resident(name), taken[number])

    def gets_forged_receipt(self, name: str) -> None:
        """Let a receipt come in that says that everything is committed and backed up, of a key nobody certified."""
        resident = self._resident(name)
        self.world.faults.note(name, Fault.RECEIPT_FORGED, self.world.states(resident))
        self.world.deliver(resident, self.world.forged_receipt(resident))

    def forges(self, name: str, *, sender: str) -> None:
        """Let one device say in another's name that its chain goes on, to the center and to everyone with a link."""
        victim = self._resident(name)
        self.world.faults.note(name, Fault.ENVELOPE_FORGED, self.world.states(victim))
        self.world.spread(self.world.forged_bundle(victim), self._resident(sender))

    def loses_mirror(self, name: str) -> None:
        """End the process, and take its mirror file away before it starts again."""
        device = self._resident(name).device
        device.end(power=False)
        device.disk.remove_mirror()

    def images(self, name: str) -> None:
        """Copy the files of a device, to put back or to clone later."""
        self._images[name] = self.world.take_image(self._resident(name))

    def rolls_back_queue(self, name: str) -> None:
        """Put the queue back to the copy, and leave the mirror."""
        self.world.roll_back(self._resident(name), self._images[name], keep_mirror=True)
        self.world.run(2 * MINUTE)

    def rolls_back(self, name: str) -> None:
        """Put the whole device back to the copy."""
        self.world.roll_back(self._resident(name), self._images[name], keep_mirror=False)
        self.world.run(2 * MINUTE)

    def clones(self, name: str, twin: str) -> None:
        """Let a second device live from the copy."""
        resident = self.world.clone(self._resident(name), self._images[name])
        self.world.residents[twin] = self.world.residents.pop(resident.device.name)
        self._watch_steps(resident)
        self._steps[twin] = self._steps.pop(resident.device.name)
        self._first_told[twin] = self._first_told.pop(resident.device.name)
        resident.device.faults_of_step = lambda _device: self._fault_of(twin)

    def destroys(self, name: str) -> None:
        self.world.destroy(self._resident(name))

    # The center.

    def backs_up(self, *, recorded: bool = True) -> None:
        self.world.database.back_up(recorded=recorded)
        self.world.center.look_for_wants()
        self.world.run(MINUTE)

    def restores(self, *, later: bool = False, backups_ago: int = 0) -> None:
        """Put the newest backup back, or one that was made but not recorded, or an older one than the newest."""
        if not self.world.center.restore(later=later, backups_ago=backups_ago):
            raise ValueError("there is no backup yet")
        self.world.faults.note("database", Fault.CENTER_RESTORED)

    def forgets_session(self, name: str) -> None:
        """Let the broker forget that it knows this device."""
        self.world.broker.forget_session(self._resident(name).device.id)

    def crashes_broker(self, *, down_for_minutes: float = 1) -> None:
        self.world.faults.note("broker", Fault.BROKER_CRASH)
        self.world.broker.crash(int(down_for_minutes * MINUTE))

    def stops_database(self) -> None:
        self.world.faults.note("database", Fault.DATABASE_DOWN)
        self.world.database.is_down = True

    def starts_database(self) -> None:
        self.world.database.is_down = False

    def troubles_broker(self, **rates: float) -> None:
        """Let the broker and the way to it have these troubles from now on, and no others."""
        self.world.broker.troubles = BrokerTroubles(**rates)

    def troubles_center(self, **rates: float) -> None:
        """Let the center's processes have these troubles from now on, and no others."""
        self.world.center.troubles = CenterTroubles(**rates)

    def rotates_recipient_key(self) -> None:
        self.world.faults.note("operator", Fault.RECIPIENT_KEY_ROTATED)
        self.world.center.rotate_recipient_key()

    def rotates_receipt_key(self) -> None:
        self.world.faults.note("operator", Fault.RECEIPT_KEY_ROTATED)
        self.world.center.rotate_receipt_key()

    def allows_new_form(self) -> None:
        self.world.center.allow_form(NEW_FORM)

    def gives_standing(self, name: str, standing: Standing) -> None:
        self.world.give_standing(self._resident(name), standing)

    def retries_held(self) -> None:
        self.world.center.retry_held()

    # What must be seen.

    def database_has(self, count: int) -> None:
        """Expect so many questionnaires in the census database."""
        found = len(self.world.oracle.questionnaires)
        if found != count:
            raise AssertionError(f"the database has {found} questionnaires, not {count}")

    def own(self, name: str) -> list[Row]:
        """The device's own envelopes by place."""
        rows = self.world.oracle.queues[self._resident(name).device.name].rows.values()
        return sorted((row for row in rows if row.own), key=lambda row: (row.epoch, row.sequence))

    def carried(self, name: str) -> list[Row]:
        """Others' envelopes that a device carries."""
        rows = self.world.oracle.queues[self._resident(name).device.name].rows.values()
        return [row for row in rows if not row.own and row.has_data]

    def marked(self, name: str) -> int:
        """How many of the device's own envelopes have a sync mark."""
        return sum(row.status is not None for row in self.own(name))

    def purged(self, name: str) -> int:
        return sum(not row.has_data for row in self.own(name))

    def held(self) -> Counter[HeldReason]:
        """What the center holds, by reason."""
        return Counter(self.world.database.inner.held_counts())

    def forks(self) -> list[Fork]:
        """What the center lists as forks."""
        return self.world.database.inner.forks()

    def completeness(self, name: str) -> list[Completeness]:
        """What the center can say of a device's chain, by epoch."""
        return self.world.database.inner.completeness(self._resident(name).device.id)

    def missing(self, name: str) -> list[tuple[int, int, int]]:
        """What the center names as missing of a device: epoch, first sequence, last sequence."""
        return [(one.epoch, *run) for one in self.completeness(name) for run in one.missing]

    def told(self, name: str, notice: str) -> int:
        """How often a device has told something in its journal."""
        return self._resident(name).device.notices[notice]

    def ends_well(self) -> None:
        """Let everything work from now on, and balance the accounts; raises Violation."""
        self._planned.clear()
        heal(self.world)
