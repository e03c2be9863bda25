"""A disk in memory that forgets at a power cut what was not synced, and fails when it is told to.

Two things are made durable apart from each other: a file's bytes, sector by sector, and the names in a folder. A cut
keeps what was synced and any subset of the rest. The disk is a `edge_agent.queue.disk.Disk`, so the real store and the
real mirror run on it; SQLite reaches it through `lossy_sqlite`. The folders themselves are there from the start.

Where choices are made, randomness is given. SQLite's salts and the sealing draw their own random bytes, though: two
runs of one seed make the same choices, not the same bytes.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from typing import cast

from tests.simulator.lossy_file import LossyFile
from tests.simulator.lossy_sqlite import LossyConnection


class PowerCut(BaseException):
    """The power is gone in the middle of a call; nothing that handles faults may survive it."""


class DiskError(Enum):
    """What a disk answers when it does not do as told."""

    BROKEN = errno.EIO
    FULL = errno.ENOSPC


class Call(Enum):
    """What counts as a call to the disk: everything that changes it or makes it durable."""

    CREATE = "create"
    DELETE = "delete"
    WRITE = "write"
    TRUNCATE = "truncate"
    SYNC = "sync"
    SYNC_DATA = "sync data"
    SYNC_DIRECTORY = "sync directory"
    SQLITE_SYNC = "SQLite's sync"
    SQLITE_SYNC_DIRECTORY = "SQLite's sync of the directory"


_NEEDS_ROOM = frozenset({Call.CREATE, Call.WRITE, Call.TRUNCATE})


@dataclass(frozen=True)
class Habits:
    """How this disk, and SQLite on it, behave; the defaults are Linux's and our SQLite's."""

    ignored: frozenset[Call] = frozenset()
    """Calls that return at once and do nothing, as if the code forgot them or the disk lied."""
    substitutes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """For a statement: which one is run in its place, and which one gives the answer."""
    advice_is_taken: bool = True
    """Whether `forget_cached` does anything."""
    checkpoint_pages: int | None = None
    """Let SQLite move its log into the database after so many pages already; None leaves its 1000."""


class LossyDisk:
    """One device's disk. Its life ends with `cut`, which returns the disk that the next life finds."""

    def __init__(self, habits: Habits | None = None) -> None:
        self.habits = habits or Habits()
        self.calls = 0
        self.is_dead = False
        self.errors_met = 0
        self._names: dict[Path, LossyFile] = {}
        self._past: dict[Path, list[LossyFile | None]] = {}
        """For a name that changed since its folder was synced: what it named, oldest first; the first is durable."""
        self._open: dict[int, LossyFile] = {}
        self._locks: dict[int, Path] = {}
        self._descriptors = 0
        self._cut_at: int | None = None
        self._fail_at: int | None = None
        self._fail_lasting = False
        self._error = DiskError.BROKEN

    # What a test does to the disk.

    def cut_at(self, number: int | None) -> None:
        """Cut the power in the numberth call from now (1 is the next), which raises PowerCut; None takes it back."""
        self._cut_at = None if number is None else self.calls + number

    def fail_at(self, number: int | None, error: DiskError, *, lasting: bool = False) -> None:
        """Let the numberth call from now fail, and with `lasting` all that follow; None heals the disk. A full disk
        fails only what needs room.
        """
        self._fail_at = None if number is None else self.calls + number
        self._fail_lasting = lasting
        self._error = error

    def cut(self, randomness: Random) -> LossyDisk:
        """Cut the power now and return a disk with what survives; asked again, with what else might have."""
        self.kill()
        after = LossyDisk(self.habits)
        share = randomness.choice((0.0, 1.0, randomness.random()))

        def choose(states: int) -> int:
            """Take the newest or the durable state for most of a cut, sometimes one in between."""
            if states > 2 and randomness.random() < 0.25:
                return randomness.randrange(states)
            return states - 1 if randomness.random() < share else 0

        for path in sorted(self._names.keys() | self._past.keys()):
            states = [*self._past.get(path, ()), self._names.get(path)]
            file = states[choose(len(states))]
            if file is not None:
                after._names[path] = file.survivor(choose, randomness)
        return after

    def left(self) -> LossyDisk:
        """Return the disk as the next process finds it when only the process has ended: nothing is lost by that."""
        after = LossyDisk(self.habits)
        after._names, after._past = self._names, self._past
        return after

    def kill(self) -> None:
        """Take the power away; every further call raises PowerCut."""
        self.is_dead = True

    def image(self) -> dict[Path, bytes]:
        """Return a copy of every file, as a backup of the running system takes it."""
        return {path: bytes(file.content) for path, file in self._names.items()}

    def put_back(self, files: Mapping[Path, bytes | None]) -> None:
        """Replace files by others, durably; None removes one."""
        for path, data in files.items():
            self._past.pop(path, None)
            self._names.pop(path, None)
            if data is not None:
                self._names[path] = LossyFile(data)

    # edge_agent.queue.disk.Disk.

    def lock(self, path: Path) -> int:
        if path in self._locks.values():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        descriptor = self.open(path)
        self._locks[descriptor] = path
        return descriptor

    def open(self, path: Path) -> int:
        file = self.file(path, create=True)
        self._descriptors += 1
        self._open[self._descriptors] = file
        return self._descriptors

    def close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        self._locks.pop(descriptor, None)

    def exists(self, path: Path) -> bool:
        return path in self._names

    def connect(self, path: Path) -> sqlite3.Connection:
        # It offers the part of a connection that the queue uses, by the same names.
        return cast(sqlite3.Connection, LossyConnection(self, path))

    def size(self, descriptor: int) -> int:
        return len(self._open[descriptor].content)

    def allocate(self, descriptor: int, size: int) -> None:
        file = self._open[descriptor]
        if self._called(Call.TRUNCATE):
            file.truncate(max(size, len(file.content)))

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        return self._open[descriptor].read(size, offset)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        self.write_file(self._open[descriptor], data, offset)

    def sync(self, descriptor: int) -> None:
        self.sync_file(self._open[descriptor], Call.SYNC)

    def sync_data(self, descriptor: int) -> None:
        self.sync_file(self._open[descriptor], Call.SYNC_DATA)

    def sync_directory(self, path: Path) -> None:
        self.sync_names(path, Call.SYNC_DIRECTORY)

    def stop_if_dead(self) -> None:
        """Raise PowerCut once the power is cut: nothing goes on."""
        if self.is_dead:
            raise PowerCut

    def forget_cached(self, path: Path) -> None:
        self.stop_if_dead()
        if path in self._names and self.habits.advice_is_taken:
            self._names[path].forget_cached()

    # The same with files instead of descriptors, for SQLite.

    def file(self, path: Path, *, create: bool) -> LossyFile:
        """Return a file by its name; raises FileNotFoundError."""
        file = self._names.get(path)
        if file is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            file = LossyFile()
            if self._called(Call.CREATE):
                self._rename(path, file)
        return file

    def has_content(self, path: Path) -> bool:
        """Tell whether there is a file of this name that is not empty."""
        file = self._names.get(path)
        return file is not None and len(file.content) > 0

    def delete(self, path: Path) -> None:
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if self._called(Call.DELETE):
            self._rename(path, None)

    def write_file(self, file: LossyFile, data: bytes, offset: int) -> None:
        self.stop_if_dead()
        try:
            carried_out = self._called(Call.WRITE)
        except (OSError, PowerCut):
            # Part of it may have been written.
            file.write(data[: len(data) // 2], offset)
            raise
        if carried_out:
            file.write(data, offset)

    def truncate_file(self, file: LossyFile, size: int) -> None:
        if self._called(Call.TRUNCATE):
            file.truncate(size)

    def sync_file(self, file: LossyFile, call: Call = Call.SQLITE_SYNC) -> None:
        try:
            carried_out = self._called(call)
        except OSError:
            file.fail_sync()
            raise
        if carried_out:
            file.sync()

    def sync_names(self, folder: Path, call: Call = Call.SQLITE_SYNC_DIRECTORY) -> None:
        if self._called(call):
            for path in [one for one in self._past if one.parent == folder]:
                del self._past[path]

    def _rename(self, path: Path, file: LossyFile | None) -> None:
        self._past.setdefault(path, []).append(self._names.pop(path, None))
        if file is not None:
            self._names[path] = file

    def _called(self, call: Call) -> bool:
        """Count a call; say whether it is to be carried out; raises PowerCut or OSError instead."""
        self.stop_if_dead()
        self.calls += 1
        if self.calls == self._cut_at:
            self.is_dead = True
            raise PowerCut
        if self._fails(call):
            self.errors_met += 1
            raise OSError(self._error.value, os.strerror(self._error.value))
        return call not in self.habits.ignored

    def _fails(self, call: Call) -> bool:
        if (
            self._fail_at is None
            or self.calls < self._fail_at
            or (self.calls > self._fail_at and not self._fail_lasting)
        ):
            return False
        return self._error is DiskError.BROKEN or call in _NEEDS_ROOM
