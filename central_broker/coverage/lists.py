"""The list of who is counted already that a device is given: of each institution that its interviewer goes to.

Not responsible for sealing it, nor for getting it there (`central_broker.counted_lists`).
"""

from __future__ import annotations

from collections.abc import Iterable

from central_broker.coverage.inquiry import Coverage, people_of
from central_broker.coverage.people import Place
from central_broker.coverage.report import Standing
from central_broker.storage.coverage_records import CoverageStorage
from sync_protocol.counted_list import CountedList, Entry, Section, Status


def counted_list(
    storage: CoverageStorage, coverage: Coverage, places: Iterable[Place], *, as_of: int, keep_until: int
) -> CountedList:
    """Return the list of these institutions and districts; times in microseconds.

    Of a district, the notices that were given in its households are told, but no people.
    """
    return CountedList(
        as_of=as_of,
        keep_until=keep_until,
        sections=tuple(_section(storage, coverage, place) for place in places),
    )


def _section(storage: CoverageStorage, coverage: Coverage, place: Place) -> Section:
    code = place.institution or place.district or place.region
    people = people_of(storage, coverage, place) if place.institution else []
    return Section(
        place=code,
        title=coverage.places.name_of(code),
        entries=tuple(_entry(one, place) for one in people),
        notices=tuple(storage.coverage_notices(place)),
    )


def _entry(one: Standing, place: Place) -> Entry:
    listed_here = next((entry for entry in one.listed if entry.place == place), None)
    counts = one.counts
    named = listed_here or counts or one.listed[0]
    present = Status.UNLISTED if listed_here is None else Status.COUNTED
    return Entry(
        name=named.name,
        status=Status.MISSING if counts is None else present,
        birth_date=named.birth_date,
        room=named.room or None,
        channel=None if counts is None else counts.channel.value,
        counted_on=None if counts is None else counts.said_on,
    )
