"""A simulated device's disk, with the ways in which it can fail; the real queue and mirror lie on it.

On a plain disk what SQLite has committed survives a power cut, as it promises, and only the mirror's sectors may be
lost: that is fast. Whether SQLite keeps its promise on a disk that loses whatever was not synced is seen on the lossy
disk, which a share of all devices has.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

from edge_agent.engine.events import ChainPosition
from edge_agent.engine.store import StoreFault
from edge_agent.queue.disk import SystemDisk
from edge_agent.queue.mirror import MIRROR_FILE_NAME, FileHeadMirror
from edge_agent.queue.store import QUEUE_FILE_NAME, QueueStore
from edge_agent.queue.transaction import QueueTransaction
from tests.simulator.faults import Fault
from tests.simulator.lossy_disk import LossyDisk, PowerCut
from tests.simulator.watch import QueueWatch

_SECTOR_BYTES = 512
_PAGES_MAX = 1 << 30
_CALLS_BEFORE_CUT_MAX = 16


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
    """The real mirror, and a power cut after it was written when the plan says so."""

    def __init__(self, mirror: FileHeadMirror, plan: StepPlan) -> None:
        self._mirror = mirror
        self._plan = plan

    def position(self) -> ChainPosition | None:
        return self._mirror.position()

    def note(self, position: ChainPosition) -> None:
        self._mirror.note(position)
        if self._plan.fault is Fault.CUT_BEFORE_MIRROR_IS_DURABLE:
            raise PowerCut

    def settle(self) -> None:
        self._mirror.settle()


@dataclass
class Opened:
    """A queue and a mirror that a process has open."""

    store: QueueStore
    mirror: FileHeadMirror
    plan: StepPlan

    def faulty(self) -> tuple[FaultyStore, FaultyMirror, QueueWatch]:
        return (
            FaultyStore(self.store, self.plan),
            FaultyMirror(self.mirror, self.plan),
            QueueWatch(self.store.connection),
        )

    def fill(self, *, full: bool) -> None:
        # A limit below the present size means the present size.
        self.store.connection.execute(f"PRAGMA max_page_count = {1 if full else _PAGES_MAX}")

    def close(self) -> None:
        # A connection on a disk without power cannot say goodbye, but lets go of its memory.
        with suppress(Exception, PowerCut):
            self.store.close()
        with suppress(Exception, PowerCut):
            self.mirror.close()


class Disk(Protocol):
    """One device's disk. A process opens it, and leaves it by a clean end, a kill or a power cut."""

    is_full: bool

    def open(self, plan: StepPlan) -> tuple[FaultyStore, FaultyMirror, QueueWatch]:
        """Open queue and mirror as the daemon does; raises StoreFault, PowerCut."""
        ...

    def fill(self, *, full: bool) -> None:
        """Let the disk have no room for one page more, or room again."""
        ...

    def begin_step(self, plan: StepPlan, randomness: Random) -> None:
        """Get ready for a fault inside the disk, if the plan says so."""
        ...

    def crash(self, randomness: Random | None) -> None:
        """End the process where it stands. With randomness the power is gone, too, and what was not synced may be."""
        ...

    def close(self) -> None:
        """End the process in good order."""
        ...

    def image(self, name: str) -> Any:
        """Copy the files as they are, to `replace` them by later on a disk of the same kind."""
        ...

    def replace(self, image: Any, *, keep_mirror: bool) -> None:
        """Put the files of an image in place; the process must have ended."""
        ...

    def remove_mirror(self) -> None:
        """Take the mirror file away; the process must have ended."""
        ...

    def destroy(self) -> None: ...


class _PlainSystem(SystemDisk):
    """The machine's file system; refuses the mirror when the plan says so, and knows what of it has been synced."""

    def __init__(self, mirror: Path, plan: StepPlan) -> None:
        self._mirror = mirror
        self._plan = plan
        self.durable = mirror.read_bytes() if mirror.exists() else b""

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        if self._plan.fault is Fault.MIRROR_UNWRITABLE:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().write(descriptor, data, offset)

    def sync_data(self, descriptor: int) -> None:
        if self._plan.fault is Fault.MIRROR_UNSYNCED:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync_data(descriptor)
        self.durable = self._mirror.read_bytes()

    def survivor(self, randomness: Random) -> bytes:
        """Return the mirror with each sector that was not synced as it was, or as it was to be."""
        current = self._mirror.read_bytes()
        durable = self.durable.ljust(len(current), b"\0")
        return b"".join(
            (current if randomness.random() < 0.5 else durable)[start : start + _SECTOR_BYTES]
            for start in range(0, len(current), _SECTOR_BYTES)
        )


class PlainDisk:
    """A folder of the machine, best in memory; see `Disk`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True)
        self._generation = 0
        self._directory = self._next_directory()
        self._directory.mkdir()
        self._opened: Opened | None = None
        self._system: _PlainSystem | None = None
        self.is_full = False

    def _next_directory(self) -> Path:
        self._generation += 1
        return self._folder / str(self._generation)

    def open(self, plan: StepPlan) -> tuple[FaultyStore, FaultyMirror, QueueWatch]:
        system = self._system = _PlainSystem(self._directory / MIRROR_FILE_NAME, plan)
        self._opened = _open(self._directory, system, plan, full=self.is_full)
        return self._opened.faulty()

    def fill(self, *, full: bool) -> None:
        self.is_full = full
        if self._opened is not None:
            self._opened.fill(full=full)

    def begin_step(self, plan: StepPlan, randomness: Random) -> None:
        """Nothing happens inside a plain disk."""

    def crash(self, randomness: Random | None) -> None:
        if self._opened is None or self._system is None:
            return
        left = self._directory
        self._directory = self._next_directory()
        # Closing would tidy up as no crashed process does: what counts is the files as they are now.
        _copy_files(left, self._directory)
        if randomness is not None:
            (self._directory / MIRROR_FILE_NAME).write_bytes(self._system.survivor(randomness))
        self.close()
        shutil.rmtree(left)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
        self._opened = None

    def image(self, name: str) -> Path:
        target = self._folder / name
        _copy_files(self._directory, target)
        return target

    def replace(self, image: Path, *, keep_mirror: bool) -> None:
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
            shutil.rmtree(self._folder)


def _copy_files(source: Path, target: Path) -> None:
    target.mkdir()
    for name in (QUEUE_FILE_NAME, f"{QUEUE_FILE_NAME}-wal", MIRROR_FILE_NAME):
        with suppress(FileNotFoundError):
            shutil.copyfile(source / name, target / name)


class LossyHome:
    """A device's folder on a lossy disk; see `Disk`. Power cuts and errors may come inside any call to it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._disk = LossyDisk()
        self._opened: Opened | None = None
        self.is_full = False

    def open(self, plan: StepPlan) -> tuple[FaultyStore, FaultyMirror, QueueWatch]:
        self._opened = _open(self._folder, self._disk, plan, full=self.is_full)
        return self._opened.faulty()

    def fill(self, *, full: bool) -> None:
        self.is_full = full
        if self._opened is not None:
            self._opened.fill(full=full)

    def begin_step(self, plan: StepPlan, randomness: Random) -> None:
        inside = plan.fault is Fault.CUT_INSIDE_DISK
        self._disk.cut_at(randomness.randint(1, _CALLS_BEFORE_CUT_MAX) if inside else None)

    def crash(self, randomness: Random | None) -> None:
        before = self._disk
        self._disk = before.left() if randomness is None else before.cut(randomness)
        before.kill()
        self.close()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
        self._opened = None

    def image(self, name: str) -> dict[Path, bytes]:
        return self._disk.image()

    def replace(self, image: dict[Path, bytes], *, keep_mirror: bool) -> None:
        """The files of the image, wherever they were copied, in this folder."""
        kept = {path: data for path, data in self._disk.image().items() if keep_mirror and _is_mirror(path)}
        disk = LossyDisk()
        disk.put_back({self._folder / path.name: data for path, data in image.items()} | kept)
        self._disk = disk

    def remove_mirror(self) -> None:
        self._disk.put_back({self._folder / MIRROR_FILE_NAME: None})

    def destroy(self) -> None:
        self._disk = LossyDisk()


def _is_mirror(path: Path) -> bool:
    return path.name == MIRROR_FILE_NAME


def _open(directory: Path, disk: SystemDisk | LossyDisk, plan: StepPlan, *, full: bool) -> Opened:
    store = QueueStore(directory, disk=disk)
    try:
        opened = Opened(store, FileHeadMirror(directory, disk=disk), plan)
    except BaseException:
        store.close()
        raise
    opened.fill(full=full)
    return opened


MakeDisk = Callable[[Path], Disk]
