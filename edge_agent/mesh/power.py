"""Says whether this machine is on mains power, from what the kernel tells in /sys/class/power_supply.

Source followed: Documentation/ABI/testing/sysfs-class-power. The rule, whole: a machine without a battery of its own is
on mains. Otherwise the chargers decide, if the kernel knows any; and if it knows none, what the batteries do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

POWER_SUPPLIES: Final = Path("/sys/class/power_supply")
READ_AGAIN_SECONDS: Final = 60
"""A plug that is loose must not switch the mesh on and off all the time."""

_BATTERY: Final = "Battery"
_OFFLINE: Final = "0"
_FED: Final = frozenset({"Charging", "Full", "Not charging"})


class Power:
    """Reads at most once a minute, unless it is told to forget."""

    def __init__(self, folder: Path = POWER_SUPPLIES) -> None:
        self._folder = folder
        self._read_at: float | None = None
        self._mains = True

    def on_mains(self, now_seconds: float) -> bool:
        """Whether this machine is on mains; `now_seconds` is monotonic. Never raises."""
        if self._read_at is None or now_seconds - self._read_at >= READ_AGAIN_SECONDS:
            self._read_at, self._mains = now_seconds, is_on_mains(self._folder)
        return self._mains

    def forget(self) -> None:
        """Read anew at the next question."""
        self._read_at = None


def is_on_mains(folder: Path) -> bool:
    """What the folder says now. Never raises: what cannot be read is not there."""
    try:
        supplies = sorted(folder.iterdir())
    except OSError:
        return True
    kinds = {supply: _word(supply / "type") for supply in supplies}
    batteries = [supply for supply, kind in kinds.items() if kind == _BATTERY and _is_of_the_machine(supply)]
    if not batteries:
        return True
    chargers = [_word(supply / "online") for supply, kind in kinds.items() if kind not in (None, _BATTERY, "UPS")]
    known = [online for online in chargers if online is not None]
    if known:
        return any(online != _OFFLINE for online in known)  # 2 is online, too: with a fixed voltage
    return all(_word(battery / "status") in _FED for battery in batteries)


def _is_of_the_machine(battery: Path) -> bool:
    # A mouse and a stylus have batteries as well: their scope is "Device". An empty bay has one that is not present.
    return _word(battery / "scope") != "Device" and _word(battery / "present") != "0"


def _word(path: Path) -> str | None:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return None
