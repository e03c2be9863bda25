"""The light of the machine: what it shows of one medium and of several, when it goes out, and what it may not do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge_agent.usb_watch.actions import Ending, Outcome, Progress
from edge_agent.usb_watch.led import Led
from edge_agent.usb_watch.media_watch import MediumState, Turn
from edge_agent.usb_watch.mounting import MountRefusal, MountRefused

OFF = ("none", "0")
ON = ("none", "7")
SLOW = ("timer", "500", "500")
FAST = ("timer", "100", "100")


@pytest.fixture
def light(tmp_path: Path) -> Path:
    """A folder like that of a light in sysfs; the files of the delays are there from the start."""
    folder = tmp_path / "input3::scrolllock"
    folder.mkdir()
    for name, text in (("trigger", "[kbd-scrolllock] none timer"), ("brightness", "3"), ("max_brightness", "7\n")):
        (folder / name).write_text(text)
    for name in ("delay_on", "delay_off"):
        (folder / name).write_text("0")
    return folder


def seen(light: Path) -> tuple[str, ...]:
    trigger = (light / "trigger").read_text()
    names = ("delay_on", "delay_off") if trigger == "timer" else ("brightness",)
    return (trigger, *((light / name).read_text() for name in names if (light / name).exists()))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(led: Led) -> AsyncIterator[Led]:
    task = asyncio.create_task(led.run())
    try:
        yield led
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def medium(nonce: str, outcome: Ending | MountRefusal | None = None, *, is_present: bool = True) -> MediumState:
    ended: Outcome | MountRefused | None = None
    if isinstance(outcome, Ending):
        ended = Outcome(outcome, None, Progress())
    elif outcome is not None:
        ended = MountRefused(outcome, "")
    return MediumState(nonce, f"/dev/{nonce}", 1, outcome=ended, is_present=is_present)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("ending", "shown"),
    [
        (Ending.SAFE, ON),
        (Ending.LEFT_ALONE, ON),
        (Ending.GONE, FAST),
        (Ending.INTERRUPTED, FAST),
        (MountRefusal.DAMAGED, FAST),
    ],
)
def test_it_blinks_during_a_visit_and_then_says_how_it_ended(
    light: Path, ending: Ending | MountRefusal, shown: tuple[str, ...]
) -> None:
    async def scenario() -> None:
        async with running(Led(light, remembered_seconds=0.0)) as led:
            await until(lambda: seen(light) == OFF)
            led.tell(Turn.BEGAN, medium("one"))
            await until(lambda: seen(light) == SLOW)
            led.tell(Turn.STAGE, medium("one"))
            led.tell(Turn.ENDED, medium("one", ending))
            await until(lambda: seen(light) == shown)
            led.tell(Turn.OUT, medium("one", ending, is_present=False))
            await until(lambda: seen(light) == OFF)

    run(scenario)


def test_of_two_media_work_is_shown_before_failure_and_failure_before_safety(light: Path) -> None:
    async def scenario() -> None:
        async with running(Led(light, remembered_seconds=0.0)) as led:
            led.tell(Turn.BEGAN, medium("one"))
            led.tell(Turn.BEGAN, medium("two"))
            led.tell(Turn.BEGAN, medium("three"))
            led.tell(Turn.ENDED, medium("one", Ending.UNREADABLE))
            led.tell(Turn.ENDED, medium("two", Ending.SAFE))
            await until(lambda: seen(light) == SLOW)
            led.tell(Turn.ENDED, medium("three", Ending.SAFE))
            await until(lambda: seen(light) == FAST)
            led.tell(Turn.OUT, medium("one", Ending.UNREADABLE, is_present=False))
            await until(lambda: seen(light) == ON)
            led.tell(Turn.OUT, medium("two", Ending.SAFE, is_present=False))
            led.tell(Turn.OUT, medium("three", Ending.SAFE, is_present=False))
            await until(lambda: seen(light) == OFF)

    run(scenario)


def test_a_drive_that_is_switched_off_at_the_end_is_still_shown_for_a_while(light: Path) -> None:
    async def scenario() -> None:
        async with running(Led(light, remembered_seconds=0.3)) as led:
            led.tell(Turn.BEGAN, medium("one"))
            led.tell(Turn.OUT, medium("one", is_present=False))
            await until(lambda: seen(light) == SLOW)
            led.tell(Turn.ENDED, medium("one", Ending.SAFE, is_present=False))
            await until(lambda: seen(light) == ON)
            await until(lambda: seen(light) == OFF)

    run(scenario)


def test_the_next_medium_takes_the_place_of_those_that_are_gone(light: Path) -> None:
    async def scenario() -> None:
        async with running(Led(light, remembered_seconds=3600.0)) as led:
            led.tell(Turn.BEGAN, medium("one"))
            led.tell(Turn.ENDED, medium("one", Ending.GONE, is_present=False))
            await until(lambda: seen(light) == FAST)
            led.tell(Turn.BEGAN, medium("two"))
            led.tell(Turn.ENDED, medium("two", Ending.SAFE))
            await until(lambda: seen(light) == ON)

    run(scenario)


def test_a_daemon_that_ends_leaves_the_light_off(light: Path) -> None:
    async def scenario() -> None:
        async with running(Led(light)) as led:
            led.tell(Turn.BEGAN, medium("one"))
            await until(lambda: seen(light) == SLOW)

    run(scenario)
    assert seen(light) == OFF


def test_it_waits_for_the_files_that_come_with_the_trigger(light: Path) -> None:
    for name in ("delay_on", "delay_off"):
        (light / name).rename(light / f"{name}.later")

    async def scenario() -> None:
        async with running(Led(light, udev_seconds=20.0)) as led:
            with capture_logs() as logs:
                led.tell(Turn.BEGAN, medium("one"))
                led.tell(Turn.ENDED, medium("one", Ending.GONE))
                await until(lambda: (light / "trigger").read_text() == "timer")
                for name in ("delay_on", "delay_off"):
                    (light / f"{name}.later").rename(light / name)
                await until(lambda: seen(light) == FAST)
            assert not logs

    run(scenario)


def test_what_it_may_not_do_is_told_once_and_changes_nothing(light: Path) -> None:
    for name in ("delay_on", "delay_off"):
        (light / name).unlink()

    async def scenario() -> None:
        with capture_logs() as logs:
            async with running(Led(light, remembered_seconds=0.0, udev_seconds=0.0)) as led:
                for nonce in ("one", "two", "three"):
                    led.tell(Turn.BEGAN, medium(nonce))
                    led.tell(Turn.ENDED, medium(nonce, Ending.GONE))
                    await until(lambda: (light / "trigger").read_text() == "timer")
                    led.tell(Turn.OUT, medium(nonce, Ending.GONE, is_present=False))
                    await until(lambda: seen(light) == OFF)
        assert [(log["event"], log["led"]) for log in logs] == [("led_failed", light.name)]
        assert "delay_on" in logs[0]["problem"] and "No such file" in logs[0]["problem"]

    run(scenario)


def test_a_light_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        with capture_logs() as logs:
            async with running(Led(tmp_path / "missing")) as led:
                await until(lambda: bool(logs))
                led.tell(Turn.BEGAN, medium("one"))
                await asyncio.sleep(0.05)
        assert [log["led"] for log in logs] == ["missing"] and not list(tmp_path.iterdir())

    run(scenario)
