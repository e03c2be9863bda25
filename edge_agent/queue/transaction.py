"""The engine's transaction on SQLite; see `engine.store.StoreTransaction` for what each call promises."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edge_agent.engine.effects import Accepted
from edge_agent.engine.events import ChainPosition
from edge_agent.engine.store import (
    CarriedEnvelope,
    EnvelopeStanding,
    OfferableEnvelope,
    Openings,
    SequenceRange,
    StoredEnvelope,
    StoreFault,
)
from sync_protocol.bundle import frame_bytes
from sync_protocol.counted_list import read_sealed_list
from sync_protocol.envelope import NO_ID, Envelope
from sync_protocol.head import Head
from sync_protocol.identity import CENTER
from sync_protocol.mesh import HEAD_KIND, Item
from sync_protocol.receipt import SpanStatus
from sync_protocol.statement import COUNTED_LIST, Statement, parse_statement
from sync_protocol.way import NO_WAY, Leg, Way

# A record from the future means that the clock has gone back since it was made: then the record does not count.
_DUE = (
    "(dispatch.envelope IS NULL OR dispatch.next_at <= :now OR dispatch.sent_at > :now OR dispatch.answered_at > :now)"
)
_OPEN = "status IS NULL AND data IS NOT NULL AND rests_since IS NULL"
"""Said in just this way, so that the index of open envelopes serves."""
_OPEN_WITH_DISPATCH = f"""
    FROM envelope LEFT JOIN dispatch ON dispatch.envelope = envelope.number AND dispatch.destination = :destination
    WHERE {_OPEN}
"""
# The center is given everything, also what came over the link to it.
_FOR_DESTINATION = (
    "(:destination = :center OR (envelope.origin <> :destination AND envelope.carrier IS NOT :destination))"
)
_PLACE = "origin = ? AND epoch = ? AND sequence BETWEEN ? AND ?"
_STORED = "envelope.number, envelope.id, envelope.origin, envelope.leg, envelope.hops, envelope.data"
Row = tuple[Any, ...]
_REOPENED = "reopened"
_BEYOND_ANY_KEY = b"\xff" * 97
"""Behind the beginning of keys: greater than whatever follows it in any of them."""
_DUE_ROWS_MAX = 2_048
"""More small envelopes than fit into one bundle, a file on a medium included."""


class QueueTransaction:
    """Reads and writes within one open transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # The device's own chain.

    def position(self) -> ChainPosition:
        # Every submit asks twice, so the usual case is one statement.
        row = self._connection.execute(
            "SELECT epoch, sequence, id FROM envelope WHERE own = 1 AND epoch = (SELECT max(epoch) FROM chain) "
            "ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        if row is not None:
            return ChainPosition(*row)
        (epoch,) = self._connection.execute("SELECT max(epoch) FROM chain").fetchone()
        return ChainPosition(epoch or 0, 0, NO_ID)

    def start_epoch(self, epoch: int, *, reason: str, now: int) -> None:
        newest = self._connection.execute("SELECT max(epoch) FROM chain").fetchone()[0]
        if newest is not None and epoch <= newest:
            raise StoreFault(f"epoch {epoch} does not follow epoch {newest}")
        self._connection.execute("INSERT INTO chain VALUES (?, ?, ?)", (epoch, reason, now))

    def epochs(self) -> Sequence[ChainPosition]:
        rows = self._connection.execute(
            "SELECT chain.epoch, last.sequence, last.id FROM chain LEFT JOIN envelope AS last ON last.number = "
            "(SELECT number FROM envelope WHERE own = 1 AND epoch = chain.epoch ORDER BY sequence DESC LIMIT 1) "
            "ORDER BY chain.epoch"
        )
        return [
            ChainPosition(epoch, 0, NO_ID) if sequence is None else ChainPosition(epoch, sequence, envelope_id)
            for epoch, sequence, envelope_id in rows
        ]

    def accepted_before(self, key: bytes) -> Accepted | None:
        row = self._connection.execute(
            "SELECT epoch, first_sequence, last_sequence FROM submission WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else Accepted(0, row[0], row[1], row[2], repeated=True)

    def submission_keys(self, beginning: bytes) -> Sequence[bytes]:
        rows = self._connection.execute(
            "SELECT key FROM submission WHERE key BETWEEN ? AND ?", (beginning, beginning + _BEYOND_ANY_KEY)
        )
        return [key for (key,) in rows]

    def submitted_at(self, beginning: bytes) -> int | None:
        (at,) = self._connection.execute(
            "SELECT min(accepted_at) FROM submission WHERE key BETWEEN ? AND ?",
            (beginning, beginning + _BEYOND_ANY_KEY),
        ).fetchone()
        return None if at is None else int(at)

    def remember_submission(self, key: bytes, accepted: Accepted, now: int) -> None:
        self._connection.execute(
            "INSERT INTO submission VALUES (?, ?, ?, ?, ?)",
            (key, accepted.epoch, accepted.first_sequence, accepted.last_sequence, now),
        )

    # Envelopes, own and others'.

    def add_envelope(
        self,
        envelope: Envelope,
        *,
        own: bool,
        carrier: bytes | None,
        now: int,
        rests_since: int | None = None,
        copies: int = 0,
        way: Way = NO_WAY,
    ) -> bool:
        added = self._connection.execute(
            "INSERT INTO envelope (id, origin, epoch, sequence, own, bytes, received_at, carrier, rests_since, "
            "copies, copies_since, leg, hops, kind, data) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            (
                envelope.id,
                envelope.origin,
                envelope.epoch,
                envelope.sequence,
                int(own),
                len(envelope.data),
                now,
                carrier,
                rests_since,
                copies,
                now,
                int(way.leg),
                way.hops,
                envelope.kind,
                envelope.data,
            ),
        )
        return added.rowcount > 0

    def envelope_id(self, origin: bytes, epoch: int, sequence: int) -> bytes | None:
        row = self._connection.execute(
            "SELECT id FROM envelope WHERE origin = ? AND epoch = ? AND sequence = ? ORDER BY number LIMIT 1",
            (origin, epoch, sequence),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def standing_of(self, envelope_id: bytes) -> EnvelopeStanding:
        row = self._connection.execute(
            "SELECT status IS NOT NULL OR rests_since IS NOT NULL FROM envelope WHERE id = ?", (envelope_id,)
        ).fetchone()
        if row is None:
            return EnvelopeStanding.UNKNOWN
        return EnvelopeStanding.LISTED if row[0] else EnvelopeStanding.OPEN

    def foreign_origins(self) -> frozenset[bytes]:
        rows = self._connection.execute("SELECT origin FROM carried")
        return frozenset(bytes(origin) for (origin,) in rows)

    def carries(self, origin: bytes) -> bool:
        row = self._connection.execute("SELECT 1 FROM carried WHERE origin = ?", (origin,)).fetchone()
        return row is not None

    def foreign_bytes(self, origin: bytes | None = None) -> int:
        of_one, values = ("", ()) if origin is None else (" WHERE origin = ?", (origin,))
        row = self._connection.execute(f"SELECT sum(bytes) FROM carried{of_one}", values).fetchone()
        return int(row[0] or 0)

    # What the center has.

    def mark(self, place: SequenceRange, status: SpanStatus, committed_at: int) -> int:
        changed = self._connection.execute(
            f"UPDATE envelope SET status = ?, committed_at = ? WHERE {_PLACE} "
            "AND (status IS NOT ? OR committed_at IS NOT ?)",
            (int(status), committed_at, *_place(place), int(status), committed_at),
        )
        if changed.rowcount:
            self._connection.execute(
                f"DELETE FROM dispatch WHERE envelope IN (SELECT number FROM envelope WHERE {_PLACE})", _place(place)
            )
        return changed.rowcount

    def unmark(self, place: SequenceRange) -> int:
        changed = self._connection.execute(
            f"UPDATE envelope SET status = NULL, committed_at = NULL WHERE {_PLACE} "
            "AND status IS NOT NULL AND data IS NOT NULL",
            _place(place),
        )
        return self._reopened(changed.rowcount)

    def purged_count(self, place: SequenceRange) -> int:
        row = self._connection.execute(
            f"SELECT count(*) FROM envelope WHERE {_PLACE} AND data IS NULL", _place(place)
        ).fetchone()
        return int(row[0])

    def purge_own(self, origin: bytes, *, watermark: int, now: int) -> int:
        purged = self._connection.execute(
            "UPDATE envelope SET data = NULL, purged_at = ? WHERE origin = ? AND own = 1 "
            "AND status = ? AND committed_at <= ? AND data IS NOT NULL",
            (now, origin, int(SpanStatus.COMMITTED), watermark),
        )
        return purged.rowcount

    def carried(self, place: SequenceRange) -> Iterator[CarriedEnvelope]:
        rows = self._connection.execute(
            "SELECT number, id, sequence, data FROM envelope INDEXED BY envelope_place "
            f"WHERE {_PLACE} AND own = 0 AND data IS NOT NULL ORDER BY sequence DESC",
            _place(place),
        )
        for number, envelope_id, sequence, data in rows:
            yield CarriedEnvelope(number, bytes(envelope_id), sequence, bytes(data))

    def drop_foreign(self, numbers: Iterable[int]) -> int:
        dropped = self._connection.executemany(
            "DELETE FROM envelope WHERE number = ? AND own = 0", [(number,) for number in numbers]
        )
        # The next envelope may get a number that was seen already.
        return self._reopened(max(0, dropped.rowcount))

    def rest(self, numbers: Iterable[int], now: int) -> None:
        resting = [(number,) for number in numbers]
        self._connection.executemany(
            "UPDATE envelope SET rests_since = ? WHERE number = ? AND own = 0", [(now, *row) for row in resting]
        )
        # When it is over, whoever is there is offered them anew.
        self._connection.executemany("DELETE FROM dispatch WHERE envelope = ?", resting)

    def resting(self, origin: bytes) -> frozenset[int]:
        rows = self._connection.execute(
            "SELECT number FROM envelope WHERE origin = ? AND own = 0 AND data IS NOT NULL AND rests_since IS NOT NULL",
            (origin,),
        )
        return frozenset(number for (number,) in rows)

    def end_rest(self, numbers: Iterable[int]) -> None:
        ended = self._connection.executemany(
            "UPDATE envelope SET rests_since = NULL WHERE number = ?", [(number,) for number in numbers]
        )
        self._reopened(ended.rowcount)

    def end_rests(self, now: int, *, longest: int) -> None:
        first, last = self._connection.execute(
            "SELECT (SELECT rests_since FROM envelope WHERE rests_since IS NOT NULL ORDER BY rests_since LIMIT 1), "
            "(SELECT rests_since FROM envelope WHERE rests_since IS NOT NULL ORDER BY rests_since DESC LIMIT 1)"
        ).fetchone()
        # Asked at every step, and nearly always for nothing.
        if first is not None and (first <= now - longest or last > now):
            ended = self._connection.execute(
                "UPDATE envelope SET rests_since = NULL WHERE rests_since <= ? OR rests_since > ?", (now - longest, now)
            )
            self._reopened(ended.rowcount)

    # Statements and heads.

    def statement(self, kind: int, subject: bytes) -> bytes | None:
        row = self._connection.execute(
            "SELECT data FROM statement WHERE kind = ? AND subject = ?", (kind, subject)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def statements(self, kind: int) -> Sequence[bytes]:
        rows = self._connection.execute("SELECT data FROM statement WHERE kind = ? ORDER BY subject", (kind,))
        return [bytes(data) for (data,) in rows]

    def put_statement(self, statement: Statement) -> bool:
        put = self._connection.execute(
            "INSERT INTO statement VALUES (?, ?, ?, ?) ON CONFLICT (kind, subject) DO UPDATE "
            "SET serial = excluded.serial, data = excluded.data WHERE excluded.serial > statement.serial",
            (statement.kind, statement.subject, statement.serial, statement.data),
        )
        return put.rowcount > 0

    def put_head(self, head: Head) -> bool:
        put = self._connection.execute(
            "INSERT INTO head (origin, epoch, sequence, receipt_serial, data, answered) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (origin, epoch) DO UPDATE SET sequence = excluded.sequence, "
            "receipt_serial = excluded.receipt_serial, data = excluded.data, answered = excluded.answered "
            "WHERE (excluded.sequence, excluded.receipt_serial) > (head.sequence, head.receipt_serial)",
            (head.origin, head.epoch, head.sequence, head.receipt_serial, head.data, int(head.sequence == 0)),
        )
        return put.rowcount > 0

    def heads(self) -> Sequence[bytes]:
        return [bytes(data) for (data,) in self._connection.execute("SELECT data FROM head ORDER BY origin, epoch")]

    def head(self, origin: bytes, epoch: int) -> bytes | None:
        row = self._connection.execute(
            "SELECT data FROM head WHERE origin = ? AND epoch = ?", (origin, epoch)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def known(self) -> Sequence[Item]:
        rows = self._connection.execute(
            "SELECT subject, kind, 0, serial, 0 FROM statement WHERE kind <> ? "
            "UNION ALL SELECT origin, ?, epoch, sequence, receipt_serial FROM head",
            (COUNTED_LIST, HEAD_KIND),
        )
        return [Item(bytes(subject), kind, epoch, (first, second)) for subject, kind, epoch, first, second in rows]

    # Counted lists.

    def note_neighbour(self, device: bytes) -> None:
        self._connection.execute("INSERT INTO way_back VALUES (?, ?) ON CONFLICT DO NOTHING", (device, device))

    def has_way_back(self, origin: bytes) -> bool:
        row = self._connection.execute("SELECT 1 FROM way_back WHERE origin = ? LIMIT 1", (origin,)).fetchone()
        return row is not None

    def ways_back(self) -> frozenset[bytes]:
        rows = self._connection.execute("SELECT DISTINCT origin FROM way_back")
        return frozenset(bytes(origin) for (origin,) in rows)

    def lists_for(self, neighbour: bytes, device: bytes) -> Sequence[bytes]:
        rows = self._connection.execute(
            "SELECT data FROM statement WHERE kind = :kind AND subject <> :device "
            "AND (subject = :neighbour OR (subject, :neighbour) IN (SELECT origin, through FROM way_back)) "
            "AND serial > coalesce((SELECT serial FROM list_given AS given "
            "WHERE given.subject = statement.subject AND given.neighbour = :neighbour), 0) ORDER BY subject",
            {"kind": COUNTED_LIST, "device": device, "neighbour": neighbour},
        )
        return [bytes(data) for (data,) in rows]

    def note_list_given(self, neighbour: bytes, subject: bytes, serial: int) -> None:
        self._connection.execute("INSERT OR REPLACE INTO list_given VALUES (?, ?, ?)", (subject, neighbour, serial))

    def drop_lists_until(self, signed_time: int) -> int:
        kept = map(parse_statement, self.statements(COUNTED_LIST))
        return self._drop_lists([one.subject for one in kept if read_sealed_list(one).keep_until <= signed_time])

    def drop_lists_beyond(self, device: bytes, *, bytes_max: int) -> int:
        rows = self._connection.execute(
            "SELECT subject, sum(length(data)) OVER (ORDER BY serial DESC, subject) AS together FROM statement "
            "WHERE kind = ? AND subject <> ?",
            (COUNTED_LIST, device),
        )
        return self._drop_lists([subject for subject, together in rows if together > bytes_max])

    def _drop_lists(self, subjects: Sequence[bytes]) -> int:
        for subject in subjects:
            self._connection.execute("DELETE FROM statement WHERE kind = ? AND subject = ?", (COUNTED_LIST, subject))
            self._connection.execute("DELETE FROM list_given WHERE subject = ?", (subject,))
        return len(subjects)

    def answer_heads(self, origin: bytes, epoch: int, sequence: int) -> None:
        self._connection.execute(
            "UPDATE head SET answered = 1 WHERE origin = ? AND epoch = ? AND sequence <= ?", (origin, epoch, sequence)
        )

    def asking_origins(self) -> frozenset[bytes]:
        rows = self._connection.execute("SELECT DISTINCT origin FROM head WHERE answered = 0")
        return frozenset(bytes(origin) for (origin,) in rows)

    # Sending.

    def due(self, destination: bytes, now: int, *, bytes_max: int) -> Sequence[StoredEnvelope]:
        rows = self._connection.execute(
            f"SELECT {_STORED}, coalesce(dispatch.attempts, 0) "
            f"{_OPEN_WITH_DISPATCH} AND {_DUE} AND {_FOR_DESTINATION} "
            f"ORDER BY envelope.own DESC, envelope.number LIMIT {_DUE_ROWS_MAX}",
            {"destination": destination, "now": now, "center": CENTER},
        )
        return _within(rows, bytes_max)

    def offerable(
        self, destination: bytes, now: int, *, spray: bool, count_max: int, after: int = 0
    ) -> Sequence[OfferableEnvelope]:
        to_spray = "AND envelope.copies > 0" if spray else ""
        # Said only when it is so: otherwise the index of open envelopes serves, which is in this order.
        newer = "AND envelope.number > :after" if after else ""
        rows = self._connection.execute(
            "SELECT envelope.number, envelope.id, envelope.bytes, envelope.copies "
            f"{_OPEN_WITH_DISPATCH} AND {_DUE} AND {_FOR_DESTINATION} {to_spray} {newer} "
            "ORDER BY envelope.own DESC, envelope.number LIMIT :count_max",
            {"destination": destination, "now": now, "center": CENTER, "count_max": count_max, "after": after},
        )
        return [OfferableEnvelope(number, bytes(one), size, copies) for number, one, size, copies in rows]

    def openings(self) -> Openings:
        row = self._connection.execute("SELECT max(number) FROM envelope").fetchone()
        return Openings(int(row[0] or 0), self.number(_REOPENED) or 0)

    def _reopened(self, count: int) -> int:
        """Note that so many envelopes may be due again; return the number."""
        if count > 0:
            self._connection.execute(
                "INSERT OR REPLACE INTO remembered "
                "SELECT :name, coalesce(max(value), 0) + 1 FROM remembered WHERE name = :name",
                {"name": _REOPENED},
            )
        return count

    def stored(self, numbers: Sequence[int], *, bytes_max: int) -> Sequence[StoredEnvelope]:
        def found() -> Iterator[Row]:
            for number in numbers:
                yield from self._connection.execute(
                    f"SELECT {_STORED}, 0 FROM envelope WHERE number = ? AND {_OPEN}", (number,)
                )

        return _within(found(), bytes_max)

    def give_copies(self, given: Mapping[int, int]) -> None:
        self._connection.executemany(
            "UPDATE envelope SET copies = max(0, copies - ?) WHERE number = ?",
            [(copies, number) for number, copies in given.items()],
        )

    def renew_copies(self, copies: int, now: int, *, after: int) -> int:
        renewed = self._connection.execute(
            f"UPDATE envelope SET copies = :copies, copies_since = :now WHERE {_OPEN} AND own = 1 "
            "AND copies < :copies AND (copies_since <= :now - :after OR copies_since > :now)",
            {"copies": copies, "now": now, "after": after},
        )
        return self._reopened(renewed.rowcount)

    def next_due_at(self, destination: bytes, *, after: int = 0) -> int | None:
        row = self._connection.execute(
            "SELECT min(next_at) FROM dispatch WHERE destination = ? AND next_at > ?", (destination, after)
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def note_sent(self, destination: bytes, numbers: Iterable[int], *, now: int, next_at: int) -> None:
        self._connection.executemany(
            "INSERT INTO dispatch (envelope, destination, attempts, sent_at, next_at) VALUES (?, ?, 1, ?, ?) "
            "ON CONFLICT (envelope, destination) DO UPDATE SET attempts = attempts + 1, sent_at = excluded.sent_at, "
            "next_at = excluded.next_at, answered_at = NULL",
            [(number, destination, now, next_at) for number in numbers],
        )

    def note_offered(self, destination: bytes, numbers: Iterable[int], *, now: int, next_at: int) -> None:
        self._connection.executemany(
            "INSERT INTO dispatch (envelope, destination, attempts, sent_at, next_at) VALUES (?, ?, 0, ?, ?) "
            "ON CONFLICT (envelope, destination) DO UPDATE SET sent_at = excluded.sent_at, "
            "next_at = excluded.next_at, answered_at = NULL",
            [(number, destination, now, next_at) for number in numbers],
        )

    def note_found(self, destination: bytes, ids: Iterable[bytes], *, now: int, next_at: int) -> None:
        self._connection.executemany(
            "INSERT INTO dispatch (envelope, destination, attempts, sent_at, next_at, answered_at, kept_at) "
            f"SELECT number, ?, 1, ?, ?, ?, ? FROM envelope WHERE id = ? AND {_OPEN}",
            [(destination, now, next_at, now, now, envelope_id) for envelope_id in ids],
        )

    def note_answered(
        self, destination: bytes, numbers: Iterable[int], *, now: int, next_at: int, kept: bool = False
    ) -> None:
        kept_at = now if kept else None
        self._connection.executemany(
            "UPDATE dispatch SET answered_at = ?, next_at = ?, kept_at = coalesce(?, kept_at) "
            "WHERE envelope = ? AND destination = ?",
            [(now, next_at, kept_at, number, destination) for number in numbers],
        )

    def forget_attempts(self, now: int, destination: bytes | None = None) -> None:
        forgotten = self._connection.execute(
            "UPDATE dispatch SET answered_at = :now, next_at = :now WHERE answered_at IS NULL "
            "AND (:destination IS NULL OR destination = :destination)",
            {"now": now, "destination": destination},
        )
        self._reopened(forgotten.rowcount)

    def forget_dispatches(self, destination: bytes) -> int:
        forgotten = self._connection.execute(
            f"DELETE FROM dispatch WHERE destination = ? AND envelope IN (SELECT number FROM envelope WHERE {_OPEN})",
            (destination,),
        )
        return self._reopened(forgotten.rowcount)

    # What the device remembers of its own affairs.

    def number(self, name: str) -> int | None:
        row = self._connection.execute("SELECT value FROM remembered WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def put_number(self, name: str, value: int) -> None:
        self._connection.execute("INSERT OR REPLACE INTO remembered VALUES (?, ?)", (name, value))

    def left_on(self, medium: bytes) -> bytes | None:
        row = self._connection.execute("SELECT left_there FROM medium WHERE name = ?", (medium,)).fetchone()
        return None if row is None else bytes(row[0])

    def note_left_on(self, medium: bytes, digest: bytes | None) -> None:
        self._connection.execute("DELETE FROM medium WHERE name = ?", (medium,))
        if digest is not None:
            self._connection.execute("INSERT INTO medium VALUES (?, ?)", (medium, digest))

    def oldest_open_at(self) -> int | None:
        row = self._connection.execute(
            f"SELECT received_at FROM envelope WHERE {_OPEN} AND own = 1 ORDER BY own DESC, number LIMIT 1"
        ).fetchone()
        return None if row is None else int(row[0])


def _within(rows: Iterator[Row], bytes_max: int) -> list[StoredEnvelope]:
    """Return the first one, and those after it that fit; what does not fit is never read."""
    chosen: list[StoredEnvelope] = []
    for number, envelope_id, origin, leg, hops, data, attempts in rows:
        bytes_max -= frame_bytes(len(data))
        if chosen and bytes_max < 0:
            break
        way = Way(Leg(leg), hops) if hops else NO_WAY
        chosen.append(StoredEnvelope(number, bytes(envelope_id), bytes(origin), attempts, bytes(data), way))
    return chosen


def _place(place: SequenceRange) -> tuple[bytes, int, int, int]:
    return place.origin, place.epoch, place.first, place.last
