"""The census database on PostgreSQL, through psycopg 3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg
from psycopg import errors

from central_broker.storage.batch_records import Batch, BatchResult, WholeDecoder
from central_broker.storage.bisecting import content_refused, record_or_hold
from central_broker.storage.contract import StorageRefused, StorageUnavailable
from central_broker.storage.coverage import Coverage
from central_broker.storage.forms import Forms
from central_broker.storage.inquiries import Inquiries
from central_broker.storage.lists import Lists
from central_broker.storage.outbox import Outbox
from central_broker.storage.postgresql_schema import MIGRATIONS, VERSION_TABLE
from central_broker.storage.postgresql_statements import PostgresqlStatements
from central_broker.storage.recording import RowRefused

CONNECT_TIMEOUT_SECONDS: Final = 10
_PEER_TIMEOUT_MILLISECONDS: Final = 30_000
_CONFLICT_RETRIES_MAX: Final = 20


class StorageConflict(StorageUnavailable):
    """Another transaction came in the way (SQLSTATE 40001, 40P01): the same again will do."""


class PostgresqlStorage(Outbox, Forms, Coverage, Lists, Inquiries):
    """See `contract.Storage`."""

    is_postgresql = True

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self.migrate()

    def migrate(self) -> None:
        number = self._schema_number()
        if number > len(MIGRATIONS):
            raise StorageRefused("the database was made by a newer version of this program; install that version")
        if number == len(MIGRATIONS):
            return
        with self.writing() as statements:
            # Who comes second waits for this row, and then finds nothing left to do.
            [(number,)] = statements.execute("SELECT number FROM schema_version FOR UPDATE")
            for migration in MIGRATIONS[number:]:
                for statement in migration.split(";\n"):
                    if statement.strip():
                        statements.execute(statement)
            statements.execute("UPDATE schema_version SET number = %s", (len(MIGRATIONS),))

    def _schema_number(self) -> int:
        for _ in range(_CONFLICT_RETRIES_MAX):
            try:
                return int(self.read("SELECT number FROM schema_version")[0][0])
            except (errors.UndefinedTable, IndexError):
                # Two processes that create the table at once: one of them gets a conflict of names.
                with suppress(RowRefused), self.writing() as statements:
                    statements.execute(VERSION_TABLE)
                    statements.execute("INSERT INTO schema_version VALUES (1, 0) ON CONFLICT DO NOTHING")
        raise StorageUnavailable("the schema's version cannot be read")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            application_name="central-broker",
            # A peer that has vanished is noticed, instead of waited for.
            tcp_user_timeout=_PEER_TIMEOUT_MILLISECONDS,
            keepalives_idle=_PEER_TIMEOUT_MILLISECONDS // 1000,
        )
        try:
            # A receipt says "committed", so a commit waits for the disk, whatever the site's default is.
            if connection.execute("SHOW synchronous_commit").fetchone() == ("off",):
                connection.execute("SET synchronous_commit = on")
            # A fifth of pglz's cost for bodies of some kilobytes, where the server knows it.
            connection.execute(
                "SELECT set_config(name, 'lz4', false) FROM pg_settings"
                " WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)"
            )
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def read(self, sql: LiteralString, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._faults():
            return self._connect().execute(sql, parameters, binary=True).fetchall()

    def read_made(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._faults():
            return self._connect().execute(sql.encode(), parameters, binary=True).fetchall()

    @contextmanager
    def writing(self) -> Iterator[PostgresqlStatements]:
        with self._faults():
            connection = self._connect()
            with connection.transaction():
                yield PostgresqlStatements(connection)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn the driver's errors into those of the contract; mistakes in our own SQL stay what they are."""
        try:
            yield
        except (errors.SerializationFailure, errors.DeadlockDetected) as error:
            raise StorageConflict(f"PostgreSQL: {error.sqlstate}") from error
        except (psycopg.DataError, psycopg.IntegrityError, errors.ProgramLimitExceeded, UnicodeEncodeError) as error:
            raise RowRefused(content_refused(error)) from error
        except (psycopg.OperationalError, psycopg.InternalError, psycopg.InterfaceError) as error:
            # Broken or not: the next call starts with a connection that is known to be good.
            self.close()
            raise StorageUnavailable(f"PostgreSQL: {type(error).__name__} {error.sqlstate or ''}".rstrip()) from error

    def commit(self, batch: Batch, decode_whole: WholeDecoder, now: int) -> BatchResult:
        for _ in range(_CONFLICT_RETRIES_MAX):
            try:
                return record_or_hold(batch, self.writing, decode_whole, now)
            except StorageConflict:
                continue
        return record_or_hold(batch, self.writing, decode_whole, now)

    def copy_to(self, target: Path) -> int:
        raise StorageRefused(
            f"a PostgreSQL database is backed up by the site's own means, not to {target}; "
            "afterwards record the commit clock that the backup reached"
        )
