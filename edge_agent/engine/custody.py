"""Taking over others' envelopes, and being relieved of them by receipts (docs/decisions/0016).

A receipt vouches for ids: for the last of each span, and through the chain for what lies before it as far as this
device can follow the links. So there are three kinds of carried envelopes under a span:

| the receipt's span | custody |
|---|---|
| leads to this very id | ends at once; the envelope is not taken again |
| ends in another id at this place | goes on: this is another branch of a forked chain |
| covers the place, but nothing kept here leads to the id | ends with the first receipt that comes after a far end
has taken it that stands in for this device: the center, or a device of a greater name |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from edge_agent.engine.effects import Effect, Level, Notice
from edge_agent.engine.links import Link, LinkShape
from edge_agent.engine.store import SequenceRange, StoreTransaction
from sync_protocol import statement
from sync_protocol.envelope import Envelope, parse_envelope
from sync_protocol.identity import CENTER
from sync_protocol.receipt import Receipt, Span, SpanStatus, read_receipt
from sync_protocol.statement import parse_statement


def stands_in(link: Link, device: bytes) -> bool:
    """Say whether a far end that takes an envelope over has it for longer than this device.

    If any device would do, three could rely on each other in a circle and all let go. Names make an order: the
    greatest of those who have an envelope keeps it until it has been to the center. A medium can be lost.
    """
    return link.far_end == CENTER or (link.shape is LinkShape.DUPLEX and link.far_end > device)


class Custody:
    """What one bundle hands over; lives no longer than the step that reads it."""

    def __init__(self, transaction: StoreTransaction, *, carrier: bytes, bytes_max: int, now: int) -> None:
        self._transaction = transaction
        self._carrier = carrier
        self._bytes_max = bytes_max
        self._now = now
        self._receipts: dict[bytes, Receipt | None] = {}
        self._bytes: int | None = None

    def forget(self, origin: bytes) -> None:
        """Read anew what a receipt of this origin may have changed."""
        self._receipts.pop(origin, None)
        self._bytes = None

    def take(self, envelope: Envelope) -> list[Effect]:
        """Take over a verified envelope of another, unless the center is known to have it or there is no room."""
        span = self._vouching(envelope)
        if span is not None:
            # Its predecessors may have come before it, when nothing led to them yet.
            before = (envelope.sequence - 1, envelope.previous_id)
            judged = _judge(envelope.origin, span, before, self._transaction)
            self._bytes = None
            return _end(envelope.origin, judged.vouched, self._transaction)
        if self._bytes is None:
            self._bytes = self._transaction.foreign_bytes()
        if self._bytes + len(envelope.data) > self._bytes_max:
            fields = {"origin": envelope.origin, "carrier": self._carrier}
            return [Notice("custody_declined", fields, Level.WARNING)]
        if not self._transaction.add_envelope(envelope, own=False, carrier=self._carrier, now=self._now):
            return []
        self._bytes += len(envelope.data)
        return [Notice("custody_taken", {"origin": envelope.origin, "sequence": envelope.sequence}, Level.DEBUG)]

    def _vouching(self, envelope: Envelope) -> Span | None:
        if envelope.origin not in self._receipts:
            self._receipts[envelope.origin] = kept_receipt(envelope.origin, self._transaction)
        receipt = self._receipts[envelope.origin]
        place = (envelope.epoch, envelope.sequence)
        for span in () if receipt is None else receipt.spans:
            if (span.epoch, span.last) == place and span.last_id == envelope.id:
                return span
        return None


def kept_receipt(origin: bytes, transaction: StoreTransaction) -> Receipt | None:
    """Return the newest receipt of an origin."""
    data = transaction.statement(statement.RECEIPT, origin)
    return None if data is None else read_receipt(parse_statement(data))


def apply_foreign(receipt: Receipt, transaction: StoreTransaction) -> list[Effect]:
    """End the custody that a newly put receipt of another origin ends, and note which heads it answers."""
    answer_heads(receipt, transaction)
    ended: set[int] = set()
    for span in receipt.spans:
        judged = _judge(receipt.origin, span, (span.last, span.last_id), transaction)
        ended.update(judged.vouched, judged.handed_over)
    return _end(receipt.origin, ended, transaction)


def answer_heads(receipt: Receipt, transaction: StoreTransaction) -> None:
    """Note up to where an origin can purge by this receipt: to there nothing more is asked of the center for it."""
    reached: dict[int, int] = {}
    for span in receipt.spans:
        for first, last, committed_at in span.times():
            safe = span.status is SpanStatus.COMMITTED and committed_at <= receipt.watermark
            if safe and first <= reached.get(span.epoch, 0) + 1:
                reached[span.epoch] = max(last, reached.get(span.epoch, 0))
    for epoch, sequence in reached.items():
        transaction.answer_heads(receipt.origin, epoch, sequence)


@dataclass
class _Judged:
    """Numbers of carried envelopes under a span; what is in neither list stays."""

    vouched: list[int] = field(default_factory=list)
    handed_over: list[int] = field(default_factory=list)
    """Somebody stands in for us, and nothing kept here tells whether the span means these envelopes."""


def _judge(origin: bytes, span: Span, certain: tuple[int, bytes], transaction: StoreTransaction) -> _Judged:
    """Judge what is carried in a span up to the place where its id is `certain` (sequence and id)."""
    sequence, envelope_id = certain
    judged = _Judged()
    for carried in transaction.carried(SequenceRange(origin, span.epoch, span.first, sequence)):
        if carried.id == envelope_id:
            judged.vouched.append(carried.number)
            sequence, envelope_id = sequence - 1, parse_envelope(carried.data).previous_id
        elif carried.sequence < sequence and carried.handed_over:
            judged.handed_over.append(carried.number)
    return judged


def _end(origin: bytes, numbers: Iterable[int], transaction: StoreTransaction) -> list[Effect]:
    dropped = transaction.drop_foreign(numbers)
    return [Notice("custody_ended", {"origin": origin, "envelopes": dropped})] if dropped else []
