"""The coverage table: of everybody listed, how many were counted and how; who was counted without being listed; who
twice. Pure.

What holds in every line: people counted = by interview + online + by proxy, and also
= listed - missing + not listed + in households. A person stands in one line only, and under one channel: of several
entries, one in the person's own words goes before one by proxy, and then the one committed first counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from central_broker.coverage.matching import Matched
from central_broker.coverage.people import Kind, Person, Place
from central_broker.coverage.rules import Channel, Timing

Grouping = tuple[Place, str, Kind, Channel, Timing]
"""What people who nobody can be confused with are counted by: place, interviewer, kind, channel, timing."""


class By(StrEnum):
    """What a line of the table stands for."""

    OBLAST = "oblast"
    DISTRICT = "district"
    INSTITUTION = "institution"
    INTERVIEWER = "interviewer"


@dataclass
class Line:
    """One line; every number counts people."""

    listed: int = 0
    interview: int = 0
    online: int = 0
    proxy: int = 0
    missing: int = 0
    """Listed, and not counted."""
    not_listed: int = 0
    """Counted in an institution, and on no list."""
    in_households: int = 0
    """Counted elsewhere, and on no list: of them, none was drawn up."""
    twice: int = 0
    """Counted more than once."""
    outside_window: int = 0
    """Counted on a day on which the channel was not open, or on an unknown one."""
    to_decide: int = 0
    """In a pair that may be one person; listed ones among them count as missing until somebody decides."""

    @property
    def counted(self) -> int:
        return self.interview + self.online + self.proxy

    def add(self, other: Line) -> None:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


LineKey = tuple[str, ...]
"""Region; region, district; region, district, institution; or interviewer."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One person as the table sees it. `counted` are the entries in the order in which they would count."""

    listed: Sequence[Person]
    counted: Sequence[Person]
    to_decide: bool

    @property
    def counts(self) -> Person | None:
        """The entry by which the person was counted; None of one that is missing."""
        return self.counted[0] if self.counted else None

    @property
    def place(self) -> Place:
        """Where the person is counted in the table: where listed, otherwise where counted."""
        return (self.listed or self.counted)[0].place

    @property
    def is_twice(self) -> bool:
        """Whether there are several entries of one kind; at home and on a stay elsewhere are one of each."""
        kinds = Counter(one.kind for one in self.counted)
        return max(kinds.values(), default=0) > 1


def standings(matched: Matched) -> list[Standing]:
    """Return how each person stands."""
    return [
        Standing(
            sorted((one for one in entries if one.kind is Kind.LISTED), key=_in_order),
            sorted((one for one in entries if one.kind is not Kind.LISTED), key=_in_order),
            any(one.reference in matched.waiting for one in entries),
        )
        for entries in matched.people
    ]


def table(
    singles: Mapping[Grouping, int], people: Iterable[Standing], by: By, within: Place | None = None
) -> dict[LineKey, Line]:
    """Return the table's lines by key, in order; `singles` are those who are not among `people`.

    `within` leaves out what is not of its region, district or institution.
    """
    lines: defaultdict[LineKey, Line] = defaultdict(Line)
    for grouping, count in singles.items():
        place, interviewer, kind, channel, timing = grouping
        if _is_within(place, within) and not (by is By.INTERVIEWER and kind is Kind.LISTED):
            lines[_key(by, place, interviewer)].add(_single(place, kind, channel, timing, count))
    for one in people:
        counts = one.counts
        if _is_within(one.place, within) and not (by is By.INTERVIEWER and counts is None):
            lines[_key(by, one.place, "" if counts is None else counts.interviewer)].add(_line(one))
    return dict(sorted(lines.items()))


def sum_of(lines: Iterable[Line]) -> Line:
    """Return all lines as one."""
    total = Line()
    for line in lines:
        total.add(line)
    return total


def _in_order(one: Person) -> tuple[bool, int, object]:
    return one.channel is Channel.PROXY, one.committed_at, one.reference


def _key(by: By, place: Place, interviewer: str) -> LineKey:
    match by:
        case By.OBLAST:
            return (place.region,)
        case By.DISTRICT:
            return place.region, place.district
        case By.INSTITUTION:
            return place.region, place.district, place.institution
        case By.INTERVIEWER:
            return (interviewer,)


def _is_within(place: Place, within: Place | None) -> bool:
    return within is None or all(
        not asked or asked == has
        for asked, has in (
            (within.region, place.region),
            (within.district, place.district),
            (within.institution, place.institution),
        )
    )


def _single(place: Place, kind: Kind, channel: Channel, timing: Timing, count: int) -> Line:
    if kind is Kind.LISTED:
        return Line(listed=count, missing=count)
    line = Line(outside_window=0 if timing is Timing.INSIDE else count)
    setattr(line, channel.value, count)
    if place.institution:
        line.not_listed = count
    else:
        line.in_households = count
    return line


def _line(one: Standing) -> Line:
    first = one.counts or one.listed[0]
    line = _single(one.place, first.kind, first.channel, first.timing, 1)
    if one.listed and one.counts is not None:
        line.listed, line.not_listed, line.in_households = 1, 0, 0
    line.twice = int(one.is_twice)
    line.to_decide = int(one.to_decide)
    return line
