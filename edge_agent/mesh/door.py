"""Lets neighbours in: accepts connections, and bounds what those cost that have not yet said who they are."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

STRANGERS_MAX: Final = 16
"""Whoever comes when so many are at the door takes the place of the one that has stood there longest: a neighbour is
through in a fraction of a second, and one who only stands there cannot keep others out."""

STRANGERS_OF_AN_ADDRESS_MAX: Final = 4
"""Of these, so that one host alone fills no more than a part of the door."""

_PAUSE_SECONDS: Final = 1
"""When the process has no descriptors left, say."""


class Door:
    """`receive` is given a connected socket, which it takes over, the address that it comes from, and what to call
    when whoever it is is no stranger any more. `turn_away` hears of the addresses that too many come from.
    """

    def __init__(
        self,
        receive: Callable[[socket.socket, str, Callable[[], None]], Coroutine[Any, Any, None]],
        turn_away: Callable[[str], None],
    ) -> None:
        self._receive = receive
        self._turn_away = turn_away
        self._strangers: dict[asyncio.Task[None], str] = {}
        self._guests: set[asyncio.Task[None]] = set()

    async def run(self, listeners: Sequence[socket.socket]) -> None:
        """Accept on these listening, non-blocking sockets until cancelled; then everyone who came in is sent off."""
        try:
            async with asyncio.TaskGroup() as group:
                for listener in listeners:
                    group.create_task(self._accept(listener))
        finally:
            inside = [*self._strangers, *self._guests]
            for task in inside:
                task.cancel()
            await asyncio.gather(*inside, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, source = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            address = str(source[0])
            if list(self._strangers.values()).count(address) >= STRANGERS_OF_AN_ADDRESS_MAX:
                accepted.close()
                self._turn_away(address)
                continue
            if len(self._strangers) >= STRANGERS_MAX:
                oldest = next(iter(self._strangers))
                self._let_in(oldest)
                oldest.cancel()
            self._greet(accepted, address)
            # Where many wait, accepting never does, and nothing else would have its turn.
            await asyncio.sleep(0)

    def _greet(self, accepted: socket.socket, address: str) -> None:
        task = asyncio.create_task(self._receive(accepted, address, lambda: self._let_in(task)))
        self._strangers[task] = address
        task.add_done_callback(self._left)

    def _let_in(self, task: asyncio.Task[None]) -> None:
        """Count a task no longer."""
        if self._strangers.pop(task, None) is not None:
            self._guests.add(task)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._strangers.pop(task, None)
        self._guests.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a neighbour could not be received", "exception": error, "task": task}
            )
