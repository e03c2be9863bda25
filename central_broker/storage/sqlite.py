"""The census database in one SQLite file: WAL, synchronous=FULL, several processes.

SQLite before 3.51.3 can corrupt a WAL when one connection writes or checkpoints while another one resets it. Therefore
whatever writes here (transactions, the checkpoints in them, closing) does it under a lock on a file beside the
database. The lock also queues the writers more evenly than SQLite's own waiting does.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, LiteralString

from sqlite_utils import Database

from central_broker.storage.batch_records import Batch, BatchResult, WholeDecoder
from central_broker.storage.bisecting import content_refused, record_or_hold
from central_broker.storage.contract import StorageRefused, StorageUnavailable
from central_broker.storage.coverage import Coverage
from central_broker.storage.forms import Forms
from central_broker.storage.inquiries import Inquiries
from central_broker.storage.lists import Lists
from central_broker.storage.outbox import Outbox
from central_broker.storage.recording import RowRefused
from central_broker.storage.sqlite_schema import MIGRATIONS, migration_names
from central_broker.storage.sqlite_statements import SqliteStatements
from operations.durable_files import sync_file

LOCK_TIMEOUT_SECONDS: Final = 30.0
_LOCK_RETRY_SECONDS: Final = 0.001
_CACHE_KIBIBYTES: Final = 64 * 1024

_DATA_ERRORS: Final = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    OverflowError,
    UnicodeEncodeError,
)


class SqliteStorage(Outbox, Forms, Coverage, Lists, Inquiries):
    """See `contract.Storage`."""

    is_postgresql = False

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None
        self.migrate()

    def migrate(self) -> None:
        with self._transaction() as connection:
            # sqlite-utils applies each migration in a savepoint of this transaction, which nobody else can be in.
            database = Database(connection)
            MIGRATIONS.apply(database)
            if {migration.name for migration in MIGRATIONS.applied(database)} - migration_names():
                raise StorageRefused("the database was made by a newer version of this program; install that version")

    def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(StorageUnavailable), self._locked():
                # The last connection to close checkpoints and removes the WAL.
                connection.close()
            connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the writers' lock; raises StorageUnavailable when another process keeps it for long."""
        if self._lock is None:
            try:
                self._lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
            except OSError as error:
                raise StorageUnavailable(f"the database's lock file cannot be opened: {error}") from error
        deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StorageUnavailable("another process has kept the database for too long") from None
                time.sleep(_LOCK_RETRY_SECONDS)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        # Opened by one thread and then used by another, never by two at once.
        connection = sqlite3.connect(
            self._path, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}")
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
        except BaseException:
            connection.close()
            raise
        if (mode, synchronous) != ("wal", 2):
            connection.close()
            raise StorageRefused("the file system of the database does not support SQLite's WAL; use a local disk")
        self._connection = connection
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Open a writing transaction; commits at the end. Raises StorageUnavailable, RowRefused."""
        with self._locked(), _faults():
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def read(self, sql: LiteralString, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self.read_made(sql, parameters)

    def read_made(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with _faults():
            if self._connection is None:
                with self._locked():
                    self._connect()
            return self._connect().execute(sql.replace("%s", "?"), parameters).fetchall()

    @contextmanager
    def writing(self) -> Iterator[SqliteStatements]:
        with self._transaction() as connection:
            yield SqliteStatements(connection)

    def commit(self, batch: Batch, decode_whole: WholeDecoder, now: int) -> BatchResult:
        return record_or_hold(batch, self.writing, decode_whole, now)

    def copy_to(self, target: Path) -> int:
        if target.exists():
            raise StorageRefused(f"{target} exists already; give the copy a new name")
        with _faults():
            self.read("SELECT 1")
            self._connect().execute("VACUUM INTO ?", (str(target),))
            copy = sqlite3.connect(target)
            try:
                verdict = copy.execute("PRAGMA integrity_check").fetchone()[0]
                reached: int = copy.execute("SELECT at FROM commit_clock").fetchone()[0]
            finally:
                copy.close()
        if verdict != "ok":
            raise StorageRefused(f"the copy is damaged ({verdict}); check the disk and the database")
        sync_file(target)
        return reached


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except _DATA_ERRORS as error:
        raise RowRefused(content_refused(error)) from error
    except sqlite3.OperationalError as error:
        raise StorageUnavailable(f"SQLite: {error}") from error
