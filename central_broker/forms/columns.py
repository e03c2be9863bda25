"""The census tables of a form, and which question has which column of them. Pure.

What a statistician must know:

- **One row of `form_<form>` is one questionnaire**, whatever its version; of `form_<form>__<repeat>`, one occurrence of
  that repeat; of `form_<form>__<select multiple>`, one choice made. What binds them is said in `tables`. A
  questionnaire that another one replaced, or that is a second one of the same people, is not told apart here.
- **A version adds, and never takes away.** A question that a version does not ask is NULL in its rows. One of the same
  path and type has the same column in all versions, even where its wording or its choices changed. Asked with
  another type, it gets another column (`age` as it first was, `age___integer` since): use both, coalesce(…). Which one
  has the plain name depends on which version this database met first; types of columns never change.
- **A question that moved** into another group or repeat is another question.
- **A blank is NULL**, whether the question was not asked, skipped or left empty.
- **A value that did not fit** is NULL too, and stands in the findings with its path and its row's position.
- A table with more than COLUMNS_MAX columns goes on in a further one (`___2`), with the same keys and as many
  rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from central_broker.forms.definition import AnswerType, FormDefinition, FormRefused, Path, Question
from central_broker.forms.names import alike, column_name, form_table_name, part_name, table_name
from central_broker.forms.plan import Level, Planner
from central_broker.forms.tables import Column, ColumnType, Table, TableKind

COLUMNS_MAX: Final = 300
"""A row of PostgreSQL has to fit into a page of 8 KB, where a text may take 24 bytes before it is moved elsewhere."""

GEOPOINT_COLUMNS: Final = ("latitude", "longitude", "altitude", "accuracy")
CHOICE_COLUMN: Final = Column("choice", ColumnType.TEXT)

_COLUMN_TYPES: Final[Mapping[AnswerType, ColumnType]] = {
    AnswerType.TEXT: ColumnType.TEXT,
    AnswerType.INTEGER: ColumnType.INTEGER,
    AnswerType.DECIMAL: ColumnType.REAL,
    AnswerType.BOOLEAN: ColumnType.BOOLEAN,
    AnswerType.DATE: ColumnType.DATE,
    AnswerType.TIME: ColumnType.TIME,
    AnswerType.DATETIME: ColumnType.TIMESTAMP,
    AnswerType.SELECT_ONE: ColumnType.TEXT,
    AnswerType.FILE: ColumnType.TEXT,
}
_REMEDY: Final = "rename one of them in the form"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the answers to a question are, or the rows of a repeat (without columns)."""

    table: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FormTables:
    """The tables of a form with all columns that they have by now, and how questionnaires of one version fill them."""

    definition: FormDefinition
    tables: tuple[Table, ...]
    """All: also those that only other versions fill."""
    places: Mapping[Path, Place]
    """Of the questions and repeats of this version; () is the questionnaire."""
    top: Level = field(repr=False, compare=False)
    level_count: int = field(repr=False, compare=False)


def tables_of(definition: FormDefinition, before: Sequence[Table] = ()) -> FormTables:
    """Return the tables of a form once this version has been added to `before`, the form's tables so far.

    To read questionnaires of a version, give all tables that there are by then: its columns stay the same ones.
    Raises FormRefused where the form names two things so alike that no safe names tell them apart.
    """
    _check_paths(definition)
    growth = _Growth(definition, before)
    repeats = [repeat.path for repeat in definition.repeats]
    questions: dict[Path, list[Question]] = {path: [] for path in ((), *sorted(repeats, key=len))}
    known = set(repeats)
    for question in definition.questions:
        path = next(path for path in _ancestors(question.path) if path in known or not path)
        questions[path].append(question)
    for path in ((), *repeats):
        growth.add_level(path, questions[path])
    for question in definition.questions:
        if question.type is AnswerType.SELECT_MULTIPLE:
            growth.add_choices(question.path)
    tables = growth.tables()
    numbers = {table.name: number for number, table in enumerate(tables)}
    planner = Planner()
    levels = [growth.plan(planner, path, asked, numbers) for path, asked in questions.items()]
    return FormTables(definition, tables, growth.places, levels[0], len(levels))


def _ancestors(path: Path) -> list[Path]:
    return [path[:length] for length in range(len(path) - 1, -1, -1)]


def _check_paths(definition: FormDefinition) -> None:
    """Refuse what no XForm gives: a question asked twice, or with questions in it."""
    leaves = [question.path for question in definition.questions]
    inner = {ancestor for path in leaves for ancestor in _ancestors(path)} | {
        repeat.path for repeat in definition.repeats
    }
    inner |= {ancestor for repeat in definition.repeats for ancestor in _ancestors(repeat.path)}
    twice = len(set(leaves)) < len(leaves) or len(set(definition.repeats)) < len(definition.repeats)
    if twice or () in leaves or inner & set(leaves):
        raise FormRefused("the form has two things at one path, or answers around others", _REMEDY)


class _Columns:
    """The columns of one level, in all its tables, while they grow."""

    def __init__(self, name: str, kind: TableKind, before: Mapping[str, Table]) -> None:
        self.name = name
        self.kind = kind
        self.parts: list[list[Column]] = []
        while (table := before.get(part_name(name, len(self.parts) + 1))) is not None:
            self.parts.append(list(table.columns))
        if not self.parts:
            self.parts.append([])
        self._types = {column.name: column.type for part in self.parts for column in part}
        self._part_of = {column.name: number for number, part in enumerate(self.parts) for column in part}
        self._taken: set[str] = set()

    def add(self, question: Question, below: Path, *, told_apart: bool) -> Place:
        """Return the place of a question, which is there from now on; `below` is its path below this level."""
        if question.type is AnswerType.GEOPOINT:
            kind = ColumnType.REAL
            names = tuple(column_name(below, told_apart=told_apart, tag=tag) for tag in GEOPOINT_COLUMNS)
        else:
            kind = _COLUMN_TYPES[question.type]
            name = column_name(below, told_apart=told_apart)
            if self._types.get(name, kind) is not kind:
                name = column_name(below, told_apart=told_apart, tag=kind.name.lower())
            names = (name,)
        for name in names:
            if name in self._taken or self._types.get(name, kind) is not kind:
                raise FormRefused(f"the form has two questions that give the column {name} of {self.name}", _REMEDY)
            self._taken.add(name)
        if names[0] not in self._types:
            if len(self.parts[-1]) + len(names) > COLUMNS_MAX:
                self.parts.append([])
            self.parts[-1] += [Column(name, kind) for name in names]
            self._types |= dict.fromkeys(names, kind)
            self._part_of |= dict.fromkeys(names, len(self.parts) - 1)
        return Place(part_name(self.name, self._part_of[names[0]] + 1), names)

    def tables(self) -> list[Table]:
        return [Table(part_name(self.name, at), self.kind, tuple(part)) for at, part in enumerate(self.parts, start=1)]

    def indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(column.name for part in self.parts for column in part)}

    def spans(self, numbers: Mapping[str, int]) -> tuple[tuple[int, int, int], ...]:
        spans: list[tuple[int, int, int]] = []
        start = 0
        for at, part in enumerate(self.parts, start=1):
            spans.append((numbers[part_name(self.name, at)], start, start + len(part)))
            start += len(part)
        return tuple(spans)


class _Growth:
    """All tables of a form while a version is added to them."""

    def __init__(self, definition: FormDefinition, before: Sequence[Table]) -> None:
        self._form = definition.form
        self._before = {table.name: table for table in before}
        multiples = [one.path for one in definition.questions if one.type is AnswerType.SELECT_MULTIPLE]
        self._alike = alike([*(repeat.path for repeat in definition.repeats), *multiples])
        self._levels: dict[Path, _Columns] = {}
        self._choices: dict[Path, Table] = {}
        self._names: set[str] = set()
        self.places: dict[Path, Place] = {}

    def _table_name(self, path: Path, kind: TableKind) -> str:
        told_apart = path in self._alike
        name = table_name(self._form, path, told_apart=told_apart) if path else form_table_name(self._form)
        if name in self._before and self._before[name].kind is not kind:
            name = table_name(self._form, path, told_apart=told_apart, tag=kind.value)
        if name in self._names:
            raise FormRefused(f"the form has two repeats or select-multiples that give the table {name}", _REMEDY)
        self._names.add(name)
        return name

    def add_level(self, path: Path, questions: Sequence[Question]) -> None:
        kind = TableKind.REPEAT if path else TableKind.QUESTIONNAIRE
        name = self._table_name(path, kind)
        columns = self._levels[path] = _Columns(name, kind, self._before)
        self.places[path] = Place(name)
        asked = {one.path[len(path) :]: one for one in questions if one.type is not AnswerType.SELECT_MULTIPLE}
        same = alike(asked)
        for below, question in asked.items():
            self.places[question.path] = columns.add(question, below, told_apart=below in same)

    def add_choices(self, path: Path) -> None:
        name = self._table_name(path, TableKind.CHOICES)
        self._choices[path] = self._before.get(name, Table(name, TableKind.CHOICES, (CHOICE_COLUMN,)))
        self.places[path] = Place(name, (CHOICE_COLUMN.name,))

    def tables(self) -> tuple[Table, ...]:
        grown = {table.name: table for columns in self._levels.values() for table in columns.tables()}
        grown |= {table.name: table for table in self._choices.values()}
        return tuple((self._before | grown).values())

    def plan(self, planner: Planner, path: Path, questions: Sequence[Question], numbers: Mapping[str, int]) -> Level:
        columns = self._levels[path]
        indices = columns.indices()
        first_columns = {
            one.path: indices[self.places[one.path].columns[0]] for one in questions if one.path not in self._choices
        }
        return planner.add_level(
            path,
            questions,
            parts=columns.spans(numbers),
            indices=first_columns,
            tables={one.path: numbers[self._choices[one.path].name] for one in questions if one.path in self._choices},
        )
