"""Mounting through UDisks2 over D-Bus, for a daemon that has no rights of its own beyond a polkit rule.

Source followed: the UDisks2 D-Bus reference. The bus library speaks asyncio; each call here runs a loop of its own
on the caller's thread and leaves nothing behind it.
"""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dbus_fast import Variant

from edge_agent.usb_watch import mount_table
from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.mount_table import (
    MountEntry,
    device_number_of,
    fault_of_mount,
    mount_at,
    mounts_below,
    read_mount_table,
)
from edge_agent.usb_watch.mounting import (
    MOUNTED_FILE_SYSTEMS,
    Cleared,
    Mounted,
    MountRefusal,
    MountRefused,
    PoweredOff,
    PowerOffRefusal,
    PowerOffRefused,
    Unmounted,
    UnmountFailed,
)
from edge_agent.usb_watch.udisks_bus import (
    BLOCK,
    DRIVE,
    FILE_SYSTEM,
    MANAGER,
    MANAGER_PATH,
    NO_DRIVE,
    BusFailure,
    UdisksBus,
    connected,
)

# Nobody sits there to answer a question for a password.
_YES = Variant("b", True)
_UNATTENDED = {"auth.no_user_interaction": _YES}
_OPTIONS = "nosuid,nodev,noexec,noatime"
# uid and gid are the caller's by default. exfat and ext4 get their errors=remount-ro by default.
_OPTIONS_OF = {"vfat": ",utf8=1,shortname=mixed,flush,umask=0077", "exfat": ",umask=0077", "ext4": ""}
_MEDIA_FOLDERS = (Path("/media"), Path("/run/media"))
# How often a desktop may be quicker in mounting a medium again than we in taking it over.
_TAKE_OVERS_MAX = 3


def own_media_folders() -> tuple[Path, ...]:
    """Where UDisks2 mounts what this process's user asks for; by distribution one or the other."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    return tuple(folder / name for folder in _MEDIA_FOLDERS)


@dataclass(frozen=True)
class UdisksMounting:
    """`Mounting` by UDisks2 on the bus at `bus_address`, None for the system bus.

    `media_folders` hold this user's mounts only. A busy mount is tried again after each of `retry_pauses_seconds`.
    """

    bus_address: str | None = None
    media_folders: tuple[Path, ...] = field(default_factory=own_media_folders)
    timeout_seconds: float = 60.0
    appearing_timeout_seconds: float = 10.0
    cleanup_timeout_seconds: float = 10.0
    retry_pauses_seconds: tuple[float, ...] = (0.1, 0.4, 1.5)
    sysfs: Path = mount_table.SYSFS
    mountinfo: Path = mount_table.MOUNTINFO

    def why_unavailable(self) -> str | None:
        """See `Mounting`; starts UDisks2, if the bus knows how to."""
        return asyncio.run(self._why_unavailable())

    def clear_leftovers(self) -> Cleared:
        """See `Mounting`: what is mounted in `media_folders` the way this class mounts."""
        return asyncio.run(self._clear_leftovers())

    def mount(self, device: BlockDevice, *, writable: bool) -> Mounted | MountRefused:
        """See `Mounting`; also takes over what a desktop has mounted already, if it is or can be made safe."""
        if device.file_system not in MOUNTED_FILE_SYSTEMS:
            return MountRefused(
                MountRefusal.UNKNOWN_FILE_SYSTEM, f"{device.node}: {device.file_system or 'none known'}"
            )
        return asyncio.run(self._mount(device, writable=writable and not device.is_write_protected))

    def power_off(self, device: BlockDevice) -> PoweredOff | PowerOffRefused:
        """See `Mounting`."""
        return asyncio.run(self._power_off(device))

    async def _why_unavailable(self) -> str | None:
        async with connected(self.bus_address, self.timeout_seconds) as bus:
            version = bus if isinstance(bus, BusFailure) else await bus.property(MANAGER_PATH, MANAGER, "Version")
            return f"UDisks2 does not answer: {version}" if isinstance(version, BusFailure) else None

    async def _mount(self, device: BlockDevice, *, writable: bool) -> Mounted | MountRefused:
        number = device_number_of(device.node, self.sysfs)
        if number is None:
            return MountRefused(MountRefusal.VANISHED, f"{device.node} is gone")
        async with connected(self.bus_address, self.timeout_seconds) as bus:
            if isinstance(bus, BusFailure):
                return MountRefused(MountRefusal.FAILED, str(bus))
            block = await bus.wait_for(
                device.node, self.appearing_timeout_seconds, lambda: self._is_gone(device, number)
            )
            if block is None:
                return self._refusal(device, number, BusFailure("unknown", "UDisks2 does not know the device"))
            if isinstance(block, BusFailure):
                return self._refusal(device, number, block)
            for _ in range(_TAKE_OVERS_MAX):
                answer = await self._ask_to_mount(bus, block, device, writable=writable)
                if not isinstance(answer, BusFailure):
                    return await self._checked(bus, block, device, number, Path(answer))
                if not answer.is_one_of("AlreadyMounted"):
                    if answer.is_timeout:
                        # The mount may still come about; UDisks2 answers this only after it, one call at a time.
                        await bus.call(block, FILE_SYSTEM, "Unmount", "a{sv}", ({**_UNATTENDED, "force": _YES},))
                    return self._refusal(device, number, answer)
                taken = await self._take_over(bus, block, device, number, writable=writable)
                if taken is not None:
                    return taken
            return MountRefused(MountRefusal.BUSY, f"{device.node}: another program mounts it again and again")

    async def _ask_to_mount(
        self, bus: UdisksBus, block: str, device: BlockDevice, *, writable: bool
    ) -> str | BusFailure:
        """The mount's path. Tried without nosymfollow where the system's mount library does not know the word."""
        file_system = device.file_system or ""
        # Never "rw": asked for by name, it is refused on a write-protected medium instead of becoming read-only.
        options = f"{_OPTIONS}{_OPTIONS_OF[file_system]}{'' if writable else ',ro'}"
        answer: str | BusFailure = BusFailure("untried", "")
        for symlinks in (f",{mount_table.NO_SYMLINKS}", ""):
            words = {"fstype": Variant("s", file_system), "options": Variant("s", options + symlinks)}
            answer = await bus.call(block, FILE_SYSTEM, "Mount", "a{sv}", ({**_UNATTENDED, **words},))
            if not isinstance(answer, BusFailure) or not answer.is_one_of("OptionNotPermitted", "Failed"):
                break
        return answer

    async def _checked(
        self, bus: UdisksBus, block: str, device: BlockDevice, number: tuple[int, int], path: Path
    ) -> Mounted | MountRefused:
        entry = mount_at(path, self.mountinfo)
        fault = fault_of_mount(entry, number, os.uname().release)
        if entry is not None and fault is None:
            return self._mounted(device, number, entry)
        await self._unmount_all(bus, block, number)
        if self._is_gone(device, number):
            return MountRefused(MountRefusal.VANISHED, f"{device.node} went while it was being mounted")
        return MountRefused(MountRefusal.UNSAFE_OPTIONS, f"{device.node} at {path}: {fault}")

    async def _take_over(
        self, bus: UdisksBus, block: str, device: BlockDevice, number: tuple[int, int], *, writable: bool
    ) -> Mounted | MountRefused | None:
        """Somebody has mounted it: that mount, if it is just as ours would be; otherwise takes it away (None)."""
        for entry in self._mounts_of(number):
            is_as_wished = not entry.is_read_only if writable else entry.is_read_only
            if fault_of_mount(entry, number, os.uname().release) is None and is_as_wished and _is_ours(entry, writable):
                return self._mounted(device, number, entry)
        outcome = await self._unmount_all(bus, block, number, may_force=False)
        return None if outcome is None else self._refusal(device, number, outcome)

    def _mounted(self, device: BlockDevice, number: tuple[int, int], entry: MountEntry) -> Mounted:
        return Mounted(entry.path, entry.is_read_only, lambda: asyncio.run(self._unmount(device.node, number)))

    async def _unmount(self, node: str, number: tuple[int, int]) -> Unmounted | UnmountFailed:
        """Takes away every mount of the device: only then it may be pulled out."""
        if not self._mounts_of(number):
            return Unmounted(was_lazy=False)
        async with connected(self.bus_address, self.timeout_seconds) as bus:
            if isinstance(bus, BusFailure):
                return UnmountFailed(f"{node}: {bus}")
            block = await bus.find(node)
            failure: BusFailure | None = BusFailure("unknown", "UDisks2 does not know the device any more")
            if isinstance(block, BusFailure):
                failure = block
            was_lazy = False
            if isinstance(block, str):
                failure = await self._unmount_all(bus, block, number, may_force=False)
                if failure is not None and self._mounts_of(number):
                    was_lazy = True
                    failure = await self._unmount_all(bus, block, number)
            # UDisks2 itself cleans up after a device that vanished.
            if failure is None or await self._wait_until_unmounted(number):
                return Unmounted(was_lazy)
            return UnmountFailed(f"{node}: {failure}")

    async def _unmount_all(
        self, bus: UdisksBus, block: str, number: tuple[int, int], *, may_force: bool = True
    ) -> BusFailure | None:
        """None when no mount of the device is left. Retries while it is busy; with `may_force` then a lazy one."""
        words = {**_UNATTENDED, "force": Variant("b", may_force)}
        pauses = iter(self.retry_pauses_seconds)
        while before := self._mounts_of(number):
            answer = await bus.call(block, FILE_SYSTEM, "Unmount", "a{sv}", (words,))
            left = self._mounts_of(number)
            if len(left) < len(before):
                continue  # it was mounted more than once: each call takes one away
            if not isinstance(answer, BusFailure):
                answer = BusFailure("still mounted", str(left[-1].path))
            pause = next(pauses, None)
            if pause is None or answer.is_one_of("NotAuthorized", "NotAuthorizedCanObtain", "NotAuthorizedDismissed"):
                return answer
            await asyncio.sleep(pause)
        return None

    async def _wait_until_unmounted(self, number: tuple[int, int]) -> bool:
        deadline = asyncio.get_running_loop().time() + self.cleanup_timeout_seconds
        while self._mounts_of(number):
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(0.1)
        return True

    async def _clear_leftovers(self) -> Cleared:
        removed: list[Path] = []
        remaining: list[Path] = []
        for entry in self._leftovers():
            outcome = await self._unmount(entry.source, entry.device_number)
            (removed if isinstance(outcome, Unmounted) else remaining).append(entry.path)
        return Cleared(tuple(removed), tuple(remaining))

    def _leftovers(self) -> Iterator[MountEntry]:
        # Should the daemon share its user with a desktop, the desktop's own mounts have no noexec and stay.
        for folder in self.media_folders:
            for entry in mounts_below(folder, self.mountinfo):
                if fault_of_mount(entry, entry.device_number, os.uname().release) is None:
                    yield entry

    async def _power_off(self, device: BlockDevice) -> PoweredOff | PowerOffRefused:
        number = device_number_of(device.drive, self.sysfs)
        if number is None:
            return PowerOffRefused(PowerOffRefusal.VANISHED, f"{device.drive} is gone")
        async with connected(self.bus_address, self.timeout_seconds) as bus:
            if isinstance(bus, BusFailure):
                return PowerOffRefused(PowerOffRefusal.FAILED, str(bus))
            answer: object = await bus.find(device.drive)
            if isinstance(answer, str):
                answer = await bus.property(answer, BLOCK, "Drive")
                if answer == NO_DRIVE:
                    return PowerOffRefused(PowerOffRefusal.NOT_SUPPORTED, f"{device.drive} is no drive to UDisks2")
                if isinstance(answer, str):
                    answer = await bus.call(answer, DRIVE, "PowerOff", "a{sv}", (_UNATTENDED,))
                    if answer is None:
                        return PoweredOff()
        return PowerOffRefused(self._power_off_reason(device, number, answer), f"{device.drive}: {answer}")

    def _power_off_reason(self, device: BlockDevice, number: tuple[int, int], answer: object) -> PowerOffRefusal:
        if device_number_of(device.drive, self.sysfs) != number or answer is None:
            return PowerOffRefusal.VANISHED
        if not isinstance(answer, BusFailure):
            return PowerOffRefusal.FAILED
        if answer.is_one_of("DeviceBusy"):
            return PowerOffRefusal.BUSY
        if answer.is_one_of("NotAuthorized", "NotAuthorizedCanObtain", "NotAuthorizedDismissed", "AccessDenied"):
            return PowerOffRefusal.NOT_PERMITTED
        return PowerOffRefusal.NOT_SUPPORTED if answer.is_one_of("NotSupported") else PowerOffRefusal.FAILED

    def _refusal(self, device: BlockDevice, number: tuple[int, int], failure: BusFailure) -> MountRefused:
        reason = MountRefusal.VANISHED if self._is_gone(device, number) else _reason_of(failure)
        return MountRefused(reason, f"{device.node}: {failure}")

    def _is_gone(self, device: BlockDevice, number: tuple[int, int]) -> bool:
        return device_number_of(device.node, self.sysfs) != number

    def _mounts_of(self, number: tuple[int, int]) -> list[MountEntry]:
        return [entry for entry in read_mount_table(self.mountinfo) if entry.device_number == number]


def _is_ours(entry: MountEntry, writable: bool) -> bool:
    """Whether this process can work there: on vfat and exfat everything belongs to whoever had it mounted."""
    return os.access(entry.path, os.R_OK | os.X_OK | (os.W_OK if writable else 0))


def _reason_of(failure: BusFailure) -> MountRefusal:
    if failure.is_one_of("NotAuthorized", "NotAuthorizedCanObtain", "NotAuthorizedDismissed", "AccessDenied"):
        return MountRefusal.NOT_PERMITTED
    if failure.is_one_of("DeviceBusy", "AlreadyMounted", "AlreadyUnmounting", "MountedByOtherUser"):
        return MountRefusal.BUSY
    if failure.is_one_of("OptionNotPermitted"):
        return MountRefusal.UNSAFE_OPTIONS
    if failure.is_one_of("UnknownObject", "UnknownMethod", "UnknownInterface"):
        # The device is there and UDisks2 sees no file system on it.
        return MountRefusal.UNKNOWN_FILE_SYSTEM
    # For the rest UDisks2 has but a sentence of libmount, in English: it runs without a locale.
    if "unknown filesystem type" in failure.text:
        return MountRefusal.UNKNOWN_FILE_SYSTEM
    damaged = ("bad superblock", "wrong fs type", "needs cleaning", "Structure needs", "Input/output error")
    return MountRefusal.DAMAGED if any(word in failure.text for word in damaged) else MountRefusal.FAILED
