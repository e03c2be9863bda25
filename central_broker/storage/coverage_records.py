"""What coverage keeps in the database, and asks of it; see `central_broker.coverage`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from central_broker.coverage.matching import Couple, Verdict, pair_key
from central_broker.coverage.people import Person, Place
from central_broker.coverage.places import Institution, Territory
from central_broker.coverage.questions import PeopleForm
from central_broker.coverage.report import Grouping
from central_broker.coverage.rules import Channel, Timing
from central_broker.storage.census_records import Row


@dataclass(frozen=True, slots=True)
class Visit:
    """A questionnaire that tells of people. `notice` is the number of the notice that it was given when it came online,
    `claimed_notice` the one that an interviewer was told: as typed, where no number looks like that.
    """

    origin: bytes
    id: bytes
    committed_at: int
    form: str
    instance_id: str
    channel: Channel
    said_on: str | None
    timing: Timing
    interviewer: str
    place: Place
    notice: str | None
    claimed_notice: str | None
    counts: bool
    """Whether no edit has replaced it, and it is the first with its instance id."""


@dataclass(frozen=True, slots=True)
class VisitRow:
    """A questionnaire as its tables have it; `answers` in the order of `PeopleForm.visit_columns`."""

    origin: bytes
    id: bytes
    committed_at: int
    created_at: int
    instance_id: str
    route: str
    device: str
    """The origin's name as people know it."""
    counts: bool
    answers: Row


@dataclass(frozen=True, slots=True)
class PersonRow:
    """A person of a questionnaire likewise; `answers` in the order of `PeopleForm.person_columns`."""

    origin: bytes
    id: bytes
    position: int
    answers: Row


@dataclass(frozen=True, slots=True)
class IndexState:
    """How far questionnaires are indexed: up to commit time `reached` (0: nothing, or all has to be done anew), by
    `basis` (the rules, as text). `forgotten` grows whenever something has changed that entries were made of.
    """

    basis: str
    reached: int
    forgotten: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody decided of two entries; of several about the same two, the newest counts."""

    couple: Couple
    verdict: Verdict
    reason: str
    decided_by: str
    decided_at: int
    """Microseconds since 1970 UTC."""

    @property
    def key(self) -> str:
        """What people call the pair by."""
        return pair_key(self.couple)


class CoverageStorage(Protocol):
    """What coverage asks of the census database; as `contract.Storage`, of which it is a part."""

    def territories(self) -> list[Territory]: ...

    def institutions(self) -> list[Institution]: ...

    def replace_places(self, territories: Sequence[Territory], institutions: Sequence[Institution]) -> None:
        """Put these tables in the place of those there are; everybody's place is worked out anew then."""
        ...

    def coverage_state(self) -> IndexState: ...

    def coverage_next(self, after: int, batches_max: int) -> int:
        """Return the commit time of the last of so many batches after that one; `after` itself when there is none."""
        ...

    def coverage_rows(self, form: PeopleForm, after: int, upto: int) -> tuple[list[VisitRow], list[PersonRow]]:
        """Return what was committed of a form in (after, upto], by key."""
        ...

    def store_coverage(
        self,
        forms: Sequence[PeopleForm],
        found: Sequence[tuple[Visit, Sequence[Person]]],
        *,
        state: IndexState,
        basis: str,
        after: int,
        upto: int,
    ) -> bool:
        """Index these questionnaires, and move on to `upto`; with `after` 0, everything before is forgotten.

        `state` is the one that was asked for before anything was read that `found` is made of. Returns False, and does
        nothing, when it is another one now: another process has moved on, or all has to be done anew.
        """
        ...

    def coverage_totals(self) -> Mapping[Grouping, int]:
        """Return how many entries there are that count, of each grouping."""
        ...

    def coverage_linked(self) -> list[Person]:
        """Return the entries that count and share something with another one, or were decided about."""
        ...

    def coverage_people(self, within: Place) -> list[Person]:
        """Return the entries that count of a region, district or institution, by name."""
        ...

    def coverage_untimely(self) -> list[Visit]:
        """Return the questionnaires that count, of counted people, outside their channel's window."""
        ...

    def coverage_claims(self) -> list[tuple[Visit, bool]]:
        """Return the questionnaires that count and claim a notice, with whether that one was given."""
        ...

    def coverage_notices(self, within: Place) -> list[str]:
        """Return the numbers of all notices given for questionnaires of a region, district or institution."""
        ...

    def coverage_flagged_people(self) -> list[Person]:
        """Return the entries that count with an IIN that cannot be one, or born after the critical moment."""
        ...

    def record_decision(self, decision: Decision) -> None:
        """Keep a decision; those before it stay, too."""
        ...

    def assignments(self) -> list[tuple[bytes, str]]:
        """Return (device, code of a place) of every list that a device is to be given, by both."""
        ...

    def assign(self, device: bytes, places: Sequence[str]) -> None:
        """Say of which places a device is given lists, in the place of those before."""
        ...

    def decisions(self) -> list[Decision]:
        """Return every decision, oldest first."""
        ...
