"""The port by which people near the machine are told of a visit, and its three words.

Implemented by `hook` (a program of the site's own), `led` (a light of the machine) and `notices` (a window on the
desktop of whoever is logged in). The configuration says which of them there are; there may be several, or none.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from edge_agent.usb_watch.media_watch import MediumState, Turn
from edge_agent.usb_watch.mounting import MountRefused


class Word(Enum):
    """All that somebody has to know who stands beside the machine."""

    WORKING = "working"
    SAFE = "safe"
    FAILED = "failed"


class Sign(Protocol):
    """One way to tell. What becomes of it changes nothing about visits."""

    def tell(self, turn: Turn, state: MediumState) -> None:
        """Hear of a turn, and how the visit stands then. Called on the event loop; returns at once, raises nothing."""
        ...


def word_for(state: MediumState) -> Word:
    """Return the word for how a visit stands."""
    if state.outcome is None:
        return Word.WORKING
    is_safe = not isinstance(state.outcome, MountRefused) and state.outcome.ending.is_safe
    return Word.SAFE if is_safe else Word.FAILED
