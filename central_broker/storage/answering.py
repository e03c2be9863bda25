"""Rows of questionnaires into the census tables, written once for both databases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, LiteralString, Protocol

from central_broker.forms.tables import Table, TableKind
from central_broker.storage.batch_records import QuestionnaireContent
from central_broker.storage.census_records import Row


@dataclass(frozen=True, slots=True)
class CensusKey:
    """What the census tables know a questionnaire by; `batch` names the transaction that committed it."""

    origin: bytes
    id: bytes
    batch: int
    form_version: str
    instance_id: str


class AnswerStatements(Protocol):
    """The part of `recording.Statements` that is needed here."""

    def insert_answers(self, table: Table, rows: Sequence[Sequence[object]]) -> None: ...

    def insert_rows(
        self, table: LiteralString, columns: Sequence[tuple[LiteralString, LiteralString]], rows: Sequence[Row]
    ) -> None: ...


_FINDING: Final[tuple[tuple[LiteralString, LiteralString], ...]] = (
    ("origin", "bytea"),
    ("id", "bytea"),
    ("form", "text"),
    ("path", "text"),
    ("position", "integer"),
    ("rule", "text"),
    ("value", "text"),
)


def insert_answers(statements: AnswerStatements, given: Iterable[tuple[CensusKey, QuestionnaireContent]]) -> None:
    """Insert the rows and findings of questionnaires, table by table; of those without answers, nothing."""
    by_table: dict[int, tuple[Table, list[Sequence[object]]]] = {}
    findings: list[Row] = []
    for key, content in given:
        answers = content.answers
        if answers is None:
            continue
        whole = (key.origin, key.id)
        about = (*whole, key.batch, key.form_version, key.instance_id, answers.replaces)
        for table, rows in answers.rows:
            before = about if table.kind is TableKind.QUESTIONNAIRE else whole
            # Tables are many columns wide, and the same objects for every questionnaire of a version.
            _, collected = by_table.setdefault(id(table), (table, []))
            collected.extend((*before, *row) for row in rows)
        findings.extend(
            (*whole, content.form, "/".join(one.path), one.position, one.rule.value, one.value)
            for one in answers.findings
        )
    for table, collected in sorted(by_table.values(), key=lambda one: one[0].name):
        statements.insert_answers(table, collected)
    if findings:
        statements.insert_rows("finding", _FINDING, findings)
