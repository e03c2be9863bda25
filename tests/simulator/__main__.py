"""`python -m tests.simulator`: swarms, single seeds, and the report made of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulator import district_page, district_study, planted
from tests.simulator.measures import cuts, speed
from tests.simulator.national import DAYS, REGIONS, TABLETS, Month, live_month
from tests.simulator.report import robustness_report
from tests.simulator.run import live, mix_of
from tests.simulator.swarm import Tally, faults_never_reached, shrink, swarm, uses_real_keys

_console = Console()
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


@click.group()
def main() -> None:
    """Simulated censuses: the real engine, queue, acceptance and receipts under every fault, by seed."""


@main.command("swarm")
@click.option("--seeds", default=200, show_default=True, help="How many seeds to live.")
@click.option("--first", default=0, show_default=True, help="The first of them.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default="one a core", help="How many processes.")
@click.option("--record", type=click.Path(path_type=Path), help="Write what came of it here, as JSON, for the report.")
@click.option("--shrink/--no-shrink", "with_story", default=True, help="Tell the shortest story of the first failure.")
def swarm_command(seeds: int, first: int, jobs: int, record: Path | None, with_story: bool) -> None:
    """Live many seeds; exit 1 when one of them breaks the promise."""
    with Progress(*_COLUMNS, console=_console) as progress:
        task = progress.add_task("lives", total=seeds)

        def done(tally: Tally) -> None:
            failed = f", [red]{len(tally.failures)} failed[/red]" if tally.failures else ""
            progress.update(task, completed=tally.seeds, description=f"{tally.device_days:,.0f} device-days{failed}")

        tally = swarm(range(first, first + seeds), jobs=jobs, done=done)
    _record(record, tally.as_json())
    _console.print(_summary(tally))
    for failure in tally.failures:
        _console.print(f"[red]seed {failure.seed}[/red] {failure.violation}", highlight=False)
    if tally.failures:
        if with_story:
            _tell_story(tally.failures[0].seed)
        sys.exit(1)


def _summary(tally: Tally) -> Table:
    table = Table(show_header=False)
    stub_rate = tally.stub_device_days / tally.stub_cpu_seconds if tally.stub_cpu_seconds else 0
    for name, value in (
        ("seeds", f"{tally.seeds:,} ({tally.real_seeds:,} with real cryptography)"),
        ("device-days", f"{tally.device_days:,.0f} ({stub_rate:,.0f} a CPU second with stub keys)"),
        ("events", f"{tally.events:,}"),
        ("questionnaires", f"{tally.counts['accepted']:,} accepted, {tally.counts['committed']:,} committed"),
        ("faults", f"{sum(tally.faults.values()):,} of {len(tally.faults)} kinds"),
        ("never reached", ", ".join(faults_never_reached(tally)) or "none"),
        ("failures", f"{len(tally.failures)}"),
    ):
        table.add_row(name, value)
    return table


@main.command("seed")
@click.argument("seed", type=int)
@click.option("--story/--no-story", default=False, help="Tell everything that happened.")
def seed_command(seed: int, story: bool) -> None:
    """Live one seed; the trace is the same wherever the same seed is lived with the same code."""
    outcome = live(seed, real_keys=uses_real_keys(seed), storied=story)
    for line in outcome.story:
        click.echo(line)
    click.echo(f"mix: {', '.join(sorted(mix_of(seed).groups))}")
    click.echo(f"trace: {outcome.trace}  events: {outcome.events}  {dict(outcome.counts)}")
    click.echo(outcome.violation or f"kept the promise; drained within {outcome.heal_days} days after the last fault")
    sys.exit(outcome.violation is not None)


@main.command("national")
@click.option("--tablets", default=TABLETS, show_default=True, help="How many tablets there are.")
@click.option("--regions", default=REGIONS, show_default=True, help="Into how many regions they are divided.")
@click.option("--days", default=DAYS, show_default=True)
@click.option("--questionnaires", default=1.0, show_default=True, help="Mean number for each tablet and day.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default="one a core", help="How many regions at once.")
@click.option("--record", type=click.Path(path_type=Path), help="Write what came of it here, as JSON, for the report.")
def national_command(
    tablets: int, regions: int, days: int, questionnaires: float, jobs: int, record: Path | None
) -> None:
    """Live one national month of ordinary troubles."""
    month = Month(tablets, regions, days, questionnaires)
    with Progress(*_COLUMNS, console=_console) as progress:
        task = progress.add_task("regions", total=regions)
        result = live_month(month, jobs=jobs, done=lambda _region: progress.advance(task))
    _record(record, result)
    for name, value in result.items():
        _console.print(f"{name}: {value:,.0f}", highlight=False)


@main.command("districts")
@click.option("--seeds", default=district_study.SEEDS, show_default=True, help="How many for each table.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default="one a core", help="How many processes.")
@click.option("--record", type=click.Path(path_type=Path), help="Add to these figures, and play only what they lack.")
@click.option("--write", type=click.Path(path_type=Path), help="Where to; without it the page is printed.")
@click.option("--commit", default=None, help="What the figures were made with.  [the present commit]")
def districts_command(seeds: int, jobs: int, record: Path | None, write: Path | None, commit: str | None) -> None:
    """Play districts policy by policy, and make docs/mesh-delivery.md of it: the better part of an hour on one core."""
    wanted = district_study.plays(seeds)
    with Progress(*_COLUMNS, console=_console) as progress:
        task = progress.add_task("districts", total=len(wanted))
        found = district_study.play_all(wanted, jobs=jobs, record=record, done=lambda _figures: progress.advance(task))
    page = district_page.page(found, commit or _commit())
    if write is None:
        click.echo(page)
    else:
        write.write_text(page)


@main.command("cuts")
@click.option("--lives", default=500, show_default=True, help="How many devices, each through some power cuts.")
@click.option("--record", type=click.Path(path_type=Path), help="Write what came of it here, as JSON, for the report.")
def cuts_command(lives: int, record: Path | None) -> None:
    """Live on disks that forget at a power cut whatever was not synced."""
    with Progress(console=_console) as progress:
        task = progress.add_task("lives", total=lives)
        result = cuts(lives, done=lambda: progress.advance(task))
    _record(record, result)
    _console.print(f"{result['cuts']:,} cuts in {result['cpu_seconds']:,.0f} CPU seconds, no violation")


@main.command("speed")
@click.option("--record", type=click.Path(path_type=Path), help="Write what came of it here, as JSON, for the report.")
def speed_command(record: Path | None) -> None:
    """Measure device-days in a CPU second."""
    with _console.status("living"):
        result = speed()
    _record(record, result)
    for name, rate in result.items():
        _console.print(f"{name}: {rate:,.0f} device-days in a CPU second", highlight=False)


@main.command("report")
@click.option("--records", type=click.Path(path_type=Path), required=True, help="The folder with the recorded runs.")
@click.option("--write", type=click.Path(path_type=Path), help="Where to; without it the report is printed.")
@click.option("--commit", default=None, help="What the runs were made with.  [the present commit]")
def report_command(records: Path, write: Path | None, commit: str | None) -> None:
    """Make docs/robustness.md from swarm.json, planted.json, cuts.json, national.json and speed.json."""
    report = robustness_report(records, commit or _commit())
    if write is None:
        click.echo(report)
    else:
        write.write_text(report)


def _record(record: Path | None, result: object) -> None:
    if record is not None:
        record.write_text(json.dumps(result, indent=1))


@main.command("shrink")
@click.argument("seed", type=int)
def shrink_command(seed: int) -> None:
    """Tell the story of a failing seed with as few faults as still break the promise."""
    sys.exit(not _tell_story(seed))


@main.command("planted")
@click.option("--only", multiple=True, help="A bug by its name; may be given several times.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default="one a core", help="How many processes.")
@click.option("--record", type=click.Path(path_type=Path), help="Write what came of it here, as JSON, for the report.")
def planted_command(only: tuple[str, ...], jobs: int, record: Path | None) -> None:
    """Plant bugs into the real code, one at a time; exit 1 when the oracle misses one of them."""
    unknown = set(only) - set(planted.names())
    if unknown:
        raise click.BadParameter(f"there is no bug {sorted(unknown)[0]!r}; the bugs are {', '.join(planted.names())}")
    table = Table("bug", "caught by", "seeds", "at most", "what the oracle said")
    results: list[planted.Caught] = []
    with Progress(*_COLUMNS, console=_console) as progress:
        task = progress.add_task("planted bugs", total=len(only) or len(planted.names()))
        for result in planted.catch_all(only or planted.names(), jobs=jobs):
            results.append(result)
            progress.advance(task)
            caught_by = result.invariant if result.in_time else "[red]not caught[/red]"
            table.add_row(result.name, caught_by, str(result.seeds_tried), str(result.seeds_max), result.violation)
    _record(record, [result.as_json() for result in results])
    _console.print(table)
    sys.exit(not all(result.in_time for result in results))


def _tell_story(seed: int) -> bool:
    with _console.status("") as status:
        outcome = shrink(seed, tried=lambda struck: status.update(f"still fails with {struck} faults"))
    if outcome is None:
        click.echo(f"seed {seed} keeps the promise")
        return True
    for line in outcome.story:
        click.echo(line)
    click.echo(f"seed {seed} at commit {_commit()}, {len(outcome.struck)} faults left: {outcome.violation}")
    return False


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
