"""SQLite on a lossy disk: its file system, written with apsw, and a connection that looks like sqlite3's.

The file system does what SQLite's own for Unix does: the same answers on capabilities and sector size, the first sync
of a new journal or log also syncs the folder, and an empty file counts as none.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import apsw

from tests.simulator.lossy_file import LossyFile

if TYPE_CHECKING:
    from tests.simulator.lossy_disk import LossyDisk

_STATEMENTS_CACHED = 256
_NAME_IS_SYNCED = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
_CHECKPOINT_PAGES = 1000
"""SQLite's own default."""
_CHANGES = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE"})


class _File:
    """An open file, by the method names of apsw."""

    def __init__(self, disk: LossyDisk, file: LossyFile, folder: Path | None) -> None:
        """`folder` is synced together with the file's first sync."""
        self._disk = disk
        self._file = file
        self._folder = folder

    def xRead(self, amount: int, offset: int) -> bytes:
        return self._file.read(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        with _as_sqlite(self._disk, apsw.SQLITE_IOERR_WRITE):
            self._disk.write_file(self._file, data, offset)

    def xTruncate(self, size: int) -> None:
        with _as_sqlite(self._disk, apsw.SQLITE_IOERR_TRUNCATE):
            self._disk.truncate_file(self._file, size)

    def xSync(self, _flags: int) -> None:
        with _as_sqlite(self._disk, apsw.SQLITE_IOERR_FSYNC):
            self._disk.sync_file(self._file)
            if self._folder is not None:
                # As in SQLite, this is tried once, and what comes of it is not looked at.
                folder, self._folder = self._folder, None
                with suppress(OSError):
                    self._disk.sync_names(folder)

    def xFileSize(self) -> int:
        return len(self._file.content)

    def xSectorSize(self) -> int:
        return 4096

    def xDeviceCharacteristics(self) -> int:
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xFileControl(self, _operation: int, _pointer: int) -> bool:
        return False

    def xLock(self, _level: int) -> None:
        """The queue's lock file keeps others away."""

    def xUnlock(self, _level: int) -> None:
        """See xLock."""

    def xCheckReservedLock(self) -> bool:
        return False

    def xClose(self) -> None:
        """Nothing is kept."""


class _FileSystem(apsw.VFS):
    """Registered under a name of its own for as long as somebody uses it."""

    def __init__(self, disk: LossyDisk) -> None:
        self._disk = disk
        self.name = f"lossy-{id(self):x}"
        super().__init__(self.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> Any:  # apsw has no type for a file
        asked = flags[0]
        flags[1] = asked
        if name is None:
            return _File(self._disk, LossyFile(), None)
        path = Path(name if isinstance(name, str) else name.filename())
        create = bool(asked & apsw.SQLITE_OPEN_CREATE)
        file = LossyFile()
        with _as_sqlite(self._disk, apsw.SQLITE_CANTOPEN):
            file = self._disk.file(path, create=create)
        return _File(self._disk, file, path.parent if create and asked & _NAME_IS_SYNCED else None)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        path = Path(filename)
        code = apsw.SQLITE_IOERR_DELETE if self._disk.exists(path) else apsw.SQLITE_IOERR_DELETE_NOENT
        with _as_sqlite(self._disk, code):
            self._disk.delete(path)
        if syncdir:
            with _as_sqlite(self._disk, apsw.SQLITE_IOERR_DIR_FSYNC):
                self._disk.sync_names(path.parent)

    def xAccess(self, pathname: str, _flags: int) -> bool:
        return self._disk.has_content(Path(pathname))

    def xFullPathname(self, name: str) -> str:
        return name


@contextmanager
def _as_sqlite(disk: LossyDisk, extended_code: int) -> Iterator[None]:
    """Turn the system's errors into SQLite's: no room is SQLITE_FULL where bytes are written.

    Of a power cut SQLite learns nothing: what it still does reaches no disk, and the connection raises PowerCut as
    soon as SQLite returns.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC and extended_code == apsw.SQLITE_IOERR_WRITE:
            extended_code = apsw.SQLITE_FULL
        raise apsw.exception_for(extended_code) from error
    except BaseException:
        if not disk.is_dead:
            raise


class LossyCursor:
    """The part of sqlite3.Cursor that the queue uses."""

    def __init__(self, connection: LossyConnection, cursor: apsw.Cursor, rowcount: int) -> None:
        self._connection = connection
        self._cursor = cursor
        self.rowcount = rowcount

    def fetchone(self) -> tuple[Any, ...] | None:
        with self._connection.translated():
            return self._cursor.fetchone()

    def fetchall(self) -> list[tuple[Any, ...]]:
        with self._connection.translated():
            return self._cursor.fetchall()

    def close(self) -> None:
        self._cursor.close()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self

    def __next__(self) -> tuple[Any, ...]:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row


class LossyConnection:
    """The part of sqlite3.Connection that the queue uses, with isolation_level=None.

    The connection keeps its file system registered; raises sqlite3.Error, and PowerCut once the disk is dead.
    """

    def __init__(self, disk: LossyDisk, path: Path) -> None:
        self._disk = disk
        self._substitutes = disk.habits.substitutes
        self._checkpoint_pages = disk.habits.checkpoint_pages or _CHECKPOINT_PAGES
        self._file_system = _FileSystem(disk)
        with self.translated():
            self._connection = apsw.Connection(
                str(path), vfs=self._file_system.name, statementcachesize=_STATEMENTS_CACHED
            )
        self._connection.set_wal_hook(self._checkpoint)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, parameters: Any = ()) -> LossyCursor:
        if sql in self._substitutes:
            instead, answer = self._substitutes[sql]
            self._run(instead, ()).fetchall()
            sql = answer
        return self._run(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any]) -> LossyCursor:
        changed = [self._run(sql, one).rowcount for one in parameters]
        return LossyCursor(self, self._connection.cursor(), sum(changed))

    def executescript(self, script: str) -> LossyCursor:
        self.commit()
        return self._run(script, ())

    def create_function(self, name: str, arguments: int, function: Callable[..., Any]) -> None:
        self._connection.create_scalar_function(name, function, arguments)

    def commit(self) -> None:
        if self.in_transaction:
            self._run("COMMIT", ())

    def rollback(self) -> None:
        if self.in_transaction:
            self._run("ROLLBACK", ())

    def close(self) -> None:
        was_dead = self._disk.is_dead
        # Like sqlite3's own it does not tell of what goes wrong in moving the log into the database.
        with suppress(apsw.Error):
            self._connection.close(force=True)
        if not was_dead:
            self._disk.stop_if_dead()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.rollback()

    def _checkpoint(self, connection: apsw.Connection, name: str, pages: int) -> int:
        """Move the log into the database, as SQLite does after a commit. It overlooks what goes wrong here, and with
        apsw's own hook a commit that has succeeded would raise it.
        """
        if pages >= self._checkpoint_pages:
            with suppress(apsw.Error):
                connection.wal_checkpoint(name, apsw.SQLITE_CHECKPOINT_PASSIVE)
        return apsw.SQLITE_OK

    def _run(self, sql: str, parameters: Any) -> LossyCursor:
        with self.translated():
            cursor = self._connection.execute(sql, parameters)
            changes = sql.lstrip()[:7].rstrip().upper() in _CHANGES
            return LossyCursor(self, cursor, self._connection.changes() if changes else -1)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise PowerCut on a dead disk, and sqlite3's errors instead of apsw's."""
        self._disk.stop_if_dead()
        try:
            yield
        except apsw.Error as error:
            self._disk.stop_if_dead()
            raise _translate(error) from error
        # SQLite may have overlooked it, as when a log cannot be moved into the database.
        self._disk.stop_if_dead()


def _translate(error: apsw.Error) -> sqlite3.Error:
    match error:
        case apsw.ConstraintError():
            translated: sqlite3.Error = sqlite3.IntegrityError(str(error))
        case apsw.CorruptError() | apsw.NotADBError():
            translated = sqlite3.DatabaseError(str(error))
        case apsw.BindingsError() | apsw.MisuseError():
            translated = sqlite3.ProgrammingError(str(error))
        case _:
            translated = sqlite3.OperationalError(str(error))
    translated.sqlite_errorcode = getattr(error, "extendedresult", apsw.SQLITE_ERROR)
    translated.sqlite_errorname = type(error).__name__
    return translated
