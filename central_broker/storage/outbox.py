"""Small writing methods of `contract.Storage` that are one SQL text for both databases: outbox, watermark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from central_broker.storage.batch_records import CertifiedDevice, CertifiedMedium, WholeDecoder
from central_broker.storage.contract import StorageRefused
from central_broker.storage.issuing import Issue
from central_broker.storage.media import upsert_media
from central_broker.storage.receipt_records import ReceiptIssue, Want
from central_broker.storage.recording import Statements
from central_broker.storage.rereading import reread_wholes


class Outbox:
    """Writing methods of `contract.Storage` besides `commit`; each is one transaction."""

    def writing(self) -> AbstractContextManager[Statements]:
        """Open a transaction that commits when the context ends well; raises StorageUnavailable, RowRefused."""
        raise NotImplementedError

    def store_devices(self, devices: Sequence[CertifiedDevice], now: int) -> int:
        with self.writing() as statements:
            return statements.upsert_devices(devices, now)

    def store_media(self, media: Sequence[CertifiedMedium], now: int) -> int:
        with self.writing() as statements:
            return upsert_media(statements, media, now)

    def take_wants(self, limit: int, now: int, lease_microseconds: int) -> list[Want]:
        until = now + lease_microseconds
        with self.writing() as statements:
            rows = statements.execute(
                # A lease that ends later than any given now was given by a clock that has been set back since.
                "WITH due AS MATERIALIZED (SELECT origin FROM outbox WHERE leased_until <= %s OR leased_until > %s"
                " ORDER BY asked_at, origin LIMIT %s FOR UPDATE SKIP LOCKED)"
                " UPDATE outbox SET leased_until = %s WHERE origin IN (SELECT origin FROM due)"
                " RETURNING origin, wanted, fresh",
                (now, until, limit, until),
            )
        return [Want(bytes(origin), wanted, bool(fresh)) for origin, wanted, fresh in rows]

    def finish_wants(self, wants: Sequence[Want]) -> None:
        with self.writing() as statements:
            for want in sorted(wants, key=lambda want: want.origin):
                if not statements.execute(
                    "DELETE FROM outbox WHERE origin = %s AND wanted = %s RETURNING origin", (want.origin, want.wanted)
                ):
                    statements.execute("UPDATE outbox SET leased_until = 0 WHERE origin = %s", (want.origin,))

    def want_receipts(self, origins: Sequence[bytes], now: int) -> None:
        with self.writing() as statements:
            statements.want(dict.fromkeys(origins, True), now)

    def issue_receipts(self, origins: Sequence[bytes], now: int) -> AbstractContextManager[ReceiptIssue]:
        return self._issue(origins, now)

    @contextmanager
    def _issue(self, origins: Sequence[bytes], now: int) -> Iterator[ReceiptIssue]:
        with self.writing() as statements:
            yield Issue(statements, origins, now)

    def record_watermark(self, reached: int, now: int) -> int:
        with self.writing() as statements:
            before: int = statements.execute("SELECT at FROM watermark FOR UPDATE")[0][0]
            clock: int = statements.execute("SELECT at FROM commit_clock")[0][0]
            if reached > clock:
                raise StorageRefused(
                    f"the backup cannot have reached {reached}: the newest commit was at {clock}; "
                    "give the commit clock as it was when the backup began"
                )
            if reached < before:
                raise StorageRefused(
                    f"the backup watermark is at {before} already and devices may have purged up to it; "
                    "it never goes back"
                )
            statements.execute("UPDATE watermark SET at = %s", (reached,))
            rows = statements.execute(
                "SELECT DISTINCT e.origin FROM batch b JOIN envelope e ON e.batch = b.id"
                " WHERE b.committed_at > %s AND b.committed_at <= %s",
                (before, reached),
            )
            statements.want({bytes(row[0]): True for row in rows}, now)
        return len(rows)

    def retry_wholes(self, held_ids: Sequence[bytes], decode_whole: WholeDecoder) -> int:
        with self.writing() as statements:
            return reread_wholes(statements, held_ids, decode_whole)
