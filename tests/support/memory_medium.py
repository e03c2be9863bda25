"""A medium's file system in memory that loses what was not synced, and fails at any call.

It behaves as vfat was measured to: `sync` of a file makes its content and name durable, `sync` of a folder its names;
but a name that a rename has made leads to an empty file until the file is synced once more.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

Names = tuple[str, ...]


class PowerCut(BaseException):
    """The device that holds the medium has lost its power: nothing of it goes on."""


@dataclass
class File:
    data: bytes = b""
    is_folder: bool = False


@dataclass
class Open:
    path: Names
    file: File


Trouble = Callable[[], None]
"""Raises OSError or PowerCut instead of the call, after it or in its middle."""


@dataclass
class MemoryMedium:
    """Calls in the sense of `file_calls.FileCalls`. `trouble_at` is the number of the call that goes wrong, from 0."""

    capacity_bytes: int = 1 << 30
    is_read_only: bool = False
    files: dict[Names, File] = field(default_factory=lambda: {(): File(is_folder=True)})
    durable: dict[Names, bytes | None] = field(default_factory=dict)
    """What survives a yank for certain: content by path; None for a folder."""
    calls: int = 0
    trouble_at: int | None = None
    trouble: str = "gone"
    is_gone: bool = False
    forgets: Names | None = None
    """The beginning of the paths of which it says that they are written, and they are not: a worn or a fake stick."""
    log: list[str] = field(default_factory=list)
    _opened: dict[int, Open] = field(default_factory=dict)
    _numbers: int = 100
    _renamed: dict[Names, Names] = field(default_factory=dict)
    """Names that no sync of their folder has made durable, and which ones they had before."""

    # Faults.

    def _call(self, what: str, *, changes: bool = False) -> bool:
        """Count a call and let it fail if its time has come; True when it is to be torn in its middle."""
        if self.is_gone:
            raise OSError(errno.ENODEV, "gone")
        number, self.calls = self.calls, self.calls + 1
        self.log.append(what)
        if changes and self.is_read_only:
            raise OSError(errno.EROFS, "read-only")
        if number != self.trouble_at:
            return False
        if self.trouble == "gone":
            self.is_gone = True
            raise OSError(errno.ENODEV, "gone")
        if self.trouble == "power":
            raise PowerCut
        if self.trouble == "torn":
            return True
        raise OSError({"unreadable": errno.EIO, "full": errno.ENOSPC, "read-only": errno.EROFS}[self.trouble], "fault")

    def pull(self, randomness: Random | None = None) -> None:
        """Be taken out and put in again: what was not durable is lost, or some of it, as the randomness has it."""
        kept: dict[Names, File] = {(): File(is_folder=True)}
        for path in sorted({*self.files, *self.durable}):
            volatile = self.files.get(path)
            survives = path in self.durable
            content = self.durable.get(path)
            if randomness is not None and randomness.random() < 0.5:
                # This one happened to reach the medium before it was pulled.
                survives = volatile is not None
                content = None if volatile is None or volatile.is_folder else volatile.data
            if survives and path and path[:-1] in kept:
                kept[path] = File(content or b"", is_folder=content is None)
        self.files = kept
        self.durable = {path: None if file.is_folder else file.data for path, file in kept.items()}
        self._opened.clear()
        self._renamed.clear()
        self.is_gone = False
        self.trouble_at = None

    def unmount(self) -> None:
        """Be unmounted in order: everything reaches the medium."""
        if self.is_gone:
            return
        if self._opened:
            raise AssertionError(f"still open: {[one.path for one in self._opened.values()]}")
        if self.forgets is not None:
            for path, file in self.files.items():
                if path[: len(self.forgets)] == self.forgets and not file.is_folder:
                    file.data = bytes(len(file.data))
        self.durable = {path: None if file.is_folder else file.data for path, file in self.files.items()}
        self._renamed.clear()

    # The calls.

    def open_root(self, path: Path) -> int:
        self._call(f"open {path}")
        return self._open((), self.files[()])

    def open(self, folder: int, name: str, *, is_folder: bool) -> int | None:
        self._call(f"open {name}")
        path = (*self._opened[folder].path, name)
        file = self.files.get(path)
        return None if file is None or file.is_folder != is_folder else self._open(path, file)

    def create(self, folder: int, name: str) -> int:
        self._call(f"create {name}", changes=True)
        path = (*self._opened[folder].path, name)
        self.files[path] = File()
        return self._open(path, self.files[path])

    def make_folder(self, folder: int, name: str) -> bool:
        path = (*self._opened[folder].path, name)
        if path in self.files:
            return False
        self._call(f"make folder {name}", changes=True)
        self.files[path] = File(is_folder=True)
        return True

    def names(self, folder: int, names_max: int) -> list[str]:
        self._call("names")
        parent = self._opened[folder].path
        return [path[-1] for path in sorted(self.files) if path and path[:-1] == parent][:names_max]

    def status(self, descriptor: int) -> os.stat_result:
        file = self._opened[descriptor].file
        mode = stat.S_IFDIR if file.is_folder else stat.S_IFREG
        return os.stat_result((mode, 0, 7, 1, 0, 0, len(file.data), 0, 0, 0))

    def opened_path(self, descriptor: int) -> Names:
        """Return what is open there."""
        return self._opened[descriptor].path

    def read(self, descriptor: int, size: int) -> bytes:
        self._call(f"read {self._opened[descriptor].path[-1]}")
        return self._opened[descriptor].file.data[:size]

    def write(self, descriptor: int, data: bytes) -> None:
        torn = self._call("write", changes=True)
        opened = self._opened[descriptor]
        if self.used_bytes() + len(data) > self.capacity_bytes:
            opened.file.data += data[: max(0, self.capacity_bytes - self.used_bytes())]
            raise OSError(errno.ENOSPC, "full")
        opened.file.data += data[: len(data) // 2] if torn else data
        if torn:
            self.durable[opened.path] = opened.file.data
            self.is_gone = True
            raise OSError(errno.ENODEV, "gone")

    def sync(self, descriptor: int) -> None:
        torn = self._call("sync", changes=True)
        opened = self._opened[descriptor]
        if opened.file.is_folder:
            self._sync_names(opened.path)
        else:
            path = next((path for path, file in self.files.items() if file is opened.file), opened.path)
            path = self._renamed.get(path, path)
            self.durable[path] = opened.file.data[: len(opened.file.data) // 2] if torn else opened.file.data
        if torn:
            self.is_gone = True
            raise OSError(errno.EIO, "gone")

    def _sync_names(self, parent: Names) -> None:
        there = {path: file for path, file in self.files.items() if path and path[:-1] == parent}
        for path in [path for path in self.durable if path and path[:-1] == parent and path not in there]:
            del self.durable[path]
        for path, file in there.items():
            self.durable.setdefault(path, None if file.is_folder else b"")
            self._renamed.pop(path, None)

    def sync_file_system(self, _descriptor: int) -> None:
        self._call("sync file system")
        self.durable = {path: None if file.is_folder else file.data for path, file in self.files.items()}

    def rename(self, folder: int, name: str, new_name: str) -> None:
        self._call(f"rename {name}", changes=True)
        parent = self._opened[folder].path
        file = self.files.pop((*parent, name), None)
        if file is None:
            raise OSError(errno.ENOENT, "not there")
        self.files[*parent, new_name] = file
        self._renamed[*parent, new_name] = (*parent, name)

    def remove(self, folder: int, name: str) -> None:
        self._call(f"remove {name}", changes=True)
        self.files.pop((*self._opened[folder].path, name), None)

    def free_bytes(self, _path: Path) -> int:
        self._call("free bytes")
        return self.capacity_bytes - self.used_bytes()

    def close(self, descriptor: int) -> None:
        del self._opened[descriptor]

    def used_bytes(self) -> int:
        return sum(len(file.data) for file in self.files.values())

    def _open(self, path: Names, file: File) -> int:
        self._numbers += 1
        self._opened[self._numbers] = Open(path, file)
        return self._numbers
