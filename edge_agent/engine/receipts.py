"""What a receipt changes: sync marks, what may be purged, what must be sent again, and evidence of a rolled-back
device.

A receipt is cumulative. So it is applied as a whole: what it lists is marked, what it no longer lists loses its mark
and becomes due again (the center was restored from a backup), and only then what lies behind its watermark is purged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from edge_agent.engine.chain import begin_epoch
from edge_agent.engine.custody import apply_foreign
from edge_agent.engine.effects import Effect, Level, Notice
from edge_agent.engine.identity import DeviceIdentity
from edge_agent.engine.store import SequenceRange, StoreTransaction
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.receipt import Receipt, Span, SpanStatus

LAST_RECEIPT_AT = "last_receipt_at"
SIGNED_TIME = "signed_time"
_NUMBER_MAX = (1 << 63) - 1
"""SQLite's integers end here; no sequence and no time comes near."""
_EPOCH_LIMIT = (1 << 32) - 1
"""The next epoch must still have a number."""


def check_bounds(receipt: Receipt) -> None:
    """Raise ProtocolError (bad_field) when a number of the receipt cannot be kept."""
    times = [receipt.watermark, *(time for span in receipt.spans for _, _, time in span.times())]
    if max(times) > _NUMBER_MAX or any(span.last > _NUMBER_MAX or span.epoch >= _EPOCH_LIMIT for span in receipt.spans):
        raise ProtocolError(Fault.BAD_FIELD, "an epoch, sequence or time of the receipt is beyond every real one")


def apply_receipt(receipt: Receipt, transaction: StoreTransaction, identity: DeviceIdentity, now: int) -> list[Effect]:
    """Apply a verified receipt that is newer than the one kept before."""
    _remember_signed_time(receipt, transaction)
    if receipt.origin != identity.device:
        return apply_foreign(receipt, transaction, now)
    transaction.put_number(LAST_RECEIPT_AT, now)
    good, effects = _judge_spans(receipt, transaction, now)
    effects.extend(_mark(receipt.origin, good, transaction))
    effects.extend(_unmark(receipt.origin, good, transaction))
    effects.extend(_tell_lost(receipt, transaction))
    purged = transaction.purge_own(receipt.origin, watermark=receipt.watermark, now=now)
    if purged:
        effects.append(Notice("purged", {"envelopes": purged, "watermark": receipt.watermark}))
    return effects


def _remember_signed_time(receipt: Receipt, transaction: StoreTransaction) -> None:
    times = [time for span in receipt.spans for _, _, time in span.times()]
    newest = max([receipt.watermark, *times])
    if newest > (transaction.number(SIGNED_TIME) or 0):
        transaction.put_number(SIGNED_TIME, newest)


def _judge_spans(receipt: Receipt, transaction: StoreTransaction, now: int) -> tuple[list[Span], list[Effect]]:
    """Return the spans that speak of this device's own chain, and what the others tell."""
    known = {position.epoch: position for position in transaction.epochs()}
    good: list[Span] = []
    effects: list[Effect] = []
    forked: dict[int, Span] = {}
    elsewhere, reason = 0, ""
    for span in receipt.spans:
        position = known.get(span.epoch)
        if position is None or span.last > position.sequence:
            elsewhere, reason = max(elsewhere, span.epoch), "the center knows more of this device than the device"
        elif transaction.envelope_id(receipt.origin, span.epoch, span.last) == span.last_id:
            good.append(span)
        else:
            forked.setdefault(span.epoch, span)
            elsewhere, reason = max(elsewhere, span.epoch), "the center has other envelopes of this chain"
    for epoch, span in forked.items():
        # Of an epoch that is over each envelope has a span of its own; one alarm an epoch says it.
        effects.append(Notice("chain_forked", {"epoch": epoch, "sequence": span.last, "id": span.last_id}, Level.ERROR))
    if elsewhere >= max(known):
        effects.extend(begin_epoch(transaction, after=elsewhere, reason=reason, now=now))
    return good, effects


def _mark(origin: bytes, spans: Iterable[Span], transaction: StoreTransaction) -> Iterator[Effect]:
    for span in spans:
        for first, last, committed_at in span.times():
            changed = transaction.mark(SequenceRange(origin, span.epoch, first, last), span.status, committed_at)
            if changed:
                held = span.status is SpanStatus.HELD
                fields = {"epoch": span.epoch, "sequence": first, "last_sequence": last, "committed_at": committed_at}
                yield Notice("held" if held else "committed", fields, Level.WARNING if held else Level.INFO)


def _unmark(origin: bytes, spans: list[Span], transaction: StoreTransaction) -> Iterator[Effect]:
    for place in _gaps(origin, spans, transaction):
        again = transaction.unmark(place)
        if again:
            fields = {"epoch": place.epoch, "envelopes": again}
            yield Notice("commit_withdrawn", fields, Level.WARNING)


def _tell_lost(receipt: Receipt, transaction: StoreTransaction) -> Iterator[Effect]:
    for place in _gaps(receipt.origin, receipt.spans, transaction):
        lost = transaction.purged_count(place)
        if lost:
            # The center vouched for these as backed up. Nobody can send them again; people must look.
            fields = {"epoch": place.epoch, "sequence": place.first, "last_sequence": place.last, "envelopes": lost}
            yield Notice("purged_but_unlisted", fields, Level.ERROR)


def _gaps(origin: bytes, spans: Sequence[Span], transaction: StoreTransaction) -> Iterator[SequenceRange]:
    """Yield the ranges of the device's chains that no span covers."""
    by_epoch = {epoch: list(group) for epoch, group in groupby(spans, key=lambda span: span.epoch)}
    for position in transaction.epochs():
        following = 1
        for span in by_epoch.get(position.epoch, []):
            if span.first > following:
                yield SequenceRange(origin, position.epoch, following, span.first - 1)
            following = max(following, span.last + 1)
        if following <= position.sequence:
            yield SequenceRange(origin, position.epoch, following, position.sequence)
