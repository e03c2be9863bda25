"""Copies to make are given once: what is on offer to one neighbour is not given to another at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import pytest

from edge_agent.engine.events import Settled, TimePassed
from sync_protocol.identity import Role
from tests.support.device import MINUTE, Authority, Device, memory_folder
from tests.support.district import District, carried, fill, marked

AUTHORITY = Authority()
NAMES = ("a", "b", "c", "d", "e", "laptop")


@pytest.fixture
def district() -> Iterator[District]:
    with memory_folder() as folder:
        made = []
        for name in NAMES:
            role = Role.COLLECTION_POINT if name == "laptop" else Role.TABLET
            made.append(Device(folder / name, AUTHORITY, name=name, role=role).start())
        yield District(*made)
        for device in made:
            device.stop()


def total(devices: tuple[Device, ...]) -> int:
    """How many copies may still be made, of everything everywhere."""
    found = [copies for device in devices for (copies,) in device.rows("copies", "data IS NOT NULL")]
    return sum(one for one in found if isinstance(one, int))


def test_neighbours_that_are_here_at_once_are_given_no_more_copies_than_there_are(district: District) -> None:
    origin, *others, _ = district.devices
    fill(origin, 3)
    for other in others:
        district.meet(origin, other)
    district.run()
    assert [carried(other) for other in others] == [3] * len(others)
    assert total(district.devices) == 3 * 8
    assert origin.rows("copies") == [(0,)] * 3


def test_who_has_given_to_two_at_once_still_has_copies_for_a_third_that_comes_later(district: District) -> None:
    origin, one, other, third, _, laptop = district.devices
    fill(origin, 3)
    for neighbour in (one, other):
        district.meet(origin, neighbour)
    district.run()
    assert origin.rows("copies") == [(2,)] * 3
    district.mailbox(laptop)
    district.meet(third, laptop)
    district.meet(origin, third)
    district.run()
    assert marked(origin) == 3


def test_copies_that_were_promised_to_a_neighbour_who_left_are_given_to_the_next(district: District) -> None:
    origin, one, other, *_ = district.devices
    fill(origin, 3)
    keys = district.meet(origin, one)
    for _ in range(8):
        district.sent_by(origin)
    district.part(*keys)
    assert carried(one) == 0
    district.wait(MINUTE, by=MINUTE)
    district.meet(origin, other)
    district.run()
    assert origin.rows("copies") == [(4,)] * 3
    assert other.rows("copies", "own = 0") == [(4,)] * 3


def test_a_neighbour_that_wants_everything_and_records_nothing_keeps_no_copies_from_others(district: District) -> None:
    origin, liar, other, *_ = district.devices
    fill(origin, 3)
    district.meet(origin, liar)
    for _ in range(4):
        while refused := district.sent_by(origin):
            district.wire = deque((device, one) for device, one in district.wire if one not in refused)
            for send in refused:
                district.step(origin, Settled(send.link_key, send.token, False, tuple(origin.envelope_ids())))
        origin.now += MINUTE
        district.step(origin, TimePassed())
    assert carried(liar) == 0
    district.wire.clear()
    district.meet(origin, other)
    district.run()
    assert other.rows("copies", "own = 0") == [(4,)] * 3
