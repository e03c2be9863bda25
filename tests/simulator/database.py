"""The census database of a simulated world: the real SQLite storage, which can be down, backed up and put back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

from central_broker.backup import copy_database
from central_broker.storage.contract import Storage, StorageUnavailable
from central_broker.storage.sqlite import SqliteStorage
from tests.simulator.clockwork import Clockwork
from tests.simulator.oracle import Oracle
from tests.simulator.watch import DatabaseWatch, ids_in

_BACKUPS_KEPT = 4


class _Gate:
    """The storage as its clients see it: unavailable while the database is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __getattr__(self, name: str) -> Any:
        if self._database.is_down:
            raise StorageUnavailable("the database is down")
        return getattr(self._database.inner, name)


class Database:
    """The file, its backups, and what the oracle is told of it."""

    def __init__(self, folder: Path, clockwork: Clockwork, oracle: Oracle) -> None:
        folder.mkdir()
        self._folder = folder
        self._clockwork = clockwork
        self._oracle = oracle
        self._path = folder / "census.sqlite3"
        self._backups = folder / "backups"
        self._restores = 0
        self.is_down = False
        self.clock_offset = 0
        self.recorded_backups: list[Path] = []
        """Those whose watermark is recorded; a later one may exist."""
        self.later_backup: Path | None = None
        self._open()
        self.storage = cast(Storage, _Gate(self))

    @property
    def clock(self) -> int:
        """What the center takes for the time."""
        return self._clockwork.now + self.clock_offset

    def _open(self) -> None:
        self.inner = SqliteStorage(self._path)
        self.connection = self.inner._connect()
        self._watch = DatabaseWatch(self.connection)

    def close(self) -> None:
        self.inner.close()

    def note_changes(self) -> None:
        """Let the oracle see what has been committed."""
        placed, questionnaires, lost = self._watch.news()
        if placed or questionnaires or lost:
            self._oracle.recorded(placed, questionnaires, lost, self._clockwork.now)

    def wants(self) -> int:
        """Return how many origins wait for a receipt."""
        return int(self.connection.execute("SELECT count(*) FROM outbox").fetchone()[0])

    def back_up(self, *, recorded: bool = True) -> None:
        """Copy the database and move its watermark; or crash between the two."""
        if not recorded:
            self.later_backup = self._folder / f"unrecorded-{self._clockwork.now}.sqlite3"
            self.inner.copy_to(self.later_backup)
            return
        before = self.inner.watermark()
        backup = copy_database(self.inner, self._backups, self.clock)
        self.later_backup = None
        if backup.file is not None and backup.reached > before:
            self.recorded_backups.append(backup.file)
            for old in self.recorded_backups[:-_BACKUPS_KEPT]:
                # A month of copies would fill the memory.
                old.unlink()
            del self.recorded_backups[:-_BACKUPS_KEPT]
            self._oracle.backed_up(*ids_in(str(backup.file)))

    def restore(self, *, later: bool = False, backups_ago: int = 0) -> bool:
        """Put the newest recorded backup in the database's place, or a later copy; False when there is none.

        `backups_ago` takes an older one, which no guide allows: what only the newer ones had is lost, by declaration.
        """
        recorded = self.recorded_backups[: len(self.recorded_backups) - backups_ago]
        source = self.later_backup if later and self.later_backup is not None else next(reversed(recorded), None)
        if source is None:
            return False
        self.recorded_backups = recorded
        self.inner.close()
        self._restores += 1
        self._path = self._folder / f"restored-{self._restores}.sqlite3"
        shutil.copyfile(source, self._path)
        self._open()
        placed, questionnaires, _ = self._watch.news()
        self._oracle.database_restored(placed, questionnaires, declared_loss=backups_ago > 0)
        return True
