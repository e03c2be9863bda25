"""How much a session sends at once, how long what was answered rests, and how long a far end that refuses is left
alone.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.engine.settings import EngineSettings

Randomness = Callable[[], float]
"""Returns a number from 0 (included) to 1 (excluded)."""


class Pacing:
    """One link's; it learns from how the far end answers."""

    def __init__(self, settings: EngineSettings, randomness: Randomness, bundle_bytes_max: int) -> None:
        self._settings = settings
        self._randomness = randomness
        self._bundle_bytes_max = bundle_bytes_max
        self.bundle_bytes = min(settings.bundle_bytes_first, bundle_bytes_max)
        self._refused_at: int | None = None
        self._refusals = 0
        self._rest_for = 0

    def taken(self, *, sent_at: int, full: bool, now: int) -> None:
        """Grow bundles while the link takes full ones quickly, shrink them when it is slow: a cut then costs little."""
        self._refusals, self._refused_at = 0, None
        taken_in = now - sent_at
        if taken_in > self._settings.settle_time_bad:
            self.bundle_bytes = max(self._settings.bundle_bytes_min, self.bundle_bytes // 2)
        elif full and 0 <= taken_in < self._settings.settle_time_good:
            self.bundle_bytes = min(self._bundle_bytes_max, self.bundle_bytes * 2)

    def refused(self, now: int) -> None:
        """Leave the far end alone for a while, longer each time."""
        self._refusals, self._refused_at = self._refusals + 1, now
        self._rest_for = self.refusal_wait(self._refusals)

    def resting(self, now: int) -> bool:
        return self._refused_at is not None and 0 <= now - self._refused_at < self._rest_for

    @property
    def rested_at(self) -> int | None:
        """When the rest after a refusal is over; None when the last answer was no refusal."""
        return None if self._refused_at is None else self._refused_at + self._rest_for

    def taken_wait(self, attempts: int, *, keeping: bool) -> int:
        """Return how long what was taken rests without a receipt; `keeping` when it is on the far end's disk."""
        if keeping:
            return self._growing(self._settings.custody_wait, self._settings.custody_wait_max, attempts)
        return self._growing(self._settings.receipt_wait, self._settings.receipt_wait_max, attempts)

    def refusal_wait(self, attempts: int) -> int:
        return self._growing(self._settings.refusal_wait, self._settings.receipt_wait, attempts)

    def _growing(self, first: int, longest: int, attempts: int) -> int:
        """Double with each attempt, up to the longest, give or take a quarter, so that devices do not fall into
        step.
        """
        return int(min(first << min(attempts - 1, 16), longest) * (0.75 + 0.5 * self._randomness()))
