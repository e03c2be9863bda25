"""What the engine knows of a link: its shape and its far end, never its transport.

A link declares itself once, when it comes up. A new transport therefore needs no change in the engine: it picks
the shape that it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sync_protocol.identity import CENTER


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
    session).
    """

    key: str
    shape: LinkShape
    far_end: bytes
    reaches_center: bool
    bundles_in_flight_max: int
    bundle_bytes_max: int
    remembered: bool = True


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
