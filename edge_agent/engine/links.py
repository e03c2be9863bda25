"""What the engine knows of a link: its shape and its far end, never its transport.

A link declares itself once, when it comes up. A new transport therefore needs no change in the engine: it picks
the shape that it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sync_protocol.identity import CENTER
from sync_protocol.limits import MEDIUM_BUNDLE_BYTES_MAX


class LinkShape(Enum):
    """How the two ends of a link can talk (DESIGN §4)."""

    MAILBOX = "mailbox"
    """Bundles are put up one way; statements come down later, in their own time."""
    DUPLEX = "duplex"
    """Both ends are there at once and answer each other."""
    DEAD_DROP = "dead drop"
    """What is there is read, what should be carried is left; nobody answers."""


@dataclass(frozen=True)
class Link:
    """One link while it is up.

    `key` names it within the process and is never used again. `far_end` is the 16-byte name of the device or medium
    there, or CENTER. `remembered` is False when the far end has forgotten what it took over before (a broker's lost
    session). `holds` are the ids of the envelopes that were found there, intact, whoever left them; None when nobody
    has looked. `contact_age` is since when a neighbour has not heard the center itself (microseconds), None when never;
    `collects` is whether it says that it is a collection point.
    """

    key: str
    shape: LinkShape
    far_end: bytes
    reaches_center: bool
    bundles_in_flight_max: int
    bundle_bytes_max: int
    remembered: bool = True
    holds: frozenset[bytes] | None = None
    contact_age: int | None = None
    collects: bool = False


def center_mailbox(key: str, *, bundles_in_flight_max: int, bundle_bytes_max: int, remembered: bool) -> Link:
    """Return the link that a publisher to the center's broker has."""
    return Link(
        key=key,
        shape=LinkShape.MAILBOX,
        far_end=CENTER,
        reaches_center=True,
        bundles_in_flight_max=bundles_in_flight_max,
        bundle_bytes_max=bundle_bytes_max,
        remembered=remembered,
    )


def medium_reading(key: str, medium: bytes) -> Link:
    """Return the link of the first half of a visit: what is on a medium arrives, and nothing leaves yet."""
    return Link(
        key=key,
        shape=LinkShape.DEAD_DROP,
        far_end=medium,
        reaches_center=False,
        bundles_in_flight_max=0,
        bundle_bytes_max=MEDIUM_BUNDLE_BYTES_MAX,
    )


def medium_writing(key: str, medium: bytes, holds: frozenset[bytes], *, bundle_bytes_max: int) -> Link:
    """Return the link of the second half: what it lacks is left; while one file is written, the next is made ready."""
    return Link(
        key=key,
        shape=LinkShape.DEAD_DROP,
        far_end=medium,
        reaches_center=False,
        bundles_in_flight_max=2,
        bundle_bytes_max=bundle_bytes_max,
        holds=holds,
    )
