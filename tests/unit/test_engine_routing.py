"""Who is given which envelopes, as a table, and how many copies go with them."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.routing import (
    DIRECT_ONLY,
    EPIDEMIC,
    SPRAY_AND_FOCUS,
    Share,
    Standing,
    Station,
    copies_given,
    share_of,
)
from tests.support.device import DAY, HOUR, MINUTE

GATEWAY, COLLECTION_POINT, TABLET = Station.GATEWAY, Station.COLLECTION_POINT, Station.TABLET
AGES = st.none() | st.integers(0, 400 * DAY)


def share(here: Station, there: Station, here_age: int | None = None, there_age: int | None = None) -> Share:
    return share_of(SPRAY_AND_FOCUS, Standing(here, here_age), Standing(there, there_age))


def test_who_has_a_way_to_the_center_gives_to_nobody() -> None:
    assert {share(GATEWAY, there) for there in Station} == {Share.NOTHING}


@pytest.mark.parametrize(
    ("here", "there"), [(TABLET, GATEWAY), (TABLET, COLLECTION_POINT), (COLLECTION_POINT, GATEWAY)]
)
@given(AGES, AGES)
def test_who_is_nearer_to_the_center_by_its_station_is_given_everything_however_long_it_has_been_without(
    here: Station, there: Station, here_age: int | None, there_age: int | None
) -> None:
    assert share(here, there, here_age, there_age) is Share.EVERYTHING


@pytest.mark.parametrize("pair", [(TABLET, TABLET), (COLLECTION_POINT, COLLECTION_POINT), (COLLECTION_POINT, TABLET)])
def test_a_spray_never_leads_away_from_the_center(pair: tuple[Station, Station]) -> None:
    assert share(*pair, None, None) is Share.SPRAY
    assert share(*pair, None, 30 * DAY) is Share.SPRAY
    assert share(*pair, 3 * DAY, DAY) is Share.SPRAY
    assert share(*pair, DAY, DAY + 59 * MINUTE) is Share.SPRAY, "they left the office together"
    assert share(*pair, DAY, DAY + 2 * HOUR) is Share.NOTHING
    assert share(*pair, DAY, None) is Share.NOTHING


def test_what_is_said_of_a_device_makes_its_station() -> None:
    assert Standing.of(reaches_center=True, is_collection_point=False, contact_age=None) == Standing(GATEWAY, 0)
    assert Standing.of(reaches_center=False, is_collection_point=True, contact_age=5) == Standing(COLLECTION_POINT, 5)
    assert Standing.of(reaches_center=False, is_collection_point=False, contact_age=None) == Standing(TABLET, None)


@given(st.integers(0, 16), st.lists(st.booleans(), max_size=40))
def test_copies_are_halved_until_they_are_used_up_and_none_are_made_of_none(copies: int, meetings: list[bool]) -> None:
    left = [copies]
    for _ in meetings:
        holder = max(range(len(left)), key=lambda one: left[one])
        given = copies_given(Share.SPRAY, left[holder])
        assert given <= left[holder] and (given > 0) == (left[holder] > 0)
        left[holder] -= given
        left.append(given)
    assert sum(left) == copies, "whoever is given copies has them, and nobody else"


@given(st.integers(0, 16))
def test_who_is_given_everything_leaves_its_giver_half_of_the_copies_at_least(copies: int) -> None:
    assert copies - copies_given(Share.EVERYTHING, copies) >= copies / 2


def test_the_policies_to_compare_with_are_the_two_extremes() -> None:
    assert {share_of(EPIDEMIC, Standing(h, None), Standing(t, None)) for h, t in product(Station, Station)} == {
        Share.EVERYTHING
    }
    assert share_of(DIRECT_ONLY, Standing(TABLET, None), Standing(TABLET, None)) is Share.NOTHING
    assert share_of(DIRECT_ONLY, Standing(TABLET, None), Standing(GATEWAY, 0)) is Share.EVERYTHING
