"""Rows of questionnaires in both databases: a column takes all that can stand in it, and a full row fits a page."""

import sqlite3
from typing import Any

import psycopg
import pytest
from psycopg import sql

from central_broker.forms.answers import rows_of
from central_broker.forms.columns import COLUMNS_MAX, FormTables
from central_broker.forms.definition import AnswerType
from central_broker.forms.tables import ColumnType, TableKind
from central_broker.forms.values import CHOICE_CHARACTERS_MAX
from tests.support.xforms import asked, tables_with

SQLITE_TYPES = {ColumnType.INTEGER: "INTEGER", ColumnType.REAL: "REAL", ColumnType.BOOLEAN: "INTEGER"}
KEYS = {
    TableKind.QUESTIONNAIRE: (),
    TableKind.REPEAT: ("position", "parent_position"),
    TableKind.CHOICES: ("position",),
}
ORIGIN_AND_ID = "x" * 50
EXTREMES: dict[AnswerType, list[Any]] = {
    AnswerType.TEXT: ["x" * 100_000, "ж'\"\\\ufffd\U0001f600"],
    AnswerType.INTEGER: ["9223372036854775807", "-9223372036854775808"],
    AnswerType.DECIMAL: ["1.7976931348623157e308", "2.2250738585072014e-308", "-0"],
    AnswerType.BOOLEAN: ["true", "0"],
    AnswerType.DATE: ["0001-01-01", "9999-12-31"],
    AnswerType.TIME: ["24:00:00", "23:59:59.999999999"],
    AnswerType.DATETIME: ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2026-12-31T24:00:00-14:00"],
    AnswerType.GEOPOINT: ["-90 180 1e308 0", "0 0"],
    AnswerType.SELECT_ONE: ["ж" * CHOICE_CHARACTERS_MAX],
    AnswerType.SELECT_MULTIPLE: ["ж" * CHOICE_CHARACTERS_MAX + " a b"],
    AnswerType.FILE: ["1.jpg"],
}
QUESTIONS = tuple(asked(f"order/{kind}", kind) for kind in AnswerType)
TABLES = tables_with(
    *(asked(one.value, one) for one in AnswerType), *QUESTIONS, asked("xmin"), asked("user"), repeats=(("order",),)
)
CONTENTS: list[dict[str, Any]] = [
    {kind: values[0] for kind, values in EXTREMES.items()} | {"xmin": "a", "user": "b"},
    {"order": [{kind: value} for kind, values in EXTREMES.items() for value in values]},
]


def columns_of(tables: FormTables, number: int) -> list[tuple[str, ColumnType]]:
    table = tables.tables[number]
    keys = [("key", ColumnType.TEXT), *((name, ColumnType.INTEGER) for name in KEYS[table.kind])]
    return [*keys, *((column.name, column.type) for column in table.columns)]


def rows_with_keys(tables: FormTables, content: dict[str, Any], number: int) -> list[tuple[Any, ...]]:
    return [(ORIGIN_AND_ID, *row) for row in rows_of(tables, content).rows[number]]


def fill_sqlite(tables: FormTables, contents: list[dict[str, Any]]) -> int:
    connection = sqlite3.connect(":memory:")
    for number, table in enumerate(tables.tables):
        names = ", ".join(f'"{name}" {SQLITE_TYPES.get(kind, "TEXT")}' for name, kind in columns_of(tables, number))
        connection.execute(f'CREATE TABLE "{table.name}" ({names}) STRICT')
        marks = ", ".join("?" * len(columns_of(tables, number)))
        for content in contents:
            connection.executemany(
                f'INSERT INTO "{table.name}" VALUES ({marks})', rows_with_keys(tables, content, number)
            )
    counts = [connection.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0] for table in tables.tables]
    connection.close()
    return sum(counts)


def fill_postgresql(dsn: str, tables: FormTables, contents: list[dict[str, Any]]) -> int:
    count = 0
    with psycopg.connect(dsn) as connection:
        for number, table in enumerate(tables.tables):
            columns = columns_of(tables, number)
            named = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind.value)) for name, kind in columns]
            connection.execute(
                sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(table.name), sql.SQL(", ").join(named))
            )
            if table.kind is TableKind.CHOICES:
                connection.execute(sql.SQL("CREATE INDEX ON {} (choice)").format(sql.Identifier(table.name)))
            statement = sql.SQL("INSERT INTO {} VALUES ({})").format(
                sql.Identifier(table.name), sql.SQL(", ").join([sql.Placeholder()] * len(columns))
            )
            for content in contents:
                for row in rows_with_keys(tables, content, number):
                    connection.execute(statement, row)
                    count += 1
    return count


def full_form(kind: AnswerType) -> tuple[FormTables, list[dict[str, Any]]]:
    """Return a form of as many columns as a table has, and a questionnaire whose values PostgreSQL keeps in the row."""
    names = [f"q{number}" for number in range(COLUMNS_MAX)]
    value = "x" * 23 if kind is AnswerType.TEXT else EXTREMES[kind][0]
    return tables_with(*(asked(f"p/{name}", kind) for name in names), repeats=(("p",),)), [
        {"p": [dict.fromkeys(names, value)]}
    ]


@pytest.mark.parametrize("kind", [AnswerType.TEXT, AnswerType.INTEGER, AnswerType.DATETIME])
def test_a_full_row_fits_a_page(quick_postgresql_dsn: str, kind: AnswerType) -> None:
    tables, contents = full_form(kind)
    assert fill_postgresql(quick_postgresql_dsn, tables, contents) == 2 == fill_sqlite(tables, contents)


def test_every_value_is_taken_by_the_column_that_it_is_for(quick_postgresql_dsn: str) -> None:
    assert not [finding for content in CONTENTS for finding in rows_of(TABLES, content).findings]
    expected = sum(len(rows) for content in CONTENTS for rows in rows_of(TABLES, content).rows)
    assert expected == 2 + 21 + 3 + 3
    assert fill_sqlite(TABLES, CONTENTS) == expected
    assert fill_postgresql(quick_postgresql_dsn, TABLES, CONTENTS) == expected
