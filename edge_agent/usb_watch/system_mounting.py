"""Mounting with the kernel's own calls, for a daemon that has CAP_SYS_ADMIN where there is no UDisks2.

Source followed: mount(2), umount(2). The calls are made through ctypes and not by mount(8), because they answer with an
errno and not with a sentence, run no helper programs (mount.exfat, mount.ntfs), merge nothing of /etc/fstab into the
options, and need no second process.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.usb_watch import mount_table
from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.mount_table import device_number_of, fault_of_mount, mount_at, mounts_below
from edge_agent.usb_watch.mounting import (
    MOUNTED_FILE_SYSTEMS,
    Cleared,
    Mounted,
    MountRefusal,
    MountRefused,
    PoweredOff,
    PowerOffRefused,
    Unmounted,
    UnmountFailed,
)
from edge_agent.usb_watch.system_power import power_off_usb

_MS_RDONLY = 1
_MS_NOSUID = 2
_MS_NODEV = 4
_MS_NOEXEC = 8
_MS_NOSYMFOLLOW = 256
_MS_NOATIME = 1024
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_CAP_SYS_ADMIN = 21

_PLACE_PREFIX = "medium-"

# The medium may be gone when any of these is answered: then it is not damaged.
_REASONS = {
    errno.EPERM: MountRefusal.NOT_PERMITTED,
    errno.EACCES: MountRefusal.NOT_PERMITTED,
    errno.ENOENT: MountRefusal.VANISHED,
    errno.ENXIO: MountRefusal.VANISHED,
    errno.ENOMEDIUM: MountRefusal.VANISHED,
    errno.ENODEV: MountRefusal.UNKNOWN_FILE_SYSTEM,  # the kernel has no driver for it
    errno.EINVAL: MountRefusal.DAMAGED,
    errno.EUCLEAN: MountRefusal.DAMAGED,
    errno.EBADMSG: MountRefusal.DAMAGED,
    errno.EIO: MountRefusal.DAMAGED,
    errno.EROFS: MountRefusal.DAMAGED,  # ext4 that needs its journal replayed, on a write-protected medium
    errno.EBUSY: MountRefusal.BUSY,
}


@dataclass(frozen=True)
class SystemMounting:
    """`Mounting` by mount(2), below `places` (for example /run/edge-agent/media), which is this daemon's alone.

    What is on vfat and exfat belongs to `user_id` and `group_id`, and nobody else reads it. A busy mount is tried again
    after each of `retry_pauses_seconds`.
    """

    places: Path
    user_id: int = field(default_factory=os.geteuid)
    group_id: int = field(default_factory=os.getegid)
    retry_pauses_seconds: tuple[float, ...] = (0.1, 0.4, 1.5)
    pause: Callable[[float], object] = time.sleep
    sysfs: Path = mount_table.SYSFS
    process_status: Path = Path("/proc/self/status")

    def why_unavailable(self) -> str | None:
        """See `Mounting`."""
        found = re.search(r"^CapEff:\s*([0-9a-f]+)$", self.process_status.read_text(), re.MULTILINE)
        if found is None or not int(found[1], 16) & (1 << _CAP_SYS_ADMIN):
            return "mount(2) needs the capability CAP_SYS_ADMIN"
        return None

    def clear_leftovers(self) -> Cleared:
        """See `Mounting`: everything mounted below `places`, and its empty folders."""
        removed: list[Path] = []
        remaining: list[Path] = []
        for entry in mounts_below(self.places.resolve()):
            outcome = self._unmount(entry.path)
            (removed if isinstance(outcome, Unmounted) else remaining).append(entry.path)
        if self.places.is_dir():
            for place in self.places.glob(f"{_PLACE_PREFIX}*"):
                _remove_place(place)
        return Cleared(tuple(removed), tuple(remaining))

    def mount(self, device: BlockDevice, *, writable: bool) -> Mounted | MountRefused:
        """See `Mounting`."""
        if device.file_system not in MOUNTED_FILE_SYSTEMS:
            return MountRefused(
                MountRefusal.UNKNOWN_FILE_SYSTEM, f"{device.node}: {device.file_system or 'none known'}"
            )
        number = device_number_of(device.node, self.sysfs)
        if number is None:
            return MountRefused(MountRefusal.VANISHED, f"{device.node} is gone")
        try:
            self.places.mkdir(mode=0o700, parents=True, exist_ok=True)
            # resolve(): the kernel's list names the path without symbolic links.
            place = Path(tempfile.mkdtemp(prefix=_PLACE_PREFIX, dir=self.places)).resolve()
        except OSError as error:
            return MountRefused(MountRefusal.FAILED, f"no mount point in {self.places}: {error}")
        error_number = self._attach(device, place, writable=writable and not device.is_write_protected)
        if error_number:
            _remove_place(place)
            return self._refusal(device, error_number)
        entry = mount_at(place)
        fault = fault_of_mount(entry, number, os.uname().release)
        if entry is None or fault is not None:
            self._unmount(place)
            return MountRefused(MountRefusal.UNSAFE_OPTIONS, f"{device.node}: {fault}")
        return Mounted(place, entry.is_read_only, lambda: self._unmount(place))

    def power_off(self, device: BlockDevice) -> PoweredOff | PowerOffRefused:
        """See `Mounting`."""
        return power_off_usb(device.drive, self.sysfs)

    def _attach(self, device: BlockDevice, place: Path, *, writable: bool) -> int:
        """0, or the errno of the last attempt."""
        error_number = 0
        for flags in _attempts(writable=writable):
            error_number = _mount(device.node, place, device.file_system or "", flags, self._data(device))
            retried = (errno.EROFS, errno.EACCES, errno.EINVAL)
            if error_number not in retried:
                return error_number
        return error_number

    def _data(self, device: BlockDevice) -> str:
        """The file system's own options."""
        if device.file_system == "ext4":
            # A superblock can ask for a panic of the machine on errors: a stranger's stick is not to decide that.
            return "errors=remount-ro"
        # Only the daemon's user reads what is on it. A file needs no x: nothing is run.
        owner = f"uid={self.user_id},gid={self.group_id},fmask=0177,dmask=0077,errors=remount-ro"
        if device.file_system == "vfat":
            # flush: what is written leaves soon, for someone who pulls the stick out without waiting. exfat refuses it.
            return f"{owner},utf8=1,shortname=mixed,flush"
        return owner

    def _refusal(self, device: BlockDevice, error_number: int) -> MountRefused:
        reason = _REASONS.get(error_number, MountRefusal.FAILED)
        if device_number_of(device.node, self.sysfs) is None:
            reason = MountRefusal.VANISHED
        return MountRefused(reason, f"{device.node}: {device.file_system}: {os.strerror(error_number)}")

    def _unmount(self, place: Path) -> Unmounted | UnmountFailed:
        error_number = _unmount(place, 0)
        for seconds in self.retry_pauses_seconds:
            if error_number != errno.EBUSY:
                break
            self.pause(seconds)
            error_number = _unmount(place, 0)
        was_lazy = error_number == errno.EBUSY
        if was_lazy:
            error_number = _unmount(place, _MNT_DETACH)
        # EINVAL and ENOENT: nothing is mounted there (any more); the kernel's list has the last word.
        if mount_at(place) is not None:
            return UnmountFailed(f"{place}: {os.strerror(error_number)}")
        _remove_place(place)
        return Unmounted(was_lazy)


def _attempts(*, writable: bool) -> Iterator[int]:
    """The flags to try: what is wished; read-only, if the medium turns out to be; without the newest protection.

    A kernel before 5.10 may refuse to know nosymfollow; on a newer one a mount without it is found and undone.
    """
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOATIME
    for symlinks in (_MS_NOSYMFOLLOW, 0):
        if writable:
            yield flags | symlinks
        yield flags | symlinks | _MS_RDONLY


def _mount(node: str, place: Path, file_system: str, flags: int, data: str) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    words = (os.fsencode(node), os.fsencode(place), file_system.encode(), ctypes.c_ulong(flags), data.encode())
    return 0 if library.mount(*words) == 0 else ctypes.get_errno()


def _unmount(place: Path, flags: int) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    return 0 if library.umount2(os.fsencode(place), flags | _UMOUNT_NOFOLLOW) == 0 else ctypes.get_errno()


def _remove_place(place: Path) -> None:
    # Only ever an empty folder: were something still mounted or lying there, it stays.
    with contextlib.suppress(OSError):
        place.rmdir()
