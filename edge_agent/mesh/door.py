"""Lets neighbours in: accepts connections, and bounds what those cost that have not yet said who they are.

Every bound is an interface's own: whoever crowds the door on one network keeps nobody out who comes by another.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from edge_agent.mesh.allowance import Allowance
from edge_agent.mesh.connection import told_address
from edge_agent.mesh.ways import Way

STRANGERS_MAX: Final = 16
"""Whoever comes when so many are at the door takes the place of the one that has stood there longest: a neighbour is
through in a fraction of a second, and one who only stands there cannot keep others out."""

STRANGERS_OF_AN_ADDRESS_MAX: Final = 4
"""Of these, so that one host alone fills no more than a part of the door."""

ARRIVALS_PER_MINUTE_MAX: Final = 600
"""Each that is let in costs a handshake. Beyond this they wait in the kernel, which throws away what it cannot keep."""

_TURNED_AWAY_COST: Final = 0.1
"""Of one that was let in."""

_PAUSE_SECONDS: Final = 1
"""When the process has no descriptors left, say."""


@dataclass(frozen=True)
class Stranger:
    """Somebody at the door: where he comes from, and by which interface if the listener knows."""

    address: str
    way: Way | None


@dataclass
class _Threshold:
    """One interface's."""

    arrivals: Allowance = field(default_factory=lambda: Allowance(ARRIVALS_PER_MINUTE_MAX, 60))
    strangers: dict[asyncio.Task[None], str] = field(default_factory=dict)


class Door:
    """`receive` is given a connected socket, which it takes over, who comes, and what to call when whoever it is is no
    stranger any more. `turn_away` hears of the addresses that too many come from.
    """

    def __init__(
        self,
        receive: Callable[[socket.socket, Stranger, Callable[[], None]], Coroutine[Any, Any, None]],
        turn_away: Callable[[str], None],
    ) -> None:
        self._receive = receive
        self._turn_away = turn_away
        self._accepting: dict[socket.socket, asyncio.Task[None]] = {}
        self._thresholds: dict[Way | None, _Threshold] = {}
        self._guests: set[asyncio.Task[None]] = set()

    def open(self, listener: socket.socket, way: Way | None = None) -> None:
        """Accept on a listening, non-blocking socket, and take it over. To be called while it runs, or just before."""
        self._accepting[listener] = asyncio.create_task(self._accept(listener, way))

    def shut(self, listener: socket.socket) -> None:
        """Accept there no more, and close the socket; who came in by it stays."""
        task = self._accepting.pop(listener, None)
        if task is not None:
            task.cancel()

    async def run(self) -> None:
        """Until cancelled; then every listener is shut, and everyone who came in is sent off."""
        try:
            await asyncio.Event().wait()
        finally:
            strangers = [task for threshold in self._thresholds.values() for task in threshold.strangers]
            ending = [*self._accepting.values(), *strangers, *self._guests]
            self._accepting.clear()
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            self._thresholds.clear()

    async def _accept(self, listener: socket.socket, way: Way | None) -> None:
        # Closed here and not by whoever shuts it: the event loop must have let go of the descriptor first.
        with listener:
            loop = asyncio.get_running_loop()
            while True:
                try:
                    accepted, source = await loop.sock_accept(listener)
                except OSError:
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                threshold = self._threshold(way)
                stranger = Stranger(told_address(str(source[0]), None if way is None else way.interface), way)
                cost = 1.0 if self._admit(accepted, stranger, threshold) else _TURNED_AWAY_COST
                # Where many wait, accepting never does, and nothing else would have its turn.
                await asyncio.sleep(threshold.arrivals.spend(cost, loop.time()))

    def _threshold(self, way: Way | None) -> _Threshold:
        if way not in self._thresholds:
            # Those of interfaces that are gone: there are as many as there are interfaces.
            used = {one: kept for one, kept in self._thresholds.items() if kept.strangers}
            self._thresholds = (
                {**used, way: _Threshold()} if len(self._thresholds) >= STRANGERS_MAX else self._thresholds
            )
        return self._thresholds.setdefault(way, _Threshold())

    def _admit(self, accepted: socket.socket, stranger: Stranger, threshold: _Threshold) -> bool:
        if list(threshold.strangers.values()).count(stranger.address) >= STRANGERS_OF_AN_ADDRESS_MAX:
            accepted.close()
            self._turn_away(stranger.address)
            return False
        if len(threshold.strangers) >= STRANGERS_MAX:
            oldest = next(iter(threshold.strangers))
            self._let_in(oldest, threshold)
            oldest.cancel()
        task = asyncio.create_task(self._receive(accepted, stranger, lambda: self._let_in(task, threshold)))
        threshold.strangers[task] = stranger.address
        task.add_done_callback(lambda ended: self._left(ended, threshold))
        return True

    def _let_in(self, task: asyncio.Task[None], threshold: _Threshold) -> None:
        """Count a task no longer."""
        if threshold.strangers.pop(task, None) is not None:
            self._guests.add(task)

    def _left(self, task: asyncio.Task[None], threshold: _Threshold) -> None:
        threshold.strangers.pop(task, None)
        self._guests.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a neighbour could not be received", "exception": error, "task": task}
            )
