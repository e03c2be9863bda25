"""What the report measures besides swarms: how fast lives pass, and how many cuts the lossy disk survives."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tests.simulator.lossy_life import Life
from tests.simulator.mixes import Mix
from tests.simulator.national import Month, live_region
from tests.simulator.run import live, mix_of
from tests.support.device import Authority

_SPEED_SEEDS: Final = range(40)
_CUTS_A_LIFE: Final = 8
_REGION: Final = Month(tablets=50, regions=1, days=10, questionnaires=9.5)


def speed(done: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Return device-days in a CPU second of one core: random lives with both kinds of keys, and ordinary days."""
    rates = {}
    for name, real_keys in (("swarm, stub keys", False), ("swarm, real keys", True)):
        days = seconds = 0.0
        for seed in _SPEED_SEEDS:
            outcome = live(seed, real_keys=real_keys, mix=_on_plain_disks(mix_of(seed)))
            days += outcome.device_days
            seconds += outcome.cpu_seconds
            done()
        rates[name] = days / seconds
    region = live_region(_REGION, 0)
    rates["ordinary days, stub keys, 9.5 questionnaires a day as in the census"] = (
        region.device_days / region.cpu_seconds
    )
    idle = live_region(Month(tablets=50, regions=1, days=30, questionnaires=0.05), 0)
    rates["ordinary days, stub keys, one questionnaire in 20 days"] = idle.device_days / idle.cpu_seconds
    return rates


def _on_plain_disks(mix: Mix) -> Mix:
    return replace(mix, lossy_disks=False)


def cuts(lives: int, first: int = 0, done: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Live so many devices on lossy disks, each through some cuts; raises Violation."""
    authority = Authority()
    began = time.process_time()
    total = calls = 0
    reached: Counter[str] = Counter()
    for seed in range(first, first + lives):
        life = Life(seed, authority)
        life.live(_CUTS_A_LIFE)
        total += life.cuts
        calls += life.calls
        reached.update(life.reached)
        done()
    return {
        "lives": lives,
        "cuts": total,
        "disk_calls": calls,
        "reached": dict(reached),
        "cpu_seconds": time.process_time() - began,
    }
