"""The pauses between two tries at the broker: the edge's, and the center's own."""

from __future__ import annotations

from central_broker.broker_link import RECONNECT_SECONDS_MAX, reconnect_seconds
from edge_agent.backoff import STEADY_SECONDS, Backoff, failures_after

BACKOFF = Backoff(seconds_min=2, seconds_max=300)
ALMOST_ONE = 1 - 2**-53


def test_limits_double_from_the_first_to_the_longest_and_stay_there() -> None:
    limits = [BACKOFF.limit_seconds(failures) for failures in range(10)]
    assert limits == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert BACKOFF.limit_seconds(10**9) == 300


def test_a_pause_lies_anywhere_below_its_limit() -> None:
    assert BACKOFF.pause_seconds(3, 0.0) == 0
    assert BACKOFF.pause_seconds(3, 0.25) == 4
    assert 15.9 < BACKOFF.pause_seconds(3, ALMOST_ONE) < 16


def test_a_first_pause_longer_than_the_longest_is_cut() -> None:
    assert Backoff(seconds_min=60, seconds_max=60).limit_seconds(5) == 60


def test_only_a_connection_that_came_up_and_lasted_ends_the_row_of_failures() -> None:
    assert failures_after(7, came_up=True, lasted_seconds=STEADY_SECONDS) == 0
    assert failures_after(7, came_up=True, lasted_seconds=STEADY_SECONDS - 1) == 8
    assert failures_after(7, came_up=False, lasted_seconds=STEADY_SECONDS) == 8


def test_the_centers_own_pauses_double_from_half_a_second_to_some_seconds() -> None:
    assert [reconnect_seconds(failures, 0.5) for failures in (0, 1, 2)] == [0.25, 0.5, 1.0]
    assert reconnect_seconds(10**9, ALMOST_ONE) <= RECONNECT_SECONDS_MAX
    assert reconnect_seconds(5, 0.0) == 0
