"""The kernel's own list of mounts, and whether a mount of a medium is what was asked for.

Source followed: proc(5), section /proc/[pid]/mountinfo; sysfs, /sys/class/block/NAME/dev.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")
SYSFS = Path("/sys")

# Without one of these a stranger's stick could bring a program, a device node or a setuid file to life.
PROTECTIONS = ("nosuid", "nodev", "noexec")
NO_SYMLINKS = "nosymfollow"
# The first kernel that can refuse to follow symbolic links on a mount.
_NOSYMFOLLOW_SINCE = (5, 10)
# These two know no symbolic links at all, so that nothing is missing where the option could not be had.
_WITHOUT_SYMLINKS = ("vfat", "exfat")


@dataclass(frozen=True)
class MountEntry:
    """One line of the kernel's list; `device_number` is (major, minor), `source` what the mounter called the device."""

    device_number: tuple[int, int]
    root: str
    path: Path
    options: frozenset[str]
    file_system: str
    source: str
    super_options: frozenset[str]

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written, be it this mount or the whole file system that says so."""
        return "ro" in self.options or "ro" in self.super_options


def read_mount_table(mountinfo: Path = MOUNTINFO) -> list[MountEntry]:
    """Every mount that this process sees, in the order of mounting; raises OSError without /proc."""
    return [_parse(line) for line in mountinfo.read_bytes().splitlines()]


def _parse(line: bytes) -> MountEntry:
    before, _, after = line.partition(b" - ")
    _, _, number, root, path, options, *_ = before.split(b" ")
    file_system, source, super_options = after.split(b" ")
    major, _, minor = number.partition(b":")
    return MountEntry(
        (int(major), int(minor)),
        _unescape(root),
        Path(_unescape(path)),
        frozenset(os.fsdecode(options).split(",")),
        os.fsdecode(file_system),
        _unescape(source),
        frozenset(os.fsdecode(super_options).split(",")),
    )


def _unescape(field: bytes) -> str:
    # The kernel writes space, tab, newline and backslash as three octal digits.
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), field))


def device_number_of(node: str, sysfs: Path = SYSFS) -> tuple[int, int] | None:
    """(major, minor) of the device at /dev/NAME; None when it is gone.

    Asked of sysfs, because a daemon with PrivateDevices= has no nodes of disks.
    """
    try:
        major, _, minor = (sysfs / "class" / "block" / Path(node).name / "dev").read_text().strip().partition(":")
        return int(major), int(minor)
    except (OSError, ValueError):
        return None


def kernel_has_nosymfollow(release: str) -> bool:
    """Whether a kernel of that release ("6.1.0-18-amd64") knows the option; an unreadable release counts as new."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is None or (int(found[1]), int(found[2])) >= _NOSYMFOLLOW_SINCE


def fault_of_mount(entry: MountEntry | None, device_number: tuple[int, int], kernel_release: str) -> str | None:
    """Why a mount may not be used: it is not there, of another device or without a protection; None when it may."""
    if entry is None:
        return "the kernel does not list the mount"
    if entry.device_number != device_number or entry.root != "/":
        return f"another device is mounted there: {entry.device_number[0]}:{entry.device_number[1]}"
    required = list(PROTECTIONS)
    if entry.file_system not in _WITHOUT_SYMLINKS and kernel_has_nosymfollow(kernel_release):
        required.append(NO_SYMLINKS)
    missing = [option for option in required if option not in entry.options]
    return f"mounted without {', '.join(missing)}" if missing else None


def mount_at(path: Path, mountinfo: Path = MOUNTINFO) -> MountEntry | None:
    """The mount at exactly that path, the uppermost of several; None when nothing is mounted there."""
    found = [entry for entry in read_mount_table(mountinfo) if entry.path == path]
    return found[-1] if found else None


def mounts_below(folder: Path, mountinfo: Path = MOUNTINFO) -> list[MountEntry]:
    """Every mount inside the folder, the newest first, so that they can be unmounted in this order."""
    return [entry for entry in reversed(read_mount_table(mountinfo)) if folder in entry.path.parents]
