"""Everything is killed at random moments, again and again, while questionnaires are submitted; nothing may be lost.

CENSUS_KILLS=500 makes a longer run; CENSUS_KILLS_SEED=… repeats the schedule of a run that failed (it prints its seed).
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from demo.field import Field
from demo.run import wait_until_purged
from tests.support.account import (
    assert_complete,
    assert_gapless,
    assert_marks_are_commit_times,
    digests,
    envelopes_at_center,
    stored,
)
from tests.support.kills import (
    FormProgram,
    Killer,
    Victim,
    questionnaires,
    submit_while,
    victims_of,
    wait_until_ready,
)
from tests.support.postgresql import PostgresqlCluster
from tests.support.small_center import SmallCenter

KILLS: Final = int(os.environ.get("CENSUS_KILLS", "56"))
DRAIN_SECONDS: Final = 240.0
SHARES: Final = {"agent": 7, "consumer": 6, "broker": 8, "receipt publisher": 7, "PostgreSQL": 8}
"""Deaths of each victim in a run of 56: three agents and two consumers among them."""

pytestmark = pytest.mark.timeout(300 + 3 * KILLS)


def chosen_seed() -> int:
    """The seed of a run that shall be repeated, or a new one."""
    return int(os.environ.get("CENSUS_KILLS_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)


def test_fifty_kills_lose_nothing_and_double_nothing_on_postgresql(
    tmp_path: Path, running_postgresql: PostgresqlCluster, postgresql_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = kill_and_drain(tmp_path, KILLS, database_url=postgresql_dsn, cluster=running_postgresql, tablets=3)
    tell(report, capsys)


def test_kills_lose_nothing_and_double_nothing_on_sqlite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = kill_and_drain(tmp_path, KILLS // 2, database_url=None, cluster=None, tablets=2)
    tell(report, capsys)


def tell(report: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Print to the terminal; under pytest-xdist, which hides that, `-rP` shows it."""
    sys.stdout.write(f"{report}\n")
    with capsys.disabled():
        sys.stdout.write(f"\n{report}\n")


def kill_and_drain(
    folder: Path, kills: int, *, database_url: str | None, cluster: PostgresqlCluster | None, tablets: int
) -> str:
    seed = chosen_seed()
    sys.stdout.write(f"repeat this schedule with CENSUS_KILLS_SEED={seed} CENSUS_KILLS={KILLS}\n")
    began = time.monotonic()
    settings = {"sync": {"receipt_wait_seconds": 10}}
    with Field(folder, tablets, database_url=database_url, device_settings=settings, center_kind=SmallCenter) as field:
        victims = victims_of(field, cluster)
        planned = sum(SHARES[victim.kind] for victim in victims)

        def lives(victim: Victim) -> int:
            return -(-SHARES[victim.kind] * kills // planned)

        killer = Killer(seed, victims, lives, field)
        programs = [
            FormProgram(device, questionnaires(seed, number), seed) for number, device in enumerate(field.devices)
        ]
        submit_while(programs, killer.run)
        assert killer.deaths.total() >= kills
        wait_until_ready(field)
        drained_from = time.monotonic()
        field.wait_until_synchronised(timeout_seconds=DRAIN_SECONDS)
        drained = time.monotonic() - drained_from
        bodies = [body for program in programs for body in program.handed_over]
        assert_nothing_lost_or_doubled(field, bodies)
        field.center.back_up()
        wait_until_purged(field)
        assert_nothing_lost_or_doubled(field, bodies)
    unanswered = len(bodies) - sum(device.accepted for device in field.devices)
    return (
        f"{killer.report()}\n  {len(bodies)} questionnaires; {sum(program.repeats for program in programs)} repeated"
        f" requests, {unanswered} questionnaires sealed without an answer; drained in {drained:.0f} s,"
        f" {time.monotonic() - began:.0f} s in all"
    )


def assert_nothing_lost_or_doubled(field: Field, bodies: list[bytes]) -> None:
    assert stored(field.center) == digests(bodies)
    known = envelopes_at_center(field.center)
    assert sum(assert_marks_are_commit_times(device, known) for device in field.devices) == len(known)
    assert_gapless(known)
    assert_complete(field.center)
