"""Receipts (SPEC.md §4.1): what of one origin's chain the center has, and since when."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Final

from sync_protocol import statement
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.keys import Signer
from sync_protocol.layout import pack
from sync_protocol.limits import RECEIPT_MARKS_MAX, RECEIPT_SPANS_MAX
from sync_protocol.statement import Statement, sign_statement

_PREFIX: Final = struct.Struct(">QH")
_SPAN: Final = struct.Struct(">IQ32sBH")
_MARK: Final = struct.Struct(">IQ")
_SEQUENCE_LIMIT: Final = 1 << 64


class SpanStatus(IntEnum):
    """What the center did with the envelopes of a span."""

    COMMITTED = 1
    HELD = 2


@dataclass(frozen=True)
class Mark:
    """`count` consecutive envelopes and the time of their commit (microseconds since 1970 UTC): the sync mark."""

    count: int
    committed_at: int


@dataclass(frozen=True)
class Span:
    """A gapless run of an origin's chain, vouched for by the id of its last envelope."""

    epoch: int
    first: int
    last_id: bytes
    status: SpanStatus
    marks: tuple[Mark, ...]

    @property
    def last(self) -> int:
        """Sequence of the last envelope."""
        return self.first + sum(mark.count for mark in self.marks) - 1

    def times(self) -> Iterator[tuple[int, int, int]]:
        """Yield (first sequence, last sequence, commit time) for each mark."""
        first = self.first
        for mark in self.marks:
            yield first, first + mark.count - 1, mark.committed_at
            first += mark.count


@dataclass(frozen=True)
class Receipt:
    """The center's cumulative word on one origin. Its statement says whether it is genuine."""

    origin: bytes
    serial: int
    watermark: int
    spans: tuple[Span, ...]


def read_receipt(source: Statement) -> Receipt:
    """Read a receipt out of its statement.

    Raises ProtocolError: unknown_kind, truncated, oversized, trailing_bytes, bad_field.
    """
    if source.kind != statement.RECEIPT:
        raise ProtocolError(Fault.UNKNOWN_KIND, f"statement kind {source.kind} is not a receipt")
    watermark, spans = _read_body(source.body)
    return Receipt(source.subject, source.serial, watermark, spans)


def _read_body(body: bytes) -> tuple[int, tuple[Span, ...]]:
    if len(body) < _PREFIX.size:
        raise ProtocolError(Fault.TRUNCATED, "the receipt ends within its prefix")
    watermark, span_count = _PREFIX.unpack_from(body)
    if span_count > RECEIPT_SPANS_MAX:
        raise ProtocolError(Fault.OVERSIZED, f"a receipt has at most {RECEIPT_SPANS_MAX} spans")
    offset = _PREFIX.size
    marks_left = RECEIPT_MARKS_MAX
    spans: list[Span] = []
    for _ in range(span_count):
        span, offset = _read_span(body, offset, marks_left)
        marks_left -= len(span.marks)
        spans.append(span)
    if offset != len(body):
        raise ProtocolError(Fault.TRAILING_BYTES, "bytes follow the last span of the receipt")
    if any((one.epoch, one.first) > (other.epoch, other.first) for one, other in pairwise(spans)):
        raise ProtocolError(Fault.BAD_FIELD, "the spans of the receipt are out of order")
    return watermark, tuple(spans)


def _read_span(body: bytes, offset: int, marks_max: int) -> tuple[Span, int]:
    if len(body) - offset < _SPAN.size:
        raise ProtocolError(Fault.TRUNCATED, "the receipt ends within a span")
    epoch, first, last_id, status, mark_count = _SPAN.unpack_from(body, offset)
    offset += _SPAN.size
    if mark_count > marks_max:
        raise ProtocolError(Fault.OVERSIZED, f"a receipt has at most {RECEIPT_MARKS_MAX} marks")
    if len(body) - offset < mark_count * _MARK.size:
        raise ProtocolError(Fault.TRUNCATED, "the receipt ends within the marks of a span")
    if epoch < 1 or first < 1 or mark_count < 1 or status not in (SpanStatus.COMMITTED, SpanStatus.HELD):
        raise ProtocolError(Fault.BAD_FIELD, "the fields of a span do not go together")
    end = offset + mark_count * _MARK.size
    marks = tuple(Mark(count, time) for count, time in _MARK.iter_unpack(body[offset:end]))
    span = Span(epoch, first, last_id, SpanStatus(status), marks)
    if any(mark.count < 1 for mark in marks) or span.last >= _SEQUENCE_LIMIT:
        raise ProtocolError(Fault.BAD_FIELD, "the marks of a span do not count from its first to its last")
    return span, end


def sign_receipt(signer: Signer, *, origin: bytes, serial: int, watermark: int, spans: Sequence[Span]) -> Statement:
    """Make a receipt; raises ProtocolError (oversized) beyond the limits: the caller coarsens marks first.

    Raises ProtocolError (bad_field) for spans that no reader would accept, as out of order or without a mark.
    """
    if len(spans) > RECEIPT_SPANS_MAX or sum(len(span.marks) for span in spans) > RECEIPT_MARKS_MAX:
        raise ProtocolError(Fault.OVERSIZED, "too many spans or marks for one receipt")
    parts = [pack(_PREFIX, watermark, len(spans))]
    for span in spans:
        parts.append(pack(_SPAN, span.epoch, span.first, span.last_id, span.status, len(span.marks)))
        parts.extend(pack(_MARK, mark.count, mark.committed_at) for mark in span.marks)
    body = b"".join(parts)
    _read_body(body)  # a signed receipt that devices refuse would leave them waiting for ever
    return sign_statement(signer, kind=statement.RECEIPT, subject=origin, serial=serial, body=body)
