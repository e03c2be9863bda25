"""Four tablets, a laptop and a center: what tablets without a link seal comes to the database by two and more hops.

CENSUS_MESH_SEED=… repeats the schedule of a run that failed (it prints its seed).
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import pytest

from demo.processes import wait_until
from tests.support.account import (
    assert_complete,
    assert_gapless,
    assert_marks_are_commit_times,
    digests,
    envelopes_at_center,
    stored,
)
from tests.support.kills import FormProgram, questionnaires, submit_while
from tests.support.mesh_census import MeshCensus, MeshDevice, mesh_census, why_no_mesh_census
from tests.support.mesh_ground import Cable
from tests.support.mesh_weather import Courier, Weather

HAPPENINGS: Final = {"cut": 12, "killed": 7, "VPN down": 2, "walked": 4}
WEATHER_SECONDS: Final = 9.0
DRAIN_SECONDS: Final = 60.0

REASON = why_no_mesh_census()
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(300),
]


def chosen_seed() -> int:
    """The seed of a run that shall be repeated, or a new one."""
    return int(os.environ.get("CENSUS_MESH_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)


def put_in_place(census: MeshCensus) -> tuple[list[Cable], Courier]:
    """village: 1, 2, and 4 at first; road: 2, 3; office: 3, the laptop, and 4 later. Nobody hands out addresses in the
    village, and on the road there is IPv4 alone besides.
    """
    ground, (one, two, three, four) = census.ground, census.tablets
    cables = []
    for device, interface, network in (
        (one, "near0", "village"),
        (two, "near0", "village"),
        (two, "near1", "road"),
        (three, "near0", "road"),
        (three, "near1", "office"),
        (census.laptop, "near0", "office"),
    ):
        cable = ground.cable(device.place, interface)
        ground.join(cable, network)
        cables.append(cable)
    for host, cable in enumerate(cables[2:], start=1):
        subnet = {"road": 20, "office": 30}[cable.network]
        cable.place.ip("address", "add", f"192.168.{subnet}.{host}/24", "dev", cable.interface)
    walking = ground.cable(four.place, "near0")
    ground.join(walking, "village")
    return cables, Courier(walking, ("office", "village"))


def test_every_questionnaire_of_tablets_without_a_link_is_in_the_database_once_and_no_copy_is_left_anywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = chosen_seed()
    sys.stdout.write(f"repeat this schedule with CENSUS_MESH_SEED={seed}\n")
    began = time.monotonic()
    with mesh_census(tmp_path, "tablet 1", "tablet 2", "tablet 3", "tablet 4") as census:
        cables, courier = put_in_place(census)
        census.start()
        started = time.monotonic()
        programs = [
            FormProgram(tablet, questionnaires(seed, number), seed) for number, tablet in enumerate(census.tablets)
        ]
        weather = Weather(seed, census, cables, courier, HAPPENINGS, WEATHER_SECONDS)
        submit_while(programs, weather.run)
        calm = time.monotonic()
        bodies = [body for program in programs for body in program.handed_over]
        wait_until_marked(census)
        marked = time.monotonic()
        assert_exactly_once(census, bodies)
        census.center.back_up()
        wait_until_purged(census)
        purged = time.monotonic()
        left = sum(device.counts()["carried_for_others"] for device in census.devices.values())
        come_home(census, [*cables, courier.cable])
        wait_until_dropped(census)
        dropped = time.monotonic()
        assert_exactly_once(census, bodies)
        carriers = census.center.query("SELECT route, carrier, max(hops) FROM envelope GROUP BY 1, 2")
        ((route, carrier, hops),) = carriers
        assert (route, carrier) == ("mesh", bytes.fromhex(census.laptop.id)), "by the laptop alone"
        assert hops >= 2, "over two and more hops"
        assert census.end_devices() == [0] * len(census.devices), census.log_tails()
        assert [device.name for device in census.devices.values() if device.copies_left()] == []
    report = (
        f"seed {seed}: {len(bodies)} questionnaires; {dict(weather.happened)}; started in {started - began:.1f} s,"
        f" weather {calm - started:.1f} s, marked {marked - calm:.1f} s later, purged {purged - marked:.1f} s later;"
        f" {left} copies were left then, and dropped {dropped - purged:.1f} s later, in the office"
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{report}\n")


def wait_until_marked(census: MeshCensus) -> None:
    """By two and more hops, and by a courier."""
    for device in census.devices.values():
        wait_until(device.takes_questionnaires, f"{device.name} answers", evidence=device.log_tail)
    wait_for_none(census, census.tablets, ("waiting", "sent"), "every tablet has sync marks for everything")


def wait_until_purged(census: MeshCensus) -> None:
    wait_for_none(census, census.tablets, ("synchronised",), "every tablet has purged what the backup has")


def wait_until_dropped(census: MeshCensus) -> None:
    wait_for_none(census, census.devices.values(), ("carried_for_others",), "nobody keeps what the backup has")


def wait_for_none(census: MeshCensus, devices: Iterable[MeshDevice], states: Sequence[str], what: str) -> None:
    """Wait until the devices have no envelope in these states."""

    def tell() -> str:
        return f"{ {device.name: device.counts() for device in census.devices.values()} }\n{census.log_tails()}"

    wait_until(
        lambda: not any(counts[state] for counts in [device.counts() for device in devices] for state in states),
        what,
        timeout_seconds=DRAIN_SECONDS,
        evidence=tell,
    )


def come_home(census: MeshCensus, cables: Iterable[Cable]) -> None:
    """Everybody stands in the office in the end. A receipt frees a carrier of what leads to the last of a span through
    the chain; for what it has without that, the center must hear of it by this carrier or another (decision 16).
    """
    for cable in cables:
        census.ground.cut(cable)
    for device in census.devices.values():
        census.ground.join(next(cable for cable in cables if cable.place is device.place), "office")


def assert_exactly_once(census: MeshCensus, bodies: list[bytes]) -> None:
    assert stored(census.center) == digests(bodies)
    known = envelopes_at_center(census.center)
    assert sum(assert_marks_are_commit_times(tablet, known) for tablet in census.tablets) == len(known)
    assert_gapless(known)
    assert_complete(census.center)
