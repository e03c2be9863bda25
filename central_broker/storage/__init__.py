"""The census database: one contract (`contract.py`), SQLite by default, PostgreSQL for a real census."""

from __future__ import annotations

from central_broker.storage.contract import Storage, StorageRefused


def open_storage(url: str) -> Storage:
    """Open `sqlite:///path` or `postgresql://…` and bring its schema up to date.

    Raises StorageRefused for another kind of address, StorageUnavailable when the database cannot be reached.
    """
    if url.startswith("sqlite:///"):
        from central_broker.storage.sqlite import SqliteStorage

        return SqliteStorage(url.removeprefix("sqlite:///"))
    if url.startswith(("postgresql://", "postgres://")):
        from central_broker.storage.postgresql import PostgresqlStorage

        return PostgresqlStorage(url)
    raise StorageRefused("the database address must begin with sqlite:/// (then a path) or postgresql://")
