"""What the commands of `coverage` start from: an index that is up to date, and the places that people mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from central_broker.commands.context import CenterContext
from central_broker.coverage.indexing import bring_up_to_date
from central_broker.coverage.inquiry import Coverage, look
from central_broker.coverage.people import Place
from central_broker.coverage.places import Places
from central_broker.storage.contract import Storage
from operations.console import EXIT_USAGE, fail


@contextmanager
def looked(center: CenterContext, *, quiet: bool) -> Iterator[tuple[Storage, Coverage]]:
    """Bring the index up to date, with progress for people, and look."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    rules = center.configuration().census.rules
    with center.storage() as storage:
        columns = (TextColumn("{task.description} {task.completed}"),)
        with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as progress:
            task = progress.add_task("questionnaires read", total=None)
            places = bring_up_to_date(storage, rules, lambda count: progress.advance(task, count))
        yield storage, look(storage, places)


def meant(places: Places, text: str) -> Place:
    """Return the place that a person means; fails when there is none."""
    place = places.meant(text)
    if place is None:
        fail(f"no place {text!r} is known", "central-broker places lists them", exit_status=EXIT_USAGE)
    return place
