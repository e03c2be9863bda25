"""One national month: 21,000 tablets for 30 days, with the troubles of ordinary days, in one run.

The country is lived region by region, several at once on as many cores. Each region has its own consumers and its own
partition of the census database, which is how a center divides its load (DESIGN §10: partitions by origin).
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edge_agent.engine.settings import EngineSettings
from tests.simulator.balance import LOST
from tests.simulator.clockwork import DAY, HOUR
from tests.simulator.ending import heal
from tests.simulator.faults import Fault
from tests.simulator.run import quiet
from tests.simulator.world import Resident, World
from tests.support.device import memory_folder

TABLETS = 21_000
REGIONS = 42
DAYS = 30
BACKUP_EVERY_DAYS = 3


@dataclass(frozen=True)
class Month:
    """How large the country is and how much it works."""

    tablets: int = TABLETS
    regions: int = REGIONS
    days: int = DAYS
    questionnaires: float = 1
    """Mean number for each tablet and day; a real month has 9.5."""


@dataclass(frozen=True)
class Region:
    """What came of one region, or of all of them together."""

    tablets: int
    device_days: float
    events: int
    accepted: int
    committed: int
    purged: int
    lost: int
    faults: int
    heal_days: int
    cpu_seconds: float
    resident_bytes: int


def live_month(month: Month, *, jobs: int, done: Callable[[Region], None] = lambda _region: None) -> dict[str, Any]:
    """Live the month; return everything summed, with wall time and memory. Raises Violation."""
    began = time.monotonic()
    regions = []
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1) as pool:
        for region in pool.imap_unordered(partial(live_region, month), range(month.regions)):
            regions.append(region)
            done(region)
        pool.close()
        pool.join()
    summed = {
        name: sum(getattr(region, name) for region in regions)
        for name in asdict(regions[0])
        if name not in ("resident_bytes", "heal_days")
    }
    return {
        **summed,
        "days": month.days,
        "regions": month.regions,
        "jobs": jobs,
        "heal_days": max(region.heal_days for region in regions),
        "resident_bytes_max": max(region.resident_bytes for region in regions),
        "wall_seconds": time.monotonic() - began,
    }


def live_region(month: Month, number: int) -> Region:
    """Live one region's month and let it drain; raises Violation."""
    quiet()
    began = time.process_time()
    tablets = month.tablets // month.regions
    # What an idle tablet does every hour it does here every few: to look whether receipts stay away, and with a link to
    # state its head. Nothing else happens in those wakes.
    settings = EngineSettings(receipt_silence_check_interval=DAY, head_interval=6 * HOUR)
    with memory_folder() as folder, World(number, Path(folder), settings=settings) as world:
        residents = [world.add_device(f"tablet-{one}") for one in range(1, tablets + 1)]
        for day in range(month.days):
            for resident in residents:
                _plan_day(world, resident, month)
            _plan_center(world, day)
            world.run(DAY)
        heal_days = heal(world)
        counts = world.oracle.counts
        return Region(
            tablets=tablets,
            device_days=tablets * (month.days + heal_days),
            events=world.clockwork.events,
            accepted=counts["accepted"],
            committed=counts["committed"],
            purged=counts["purged"],
            lost=counts[LOST],
            faults=sum(times for (_, state), times in world.faults.states.items() if state == "at all"),
            heal_days=heal_days,
            cpu_seconds=time.process_time() - began,
            resident_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )


def _plan_day(world: World, resident: Resident, month: Month) -> None:
    """Interviews by day, the link in the evening of most days, now and then a cut or a kill."""
    name = resident.device.name
    random = world.stream(f"day of {name}")
    for _ in range(round(random.expovariate(1 / month.questionnaires))):
        at = int((9 + 10 * random.random()) * HOUR)
        world.clockwork.after(at, name, "interview", partial(_interview, world, resident))
    if random.random() < 0.8:
        begins = int((18 + 2 * random.random()) * HOUR)
        world.clockwork.after(begins, name, "VPN up", resident.uplink.open)
        world.clockwork.after(begins + HOUR, name, "VPN down", resident.uplink.shut)
    if random.random() < 0.02:
        at = int(random.random() * DAY)
        world.clockwork.after(at, name, "power cut", partial(world.cut_power, resident, boot_after=HOUR))
    if random.random() < 0.02:
        world.clockwork.after(int(random.random() * DAY), name, "kill", partial(world.kill, resident))
    if random.random() < 0.001:
        world.jump_clock(resident, -50 * 365 * DAY)


def _interview(world: World, resident: Resident) -> None:
    world.submit(resident)


def _plan_center(world: World, day: int) -> None:
    random = world.stream("center's day")
    if day % BACKUP_EVERY_DAYS == BACKUP_EVERY_DAYS - 1:
        world.clockwork.after(3 * HOUR, "database", "backup", world.database.back_up)
    if random.random() < 0.1:
        world.faults.note("broker", Fault.BROKER_CRASH)
        world.clockwork.after(19 * HOUR, "broker", "crash", partial(world.broker.crash, HOUR // 6))
