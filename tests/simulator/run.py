"""Lives one seed from beginning to end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import structlog

from edge_agent.engine.settings import EngineSettings
from tests.simulator.clockwork import DAY, START, Chance
from tests.simulator.disk import LossyHome, PlainDisk
from tests.simulator.ending import heal
from tests.simulator.faults import Fault
from tests.simulator.life import Life
from tests.simulator.mixes import Mix, draw_mix
from tests.simulator.oracle import Violation
from tests.simulator.world import World
from tests.support.device import memory_folder


@dataclass(frozen=True)
class Outcome:
    """What came of a seed."""

    seed: int
    mix: Mix
    violation: str | None
    trace: str
    events: int
    device_days: float
    heal_days: int
    struck: tuple[str, ...]
    states: Counter[tuple[Fault, str]]
    counts: Counter[str]
    notices: Counter[str]
    cpu_seconds: float
    story: tuple[str, ...]


def mix_of(seed: int) -> Mix:
    """Return the mix that a seed draws."""
    return draw_mix(Chance(seed).stream("mix"))


def live(
    seed: int,
    *,
    mix: Mix | None = None,
    real_keys: bool = False,
    suppressed: Collection[str] = (),
    storied: bool = False,
) -> Outcome:
    """Live a seed. What breaks the promise is in the outcome; any other exception is a mistake of ours."""
    mix = mix or mix_of(seed)
    quiet()
    began = time.process_time()
    violation, heal_days = None, 0
    with (
        memory_folder() as folder,
        World(
            seed,
            Path(folder),
            real_keys=real_keys,
            suppressed=suppressed,
            storied=storied,
            list_keys=True,
            settings=EngineSettings(head_interval=mix.head_interval),
            make_disk=LossyHome if mix.lossy_disks else PlainDisk,
        ) as world,
    ):
        try:
            Life(world, mix).run()
            heal_days = heal(world)
        except Violation as broken:
            violation = str(broken)
            world.tell("oracle", violation, {})
        notices: Counter[str] = Counter()
        for resident in world.residents.values():
            notices.update(resident.device.notices)
        return Outcome(
            seed=seed,
            mix=mix,
            violation=violation,
            trace=world.clockwork.trace(),
            events=world.clockwork.events,
            device_days=len(world.residents) * (world.clockwork.now - START) / DAY,
            heal_days=heal_days,
            struck=tuple(world.faults.struck),
            states=world.faults.states,
            counts=world.oracle.counts,
            notices=notices,
            cpu_seconds=time.process_time() - began,
            story=tuple(world.story or ()),
        )


def quiet() -> None:
    """Let the center's log records go nowhere: thousands of lives would drown everything else."""

    def drop(*_: object) -> str:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])
