"""When this device last heard the center itself: the gradient that copies go along (routing.py)."""

from __future__ import annotations

from typing import Final

from edge_agent.engine.settings import HOUR, MINUTE
from edge_agent.engine.store import StoreTransaction

CENTER_HEARD_AT: Final = "center_heard_at"

_CORRECTION_MAX: Final = HOUR
"""A clock may be set back by so much without anything being wrong."""


def note_contact(transaction: StoreTransaction, now: int) -> None:
    """Remember that the center's broker has answered, or sent something: to the minute, as it does so all the time."""
    noted_at = transaction.number(CENTER_HEARD_AT)
    if noted_at is None or abs(now - noted_at) >= MINUTE:
        transaction.put_number(CENTER_HEARD_AT, now)


def contact_age(transaction: StoreTransaction, now: int) -> int | None:
    """Return for how long the center was not heard (microseconds); None when never, or when the clock cannot tell."""
    noted_at = transaction.number(CENTER_HEARD_AT)
    if noted_at is None or now < noted_at - _CORRECTION_MAX:
        return None
    return max(0, now - noted_at)
