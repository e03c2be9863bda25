"""Sticks as image files: made, filled and read on the host, whatever the guest does with them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.vm.exfat_files import ExfatFiles

_SECTOR_BYTES: Final = 512
FIRST_SECTOR: Final = 2048
STICK_BYTES: Final = 96 << 20
Content = Mapping[str, bytes]

_MAKE: Final = {
    "vfat": ("mkfs.vfat", "-F", "32", "-s", "1"),
    "exfat": ("mkfs.exfat",),
    "ext4": ("mkfs.ext4", "-q", "-F"),
}
_CHECK: Final = {"vfat": ("fsck.vfat", "-n"), "exfat": ("fsck.exfat", "-n"), "ext4": ("e2fsck", "-f", "-n")}


class Layout(Enum):
    """Where the file system lies; as sfdisk is told, without the sizes."""

    WHOLE = "no partition table"
    MBR = "dos"
    GPT = "gpt"


@dataclass(frozen=True)
class Stick:
    """One stick. `name` is also how the machine calls it; `first_sector` is where its file system begins."""

    name: str
    image: Path
    file_system: str
    first_sector: int

    def digest(self) -> str:
        """Of every byte of it."""
        with self.image.open("rb") as file:
            return sha256(file.read()).hexdigest()

    def files(self) -> dict[str, bytes]:
        """Return its files by their paths."""
        if self.file_system == "exfat":
            return ExfatFiles(self._partition()).read()
        with TemporaryDirectory() as name:
            folder = Path(name, "files")
            folder.mkdir()
            if self.file_system == "vfat":
                _run("mcopy", "-s", "-n", "-Q", "-m", "-i", self._place, "::*", str(folder))
            else:
                inner = Path(name, "partition")
                inner.write_bytes(self._partition())
                _run("debugfs", "-R", f"rdump / {folder}", str(inner))
            return {str(path.relative_to(folder)): path.read_bytes() for path in _plain_files(folder)}

    def put(self, content: Content) -> None:
        """Write files onto a vfat stick; what is in their place goes."""
        with TemporaryDirectory() as folder:
            _write_tree(Path(folder), content)
            tops = sorted(str(path) for path in Path(folder).iterdir())
            _run("mcopy", "-s", "-o", "-Q", "-i", self._place, *tops, "::")

    def remove(self, path: str) -> None:
        """Remove a file of a vfat stick."""
        _run("mdel", "-i", self._place, f"::{path}")

    def check(self) -> str:
        """Return what a checker of file systems says that is wrong; empty when nothing is."""
        with TemporaryDirectory() as folder:
            inner = Path(folder, "partition")
            inner.write_bytes(self._partition())
            done = subprocess.run([*_CHECK[self.file_system], inner], capture_output=True, text=True, check=False)
            return "" if done.returncode == 0 else done.stdout + done.stderr

    def copy(self, name: str, folder: Path) -> Stick:
        """Return a twin."""
        image = folder / f"{name}.img"
        _run("cp", "--sparse=always", str(self.image), str(image))
        return Stick(name, image, self.file_system, self.first_sector)

    @property
    def _place(self) -> str:
        return f"{self.image}@@{self.first_sector * _SECTOR_BYTES}"

    def _partition(self) -> bytes:
        with self.image.open("rb") as file:
            file.seek(self.first_sector * _SECTOR_BYTES)
            return file.read()


def make_stick(
    folder: Path,
    name: str,
    file_system: str = "vfat",
    *,
    layout: Layout = Layout.MBR,
    content: Content | None = None,
    tree: Path | None = None,
    size_bytes: int = STICK_BYTES,
    first_sector: int = FIRST_SECTOR,
) -> Stick:
    """Make a stick. `content` goes onto vfat, `tree` (owners, links and device nodes as they are) onto ext4.

    With a `first_sector` beyond the usual one, there is an empty partition of another kind before ours.
    """
    image = folder / f"{name}.img"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    if layout is Layout.WHOLE:
        first_sector = 0
    else:
        _partition(image, layout, file_system, first_sector)
    stick = Stick(name, image, file_system, first_sector)
    end_sectors = 2048 if layout is Layout.GPT else 0
    _make_file_system(stick, size_bytes - (first_sector + end_sectors) * _SECTOR_BYTES, tree)
    if content:
        stick.put(content)
    return stick


def _partition(image: Path, layout: Layout, file_system: str, first_sector: int) -> None:
    kinds = {"vfat": "c", "exfat": "7", "ext4": "83"} if layout is Layout.MBR else {}
    kind = kinds.get(file_system, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7")
    lines = [f"label: {layout.value}"]
    if first_sector > FIRST_SECTOR:
        lines.append(f"start={FIRST_SECTOR}, size={first_sector - FIRST_SECTOR}")
    lines.append(f"start={first_sector}, type={kind}")
    words = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(image)]
    subprocess.run(words, input="\n".join(lines).encode(), check=True, env=_environment())


def _make_file_system(stick: Stick, size_bytes: int, tree: Path | None) -> None:
    with TemporaryDirectory(dir=stick.image.parent) as folder:
        inner = Path(folder, "partition")
        with inner.open("wb") as file:
            file.truncate(size_bytes)
        populate = ["-d", str(tree)] if tree is not None else []
        _run(*_MAKE[stick.file_system], *populate, str(inner))
        words = ["dd", f"if={inner}", f"of={stick.image}", "bs=1M", "conv=notrunc,sparse", "status=none"]
        _run(*words, f"seek={stick.first_sector * _SECTOR_BYTES}", "oflag=seek_bytes")


def _write_tree(folder: Path, content: Content) -> None:
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _plain_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def _run(*words: str) -> None:
    # mtools refuses sizes that do not fit the geometry of a floppy drive unless told otherwise.
    environment = {**_environment(), "MTOOLS_SKIP_CHECK": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
