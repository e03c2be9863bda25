"""Fresh census databases, as often as wanted: SQLite files, or databases in a private PostgreSQL that syncs its log."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Protocol

from tests.support.postgresql import PostgresqlCluster


class Database(Protocol):
    """One kind of database."""

    @property
    def server_pid(self) -> int | None:
        """The server's process id, where there is a server."""
        ...

    def fresh(self) -> str:
        """Make an empty database, drop the one before, and return its address."""
        ...


class SqliteFiles:
    """Files in a folder."""

    server_pid: int | None = None

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._numbers = count(1)

    def fresh(self) -> str:
        """See Database."""
        for old in self._folder.iterdir():
            old.unlink()
        return f"sqlite:///{self._folder / f'census-{next(self._numbers)}.sqlite3'}"


class PostgresqlDatabases:
    """Databases of one cluster."""

    def __init__(self, cluster: PostgresqlCluster) -> None:
        self._cluster = cluster
        self._current: str | None = None

    @property
    def server_pid(self) -> int | None:
        """See Database."""
        return self._cluster.process.pid

    def fresh(self) -> str:
        """See Database."""
        if self._current is not None:
            self._cluster.drop_database(self._current)
        self._current = self._cluster.create_database()
        return self._current


class Databases:
    """Both kinds; PostgreSQL is started when it is first asked for. A context manager that ends it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cluster: PostgresqlCluster | None = None

    def get(self, name: str) -> Database:
        """Return the kind of this name: SQLite or PostgreSQL."""
        if name == "SQLite":
            return SqliteFiles(self._folder)
        self._cluster = PostgresqlCluster().start()
        return PostgresqlDatabases(self._cluster)

    def __enter__(self) -> Databases:
        return self

    def __exit__(self, *_: object) -> None:
        if self._cluster is not None:
            self._cluster.close()
