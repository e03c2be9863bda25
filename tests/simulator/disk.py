"""A simulated device's disk: its real queue and mirror in a folder, with the ways in which a disk can fail.

Here what SQLite has committed survives a power cut, as it promises; whether it keeps that promise on a disk that loses
what was not synced is the lossy disk's question (`lossy_disk`). The mirror's sectors that were not synced may be lost.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from edge_agent.engine.events import ChainPosition
from edge_agent.engine.store import StoreFault
from edge_agent.queue.mirror import MIRROR_FILE_NAME, FileHeadMirror
from edge_agent.queue.store import QUEUE_FILE_NAME, QueueStore
from edge_agent.queue.transaction import QueueTransaction
from tests.simulator.faults import Fault
from tests.simulator.watch import QueueWatch

_SECTOR_BYTES = 512
_PAGES_MAX = 1 << 30


class PowerCut(BaseException):
    """The device has no power any more; what is in the middle of happening does not go on."""


@dataclass
class StepPlan:
    """The fault that strikes the step under way, if any, and whether its transaction has committed."""

    fault: Fault | None = None
    committed: bool = False


class FaultyStore:
    """The real store, with a fault at its border when the plan says so."""

    def __init__(self, store: QueueStore, plan: StepPlan) -> None:
        self._store = store
        self._plan = plan

    @contextmanager
    def transaction(self) -> Iterator[QueueTransaction]:
        fault = self._plan.fault
        if fault is Fault.IO_ERROR_AT_BEGIN:
            raise StoreFault("the queue cannot be used: disk I/O error")
        with self._store.transaction() as transaction:
            yield transaction
            if fault is Fault.CUT_BEFORE_COMMIT:
                raise PowerCut
            if fault is Fault.IO_ERROR_AT_COMMIT:
                raise StoreFault("the queue cannot be used: disk I/O error")
        self._plan.committed = True
        if fault is Fault.CUT_AFTER_COMMIT:
            raise PowerCut


class FaultyMirror:
    """The real mirror; knows which of its bytes are on the disk for certain."""

    def __init__(self, directory: Path, plan: StepPlan) -> None:
        self._path = directory / MIRROR_FILE_NAME
        self._mirror = FileHeadMirror(directory)
        self._plan = plan
        self._durable = self._path.read_bytes()
        self._unsynced = False

    def position(self) -> ChainPosition | None:
        return self._mirror.position()

    def note(self, position: ChainPosition) -> None:
        with self._refusing(Fault.MIRROR_UNWRITABLE):
            self._mirror.note(position)
        self._unsynced = True
        if self._plan.fault is Fault.CUT_BEFORE_MIRROR_IS_DURABLE:
            raise PowerCut

    def settle(self) -> None:
        with self._refusing(Fault.MIRROR_UNSYNCED):
            self._mirror.settle()
        if self._unsynced:
            self._durable, self._unsynced = self._path.read_bytes(), False

    @contextmanager
    def _refusing(self, fault: Fault) -> Iterator[None]:
        """Let the system refuse what the mirror asks of its file: a pipe has no places to write at, nor can it sync."""
        if self._plan.fault is not fault:
            yield
            return
        reading, writing = os.pipe()
        file, self._mirror._descriptor = self._mirror._descriptor, writing
        try:
            yield
        finally:
            self._mirror._descriptor = file
            os.close(reading)
            os.close(writing)

    def lose_unsynced(self, randomness: Random) -> None:
        """Let each sector that was not synced be as it was, or as it was to be."""
        current = self._path.read_bytes()
        sectors = range(0, len(current), _SECTOR_BYTES)
        kept = [
            (current if randomness.random() < 0.5 else self._durable)[start : start + _SECTOR_BYTES]
            for start in sectors
        ]
        self._path.write_bytes(b"".join(kept))

    def close(self) -> None:
        self._mirror.close()


class Disk:
    """One device's disk. It is opened by a process, and left by a clean end, a kill or a power cut."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True)
        self._generation = 0
        self._directory = self._next_directory()
        self._directory.mkdir()
        self.is_full = False
        self.store: QueueStore | None = None
        self.mirror: FaultyMirror | None = None

    def _next_directory(self) -> Path:
        self._generation += 1
        return self.folder / str(self._generation)

    def open(self, plan: StepPlan) -> tuple[FaultyStore, FaultyMirror, QueueWatch]:
        """Open queue and mirror as the daemon does; raises StoreFault."""
        store = QueueStore(self._directory)
        try:
            mirror = FaultyMirror(self._directory, plan)
        except BaseException:
            store.close()
            raise
        self.store, self.mirror = store, mirror
        self.fill(full=self.is_full)
        return FaultyStore(store, plan), mirror, QueueWatch(store.connection)

    def fill(self, *, full: bool) -> None:
        """Let the disk have no room for one page more, or room again."""
        self.is_full = full
        if self.store is not None:
            # A limit below the present size means the present size.
            self.store.connection.execute(f"PRAGMA max_page_count = {1 if full else _PAGES_MAX}")

    def crash(self, randomness: Random | None) -> None:
        """End the process where it stands. With randomness the power is gone, too, and unsynced sectors may be lost."""
        if self.store is None or self.mirror is None:
            return
        if randomness is not None:
            self.mirror.lose_unsynced(randomness)
        left = self._directory
        self._directory = self._next_directory()
        # Closing would tidy up as no crashed process does: what counts is the files as they are now.
        _copy_files(left, self._directory)
        self.close()
        shutil.rmtree(left)

    def close(self) -> None:
        """End the process in good order."""
        if self.store is not None:
            self.store.close()
        if self.mirror is not None:
            self.mirror.close()
        self.store = self.mirror = None

    def image(self, name: str) -> Path:
        """Copy the files as they are."""
        target = self.folder / name
        _copy_files(self._directory, target)
        return target

    def replace(self, image: Path, *, keep_mirror: bool) -> None:
        """Put the files of an image in place; the process must have ended."""
        mirror = self._directory / MIRROR_FILE_NAME
        data = mirror.read_bytes() if keep_mirror and mirror.exists() else None
        shutil.rmtree(self._directory)
        _copy_files(image, self._directory)
        if data is not None:
            mirror.write_bytes(data)

    def remove_mirror(self) -> None:
        """Take the mirror file away; the process must have ended."""
        (self._directory / MIRROR_FILE_NAME).unlink(missing_ok=True)

    def destroy(self) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self.folder)


def _copy_files(source: Path, target: Path) -> None:
    target.mkdir()
    for name in (QUEUE_FILE_NAME, f"{QUEUE_FILE_NAME}-wal", MIRROR_FILE_NAME):
        with suppress(FileNotFoundError):
            shutil.copyfile(source / name, target / name)


OpenDisk = Callable[[Path], Disk]
