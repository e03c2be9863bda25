"""A batch that the database refuses is halved until the one row is found; that one is held and costs no other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from hashlib import sha256

from central_broker.storage.batch_records import Batch, BatchResult, HeldItem, HeldReason, WholeDecoder
from central_broker.storage.recording import RowRefused, Statements, record

Writing = Callable[[], AbstractContextManager[Statements]]
"""Opens a transaction; raises RowRefused out of the context when the database refuses data."""


def record_or_hold(batch: Batch, writing: Writing, decode_whole: WholeDecoder, now: int) -> BatchResult:
    """Record a batch in one transaction, or in several when a row of it must be held as `database_refused`."""
    try:
        with writing() as statements:
            return record(batch, statements, decode_whole, now)
    except RowRefused as error:
        if not batch.envelopes:
            raise
        if len(batch.envelopes) == 1:
            refused = record_or_hold(_refuse_only_envelope(batch, str(error)), writing, decode_whole, now)
            return BatchResult(refused.committed_at, (refused.held[-1],), refused.held[:-1], refused.joined)
        first, second = _split(batch)
        return _merge(
            record_or_hold(first, writing, decode_whole, now), record_or_hold(second, writing, decode_whole, now)
        )


def _split(batch: Batch) -> tuple[Batch, Batch]:
    """Return two halves of a batch with more than one envelope; the first keeps what is not an envelope."""
    middle = len(batch.envelopes) // 2
    return (
        Batch(batch.envelopes[:middle], batch.held, batch.heads, batch.devices, batch.media),
        Batch(batch.envelopes[middle:]),
    )


def _refuse_only_envelope(batch: Batch, message: str) -> Batch:
    """Return the batch with its only envelope held as `database_refused`."""
    envelope = batch.envelopes[0]
    item = HeldItem(
        sha256(envelope.data).digest(),
        HeldReason.DATABASE_REFUSED,
        message,
        envelope.data,
        envelope.arrival,
        envelope.link,
        receiptable=True,
    )
    return Batch((), (*batch.held, item), batch.heads, batch.devices, batch.media)


def _merge(first: BatchResult, second: BatchResult) -> BatchResult:
    """Return the result of two halves as if they had been one batch."""
    times = [time for time in (first.committed_at, second.committed_at) if time is not None]
    return BatchResult(
        max(times, default=None),
        first.envelopes + second.envelopes,
        first.held + second.held,
        first.joined + second.joined,
    )


def content_refused(error: Exception) -> str:
    """Say why the database refused without quoting data, which messages of databases do."""
    return f"the database refused the content ({type(error).__name__})"
