"""Says whether the running system itself lives on a drive: a tablet may have been started from USB, or swap to it.

A drive is in use by the system when any of its parts (partitions, and what is stacked on them: dm-crypt, LVM, RAID) is
mounted anywhere but where media are mounted, or is swapped to. Places are not told apart further: what somebody has
mounted in an unusual place is left alone too. Source followed: proc(5) on mountinfo and swaps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

MEDIA_PLACES: Final = ("/media", "/mnt", "/run/media", "/run/edge-agent")
"""Below these media are mounted: by UDisks2, by people, by the daemon itself."""

_BLOCK_CLASS: Final = Path("/sys/class/block")
_PARTS_MAX: Final = 1024
_MOUNTINFO_FIELDS_MIN: Final = 10
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class DrivePart:
    """A drive, one of its partitions, or what is stacked on one: "major:minor", and the names of its nodes."""

    number: str
    nodes: frozenset[str]


@dataclass(frozen=True)
class _Mount:
    number: str
    place: PurePosixPath
    source: str


def place_in_use(
    parts: Iterable[DrivePart], mountinfo: str, swaps: str, media_places: Sequence[str] = MEDIA_PLACES
) -> str | None:
    """Return where the system uses the drive that has these parts ("/boot", "swap"); None when it does not.

    `mountinfo` and `swaps` are the texts of /proc/self/mountinfo and /proc/swaps; lines that make no sense are skipped.
    """
    parts = tuple(parts)
    numbers = {part.number for part in parts}
    nodes = frozenset[str]().union(*(part.nodes for part in parts))
    mounts = _mounts(mountinfo)
    for mount in mounts:
        # btrfs shows a number of its own for the device, but names the node.
        is_here = mount.number in numbers or mount.source in nodes
        if is_here and not any(mount.place.is_relative_to(place) for place in media_places):
            return str(mount.place)
    for swap in _swaps(swaps):
        if swap in nodes:
            return "swap"
        holder = _holder_of(swap, mounts)
        if holder is not None and (holder.number in numbers or holder.source in nodes):
            return "swap"
    return None


def parts_of(drive: str, block_class: Path = _BLOCK_CLASS) -> frozenset[DrivePart]:
    """Return the drive ("/dev/sdb"), its partitions and all that is stacked on them, as sysfs shows them now."""
    waiting = [drive.removeprefix("/dev/")]
    parts: dict[str, DrivePart] = {}
    while waiting and len(parts) < _PARTS_MAX:
        name = waiting.pop()
        folder = block_class / name
        number = _text(folder / "dev")
        if name in parts or number is None:
            continue
        mapped = _text(folder / "dm" / "name")
        nodes = {f"/dev/{name}"} | ({f"/dev/mapper/{mapped}"} if mapped else set())
        parts[name] = DrivePart(number, frozenset(nodes))
        waiting += [child.parent.name for child in folder.glob("*/partition")]
        waiting += [child.name for child in folder.glob("holders/*")]
    return frozenset(parts.values())


def _mounts(mountinfo: str) -> list[_Mount]:
    mounts = []
    for line in mountinfo.splitlines():
        words = line.split(" ")
        if len(words) < _MOUNTINFO_FIELDS_MIN or "-" not in words[6:]:
            continue
        after_separator = words[words.index("-", 6) + 1 :]
        source = _unescaped(after_separator[1]) if len(after_separator) > 1 else ""
        mounts.append(_Mount(words[2], PurePosixPath(_unescaped(words[4])), source))
    return mounts


def _swaps(swaps: str) -> list[str]:
    """Return the paths of the lines; the header's first word is no path."""
    return [_unescaped(line.split()[0]) for line in swaps.splitlines() if line.startswith("/")]


def _holder_of(path: str, mounts: Iterable[_Mount]) -> _Mount | None:
    """Return the mount that a swap file lies in: the longest way to it; of equal ones the last covers the others."""
    holder: _Mount | None = None
    for mount in mounts:
        if PurePosixPath(path).is_relative_to(mount.place) and (
            holder is None or len(mount.place.parts) >= len(holder.place.parts)
        ):
            holder = mount
    return holder


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return None
