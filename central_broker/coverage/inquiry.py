"""What there is to ask of coverage: the table, an institution's people, pairs, and what is outside the rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from central_broker.coverage.matching import Couple, Pair, Verdict, match
from central_broker.coverage.people import Kind, Place
from central_broker.coverage.places import Places
from central_broker.coverage.report import By, Grouping, Line, LineKey, Standing, standings, table
from central_broker.storage.coverage_records import CoverageStorage


@dataclass(frozen=True)
class Coverage:
    """Everybody, as of one moment: those who share something with another entry as people, the rest counted."""

    places: Places
    singles: Mapping[Grouping, int]
    people: Sequence[Standing]
    pairs: Sequence[Pair]

    def table(self, by: By, within: Place | None = None) -> dict[LineKey, Line]:
        """Return the lines by key; see `report.table`."""
        return table(self.singles, self.people, by, within)


def look(storage: CoverageStorage, places: Places) -> Coverage:
    """Read what is indexed, and put it together."""
    linked = storage.coverage_linked()
    matched = match(linked, verdicts(storage))
    totals = Counter(storage.coverage_totals())
    totals.subtract((one.place, one.interviewer, one.kind, one.channel, one.timing) for one in linked)
    return Coverage(places, +totals, standings(matched), matched.pairs)


def verdicts(storage: CoverageStorage) -> dict[Couple, Verdict]:
    """Return what holds of everything that was decided: the newest of each couple."""
    return {one.couple: one.verdict for one in storage.decisions()}


def people_of(storage: CoverageStorage, coverage: Coverage, place: Place) -> list[Standing]:
    """Return everybody who is listed in a place, or counted there, by name."""
    linked = {one.reference for person in coverage.people for one in (*person.listed, *person.counted)}
    alone = [
        Standing([one], [], to_decide=False) if one.kind is Kind.LISTED else Standing([], [one], to_decide=False)
        for one in storage.coverage_people(place)
        if one.reference not in linked
    ]
    together = [one for one in coverage.people if any(entry.place == place for entry in (*one.listed, *one.counted))]
    return sorted((*alone, *together), key=_by_name)


def _by_name(one: Standing) -> tuple[str, object]:
    first = (one.listed or one.counted)[0]
    return first.name_key, first.reference
