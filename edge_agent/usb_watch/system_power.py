"""Switching a USB drive off through sysfs, for `system_mounting`.

Source followed: the kernel's ABI texts for /sys/block/DISK/device/delete and /sys/bus/usb/devices/*/remove.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from edge_agent.usb_watch.mounting import PoweredOff, PowerOffRefusal, PowerOffRefused

_REASONS = {
    errno.EBUSY: PowerOffRefusal.BUSY,
    errno.EPERM: PowerOffRefusal.NOT_PERMITTED,
    errno.EACCES: PowerOffRefusal.NOT_PERMITTED,
    errno.EROFS: PowerOffRefusal.NOT_PERMITTED,  # /sys is read-only under ProtectKernelTunables=
    errno.ENODEV: PowerOffRefusal.VANISHED,
    errno.ENXIO: PowerOffRefusal.VANISHED,
    errno.ENOENT: PowerOffRefusal.VANISHED,
}
_GONE = (errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.ENOMEDIUM)


def power_off_usb(drive: str, sysfs: Path) -> PoweredOff | PowerOffRefused:
    """Flushes the drive, detaches it from the kernel, and has its USB port switch it off; needs root and /dev."""
    disk = sysfs / "class" / "block" / Path(drive).name
    if not disk.exists():
        return PowerOffRefused(PowerOffRefusal.VANISHED, f"{drive} is gone")
    usb_device = _usb_device_of(disk.resolve())
    if usb_device is None:
        return PowerOffRefused(PowerOffRefusal.NOT_SUPPORTED, f"{drive} is not on USB")
    # A card reader is several drives in one device: all of them lose power.
    disks = sorted(path for path in usb_device.glob("*/host*/target*/*/block/*") if path.is_dir())
    try:
        for path in disks:
            _flush(Path(drive).parent / path.name)
        for path in disks:
            _write_one(path / "device" / "delete")  # the kernel asks the drive to empty its cache first
        _write_one(usb_device / "remove")
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, PowerOffRefusal.FAILED)
        return PowerOffRefused(reason, f"{drive}: {error}")
    return PoweredOff()


def _usb_device_of(disk: Path) -> Path | None:
    """The folder of the USB device (not of its interface) that the disk belongs to."""
    for folder in disk.parents:
        if (folder / "idVendor").exists() and (folder / "remove").exists():
            return folder
    return None


def _flush(node: Path) -> None:
    """fsync of the drive; EBUSY if a file system of it is mounted, in whichever namespace."""
    try:
        descriptor = os.open(node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _GONE:
            return  # an empty slot of a card reader
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_one(attribute: Path) -> None:
    descriptor = os.open(attribute, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"1")
    finally:
        os.close(descriptor)
