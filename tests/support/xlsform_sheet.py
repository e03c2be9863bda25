"""An XLSForm in Markdown, read without pyxform: its rows, and which questions it asks on given answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.xform_expressions import Value, evaluate, truth

Row = dict[str, str]
NOT_ASKED = frozenset({"start", "end", "calculate", "note"})


@dataclass(frozen=True)
class Sheet:
    """One form. `around` names the groups and repeats around every row of the survey, outermost first."""

    survey: tuple[Row, ...]
    choices: tuple[Row, ...]
    settings: Row
    around: dict[str, tuple[str, ...]]

    def row(self, name: str) -> Row:
        return next(row for row in self.survey if row.get("name") == name)

    def questions(self, within: str = "") -> list[Row]:
        """What a person is asked, in order; `within` one group or repeat."""
        return [
            row
            for row in self.survey
            if not row["type"].startswith(("begin_", "end_"))
            and row["type"] not in NOT_ASKED
            and (not within or within in self.around[row["name"]])
        ]

    def asks(self, name: str, answers: Mapping[str, Value]) -> bool:
        """Whether a question, and every group around it, is relevant."""
        rows = [self.row(place) for place in (*self.around[name], name)]
        return all(truth(evaluate(row["relevant"], answers)) for row in rows if "relevant" in row)

    def accepts(self, name: str, value: Value, answers: Mapping[str, Value] | None = None) -> bool:
        """Whether a question's constraint lets an answer pass."""
        return truth(evaluate(self.row(name)["constraint"], answers or {}, value))


def read_sheet(path: Path) -> Sheet:
    """The sheets of a Markdown file: `| name |` begins one, its first row names the columns."""
    tables: dict[str, list[list[str]]] = {}
    rows: list[list[str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        first, *cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if first:
            rows = tables.setdefault(first, [])
        else:
            rows.append(cells)
    sheets = {
        name: tuple({column: cell for column, cell in zip(head, cells, strict=False) if cell} for cells in rows)
        for name, (head, *rows) in tables.items()
    }
    return Sheet(sheets["survey"], sheets["choices"], sheets["settings"][0], surroundings(sheets["survey"]))


def surroundings(survey: tuple[Row, ...]) -> dict[str, tuple[str, ...]]:
    """By name, the groups and repeats around a row."""
    around: dict[str, tuple[str, ...]] = {}
    open_places: list[str] = []
    for row in survey:
        if row["type"].startswith("end_"):
            open_places.pop()
            continue
        around[row["name"]] = tuple(open_places)
        if row["type"].startswith("begin_"):
            open_places.append(row["name"])
    return around


def names_in(expression: str) -> set[str]:
    """The answers that an expression refers to."""
    return set(re.findall(r"\$\{(\w+)\}", expression))
