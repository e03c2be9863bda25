"""`make demo`: three tablets, a broker, the center, and outages; ends with a table that must balance."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from demo import balance
from demo.field import CommandFailed, Field
from demo.households import households
from demo.processes import DeadlineError
from demo.run import run
from demo.story import Story


@click.command()
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path, exists=True),
    help="A .jsonl(.gz) file, or a folder of XForm XML.",
)
@click.option("--form", default="", help="Which form the input is, if it does not say; the file's name without this.")
@click.option("--households", "count", default=300, show_default=True, help="How many to make up, without --input.")
@click.option("--devices", default=3, show_default=True, type=click.IntRange(1, 20))
@click.option("--seed", default=1, show_default=True, help="For the made-up households.")
@click.option("--database", "database_url", help="A PostgreSQL URL; SQLite without it.")
@click.option("--keep", is_flag=True, help="Keep the folder with databases, queues and logs.")
@click.option("--json", "as_json", is_flag=True, help="Only the closing line of JSON.")
def main(
    source: Path | None,
    form: str,
    count: int,
    devices: int,
    seed: int,
    database_url: str | None,
    *,
    keep: bool,
    as_json: bool,
) -> None:
    """Run a small census on this machine, with outages, and prove that nothing was lost or doubled.

    The link to the tablets is cut in the middle; the consumer and the broker are killed once each. The last line
    is JSON, for programs.
    """
    bodies = list(_read(source)) if source else list(households(seed, count))
    if not bodies:
        raise click.UsageError(f"there are no questionnaires in {source}")
    if source is not None and not form and not all(map(_form_of, bodies)):
        form = source.name.partition(".")[0]
    forms = sorted({form or _form_of(body) for body in bodies})
    folder = Path(tempfile.mkdtemp(prefix="census-demo-"))
    console = Console(stderr=True, quiet=as_json)
    result: balance.Balance | None = None
    try:
        result = _run(folder, bodies, form, forms=forms, devices=devices, database_url=database_url, console=console)
    except (CommandFailed, DeadlineError, OSError) as error:
        console.print(f"[bold red]the demo failed[/]: {error}", highlight=False)
        console.print(f"logs are kept in {folder}", highlight=False)
        keep = True
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    if result is None:
        sys.exit(1)
    if not as_json:
        Console().print(result.table())
    sys.stdout.write(json.dumps(result.document()) + "\n")
    sys.exit(0 if result.balances else 1)


def _run(
    folder: Path,
    bodies: Sequence[bytes],
    form: str,
    *,
    forms: Sequence[str],
    devices: int,
    database_url: str | None,
    console: Console,
) -> balance.Balance:
    settings = {"sync": {"receipt_wait_seconds": 10}}
    console.print("setting up: authority, broker with mutual TLS, center, tablets …")
    with Field(folder, devices, database_url=database_url, forms=forms, device_settings=settings) as field:
        field.start()
        story = Story(field, len(bodies))
        with Live(story, console=console, refresh_per_second=4, transient=False):
            account = run(field, bodies, form, tell=story.tell)
        console.print()
        return account


def _read(source: Path) -> Iterator[bytes]:
    if source.is_dir():
        for path in sorted(source.glob("*.xml")):
            yield path.read_bytes()
        return
    data = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
    if ".jsonl" in source.suffixes:
        yield from (line for line in data.splitlines() if line.strip())
    else:
        yield data


def _form_of(body: bytes) -> str:
    from edge_agent.queue.intake.recognition import RawSubmission, Unacceptable, recognise

    found = recognise(RawSubmission(body), default_form="", bytes_max=len(body), now=0)
    return "" if isinstance(found, Unacceptable) else found.form


if __name__ == "__main__":
    main()
