"""The statements of one open PostgreSQL transaction (READ COMMITTED): whole batches as arrays, conflicts by key.

Other consumers run at the same time, so nothing is decided by a read alone: inserts and updates say what they changed,
and rows go in sorted by key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, LiteralString

import psycopg

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
from central_broker.storage.census_tables import insertion, postgresql_types
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


def _columns(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(width)]


class PostgresqlStatements:
    """See `recording.Statements`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection
        self._batch: int | None = None

    def execute(self, sql: LiteralString, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(sql, parameters, binary=True)
        return cursor.fetchall() if cursor.description is not None else []

    @property
    def batch(self) -> int:
        """The number of this transaction's batch; numbers are unique, commit times are what is in order."""
        if self._batch is None:
            self._batch = int(self.execute("SELECT nextval('batch_number')")[0][0])
        return self._batch

    def place(self, rows: Sequence[Placed]) -> Mapping[Key, EnvelopeStatus]:
        inserted = self.execute(
            "INSERT INTO envelope"
            " (origin, id, epoch, sequence, previous_id, status, route, carrier, received_at, batch, hops)"
            " SELECT * FROM unnest(%b::bytea[], %b::bytea[], %b::bigint[], %b::bigint[], %b::bytea[], %b::text[],"
            " %b::text[], %b::bytea[], %b::bigint[], %b::bigint[], %b::smallint[])"
            " ON CONFLICT (origin, id) DO NOTHING"
            " RETURNING origin, id",
            _columns((envelope_parameters(row, self.batch) for row in rows), 11),
        )
        if len(inserted) == len(rows):
            return {}
        new = set(inserted)
        rest = [key for row in rows if (key := (row.link.origin, row.link.id)) not in new]
        # A later statement sees what the insertion has waited for.
        found = self.execute(
            "SELECT e.origin, e.id, e.status FROM unnest(%b::bytea[], %b::bytea[]) k (origin, id)"
            " JOIN envelope e ON e.origin = k.origin AND e.id = k.id",
            _columns(rest, 2),
        )
        return {(origin, envelope_id): EnvelopeStatus(status) for origin, envelope_id, status in found}

    def change_status(self, keys: Sequence[Key], status: EnvelopeStatus) -> Collection[Key]:
        return {
            (row[0], row[1])
            for row in self.execute(
                "UPDATE envelope e SET status = %s, batch = %s FROM unnest(%b::bytea[], %b::bytea[]) k (origin, id)"
                " WHERE e.origin = k.origin AND e.id = k.id AND e.status NOT IN (%s, 'committed')"
                " RETURNING e.origin, e.id",
                (status.value, self.batch, *_columns(keys, 2), status.value),
            )
        }

    def insert_questionnaires(self, rows: Sequence[QuestionnaireRow]) -> None:
        self.execute(
            "INSERT INTO questionnaire (origin, id, epoch, sequence, form, form_version, instance_id, media_type,"
            " created_at, parts, batch, whole_digest, content, body)"
            " SELECT a, b, c, d, e, f, g, h, i, j, k, l, m::jsonb, n FROM unnest(%b::bytea[], %b::bytea[],"
            " %b::bigint[], %b::bigint[], %b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[], %b::integer[],"
            " %b::bigint[], %b::text[], %b::text[], %b::bytea[]) q (a, b, c, d, e, f, g, h, i, j, k, l, m, n)",
            _columns((questionnaire_parameters(row, self.batch) for row in rows), 14),
        )

    def make(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(sql.encode(), parameters, binary=True)
        return cursor.fetchall() if cursor.description is not None else []

    def insert_answers(self, table: Table, rows: Sequence[Sequence[object]]) -> None:
        self.make(insertion(table, postgresql=True), _columns(rows, len(postgresql_types(table))))

    def insert_rows(
        self, table: LiteralString, columns: Sequence[tuple[LiteralString, LiteralString]], rows: Sequence[Row]
    ) -> None:
        names = ", ".join(name for name, _ in columns)
        arrays = ", ".join(f"%b::{kind}[]" for _, kind in columns)
        self.execute(
            f"INSERT INTO {table} ({names}) SELECT * FROM unnest({arrays})",  # noqa: S608 - literals only
            _columns(rows, len(columns)),
        )

    def set_content(self, origin: bytes, envelope_id: bytes, content: QuestionnaireContent) -> None:
        self.execute(
            "UPDATE questionnaire SET content = %s::text::jsonb WHERE origin = %s AND id = %s",
            (content.content, origin, envelope_id),
        )

    def insert_parts(self, parts: Sequence[tuple[ChainLink, PartContent]]) -> list[CompleteWhole]:
        wholes = {(link.origin, content.whole): content for link, content in parts}
        # Whoever brings parts of one whole waits here for the other; what is counted below is then all there is.
        self.execute(
            "INSERT INTO whole (origin, whole) SELECT * FROM unnest(%b::bytea[], %b::bytea[])"
            " ON CONFLICT (origin, whole) DO UPDATE SET whole = excluded.whole",
            _columns(sorted(wholes), 2),
        )
        self.execute(
            "INSERT INTO part (origin, whole, part, parts, id, epoch, sequence, form, form_version, instance_id,"
            " media_type, created_at, whole_digest, body)"
            " SELECT * FROM unnest(%b::bytea[], %b::bytea[], %b::integer[], %b::integer[], %b::bytea[], %b::bigint[],"
            " %b::bigint[], %b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[], %b::text[], %b::bytea[])"
            " ON CONFLICT DO NOTHING",
            _columns((part_parameters(link, content) for link, content in parts), 14),
        )
        counts = self.execute(
            "SELECT p.origin, p.whole, count(*) FROM unnest(%b::bytea[], %b::bytea[]) k (origin, whole)"
            " JOIN part p ON p.origin = k.origin AND p.whole = k.whole GROUP BY p.origin, p.whole ORDER BY 1, 2",
            _columns(sorted(wholes), 2),
        )
        return [
            self._take_whole(origin, whole, wholes[origin, whole])
            for origin, whole, count in counts
            if count == wholes[origin, whole].parts
        ]

    def _take_whole(self, origin: bytes, whole: bytes, content: PartContent) -> CompleteWhole:
        key = (origin, whole)
        rows = self.execute(
            "SELECT id, epoch, sequence, body FROM part WHERE origin = %s AND whole = %s ORDER BY part", key
        )
        self.execute("DELETE FROM part WHERE origin = %s AND whole = %s", key)
        self.execute("DELETE FROM whole WHERE origin = %s AND whole = %s", key)
        first_id, epoch, sequence, _ = rows[0]
        return CompleteWhole(origin, first_id, epoch, sequence, content, b"".join(row[3] for row in rows))

    def known_held(self, ids: Sequence[bytes]) -> Mapping[bytes, bool]:
        rows = self.execute("SELECT id, receiptable FROM held WHERE id = ANY(%b::bytea[])", (list(ids),))
        return {row[0]: bool(row[1]) for row in rows}

    def upsert_held(self, rows: Sequence[HeldRow]) -> None:
        self.execute(
            "INSERT INTO held (id, reason, detail, origin, epoch, sequence, envelope_id, receiptable, whole,"
            " carrier, route, received_at, batch, data, hops)"
            " SELECT * FROM unnest(%b::bytea[], %b::text[], %b::text[], %b::bytea[], %b::bigint[], %b::bigint[],"
            " %b::bytea[], %b::integer[], %b::integer[], %b::bytea[], %b::text[], %b::bigint[], %b::bigint[],"
            " %b::bytea[], %b::smallint[]) ON CONFLICT (id) DO UPDATE SET reason = excluded.reason,"
            " detail = excluded.detail, receiptable = excluded.receiptable",
            _columns((held_parameters(row, self.batch) for row in rows), 15),
        )

    def delete_held(self, ids: Sequence[bytes]) -> None:
        self.execute("DELETE FROM held WHERE id = ANY(%b::bytea[])", (list(ids),))

    def backed_keys(self, keys: Sequence[Key]) -> Collection[Key]:
        rows = self.execute(
            "SELECT DISTINCT h.origin, h.envelope_id FROM unnest(%b::bytea[], %b::bytea[]) k (origin, id)"
            " JOIN held h ON h.origin = k.origin AND h.envelope_id = k.id WHERE h.receiptable = 1",
            _columns(keys, 2),
        )
        return {(row[0], row[1]) for row in rows}

    def forked(self, places: Collection[Place]) -> Collection[Place]:
        rows = self.execute(
            "SELECT e.origin, e.epoch, e.sequence"
            " FROM unnest(%b::bytea[], %b::bigint[], %b::bigint[]) k (origin, epoch, sequence)"
            " JOIN envelope e ON e.origin = k.origin AND e.epoch = k.epoch AND e.sequence = k.sequence"
            " WHERE e.status <> 'disproved' GROUP BY 1, 2, 3 HAVING count(*) > 1",
            _columns(places, 3),
        )
        return {(row[0], row[1], row[2]) for row in rows}

    def upsert_heads(self, heads: Sequence[ArrivedHead]) -> Collection[bytes]:
        # One statement cannot touch a row twice: the newest of each epoch goes in.
        newest: dict[tuple[bytes, int], ArrivedHead] = {}
        for arrived in sorted(heads, key=lambda arrived: arrived.head.order):
            newest[arrived.head.origin, arrived.head.epoch] = arrived
        self.execute(
            "INSERT INTO head AS h (origin, epoch, sequence, receipt_serial, last_id, stated_at, data)"
            " SELECT * FROM unnest(%b::bytea[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bytea[], %b::bigint[],"
            " %b::bytea[]) ON CONFLICT (origin, epoch) DO UPDATE SET sequence = excluded.sequence,"
            " receipt_serial = excluded.receipt_serial, last_id = excluded.last_id, stated_at = excluded.stated_at,"
            " data = excluded.data"
            " WHERE (excluded.sequence, excluded.receipt_serial) > (h.sequence, h.receipt_serial)",
            _columns((head_parameters(newest[key]) for key in sorted(newest)), 7),
        )
        origins = {arrived.head.origin for arrived in heads}
        serials = dict(
            self.execute("SELECT origin, serial FROM receipt WHERE origin = ANY(%b::bytea[])", (list(origins),))
        )
        return {
            arrived.head.origin
            for arrived in heads
            if arrived.head.receipt_serial != serials.get(arrived.head.origin, 0)
        }

    def upsert_devices(self, devices: Sequence[CertifiedDevice], now: int) -> int:
        newest = {
            device.certificate.device: device for device in sorted(devices, key=lambda one: one.certificate.serial)
        }
        changed = self.execute(
            "INSERT INTO device AS d (device, name, role, standing, public_key, issued_at, serial, certificate,"
            " enrolled_at) SELECT * FROM unnest(%b::bytea[], %b::text[], %b::integer[], %b::integer[], %b::bytea[],"
            " %b::bigint[], %b::bigint[], %b::bytea[], %b::bigint[]) ON CONFLICT (device) DO UPDATE SET"
            " name = excluded.name, role = excluded.role, standing = excluded.standing,"
            " issued_at = excluded.issued_at, serial = excluded.serial, certificate = excluded.certificate"
            " WHERE excluded.serial > d.serial RETURNING d.device",
            _columns((device_parameters(newest[key], now) for key in sorted(newest)), 9),
        )
        if changed:
            self.execute("UPDATE directory_version SET at = at + 1")
        return len(changed)

    def upsert_run_ends(self, run_ends: Sequence[RunEnd], now: int) -> None:
        self.execute(
            "INSERT INTO run_end (origin, id, epoch, sequence, at)"
            " SELECT * FROM unnest(%b::bytea[], %b::bytea[], %b::bigint[], %b::bigint[], %b::bigint[])"
            " ON CONFLICT (origin, id) DO UPDATE SET at = excluded.at",
            _columns((run_end_parameters(run_end, now) for run_end in run_ends), 5),
        )

    def see_devices(self, seen: Mapping[bytes, Arrival]) -> None:
        rows = [
            (device, at.received_at, at.route.value, at.carrier, at.hops)
            for device, at in sorted(seen.items(), key=_first)
        ]
        self.execute(
            "UPDATE device d SET last_seen_at = s.at, last_route = s.route, last_carrier = s.carrier,"
            " last_hops = s.hops FROM unnest(%b::bytea[], %b::bigint[], %b::text[], %b::bytea[], %b::smallint[])"
            " s (device, at, route, carrier, hops)"
            " WHERE d.device = s.device AND (d.last_seen_at IS NULL OR abs(d.last_seen_at - s.at) > %s"
            " OR d.last_route IS DISTINCT FROM s.route OR d.last_carrier IS DISTINCT FROM s.carrier)",
            (*_columns(rows, 5), LAST_SEEN_GRAIN_MICROSECONDS),
        )

    def want(self, origins: Mapping[bytes, bool], now: int) -> None:
        self.execute(
            "INSERT INTO outbox AS o (origin, wanted, fresh, asked_at, leased_until)"
            " SELECT a, 1, b, %s, 0 FROM unnest(%b::bytea[], %b::integer[]) w (a, b) ON CONFLICT (origin)"
            " DO UPDATE SET wanted = o.wanted + 1, fresh = greatest(o.fresh, excluded.fresh)",
            (now, *_columns(sorted((origin, int(fresh)) for origin, fresh in origins.items()), 2)),
        )

    def tick(self, now: int) -> int:
        at: int = self.execute(
            "WITH tick AS (UPDATE commit_clock SET at = greatest(at + 1, %s) RETURNING at)"
            " INSERT INTO batch (id, committed_at) SELECT %s, at FROM tick RETURNING committed_at",
            (now, self.batch),
        )[0][0]
        return at


def _first(item: tuple[bytes, Arrival]) -> bytes:
    return item[0]
