"""Which addresses are dialled, and when: those of the configuration for ever, those of a discovery while it sees them.

| what became of a try | what follows |
|---|---|
| a link that held, or one by another address that did | again after a short pause |
| nothing, or a link that ended soon | again after a pause that grows with every failure |
| nothing, of a configured address | the same, and at once when the interfaces change |
| the n-th failure in a row of an address that was only discovered | again after a long rest |
| a link that ended for want of news | again after a long rest, or when the address is met once more |
| a quiet link that the far end closed | the same for a discovered address; for any other, again after a short pause |
| no way there now, or the device itself | again when the interfaces change, or after a while |

A discovered address that is lost, and has no link, is forgotten. Of discovered ones only so many have a place; while
others wait for one, whoever has failed gives up its place to them and waits behind them: so those who announce what is
not there cannot keep out those who are. Every pause has full jitter. What is at an address is never believed: TLS
proves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from edge_agent.backoff import Backoff, failures_after
from edge_agent.mesh.allowance import Allowance

DISCOVERED_MAX: Final = 64
"""Anyone on the network can announce as many as they like."""

WAITING_MAX: Final = 256
"""Discovered addresses that wait for a place; one more takes the place of any."""

DISCOVERED_TRIES_MAX: Final = 6
"""Failures in a row of a discovered address, before a rest."""

DISCOVERED_TRIES_PER_MINUTE_MAX: Final = 60
"""Each may cost a handshake: some milliseconds of a poor battery's processor, and the radio."""

DIALS_AT_ONCE_MAX: Final = 8
"""So that a few addresses where nobody answers keep no others waiting."""

REST_SECONDS: Final = 900
NO_WAY_SECONDS: Final = 60
"""Asking again costs one question to the kernel."""


class Ending(Enum):
    """What became of a try."""

    FAILED = "failed"
    ENDED = "ended"
    IDLE = "idle"
    QUIET = "quiet"
    """The far end closed it when nothing had passed for long: it has come to its rest a little sooner than we, or it
    starts anew, and then a discovery tells."""
    OURSELVES = "ourselves"
    NO_WAY = "no_way"


@dataclass(frozen=True)
class Address:
    """Where a neighbour may be; an IPv6 link-local address names its interface (fe80::1%eth0).

    `interface` is where a discovery has found it: by no other one can it be reached. None for a configured address.
    """

    host: str
    port: int
    interface: str | None = None


@dataclass(frozen=True)
class Try:
    """One try: how it ended, and how many seconds a link held, if one did."""

    ending: Ending
    lasted_seconds: float = 0


@dataclass
class _Known:
    """An address that is tried. `again` ends a pause: it was lost, it is met anew after a rest, or the ways changed."""

    announced: bool = True
    failures: int = 0
    paused_after: Ending | None = None
    again: asyncio.Event = field(default_factory=asyncio.Event)


class Dialling:
    """Keeps trying; `attempt` makes one try and returns when its link is over. `on_fault` hears what it should not
    have raised; then it counts as a failure.
    """

    def __init__(
        self,
        static: Iterable[Address],
        *,
        backoff: Backoff,
        randomness: Callable[[], float],
        attempt: Callable[[Address], Awaitable[Try]],
        on_fault: Callable[[Exception], None],
    ) -> None:
        self._static = frozenset(static)
        self._backoff = backoff
        self._randomness = randomness
        self._attempt = attempt
        self._on_fault = on_fault
        self._known: dict[Address, _Known] = {}
        self._waiting: dict[Address, None] = {}
        self._tries = Allowance(DISCOVERED_TRIES_PER_MINUTE_MAX, 60)
        self._group: asyncio.TaskGroup | None = None

    @property
    def addresses(self) -> frozenset[Address]:
        """Those that are tried."""
        return frozenset(self._known)

    async def run(self) -> None:
        """Dial until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    for address in self._static:
                        self.meet(address)
                    await asyncio.Event().wait()
                finally:
                    # Before those that are tried come to their end, which takes a while: the group takes no more.
                    self._group = None
        finally:
            self._known.clear()
            self._waiting.clear()

    def meet(self, address: Address) -> None:
        """Hear that a neighbour may be there; forgotten when nothing runs."""
        known = self._known.get(address)
        if known is not None:
            known.announced = True
            if known.paused_after in (Ending.IDLE, Ending.QUIET):
                known.again.set()
        elif self._group is not None and (address in self._static or self._has_room()):
            self._start(address, self._group)
        elif self._group is not None:
            self._wait(address)
            # One that rests is as good as any; one that still tries gives up its place soon by itself.
            resting = (one for address, one in self._known.items() if self._may_go(address, one))
            worst = max(resting, key=lambda one: one.failures, default=None)
            if worst is not None and worst.failures >= DISCOVERED_TRIES_MAX:
                worst.again.set()

    def lose(self, address: Address) -> None:
        """Hear that a discovery sees it no more; a link that is up stays."""
        self._waiting.pop(address, None)
        known = self._known.get(address)
        if known is not None and address not in self._static:
            known.announced = False
            if known.paused_after is not None:
                known.again.set()

    def ways_changed(self) -> None:
        """Try again at once where there was no way, and configured addresses that were not reached by the old ones."""
        for address, known in self._known.items():
            if known.paused_after is Ending.FAILED and address in self._static:
                known.failures = 0
                known.again.set()
            elif known.paused_after in (Ending.NO_WAY, Ending.OURSELVES):
                known.again.set()

    def _has_room(self) -> bool:
        return len(self._known.keys() - self._static) < DISCOVERED_MAX

    def _may_go(self, address: Address, known: _Known) -> bool:
        return address not in self._static and known.failures > 0 and known.paused_after is not None

    def _wait(self, address: Address) -> None:
        if address not in self._waiting and len(self._waiting) >= WAITING_MAX:
            drawn = int(self._randomness() * len(self._waiting))
            self._waiting.pop(list(self._waiting)[drawn])
        self._waiting[address] = None

    def _start(self, address: Address, group: asyncio.TaskGroup) -> None:
        self._known[address] = known = _Known()
        group.create_task(self._keep_trying(address, known))

    async def _keep_trying(self, address: Address, known: _Known) -> None:
        is_static = address in self._static
        held = False
        try:
            while known.announced:
                if not is_static and not held:
                    await asyncio.sleep(self._tries.spend(1, asyncio.get_running_loop().time()))
                    if not known.announced:
                        break
                tried = await self._one_try(address)
                if tried.ending not in (Ending.NO_WAY, Ending.OURSELVES):
                    came_up = tried.ending is not Ending.FAILED
                    lasted_seconds = tried.lasted_seconds
                    known.failures = failures_after(known.failures, came_up=came_up, lasted_seconds=lasted_seconds)
                held = known.failures == 0 and tried.lasted_seconds > 0
                if known.announced:
                    await self._pause(known, tried.ending, is_static=is_static)
                if known.announced and not is_static and known.failures and self._waiting:
                    self._wait(address)
                    break
        finally:
            self._known.pop(address, None)
        if self._group is not None and self._waiting and self._has_room():
            following = next(iter(self._waiting))
            del self._waiting[following]
            self._start(following, self._group)

    async def _one_try(self, address: Address) -> Try:
        try:
            return await self._attempt(address)
        except Exception as fault:  # noqa: BLE001  # one neighbour must not end what the others depend on
            self._on_fault(fault)
            return Try(Ending.FAILED)

    async def _pause(self, known: _Known, ending: Ending, *, is_static: bool) -> None:
        """Wait; being met again ends only a rest after a link: a discovery may say so without end."""
        match ending:
            case Ending.IDLE | Ending.OURSELVES:
                seconds = REST_SECONDS * (0.5 + self._randomness())
            case Ending.NO_WAY:
                seconds = NO_WAY_SECONDS * (0.5 + self._randomness())
            case Ending.QUIET if not is_static:
                seconds = REST_SECONDS * (0.5 + self._randomness())
            case _ if not is_static and known.failures >= DISCOVERED_TRIES_MAX:
                seconds = REST_SECONDS * (0.5 + self._randomness())
            case _:
                seconds = self._backoff.pause_seconds(known.failures, self._randomness())
        known.again.clear()
        known.paused_after = ending
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await known.again.wait()
        finally:
            known.paused_after = None
