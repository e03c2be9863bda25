"""The statements of one open SQLite transaction. BEGIN IMMEDIATE keeps every other writer out, so reads decide."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final, LiteralString, TypeVar

from central_broker.forms.tables import Table
from central_broker.storage.batch_records import (
    Arrival,
    ArrivedHead,
    CertifiedDevice,
    ChainLink,
    EnvelopeStatus,
    PartContent,
    QuestionnaireContent,
)
from central_broker.storage.census_records import Row
from central_broker.storage.census_tables import insertion
from central_broker.storage.receipt_records import RunEnd
from central_broker.storage.recording import CompleteWhole, HeldRow, Key, Place, Placed, QuestionnaireRow
from central_broker.storage.rows import (
    LAST_SEEN_GRAIN_MICROSECONDS,
    device_parameters,
    envelope_parameters,
    head_parameters,
    held_parameters,
    part_parameters,
    questionnaire_parameters,
    run_end_parameters,
)

_ROWS_A_STATEMENT: Final = 500
"""Of up to three parameters each; SQLite takes 32,766 parameters."""

Item = TypeVar("Item")


def _runs(items: Collection[Item]) -> Iterator[list[Item]]:
    source = iter(items)
    while run := list(islice(source, _ROWS_A_STATEMENT)):
        yield run


def _values(rows: int, columns: int) -> str:
    return ",".join(["(" + ",".join("?" * columns) + ")"] * rows)


class SqliteStatements:
    """See `recording.Statements`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._batch: int | None = None

    def _execute(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters).fetchall()

    def execute(self, sql: LiteralString, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        # Inside BEGIN IMMEDIATE everything is locked already.
        unlocking = sql.replace(" FOR UPDATE SKIP LOCKED", "").replace(" FOR UPDATE", "")
        return self._execute(unlocking.replace("%s", "?"), parameters)

    @property
    def batch(self) -> int:
        """The number of this transaction's batch."""
        if self._batch is None:
            self._batch = self._execute("SELECT coalesce(max(id), 0) + 1 FROM batch")[0][0]
        return self._batch

    def place(self, rows: Sequence[Placed]) -> Mapping[Key, EnvelopeStatus]:
        existing: dict[Key, EnvelopeStatus] = {}
        for run in _runs(rows):
            found = self._execute(
                f"SELECT origin, id, status FROM envelope WHERE (origin, id) IN (VALUES {_values(len(run), 2)})",  # noqa: S608 - question marks only
                list(chain.from_iterable((row.link.origin, row.link.id) for row in run)),
            )
            existing.update(((origin, envelope_id), EnvelopeStatus(status)) for origin, envelope_id, status in found)
        batch = self.batch
        self._connection.executemany(
            "INSERT INTO envelope (origin, id, epoch, sequence, previous_id, status, route, carrier, received_at,"
            " batch, hops) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [envelope_parameters(row, batch) for row in rows if (row.link.origin, row.link.id) not in existing],
        )
        return existing

    def change_status(self, keys: Sequence[Key], status: EnvelopeStatus) -> Collection[Key]:
        changed = set()
        for key in keys:
            cursor = self._connection.execute(
                "UPDATE envelope SET status = ?, batch = ? WHERE origin = ? AND id = ? AND status NOT IN (?, ?)",
                (status.value, self.batch, *key, status.value, EnvelopeStatus.COMMITTED.value),
            )
            if cursor.rowcount:
                changed.add(key)
        return changed

    def insert_questionnaires(self, rows: Sequence[QuestionnaireRow]) -> None:
        batch = self.batch
        self._connection.executemany(
            "INSERT INTO questionnaire VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [questionnaire_parameters(row, batch) for row in rows],
        )

    def make(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._execute(sql.replace("%s", "?"), parameters)

    def insert_answers(self, table: Table, rows: Sequence[Sequence[object]]) -> None:
        self._connection.executemany(insertion(table, postgresql=False), rows)

    def insert_rows(
        self, table: LiteralString, columns: Sequence[tuple[LiteralString, LiteralString]], rows: Sequence[Row]
    ) -> None:
        names = ", ".join(name for name, _ in columns)
        marks = ", ".join("?" * len(columns))
        self._connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)  # noqa: S608 - literals only

    def set_content(self, origin: bytes, envelope_id: bytes, content: QuestionnaireContent) -> None:
        self._execute(
            "UPDATE questionnaire SET content = ? WHERE origin = ? AND id = ?", (content.content, origin, envelope_id)
        )

    def insert_parts(self, parts: Sequence[tuple[ChainLink, PartContent]]) -> list[CompleteWhole]:
        self._connection.executemany(
            "INSERT OR IGNORE INTO part VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [part_parameters(link, content) for link, content in parts],
        )
        complete = []
        for (origin, whole), content in {(link.origin, content.whole): content for link, content in parts}.items():
            (count,) = self._execute("SELECT count(*) FROM part WHERE origin = ? AND whole = ?", (origin, whole))[0]
            if count == content.parts:
                complete.append(self._take_whole(origin, whole, content))
        return complete

    def _take_whole(self, origin: bytes, whole: bytes, content: PartContent) -> CompleteWhole:
        rows = self._execute(
            "SELECT id, epoch, sequence, body FROM part WHERE origin = ? AND whole = ? ORDER BY part", (origin, whole)
        )
        self._execute("DELETE FROM part WHERE origin = ? AND whole = ?", (origin, whole))
        first_id, epoch, sequence, _ = rows[0]
        return CompleteWhole(origin, first_id, epoch, sequence, content, b"".join(row[3] for row in rows))

    def known_held(self, ids: Sequence[bytes]) -> Mapping[bytes, bool]:
        known: dict[bytes, bool] = {}
        for run in _runs(ids):
            marks = ",".join("?" * len(run))
            sql = f"SELECT id, receiptable FROM held WHERE id IN ({marks})"  # noqa: S608 - question marks only
            known.update((row[0], bool(row[1])) for row in self._execute(sql, run))
        return known

    def upsert_held(self, rows: Sequence[HeldRow]) -> None:
        self._connection.executemany(
            "INSERT INTO held (id, reason, detail, origin, epoch, sequence, envelope_id, receiptable, whole,"
            " carrier, route, received_at, batch, data, hops) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET reason = excluded.reason, detail = excluded.detail,"
            " receiptable = excluded.receiptable",
            [held_parameters(row, self.batch) for row in rows],
        )

    def delete_held(self, ids: Sequence[bytes]) -> None:
        self._connection.executemany("DELETE FROM held WHERE id = ?", [(held_id,) for held_id in ids])

    def backed_keys(self, keys: Sequence[Key]) -> Collection[Key]:
        sql = "SELECT 1 FROM held WHERE origin = ? AND envelope_id = ? AND receiptable = 1 LIMIT 1"
        return {key for key in keys if self._execute(sql, key)}

    def forked(self, places: Collection[Place]) -> Collection[Place]:
        chains: dict[tuple[bytes, int], list[int]] = {}
        for origin, epoch, sequence in places:
            chains.setdefault((origin, epoch), []).append(sequence)
        forked: set[Place] = set()
        for (origin, epoch), sequences in chains.items():
            # One range of the index is cheaper than a search a row: what is new in a chain stands close together.
            rows = self._execute(
                "SELECT sequence FROM envelope WHERE origin = ? AND epoch = ? AND sequence BETWEEN ? AND ?"
                " AND status <> 'disproved' GROUP BY sequence HAVING count(*) > 1",
                (origin, epoch, min(sequences), max(sequences)),
            )
            forked.update((origin, epoch, row[0]) for row in rows)
        return forked

    def upsert_heads(self, heads: Sequence[ArrivedHead]) -> Collection[bytes]:
        self._connection.executemany(
            "INSERT INTO head (origin, epoch, sequence, receipt_serial, last_id, stated_at, data)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (origin, epoch) DO UPDATE SET sequence = excluded.sequence,"
            " receipt_serial = excluded.receipt_serial, last_id = excluded.last_id, stated_at = excluded.stated_at,"
            " data = excluded.data WHERE (excluded.sequence, excluded.receipt_serial) > (sequence, receipt_serial)",
            [head_parameters(arrived) for arrived in heads],
        )
        behind = set()
        for arrived in heads:
            rows = self._execute("SELECT serial FROM receipt WHERE origin = ?", (arrived.head.origin,))
            if arrived.head.receipt_serial != (rows[0][0] if rows else 0):
                behind.add(arrived.head.origin)
        return behind

    def upsert_devices(self, devices: Sequence[CertifiedDevice], now: int) -> int:
        before = self._connection.total_changes
        self._connection.executemany(
            "INSERT INTO device (device, name, role, standing, public_key, issued_at, serial, certificate, enrolled_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (device) DO UPDATE SET name = excluded.name,"
            " role = excluded.role, standing = excluded.standing, issued_at = excluded.issued_at,"
            " serial = excluded.serial, certificate = excluded.certificate WHERE excluded.serial > serial",
            [device_parameters(device, now) for device in devices],
        )
        changed = self._connection.total_changes - before
        if changed:
            self._execute("UPDATE directory_version SET at = at + 1")
        return changed

    def upsert_run_ends(self, run_ends: Sequence[RunEnd], now: int) -> None:
        self._connection.executemany(
            "INSERT INTO run_end (origin, id, epoch, sequence, at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (origin, id) DO UPDATE SET at = excluded.at",
            [run_end_parameters(run_end, now) for run_end in run_ends],
        )

    def see_devices(self, seen: Mapping[bytes, Arrival]) -> None:
        self._connection.executemany(
            "UPDATE device SET last_seen_at = ?, last_route = ?, last_carrier = ?, last_hops = ? WHERE device = ?"
            " AND (last_seen_at IS NULL OR abs(last_seen_at - ?) > ? OR last_route IS NOT ? OR last_carrier IS NOT ?)",
            [
                (
                    arrival.received_at,
                    arrival.route.value,
                    arrival.carrier,
                    arrival.hops,
                    device,
                    arrival.received_at,
                    LAST_SEEN_GRAIN_MICROSECONDS,
                    arrival.route.value,
                    arrival.carrier,
                )
                for device, arrival in seen.items()
            ],
        )

    def want(self, origins: Mapping[bytes, bool], now: int) -> None:
        self._connection.executemany(
            "INSERT INTO outbox (origin, wanted, fresh, asked_at, leased_until) VALUES (?, 1, ?, ?, 0)"
            " ON CONFLICT (origin) DO UPDATE SET wanted = wanted + 1, fresh = max(fresh, excluded.fresh)",
            [(origin, int(fresh), now) for origin, fresh in sorted(origins.items())],
        )

    def tick(self, now: int) -> int:
        at: int = self._execute("UPDATE commit_clock SET at = max(at + 1, ?) RETURNING at", (now,))[0][0]
        self._execute("INSERT INTO batch (id, committed_at) VALUES (?, ?)", (self.batch, at))
        return at
