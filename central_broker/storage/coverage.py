"""Who was listed and who was counted, for coverage: one SQL text for both databases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, LiteralString

from central_broker.coverage.matching import Verdict
from central_broker.coverage.people import Kind, Person, Place
from central_broker.coverage.places import Institution, Territory
from central_broker.coverage.questions import PeopleForm
from central_broker.coverage.report import Grouping
from central_broker.coverage.rules import Channel, Timing
from central_broker.storage.census_records import Row
from central_broker.storage.census_tables import quoted, view_name
from central_broker.storage.coverage_records import Decision, IndexState, PersonRow, Visit, VisitRow
from central_broker.storage.coverage_rows import (
    PERSON_COLUMNS,
    VISIT_COLUMNS,
    names_of,
    person_of,
    person_row,
    reference_of,
    visit_of,
    visit_row,
)
from central_broker.storage.recording import Statements

FORGET: Final = "UPDATE coverage_state SET reached = 0, forgotten = forgotten + 1"
"""What has changed rows that are indexed already executes this; everything is indexed anew by the next who asks."""


class Coverage:
    """The methods of `coverage_records.CoverageStorage`."""

    def writing(self) -> AbstractContextManager[Statements]:
        """Open a transaction that commits when the context ends well; raises StorageUnavailable, RowRefused."""
        raise NotImplementedError

    def read(self, sql: LiteralString, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one reading statement; raises StorageUnavailable."""
        raise NotImplementedError

    def read_made(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one reading statement whose names were checked; raises StorageUnavailable."""
        raise NotImplementedError

    def territories(self) -> list[Territory]:
        rows = self.read("SELECT code, parent, names FROM territory ORDER BY code")
        return [Territory(code, parent, tuple(names.split("\n"))) for code, parent, names in rows]

    def institutions(self) -> list[Institution]:
        rows = self.read("SELECT bin, name, district, kind FROM institution ORDER BY bin")
        return [Institution(*row) for row in rows]

    def replace_places(self, territories: Sequence[Territory], institutions: Sequence[Institution]) -> None:
        with self.writing() as statements:
            statements.execute(FORGET)
            statements.execute("DELETE FROM institution")
            statements.execute("DELETE FROM territory")
            statements.insert_rows(
                "territory",
                (("code", "text"), ("parent", "text"), ("names", "text")),
                [(one.code, one.parent, "\n".join(one.names)) for one in territories],
            )
            statements.insert_rows(
                "institution",
                (("bin", "text"), ("name", "text"), ("district", "text"), ("kind", "text")),
                [(one.bin, one.name, one.district, one.kind) for one in institutions],
            )

    def coverage_state(self) -> IndexState:
        return IndexState(*self.read(_STATE)[0])

    def coverage_next(self, after: int, batches_max: int) -> int:
        # Batches beyond the clock that is read first may be of transactions that others still wait for.
        [(upto,)] = self.read(
            "SELECT max(committed_at) FROM (SELECT committed_at FROM batch WHERE committed_at > %s"
            " AND committed_at <= (SELECT at FROM commit_clock) ORDER BY committed_at LIMIT %s) AS next",
            (after, batches_max),
        )
        return after if upto is None else int(upto)

    def coverage_rows(self, form: PeopleForm, after: int, upto: int) -> tuple[list[VisitRow], list[PersonRow]]:
        given = (form.form, after, upto)
        visits = self.read_made(_visits_statement(form), given)
        people = self.read_made(_people_statement(form), given)
        return (
            [
                VisitRow(bytes(row[0]), bytes(row[1]), row[2], row[3], row[4], row[5], row[6], bool(row[7]), row[8:])
                for row in visits
            ],
            [PersonRow(*reference_of(row), row[3:]) for row in people],
        )

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
        with self.writing() as statements:
            if IndexState(*statements.execute(_STATE + " FOR UPDATE")[0]) != state:
                return False
            if after == 0:
                statements.execute("DELETE FROM coverage_person")
                statements.execute("DELETE FROM coverage_visit")
            kinds = {one.form: one.kind for one in forms}
            statements.insert_rows(
                "coverage_visit", VISIT_COLUMNS, [visit_row(visit, kinds[visit.form]) for visit, _ in found]
            )
            statements.insert_rows(
                "coverage_person",
                PERSON_COLUMNS,
                [person_row(one, counts=visit.counts) for visit, people in found for one in people],
            )
            for form in forms:
                _recount(statements, form, after, upto)
            statements.execute("UPDATE coverage_state SET basis = %s, reached = %s", (basis, upto))
        return True

    def coverage_totals(self) -> Mapping[Grouping, int]:
        return {
            (Place(region, district, institution), interviewer, Kind(kind), Channel(channel), Timing(timing)): count
            for region, district, institution, interviewer, kind, channel, timing, count in self.read(
                "SELECT region, district, institution, interviewer, kind, channel, timing, count(*)"
                " FROM coverage_person WHERE counts = 1"
                " GROUP BY region, district, institution, interviewer, kind, channel, timing"
            )
        }

    def coverage_linked(self) -> list[Person]:
        return [person_of(row) for row in self.read(_LINKED)]

    def coverage_people(self, within: Place) -> list[Person]:
        rows = self.read(
            _PERSON + " WHERE counts = 1" + _WITHIN + " ORDER BY name_key, origin, id, position",
            _within_parameters(within),
        )
        return [person_of(row) for row in rows]

    def coverage_untimely(self) -> list[Visit]:
        rows = self.read(
            f"SELECT {names_of(VISIT_COLUMNS)} FROM coverage_visit WHERE counts = 1 AND kind <> %s AND timing <> %s"  # noqa: S608 - literals only
            " ORDER BY committed_at, origin, id",
            (Kind.LISTED.value, Timing.INSIDE.value),
        )
        return [visit_of(row) for row in rows]

    def coverage_claims(self) -> list[tuple[Visit, bool]]:
        rows = self.read(
            f"SELECT {names_of(VISIT_COLUMNS, 'v')},"  # noqa: S608 - literals only
            " EXISTS (SELECT 1 FROM coverage_visit given WHERE given.notice = v.claimed_notice)"
            " FROM coverage_visit v WHERE v.counts = 1 AND v.claimed_notice IS NOT NULL"
            " ORDER BY v.committed_at, v.origin, v.id"
        )
        return [(visit_of(row[:-1]), bool(row[-1])) for row in rows]

    def coverage_notices(self, within: Place) -> list[str]:
        rows = self.read(
            "SELECT DISTINCT notice FROM coverage_visit"  # noqa: S608 - literals only
            " WHERE notice IS NOT NULL" + _WITHIN + " ORDER BY notice",
            _within_parameters(within),
        )
        return [notice for (notice,) in rows]

    def coverage_flagged_people(self) -> list[Person]:
        where = " WHERE counts = 1 AND (wrong_iin = 1 OR born_after = 1) ORDER BY committed_at, origin, id, position"
        return [person_of(row) for row in self.read(_PERSON + where)]

    def record_decision(self, decision: Decision) -> None:
        (one, other) = decision.couple
        with self.writing() as statements:
            # One number after the other, whoever else decides now.
            [(number,)] = statements.execute("UPDATE coverage_state SET decisions = decisions + 1 RETURNING decisions")
            statements.execute(
                "INSERT INTO coverage_decision VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    number,
                    *one,
                    *other,
                    decision.verdict.value,
                    decision.reason,
                    decision.decided_by,
                    decision.decided_at,
                ),
            )

    def assignments(self) -> list[tuple[bytes, str]]:
        rows = self.read("SELECT device, place FROM coverage_assignment ORDER BY device, place")
        return [(bytes(device), place) for device, place in rows]

    def assign(self, device: bytes, places: Sequence[str]) -> None:
        with self.writing() as statements:
            statements.execute("DELETE FROM coverage_assignment WHERE device = %s", (device,))
            statements.insert_rows(
                "coverage_assignment",
                (("device", "bytea"), ("place", "text")),
                [(device, place) for place in dict.fromkeys(places)],
            )

    def decisions(self) -> list[Decision]:
        rows = self.read(
            "SELECT origin, id, position, other_origin, other_id, other_position, verdict, reason, decided_by,"
            " decided_at FROM coverage_decision ORDER BY number"
        )
        return [
            Decision((reference_of(row), reference_of(row[3:])), Verdict(row[6]), row[7], row[8], row[9])
            for row in rows
        ]


_STATE: Final = "SELECT basis, reached, forgotten FROM coverage_state"

_PERSON: Final = f"SELECT {names_of(PERSON_COLUMNS)} FROM coverage_person"  # noqa: S608 - literals only

_WITHIN: Final = " AND (region = %s OR %s = '') AND (district = %s OR %s = '') AND (institution = %s OR %s = '')"

_LINKED: Final = (
    _PERSON + " WHERE counts = 1 AND ("  # noqa: S608 - literals only
    "iin IN (SELECT iin FROM coverage_person WHERE counts = 1 AND iin IS NOT NULL GROUP BY iin HAVING count(*) > 1)"
    " OR (institution, name_key) IN (SELECT institution, name_key FROM coverage_person WHERE counts = 1"
    " AND institution <> '' AND name_key <> '' GROUP BY institution, name_key HAVING count(*) > 1)"
    " OR (district, name_key, birth_date) IN (SELECT district, name_key, birth_date FROM coverage_person"
    " WHERE counts = 1 AND district <> '' AND name_key <> '' AND birth_date IS NOT NULL"
    " GROUP BY district, name_key, birth_date HAVING count(*) > 1)"
    " OR (origin, id, position) IN (SELECT origin, id, position FROM coverage_decision"
    " UNION SELECT other_origin, other_id, other_position FROM coverage_decision))"
)
"""Whoever shares with another one what `matching` goes by."""

_COMMITTED: Final = (
    " FROM batch b JOIN questionnaire q ON q.batch = b.id AND q.form = %s"
    " JOIN {} t ON t.origin = q.origin AND t.id = q.id"
)
_IN_TIME: Final = " WHERE b.committed_at > %s AND b.committed_at <= %s"


def _visits_statement(form: PeopleForm) -> str:
    whole = quoted(form.whole.name)
    answers = "".join(f", t.{quoted(column)}" for column in form.visit_columns.values())
    return (
        "SELECT t.origin, t.id, b.committed_at, q.created_at, t.instance_id, e.route,"  # noqa: S608 - names are checked
        " coalesce(d.name, ''),"
        f" EXISTS (SELECT 1 FROM {view_name(form.whole)} c WHERE c.origin = t.origin AND c.id = t.id)"
        f"{answers}{_COMMITTED.format(whole)}"
        " JOIN envelope e ON e.origin = t.origin AND e.id = t.id LEFT JOIN device d ON d.device = t.origin"
        f"{_IN_TIME} ORDER BY b.committed_at, t.origin, t.id"
    )


def _people_statement(form: PeopleForm) -> str:
    answers = "".join(f", t.{quoted(column)}" for column in form.person_columns.values())
    return (
        f"SELECT t.origin, t.id, t.position{answers}{_COMMITTED.format(quoted(form.people.name))}{_IN_TIME}"
        " ORDER BY t.origin, t.id, t.position"
    )


def _recount(statements: Statements, form: PeopleForm, after: int, upto: int) -> None:
    """Say anew of those before whether they count: of what came now, some may edit them, or be the same instance."""
    whole = quoted(form.whole.name)
    touched = " UNION ".join(
        f"SELECT v.origin, v.id{_COMMITTED.format(whole)}"
        f" JOIN coverage_visit v ON v.form = q.form AND v.instance_id = t.{column}{_IN_TIME}"
        for column in ("instance_id", "replaces")
    )
    given = (form.form, after, upto) * 2
    for table in ("coverage_visit", "coverage_person"):
        statements.make(
            f"UPDATE {table} SET counts = CASE WHEN EXISTS (SELECT 1 FROM {view_name(form.whole)} c"  # noqa: S608 - names are checked
            f" WHERE c.origin = {table}.origin AND c.id = {table}.id) THEN 1 ELSE 0 END"
            f" WHERE (origin, id) IN ({touched})",
            given,
        )


def _within_parameters(within: Place) -> Row:
    return tuple(one for one in (within.region, within.district, within.institution) for _ in range(2))
