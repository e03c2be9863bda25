"""Questionnaires to rows of the census tables, and what in them does not fit. Pure, and the consumer's hot path.

A questionnaire is never refused for what it contains: whatever does not fit is told as a finding, and all else is kept.
What is read is what `content_decoding` makes of XForm XML (leaves are texts, an element that occurs once is no list) or
of JSON (numbers, booleans and null too). The work is linear in the content, and what comes of it is bounded.

What is no finding: a blank, wherever it is (unless required: see `Question`); the elements `meta` and, at the root, the
members by which JSON names its form and instance; a note's empty element.

An occurrence of a repeat is a row even where it is blank: somebody added it. null is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from central_broker.forms.columns import FormTables
from central_broker.forms.definition import AnswerType, Path
from central_broker.forms.plan import Group, Leaf, Level, Multiple
from central_broker.forms.values import CHOICE_CHARACTERS_MAX, ODD, Rule, Value, geopoint_of, text_of

CELLS_MAX: Final = 10_000_000
"""In the rows of one questionnaire: 100,000 persons with 90 questions, more than fit into its 10 MB but as blanks."""

ROW_CELLS: Final = 8
"""What a row costs beside its values: its keys, and its own making."""

FINDINGS_MAX: Final = 10_000
"""Of one questionnaire; the rest is counted."""

FINDING_CHARACTERS_MAX: Final = 1_000
"""The value of a finding is cut to this; the whole stands in the questionnaire's content."""

CHOICES_MAX: Final = 10_000
"""Of one answer; a question that offers more is no question."""

NAME_CHARACTERS_MAX: Final = 200
"""Names that the form does not know are cut to this."""

Row = tuple[Value, ...]

_META: Final = "meta"
_TEXT: Final = "#text"
_MARKS: Final = frozenset({"@id", "@version", "@attachments", "form", "form_version", "instance_id", "instanceID"})


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not fit. `position` is that of the row that it belongs to: 1 in the questionnaire itself."""

    path: Path
    position: int
    rule: Rule
    value: str


@dataclass(frozen=True, slots=True)
class Tabulated:
    """The rows of one questionnaire: a list for each of `FormTables.tables`, in the same order.

    A row of the questionnaire is its columns; of a repeat, position, parent_position and its columns; of a
    select-multiple, the position of the row that it belongs to, and the choice. No (position, choice) comes twice.
    """

    rows: tuple[list[Row], ...]
    findings: list[Finding]


def rows_of(tables: FormTables, content: Mapping[str, Any]) -> Tabulated:
    """Return the rows and findings of a questionnaire's content, a JSON object; raises nothing for what it contains."""
    reading = _Reading(tables)
    reading.row(tables.top, content, 1)
    return Tabulated(reading.rows, reading.ended())


class _Row:
    """A row being filled. `settled` are the questions that are not blank, but have no value in it."""

    __slots__ = ("position", "settled", "values")

    def __init__(self, position: int, width: int) -> None:
        self.position = position
        self.values: list[Value] = [None] * width
        self.settled: list[int] = []


class _Reading:
    """One questionnaire being read."""

    __slots__ = ("_cells_left", "_findings", "_findings_left_out", "_positions", "_rows_left_out", "rows")

    def __init__(self, tables: FormTables) -> None:
        self.rows: tuple[list[Row], ...] = tuple([[] for _ in tables.tables])
        self._positions = [0] * tables.level_count
        self._cells_left = CELLS_MAX
        self._findings: list[Finding] = []
        self._findings_left_out = 0
        self._rows_left_out = 0

    def ended(self) -> list[Finding]:
        """Return the findings, with what was left out at their end."""
        if self._rows_left_out:
            self._findings.append(Finding((), 1, Rule.TOO_MANY_ROWS, str(self._rows_left_out)))
        if self._findings_left_out:
            self._findings.append(Finding((), 1, Rule.TOO_MANY_FINDINGS, str(self._findings_left_out)))
        return self._findings

    def row(self, level: Level, content: Mapping[str, Any], parent_position: int) -> None:
        """Read one occurrence of a level, with all that lies in it."""
        if not self._has_room(level.width + len(level.required)):
            return
        position = self._positions[level.number] = self._positions[level.number] + 1
        row = _Row(position, level.width)
        self._fill(level.group, content, row)
        values = row.values
        if level.required:
            settled = set(row.settled)
            for number, path in level.required:
                if (number < 0 or values[number] is None) and number not in settled:
                    self._find(path, position, Rule.MISSING_REQUIRED, "")
        for table, start, end in level.parts:
            part = values if len(level.parts) == 1 else values[start:end]
            self.rows[table].append((position, parent_position, *part) if level.path else tuple(part))

    def _has_room(self, cells: int) -> bool:
        if self._cells_left > 0:
            self._cells_left -= cells + ROW_CELLS
            return True
        self._rows_left_out += 1
        return False

    def _find(self, path: Path, position: int, rule: Rule, value: Any) -> None:
        if len(self._findings) < FINDINGS_MAX:
            self._findings.append(Finding(path, position, rule, _shown(value)))
        else:
            self._findings_left_out += 1

    def _fill(self, group: Group, content: Mapping[str, Any], row: _Row) -> None:
        leaves = group.leaves
        values = row.values
        for name, value in content.items():
            entry = leaves.get(name)
            if entry is None:
                self._read_other(group, name, value, row)
                continue
            index, quick, leaf = entry
            found = quick(value)
            if found is ODD:
                self._read_patiently(leaf, value, row)
            else:
                values[index] = found

    def _read_other(self, group: Group, name: str, value: Any, row: _Row) -> None:
        part = group.others.get(name)
        if isinstance(part, Level):
            self._read_repeat(part, value, row.position)
        elif isinstance(part, Multiple):
            self._read_choices(part, value, row)
        elif isinstance(part, Group):
            for content in [value] if isinstance(value, dict) else self._first_of(part.path, value, row.position):
                if isinstance(content, dict):
                    self._fill(part, content, row)
                else:
                    self._find(part.path, row.position, Rule.UNEXPECTED_STRUCTURE, content)
        elif name == _META or (not group.path and name in _MARKS) or _is_blank(value):
            pass
        elif name == _TEXT:
            self._find(group.path, row.position, Rule.UNEXPECTED_STRUCTURE, value)
        else:
            self._find((*group.path, name[:NAME_CHARACTERS_MAX]), row.position, Rule.NOT_IN_FORM, value)

    def _first_of(self, path: Path, value: Any, position: int) -> list[Any]:
        """Return what is not blank of a value that should be there once, at most one; the others are found."""
        values = value if isinstance(value, list) else [value]
        filled = [one for one in values if not _is_blank(one)]
        for other in filled[1:]:
            self._find(path, position, Rule.OCCURS_TWICE, other)
        return filled[:1]

    def _read_repeat(self, level: Level, value: Any, parent_position: int) -> None:
        for occurrence in value if isinstance(value, list) else (value,):
            if isinstance(occurrence, dict):
                self.row(level, occurrence, parent_position)
            elif isinstance(occurrence, str) and (not occurrence or occurrence.isspace()):
                self.row(level, {}, parent_position)
            elif occurrence is not None:
                self._find(level.path, parent_position, Rule.UNEXPECTED_STRUCTURE, occurrence)

    def _read_choices(self, multiple: Multiple, value: Any, row: _Row) -> None:
        choices = multiple.choices
        chosen: set[str] = set()
        words: list[str] = []
        for one in value if isinstance(value, list) else (value,):
            if not isinstance(one, dict | list):
                # The last word of too many is all that remains, and too long for a choice.
                words += () if one is None else text_of(one).split(maxsplit=CHOICES_MAX)
            elif not _is_blank(one):
                row.settled.append(multiple.number)
                self._find(multiple.path, row.position, Rule.UNEXPECTED_STRUCTURE, one)
        if words:
            row.settled.append(multiple.number)
        for choice in words:
            known = choices is not None and choice in choices
            if len(choice) > CHOICE_CHARACTERS_MAX and not known:
                self._find(multiple.path, row.position, Rule.TOO_LONG, choice)
            elif choice in chosen:
                self._find(multiple.path, row.position, Rule.OCCURS_TWICE, choice)
            else:
                chosen.add(choice)
                if choices is not None and not known:
                    self._find(multiple.path, row.position, Rule.NOT_A_CHOICE, choice)
                if self._has_room(0):
                    self.rows[multiple.table].append((row.position, choice))

    def _read_patiently(self, leaf: Leaf, value: Any, row: _Row) -> None:
        """Read what the quick reader did not: blanks among it, and whatever does not fit."""
        for one in self._first_of(leaf.path, value, row.position):
            row.settled.append(leaf.index)
            found = Rule.UNEXPECTED_STRUCTURE if isinstance(one, dict | list) else self._read_scalar(leaf, one, row)
            if isinstance(found, Rule):
                self._find(leaf.path, row.position, found, one)

    def _read_scalar(self, leaf: Leaf, value: Any, row: _Row) -> Rule | None:
        """Put a scalar into the row, or say what is the matter with it; a choice may be both."""
        whole = text_of(value)
        text = whole.strip()
        index = leaf.index
        if leaf.type is AnswerType.GEOPOINT:
            place = geopoint_of(text)
            if isinstance(place, Rule):
                return place
            row.values[index : index + len(place)] = place
            return None
        if leaf.type is AnswerType.SELECT_ONE:
            known = leaf.choices is not None and text in leaf.choices
            if len(text) > CHOICE_CHARACTERS_MAX and not known:
                return Rule.TOO_LONG
            row.values[index] = text
            return None if known or leaf.choices is None else Rule.NOT_A_CHOICE
        found = leaf.patient(whole if leaf.type is AnswerType.TEXT else text)
        if isinstance(found, Rule):
            return found
        row.values[index] = found
        return None


def _is_blank(value: Any) -> bool:
    """Tell whether nothing but empty texts, null and empty lists and objects is in a value."""
    if isinstance(value, str):
        return not value or value.isspace()
    if not isinstance(value, dict | list):
        return value is None
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
        elif one is not None and not (isinstance(one, str) and (not one or one.isspace())):
            return False
    return True


def _shown(value: Any) -> str:
    """Return a value as the text of a finding: scalars as they are, structures as JSON, cut where it is long."""
    if isinstance(value, dict | list):
        try:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        except (RecursionError, ValueError):  # deeper, or with more digits, than is ever decoded
            text = "a structure that cannot be written"
    else:
        text = "null" if value is None else text_of(value)
    return text if len(text) <= FINDING_CHARACTERS_MAX else f"{text[: FINDING_CHARACTERS_MAX - 1]}…"
