"""The ledger of what a device promised, and the comparison of it with the queue that a power cut leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from edge_agent.engine.effects import Accepted, Effect
from edge_agent.engine.events import BundleArrived, Event, Submitted
from sync_protocol.content import cut as cut_into_parts
from sync_protocol.receipt import SpanStatus
from tests.support.device import envelopes_in, heads_in, sends

Place = tuple[int, int]
"""Epoch and sequence."""


class Violation(Exception):
    """A promise was broken."""


@dataclass(frozen=True)
class Row:
    """An envelope in the queue."""

    id: bytes
    place: Place
    status: int | None
    committed_at: int | None
    data: bytes | None


@dataclass
class Ledger:
    """What the device has promised so far."""

    rows: dict[int, Row] = field(default_factory=dict)
    """The queue after the last step that was released."""
    left: dict[Place, bytes] = field(default_factory=dict)
    """What left the device, and under which id."""
    farthest: Place = (0, 0)
    """The highest place that anyone outside has seen."""
    interrupted: Event | None = None
    """The step that was under way when the power went: it may have happened, wholly, or not."""

    receipt_marks: Mapping[bytes, int] = field(default_factory=dict)
    receipt_watermark: int = 0
    """What the newest receipt says: commit times by id, and the watermark."""
    was_rolled_back: bool = False

    def release(self, effects: Iterable[Effect], rows: dict[int, Row]) -> None:
        """Note a step that was released, and the queue after it."""
        self.rows = rows
        self.interrupted = None
        places = {row.place: row.id for row in rows.values()}
        sent = sends(effects)
        for envelope in envelopes_in(sent):
            place = (envelope.epoch, envelope.sequence)
            if self.left.setdefault(place, envelope.id) != envelope.id:
                raise Violation(f"{place} left the device as two envelopes")
            self.farthest = max(self.farthest, place)
        for head in heads_in(sent):
            self.farthest = max(self.farthest, (head.epoch, head.sequence))
        for effect in effects:
            if isinstance(effect, Accepted):
                for sequence in range(effect.first_sequence, effect.last_sequence + 1):
                    self._check_accepted((effect.epoch, sequence), places)

    def _check_accepted(self, place: Place, places: dict[Place, bytes]) -> None:
        if place not in places:
            raise Violation(f"{place} was accepted and is not in the queue")
        if self.left.get(place, places[place]) != places[place]:
            raise Violation(f"{place} was given to another envelope, after it had left the device")

    def check(self, found: dict[int, Row]) -> None:
        """Compare the queue after a cut with what was promised."""
        for number, row in self.rows.items():
            if number not in found:
                raise Violation(f"{row.place} was accepted and is lost")
            self._check_row(row, found[number])
        added = len(found) - len(self.rows)
        if added and added not in _parts_of(self.interrupted):
            raise Violation(f"{added} envelopes were added by no whole step")
        if isinstance(self.interrupted, BundleArrived):
            self._check_whole_receipt(found)

    def _check_row(self, before: Row, after: Row) -> None:
        if (before.id, before.place) != (after.id, after.place):
            raise Violation(f"{before.place} is another envelope now")
        if before.data != after.data and (before.data is None or not self._may_be_purged(after)):
            raise Violation(f"{before.place} does not have the bytes that it had")
        marked = (before.status, before.committed_at), (after.status, after.committed_at)
        if marked[0] != marked[1] and not isinstance(self.interrupted, BundleArrived):
            raise Violation(f"the sync mark of {before.place} has changed from {marked[0]} to {marked[1]}")

    def _may_be_purged(self, row: Row) -> bool:
        is_committed = row.status == int(SpanStatus.COMMITTED)
        return row.data is None and is_committed and isinstance(self.interrupted, BundleArrived)

    def _check_whole_receipt(self, found: dict[int, Row]) -> None:
        """Marks and purge of one receipt are one transaction. After a rollback a receipt may rightly pass over some."""
        changed = [number for number, row in self.rows.items() if found[number] != row]
        passed_over = [number for number, row in self.rows.items() if found[number] == row != self._after_receipt(row)]
        if changed and passed_over and not self.was_rolled_back:
            raise Violation(f"of one receipt {len(changed)} envelopes have the marks and {len(passed_over)} have not")

    def _after_receipt(self, row: Row) -> Row:
        committed_at = self.receipt_marks.get(row.id)
        if committed_at is None:
            return row
        data = None if committed_at <= self.receipt_watermark else row.data
        return replace(row, status=int(SpanStatus.COMMITTED), committed_at=committed_at, data=data)


def _parts_of(event: Event | None) -> set[int]:
    """Return how many envelopes an interrupted step may have added, if it added any."""
    if not isinstance(event, Submitted):
        return set()
    return {sum(len(list(cut_into_parts(one.questionnaire))) for one in event.submissions)}
