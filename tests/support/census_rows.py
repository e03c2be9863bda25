"""A form with a repeat and a select-multiple, and accepted questionnaires of it, for tests of what stores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from central_broker.forms.answers import Finding
from central_broker.forms.tables import Column, ColumnType, Table, TableKind
from central_broker.storage.batch_records import AcceptedEnvelope
from central_broker.storage.census_records import Answers, FormRecord
from tests.support.center import LinkChain

HOUSEHOLD = Table(
    "form_household",
    TableKind.QUESTIONNAIRE,
    (
        Column("village", ColumnType.TEXT),
        Column("rooms", ColumnType.INTEGER),
        Column("area", ColumnType.REAL),
        Column("owned", ColumnType.BOOLEAN),
        Column("visited", ColumnType.DATE),
        Column("begun", ColumnType.TIME),
        Column("ended", ColumnType.TIMESTAMP),
    ),
)
PERSONS = Table("form_household_persons", TableKind.REPEAT, (Column("age", ColumnType.INTEGER),))
LANGUAGES = Table("form_household_persons_languages", TableKind.CHOICES, (Column("choice", ColumnType.TEXT),))
TABLES = (HOUSEHOLD, PERSONS, LANGUAGES)
FORM = FormRecord("household", "1", "Household", b"<form/>", 5)
ANSWERS = ("Аксу", 3, 41.5, True, "2021-10-05", "09:30:00", "2021-10-05T09:55:00+06:00")


def answered(
    chain: LinkChain,
    answers: Sequence[object] = ANSWERS,
    *,
    ages: Sequence[int | None] = (),
    instance: str = "uuid:1",
    replaces: str | None = None,
    findings: Sequence[Finding] = (),
) -> AcceptedEnvelope:
    """An accepted questionnaire with these answers; everybody in it speaks kk and ru."""
    envelope = chain.accepted()
    persons = [(position, 1, age) for position, age in enumerate(ages, start=1)]
    languages = [(position, choice) for position in range(1, len(ages) + 1) for choice in ("kk", "ru")]
    said = Answers(replaces, ((HOUSEHOLD, [tuple(answers)]), (PERSONS, persons), (LANGUAGES, languages)), findings)
    content = replace(envelope.content, form="household", form_version="1", instance_id=instance, answers=said)  # type: ignore[arg-type]  # of a whole questionnaire
    return replace(envelope, content=content)


def known_by_name(chain: LinkChain) -> AcceptedEnvelope:
    """An accepted questionnaire of a form of which the center has no more than its name."""
    envelope = chain.accepted()
    return replace(envelope, content=replace(envelope.content, form="household"))  # type: ignore[arg-type]  # of a whole questionnaire
