"""`make demo`: three tablets, a broker, the center, and outages; ends with a table that must balance."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.live import Live

from demo import balance
from demo.field import CommandFailed, Device, Field
from demo.households import households
from demo.processes import DeadlineError, wait_until
from demo.story import Story

_CHUNK: Final = 5
_COLLECTION_SECONDS: Final = 16
"""The field works at its own pace; outages shorter than this show nothing."""
_DRAIN_SECONDS: Final = 300


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
            _collect(field, bodies, form, story)
            story.tell("every questionnaire is accepted; waiting for the last sync marks")
            field.wait_until_synchronised(timeout_seconds=_DRAIN_SECONDS)
            story.tell("backing up the census database, which moves the watermark")
            field.center.ask("backup", "run")
            _wait_until_purged(field)
            story.tell("every tablet has purged what the backup has")
        console.print()
        return balance.draw_up(field)


def _collect(field: Field, bodies: Sequence[bytes], form: str, story: Story) -> None:
    """Submit on all tablets at once, while things go wrong at set points of the way."""
    shares = [bodies[number :: len(field.devices)] for number in range(len(field.devices))]
    failures: list[BaseException] = []

    def submit(device: Device, share: Sequence[bytes]) -> None:
        chunks = range(0, len(share), _CHUNK)
        try:
            for start in chunks:
                device.submit(share[start : start + _CHUNK], form=form)
                time.sleep(_COLLECTION_SECONDS / len(chunks))
        except (OSError, CommandFailed) as error:
            failures.append(error)

    def accepted_or_over(due: float) -> Callable[[], bool]:
        return lambda: (
            sum(device.accepted for device in field.devices) >= due or not any(thread.is_alive() for thread in threads)
        )

    threads = [
        threading.Thread(target=submit, args=(device, share), daemon=True)
        for device, share in zip(field.devices, shares, strict=True)
    ]
    for thread in threads:
        thread.start()
    for happens_at, what, happen in _outages(field):
        wait_until(
            accepted_or_over(happens_at * len(bodies)),
            f"{happens_at:.0%} of the questionnaires are accepted",
            timeout_seconds=_DRAIN_SECONDS,
        )
        story.tell(what)
        happen()
    for thread in threads:
        thread.join()
    if failures:
        raise CommandFailed(f"a tablet refused: {failures[0]}")


def _outages(field: Field) -> Iterator[tuple[float, str, Callable[[], None]]]:
    """Yield when something happens, as a share of all submissions, what, and how."""
    center = field.center

    def cut_links() -> None:
        for device in field.devices:
            device.relay.cut()

    def heal_links() -> None:
        for device in field.devices:
            device.relay.heal()

    def kill_broker() -> None:
        if center.broker is not None:
            center.broker.kill9()

    yield 0.20, "the link of every tablet is cut", cut_links
    yield 0.45, "the links are back", heal_links
    yield 0.55, "the consumer is killed (SIGKILL)", center.consumers[1].kill9
    yield 0.65, "a consumer is started again", center.start_consumer
    yield 0.75, "the broker is killed (SIGKILL): it forgets every session and every message", kill_broker
    yield 0.85, "the broker is started again", center.start_broker


def _wait_until_purged(field: Field) -> None:
    for device in field.devices:

        def all_purged(device: Device = device) -> bool:
            counts: dict[str, int] = device.status()["envelopes"]
            return counts["synchronised"] == 0

        wait_until(all_purged, f"{device.name} has purged everything", timeout_seconds=_DRAIN_SECONDS)


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
