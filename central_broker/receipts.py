"""From an origin's rows to the spans of its receipt (SPEC.md §4.1). Sans-I/O.

A span follows verified links only: each envelope in it names the one before by id. A gap, a broken link or another
status starts a new span; where a chain forks, one branch goes on and every other one starts a span of its own. A span
also ends with what ended a run that a carrier brought: the carrier may have nothing after it that would lead there.

An epoch that is over ended because its device was put back to an older state, or has a twin: what the device still
has of it may end anywhere, and a later envelope's id cannot vouch for it. So there each envelope is a span of its own;
or, in a long one, each few.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from central_broker.storage.batch_records import EnvelopeStatus
from central_broker.storage.receipt_records import ChainRow, RunEnd
from sync_protocol.envelope import ID_BYTES
from sync_protocol.limits import RECEIPT_MARKS_MAX, RECEIPT_SPANS_MAX
from sync_protocol.receipt import Mark, Span, SpanStatus

_STATUSES: Final = {EnvelopeStatus.COMMITTED: SpanStatus.COMMITTED, EnvelopeStatus.HELD: SpanStatus.HELD}


_CLOSED_SPANS_MAX: Final = RECEIPT_SPANS_MAX // 2
"""Spans for what epochs that are over have in them; the newest one has the other half."""


@dataclass(slots=True)
class _Growing:
    """A span that may still grow; counts and times are its marks, ids those of all its envelopes."""

    epoch: int
    first: int
    ids: bytearray
    status: EnvelopeStatus
    counts: list[int]
    times: list[int]

    @property
    def last(self) -> int:
        return self.first + len(self.ids) // ID_BYTES - 1

    def id_at(self, sequence: int) -> bytes:
        start = (sequence - self.first) * ID_BYTES
        return bytes(self.ids[start : start + ID_BYTES])

    def has(self, run_end: RunEnd) -> bool:
        within = run_end.epoch == self.epoch and self.first <= run_end.sequence <= self.last
        return within and self.id_at(run_end.sequence) == run_end.id

    def cut(self, after: Collection[int]) -> Iterator[_Piece]:
        """Yield the pieces that end at these sequences, and the rest."""
        marks = list(zip(self.counts, self.times, strict=True))[::-1]
        first = self.first
        for last in sorted({*after, self.last}):
            piece = _Piece(self.epoch, first, self.id_at(last), self.status, [], [])
            wanting = last - first + 1
            while wanting:
                count, time = marks.pop()
                if count > wanting:
                    marks.append((count - wanting, time))
                piece.counts.append(min(count, wanting))
                piece.times.append(time)
                wanting -= piece.counts[-1]
            first = last + 1
            yield piece


@dataclass(slots=True)
class _Piece:
    """What becomes one span of a receipt."""

    epoch: int
    first: int
    last_id: bytes
    status: EnvelopeStatus
    counts: list[int]
    times: list[int]


class Chain:
    """What the center has of one origin, growing by rows in the order of (epoch, sequence)."""

    def __init__(self, rows: Iterable[ChainRow] = (), newest_epoch: int = 0) -> None:
        rows = list(rows)
        self.newest_epoch = max([newest_epoch, *(row.epoch for row in rows)])
        over = sum(row.epoch < self.newest_epoch for row in rows)
        self._together_max = -(-over // _CLOSED_SPANS_MAX)
        self._spans: list[_Growing] = []
        self._ends: dict[bytes, _Growing] = {}
        self._reached = (0, 0)
        for row in rows:
            self._add(row)

    def extend(self, row: ChainRow) -> bool:
        """Take one more row; False, and nothing changed, when it does not come after all the others in their epoch.

        Then something older was filled in, moved or disproved, or an epoch is over: the chain must be built anew.
        """
        if row.status is EnvelopeStatus.DISPROVED or (row.epoch, row.sequence) <= self._reached:
            return False
        if self._spans and row.epoch != self.newest_epoch:
            return False
        self._add(row)
        return True

    def _add(self, row: ChainRow) -> None:
        self._reached = (row.epoch, row.sequence)
        span = self._ends.get(row.previous_id)
        if span is not None and row.epoch < self.newest_epoch and row.sequence - span.first >= self._together_max:
            span = None
        if span is not None and span.epoch == row.epoch and span.last == row.sequence - 1 and span.status is row.status:
            del self._ends[row.previous_id]
            span.ids += row.id
            if span.times[-1] == row.committed_at:
                span.counts[-1] += 1
            else:
                span.counts.append(1)
                span.times.append(row.committed_at)
        else:
            span = _Growing(row.epoch, row.sequence, bytearray(row.id), row.status, [1], [row.committed_at])
            self._spans.append(span)
        self._ends[row.id] = span

    def spans(
        self,
        run_ends: Sequence[RunEnd] = (),
        *,
        spans_max: int = RECEIPT_SPANS_MAX,
        marks_max: int = RECEIPT_MARKS_MAX,
    ) -> list[Span]:
        """Return the spans, within the limits of a receipt.

        Beyond `spans_max` the newest are left out: they come once gaps have closed; and `run_ends` make as many more as
        there is room for, the first of them first. Beyond `marks_max` the oldest marks are made coarser, with the later
        commit time: nothing is purged before a backup has it.
        """
        chosen = self._spans[:spans_max]
        ends = run_ends[: spans_max - len(chosen)]
        pieces = [piece for span in chosen for piece in span.cut({end.sequence for end in ends if span.has(end)})]
        # The pieces of one branch may lie among those of another.
        pieces.sort(key=lambda piece: (piece.epoch, piece.first))
        excess = sum(len(piece.counts) for piece in pieces) - marks_max
        found = []
        for span in pieces:
            counts: Sequence[int] = span.counts
            times: Sequence[int] = span.times
            merged = min(max(excess, 0), len(counts) - 1)
            if merged:
                excess -= merged
                counts = [sum(counts[: merged + 1]), *counts[merged + 1 :]]
                times = [max(times[: merged + 1]), *times[merged + 1 :]]
            marks = tuple(map(Mark, counts, times))
            found.append(Span(span.epoch, span.first, span.last_id, _STATUSES[span.status], marks))
        return found
