"""`python -m bench`: measures, prints one table, and on request writes docs/benchmarks.md."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from bench.questionnaires import Questionnaires
from bench.report import Report, machine, print_report, write_report
from bench.rows import Row
from bench.sizes import SIZES, Size

Section = Callable[[Path, Size, Questionnaires], Iterator[Row]]

NAMES: Final = ("submits", "center", "forms", "broker", "media", "mesh", "wire", "idle")
_WIDTH: Final = 220
_DOCUMENT: Final = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def section(name: str) -> Section:
    """The measurements of one part of the table; each imports its own programs."""
    if name == "submits":
        from bench.submits import measure_submits

        return measure_submits
    if name == "center":
        from bench.end_to_end import measure_end_to_end

        return measure_end_to_end
    if name == "forms":
        from bench.census_tables import measure_forms

        return measure_forms
    if name == "broker":
        from bench.broker_costs import measure_broker

        return measure_broker
    if name == "media":
        from bench.media import measure_media

        return measure_media
    if name == "mesh":
        from bench.mesh import measure_mesh

        return measure_mesh
    if name == "wire":
        from bench.wire import measure_wire

        return measure_wire
    from bench.idle import measure_idle

    return measure_idle


def _wide_console() -> Console:
    """Standard output; when it is no terminal, wide enough for the table."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDTH)


@click.command()
@click.option("--only", type=click.Choice(NAMES), multiple=True, help="Only this part of the table; may be repeated.")
@click.option("--quick", is_flag=True, help="Less than a minute, one round: to see that it works, not to quote.")
@click.option("--size", type=click.Choice(list(SIZES)), default="full", show_default=True, help="How much to measure.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document at the end, for programs.")
@click.option("--write", is_flag=True, help="Write docs/benchmarks.md.")
def main(only: tuple[str, ...], quick: bool, size: str, as_json: bool, write: bool) -> None:
    """Measure what the system costs, each figure beside its limit or peer of the same run."""
    size = "quick" if quick else size
    progress = Console(stderr=True) if sys.stderr.isatty() else Console(stderr=True, width=_WIDTH)
    questionnaires = Questionnaires()
    rows: dict[str, list[Row]] = {}
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="census-bench-") as folder:
        about = machine(Path(folder), questionnaires.source, size)
        for name in [one for one in NAMES if not only or one in only]:
            progress.print(f"measuring: {name} …")
            rows[name] = list(section(name)(Path(folder) / name, SIZES[size], questionnaires))
    report = Report(rows, about, time.monotonic() - started)
    print_report(report, progress if as_json else _wide_console())
    if write:
        write_report(report, _DOCUMENT)
    if as_json:
        sys.stdout.write(json.dumps(report.document()) + "\n")


if __name__ == "__main__":
    main()
