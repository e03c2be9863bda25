"""The queue: one SQLite file with one connection.

One connection only, held under a lock file, because SQLite before 3.51.3 can corrupt a write-ahead log that two
connections reset. The store belongs to the thread that uses it, whichever that is, one at a time.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from edge_agent.engine.store import StoreFault, StoreFull
from edge_agent.queue.disk import SYSTEM_DISK, Disk
from edge_agent.queue.migrations import migrate
from edge_agent.queue.transaction import QueueTransaction

QUEUE_FILE_NAME: Final = "queue.db"
LOCK_FILE_NAME: Final = "queue.lock"
_SYNCHRONOUS_FULL: Final = 2
_JOURNAL_BYTES_KEPT: Final = 8 * 1024 * 1024
"""One huge submission makes the write-ahead log large; it shrinks to this when it begins anew."""
_COMPANION_SUFFIXES: Final = ("-wal", "-journal")
_FULL_CODES: Final = frozenset({sqlite3.SQLITE_FULL})
_DAMAGE_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DAMAGE_REMEDY: Final = (
    "stop the daemon, keep the files queue.db* for the Department, move them elsewhere and start it again: a new queue "
    "begins, and the center tells which questionnaires it lacks"
)


class QueueBusy(StoreFault):
    """Another process, usually the running daemon, holds the queue."""


class QueueStore:
    """Opens the queue in a directory; use it as a context manager, or close it."""

    def __init__(self, directory: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        """Open or create the queue; raises QueueBusy, StoreFull or StoreFault (damaged, unreadable, newer release)."""
        self.path = directory / QUEUE_FILE_NAME
        self._disk = disk
        self._lock = _lock(disk, directory / LOCK_FILE_NAME)
        try:
            self._connection = _connect(disk, self.path)
        except BaseException:
            disk.close(self._lock)
            raise

    @property
    def connection(self) -> sqlite3.Connection:
        """The one connection, for inspection by whoever holds the store."""
        return self._connection

    @contextmanager
    def transaction(self) -> Iterator[QueueTransaction]:
        """See `engine.store.Store`."""
        with _translated():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            with _translated():
                yield QueueTransaction(self._connection)
                self._connection.execute("COMMIT")
        except BaseException:
            # After some faults SQLite has rolled back by itself already.
            if self._connection.in_transaction:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file and give the lock back."""
        self._connection.close()
        self._disk.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lock(disk: Disk, path: Path) -> int:
    try:
        return disk.lock(path)
    except BlockingIOError:
        raise QueueBusy(f"{path.parent} is in use by another process, usually the running daemon") from None
    except OSError as error:
        raise StoreFault(f"cannot open {path}: {error.strerror}") from error


def _connect(disk: Disk, path: Path) -> sqlite3.Connection:
    with _translated():
        if not disk.exists(path):
            # SQLite would create it readable to everyone.
            disk.close(disk.open(path))
        for name in (path, *(path.with_name(path.name + suffix) for suffix in _COMPANION_SUFFIXES)):
            if disk.exists(name):
                disk.forget_cached(name)
        connection = disk.connect(path)
        try:
            _configure(connection)
            _empty_log(connection)
            migrate(connection)
            # The first write makes the write-ahead log; its directory entry must survive a power cut like its content.
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(
                    "INSERT INTO remembered VALUES ('opened', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"
                )
            disk.sync_directory(path.parent)
        except BaseException:
            connection.close()
            raise
    return connection


def _configure(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    # Nobody else may open the queue while we have it; and a commit then costs a dozen system calls less.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    # What is purged is given back to the disk: a queue that has drained must not keep refusing for want of room. This
    # counts only while the file is empty.
    connection.execute("PRAGMA auto_vacuum = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES_KEPT}")
    (journal_mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    if journal_mode != "wal" or synchronous != _SYNCHRONOUS_FULL:
        raise StoreFault(
            f"this SQLite gives journal_mode={journal_mode}, synchronous={synchronous} instead of wal and 2 (FULL): "
            "accepted questionnaires would not survive a power cut; put the state directory on a local file system"
        )


def _empty_log(connection: sqlite3.Connection) -> None:
    """Move what an earlier process has left in the write-ahead log into the database, and begin the log anew.

    When a sync fails, Linux goes on showing the bytes but may never write them, and the next process's syncs succeed
    without them. What is accepted from now on must not hang on such a log: a power cut would take it along. To forget
    what is cached is advice only, which the system may pass over.
    """
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        # A full queue must start all the same: only sending makes room.
        if getattr(error, "sqlite_errorcode", None) not in _FULL_CODES:
            raise


@contextmanager
def _translated() -> Iterator[None]:
    """Turn SQLite's and the system's errors into the store's."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code in _FULL_CODES:
            raise StoreFull("the disk is full") from error
        # An extended code names its kind in the lowest byte.
        if code is not None and code & 0xFF in _DAMAGE_CODES:
            raise StoreFault(f"the queue is damaged ({error}): {_DAMAGE_REMEDY}") from error
        raise StoreFault(f"the queue cannot be used: {error}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull("the disk is full") from error
        raise StoreFault(f"the queue cannot be used: {error}") from error
