"""What operators and publishers read: one SQL text for both databases, with %s for parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, LiteralString

from central_broker.storage.batch_records import EnvelopeStatus, HeldReason, Route
from central_broker.storage.inquiry_records import (
    Completeness,
    DeviceRecord,
    Fork,
    HeldRecord,
    MediumRecord,
    RouteCount,
    Totals,
)
from central_broker.storage.media import MEDIA_SQL, medium_record
from central_broker.storage.receipt_records import ChainRow
from sync_protocol.identity import Role, Standing

MISSING_RUNS_MAX: Final = 100
_DEVICES: Final = (
    "SELECT device, name, role, standing, public_key, issued_at, serial, certificate, enrolled_at,"
    " last_seen_at, last_route, last_carrier, last_hops FROM device WHERE device = %s OR %s = 0 ORDER BY name, device"
)
_HELD_COLUMNS: Final = (
    "h.id, h.reason, h.detail, h.origin, h.epoch, h.sequence, h.envelope_id, h.carrier, h.route, h.received_at, "
    "coalesce(length(q.body), length(h.data)), h.whole, h.hops"
)
_HELD_FROM: Final = (
    "FROM held h LEFT JOIN questionnaire q ON h.whole = 1 AND q.origin = h.origin AND q.id = h.envelope_id"
)


class Inquiries:
    """Reading methods of `contract.Storage`; each is one statement unless it says otherwise."""

    def read(self, sql: LiteralString, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one reading statement and return its rows; raises StorageUnavailable."""
        raise NotImplementedError

    def _number(self, sql: LiteralString) -> int:
        return int(self.read(sql)[0][0])

    def directory_version(self) -> int:
        return self._number("SELECT at FROM directory_version")

    def clock(self) -> int:
        return self._number("SELECT at FROM commit_clock")

    def watermark(self) -> int:
        return self._number("SELECT at FROM watermark")

    def devices(self) -> list[DeviceRecord]:
        return [_device(row) for row in self.read(_DEVICES, (b"", 0))]

    def device(self, device: bytes) -> DeviceRecord | None:
        rows = self.read(_DEVICES, (device, 1))
        return _device(rows[0]) if rows else None

    def media(self) -> list[MediumRecord]:
        return [medium_record(row) for row in self.read(MEDIA_SQL, (b"", 0))]

    def medium(self, medium: bytes) -> MediumRecord | None:
        rows = self.read(MEDIA_SQL, (medium, 1))
        return medium_record(rows[0]) if rows else None

    def receipt(self, origin: bytes) -> bytes | None:
        rows = self.read("SELECT data FROM receipt WHERE origin = %s", (origin,))
        return bytes(rows[0][0]) if rows and rows[0][0] is not None else None

    def forks(self) -> list[Fork]:
        rows = self.read(
            "SELECT e.origin, e.epoch, e.sequence, e.id FROM envelope e JOIN ("
            " SELECT origin, epoch, sequence FROM envelope WHERE status <> 'disproved'"
            " GROUP BY origin, epoch, sequence HAVING count(*) > 1) f"
            " ON e.origin = f.origin AND e.epoch = f.epoch AND e.sequence = f.sequence"
            " WHERE e.status <> 'disproved' ORDER BY 1, 2, 3, 4"
        )
        places: dict[tuple[bytes, int, int], list[bytes]] = {}
        for origin, epoch, sequence, envelope_id in rows:
            places.setdefault((bytes(origin), epoch, sequence), []).append(bytes(envelope_id))
        return [Fork(*place, tuple(ids)) for place, ids in places.items()]

    def held(
        self, *, reason: HeldReason | None = None, origin: bytes | None = None, limit: int = 1000
    ) -> list[HeldRecord]:
        # One text for every filter: a filter that is not asked for compares an empty value with itself.
        rows = self.read(
            f"SELECT {_HELD_COLUMNS} {_HELD_FROM} WHERE (h.reason = %s OR %s = '') AND (h.origin = %s OR %s = 0)"
            " ORDER BY h.received_at, h.id LIMIT %s",
            (
                "" if reason is None else reason.value,
                "" if reason is None else reason.value,
                b"" if origin is None else origin,
                0 if origin is None else 1,
                limit,
            ),
        )
        return [_held(row) for row in rows]

    def held_counts(self) -> dict[HeldReason, int]:
        return {
            HeldReason(row[0]): row[1]
            for row in self.read("SELECT reason, count(*) FROM held GROUP BY reason ORDER BY reason")
        }

    def held_item(self, held_id: bytes) -> tuple[HeldRecord, bytes] | None:
        rows = self.read(f"SELECT {_HELD_COLUMNS}, coalesce(q.body, h.data) {_HELD_FROM} WHERE h.id = %s", (held_id,))
        return (_held(rows[0]), bytes(rows[0][13])) if rows else None

    def completeness(self, origin: bytes | None = None) -> list[Completeness]:
        """Return one record an epoch; three statements: a batch between them shows in some of the numbers."""
        chosen = (b"" if origin is None else origin, 0 if origin is None else 1)
        heads = {
            (bytes(row[0]), row[1]): row[2]
            for row in self.read(
                "SELECT origin, epoch, sequence FROM head WHERE origin = %s OR %s = 0 ORDER BY 1, 2", chosen
            )
        }
        counts = {
            (bytes(row[0]), row[1]): row[2:]
            for row in self.read(
                "SELECT e.origin, e.epoch, max(e.sequence), count(DISTINCT e.sequence),"
                " sum(CASE WHEN e.status = 'committed' THEN 1 ELSE 0 END),"
                " sum(CASE WHEN e.status = 'held' THEN 1 ELSE 0 END),"
                " max(CASE WHEN e.status = 'committed' THEN b.committed_at END)"
                " FROM envelope e JOIN batch b ON b.id = e.batch"
                " WHERE e.status <> 'disproved' AND (e.origin = %s OR %s = 0) GROUP BY e.origin, e.epoch",
                chosen,
            )
        }
        gaps: dict[tuple[bytes, int], list[tuple[int, int]]] = {}
        for row in self.read(
            "SELECT origin, epoch, before + 1, sequence - 1 FROM ("
            " SELECT origin, epoch, sequence, lag(sequence, 1, 0) OVER (PARTITION BY origin, epoch ORDER BY sequence)"
            " AS before FROM envelope WHERE status <> 'disproved' AND (origin = %s OR %s = 0)) s"
            " WHERE sequence > before + 1 ORDER BY 1, 2, 3",
            chosen,
        ):
            gaps.setdefault((bytes(row[0]), row[1]), []).append((row[2], row[3]))
        return [
            _completeness(key, heads.get(key, 0), counts.get(key, (0, 0, 0, 0, None)), gaps.get(key, []))
            for key in sorted(heads.keys() | counts.keys())
        ]

    def totals(self) -> Totals:
        row = self.read(
            "SELECT (SELECT count(*) FROM envelope WHERE status = 'committed'),"
            " (SELECT count(*) FROM envelope WHERE status = 'held'), (SELECT count(*) FROM held),"
            " (SELECT count(*) FROM questionnaire),"
            " (SELECT count(*) FROM questionnaire WHERE content IS NULL),"
            " (SELECT count(*) FROM part), (SELECT count(*) FROM outbox)"
        )[0]
        return Totals(*row)

    def routes(self, origin: bytes | None = None) -> list[RouteCount]:
        rows = self.read(
            "SELECT route, count(*), count(hops), sum(hops) FROM envelope"
            " WHERE status <> 'disproved' AND (origin = %s OR %s = 0) GROUP BY route",
            (b"" if origin is None else origin, 0 if origin is None else 1),
        )
        counts = {Route(route): (envelopes, said, hops) for route, envelopes, said, hops in rows}
        return [_route_count(route, *counts[route]) for route in Route if route in counts]


CHAIN_SQL: Final = (
    "SELECT e.epoch, e.sequence, e.id, e.previous_id, e.status, b.committed_at, (SELECT at FROM commit_clock)"
    " FROM envelope e JOIN batch b ON b.id = e.batch"
    " WHERE e.origin = %s AND e.status <> 'disproved' ORDER BY e.epoch, e.sequence, e.id"
)
CHANGES_SQL: Final = (
    "SELECT e.epoch, e.sequence, e.id, e.previous_id, e.status, b.committed_at, e.origin"
    " FROM batch b JOIN envelope e ON e.batch = b.id"
    " WHERE b.committed_at > %s AND b.committed_at <= %s ORDER BY b.committed_at, e.origin, e.epoch, e.sequence"
    " LIMIT %s"
)
_STATUSES: Final = {status.value: status for status in EnvelopeStatus}


def chain_row(row: tuple[Any, ...]) -> ChainRow:
    """Read one row of CHAIN_SQL or CHANGES_SQL."""
    return ChainRow(row[0], row[1], row[2], row[3], _STATUSES[row[4]], row[5])


def _completeness(
    key: tuple[bytes, int], head: int, counts: Sequence[Any], gaps: list[tuple[int, int]]
) -> Completeness:
    highest, places, committed, held, last_committed_at = counts
    if head > highest:
        gaps = [*gaps, (highest + 1, head)]
    return Completeness(
        origin=key[0],
        epoch=key[1],
        sealed=max(head, highest),
        highest=highest,
        committed=int(committed),
        held=int(held),
        missing_count=sum(last - first + 1 for first, last in gaps),
        missing=tuple(gaps[:MISSING_RUNS_MAX]),
        forks=int(committed) + int(held) - places,
        last_committed_at=last_committed_at,
    )


def _hops(route: Route | None, stored: int | None) -> int | None:
    """Return hops as they are meant: rows from before hops were kept have none, and those of no hops had no need."""
    return 0 if route is not None and route.is_direct else stored


def _route_count(route: Route, envelopes: int, said: int, hops: int | None) -> RouteCount:
    if route.is_direct:
        return RouteCount(route, envelopes, 0.0)
    return RouteCount(route, envelopes, None if hops is None else int(hops) / said)


def _device(row: Sequence[Any]) -> DeviceRecord:
    device, name, role, standing, public_key, issued_at, serial, certificate, enrolled_at, *seen = row
    seen_at, last_route, carrier, hops = seen
    route = None if last_route is None else Route(last_route)
    return DeviceRecord(
        device=bytes(device),
        name=name,
        role=Role(role),
        standing=Standing(standing),
        public_key=bytes(public_key),
        issued_at=issued_at,
        serial=serial,
        certificate=bytes(certificate),
        enrolled_at=enrolled_at,
        last_seen_at=seen_at,
        last_route=route,
        last_carrier=None if carrier is None else bytes(carrier),
        last_hops=_hops(route, hops),
    )


def _held(row: Sequence[Any]) -> HeldRecord:
    return HeldRecord(
        id=bytes(row[0]),
        reason=HeldReason(row[1]),
        detail=row[2],
        origin=None if row[3] is None else bytes(row[3]),
        epoch=row[4],
        sequence=row[5],
        envelope_id=None if row[6] is None else bytes(row[6]),
        carrier=None if row[7] is None else bytes(row[7]),
        route=Route(row[8]),
        hops=_hops(Route(row[8]), row[12]),
        received_at=row[9],
        data_bytes=row[10],
        whole=bool(row[11]),
    )
