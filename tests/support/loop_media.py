"""Media for tests: file system images on loop devices that can really vanish. Needs root, losetup and mkfs."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.mount_table import device_number_of, read_mount_table
from tests.support.processes import wait_until

_LOOP_CTL_ADD = 0x4C80
_LOOP_CTL_REMOVE = 0x4C81
_MNT_DETACH = 2
_SIZE_BYTES = {"ext4": 8 << 20, "vfat": 40 << 20, "exfat": 16 << 20}
_MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "vfat": ["mkfs.vfat", "-F", "32"], "exfat": ["mkfs.exfat"]}


def why_no_loop_media(file_system: str = "ext4") -> str | None:
    """The reason to skip a test that mounts media; None when it can run here."""
    if os.geteuid() != 0:
        return "mounting media on loop devices needs root"
    if shutil.which("losetup") is None or not Path("/dev/loop-control").exists():
        return "there are no loop devices here"
    if shutil.which(_MAKE[file_system][0]) is None:
        return f"{_MAKE[file_system][0]} is not installed"
    if file_system not in Path("/proc/filesystems").read_text().split():
        loader = shutil.which("modprobe")
        words = [loader or "false", "--dry-run", file_system]
        if subprocess.run(words, capture_output=True, check=False).returncode != 0:
            return f"this kernel has no {file_system}"
    return None


def make_image(image: Path, file_system: str, content: Path | None = None) -> None:
    """A fresh file system; `content` is copied into an ext4 one, device nodes and links as they are."""
    with image.open("wb") as file:
        file.truncate(_SIZE_BYTES[file_system])
    populate = ["-d", str(content)] if content is not None else []
    subprocess.run([*_MAKE[file_system], *populate, str(image)], check=True, capture_output=True)


@dataclass
class LoopMedium:
    """One loop device with a number of its own."""

    number: int
    image: Path

    @property
    def node(self) -> Path:
        """The device."""
        return Path(f"/dev/loop{self.number}")

    @property
    def device_number(self) -> tuple[int, int]:
        """(major, minor)."""
        return (7, self.number)

    def block_device(self, file_system: str | None, *, is_write_protected: bool = False) -> BlockDevice:
        """The medium as the hotplug would describe it."""
        node = str(self.node)
        return BlockDevice(node, node, file_system, self.image.stat().st_size, is_write_protected)

    def vanish(self) -> None:
        """Node and sysfs folder go, as when a stick is pulled out. Only when nothing is mounted."""
        subprocess.run(["losetup", "--detach", str(self.node)], check=False, capture_output=True)

        def removed() -> bool:
            with contextlib.suppress(OSError):
                _control(_LOOP_CTL_REMOVE, self.number)
            return device_number_of(str(self.node)) is None

        wait_until(removed, "the loop device to go")
        self.node.unlink(missing_ok=True)

    def mounts(self) -> list[Path]:
        """Where it is mounted."""
        return [entry.path for entry in read_mount_table() if entry.device_number == self.device_number]


@contextlib.contextmanager
def loop_medium(image: Path, *, is_write_protected: bool = False) -> Iterator[LoopMedium]:
    """The image on a loop device; afterwards it is mounted nowhere and the device is gone."""
    medium = LoopMedium(_add_loop_device(), image)
    if not medium.node.exists():  # /dev is a copy that the kernel does not write to
        os.mknod(medium.node, stat.S_IFBLK | 0o600, os.makedev(*medium.device_number))
    read_only = ["--read-only"] if is_write_protected else []
    subprocess.run(["losetup", *read_only, str(medium.node), str(image)], check=True, capture_output=True)
    try:
        yield medium
    finally:
        library = ctypes.CDLL(None)
        for path in medium.mounts():
            library.umount2(os.fsencode(path), _MNT_DETACH)
        medium.vanish()


def _add_loop_device() -> int:
    while True:
        number = random.randrange(10_000, 1_000_000)
        with contextlib.suppress(FileExistsError):
            _control(_LOOP_CTL_ADD, number)
            return number


def _control(request: int, number: int) -> None:
    with Path("/dev/loop-control").open("rb") as control:
        fcntl.ioctl(control, request, number)
