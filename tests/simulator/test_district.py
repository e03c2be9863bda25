"""The study of districts: the same every time, and the policies stand to each other as they must."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest

from edge_agent.engine.routing import DIRECT_ONLY, EPIDEMIC, SPRAY_AND_FOCUS
from edge_agent.engine.settings import EngineSettings
from tests.simulator.clockwork import DAY, HOUR
from tests.simulator.district import District, plan_district
from tests.simulator.district_life import Lived, live_district

TINY = District(
    "tiny",
    tablets=5,
    villages=2,
    akimats=1,
    gathers=0.6,
    elsewhere=0.3,
    akimat=0.3,
    travellers=0.2,
    trips=0.4,
    akimat_vpn=0.3,
    days=6,
    questionnaires=3,
)
SEEDS = (1, 2)
POLICIES = {"direct": DIRECT_ONLY, "spray": SPRAY_AND_FOCUS, "epidemic": EPIDEMIC}


@cache
def lived(policy: str, seed: int) -> Lived:
    # Few copies, made anew never: five tablets are soon all of them.
    settings = EngineSettings(copies=2, respray_wait=100 * DAY)
    return live_district(plan_district(TINY, seed), POLICIES[policy], settings=settings)


def test_a_seed_draws_the_same_days_and_another_seed_other_ones() -> None:
    assert plan_district(TINY, 1) == plan_district(TINY, 1)
    assert plan_district(TINY, 1) != plan_district(TINY, 2)


def test_people_work_by_day_and_are_at_one_place_at_a_time() -> None:
    plan = plan_district(TINY, 1)
    assert all(9 * HOUR <= at % DAY < 19 * HOUR for at, _ in plan.questionnaires)
    for tablet in plan.tablets:
        near = [one for one in plan.encounters if tablet in (one.one, one.other)]
        for one, other in zip(near, near[1:], strict=False):
            # Whoever is met together with others is met at the same place.
            assert one.ends <= other.begins or abs(one.begins - other.begins) <= HOUR
    assert plan.meetings_a_day > 0
    assert plan.days_between_gateways < float("inf")


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_figures(policy: str) -> None:
    first = lived(policy, 1)
    settings = EngineSettings(copies=2, respray_wait=100 * DAY)
    again = live_district(plan_district(TINY, 1), POLICIES[policy], settings=settings)
    assert again == first
    assert lived(policy, 2).trace != first.trace


@pytest.mark.parametrize("seed", SEEDS)
def test_epidemic_delivers_no_less_than_a_spray_and_that_no_less_than_nobody_carrying(seed: int) -> None:
    direct, spray, epidemic = (lived(policy, seed) for policy in POLICIES)
    assert len(direct.fates) == len(spray.fates) == len(epidemic.fates) > 0
    assert direct.delivered <= spray.delivered <= epidemic.delivered
    assert 0 < epidemic.delivered <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_spray_makes_fewer_copies_than_epidemic_and_nobody_carrying_the_fewest(seed: int) -> None:
    direct, spray, epidemic = (lived(policy, seed) for policy in POLICIES)
    assert 0 < direct.transfers_each < spray.transfers_each < epidemic.transfers_each
    assert direct.passed.bytes < spray.passed.bytes < epidemic.passed.bytes
    assert direct.hops <= spray.hops


@pytest.mark.parametrize("policy", POLICIES)
def test_everything_drains_and_nothing_is_told_before_it_is_committed(policy: str) -> None:
    result = lived(policy, 1)
    assert result.heal_days is not None
    for fate in result.fates:
        assert fate.marked_after is None or (fate.committed_after is not None)
        assert fate.committed_after is None or fate.marked_after is None or fate.marked_after >= fate.committed_after
