"""Questionnaires as the census tables have them, into entries that can be told apart and counted.

`bring_up_to_date` reads what was committed since the last time; the consumer does none of this.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date, datetime, tzinfo
from typing import Final

from central_broker.coverage.identity_number import birth_date_of, identity_number
from central_broker.coverage.names import name_key
from central_broker.coverage.people import Kind, Person
from central_broker.coverage.places import Places, oblasts
from central_broker.coverage.questions import PeopleForm, people_form
from central_broker.coverage.rules import CensusRules, Channel, Timing
from central_broker.storage.batch_records import Route
from central_broker.storage.contract import Storage
from central_broker.storage.coverage_records import PersonRow, Visit, VisitRow
from sync_protocol.errors import ProtocolError
from sync_protocol.notice import notice_number, read_number

_BATCHES_AT_ONCE: Final = 10
"""Some thousand questionnaires at a time: their rows are in memory together."""
_ADMINISTRATION: Final = "admin"
"""The answer to `proxy` that the administration of an institution has given."""


def bring_up_to_date(storage: Storage, rules: CensusRules, on_progress: Callable[[int], None]) -> Places:
    """Index what is new since the last time, or everything where rules, places or forms have changed since.

    Safe beside consumers, and beside another that does the same. `on_progress` hears how many questionnaires more are
    done. Returns the places that everything is sorted by.
    """
    basis = repr(asdict(rules))
    while True:
        # Asked for before anything else: what changes from now on is noticed by `store_coverage`.
        state = storage.coverage_state()
        places, forms = places_of(storage), people_forms(storage)
        after = state.reached if state.basis == basis else 0
        upto = storage.coverage_next(after, _BATCHES_AT_ONCE)
        if upto == after:
            return places
        found = [
            indexed
            for form in forms
            for indexed in entries_of(form, *storage.coverage_rows(form, after, upto), rules, places)
        ]
        if storage.store_coverage(forms, found, state=state, basis=basis, after=after, upto=upto):
            on_progress(len(found))


def places_of(storage: Storage) -> Places:
    """Return the places that the center was given; of one that was given none, the oblasts."""
    return Places(storage.territories() or oblasts(), storage.institutions())


def people_forms(storage: Storage) -> list[PeopleForm]:
    """Return the forms that tell of people."""
    names = sorted({form for form, _ in storage.forms()})
    made = (people_form(name, storage.form_tables(name)) for name in names)
    return [one for one in made if one is not None]


def entries_of(
    form: PeopleForm, visits: Sequence[VisitRow], people: Sequence[PersonRow], rules: CensusRules, places: Places
) -> list[tuple[Visit, list[Person]]]:
    """Return each questionnaire with the people that it names."""
    of_visit: defaultdict[tuple[bytes, bytes], list[PersonRow]] = defaultdict(list)
    for row in people:
        of_visit[row.origin, row.id].append(row)
    found = []
    for one in visits:
        visit = _visit(form, one, rules, places)
        found.append((visit, [_person(form, visit, row, rules) for row in of_visit[one.origin, one.id]]))
    return found


def _visit(form: PeopleForm, row: VisitRow, rules: CensusRules, places: Places) -> Visit:
    said = dict(zip(form.visit_columns, row.answers, strict=True))
    is_online = row.route == Route.ONLINE or said.get("channel") == Channel.ONLINE
    channel = Channel.ONLINE if is_online else Channel.INTERVIEW
    day = _day(said.get("interview_date"))
    if day is None and channel is Channel.ONLINE:  # a web site need not ask for what it knows
        day = datetime.fromtimestamp(row.created_at / 1_000_000, _zone(rules)).date()
    place = places.place_of(
        said.get("region") or "",
        said.get("district") or "",
        said.get("institution_bin") or said.get("institution_name") or "",
    )
    return Visit(
        row.origin,
        row.id,
        row.committed_at,
        form.form,
        row.instance_id,
        channel,
        None if day is None else day.isoformat(),
        Timing.INSIDE if form.kind is Kind.LISTED else rules.timing_of(channel, day),
        said.get("interviewer_number") or row.device,
        place,
        notice_number(form.form, row.instance_id) if row.route == Route.ONLINE else None,
        _claimed(said.get("notification_number")),
        row.counts,
    )


def _person(form: PeopleForm, visit: Visit, row: PersonRow, rules: CensusRules) -> Person:
    said = dict(zip(form.person_columns, row.answers, strict=True))
    written = said.get("iin")
    iin = identity_number(written)
    born = _day(said.get("birth_date")) or (None if iin is None else birth_date_of(iin))
    names = (said.get("surname"), said.get("given_name"), said.get("patronymic"))
    is_proxy = said.get("proxy") == _ADMINISTRATION
    return Person(
        (row.origin, row.id, row.position),
        form.kind,
        visit.place,
        " ".join(one for one in names if one),
        name_key(*names[:2]),
        None if born is None else born.isoformat(),
        iin,
        Channel.PROXY if is_proxy else visit.channel,
        visit.timing,
        visit.interviewer,
        visit.committed_at,
        visit.said_on,
        said.get("room") or "",
        has_wrong_iin=bool(written) and iin is None,
        is_born_after=form.kind is not Kind.LISTED and rules.is_born_after(born),
    )


def _claimed(written: str | None) -> str | None:
    if not written:
        return None
    try:
        return read_number(written)
    except ProtocolError:
        return written


def _day(value: object) -> date | None:
    """Return a date as either database gives it."""
    return date.fromisoformat(value) if isinstance(value, str) else value if isinstance(value, date) else None


def _zone(rules: CensusRules) -> tzinfo | None:
    return rules.critical_moment.tzinfo
