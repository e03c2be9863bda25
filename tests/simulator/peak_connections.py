"""Making a connection to the broker, stage by stage, with what each costs and how long each may take.

| stage | ends when | its time is over after |
|---|---|---|
| TCP | the listener's line has room; the kernel tries again after 1, 3, 7, 15 s | the connect timeout |
| TLS | the broker has answered the hello | the connect timeout |
| CONNACK | the broker has checked the device's certificate and answered CONNECT | the connect timeout |
| SUBACK | the broker has answered the first subscription | the connect timeout |

A caller whose time is over is gone at once, but what it has sent lies in the broker's sockets and is worked on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from random import Random

from edge_agent.backoff import failures_after
from tests.simulator.peak_center import Listener
from tests.simulator.peak_costs import ServiceCosts
from tests.simulator.peak_machinery import SECOND, Clock, Figures, Server


class Stage(IntEnum):
    """How far an attempt is."""

    TCP = 0
    TLS = 1
    CONNACK = 2
    SUBACK = 3
    UP = 4
    OVER = 5


@dataclass(eq=False)
class Caller:
    """Who connects: a tablet, or one of the center's own processes."""

    name: str
    """Under which its connections are counted."""
    random: Random
    pause_seconds: Callable[[int, float], float]
    timeout_seconds: float
    round_trip: int
    """Microseconds."""
    listener: Listener
    on_up: Callable[[Attempt], None]
    failures: int = 0
    tries_while_away: int = 0
    attempt: Attempt | None = None

    def pause(self) -> int:
        """Draw the next pause, in microseconds."""
        return int(self.pause_seconds(self.failures, self.random.random()) * SECOND)

    def lose(self, away: int) -> int:
        """Lose a steady connection to a broker that is away for so long; return when it is tried again after that.

        Until then every try is refused at once. The broker is back at time 0.
        """
        time = -away + self.pause()
        while time < 0:
            self.tries_while_away += 1
            self.failures = failures_after(self.failures, came_up=False, lasted_seconds=0)
            time += self.round_trip + self.pause()
        return time


@dataclass(eq=False, slots=True)
class Attempt:
    """One try, and the connection that came of it."""

    caller: Caller
    stage: Stage = Stage.TCP
    hello_at: int = 0
    spent: float = 0
    """What it has cost the broker so far."""
    up_at: int = 0


class Connections:
    """Makes connections; what fails is tried again after the caller's pause."""

    def __init__(
        self, clock: Clock, broker: Server, costs: ServiceCosts, syn_retry_seconds: tuple[float, ...], figures: Figures
    ) -> None:
        self._clock = clock
        self._broker = broker
        self._costs = costs
        self._figures = figures
        first = (0.0, *syn_retry_seconds[:-1])
        self._syn_pauses = [int((b - a) * SECOND) for a, b in zip(first, syn_retry_seconds, strict=True)]
        self.wasted_microseconds = 0.0

    def begin(self, caller: Caller) -> None:
        """Try now."""
        attempt = caller.attempt = Attempt(caller)
        self._figures.note(f"{caller.name}: attempts", self._clock.now)
        self._expect(attempt)
        self._clock.after(caller.round_trip / 2, self._syn, (attempt, 0))

    def lost(self, attempt: Attempt) -> None:
        """End a connection that was up, and try again after the pause."""
        self._over(attempt, came_up=True)

    def _syn(self, tried: tuple[Attempt, int]) -> None:
        attempt, times = tried
        if attempt.stage is not Stage.TCP:
            return
        caller = attempt.caller
        if caller.listener.arrive(self._accepted, attempt):
            attempt.hello_at = self._clock.now + caller.round_trip
            attempt.stage = Stage.TLS
            self._expect(attempt)
        elif times < len(self._syn_pauses):
            self._figures.note(f"{caller.name}: SYN without room", self._clock.now)
            self._clock.after(self._syn_pauses[times], self._syn, (attempt, times + 1))

    def _accepted(self, attempt: Attempt) -> None:
        self._spend(attempt, self._costs.accept)
        self._clock.at(max(self._clock.now, attempt.hello_at), self._hello, attempt)

    def _hello(self, attempt: Attempt) -> None:
        self._broker.submit(self._costs.hello - self._costs.accept, self._hello_answered, attempt)

    def _hello_answered(self, attempt: Attempt) -> None:
        self._spend(attempt, self._costs.hello - self._costs.accept)
        if attempt.stage is Stage.TLS:
            attempt.stage = Stage.CONNACK
            self._expect(attempt)
            self._clock.after(attempt.caller.round_trip, self._finish, attempt)

    def _finish(self, attempt: Attempt) -> None:
        if attempt.stage is Stage.CONNACK:
            self._broker.submit(self._costs.finish, self._connected, attempt)

    def _connected(self, attempt: Attempt) -> None:
        self._spend(attempt, self._costs.finish)
        if attempt.stage is Stage.CONNACK:
            attempt.stage = Stage.SUBACK
            self._expect(attempt)
            self._figures.note(f"{attempt.caller.name}: handshakes", self._clock.now)
            self._clock.after(attempt.caller.round_trip, self._subscribe, attempt)

    def _subscribe(self, attempt: Attempt) -> None:
        if attempt.stage is Stage.SUBACK:
            self._broker.submit(self._costs.subscribe, self._subscribed, attempt)

    def _subscribed(self, attempt: Attempt) -> None:
        self._spend(attempt, self._costs.subscribe)
        if attempt.stage is Stage.SUBACK:
            attempt.stage = Stage.UP
            attempt.up_at = self._clock.now
            attempt.caller.on_up(attempt)

    def _spend(self, attempt: Attempt, cost: float) -> None:
        attempt.spent += cost
        if attempt.stage is Stage.OVER:
            self.wasted_microseconds += cost

    def _expect(self, attempt: Attempt) -> None:
        self._clock.after(attempt.caller.timeout_seconds * SECOND, self._expire, (attempt, attempt.stage))

    def _expire(self, expected: tuple[Attempt, Stage]) -> None:
        attempt, stage = expected
        if attempt.stage is stage:
            self._figures.note(f"{attempt.caller.name}: failed", self._clock.now)
            self.wasted_microseconds += attempt.spent
            self._over(attempt, came_up=False)

    def _over(self, attempt: Attempt, *, came_up: bool) -> None:
        caller = attempt.caller
        attempt.stage = Stage.OVER
        caller.attempt = None
        lasted_seconds = (self._clock.now - attempt.up_at) / SECOND
        caller.failures = failures_after(caller.failures, came_up=came_up, lasted_seconds=lasted_seconds)
        self._clock.after(caller.pause(), self.begin, caller)
