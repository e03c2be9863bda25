"""Knows everything that is true in a simulated world, and checks the promise of DESIGN §2 after every event.

I1  What was accepted is in the database exactly once, or on an intact carrier, unless every carrier was destroyed:
    checked whenever a copy disappears, and at the end.
I2  What its origin has purged is committed, and in the newest recorded backup: at every purge. What a carrier has
    let go of is committed or held in a recorded backup: whenever a copy disappears.
I3  Receipts only get newer; no place of a chain is given to two envelopes, and none to what its origin did not seal:
    at every receipt and every envelope.
I4  A sync mark is a time at which the database committed that very envelope: at every mark, and at the end.
I5  Same place, other content: both are kept, and it is told: at the end.
I6  Once nothing fails any more, everything drains: at the end.
I7  Every fault was reached in every state that matters: over many seeds (`faults.Faults.states`).
I8  Nothing is left on a medium of which the device knows that it was called in: at every file (`sticks.Visit`).
What must balance in the end is in `balance`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sync_protocol.receipt import SpanStatus
from tests.simulator.watch import Change, Dispatched, Gone, Lost, Placed, Questionnaire, ReceiptKept, Row

Place = tuple[bytes, int, int]
"""Origin, epoch, sequence."""


class Violation(AssertionError):
    """The promise was broken; `invariant` is I1 to I6, or I8."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


class Carrier(Protocol):
    """Something besides a device's queue that may hold intact envelopes: a medium."""

    def holds(self, envelope_id: bytes) -> bool: ...


@dataclass
class AcceptedQuestionnaire:
    """What a form program was told to be durable."""

    origin: bytes
    instance_id: str
    digest: bytes
    ids: tuple[bytes, ...]


@dataclass
class QueueTruth:
    """What lies in one device's queue, from one disk to the next."""

    rows: dict[bytes, Row] = field(default_factory=dict)
    own: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """The device's chain: the id at each epoch and sequence."""
    receipts: dict[bytes, int] = field(default_factory=dict)

    def holds(self, envelope_id: bytes) -> bool:
        row = self.rows.get(envelope_id)
        return row is not None and row.has_data


class Oracle:
    """One world's truth."""

    def __init__(self) -> None:
        self.accepted: dict[tuple[bytes, str], AcceptedQuestionnaire] = {}
        self.queues: dict[str, QueueTruth] = defaultdict(QueueTruth)
        self.carriers: list[Carrier] = []
        self.places: dict[Place, set[bytes]] = defaultdict(set)
        self.left: dict[Place, bytes] = {}
        """Which envelope of a place has left its device."""
        self.twins: set[bytes] = set()
        """Origins of which a whole image was restored, or a clone lives: they may fork, and it must be told."""
        self.rolled_back: set[bytes] = set()
        self.orphans: set[bytes] = set()
        """Envelopes whose origin has lost them to a declared fault: only others can still bring them."""
        self.excused: set[bytes] = set()
        """Envelopes of which every carrier was destroyed, by a declared fault. They may still turn up."""
        self.database: dict[bytes, Placed] = {}
        self.questionnaires: dict[bytes, Questionnaire] = {}
        self.commits: dict[bytes, set[int]] = defaultdict(set)
        self.holds: dict[bytes, set[int]] = defaultdict(set)
        self.safe: frozenset[bytes] = frozenset()
        """What is committed in the newest recorded backup."""
        self.backed: set[bytes] = set()
        """What is committed or held in any."""
        self.told_forks: set[Place] = set()
        self.inactive: dict[bytes, int] = {}
        """Origins that the authority has called in, and since when."""
        self.counts: Counter[str] = Counter()

    # Devices.

    def opened(self, device: str, rows: Sequence[Row], receipts: dict[bytes, int]) -> None:
        """A device has opened its queue: nothing that was there may be missing, unless its disk is another one."""
        truth = self.queues[device]
        present = {row.id: row for row in rows}
        missing = [i for i, row in truth.rows.items() if row.has_data and not self._kept_as(present.get(i), row)]
        if missing:
            raise Violation("I1", f"{device} lost {len(missing)} durable envelopes when its process ended")
        if any(receipts.get(origin, 0) < serial for origin, serial in truth.receipts.items()):
            raise Violation("I3", f"{device} kept a newer receipt before its process ended than after")
        # What follows was committed by the step that was cut short, and not told until now.
        for envelope_id in sorted(truth.rows.keys() - present.keys()):
            self._gone(device, truth.rows.pop(envelope_id))
        for row in rows:
            if truth.rows.get(row.id) != row:
                self._row(device, truth, row)
        truth.rows, truth.receipts = present, receipts

    def _kept_as(self, now: Row | None, before: Row) -> bool:
        """Whether an envelope is still there; it may have been purged by the very step that was cut short."""
        if now is None:
            return not before.own and before.id in self.backed
        return now.has_data or (now.own and now.id in self.safe)

    def disk_replaced(self, device: str, origin: bytes, *, wholly: bool, destroyed: bool = False) -> None:
        """A device's disk is not what it was, by a declared fault: an older state of it, or gone."""
        before = self.queues.pop(device, QueueTruth())
        lost = {i for i, row in before.rows.items() if row.has_data}
        self.orphans |= {i for i in lost if before.rows[i].own}
        if not destroyed:
            self.rolled_back.add(origin)
        if wholly:
            self.twins.add(origin)
        self._pending_excuses(lost)

    def _pending_excuses(self, ids: Iterable[bytes]) -> None:
        for envelope_id in ids:
            if not self.is_somewhere(envelope_id):
                self.excused.add(envelope_id)

    def stepped(self, device: str, changes: Sequence[Change], *, released: bool) -> None:
        """A device has committed a step; `released` when its effects have left it, too."""
        truth = self.queues[device]
        for change in changes:
            match change:
                case Row():
                    self._row(device, truth, change)
                case Gone(envelope_id):
                    self._gone(device, truth.rows.pop(envelope_id))
                case Dispatched(envelope_id):
                    row = truth.rows[envelope_id]
                    if released:
                        self.left.setdefault((row.origin, row.epoch, row.sequence), row.id)
                case ReceiptKept(origin, serial):
                    if serial <= truth.receipts.get(origin, 0):
                        raise Violation("I3", f"{device} replaced receipt {truth.receipts[origin]} by {serial}")
                    truth.receipts[origin] = serial

    def _gone(self, device: str, row: Row) -> None:
        if row.own:
            raise Violation("I1", f"{device} deleted its own {name_of(row)}")
        if not row.has_data:
            return
        if row.id not in self.backed:
            raise Violation("I2", f"{device} gave up {name_of(row)}, which no backup of the center holds")
        if not self.is_somewhere(row.id):
            if row.id in self.safe:
                raise Violation("I1", f"{device} dropped the last copy of {name_of(row)}")
            # The center was put back to before a backup that it had promised to have, by declaration.
            self.excused.add(row.id)

    def _row(self, device: str, truth: QueueTruth, row: Row) -> None:
        before = truth.rows.get(row.id)
        truth.rows[row.id] = row
        if row.has_data:
            self.excused.discard(row.id)
            if row.own:
                self.orphans.discard(row.id)
        if before is None:
            self._sealed(device, row)
            if row.own:
                truth.own[row.epoch, row.sequence] = row.id
        if row.status is not None and (before is None or (before.status, before.committed_at) != _mark(row)):
            self._marked(device, row)
        if before is not None and before.has_data and not row.has_data:
            self._purged(device, row)

    def _sealed(self, device: str, row: Row) -> None:
        place = (row.origin, row.epoch, row.sequence)
        if row.own and self.left.get(place, row.id) != row.id and row.origin not in self.twins:
            if row.id not in self.places[place]:
                raise Violation("I3", f"{device} gave the place of {name_of(row)} to a second envelope")
            # A copy of the queue brings back what was lost before it had left, and its place was free again then.
            self.twins.add(row.origin)
        if not row.own and row.id not in self.places[place]:
            raise Violation("I3", f"{device} took custody of {name_of(row)}, which its origin has not sealed")
        self.places[place].add(row.id)

    def _marked(self, device: str, row: Row) -> None:
        known = self.commits if row.status == SpanStatus.COMMITTED else self.holds
        if row.committed_at not in known.get(row.id, ()):
            what = "committed" if row.status == SpanStatus.COMMITTED else "held"
            raise Violation("I4", f"{device} marks {name_of(row)} as {what} at {row.committed_at}, which it never was")

    def _purged(self, device: str, row: Row) -> None:
        if row.own and (row.id not in self.safe or row.status != SpanStatus.COMMITTED):
            raise Violation("I2", f"{device} purged {name_of(row)}, which no backup of the center holds")
        self.counts["purged"] += 1

    def was_accepted(self, device: str, instance_id: str, digest: bytes, first_place: Place, last: int) -> None:
        """A form program was told that a questionnaire is durable, from one place of the chain to a last sequence."""
        origin, epoch, first = first_place
        own = self.queues[device].own
        ids = tuple(own.get((epoch, sequence), b"") for sequence in range(first, last + 1))
        if not all(ids):
            raise Violation("I1", f"{device} acknowledged {instance_id}, and its queue does not have it")
        self.accepted[origin, instance_id] = AcceptedQuestionnaire(origin, instance_id, digest, ids)
        self.counts["accepted"] += 1

    def is_somewhere(self, envelope_id: bytes) -> bool:
        """Whether the database or an intact carrier has this envelope."""
        return (
            envelope_id in self.database
            or any(queue.holds(envelope_id) for queue in self.queues.values())
            or any(carrier.holds(envelope_id) for carrier in self.carriers)
        )

    def carrier_lost(self, ids: Iterable[bytes]) -> None:
        """A medium is gone, or its content damaged."""
        self._pending_excuses(i for i in ids if i in self.orphans)

    def carrier_cleared(self, carrier: str, ids: Iterable[bytes]) -> None:
        """A device has taken a file away from a medium, because nothing of it was needed there any more."""
        for envelope_id in ids:
            if self.is_somewhere(envelope_id):
                continue
            if envelope_id in self.safe or envelope_id not in self.backed:
                raise Violation("I1", f"the last copy of envelope {envelope_id.hex()[:8]} was taken from {carrier}")
            self.excused.add(envelope_id)

    # The center.

    def enrolled(self, origin: bytes, *, is_active: bool, at: int) -> None:
        """The authority says how a device stands; `at` is the true time."""
        if is_active:
            self.inactive.pop(origin, None)
        else:
            self.inactive.setdefault(origin, at)

    def recorded(
        self, placed: Sequence[Placed], questionnaires: Sequence[Questionnaire], lost: Sequence[Lost], at: int
    ) -> None:
        """The database has committed; `at` is the true time."""
        if lost:
            raise Violation("I1", f"{len(lost)} rows of {lost[0].table} were deleted in the database")
        for one in placed:
            self._placed(one, at)
            self.database[one.id] = one
            (self.commits if one.status == "committed" else self.holds)[one.id].add(one.committed_at)
            self.places[one.origin, one.epoch, one.sequence].add(one.id)
        for questionnaire in questionnaires:
            if questionnaire.id in self.questionnaires:
                raise Violation("I1", f"{questionnaire.instance_id} is in the database twice")
            self.questionnaires[questionnaire.id] = questionnaire
            self.counts["committed"] += 1

    def _placed(self, one: Placed, at: int) -> None:
        before = self.database.get(one.id)
        name = f"epoch {one.epoch} sequence {one.sequence}"
        if one.id not in self.places[one.origin, one.epoch, one.sequence]:
            raise Violation("I3", f"the database gave {name} to an envelope that its origin has not sealed")
        if before is not None and before.status == "committed":
            raise Violation("I4", f"{name} was committed at {before.committed_at}, and now at {one.committed_at}")
        # What was being accepted when its origin was called in may still be committed.
        if one.status == "committed" and self.inactive.get(one.origin, at) < at - _ACCEPTANCE:
            raise Violation("I4", f"{name} was committed though its origin is not in good standing, instead of held")

    def fork_told(self, place: Place) -> None:
        self.told_forks.add(place)

    def backed_up(self, committed: frozenset[bytes], held: frozenset[bytes]) -> None:
        """A backup is complete and its watermark recorded: what it has may be purged from now on."""
        self.safe = committed
        self.backed |= committed | held

    def database_restored(
        self, placed: Sequence[Placed], questionnaires: Sequence[Questionnaire], *, declared_loss: bool = False
    ) -> None:
        """The database is an older one now, by a declared fault; with a declared loss it is older than it may be."""
        before = self.database
        self.database = {one.id: one for one in placed}
        self.questionnaires = {one.id: one for one in questionnaires}
        missing = self.safe - self.database.keys()
        if declared_loss:
            self.safe -= missing
        elif missing:
            raise Violation("I4", f"{len(missing)} envelopes behind the watermark are not in the restored database")
        for envelope_id, one in before.items():
            if envelope_id not in self.database and not self.is_somewhere(envelope_id):
                if envelope_id not in self.orphans and not declared_loss:
                    name = f"epoch {one.epoch} sequence {one.sequence}"
                    raise Violation("I4", f"{name} was lost with the restored database, and its origin is alive")
                self.excused.add(envelope_id)


_ACCEPTANCE = 1_000_000
"""For so long a consumer may take to record what it has accepted."""


def _mark(row: Row) -> tuple[int | None, int | None]:
    return row.status, row.committed_at


def name_of(row: Row) -> str:
    return f"envelope {row.epoch}/{row.sequence} of {row.origin.hex()[:8]}"
