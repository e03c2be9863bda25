"""The same seed is the same life in every process, and what befalls one node reshuffles nobody else's chances."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.simulator.clockwork import Chance
from tests.simulator.device import STEP_FAULTS
from tests.simulator.faults import Fault, Faults
from tests.simulator.life import Life
from tests.simulator.mixes import Group
from tests.simulator.run import mix_of, quiet
from tests.simulator.world import World
from tests.support.device import memory_folder

STUB_SEEDS = (62, 160, 214, 346)
REAL_SEEDS = (124, 516)
_BUSY_SEED = 2116
"""Several tablets, hit by power cuts and much else, none of them destroyed."""

_PROGRAM = """
import json, sys
from tests.simulator.run import live
for seed in map(int, sys.argv[2:]):
    one = live(seed, real_keys=sys.argv[1] == "real", storied=True)
    told = [one.violation, one.events, one.heal_days, one.counts, one.notices, one.struck]
    print(json.dumps([*told, one.story, one.trace]))
"""

_ENVELOPE_ID = re.compile(r"\bid=[0-9a-f]{8}\b")


def _lives(keys: str, seeds: tuple[int, ...], hash_seed: int) -> list[Any]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(root)}
    words = [sys.executable, "-c", _PROGRAM, keys, *map(str, seeds)]
    found = subprocess.run(words, env=environment, cwd=root, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in found.stdout.splitlines()]


def test_the_seeds_of_these_tests_have_every_group_of_trouble_among_them() -> None:
    assert {group for seed in STUB_SEEDS for group in mix_of(seed).groups} == set(Group)


def test_a_seed_has_the_same_trace_in_another_process_with_other_hashes() -> None:
    one, other = _lives("stub", STUB_SEEDS, 1), _lives("stub", STUB_SEEDS, 4711)
    assert [life[-1] for life in one] == [life[-1] for life in other]
    assert one == other
    assert len({life[-1] for life in one}) == len(STUB_SEEDS)


def test_with_real_keys_a_seed_has_the_same_story_and_tally() -> None:
    """HPKE draws from the system: ciphertexts, so envelopes' ids and the trace, are other ones each time. What happens
    and when, sizes, counts and notices are the same.
    """
    one, other = _lives("real", REAL_SEEDS, 1), _lives("real", REAL_SEEDS, 4711)
    for life in (*one, *other):
        life[-2] = [_ENVELOPE_ID.sub("id=...", line) for line in life[-2]]
    assert [life[:-1] for life in one] == [life[:-1] for life in other]
    assert all(life[-1] != same[-1] for life, same in zip(one, other, strict=True))


def test_a_stream_does_not_depend_on_how_often_others_are_asked() -> None:
    alone, among = Chance(7), Chance(7)
    others = [among.stream("tablet-2"), among.stream("tablet-1", "links")]
    for other in others:
        other.random()
    stream = among.stream("tablet-1")
    drawn = []
    for _ in range(100):
        drawn.append(stream.random())
        others[0].random()
    expected = alone.stream("tablet-1")
    assert drawn == [expected.random() for _ in range(100)]
    assert Chance(8).stream("tablet-1").random() != drawn[0]


def _strikes(*, others: bool) -> list[object]:
    """Draw faults for tablet-1; with `others` for another node and other faults of the same node in between."""
    faults = Faults(Chance(7))
    struck: list[object] = []
    for _ in range(300):
        if others:
            faults.strikes("tablet-2", Fault.SLOW, 0.5)
            faults.strikes("tablet-1", Fault.LATE, 0.5)
            faults.pick("tablet-2", STEP_FAULTS, 0.5)
        struck.append(faults.strikes("tablet-1", Fault.SLOW, 0.3))
        struck.append(faults.pick("tablet-1", STEP_FAULTS, 0.3))
    return struck


def test_a_fault_elsewhere_reshuffles_no_faults_here() -> None:
    drawn = _strikes(others=True)
    assert drawn == _strikes(others=False)
    assert {True, False, None, *STEP_FAULTS} == set(drawn)


_PLANNED = (
    "fills a questionnaire",
    *(f"*** {fault}" for fault in (Fault.CUT_WHEN_IDLE, Fault.KILL, Fault.RECEIPT_STALE)),
)


def _plans(step_fault_rate_of_tablet_2: float) -> tuple[list[str], list[str]]:
    """Return what was planned for tablet-1, and what befell tablet-2, in a world where that one fails so often."""
    quiet()
    with memory_folder() as folder, World(_BUSY_SEED, folder, storied=True) as world:
        life = Life(world, mix_of(_BUSY_SEED))
        for resident in world.residents.values():
            resident.step_fault_rate = 0
        world.residents["tablet-2"].step_fault_rate = step_fault_rate_of_tablet_2
        life.run()
        lines = world.story or []
        planned = [line for line in lines if " tablet-1 " in line and any(what in line for what in _PLANNED)]
        return planned, [line for line in lines if " tablet-2 " in line]


def test_faults_of_one_device_change_no_plan_of_another() -> None:
    quiet_plan, quiet_life = _plans(0)
    plan, life = _plans(0.3)
    assert life != quiet_life
    assert plan == quiet_plan
    assert len(plan) > 10
    assert any(str(Fault.KILL) in line or str(Fault.CUT_WHEN_IDLE) in line for line in plan)
