"""How long a link pauses between two tries at its far end: pure, for the daemon and for simulations of many.

| what happened | failures counted then | the next pause is drawn below |
|---|---|---|
| a steady connection ended | 0 | `seconds_min` |
| the first try failed, or a connection ended soon | 1 | twice that |
| … and again | one more | twice that, up to `seconds_max` |

Every pause is drawn anew between nothing and its limit ("full jitter"): devices that lost the same far end at the same
moment are spread over the whole limit. A pause of the limit itself would bring them all back together, each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STEADY_SECONDS: Final = 60
"""A connection that ends sooner counts as a failure: a far end that drops us at once must have peace too."""

_DOUBLINGS_MAX: Final = 20
"""More would only make large numbers: the longest pause is reached long before."""


@dataclass(frozen=True)
class Backoff:
    """The limits of the first and of the longest pause, in seconds."""

    seconds_min: int
    seconds_max: int

    def limit_seconds(self, failures: int) -> int:
        """Return the longest that the pause after so many failures in a row may be."""
        return min(self.seconds_min << min(failures, _DOUBLINGS_MAX), self.seconds_max)

    def pause_seconds(self, failures: int, drawn: float) -> float:
        """Return the pause; `drawn` is a random number from 0 (included) to 1 (excluded)."""
        return self.limit_seconds(failures) * drawn


def failures_after(failures: int, *, came_up: bool, lasted_seconds: float) -> int:
    """Return how many failures in a row there are after one more try or connection has ended."""
    return 0 if came_up and lasted_seconds >= STEADY_SECONDS else failures + 1
