"""Names of census tables and columns, from those of forms: safe in SQLite and PostgreSQL, and stable. Pure.

A name depends on what it stands for alone, so that every version of a form, on every database, gives it anew: nothing
needs to be remembered. What a statistician sees:

- names of the form are lower-cased, and whatever is not an ASCII letter or digit becomes one _;
- a group and what lies in it are joined by two: `housing__rooms`;
- three set off what was added: `age___integer` (a column of that type, as an earlier version asked the question with
  another), `place___latitude` (one of a geopoint's four), `form_household___2` (a further table, as no database takes
  so many columns in one), and eight hexadecimal digits where the rest does not tell two names apart: it was too long,
  not written in ASCII letters, or alike another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

NAME_BYTES_MAX: Final = 63
"""PostgreSQL cuts longer ones."""

_TABLE_NAME_BYTES_MAX: Final = NAME_BYTES_MAX - len("___999")
"""What a further table adds to the name of the first must fit."""

_DIGITS: Final = 8
_TABLE_FORM_CHARACTERS: Final = 24
_PLAIN: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_OTHERS: Final = re.compile(r"[^a-z0-9]+")
_TAG: Final = "___"

KEY_COLUMNS: Final = frozenset(
    {
        *(
            "id",
            "origin",
            "envelope",
            "envelope_id",
            "questionnaire",
            "questionnaire_id",
            "position",
            "parent_position",
        ),
        *("batch", "form_version", "instance_id", "replaces"),
    }
)
"""What key columns are, or may once be, called: a question of that name gets `id___answer`."""

SYSTEM_COLUMNS: Final = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", "oid", "rowid"})
"""PostgreSQL refuses these, SQLite reads its own row number under the last two."""


def form_table_name(form: str) -> str:
    """Return the name of the table of a form's questionnaires.

    A form id of lower-case ASCII letters, digits and single _ is taken as it is; any other is told apart by digits, as
    another form may differ from it by what is lost.
    """
    if _PLAIN.fullmatch(form) and len(form) <= _TABLE_NAME_BYTES_MAX - len("form_"):
        return f"form_{form}"
    return f"form_{_part(form)[:_TABLE_FORM_CHARACTERS].strip('_') or 'x'}{_TAG}{_digest((form,))}"


def table_name(form: str, path: tuple[str, ...], *, told_apart: bool, tag: str = "") -> str:
    """Return the name of the table of a repeat or a select-multiple."""
    whole = form_table_name(form)
    name = _joined(path)
    end = f"{_TAG}{tag}" if tag else ""
    if name is not None and not told_apart and len(whole) + 2 + len(name) + len(end) <= _TABLE_NAME_BYTES_MAX:
        return f"{whole}__{name}{end}"
    head = f"form_{_part(form)[:_TABLE_FORM_CHARACTERS].strip('_') or 'x'}__"
    return head + _told_apart((form, *path), path, _TABLE_NAME_BYTES_MAX - len(head) - len(end)) + end


def column_name(path: tuple[str, ...], *, told_apart: bool, tag: str = "") -> str:
    """Return the name of a question's column; `path` begins below the repeat that it lies in."""
    name = _joined(path)
    if name is not None and not tag and (name in KEY_COLUMNS or name in SYSTEM_COLUMNS):
        tag = "answer"
    end = f"{_TAG}{tag}" if tag else ""
    if name is not None and not told_apart and len(name) + len(end) <= NAME_BYTES_MAX:
        return name + end
    return _told_apart(path, path, NAME_BYTES_MAX - len(end)) + end


def part_name(name: str, number: int) -> str:
    """Return the name of a table's further table; the first, number 1, has the name itself."""
    return name if number == 1 else f"{name}{_TAG}{number}"


def alike(paths: Iterable[tuple[str, ...]]) -> frozenset[tuple[str, ...]]:
    """Return those paths that give the same name as another one of them."""
    owners: dict[str, list[tuple[str, ...]]] = {}
    for path in paths:
        owners.setdefault(_joined(path) or "", []).append(path)
    return frozenset(path for name, owning in owners.items() if len(owning) > 1 for path in owning)


def _part(name: str) -> str:
    part = _OTHERS.sub("_", name.lower()).strip("_")
    return f"q{part}" if part[:1].isdigit() else part


def _joined(path: tuple[str, ...]) -> str | None:
    """Return the readable name of a path, or None when letters are lost in it."""
    parts = [_part(name) for name in path]
    return "__".join(parts) if all(parts) and all(name.isascii() for name in path) else None


def _told_apart(whole: tuple[str, ...], path: tuple[str, ...], length: int) -> str:
    """Return as many of the last names of a path as fit, with digits made of all of it."""
    room = length - len(_TAG) - _DIGITS
    parts = [part for part in map(_part, path) if part] or ["x"]
    kept = parts[-1][:room].rstrip("_")
    for part in reversed(parts[:-1]):
        if len(part) + 2 + len(kept) > room:
            break
        kept = f"{part}__{kept}"
    return f"{kept}{_TAG}{_digest(whole)}"


def _digest(names: tuple[str, ...]) -> str:
    # XML names have no slash, and a form id comes first: no two paths give one text.
    return sha256("/".join(names).encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
