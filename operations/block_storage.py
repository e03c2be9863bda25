"""A block device that nobody else uses: opened for itself alone, read past the system's memory of it."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SYSFS: Final = Path("/sys")


class DeviceUnfit(Exception):
    """The device is not to be worked on; `remedy` says what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


class DeviceStorage:
    """`capacity_check.BlockStorage` on a descriptor that was opened with O_DIRECT."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size_bytes = os.lseek(descriptor, 0, os.SEEK_END)

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read(self, offset: int, size: int) -> bytes:
        # O_DIRECT asks for memory that begins at a page, as a mapping does.
        with mmap.mmap(-1, size) as memory:
            if os.preadv(self._descriptor, [memory], offset) != size:
                raise OSError(errno.EIO, "the device ends before its size")
            return memory[:]

    def write(self, offset: int, data: bytes) -> None:
        with mmap.mmap(-1, len(data)) as memory:
            memory[:] = data
            if os.pwritev(self._descriptor, [memory], offset) != len(data):
                raise OSError(errno.EIO, "the device takes less than its size")

    def settle(self) -> None:
        os.fsync(self._descriptor)


@contextmanager
def device_storage(node: Path, *, on_usb_only: bool, sysfs: Path = SYSFS) -> Iterator[DeviceStorage]:
    """Open a block device with a file system on it, or that could have one; raises DeviceUnfit.

    As long as it is open, nobody can mount it; and it is not opened while it is mounted. Needs root.
    """
    check_device(node, on_usb_only=on_usb_only, sysfs=sysfs)
    try:
        # On a block device O_EXCL means: for nobody else who asks so, and every mount does.
        descriptor = os.open(node, os.O_RDWR | os.O_EXCL | os.O_DIRECT | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise DeviceUnfit(f"{node} cannot be opened: {error.strerror}", _remedy(node, error.errno)) from None
    try:
        yield DeviceStorage(descriptor)
    finally:
        os.close(descriptor)


def check_device(node: Path, *, on_usb_only: bool, sysfs: Path = SYSFS) -> None:
    """Raise DeviceUnfit unless this names one partition, or a whole drive without partitions, on USB if so asked."""
    try:
        status = node.lstat()
    except OSError as error:
        raise DeviceUnfit(f"{node}: {error.strerror}", "plug the stick in; lsblk shows what is there") from None
    if not stat.S_ISBLK(status.st_mode):
        raise DeviceUnfit(f"{node} is no block device", "name the stick's partition, such as /dev/sdb1: lsblk shows it")
    place = sysfs / "dev" / "block" / f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    partitions = sorted(f"/dev/{one.parent.name}" for one in place.glob("*/partition"))
    if partitions:
        raise DeviceUnfit(f"{node} is divided into partitions", f"name one of them: {' '.join(partitions)}")
    on_usb = any(part.startswith("usb") and part[3:].isdigit() for part in place.resolve().parts)
    if on_usb_only and not on_usb:
        raise DeviceUnfit(
            f"{node} is not on USB", "lsblk -o NAME,TRAN,SIZE,LABEL shows which is; --internal allows for a card reader"
        )


def drive_of(node: Path, sysfs: Path = SYSFS) -> str:
    """Return the whole drive's node of a partition's, or the same one."""
    place = (sysfs / "class" / "block" / node.name).resolve()
    return f"/dev/{place.parent.name}" if (place / "partition").exists() else str(node)


def _remedy(node: Path, error_number: int | None) -> str:
    match error_number:
        case errno.EBUSY:
            return f"unmount it: umount {node}"
        case errno.EACCES | errno.EPERM:
            return "run it with sudo"
        case errno.EROFS:
            return "push the lock on its side back, or take another stick: it is write-protected"
        case _:
            return "plug it in again, or take another stick"
