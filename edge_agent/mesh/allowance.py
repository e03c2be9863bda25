"""An allowance that fills up with time, for what a neighbour may cost."""

from __future__ import annotations

from collections.abc import Hashable


class Allowance:
    """`amount` at once, and the same again in each `per_seconds`. Time is an argument, monotonic, in seconds."""

    def __init__(self, amount: float, per_seconds: float) -> None:
        self._amount = amount
        self._per_second = amount / per_seconds
        self._left = amount
        self._at_seconds: float | None = None

    def spend(self, cost: float, now_seconds: float) -> float:
        """Take a cost from the allowance; return after how many seconds what was overdrawn will be made up for."""
        self._fill(now_seconds)
        self._left -= cost
        return max(0.0, -self._left / self._per_second)

    def take(self, cost: float, now_seconds: float) -> bool:
        """Take a cost if there is enough for it; say whether there was."""
        self._fill(now_seconds)
        if cost > self._left:
            return False
        self._left -= cost
        return True

    def _fill(self, now_seconds: float) -> None:
        if self._at_seconds is not None:
            self._left = min(self._amount, self._left + (now_seconds - self._at_seconds) * self._per_second)
        self._at_seconds = now_seconds


class Allowances:
    """An allowance of its own for each of many, of whom those seen last are remembered."""

    def __init__(self, amount: float, per_seconds: float, *, keys_max: int) -> None:
        self._amount = amount
        self._per_seconds = per_seconds
        self._keys_max = keys_max
        self._of: dict[Hashable, Allowance] = {}

    def take(self, key: Hashable, now_seconds: float) -> bool:
        """Take one from this key's allowance if there is one left; say whether there was."""
        allowance = self._of.pop(key, None) or Allowance(self._amount, self._per_seconds)
        while len(self._of) >= self._keys_max:
            self._of.pop(next(iter(self._of)))
        self._of[key] = allowance
        return allowance.take(1, now_seconds)
