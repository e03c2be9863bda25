"""Fresh census databases, as often as wanted: SQLite files, or databases in a private PostgreSQL that syncs its log."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final, Protocol

from psycopg import sql

from tests.support.postgresql import PostgresqlCluster

_SLOW_COMMIT_MILLISECONDS: Final = 2


class Database(Protocol):
    """One kind of database."""

    @property
    def name(self) -> str:
        """What the table calls it."""
        ...

    @property
    def server_pid(self) -> int | None:
        """The server's process id, where there is a server."""
        ...

    def fresh(self) -> str:
        """Make an empty database, drop the one before, and return its address."""
        ...


class SqliteFiles:
    """Files in a folder."""

    name = "SQLite"
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
    """Databases of one cluster; a commit may be made to take longer, as where the log goes to a replica, too."""

    def __init__(self, cluster: PostgresqlCluster, *, commit_milliseconds: int = 0) -> None:
        self._cluster = cluster
        self._commit_milliseconds = commit_milliseconds
        self._current: str | None = None

    @property
    def name(self) -> str:
        """See Database."""
        slower = f", each commit {self._commit_milliseconds} ms longer"
        return f"PostgreSQL{slower if self._commit_milliseconds else ''}"

    @property
    def server_pid(self) -> int | None:
        """See Database."""
        return self._cluster.process.pid

    def fresh(self) -> str:
        """See Database."""
        if self._current is not None:
            self._cluster.drop_database(self._current)
        self._current = self._cluster.create_database()
        if self._commit_milliseconds:
            database = sql.Identifier(self._current.rpartition("/")[2])
            for setting, value in (("commit_delay", self._commit_milliseconds * 1000), ("commit_siblings", 0)):
                self._cluster.execute(
                    sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                        database, sql.Identifier(setting), sql.Literal(value)
                    )
                )
        return self._current


class Databases:
    """Every kind. PostgreSQL is started when it is first asked for; a context manager that ends it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cluster: PostgresqlCluster | None = None

    def both(self) -> Iterator[Database]:
        """SQLite, then PostgreSQL."""
        yield SqliteFiles(self._folder)
        yield PostgresqlDatabases(self._started())

    def slow(self) -> Database:
        """PostgreSQL whose commits take longer."""
        return PostgresqlDatabases(self._started(), commit_milliseconds=_SLOW_COMMIT_MILLISECONDS)

    def _started(self) -> PostgresqlCluster:
        if self._cluster is None:
            self._cluster = PostgresqlCluster().start()
        return self._cluster

    def __enter__(self) -> Databases:
        return self

    def __exit__(self, *_: object) -> None:
        if self._cluster is not None:
            self._cluster.close()
