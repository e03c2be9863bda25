"""A short fixed set of seeds keeps the promise; `make swarm` lives more of them."""

import json
from collections import Counter

import pytest

from tests.simulator import swarm as swarms
from tests.simulator.mixes import Group
from tests.simulator.run import live, mix_of
from tests.simulator.swarm import Failure, Tally, faults_never_reached, read_tally, swarm, uses_real_keys

# fmt: off
SEEDS = (
    32, 62, 74, 87, 97, 105, 124, 125, 148, 156, 157, 160, 188, 193, 214, 246, 266, 269, 279, 306,
    335, 346, 376, 396, 399, 416, 421, 444, 451, 463, 464, 470, 476, 516, 581, 627, 636, 677, 694, 704,
    759, 791, 823, 836, 849, 850, 871, 880, 882, 891, 892, 913, 966, 982, 1007, 1040, 1104, 1114, 1119, 1196,
)
# fmt: on
"""Chosen for short lives with many groups of trouble."""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_keeps_the_promise(seed: int) -> None:
    outcome = live(seed, real_keys=uses_real_keys(seed))
    assert outcome.violation is None, f"python -m tests.simulator shrink {seed}"
    assert outcome.counts["accepted"] > 0


def test_the_seeds_meet_every_group_of_trouble_often_and_real_keys_too() -> None:
    groups = Counter(group for seed in SEEDS for group in mix_of(seed).groups)
    assert min(groups[group] for group in Group) >= 20
    assert sum(uses_real_keys(seed) for seed in SEEDS) >= 2


def test_a_tally_is_the_same_after_json() -> None:
    tally = swarm(range(148, 150), jobs=1)
    tally.failures.append(Failure(7, real_keys=True, violation="I1: an example"))
    again = read_tally(json.loads(json.dumps(tally.as_json())))
    assert again == tally
    assert again.seeds == 2
    assert again.faults
    assert again.states
    assert again.heal_days


def test_a_swarm_tells_which_faults_it_never_reached() -> None:
    tally = swarm(range(148, 149), jobs=1)
    never = faults_never_reached(tally)
    assert never
    assert not set(never) & {fault for fault, times in tally.faults.items() if times}
    assert len(faults_never_reached(Tally())) == len(never) + len(tally.faults)


def test_a_life_that_breaks_off_is_a_failure_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(seed: int, *, real_keys: bool) -> None:
        raise RuntimeError(f"seed {seed} with real keys: {real_keys}")

    monkeypatch.setattr(swarms, "live", broken)
    tally = swarm(range(24, 25), jobs=1)
    assert tally.seeds == 1
    assert [(one.seed, one.real_keys) for one in tally.failures] == [(24, True)]
    assert "seed 24 with real keys: True" in tally.failures[0].violation
