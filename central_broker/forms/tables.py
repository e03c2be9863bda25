"""The census tables of a form: one for its questionnaires, one for each repeat, one for each select-multiple.

Every table begins with the key of the questionnaire (origin, id of its envelope); that of a repeat goes on with
`position` (1, 2, 3 … through the whole questionnaire, in document order) and `parent_position` (of the repeat around
it; 1 where that is the questionnaire itself); that of a select-multiple with `position` (of the row that it belongs to:
1 where that is the questionnaire itself).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ColumnType(Enum):
    """By what PostgreSQL calls it; SQLite keeps dates and times as ISO 8601 text."""

    TEXT = "text"
    INTEGER = "bigint"
    REAL = "double precision"
    BOOLEAN = "boolean"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamptz"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of answers; the key columns are not among them."""

    name: str
    type: ColumnType


class TableKind(Enum):
    """What a row of a table stands for, and so which key columns it has."""

    QUESTIONNAIRE = "questionnaire"
    REPEAT = "repeat"
    CHOICES = "choices"


@dataclass(frozen=True, slots=True)
class Table:
    """One census table. Names are safe in both databases: lower-case ASCII letters, digits, _, at most 63 bytes."""

    name: str
    kind: TableKind
    columns: tuple[Column, ...]
