"""When the mesh is awake, by any clock and on any power."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.mesh.duty import AWAKE_SECONDS, TURN_SECONDS_MAX, Duty, Turn, turn_of
from edge_agent.mesh.power import READ_AGAIN_SECONDS, Power, is_on_mains

SECOND = 1_000_000
NOON = 1_790_000_100 * SECOND  # a multiple of 15 minutes
assert NOON % (900 * SECOND) == 0


def on_battery(now: int, minutes: int = 15, duty: Duty = Duty.INTERVAL) -> Turn:
    return turn_of(duty, minutes, on_mains=False, now=now)


def test_always_is_always() -> None:
    assert turn_of(Duty.ALWAYS, 15, on_mains=False, now=NOON) == Turn(awake=True)


def test_mains_is_awake_on_mains_only_and_looks_again_within_a_minute() -> None:
    assert turn_of(Duty.MAINS, 15, on_mains=True, now=NOON) == Turn(awake=True, seconds=TURN_SECONDS_MAX)
    asleep = on_battery(NOON, duty=Duty.MAINS)
    assert (asleep.awake, asleep.asleep_because, asleep.seconds) == (False, "the device is on battery", 60)
    assert not asleep.gently


def test_interval_is_awake_at_the_beginning_of_each_and_says_when_the_next_is() -> None:
    assert on_battery(NOON).awake
    assert on_battery(NOON + (AWAKE_SECONDS - 1) * SECOND).awake
    asleep = on_battery(NOON + AWAKE_SECONDS * SECOND)
    assert not asleep.awake
    assert asleep.gently
    next_at = time.strftime("%H:%M", time.localtime(NOON // SECOND + 900))
    assert asleep.asleep_because == f"the next look at neighbours is at {next_at}"
    assert on_battery(NOON + 900 * SECOND).awake
    assert turn_of(Duty.INTERVAL, 15, on_mains=True, now=NOON + 500 * SECOND).awake


@given(st.integers(-(2**45), 2**55), st.integers(-5, 20_000), st.sampled_from(Duty), st.booleans())
def test_whatever_the_clock_says_a_turn_is_short_and_never_nothing(
    now: int, minutes: int, duty: Duty, on_mains: bool
) -> None:
    turn = turn_of(duty, minutes, on_mains=on_mains, now=now)
    assert turn.awake == (turn.asleep_because is None)
    assert (turn.seconds is None) == (duty is Duty.ALWAYS)
    if turn.seconds is not None:
        assert 0 < turn.seconds <= TURN_SECONDS_MAX


@given(st.integers(0, 2**51), st.integers(1, 1440))
def test_a_device_that_sleeps_turn_by_turn_misses_no_window_and_wakes_seldom(now: int, minutes: int) -> None:
    turns, start = 0, now
    while not (turn := on_battery(now, minutes)).awake:
        assert turn.seconds is not None
        now += int(turn.seconds * SECOND)
        turns += 1
    assert turns <= minutes + 1
    assert now % (minutes * 60 * SECOND) < SECOND or now == start


def test_devices_whose_clocks_are_right_are_awake_together() -> None:
    both = [now for now in range(NOON, NOON + 3600 * SECOND, SECOND) if on_battery(now).awake]
    assert len(both) == 4 * AWAKE_SECONDS


def supply(folder: Path, name: str, **files: str) -> None:
    (folder / name).mkdir(parents=True)
    for file, text in files.items():
        (folder / name / file).write_text(text + "\n")


BATTERY = {"type": "Battery", "status": "Discharging", "present": "1"}


@pytest.mark.parametrize(
    ("supplies", "mains"),
    [
        ({}, True),
        ({"AC": {"type": "Mains", "online": "0"}}, True),
        ({"mouse": BATTERY | {"scope": "Device"}}, True),
        ({"bay": BATTERY | {"present": "0"}}, True),
        ({"ups": {"type": "UPS", "online": "0"}}, True),
        ({"battery": BATTERY}, False),
        ({"battery": BATTERY | {"status": "Charging"}}, True),
        ({"battery": BATTERY | {"status": "Full"}}, True),
        ({"battery": BATTERY | {"status": "Unknown"}}, False),
        ({"battery": BATTERY, "AC": {"type": "Mains", "online": "1"}}, True),
        ({"battery": BATTERY | {"status": "Full"}, "AC": {"type": "Mains", "online": "0"}}, False),
        ({"battery": BATTERY, "AC": {"type": "Mains", "online": "0"}, "usb": {"type": "USB", "online": "1"}}, True),
        ({"battery": BATTERY, "usb": {"type": "USB_PD", "online": "2"}}, True),
        ({"battery": BATTERY | {"status": "Charging"}, "odd": {"type": "Mains"}}, True),
        ({"battery": BATTERY, "odd": {}}, False),
    ],
)
def test_mains_is_what_the_chargers_say_and_without_any_the_batteries(
    tmp_path: Path, supplies: dict[str, dict[str, str]], mains: bool
) -> None:
    for name, files in supplies.items():
        supply(tmp_path / "supplies", name, **files)
    assert is_on_mains(tmp_path / "supplies") is mains


def test_power_is_read_once_a_minute_and_when_it_is_told_to_forget(tmp_path: Path) -> None:
    power = Power(tmp_path)
    supply(tmp_path, "battery", **BATTERY)
    supply(tmp_path, "AC", type="Mains", online="0")
    assert not power.on_mains(5.0)
    (tmp_path / "AC" / "online").write_text("1\n")
    assert not power.on_mains(5.0 + READ_AGAIN_SECONDS - 1)
    assert power.on_mains(5.0 + READ_AGAIN_SECONDS)
    (tmp_path / "AC" / "online").write_text("0\n")
    power.forget()
    assert not power.on_mains(5.0 + READ_AGAIN_SECONDS)
