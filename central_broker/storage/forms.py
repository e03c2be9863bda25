"""Forms and their tables, and questionnaires made into rows anew: one SQL text for both databases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, LiteralString

from central_broker.forms.tables import Column, ColumnType, Table, TableKind
from central_broker.storage.answering import CensusKey, insert_answers
from central_broker.storage.batch_records import QuestionnaireContent
from central_broker.storage.census_records import FormRecord, Row, StoredQuestionnaire
from central_broker.storage.census_tables import addition, creation, current_view, missing_columns, page, removal
from central_broker.storage.coverage import FORGET
from central_broker.storage.recording import Statements


class Forms:
    """The methods of `contract.Storage` about forms."""

    is_postgresql: bool

    def writing(self) -> AbstractContextManager[Statements]:
        """Open a transaction that commits when the context ends well; raises StorageUnavailable, RowRefused."""
        raise NotImplementedError

    def read(self, sql: LiteralString, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one reading statement; raises StorageUnavailable."""
        raise NotImplementedError

    def read_made(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one reading statement of `census_tables`; raises StorageUnavailable."""
        raise NotImplementedError

    def allow_form(self, form: str, version: str = "") -> None:
        with self.writing() as statements:
            if statements.execute(
                "INSERT INTO form (form, version) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING form",
                (form, version),
            ):
                statements.execute("UPDATE directory_version SET at = at + 1")

    def forms(self) -> list[tuple[str, str]]:
        return [(row[0], row[1]) for row in self.read("SELECT form, version FROM form ORDER BY form, version")]

    def form_records(self) -> list[FormRecord]:
        rows = self.read("SELECT form, version, title, xform, added_at, statement FROM form ORDER BY form, version")
        return [
            FormRecord(
                form,
                version,
                title,
                None if xform is None else bytes(xform),
                added_at,
                None if statement is None else bytes(statement),
            )
            for form, version, title, xform, added_at, statement in rows
        ]

    def form_tables(self, form: str) -> list[Table]:
        return _tables(self.read(_TABLES, (form,)))

    def store_form(self, form: FormRecord, tables: Sequence[Table]) -> None:
        with self.writing() as statements:
            # Whoever adds a form at the same time waits here.
            statements.execute("UPDATE directory_version SET at = at + 1")
            statements.execute(FORGET)
            known = _tables(statements.execute(_TABLES, (form.form,)))
            for table in tables:
                self._extend(statements, form.form, table, known)
            statements.execute(
                "INSERT INTO form (form, version, title, xform, added_at) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT (form, version) DO UPDATE SET title = excluded.title, xform = excluded.xform,"
                " added_at = excluded.added_at",
                (form.form, form.version, form.title, form.xform, form.added_at),
            )

    def publish_form(self, form: str, version: str, statement: bytes, files: Sequence[tuple[str, bytes]] = ()) -> None:
        with self.writing() as statements:
            statements.execute("UPDATE directory_version SET at = at + 1")
            statements.execute("UPDATE form SET statement = NULL WHERE form = %s AND version <> %s", (form, version))
            statements.execute(
                "UPDATE form SET statement = %s WHERE form = %s AND version = %s", (statement, form, version)
            )
            for name, given in files:
                statements.execute(
                    "INSERT INTO form_file (form, name, statement) VALUES (%s, %s, %s)"
                    " ON CONFLICT (form, name) DO UPDATE SET statement = excluded.statement",
                    (form, name, given),
                )

    def form_files(self) -> list[tuple[str, str, bytes]]:
        rows = self.read("SELECT form, name, statement FROM form_file ORDER BY form, name")
        return [(form, name, bytes(statement)) for form, name, statement in rows]

    def _extend(self, statements: Statements, form: str, table: Table, known: Sequence[Table]) -> None:
        missing = missing_columns(table, known)
        if missing is None:
            made, columns = creation(table, postgresql=self.is_postgresql), table.columns
        else:
            made = [addition(table, column, postgresql=self.is_postgresql) for column in missing]
            columns = (*next(one for one in known if one.name == table.name).columns, *missing)
        if not made:
            return
        if table.kind is TableKind.QUESTIONNAIRE:
            made += current_view(table)
        for statement in made:
            statements.make(statement)
        statements.execute(
            "INSERT INTO census_table (name, form, kind, columns) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (name) DO UPDATE SET columns = excluded.columns",
            (table.name, form, table.kind.value, json.dumps([(one.name, one.type.value) for one in columns])),
        )

    def questionnaires(self, form: str, after: tuple[bytes, bytes], limit: int) -> list[StoredQuestionnaire]:
        rows = self.read(
            "SELECT origin, id, batch, form_version, instance_id, media_type, created_at, body FROM questionnaire"
            " WHERE form = %s AND (origin, id) > (%s, %s) ORDER BY origin, id LIMIT %s",
            (form, *after, limit),
        )
        return [
            StoredQuestionnaire(
                bytes(origin), bytes(one), batch, version, instance_id, media_type, created_at, bytes(body)
            )
            for origin, one, batch, version, instance_id, media_type, created_at, body in rows
        ]

    def replace_answers(self, form: str, replaced: Sequence[tuple[StoredQuestionnaire, QuestionnaireContent]]) -> None:
        with self.writing() as statements:
            for table in _tables(statements.execute(_TABLES, (form,))):
                for one, _ in replaced:
                    statements.make(removal(table), (one.origin, one.id))
            for one, content in replaced:
                statements.execute("DELETE FROM finding WHERE origin = %s AND id = %s", (one.origin, one.id))
                statements.set_content(one.origin, one.id, content)
            insert_answers(
                statements,
                [
                    (CensusKey(one.origin, one.id, one.batch, one.form_version, one.instance_id), content)
                    for one, content in replaced
                ],
            )
            # Last, as where questionnaires are read again: so the two never wait for each other in a circle.
            statements.execute(FORGET)

    def rows(self, table: Table, after: Sequence[object], limit: int, *, counting: Table | None) -> list[Row]:
        return self.read_made(page(table, counting), (*after, limit))

    def finding_counts(self, form: str) -> list[tuple[str, str, int]]:
        return [
            (path, rule, count)
            for path, rule, count in self.read(
                "SELECT path, rule, count(*) FROM finding WHERE form = %s GROUP BY path, rule ORDER BY path, rule",
                (form,),
            )
        ]


_TABLES: LiteralString = (
    "SELECT name, kind, columns FROM census_table WHERE form = %s"
    " ORDER BY CASE kind WHEN 'questionnaire' THEN 0 ELSE 1 END, name"
)


def _tables(rows: Sequence[tuple[Any, ...]]) -> list[Table]:
    return [
        Table(name, TableKind(kind), tuple(Column(one, ColumnType(of)) for one, of in json.loads(columns)))
        for name, kind, columns in rows
    ]
