"""Taking over others' envelopes, and being relieved of them by receipts (docs/decisions/0016).

A receipt vouches for ids: for the last of each span, and through the chain for what lies before it as far as this
device can follow the links. What it vouches for is with the center; but only behind the backup watermark does the
center keep it whatever happens. So there are three kinds of carried envelopes:

| the newest receipt | custody |
|---|---|
| vouches for the id, behind the watermark | ends; the envelope is not taken again |
| vouches for the id, not behind the watermark yet | rests: the envelope is kept, and sent to nobody for the custody
wait. Then it is offered again, so that a center that was put back to an older state hears of it |
| covers the place, but nothing kept here leads to the id | goes on. The center's next receipt after this envelope
comes to it ends a span there |
| does not list the place, or has another id there | goes on; a rest is over |
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from edge_agent.engine.effects import Effect, Level, Notice
from edge_agent.engine.store import EnvelopeStanding, SequenceRange, StoreTransaction
from sync_protocol import statement
from sync_protocol.envelope import Envelope, parse_envelope
from sync_protocol.receipt import Receipt, Span, SpanStatus, read_receipt
from sync_protocol.statement import parse_statement
from sync_protocol.way import NO_WAY


class Custody:
    """What one bundle hands over; lives no longer than the step that reads it."""

    def __init__(self, transaction: StoreTransaction, *, carrier: bytes, bytes_max: int, now: int) -> None:
        self._transaction = transaction
        self._carrier = carrier
        self._bytes_max = bytes_max
        self._now = now
        self._receipts: dict[bytes, Receipt | None] = {}
        self._bytes: int | None = None
        self._bytes_of: dict[bytes, int] = {}
        self._taken_of: dict[bytes, int] = {}
        self._declined_of: dict[bytes, int] = {}
        self.declined: list[bytes] = []
        """Ids of the envelopes that there was no room for."""
        self.way = NO_WAY
        """How those that are taken next have come here."""
        self.copies_of: Callable[[bytes], int] = lambda _: 0
        """How many copies are to be made of an envelope (id) that this carrier brings."""

    def forget(self, origin: bytes) -> None:
        """Read anew what a receipt of this origin may have changed."""
        self._receipts.pop(origin, None)
        self._bytes = None
        self._bytes_of.clear()

    def take(self, envelope: Envelope) -> list[Effect]:
        """Take over a verified envelope of another, unless the center will have it for good or there is no room."""
        receipt, span = self._vouching(envelope)
        if receipt is None or span is None:
            self._keep(envelope, rests_since=None)
            return []
        if not _Backed(receipt.watermark, span).holds(envelope.sequence):
            # What is here already goes on as it is: neighbours must not put it to rest each time they offer it.
            self._keep(envelope, rests_since=self._now)
            return []
        # Its predecessors may have come before it, when nothing led to them yet.
        judged = _Judged()
        judged.follow(receipt, span, (envelope.sequence - 1, envelope.previous_id), self._transaction)
        self._bytes = None
        self._bytes_of.clear()
        return _end(envelope.origin, judged.backed, self._transaction)

    def notices(self) -> list[Effect]:
        """Tell what was taken over of whom, and what there was no room for."""
        taken = (("custody_taken", Level.INFO, one) for one in self._taken_of.items())
        declined = (("custody_declined", Level.WARNING, one) for one in self._declined_of.items())
        return [
            Notice(event, {"origin": origin, "envelopes": envelopes, "carrier": self._carrier}, level)
            for event, level, (origin, envelopes) in (*taken, *declined)
        ]

    def _keep(self, envelope: Envelope, *, rests_since: int | None) -> None:
        copies = self.copies_of(envelope.id)
        if not self._has_room(envelope):
            if self._transaction.standing_of(envelope.id) is not EnvelopeStanding.UNKNOWN:
                return
            self.declined.append(envelope.id)
            self._declined_of[envelope.origin] = self._declined_of.get(envelope.origin, 0) + 1
            return
        if self._transaction.add_envelope(
            envelope,
            own=False,
            carrier=self._carrier,
            now=self._now,
            rests_since=rests_since,
            copies=copies,
            way=self.way,
        ):
            self._count(envelope)

    def _has_room(self, envelope: Envelope) -> bool:
        """Tell whether there is room, and its origin has not more than what is left for all others (decision 23)."""
        if self._bytes is None:
            self._bytes = self._transaction.foreign_bytes()
        if envelope.origin not in self._bytes_of:
            self._bytes_of[envelope.origin] = self._transaction.foreign_bytes(envelope.origin)
        free = self._bytes_max - self._bytes - len(envelope.data)
        return free >= self._bytes_of[envelope.origin]

    def _count(self, envelope: Envelope) -> None:
        self._bytes = (self._bytes or 0) + len(envelope.data)
        self._bytes_of[envelope.origin] += len(envelope.data)
        self._taken_of[envelope.origin] = self._taken_of.get(envelope.origin, 0) + 1

    def _vouching(self, envelope: Envelope) -> tuple[Receipt | None, Span | None]:
        if envelope.origin not in self._receipts:
            self._receipts[envelope.origin] = kept_receipt(envelope.origin, self._transaction)
        receipt = self._receipts[envelope.origin]
        return receipt, None if receipt is None else span_ending_in(receipt, ChainPlace.of(envelope))


@dataclass(frozen=True)
class ChainPlace:
    """Where an envelope belongs, by its own word, without its bytes."""

    origin: bytes
    epoch: int
    sequence: int
    id: bytes
    previous_id: bytes

    @staticmethod
    def of(envelope: Envelope) -> ChainPlace:
        return ChainPlace(envelope.origin, envelope.epoch, envelope.sequence, envelope.id, envelope.previous_id)


def released(envelopes: Iterable[ChainPlace], transaction: StoreTransaction) -> frozenset[bytes]:
    """Return the ids of those envelopes that this device need not leave on a medium any more.

    What a receipt lists, this device keeps until a backup has it; what is not here any more counts only if the newest
    receipt vouches for it behind the watermark: a queue that was put back to an older state has not got it either.
    """
    found: set[bytes] = set()
    led_to: dict[bytes, Span] = {}
    receipts: dict[bytes, Receipt | None] = {}
    for envelope in sorted(envelopes, key=lambda one: (one.origin, one.epoch, one.sequence), reverse=True):
        if envelope.origin not in receipts:
            receipts[envelope.origin] = kept_receipt(envelope.origin, transaction)
        standing = transaction.standing_of(envelope.id)
        if standing is EnvelopeStanding.LISTED:
            found.add(envelope.id)
        receipt = receipts[envelope.origin]
        span = None if receipt is None else span_ending_in(receipt, envelope) or led_to.get(envelope.id)
        if receipt is None or span is None:
            continue
        if envelope.sequence > span.first:
            led_to[envelope.previous_id] = span
        if standing is EnvelopeStanding.UNKNOWN and _Backed(receipt.watermark, span).holds(envelope.sequence):
            found.add(envelope.id)
    return frozenset(found)


def span_ending_in(receipt: Receipt, envelope: ChainPlace) -> Span | None:
    """Return the span whose last id is the envelope's."""
    place = (envelope.epoch, envelope.sequence)
    for span in receipt.spans:
        if (span.epoch, span.last) == place and span.last_id == envelope.id:
            return span
    return None


def kept_receipt(origin: bytes, transaction: StoreTransaction) -> Receipt | None:
    """Return the newest receipt of an origin."""
    data = transaction.statement(statement.RECEIPT, origin)
    return None if data is None else read_receipt(parse_statement(data))


def apply_foreign(receipt: Receipt, transaction: StoreTransaction, now: int) -> list[Effect]:
    """Do what a newly put receipt of another origin means for what is carried of it, and note which heads it
    answers.
    """
    answer_heads(receipt, transaction)
    if not transaction.carries(receipt.origin):
        return []
    judged = _Judged()
    for span in receipt.spans:
        judged.follow(receipt, span, (span.last, span.last_id), transaction)
    effects = _end(receipt.origin, judged.backed, transaction)
    transaction.rest(judged.listed, now)
    withdrawn = transaction.resting(receipt.origin) - judged.listed - judged.unled
    if withdrawn:
        # The center was put back to an older state: what it no longer has goes to it again.
        transaction.end_rest(withdrawn)
        fields = {"origin": receipt.origin, "envelopes": len(withdrawn)}
        effects.append(Notice("custody_resumed", fields, Level.WARNING))
    return effects


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


class _Backed:
    """Which places of a span lie behind the backup watermark."""

    def __init__(self, watermark: int, span: Span) -> None:
        marks = list(span.times())
        self._firsts = [first for first, _, _ in marks]
        self._backed = [committed_at <= watermark for _, _, committed_at in marks]

    def holds(self, sequence: int) -> bool:
        return self._backed[bisect_right(self._firsts, sequence) - 1]


@dataclass
class _Judged:
    """Numbers of carried envelopes; what a receipt contradicts, or does not list, is in none of these."""

    backed: set[int] = field(default_factory=set)
    """Vouched for, and behind the watermark."""
    listed: set[int] = field(default_factory=set)
    """Vouched for only."""
    unled: set[int] = field(default_factory=set)
    """Covered, but nothing kept here tells whether the receipt means these."""

    def follow(self, receipt: Receipt, span: Span, certain: tuple[int, bytes], transaction: StoreTransaction) -> None:
        """Judge what is carried in a span up to the place where its id is `certain` (sequence and id)."""
        backed = _Backed(receipt.watermark, span)
        sequence, envelope_id = certain
        for carried in transaction.carried(SequenceRange(receipt.origin, span.epoch, span.first, sequence)):
            if carried.id == envelope_id:
                (self.backed if backed.holds(carried.sequence) else self.listed).add(carried.number)
                sequence, envelope_id = sequence - 1, parse_envelope(carried.data).previous_id
            elif carried.sequence < sequence:
                self.unled.add(carried.number)


def _end(origin: bytes, numbers: Iterable[int], transaction: StoreTransaction) -> list[Effect]:
    dropped = transaction.drop_foreign(numbers)
    return [Notice("custody_ended", {"origin": origin, "envelopes": dropped})] if dropped else []
