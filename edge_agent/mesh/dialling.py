"""Which addresses are dialled, and when: those of the configuration for ever, those of a discovery while they answer.

| what became of a try | what follows |
|---|---|
| a link that held, or one by another address that did | again after a short pause |
| nothing, or a link that ended soon | again after a pause that grows with every failure |
| a link that ended for want of news | again after a long rest, or when the address is met once more |
| the device itself | never again |
| the n-th failure in a row of an address that was only discovered | forgotten, until it is met once more |

Every pause has full jitter. What is at an address is never believed: TLS proves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final

from edge_agent.backoff import Backoff, failures_after

DISCOVERED_MAX: Final = 64
"""Anyone on the network can announce as many as they like."""

DISCOVERED_TRIES_MAX: Final = 6
"""A discovery that still sees the device meets it again."""

DIALS_AT_ONCE_MAX: Final = 4
"""Each is a handshake: some milliseconds of a poor battery's processor."""

REST_SECONDS: Final = 900


class Ending(Enum):
    """What became of a try."""

    FAILED = "failed"
    ENDED = "ended"
    IDLE = "idle"
    OURSELVES = "ourselves"


@dataclass(frozen=True)
class Address:
    """Where a neighbour may be; an IPv6 link-local address names its interface (fe80::1%eth0)."""

    host: str
    port: int


@dataclass(frozen=True)
class Try:
    """One try: how it ended, and how many seconds a link held, if one did."""

    ending: Ending
    lasted_seconds: float = 0


class Dialling:
    """Keeps trying; `attempt` makes one try and returns when its link is over."""

    def __init__(
        self,
        static: Iterable[Address],
        *,
        backoff: Backoff,
        randomness: Callable[[], float],
        attempt: Callable[[Address], Awaitable[Try]],
    ) -> None:
        self._static = frozenset(static)
        self._backoff = backoff
        self._randomness = randomness
        self._attempt = attempt
        self._met: dict[Address, asyncio.Event] = {}
        self._group: asyncio.TaskGroup | None = None

    @property
    def addresses(self) -> frozenset[Address]:
        """Those that are tried."""
        return frozenset(self._met)

    async def run(self) -> None:
        """Dial until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for address in self._static:
                    self.meet(address)
                await asyncio.Event().wait()
        finally:
            self._group = None
            self._met.clear()

    def meet(self, address: Address) -> None:
        """Hear that a neighbour may be there; forgotten when there are too many, or nothing runs."""
        met = self._met.get(address)
        if met is not None:
            met.set()
        elif self._group is not None and (address in self._static or self._has_room()):
            self._met[address] = asyncio.Event()
            self._group.create_task(self._keep_trying(address))

    def _has_room(self) -> bool:
        return len(self._met.keys() - self._static) < DISCOVERED_MAX

    async def _keep_trying(self, address: Address) -> None:
        failures = 0
        try:
            while True:
                tried = await self._attempt(address)
                if tried.ending is Ending.OURSELVES:
                    return
                came_up = tried.ending is not Ending.FAILED
                failures = failures_after(failures, came_up=came_up, lasted_seconds=tried.lasted_seconds)
                if address not in self._static and failures >= DISCOVERED_TRIES_MAX:
                    return
                await self._pause(address, tried.ending, failures)
        finally:
            self._met.pop(address, None)

    async def _pause(self, address: Address, ending: Ending, failures: int) -> None:
        """Wait; only a rest ends when the address is met again: a discovery may say so without end."""
        if ending is not Ending.IDLE:
            await asyncio.sleep(self._backoff.pause_seconds(failures, self._randomness()))
            return
        self._met[address].clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(REST_SECONDS * (0.5 + self._randomness())):
                await self._met[address].wait()
