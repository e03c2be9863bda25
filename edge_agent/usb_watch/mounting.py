"""The port by which media are mounted, and its words. Implemented by `system_mounting` and `udisks_mounting`.

Every call blocks, for as long as a broken stick takes, and is meant for the worker thread of one medium; calls from
several threads at once are allowed. Outcomes are returned; an exception is a bug.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from edge_agent.usb_watch.block_device import BlockDevice

# What udev calls the file systems that are mounted: no other parser of the kernel is shown to a stranger's medium.
MOUNTED_FILE_SYSTEMS = ("vfat", "exfat", "ext4")


class MountRefusal(Enum):
    """Why a medium is not mounted; each value is the sentence for people, fixed, so that it can be translated."""

    UNKNOWN_FILE_SYSTEM = (
        "The medium is not formatted in a way that this machine reads (FAT32, exFAT, ext4): use another medium."
    )
    VANISHED = "The medium was pulled out before it could be opened: plug it in again."
    NOT_PERMITTED = "The service may not mount media on this machine: ask the administrator to install its polkit rule."
    DAMAGED = "The file system of the medium is damaged: have it checked on a computer before it is used again."
    BUSY = "Another program is using the medium: close its files there, then plug the medium in again."
    UNSAFE_OPTIONS = "The medium could not be opened in the safe way, so it was not opened: tell the administrator."
    FAILED = "The medium could not be opened: plug it in again, and if that does not help, use another one."


@dataclass(frozen=True)
class MountRefused:
    """Nothing is mounted. `detail` is for the log: what the kernel or UDisks2 said."""

    reason: MountRefusal
    detail: str

    @property
    def sentence(self) -> str:
        """What is wrong and what to do next, in English."""
        return self.reason.value


@dataclass(frozen=True)
class Unmounted:
    """The mount is gone. `was_lazy`: only its name is, because files were open; the medium is not safe to remove."""

    was_lazy: bool


@dataclass(frozen=True)
class UnmountFailed:
    """The mount could not be taken away at all. `detail` is for the log."""

    detail: str

    @property
    def sentence(self) -> str:
        """What is wrong and what to do next, in English."""
        return "The medium could not be released: do not pull it out; switch this machine off first."


@dataclass(frozen=True)
class Mounted:
    """A medium's file system, mounted nosuid, nodev, noexec and, where there are links to follow, nosymfollow.

    `path` is its root. `is_read_only` is what the kernel says after mounting, whatever was asked for.
    """

    path: Path
    is_read_only: bool
    release: Callable[[], Unmounted | UnmountFailed]

    def unmount(self) -> Unmounted | UnmountFailed:
        """Takes the mount away, by force if need be; also of a medium that vanished, and a second time."""
        return self.release()


class PowerOffRefusal(Enum):
    """Why a drive stays powered; each value is the sentence for people, fixed, so that it can be translated."""

    VANISHED = "The medium has been pulled out already."
    BUSY = "Another program is using the medium: close its files there before pulling it out."
    NOT_PERMITTED = "The service may not switch media off: ask the administrator to install its polkit rule."
    NOT_SUPPORTED = "The medium cannot be switched off by the machine; it may be pulled out once it has been released."
    FAILED = "The medium could not be switched off."


@dataclass(frozen=True)
class PoweredOff:
    """What the drive still held in its cache is written, and it is off: it may be pulled out."""


@dataclass(frozen=True)
class PowerOffRefused:
    """The drive is still powered. `detail` is for the log."""

    reason: PowerOffRefusal
    detail: str

    @property
    def sentence(self) -> str:
        """What is wrong and what to do next, in English."""
        return self.reason.value


@dataclass(frozen=True)
class Cleared:
    """What a killed daemon had left mounted: taken away now, and (for the log) what would not go."""

    removed: tuple[Path, ...]
    remaining: tuple[Path, ...]


class Mounting(Protocol):
    """One way to mount media: the daemon asks `why_unavailable` of each at start and uses the first that can."""

    def why_unavailable(self) -> str | None:
        """Why this way cannot be used on this machine, for the log; None when it can."""

    def clear_leftovers(self) -> Cleared:
        """Takes away what an earlier daemon left mounted. To be called once, at start, before any `mount`."""

    def mount(self, device: BlockDevice, *, writable: bool) -> Mounted | MountRefused:
        """Mounts the device's file system, checked against the kernel's list of mounts.

        `writable` is a wish: a write-protected medium is mounted read-only, and `Mounted.is_read_only` says so.
        """

    def power_off(self, device: BlockDevice) -> PoweredOff | PowerOffRefused:
        """Switches off the whole drive of a device whose file systems are all unmounted."""
