"""A line of five devices that never all meet at once: only neighbours in the line meet, two at a time, in any order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import Final

import pytest

from demo.processes import wait_until
from sync_protocol.identity import Role
from tests.support.account import (
    assert_complete,
    assert_gapless,
    assert_marks_are_commit_times,
    digests,
    envelopes_at_center,
    stored,
)
from tests.support.device import MINUTE, Authority, Device, memory_folder
from tests.support.district import District, carried, fill, marked, purged
from tests.support.mesh_census import MeshCensus, MeshDevice, mesh_census, why_no_mesh_census
from tests.support.mesh_ground import Cable

AUTHORITY = Authority()
DEVICES: Final = 5
NEAREST_FIRST: Final = ((3, 4), (2, 3), (1, 2), (0, 1))
"""The worst order for what goes to the center: each round brings it one hop further, and no more."""
ENVELOPES: Final = 3
MEETINGS_APART: Final = 40 * MINUTE

Pair = tuple[int, int]


def line(folder: Path, last: Role) -> District:
    """Four tablets; the fifth device, which alone has a way to the center, is what is given."""
    roles = [Role.TABLET] * (DEVICES - 1) + [last]
    made = [
        Device(folder / str(number), AUTHORITY, name=f"line {number}", role=role).start()
        for number, role in enumerate(roles)
    ]
    district = District(*made)
    district.mailbox(made[-1])
    return district


@pytest.fixture(params=[Role.COLLECTION_POINT, Role.TABLET], ids=["laptop", "tablet with a link"])
def district(request: pytest.FixtureRequest) -> Iterator[District]:
    with memory_folder() as folder:
        made = line(folder, request.param)
        yield made
        for device in made.devices:
            device.stop()


def meet_and_part(district: District, pair: Pair) -> None:
    """Two meet, say all that they have to say, and part; then nobody meets anybody for a while."""
    keys = district.meet(*(district.devices[number] for number in pair))
    district.run()
    district.part(*keys)
    district.wait(MEETINGS_APART, by=MEETINGS_APART)


def rounds_until_done(district: District, order: Sequence[Pair], expected: Sequence[int]) -> tuple[int, int]:
    """Let all pairs meet in this order, again and again; return the rounds until every own envelope of the tablets has
    its mark, and until nothing is left anywhere after a backup.
    """
    everything_marked = 0
    for number in range(1, 4 * DEVICES):
        for pair in order:
            meet_and_part(district, pair)
        if not everything_marked and [marked(device) for device in district.devices] == list(expected):
            everything_marked = number
            district.census.back_up()
            district.publish(*(device.id for device in district.devices if device.id in district.census.newest))
        done = [purged(device) for device in district.devices] == list(expected)
        if done and not any(carried(device) for device in district.devices):
            return everything_marked, number
    raise AssertionError(f"not done: {[(marked(one), purged(one), carried(one)) for one in district.devices]}")


def test_in_the_worst_order_each_round_brings_an_envelope_one_hop_further(district: District) -> None:
    origin = district.devices[0]
    fill(origin, ENVELOPES)
    for hops in range(1, DEVICES - 1):
        for pair in NEAREST_FIRST:
            meet_and_part(district, pair)
        holders = [number for number, device in enumerate(district.devices) if carried(device)]
        assert holders == list(range(1, hops + 1))
        assert marked(origin) == 0
    for pair in NEAREST_FIRST:
        meet_and_part(district, pair)
    found = district.census.centers[origin.id].questionnaires()
    assert len(found) == len(set(found)) == ENVELOPES


def test_whatever_the_order_of_the_meetings_everything_arrives_is_receipted_and_dropped() -> None:
    slowest = (0, 0)
    for order in permutations(NEAREST_FIRST):
        with memory_folder() as folder:
            district = line(folder, Role.COLLECTION_POINT)
            for device in district.devices:
                fill(device, ENVELOPES)
            rounds = rounds_until_done(district, order, [ENVELOPES] * DEVICES)
            slowest = max(slowest, rounds)
            for device in district.devices:
                assert len(district.census.centers[device.id].questionnaires()) == ENVELOPES
                device.stop()
    # Four rounds at the most to the center, and as many back; and then as many for the receipt with the watermark.
    assert slowest[0] <= 2 * (DEVICES - 1)
    assert slowest[1] <= 3 * (DEVICES - 1)


REASON = why_no_mesh_census()


@contextlib.contextmanager
def meeting(census: MeshCensus, cables: Sequence[Cable], pair: Pair) -> Iterator[tuple[MeshDevice, MeshDevice]]:
    """Two daemons come together, alone, and are connected; afterwards they part."""
    for number in pair:
        census.ground.join(cables[number], f"meeting{pair[0]}")
    one, other = (list(census.devices.values())[number] for number in pair)
    wait_until(
        lambda: len(one.neighbours()) == len(other.neighbours()) == 1,
        f"{one.name} and {other.name} meet",
        evidence=lambda: one.log_tail() + other.log_tail(),
    )
    yield one, other
    for number in pair:
        census.ground.cut(cables[number])
    wait_until(lambda: not one.neighbours() and not other.neighbours(), "they part")


@pytest.mark.root
@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_real_daemons_of_a_line_bring_it_to_the_center_and_the_receipt_back(tmp_path: Path) -> None:
    """Each pair meets once on the way there and once on the way back; meetings that bring nothing are left out."""
    bodies = [b'{"visit":%d}' % number for number in range(ENVELOPES)]
    with mesh_census(tmp_path, *(f"tablet {number}" for number in range(1, DEVICES))) as census:
        devices = list(census.devices.values())
        origin, laptop = devices[0], devices[-1]
        cables = [census.ground.cable(device.place, "near0") for device in devices]
        census.start()
        origin.submit(bodies, form="household")

        def holders() -> list[int]:
            return [number for number, one in enumerate(devices) if one.counts()["carried_for_others"] == ENVELOPES]

        def wait_for_holders(*numbers: int) -> None:
            wait_until(lambda: holders() == list(numbers), f"{numbers} hold them", evidence=census.log_tails)

        for pair in reversed(NEAREST_FIRST):
            with meeting(census, cables, pair):
                wait_for_holders(*range(1, pair[1] + 1))
        wait_until(lambda: stored(census.center) == digests(bodies), "the center has them", evidence=census.log_tails)
        census.center.back_up()
        wait_for_holders(*range(1, DEVICES - 1))
        assert origin.counts()["purged"] == origin.counts()["synchronised"] == 0
        for pair in NEAREST_FIRST:
            with meeting(census, cables, pair):
                wait_for_holders(*range(1, pair[0]))
                if pair[0] == 0:
                    wait_until(lambda: origin.counts()["purged"] == ENVELOPES, "the origin has purged them")
        assert origin.counts()["purged"] == ENVELOPES
        assert assert_marks_are_commit_times(origin, envelopes_at_center(census.center)) == ENVELOPES
        assert laptop.counts()["carried_for_others"] == 0
        assert_gapless(envelopes_at_center(census.center))
        assert_complete(census.center)
