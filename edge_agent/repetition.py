"""Keeps the journal readable when the same trouble comes back at every try, for days."""

from __future__ import annotations

from typing import Final

INTERVAL_SECONDS: Final = 3600
_TROUBLES_MAX: Final = 64
"""A trouble whose text never repeats must not fill the memory."""


class Repetitions:
    """Says whether a trouble is worth a line: the first time, and then once an interval. Two that alternate are two."""

    def __init__(self, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._interval_seconds = interval_seconds
        self._told: dict[str, tuple[float, int]] = {}

    def worth_telling(self, trouble: str, now_seconds: float) -> int | None:
        """Return how often it came back untold since it was last told, or None when it is not to be told now.

        `now_seconds` is monotonic: a clock that is set must neither silence a trouble nor repeat it.
        """
        told_at, untold = self._told.get(trouble, (None, 0))
        if told_at is not None and now_seconds - told_at < self._interval_seconds:
            self._told[trouble] = told_at, untold + 1
            return None
        self._told.pop(trouble, None)  # so that the order is that of telling
        while len(self._told) >= _TROUBLES_MAX:
            self._told.pop(next(iter(self._told)))
        self._told[trouble] = now_seconds, 0
        return untold
