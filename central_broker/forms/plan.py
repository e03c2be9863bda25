"""How a questionnaire of a form is read: its elements by name, each with its reader and its place in a row.

Made once for a version of a form (`columns`), followed for each of its questionnaires (`answers`). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from central_broker.forms.definition import AnswerType, Path, Question
from central_broker.forms.values import READERS, Patient, Quick, patient_text, quick_choice, quick_other


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A question with columns: four from `index` on for a geopoint, one for any other."""

    path: Path
    index: int
    type: AnswerType
    choices: frozenset[str] | None
    quick: Quick
    patient: Patient


@dataclass(frozen=True, slots=True, eq=False)
class Multiple:
    """A select-multiple: rows of its own. `number` tells it from the columns of the row that it belongs to."""

    path: Path
    number: int
    table: int
    choices: frozenset[str] | None


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """An element with elements in it. Those that are asked for often come first, in `leaves`."""

    path: Path
    leaves: dict[str, tuple[int, Quick, Leaf]] = field(default_factory=dict)
    others: dict[str, Group | Level | Multiple] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """What has rows: the questionnaire itself, or a repeat in it.

    A row is `width` values; `parts` say which of them go to which table (by its number among the form's tables).
    `required` names questions by the index of their first column, select-multiples by their number.
    """

    path: Path
    number: int
    width: int
    parts: tuple[tuple[int, int, int], ...]
    required: tuple[tuple[int, Path], ...]
    group: Group


class Planner:
    """Puts the levels of a form together; parents of repeats first."""

    def __init__(self) -> None:
        self._levels: list[Path] = []
        self._groups: dict[Path, Group] = {}

    def add_level(
        self,
        path: Path,
        questions: Iterable[Question],
        *,
        parts: tuple[tuple[int, int, int], ...],
        indices: Mapping[Path, int],
        tables: Mapping[Path, int],
    ) -> Level:
        """Add a level with its questions; `indices` are those of their first columns in a row.

        `tables` are the numbers of the select-multiples' tables.
        """
        group = Group(path)
        required: list[tuple[int, Path]] = []
        self._groups[path] = group
        for number, question in enumerate(questions, start=1):
            home = self._group(question.path[:-1])
            if question.type is AnswerType.SELECT_MULTIPLE:
                key = -number
                multiple = Multiple(question.path, key, tables[question.path], question.choices)
                home.others[question.path[-1]] = multiple
            else:
                key = indices[question.path]
                leaf = _leaf(question, key)
                home.leaves[question.path[-1]] = (key, leaf.quick, leaf)
            if question.required:
                required.append((key, question.path))
        level = Level(path, len(self._levels), parts[-1][2], parts, tuple(required), group)
        if path:
            self._group(path[:-1]).others[path[-1]] = level
        self._levels.append(path)
        return level

    def _group(self, path: Path) -> Group:
        found = self._groups.get(path)
        if found is None:
            found = self._groups[path] = Group(path)
            self._group(path[:-1]).others[path[-1]] = found
        return found


def _leaf(question: Question, index: int) -> Leaf:
    quick: Quick
    patient: Patient
    if question.type is AnswerType.SELECT_ONE:
        quick, patient = quick_choice(question.choices), patient_text
    elif question.type is AnswerType.GEOPOINT:
        quick, patient = quick_other, patient_text
    else:
        quick, patient = READERS[question.type]
    return Leaf(question.path, index, question.type, question.choices, quick, patient)
