"""One census from the first questionnaire to the last purge, through outages: what the demo shows and tests prove."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from demo import balance
from demo.field import CommandFailed, Device, Field
from demo.processes import wait_until

COLLECTION_SECONDS: Final = 16.0
"""The field works at its own pace; outages shorter than this show nothing."""

_CHUNK: Final = 5
_DRAIN_SECONDS: Final = 300

Tell = Callable[[str], None]
"""Told what has just happened, in a person's words."""


def run(
    field: Field,
    bodies: Sequence[bytes],
    form: str,
    *,
    tell: Tell,
    collection_seconds: float = COLLECTION_SECONDS,
    chunk: int = _CHUNK,
) -> balance.Balance:
    """Submit on all tablets of a started field, through every outage; wait for sync marks, back up, wait for purges.

    Submitting takes `collection_seconds` or longer, `chunk` questionnaires at a time. Raises CommandFailed,
    DeadlineError, OSError.
    """
    collect(field, bodies, form, tell=tell, collection_seconds=collection_seconds, chunk=chunk)
    tell("every questionnaire is accepted; waiting for the last sync marks")
    field.wait_until_synchronised(timeout_seconds=_DRAIN_SECONDS)
    tell("backing up the census database, which moves the watermark")
    field.center.back_up()
    wait_until_purged(field)
    tell("every tablet has purged what the backup has")
    return balance.draw_up(field)


def collect(
    field: Field, bodies: Sequence[bytes], form: str, *, tell: Tell, collection_seconds: float, chunk: int
) -> None:
    """Submit on all tablets at once, while things go wrong at set points of the way."""
    shares = [bodies[number :: len(field.devices)] for number in range(len(field.devices))]
    failures: list[BaseException] = []

    def submit(device: Device, share: Sequence[bytes]) -> None:
        chunks = range(0, len(share), chunk)
        try:
            for start in chunks:
                device.submit(share[start : start + chunk], form=form)
                time.sleep(collection_seconds / len(chunks))
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
        tell(what)
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


def wait_until_purged(field: Field) -> None:
    """Wait until no tablet keeps what the backup has."""
    for device in field.devices:

        def all_purged(device: Device = device) -> bool:
            counts: dict[str, int] = device.status()["envelopes"]
            return counts["synchronised"] == 0

        wait_until(all_purged, f"{device.name} has purged everything", timeout_seconds=_DRAIN_SECONDS)
