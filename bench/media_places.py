"""Media to measure on: a file system on a loop device of this disk, the same as slow as a stick, and memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.folder_mounting import FolderMounting, folder_as_device
from edge_agent.usb_watch.mounting import Mounting, MountRefused, Unmounted
from edge_agent.usb_watch.system_mounting import SystemMounting
from tests.support.loop_media import LoopMedium, loop_medium, why_no_loop_media

STICK_WRITE_BYTES: Final = 10_000_000
STICK_READ_BYTES: Final = 30_000_000
"""Bytes a second of a plain USB 2.0 stick."""

_MAKE: Final = {
    "vfat": ("mkfs.vfat", "-F", "32"),
    "exfat": ("mkfs.exfat",),
    # Nothing is left to be initialised after mounting, and nothing is given back to the disk.
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"),
}
"""File systems in the order in which they are usual on sticks."""

_THROTTLE: Final = Path("/sys/fs/cgroup/blkio")
_MEMORY: Final = Path("/dev/shm")
_IMAGE_BYTES_MIN: Final = 48 << 20
_IMAGE_BYTES_AN_ENVELOPE: Final = 8 << 10


@dataclass(frozen=True)
class Place:
    """One medium. `home` is a folder for queues and copies, on what a device of this medium has as its disk; `renew`
    empties the medium; while `measured`, it is as slow as it claims to be.
    """

    words: str
    home: Path
    device: BlockDevice
    mounting: Mounting
    renew: Callable[[], None]
    measured: Callable[[], AbstractContextManager[None]]
    is_judged: bool = True

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """Mount for a while, as a visit does; raises RuntimeError when that does not work."""
        mounted = self.mounting.mount(self.device, writable=True)
        if isinstance(mounted, MountRefused):
            raise RuntimeError(f"{self.words}: {mounted.sentence} {mounted.detail}")
        try:
            yield mounted.path
        finally:
            unmounted = mounted.unmount()
        if unmounted != Unmounted(was_lazy=False):
            raise RuntimeError(f"{self.words}: {unmounted}")


@contextmanager
def places(folder: Path, envelopes: int) -> Iterator[list[Place]]:
    """Yield the media that this machine has, each with room for so many envelopes, in the order of the table."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="census-bench-", dir=_MEMORY if _MEMORY.is_dir() else None) as memory:
        in_memory = _folder_place("memory", Path(memory), is_judged=False)
        file_system = next((one for one in _MAKE if why_no_loop_media(one) is None), None)
        if file_system is None:
            yield [_folder_place("a folder of this disk (no loop devices here)", folder), in_memory]
            return
        image = folder / "medium.img"
        _write_image(image, max(_IMAGE_BYTES_MIN, envelopes * _IMAGE_BYTES_AN_ENVELOPE))
        with loop_medium(image) as medium:
            # What is read back is to come from the disk, and not from its cache below the loop device.
            subprocess.run(["losetup", "--direct-io=on", str(medium.node)], check=False, capture_output=True)
            found = [_loop_place(medium, file_system, folder, is_slow=False)]
            if (_THROTTLE / "blkio.throttle.write_bps_device").exists():
                found.append(_loop_place(medium, file_system, folder, is_slow=True))
            yield [*found, in_memory]


def _loop_place(medium: LoopMedium, file_system: str, folder: Path, *, is_slow: bool) -> Place:
    def renew() -> None:
        subprocess.run([*_MAKE[file_system], str(medium.node)], check=True, capture_output=True)

    name = "stick" if is_slow else "disk"
    home = folder / name
    home.mkdir()
    return Place(
        words=f"{file_system} as slow as a stick" if is_slow else f"{file_system} on this disk",
        home=home,
        device=medium.block_device(file_system),
        mounting=SystemMounting(folder / "mounts"),
        renew=renew,
        measured=(lambda: _throttled(medium)) if is_slow else nullcontext,
    )


def _folder_place(words: str, folder: Path, *, is_judged: bool = True) -> Place:
    medium, home = folder / "medium", folder / "home"
    home.mkdir()

    def renew() -> None:
        shutil.rmtree(medium, ignore_errors=True)
        medium.mkdir()

    return Place(words, home, folder_as_device(medium), FolderMounting(), renew, nullcontext, is_judged=is_judged)


@contextmanager
def _throttled(medium: LoopMedium) -> Iterator[None]:
    """Let the kernel hold this one device back."""
    speeds = {"write": STICK_WRITE_BYTES, "read": STICK_READ_BYTES}
    try:
        for way, bytes_a_second in speeds.items():
            _throttle(medium, way, bytes_a_second)
        yield
    finally:
        for way in speeds:
            _throttle(medium, way, 0)


def _throttle(medium: LoopMedium, way: str, bytes_a_second: int) -> None:
    major, minor = medium.device_number
    (_THROTTLE / f"blkio.throttle.{way}_bps_device").write_text(f"{major}:{minor} {bytes_a_second}")


def _write_image(image: Path, size: int) -> None:
    """Every block is there before anything is measured."""
    with image.open("wb") as file:
        block = bytes(1 << 20)
        for _ in range(size // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
