"""What the parts of the USB watch tell each other of a medium's file system before it is mounted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BlockDevice:
    """One file system on a USB drive, as udev describes it; everything but `node` is the medium's own claim.

    `node` is the file system's device ("/dev/sdb1", or "/dev/sdb" without partitions), `drive` the whole drive's
    ("/dev/sdb"). `file_system` is udev's name of it ("vfat", "exfat", "ext4"), None when none was recognised.
    """

    node: str
    drive: str
    file_system: str | None
    size_bytes: int
    is_write_protected: bool
    label: str = ""
    serial: str = ""
