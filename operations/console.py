"""What all commands share for output: tables for people, one JSON document for programs, errors with their remedy."""

import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn, TextIO

import msgspec

from operations.documents import as_document
from operations.sentences import one_line, plain

EXIT_FAILED = 1
EXIT_USAGE = 2
TABLE_COLUMNS_MAX = 10_000  # of a table into a file, where no window limits it


def json_text(value: object) -> str:
    """The value as one JSON document, indented: bytes as hex, times as ISO 8601 in UTC, dataclasses as objects."""
    return msgspec.json.format(msgspec.json.encode(as_document(value)), indent=2).decode()


def print_json(value: object, stream: TextIO | None = None) -> None:
    """Writes the value as the one JSON document of a command with --json."""
    output = sys.stdout if stream is None else stream
    output.write(json_text(value) + "\n")


def print_line(text: str, stream: TextIO | None = None) -> None:
    """Writes one line for a person; the text is not markup."""
    output = sys.stdout if stream is None else stream
    output.write(plain(text) + "\n")


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    empty: str = "nothing to show",
    stream: TextIO | None = None,
) -> None:
    """Writes a table: numbers to the right, bytes as hex, times in UTC. `empty` is said when there are no rows.

    Into a file or pipe the table is as wide as its content, so that nothing is cut off for the next program.
    """
    # Imported here: a daemon that imports this module for `fail` must not carry rich.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    output = sys.stdout if stream is None else stream
    cells = [tuple(row) for row in rows]
    if not cells:
        print_line(empty, output)
        return
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", header_style="bold")
    for position, column in enumerate(columns):
        numeric = all(isinstance(row[position], int | float) for row in cells)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    console = Console(file=output)
    if not console.is_terminal:
        console.width = TABLE_COLUMNS_MAX
        console.width = console.measure(table).maximum
    console.print(table)


def fail(message: str, remedy: str, *, exit_status: int = EXIT_FAILED, stream: TextIO | None = None) -> NoReturn:
    """Says what is wrong and what to do about it on stderr, and ends the command (1: it failed, 2: wrong usage)."""
    output = sys.stderr if stream is None else stream
    output.write(f"error: {plain(message)}\nwhat to do: {plain(remedy)}\n")
    raise SystemExit(exit_status)
