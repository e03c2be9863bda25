"""When the mesh is awake: pure, for any clock.

| duty | on mains | on battery |
|---|---|---|
| always | awake | awake |
| mains | awake | asleep |
| interval | awake | awake for AWAKE_SECONDS at the beginning of each interval of the device's clock |

Intervals begin at multiples of their length since 1970, so devices whose clocks are right are awake together. Nothing
is remembered between two turns: a clock that leaps is followed within TURN_SECONDS_MAX.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from typing import Final

AWAKE_SECONDS: Final = 90
TURN_SECONDS_MAX: Final = 60
"""So long may a clock that was set, or a charger that was plugged in, go unnoticed."""
_ROUNDING_SECONDS: Final = 0.01
"""So that a turn that was to end at a window's edge does not end just before it."""


class Duty(Enum):
    """How much of the time the mesh is awake."""

    ALWAYS = "always"
    MAINS = "mains"
    INTERVAL = "interval"


@dataclass(frozen=True)
class Turn:
    """What holds for the next `seconds`; then it is to be asked again. None: it will hold for ever.

    `asleep_because` is a sentence's end for people, None while awake. `gently`: what passes may come to its end first.
    """

    awake: bool
    seconds: float | None = None
    asleep_because: str | None = None
    gently: bool = False


def turn_of(duty: Duty, interval_minutes: int, *, on_mains: bool, now: int) -> Turn:
    """What holds at `now`, in microseconds since 1970, whatever they are."""
    if duty is Duty.ALWAYS:
        return Turn(awake=True)
    if on_mains:
        return Turn(awake=True, seconds=TURN_SECONDS_MAX)
    if duty is Duty.MAINS:
        return Turn(awake=False, seconds=TURN_SECONDS_MAX, asleep_because="the device is on battery")
    now_seconds, interval_seconds = now / 1_000_000, max(1, interval_minutes) * 60
    within_seconds = now_seconds % interval_seconds
    if within_seconds < AWAKE_SECONDS:
        return Turn(awake=True, seconds=_turn_seconds(min(AWAKE_SECONDS, interval_seconds) - within_seconds))
    left_seconds = interval_seconds - within_seconds
    at = time.strftime("%H:%M", time.localtime(round(now_seconds + left_seconds)))
    because = f"the next look at neighbours is at {at}"
    return Turn(awake=False, seconds=_turn_seconds(left_seconds), asleep_because=because, gently=True)


def _turn_seconds(left_seconds: float) -> float:
    return min(TURN_SECONDS_MAX, left_seconds + _ROUNDING_SECONDS)
