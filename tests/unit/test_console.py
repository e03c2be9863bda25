"""What commands write for people and for programs."""

import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from pathlib import Path

import pytest

from operations.console import fail, print_json, print_line, print_table


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Example:
    id: bytes
    at: datetime
    place: Path
    colours: frozenset[Colour]


def test_json_has_bytes_as_hex_and_times_in_utc() -> None:
    stream = io.StringIO()
    at = datetime(2026, 10, 3, 19, 5, 9, tzinfo=timezone(timedelta(hours=5)))
    print_json([Example(b"\x01\xff", at, Path("/x"), frozenset({Colour.RED}))], stream)
    expected = [{"id": "01ff", "at": "2026-10-03T14:05:09Z", "place": "/x", "colours": ["red"]}]
    assert json.loads(stream.getvalue()) == expected


def test_a_table_into_a_pipe_is_not_cut_and_its_cells_are_not_markup() -> None:
    stream = io.StringIO()
    at = datetime(2026, 10, 3, tzinfo=UTC)
    print_table(["id", "count", "note"], [[b"\xab" * 60, 12, "[red]\x1b[2J"], [b"\x01", 3, at]], stream=stream)
    text = stream.getvalue()
    assert "ab" * 60 in text
    assert "[red]\\x1b[2J" in text
    assert "2026-10-03T00:00:00Z" in text
    assert "\x1b" not in text


def test_an_empty_table_says_so() -> None:
    stream = io.StringIO()
    print_table(["id"], [], empty="the queue is empty", stream=stream)
    assert stream.getvalue() == "the queue is empty\n"


def test_a_failure_says_what_is_wrong_and_what_to_do() -> None:
    stream = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        fail("no such file", "check the path", exit_status=2, stream=stream)
    assert ended.value.code == 2
    assert stream.getvalue() == "error: no such file\nwhat to do: check the path\n"


def test_a_line_is_not_markup() -> None:
    stream = io.StringIO()
    print_line("[bold]x[/bold]", stream)
    assert stream.getvalue() == "[bold]x[/bold]\n"
