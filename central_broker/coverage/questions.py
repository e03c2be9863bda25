"""Which questions tell who was listed or counted, where, when and how: by their names, whichever groups they are in.

A form takes part when it has a repeat of people: one that asks `surname` and `given_name`. It is a list when it asks
`list_as_of`, and its people stay for a while only when they are asked `usual_place`. The census's own forms name their
questions so (docs/census-forms.md); a form of another making does when it is to take part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from central_broker.coverage.people import Kind
from central_broker.forms.tables import Column, ColumnType, Table, TableKind

VISIT: Final[Mapping[str, ColumnType]] = {
    "channel": ColumnType.TEXT,
    "interview_date": ColumnType.DATE,
    "interviewer_number": ColumnType.TEXT,
    "region": ColumnType.TEXT,
    "district": ColumnType.TEXT,
    "institution_bin": ColumnType.TEXT,
    "institution_name": ColumnType.TEXT,
    "notification_number": ColumnType.TEXT,
}
"""What is asked once, and the type in which it is understood."""

PERSON: Final[Mapping[str, ColumnType]] = {
    "surname": ColumnType.TEXT,
    "given_name": ColumnType.TEXT,
    "patronymic": ColumnType.TEXT,
    "birth_date": ColumnType.DATE,
    "iin": ColumnType.TEXT,
    "proxy": ColumnType.TEXT,
    "room": ColumnType.TEXT,
}
"""What is asked of each person."""

_OF_A_PERSON: Final = frozenset({"surname", "given_name"})
_OF_A_LIST: Final = "list_as_of"
_OF_A_STAY: Final = "usual_place"


@dataclass(frozen=True, slots=True)
class PeopleForm:
    """A form that takes part: its two tables, and where in them the answers are, by the questions' names."""

    form: str
    kind: Kind
    whole: Table
    people: Table
    visit_columns: Mapping[str, str]
    person_columns: Mapping[str, str]


def people_form(form: str, tables: Sequence[Table]) -> PeopleForm | None:
    """Return how a form tells of people; None of one that does not."""
    whole = next((one for one in tables if one.kind is TableKind.QUESTIONNAIRE), None)
    repeats = [one for one in tables if one.kind is TableKind.REPEAT and _asked(one).keys() >= _OF_A_PERSON]
    if whole is None or len(repeats) != 1:
        return None
    (people,) = repeats
    if _OF_A_LIST in _asked(whole):
        kind = Kind.LISTED
    else:
        kind = Kind.TEMPORARY if _OF_A_STAY in _asked(people) else Kind.RESIDENT
    return PeopleForm(form, kind, whole, people, _places(whole, VISIT), _places(people, PERSON))


def _asked(table: Table) -> dict[str, Column]:
    """Return a table's columns by the questions' names, without the groups around them."""
    return {column.name.rpartition("__")[2]: column for column in table.columns}


def _places(table: Table, wanted: Mapping[str, ColumnType]) -> dict[str, str]:
    asked = _asked(table)
    return {name: asked[name].name for name, type_ in wanted.items() if name in asked and asked[name].type is type_}
