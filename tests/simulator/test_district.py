"""The study of districts: the same every time, and the policies stand to each other as they must."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.engine.routing import DIRECT_ONLY, EPIDEMIC, SPRAY_AND_FOCUS
from edge_agent.engine.settings import EngineSettings
from tests.simulator.__main__ import main
from tests.simulator.clockwork import DAY, HOUR, MINUTE
from tests.simulator.district import District, plan_district
from tests.simulator.district_life import Lived, live_district
from tests.simulator.district_study import (
    BUILT,
    NEARER,
    WAITING,
    Delay,
    Figures,
    Play,
    play,
    play_all,
    plays,
    read_record,
)

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
    days=5,
    questionnaires=2,
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
    one, other = plan_district(TINY, 1), plan_district(TINY, 2)
    assert one.questionnaires != other.questionnaires
    assert one.encounters != other.encounters


def test_people_work_by_day_and_are_at_one_place_at_a_time() -> None:
    plan = plan_district(TINY, 1)
    assert all(9 * HOUR <= at % DAY < 19 * HOUR for at, _ in plan.questionnaires)
    pairs = {frozenset((one.one, one.other)) for one in plan.encounters}
    for tablet in plan.tablets:
        near = [one for one in plan.encounters if tablet in (one.one, one.other)]
        for one, other in combinations(near, 2):
            if min(one.ends, other.ends) - max(one.begins, other.begins) >= 2 * MINUTE:
                # Whoever is met together with another one is at the same place, and meets that one, too.
                assert frozenset((one.one, one.other)) ^ frozenset((other.one, other.other)) in pairs
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


def test_tablets_that_leave_are_met_by_nobody_any_more() -> None:
    staying, leaving = plan_district(TINY, 1), plan_district(replace(TINY, leaves=0.4), 1)
    gone = [
        tablet
        for tablet in leaving.tablets
        if max(at for at, who in leaving.questionnaires if who == tablet) // DAY < TINY.days - 1
    ]
    assert 1 <= len(gone) <= 2
    assert set(leaving.questionnaires) < set(staying.questionnaires)
    assert set(leaving.encounters) < set(staying.encounters)


def test_a_last_copy_that_waits_is_not_sent_and_the_rule_ends_with_the_run() -> None:
    two = EngineSettings(copies=2)
    variants = [replace(variant, settings=two) for variant in (BUILT, WAITING, NEARER)]
    built, waiting, nearer = (play(Play(TINY, variant, 1)) for variant in variants)
    assert waiting.transfers_each <= nearer.transfers_each <= built.transfers_each
    assert waiting.transfers_each < built.transfers_each
    assert play(Play(TINY, variants[0], 1)).transfers_each == built.transfers_each


def made_up(one: Play, delivered: float = 0.5) -> Figures:
    delays = (Delay(1.5, more=False), Delay(2.5, more=False), Delay(7.0, more=True))
    return Figures(
        *one.name,
        questionnaires=1000,
        delivered=delivered,
        old_delivered=0.75,
        committed=delays,
        marked=delays,
        transfers_each=3.25,
        hops=1.5,
        foreign_bytes_max=1_500_000,
        bytes_each=12_345,
        meetings=100,
        heal_days=1,
        events=5000,
        cpu_seconds=1,
    )


def test_the_command_writes_every_district_and_variant_and_plays_nothing_that_is_recorded(tmp_path: Path) -> None:
    wanted = plays(2)
    record, written = tmp_path / "record", tmp_path / "page"
    found = [made_up(one, delivered=0.5 + 0.1 * (one.seed - 1)) for one in wanted]
    record.write_text("".join(json.dumps(asdict(one)) + "\n" for one in found))
    words = ["districts", "--seeds", "2", "--jobs", "1", "--record", str(record), "--write", str(written)]
    ended = CliRunner().invoke(main, words)
    assert ended.exit_code == 0, ended.output
    page = written.read_text()
    for one in wanted:
        assert one.variant.name in page
        assert one.district.name in page
    assert "55.0\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}7.1" in page, "mean and deviation of 50 and 60 %"
    assert "> 7" in page
    assert "{" not in page
    assert read_record(record) == {one.name: made for one, made in zip(wanted, found, strict=True)}


def test_what_a_record_lacks_is_played_and_added(tmp_path: Path) -> None:
    record = tmp_path / "record"
    wanted = [Play(TINY, BUILT, 1), Play(TINY, WAITING, 1)]
    record.write_text(json.dumps(asdict(made_up(wanted[0]))) + "\n")
    found = play_all(wanted, jobs=1, record=record)
    assert found[0] == made_up(wanted[0])
    assert found[1].questionnaires == len(lived("spray", 1).fates)
    assert list(read_record(record).values()) == found
