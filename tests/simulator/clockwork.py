"""Time, order and chance of a simulated world: one heap of events, and one seeded random stream for every purpose.

Everything that happens is an event on the heap and goes into the trace, a running hash: two runs of one seed are the
same run exactly if their traces end the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from hashlib import blake2b, sha256
from itertools import count
from random import Random

SECOND, MINUTE, HOUR, DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000
START = 1_790_000_000_000_000
"""The true time at which every world begins: microseconds since 1970, a day in the autumn of 2026."""


class Chance:
    """Random streams by name. A stream never depends on how often another one was asked."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def stream(self, *names: str) -> Random:
        digest = sha256("/".join((str(self._seed), *names)).encode()).digest()
        return Random(int.from_bytes(digest, "big"))


class Appointment:
    """Something that is to happen; may be called off."""

    __slots__ = ("action", "called_off", "node", "what")

    def __init__(self, node: str, what: str, action: Callable[[], None]) -> None:
        self.node = node
        self.what = what
        self.action = action
        self.called_off = False


class Clockwork:
    """The heap. `now` is the true time, which no device of the world can read."""

    def __init__(self, after_event: Callable[[], None] = lambda: None) -> None:
        self.now = START
        self.events = 0
        self.after_event = after_event
        self._heap: list[tuple[int, int, Appointment]] = []
        self._numbers = count()
        self._trace = blake2b(digest_size=16)

    def at(self, time: int, node: str, what: str, action: Callable[[], None]) -> Appointment:
        """Let something happen at a true time; in the past means now."""
        appointment = Appointment(node, what, action)
        heapq.heappush(self._heap, (max(time, self.now), next(self._numbers), appointment))
        return appointment

    def after(self, delay: int, node: str, what: str, action: Callable[[], None]) -> Appointment:
        return self.at(self.now + delay, node, what, action)

    def note(self, text: str, data: bytes = b"") -> None:
        """Put something into the trace."""
        self._trace.update(f"{text}\0{len(data)}\0".encode() + data)

    def trace(self) -> str:
        return self._trace.hexdigest()

    def run(self, until: int) -> None:
        """Let happen what happens up to a time, which it is then."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, appointment = heapq.heappop(heap)
            if appointment.called_off:
                continue
            self.events += 1
            self.note(f"{self.now} {appointment.node} {appointment.what}")
            appointment.action()
            self.after_event()
        self.now = until
