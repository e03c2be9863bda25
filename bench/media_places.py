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

from bench.slow_image import slow_image, slowly
from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.folder_mounting import FolderMounting, folder_as_device
from edge_agent.usb_watch.mounting import Mounted, Mounting, MountRefused, Unmounted
from edge_agent.usb_watch.system_mounting import SystemMounting
from tests.support.loop_media import LoopMedium, loop_medium, why_no_loop_media

_MAKE: Final = {
    "vfat": ("mkfs.vfat", "-F", "32"),
    "exfat": ("mkfs.exfat",),
    # Nothing is left to be initialised after mounting, and nothing is given back to the disk.
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"),
}
"""File systems in the order in which they are usual on sticks."""

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
        match self.mounting.mount(self.device, writable=True):
            case Mounted() as mounted:
                try:
                    yield mounted.path
                finally:
                    unmounted = mounted.unmount()
                if unmounted != Unmounted(was_lazy=False):
                    raise RuntimeError(f"{self.words}: {unmounted}")
            case MountRefused() as refused:
                raise RuntimeError(f"{self.words}: {refused.sentence} {refused.detail}")


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
        size = max(_IMAGE_BYTES_MIN, envelopes * _IMAGE_BYTES_AN_ENVELOPE)
        with _on_disk(folder, file_system, size) as on_disk, _slow(folder, file_system, size) as slow:
            yield [on_disk, *slow, in_memory]


@contextmanager
def _on_disk(folder: Path, file_system: str, size: int) -> Iterator[Place]:
    image = folder / "disk.img"
    _write_image(image, size)
    with loop_medium(image) as medium:
        # What is read back is to come from the disk, and not from its cache below the loop device.
        subprocess.run(["losetup", "--direct-io=on", str(medium.node)], check=False, capture_output=True)
        yield _loop_place(f"{file_system} on this disk", medium, file_system, folder / "disk", nullcontext)


@contextmanager
def _slow(folder: Path, file_system: str, size: int) -> Iterator[list[Place]]:
    if not Path("/dev/fuse").exists():
        yield []
        return
    image = folder / "stick.img"
    with slow_image(image, size) as server, loop_medium(image) as medium:
        words = f"{file_system} as slow as a stick"
        yield [_loop_place(words, medium, file_system, folder / "stick", lambda: slowly(server))]


def _loop_place(
    words: str,
    medium: LoopMedium,
    file_system: str,
    home: Path,
    measured: Callable[[], AbstractContextManager[None]],
) -> Place:
    def renew() -> None:
        subprocess.run([*_MAKE[file_system], str(medium.node)], check=True, capture_output=True)

    home.mkdir()
    return Place(words, home, medium.block_device(file_system), SystemMounting(home / "mounts"), renew, measured)


def _folder_place(words: str, folder: Path, *, is_judged: bool = True) -> Place:
    medium, home = folder / "medium", folder / "home"
    home.mkdir()

    def renew() -> None:
        shutil.rmtree(medium, ignore_errors=True)
        medium.mkdir()

    return Place(words, home, folder_as_device(medium), FolderMounting(), renew, nullcontext, is_judged=is_judged)


def _write_image(image: Path, size: int) -> None:
    """Every block is there before anything is measured."""
    with image.open("wb") as file:
        block = bytes(1 << 20)
        for _ in range(size // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
