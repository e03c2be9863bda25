"""The simulated clock, servers with queues, and what is counted: nothing here knows of tablets."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

SECOND: Final = 1_000_000
"""All times are whole microseconds since the broker, or the first link, is back."""

Action = Callable[[Any], None]
Cost = float | Callable[[], float]
"""Microseconds, or what tells them when the work begins."""


class Clock:
    """One heap of events; those of one time happen in the order in which they were put."""

    def __init__(self) -> None:
        self.now = 0
        self._events: list[tuple[int, int, Action, Any]] = []
        self._order = count()

    def at(self, time: int, action: Action, argument: Any = None) -> None:
        """Have something happen then."""
        heappush(self._events, (time, next(self._order), action, argument))

    def after(self, microseconds: float, action: Action, argument: Any = None) -> None:
        """Have something happen so much later."""
        heappush(self._events, (self.now + int(microseconds), next(self._order), action, argument))

    def run(self, until: int, done: Callable[[], bool]) -> None:
        """Let everything happen until it is done, nothing is left, or the time is over."""
        while self._events and not done():
            time, _, action, argument = heappop(self._events)
            if time > until:
                break
            self.now = time
            action(argument)


class Server:
    """So many cores that take work from one line, first come first served."""

    def __init__(self, clock: Clock, cores: int = 1) -> None:
        self._clock = clock
        self._free = cores
        self._line: deque[tuple[Cost, Action, Any]] = deque()
        self.busy_microseconds = 0.0
        self.line_max = 0

    def submit(self, cost: Cost, done: Action, argument: Any = None) -> None:
        """Have work done, in its turn; then `done` is called."""
        if self._free:
            self._free -= 1
            self._begin(cost, done, argument)
        else:
            self._line.append((cost, done, argument))
            self.line_max = max(self.line_max, len(self._line))

    def _begin(self, cost: Cost, done: Action, argument: Any) -> None:
        spent = cost() if callable(cost) else cost
        self.busy_microseconds += spent
        self._clock.after(spent, self._end, (done, argument))

    def _end(self, work: tuple[Action, Any]) -> None:
        done, argument = work
        done(argument)
        if self._line:
            self._begin(*self._line.popleft())
        else:
            self._free += 1


@dataclass
class Figures:
    """What happened in each second, by name; and the longest of each queue."""

    by_second: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    longest: Counter[str] = field(default_factory=Counter)

    def note(self, name: str, now: int, times: int = 1) -> None:
        """Count something that happens now."""
        self.by_second[name][now // SECOND] += times

    def length(self, name: str, value: int) -> None:
        """Keep the longest."""
        if value > self.longest[name]:
            self.longest[name] = value

    def total(self, name: str) -> int:
        """How often it happened."""
        return self.by_second[name].total()

    def peak(self, name: str) -> int:
        """How often in its busiest second."""
        return max(self.by_second[name].values(), default=0)
