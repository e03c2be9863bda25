"""The disk as queue and mirror use it: every call on which "accepted means durable" rests, behind one seam.

Tests put a disk in its place that forgets at a power cut what was not synced.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Final, Protocol

from operations import durable_files


class Disk(Protocol):
    """Raises OSError, from a connection sqlite3.Error. Descriptors are the disk's own."""

    def lock(self, path: Path) -> int:
        """Make the file and its folder if need be and hold the file until `close`; raises BlockingIOError when another
        process holds it.
        """
        ...

    def open(self, path: Path) -> int:
        """Open for reading and writing; a new file is its owner's alone."""
        ...

    def close(self, descriptor: int) -> None:
        """Close what `lock` or `open` gave."""
        ...

    def exists(self, path: Path) -> bool:
        """Tell whether there is a file of this name."""
        ...

    def connect(self, path: Path) -> sqlite3.Connection:
        """Open a database in autocommit mode, for any thread."""
        ...

    def size(self, descriptor: int) -> int:
        """Return the file's length in bytes."""
        ...

    def allocate(self, descriptor: int, size: int) -> None:
        """Make the file at least `size` bytes long and take the room for them."""
        ...

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        """Return up to `size` bytes; fewer at the end of the file."""
        ...

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write at a place."""
        ...

    def sync(self, descriptor: int) -> None:
        """Return when the file is durable, its length and times included; not its name."""
        ...

    def sync_data(self, descriptor: int) -> None:
        """Return when the file's bytes are durable."""
        ...

    def sync_directory(self, path: Path) -> None:
        """Return when the folder's names are durable."""
        ...

    def forget_cached(self, path: Path) -> None:
        """Let the next read of a file come from the disk as far as possible: after a sync that failed, memory may hold
        bytes that count as written and are not. Advice, which the system may pass over.
        """
        ...


class SystemDisk:
    """The machine's own disk."""

    def lock(self, path: Path) -> int:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = self.open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def exists(self, path: Path) -> bool:
        return path.exists()

    def connect(self, path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)

    def size(self, descriptor: int) -> int:
        return os.fstat(descriptor).st_size

    def allocate(self, descriptor: int, size: int) -> None:
        os.posix_fallocate(descriptor, 0, size)

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        return os.pread(descriptor, size, offset)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        os.pwrite(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def sync_data(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def sync_directory(self, path: Path) -> None:
        durable_files.sync_directory(path)

    def forget_cached(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


SYSTEM_DISK: Final[Disk] = SystemDisk()
