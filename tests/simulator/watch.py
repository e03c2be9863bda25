"""Sees what the real stores really change: temporary triggers on their own connections, which only the oracle reads.

What a transaction changed is told when it has committed, and forgotten when it was rolled back.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from sync_protocol.statement import RECEIPT


@dataclass(frozen=True, slots=True)
class Row:
    """One envelope as it lies in a device's queue."""

    id: bytes
    origin: bytes
    epoch: int
    sequence: int
    own: bool
    has_data: bool
    status: int | None
    committed_at: int | None


@dataclass(frozen=True, slots=True)
class Gone:
    """An envelope's row has been deleted."""

    id: bytes


@dataclass(frozen=True, slots=True)
class Dispatched:
    """An envelope has been handed to a link."""

    id: bytes


@dataclass(frozen=True, slots=True)
class ReceiptKept:
    """A device keeps another receipt of an origin than before."""

    origin: bytes
    serial: int


Change = Row | Gone | Dispatched | ReceiptKept

_COLUMNS: Final = ("id", "origin", "epoch", "sequence", "own", "data IS NOT NULL", "status", "committed_at")
_NEW: Final = ", ".join(f"NEW.{column}" for column in _COLUMNS)
_QUEUE_TRIGGERS: Final = (
    f"CREATE TEMP TRIGGER watch_1 AFTER INSERT ON main.envelope BEGIN SELECT watch_row({_NEW}); END",
    f"CREATE TEMP TRIGGER watch_2 AFTER UPDATE ON main.envelope BEGIN SELECT watch_row({_NEW}); END",
    "CREATE TEMP TRIGGER watch_3 AFTER DELETE ON main.envelope BEGIN SELECT watch_gone(OLD.id); END",
    "CREATE TEMP TRIGGER watch_4 AFTER INSERT ON main.dispatch BEGIN "
    "SELECT watch_dispatch(id) FROM main.envelope WHERE number = NEW.envelope; END",
    f"CREATE TEMP TRIGGER watch_5 AFTER INSERT ON main.statement WHEN NEW.kind = {RECEIPT} "
    "BEGIN SELECT watch_receipt(NEW.subject, NEW.serial); END",
    f"CREATE TEMP TRIGGER watch_6 AFTER UPDATE ON main.statement WHEN NEW.kind = {RECEIPT} "
    "BEGIN SELECT watch_receipt(NEW.subject, NEW.serial); END",
)


class QueueWatch:
    """Watches one open queue."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._pending: list[Change] = []
        connection.create_function("watch_row", 8, self._row)
        connection.create_function("watch_gone", 1, lambda i: self._pending.append(Gone(i)))
        connection.create_function("watch_dispatch", 1, lambda i: self._pending.append(Dispatched(i)))
        connection.create_function("watch_receipt", 2, lambda o, s: self._pending.append(ReceiptKept(o, s)))
        for trigger in _QUEUE_TRIGGERS:
            connection.execute(trigger)
        self.connection = connection

    def _row(
        self,
        envelope_id: bytes,
        origin: bytes,
        epoch: int,
        sequence: int,
        own: int,
        has_data: int,
        status: int | None,
        committed_at: int | None,
    ) -> None:
        self._pending.append(Row(envelope_id, origin, epoch, sequence, bool(own), bool(has_data), status, committed_at))

    def all_rows(self) -> list[Row]:
        """Read everything that is there now."""
        columns = ", ".join(_COLUMNS)
        return [
            Row(row[0], row[1], row[2], row[3], bool(row[4]), bool(row[5]), row[6], row[7])
            for row in self.connection.execute(f"SELECT {columns} FROM envelope ORDER BY number")
        ]

    def receipts(self) -> dict[bytes, int]:
        """Return the serial of every receipt kept, by origin."""
        rows = self.connection.execute("SELECT subject, serial FROM statement WHERE kind = ?", (RECEIPT,))
        return {bytes(origin): serial for origin, serial in rows}

    def committed(self) -> list[Change]:
        """Return what the step changed; it is durable now. Nothing while the transaction is still open."""
        if self.connection.in_transaction:
            return []
        changes, self._pending = self._pending, []
        return changes

    def rolled_back(self) -> None:
        self._pending = []


@dataclass(frozen=True, slots=True)
class Placed:
    """An envelope in the census database, new or with another status or commit time."""

    id: bytes
    origin: bytes
    epoch: int
    sequence: int
    status: str
    committed_at: int


@dataclass(frozen=True, slots=True)
class Questionnaire:
    """A whole questionnaire in the census database."""

    origin: bytes
    id: bytes
    instance_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """A row that was deleted in the census database, which nothing may do."""

    table: str
    id: bytes


_PLACED: Final = (
    "SELECT e.id, e.origin, e.epoch, e.sequence, e.status, b.committed_at "
    "FROM envelope e JOIN batch b ON b.id = e.batch"
)


class DatabaseWatch:
    """Watches the census database through the connection of the one process that simulates all of its clients.

    The tables are append-only but for statuses; so what changed is asked for by batch, and deletions are counted.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._deleted: list[Lost] = []
        connection.create_function("watch_lost", 2, lambda table, i: self._deleted.append(Lost(table, i)))
        for table in ("envelope", "questionnaire"):
            connection.execute(
                f"CREATE TEMP TRIGGER IF NOT EXISTS lost_{table} AFTER DELETE ON main.{table} "
                f"BEGIN SELECT watch_lost('{table}', OLD.id); END"
            )
        self._batch = self._questionnaire = 0

    def news(self) -> tuple[list[Placed], list[Questionnaire], list[Lost]]:
        """Return what is new since the last call. What is in a transaction that is still open is not."""
        if self._connection.in_transaction:
            return [], [], []
        placed = [
            Placed(*row)
            for row in self._connection.execute(f"{_PLACED} WHERE e.batch > ? ORDER BY e.batch, e.id", (self._batch,))
        ]
        (newest,) = self._connection.execute("SELECT coalesce(max(id), 0) FROM batch").fetchone()
        self._batch = newest
        rows = self._connection.execute(
            "SELECT rowid, origin, id, instance_id, body FROM questionnaire WHERE rowid > ? ORDER BY rowid",
            (self._questionnaire,),
        ).fetchall()
        if rows:
            self._questionnaire = rows[-1][0]
        lost, self._deleted = self._deleted, []
        return placed, [Questionnaire(row[1], row[2], row[3], sha256(row[4]).digest()) for row in rows], lost


def ids_in(path: str) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Return the ids of what is committed, and of what is held, in a copy of the census database."""
    connection = sqlite3.connect(path)
    try:
        committed, held = (
            frozenset(row[0] for row in connection.execute("SELECT id FROM envelope WHERE status = ?", (status,)))
            for status in ("committed", "held")
        )
        return committed, held
    finally:
        connection.close()
