"""The table for people, the document for the repository, and the JSON for programs."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.explanations import EXPLANATIONS, OPENING, TITLES
from bench.rows import Row
from tests.support.postgresql import find_postgresql_programs

_COLUMNS: Final = ("what", "figure", "limit or peer, same run", "its figure", "ratio", "aim", "met", "CPU µs an item")
_PACKAGES: Final = ("cryptography", "aiomqtt", "paho-mqtt", "psycopg", "pydantic")


@dataclass(frozen=True)
class Report:
    """Everything that was measured, on what."""

    rows: Mapping[str, Sequence[Row]]
    about: Mapping[str, str]
    seconds: float

    def document(self) -> dict[str, Any]:
        """For programs."""
        parts = {name: [row.document() for row in rows] for name, rows in self.rows.items()}
        return {"machine": dict(self.about), "seconds": round(self.seconds, 1), "rows": parts}


def machine(folder: Path, source: str, size: str) -> dict[str, str]:
    """What was measured on; no name or path of it."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{os.cpu_count()} × {_processor()}, shared with others",
        "system": f"Linux {platform.release().split('-')[0]}, {_file_system(folder)}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "openssl": ssl.OPENSSL_VERSION.split(" ")[1],
        "postgresql": _said(_postgres(), r"[\d.]+"),
        "mosquitto": _said(["mosquitto", "-h"], r"version ([\d.]+)"),
        **{name: version(name) for name in _PACKAGES},
        "questionnaires": source,
        "size": size,
    }


def _postgres() -> list[str]:
    programs = find_postgresql_programs()
    return ["false"] if programs is None else [str(programs / "postgres"), "--version"]


def _said(words: Sequence[str], pattern: str) -> str:
    try:
        said = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return "not installed"
    found = re.search(pattern, said)
    return "not installed" if found is None else found[found.lastindex or 0]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    holding = [(len(place), kind) for _, place, kind, *_ in mounts if folder.is_relative_to(place)]
    return max(holding)[1]


def _cells(row: Row) -> tuple[str, ...]:
    met = {True: "yes", False: "NO", None: ""}[row.met]
    cpu = ", ".join(f"{name} {spent:.0f}" for name, spent in row.cpu_microseconds.items())
    return (
        f"{row.what} ({row.note})" if row.note else row.what,
        _number(row.figure, row.unit),
        row.peer,
        "" if row.peer_figure is None else _number(row.peer_figure, row.unit),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        "" if row.aim is None else row.aim.text(),
        met,
        cpu,
    )


def _number(figure: float, unit: str) -> str:
    digits = 0 if abs(figure) >= 100 else 1 if abs(figure) >= 10 else 2
    return f"{figure:,.{digits}f} {unit}"


def print_report(report: Report, console: Console) -> None:
    """Print the one table."""
    table = Table(title=f"benchmarks, {report.about['date']}, {report.about['processor']}", show_lines=False)
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column in ("figure", "its figure", "ratio") else "left")
    for name, rows in report.rows.items():
        table.add_section()
        table.add_row(f"[bold]{TITLES[name]}")
        for row in rows:
            table.add_row(*_cells(row))
    console.print(table)
    missed = [row.what for rows in report.rows.values() for row in rows if row.met is False]
    console.print(f"{len(missed)} aims missed" + (": " + "; ".join(missed) if missed else ""))
    console.print(f"{report.seconds:.0f} s; rates are medians of rounds that took turns, ratios medians of theirs")


def write_report(report: Report, path: Path) -> None:
    """Write the document."""
    path.write_text("\n".join(_document_lines(report)) + "\n")


def _document_lines(report: Report) -> Iterator[str]:
    yield OPENING
    yield ", ".join(f"{name} {value}" for name, value in report.about.items()) + "."
    for name, rows in report.rows.items():
        yield from ("", f"## {TITLES[name]}", "")
        yield "| " + " | ".join(_COLUMNS) + " |"
        yield "|---|--:|---|--:|--:|---|---|---|"
        for row in rows:
            yield "| " + " | ".join(_cells(row)) + " |"
        yield from ("", EXPLANATIONS[name].rstrip())
