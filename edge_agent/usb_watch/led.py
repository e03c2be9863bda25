"""Shows on one light of the machine how the media stand; several media share it.

| the light       | means                                                            |
|-----------------|------------------------------------------------------------------|
| blinks slowly   | at least one medium is worked on: do not remove any              |
| blinks fast     | none is worked on, and at least one visit failed                 |
| is on           | none is worked on, and all may be removed                        |
| is off          | no medium is in place, and for a minute nothing else was to tell |

A visit that is over counts as long as its medium is in place, and in any case for a minute: the drive is switched off
at the end of a good visit, so that the medium is gone for the machine before anybody could take it out. The next
medium that is plugged in takes the place of those that are gone.

Source followed: Documentation/leds/leds-class.rst of the kernel and its timer trigger: `delay_on` and `delay_off` come
to be with the trigger, and whoever may write to them is settled by udev a moment later.
"""

from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Final

from edge_agent.usb_watch.media_watch import MediumState, Turn
from edge_agent.usb_watch.signs import Word, word_for
from operations.journal import get_logger

log = get_logger()

LEDS: Final = Path("/sys/class/leds")
TRIGGER: Final = "trigger"
BRIGHTNESS: Final = "brightness"
_BRIGHTNESS_MAX: Final = "max_brightness"
_DELAYS: Final = ("delay_on", "delay_off")

_SLOW_MILLISECONDS: Final = 500
_FAST_MILLISECONDS: Final = 100

_UDEV_POLL_SECONDS: Final = 0.05


class Light(Enum):
    """What is seen of the light."""

    OFF = "off"
    ON = "on"
    SLOW = "blinks slowly"
    FAST = "blinks fast"


@dataclass(frozen=True)
class _Shown:
    """A visit that counts; `counts_until` is the loop's time, None while its medium is in place."""

    word: Word
    is_present: bool = True
    counts_until: float = 0.0


class Led:
    """See the module, and `signs.Sign`; `run` does the writing. `folder` is the light's own, below LEDS."""

    def __init__(self, folder: Path, *, remembered_seconds: float = 60.0, udev_seconds: float = 2.0) -> None:
        self._folder = folder
        self._remembered_seconds = remembered_seconds
        self._udev_seconds = udev_seconds
        self._visits: dict[str, _Shown] = {}
        self._changed = asyncio.Event()
        self._told: set[str] = set()

    def tell(self, turn: Turn, state: MediumState) -> None:
        """See `Sign`."""
        match turn:
            case Turn.BEGAN:
                over = [nonce for nonce, one in self._visits.items() if _is_over(one)]
                for nonce in over:
                    del self._visits[nonce]
                self._visits[state.nonce] = _Shown(Word.WORKING)
            case Turn.ENDED:
                until = asyncio.get_running_loop().time() + self._remembered_seconds
                self._visits[state.nonce] = _Shown(word_for(state), state.is_present, until)
            case Turn.OUT if state.nonce in self._visits:
                self._visits[state.nonce] = replace(self._visits[state.nonce], is_present=False)
            case _:
                return
        self._changed.set()

    async def run(self) -> None:
        """Keep the light as it should be until cancelled; it is off before and after."""
        shown: Light | None = None
        try:
            while True:
                self._changed.clear()
                wanted = self._light()
                if wanted is not shown:
                    await self._show(wanted)
                    shown = wanted
                await self._until_something_changes()
        finally:
            self._try_to_set("none", "0")

    def _light(self) -> Light:
        now = asyncio.get_running_loop().time()
        self._visits = {
            nonce: one for nonce, one in self._visits.items() if not _is_over(one) or one.counts_until > now
        }
        words = {one.word for one in self._visits.values()}
        for word, light in ((Word.WORKING, Light.SLOW), (Word.FAILED, Light.FAST), (Word.SAFE, Light.ON)):
            if word in words:
                return light
        return Light.OFF

    async def _until_something_changes(self) -> None:
        """Return when something was told, or the next visit ceases to count."""
        ends = [one.counts_until for one in self._visits.values() if _is_over(one)]
        try:
            async with asyncio.timeout_at(min(ends) if ends else None):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _show(self, light: Light) -> None:
        match light:
            case Light.OFF:
                self._try_to_set("none", "0")
            case Light.ON:
                self._try_to_set("none", self._full())
            case Light.SLOW:
                # By itself the trigger blinks once a second, so that nothing depends on the delays here.
                if self._try_to_set("none", "0") and self._try_to_set("timer"):
                    await self._set_delays(_SLOW_MILLISECONDS, is_needed=False)
            case Light.FAST:
                if self._try_to_set("none", "0") and self._try_to_set("timer"):
                    await self._set_delays(_FAST_MILLISECONDS, is_needed=True)

    def _full(self) -> str:
        try:
            return (self._folder / _BRIGHTNESS_MAX).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return "1"

    def _try_to_set(self, trigger: str, brightness: str | None = None) -> bool:
        try:
            _write(self._folder / TRIGGER, trigger)
            if brightness is not None:
                _write(self._folder / BRIGHTNESS, brightness)
        except OSError as error:
            self._tell_problem(error)
            return False
        return True

    async def _set_delays(self, milliseconds: int, *, is_needed: bool) -> None:
        """Set how fast it blinks, as soon as udev has let us."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + (self._udev_seconds if is_needed else 0.0)
        while True:
            try:
                for name in _DELAYS:
                    _write(self._folder / name, str(milliseconds))
            except OSError as error:
                if loop.time() >= give_up:
                    if is_needed:
                        self._tell_problem(error)
                    return
                await asyncio.sleep(_UDEV_POLL_SECONDS)
            else:
                return

    def _tell_problem(self, error: OSError) -> None:
        """Tell each problem once: a light that cannot be used is no reason to fill the journal."""
        problem = f"{error.strerror or error}: {error.filename or self._folder}"
        if error.errno == errno.EINVAL:
            problem = f"the light does not know what it was told: {error.filename or self._folder}"
        if problem not in self._told:
            self._told.add(problem)
            log.warning("led_failed", led=self._folder.name, problem=problem)


def _is_over(one: _Shown) -> bool:
    """Whether the visit has ended and its medium is gone."""
    return one.word is not Word.WORKING and not one.is_present


def _write(path: Path, text: str) -> None:
    """Write into a file of sysfs, in one call; raises OSError that names it. It is never made."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode("ascii"))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)
