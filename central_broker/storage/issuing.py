"""Receipts under their locks, for both databases (see `contract.ReceiptIssue`)."""

from __future__ import annotations

from collections.abc import Sequence

from central_broker.storage.batch_records import STORED_NUMBER_MAX
from central_broker.storage.inquiries import CHAIN_SQL, CHANGES_SQL, chain_row
from central_broker.storage.receipt_records import RUN_ENDS_MAX, ChainRow, ReceiptGrant, RunEnd
from central_broker.storage.recording import Statements


class Issue:
    """The receipt rows of some origins, locked until the transaction ends: a second sees what the first gave."""

    def __init__(self, statements: Statements, origins: Sequence[bytes], now: int) -> None:
        self._statements = statements
        self._grants = [self._grant(origin, now) for origin in sorted(set(origins))]
        self._watermark: int = statements.execute("SELECT at FROM watermark")[0][0]

    def _grant(self, origin: bytes, now: int) -> ReceiptGrant:
        select = "SELECT serial, data FROM receipt WHERE origin = %s FOR UPDATE"
        rows = self._statements.execute(select, (origin,))
        if not rows:
            self._statements.execute(
                "INSERT INTO receipt (origin, serial) VALUES (%s, 0) ON CONFLICT DO NOTHING", (origin,)
            )
            rows = self._statements.execute(select, (origin,))
        last, data = rows[0]
        named, newest_epoch = self._statements.execute(
            "SELECT coalesce(max(receipt_serial), 0), coalesce(max(epoch), 0) FROM head WHERE origin = %s", (origin,)
        )[0]
        serial = min(max(last + 1, now, named + 1), STORED_NUMBER_MAX)
        newest = None if data is None else bytes(data)
        run_ends = [
            RunEnd(origin, bytes(envelope_id), epoch, sequence)
            for envelope_id, epoch, sequence in self._statements.execute(
                "SELECT id, epoch, sequence FROM run_end WHERE origin = %s ORDER BY at DESC, id LIMIT %s",
                (origin, RUN_ENDS_MAX),
            )
        ]
        return ReceiptGrant(origin, serial, newest, newest is not None and last >= named, newest_epoch, run_ends)

    @property
    def watermark(self) -> int:
        return self._watermark

    @property
    def grants(self) -> Sequence[ReceiptGrant]:
        return self._grants

    def _clock(self) -> int:
        clock: int = self._statements.execute("SELECT at FROM commit_clock")[0][0]
        return clock

    def chain(self, origin: bytes) -> tuple[int, list[ChainRow]]:
        before = self._clock()
        # The clock comes with the rows, out of one snapshot: on PostgreSQL a commit may lie between two statements.
        rows = self._statements.execute(CHAIN_SQL, (origin,))
        return (rows[0][6] if rows else before), [chain_row(row) for row in rows]

    def changes(self, after: int, rows_max: int) -> tuple[int, list[tuple[bytes, ChainRow]]] | None:
        clock = self._clock()
        if clock < after:
            return None
        rows = self._statements.execute(CHANGES_SQL, (after, clock, rows_max + 1)) if clock > after else []
        return None if len(rows) > rows_max else (clock, [(row[6], chain_row(row)) for row in rows])

    def store(self, origin: bytes, serial: int, data: bytes) -> None:
        self._statements.execute("UPDATE receipt SET serial = %s, data = %s WHERE origin = %s", (serial, data, origin))
