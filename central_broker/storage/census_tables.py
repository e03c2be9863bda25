"""The tables that forms make (`central_broker.forms.tables`), as SQL for both databases.

Every name is checked before it becomes part of a statement: the two databases take no parameters there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from central_broker.forms.tables import Column, ColumnType, Table, TableKind
from central_broker.storage.contract import StorageRefused

KEY: Final = ("origin", "id")
KEYS: Final = {
    TableKind.QUESTIONNAIRE: KEY,
    TableKind.REPEAT: (*KEY, "position"),
    TableKind.CHOICES: (*KEY, "position", "choice"),
}
"""The primary key of each kind. It begins with the origin, so that the tables can be hash-partitioned by it."""

_ABOUT: Final = {
    TableKind.QUESTIONNAIRE: (
        ("origin", "bytea", "BLOB"),
        ("id", "bytea", "BLOB"),
        ("batch", "bigint", "INTEGER"),
        ("form_version", "text", "TEXT"),
        ("instance_id", "text", "TEXT"),
        ("replaces", "text", "TEXT"),
    ),
    TableKind.REPEAT: (
        ("origin", "bytea", "BLOB"),
        ("id", "bytea", "BLOB"),
        ("position", "integer", "INTEGER"),
        ("parent_position", "integer", "INTEGER"),
    ),
    TableKind.CHOICES: (
        ("origin", "bytea", "BLOB"),
        ("id", "bytea", "BLOB"),
        ("position", "integer", "INTEGER"),
    ),
}
"""What each kind has before its answers: (name, type in PostgreSQL, in SQLite)."""

_NULLABLE: Final = frozenset({"replaces"})

_SQLITE_TYPES: Final = {
    ColumnType.TEXT: "TEXT",
    ColumnType.INTEGER: "INTEGER",
    ColumnType.REAL: "REAL",
    ColumnType.BOOLEAN: "INTEGER",
    ColumnType.DATE: "TEXT",
    ColumnType.TIME: "TEXT",
    ColumnType.TIMESTAMP: "TEXT",
}

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_CURRENT: Final = "_current"


def key_columns(kind: TableKind) -> tuple[str, ...]:
    """Return the names of the columns before the answers, in the order in which rows have them."""
    return tuple(name for name, _, _ in _ABOUT[kind])


def postgresql_types(table: Table) -> tuple[str, ...]:
    """Return the types of all columns, those before the answers included."""
    return (*(kind for _, kind, _ in _ABOUT[table.kind]), *(column.type.value for column in table.columns))


def creation(table: Table, *, postgresql: bool) -> list[str]:
    """Return the statements that make a table."""
    about = [
        f"{name} {on_postgresql if postgresql else on_sqlite}{'' if name in _NULLABLE else ' NOT NULL'}"
        for name, on_postgresql, on_sqlite in _ABOUT[table.kind]
    ]
    answers = [_column(column, postgresql=postgresql) for column in table.columns]
    key = ", ".join(KEYS[table.kind])
    strict = "" if postgresql else " STRICT"
    name = quoted(table.name)
    statements = [f"CREATE TABLE {name} ({', '.join([*about, *answers])}, PRIMARY KEY ({key})){strict}"]
    if table.kind is TableKind.QUESTIONNAIRE:
        for column in ("instance_id", "replaces"):
            index = quoted(f"{table.name}_{column}"[:63])
            statements.append(f"CREATE INDEX {index} ON {name} ({column})")
    return statements


def addition(table: Table, column: Column, *, postgresql: bool) -> str:
    """Return the statement that adds a column to a table."""
    return f"ALTER TABLE {quoted(table.name)} ADD COLUMN {_column(column, postgresql=postgresql)}"


def insertion(table: Table, *, postgresql: bool) -> str:
    """Return the statement that inserts rows of (key columns, answers in the order of `table.columns`).

    On PostgreSQL its parameters are an array for each column; on SQLite a value for each.
    """
    names = [*key_columns(table.kind), *(column.name for column in table.columns)]
    target = f"INSERT INTO {quoted(table.name)} ({', '.join(map(quoted, names))})"
    if not postgresql:
        return f"{target} VALUES ({', '.join('?' * len(names))})"
    types = postgresql_types(table)
    # Dates and times travel as text: what a database makes of them is the same then, whichever way they came.
    travels = [kind if kind in _AS_THEMSELVES else "text" for kind in types]
    arrays = ", ".join(f"%b::{kind}[]" for kind in travels)
    selected = ", ".join(f"v{place}::{kind}" for place, kind in enumerate(types))
    names_of_values = ", ".join(f"v{place}" for place in range(len(types)))
    return f"{target} SELECT {selected} FROM unnest({arrays}) AS given ({names_of_values})"  # noqa: S608 - the same


_AS_THEMSELVES: Final = frozenset({"bytea", "text", "integer", "bigint", "double precision", "boolean"})


def page(table: Table, whole: Table | None) -> str:
    """Return the statement that reads rows by their key: its parameters are the key after which to begin, and a limit.

    With `whole`, the table of the form's questionnaires, only those that count (`current_view`).
    """
    names = [*key_columns(table.kind), *(column.name for column in table.columns)]
    key = ", ".join(f"t.{quoted(name)}" for name in KEYS[table.kind])
    marks = ", ".join(["%s"] * len(KEYS[table.kind]))
    only = ""
    if whole is not None:
        only = f" AND EXISTS (SELECT 1 FROM {view_name(whole)} c WHERE c.origin = t.origin AND c.id = t.id)"  # noqa: S608 - names are checked
    return (
        f"SELECT {', '.join(f't.{quoted(name)}' for name in names)} FROM {quoted(table.name)} t"  # noqa: S608 - names are checked
        f" WHERE ({key}) > ({marks}){only} ORDER BY {key} LIMIT %s"
    )


def first_key(kind: TableKind) -> tuple[object, ...]:
    """Return a key that is before all others."""
    return (b"", b"", 0, "")[: len(KEYS[kind])]


def removal(table: Table) -> str:
    """Return the statement that takes a questionnaire's rows (by origin and id) out of a table."""
    return f"DELETE FROM {quoted(table.name)} WHERE origin = %s AND id = %s"  # noqa: S608 - the name is checked


def current_view(table: Table) -> list[str]:
    """Return the statements that make a view of the questionnaires that count: those that no edit has replaced, and of
    several with one instance id the one committed first.
    """
    name, view = quoted(table.name), view_name(table)
    return [
        f"DROP VIEW IF EXISTS {view}",
        f"CREATE VIEW {view} AS SELECT one.* FROM {name} one"  # noqa: S608 - the name is checked
        f" WHERE NOT EXISTS (SELECT 1 FROM {name} edit WHERE edit.replaces = one.instance_id"
        " AND (edit.origin, edit.id) <> (one.origin, one.id))"
        f" AND NOT EXISTS (SELECT 1 FROM {name} twin WHERE twin.instance_id = one.instance_id"
        " AND (twin.batch, twin.origin, twin.id) < (one.batch, one.origin, one.id))",
    ]


def view_name(table: Table) -> str:
    """Return the name of the view that `current_view` makes, quoted."""
    return quoted(table.name[: 63 - len(_CURRENT)] + _CURRENT)


def missing_columns(table: Table, known: Sequence[Table]) -> list[Column] | None:
    """Return the columns that a known table lacks; None when the table itself is not known."""
    for one in known:
        if one.name == table.name:
            names = {column.name: column.type for column in one.columns}
            changed = [
                column.name for column in table.columns if names.get(column.name, column.type) is not column.type
            ]
            if changed or one.kind is not table.kind:
                raise StorageRefused(f"table {table.name} has other columns of the names {', '.join(changed)}")
            return [column for column in table.columns if column.name not in names]
    return None


def quoted(name: str) -> str:
    """Return a name as both databases take it; raises StorageRefused for one that is not as `tables` promises."""
    if not _NAME.fullmatch(name):
        raise StorageRefused(f"{name!r} cannot be the name of a table or column")
    return f'"{name}"'


def _column(column: Column, *, postgresql: bool) -> str:
    return f"{quoted(column.name)} {column.type.value if postgresql else _SQLITE_TYPES[column.type]}"
