"""The end of every simulated life: nothing fails any more, everything works, and the accounts must balance."""

from __future__ import annotations

from sync_protocol.identity import Role
from tests.simulator.balance import balance
from tests.simulator.clockwork import DAY, HOUR
from tests.simulator.oracle import Violation
from tests.simulator.sticks import Stick
from tests.simulator.world import NEW_FORM, Resident, World

HEAL_DAYS_MAX = 30


def heal(world: World) -> int:
    """Stop every fault, let everything work, and return how many days it took until the accounts balanced.

    Raises Violation when they do not after HEAL_DAYS_MAX.
    """
    world.tell("world", "nothing fails any more", {})
    world.faults.stopped = True
    world.database.is_down = False
    if not world.broker.is_up:
        world.broker.start()
    world.center.allow_form(NEW_FORM)
    for resident in world.residents.values():
        resident.device.disk.fill(full=False)
    for stick in world.sticks.values():
        if stick.visit is not None:
            stick.visit.end()
    for meeting in world.meetings:
        meeting.end()
    collection_point = world.add_device("department", Role.COLLECTION_POINT) if world.sticks else None
    for day in range(1, HEAL_DAYS_MAX + 1):
        for stick in world.sticks.values():
            if collection_point is not None:
                _read_out(world, stick, collection_point)
        _let_work(world, DAY // 2)
        world.center.retry_held()
        world.database.back_up()
        world.center.look_for_wants()
        _let_work(world, DAY // 2)
        try:
            judge(world)
        except Violation as violation:
            if violation.invariant not in ("I6", "I4") or day == HEAL_DAYS_MAX:
                raise
        else:
            return day
    raise AssertionError("the last day raises")


def _let_work(world: World, duration: int) -> None:
    """Let everyone have a VPN; those who share a name, one after the other, or they would push each other out."""
    by_id: dict[bytes, list[Resident]] = {}
    for resident in world.residents.values():
        by_id.setdefault(resident.device.id, []).append(resident)
    turns = max(len(twins) for twins in by_id.values())
    for turn in range(turns):
        for twins in by_id.values():
            for number, resident in enumerate(twins):
                if number == turn % len(twins):
                    resident.uplink.open()
                else:
                    resident.uplink.shut()
        world.run(duration // turns)


def _read_out(world: World, stick: Stick, resident: Resident) -> None:
    visit = world.plug_in(stick, resident)
    if visit is not None:
        world.run(2 * HOUR)
        visit.end()


def judge(world: World) -> None:
    """Check the whole balance as it should be once everything has drained; raises Violation."""
    active = {device for device in world.authority.issued if world.is_active(device)}
    for resident in world.residents.values():
        if resident.device.waiting and not resident.device.is_gone:
            raise Violation("I6", f"{resident.device.name} does not accept what was filled in")
    forks = {(one.origin, one.epoch, one.sequence): one.ids for one in world.database.inner.forks()}
    balance(world.oracle, forks=forks, completeness=world.database.inner.completeness(), active=active)
    if world.database.wants():
        raise Violation("I6", "origins still wait for receipts")
