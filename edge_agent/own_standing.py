"""What this device tells its neighbours of itself, kept ready: it is asked for on the event loop, where nobody may wait
for the queue.

| what changes | neighbours hear of it |
|---|---|
| the way to the center comes or goes | at once |
| the room for others' envelopes, by a quarter, or there is none any more | within seconds |
| the center was heard for the first time | within seconds |
| the device is certified as another kind of device | within seconds |
| anything else | when it is told anyway |

The time since the center was heard is counted by a clock that only runs on. The device's own clock, which may be set
while the daemon runs, counts for what was before its start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge_agent.engine.contact import CENTER_HEARD_AT, contact_age
from edge_agent.engine.identity import role_of
from edge_agent.engine.ports import QueueDesk
from edge_agent.engine.store import StoreFault, StoreTransaction
from sync_protocol.identity import Role
from sync_protocol.limits import ENVELOPE_BYTES_MAX
from sync_protocol.mesh import Hello

LOOK_SECONDS: Final = 5
"""At most so often, and only after something happened, the queue is looked at."""

_ROOM_PART: Final = 4
"""Of its room, a device tells changes by one part in so many."""


@dataclass(frozen=True)
class Clocks:
    """`now` in microseconds since 1970, as far as the device knows; `running` in seconds, monotonic, asleep or not."""

    now: Callable[[], int]
    running: Callable[[], float]


@dataclass(frozen=True)
class _Look:
    heard_at: int | None
    contact_age: int | None
    room_bytes: int
    is_collection_point: bool


class OwnStanding:
    """Looks at the queue and the link, and calls back when neighbours should hear of a change."""

    def __init__(
        self,
        device: bytes,
        queue: QueueDesk,
        *,
        foreign_bytes_max: int,
        free_bytes: Callable[[], int],
        reaches_center: Callable[[], bool],
        clocks: Clocks,
        on_change: Callable[[], None],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """`free_bytes` is how much the disk can still take, called on the store's thread; below 0 is none."""
        self._device = device
        self._queue = queue
        self._foreign_bytes_max = foreign_bytes_max
        self._free_bytes = free_bytes
        self._reaches_center = reaches_center
        self._clocks = clocks
        self._on_change = on_change
        self._look_seconds = look_seconds
        self._look: _Look | None = None
        self._heard_at_seconds: float | None = None
        self._due = asyncio.Event()
        self._due.set()
        self._told = self.hello()

    def hello(self) -> Hello:
        """Return how this device stands now; before the first look it has no room."""
        reaches_center = self._reaches_center()
        if reaches_center:
            self._heard_at_seconds = self._clocks.running()
        since_seconds = None
        if self._heard_at_seconds is not None:
            since_seconds = int(max(0, self._clocks.running() - self._heard_at_seconds))
        if self._look is None:
            return Hello(reaches_center, since_seconds, 0)
        return Hello(reaches_center, since_seconds, self._look.room_bytes, self._look.is_collection_point)

    def link_changed(self) -> None:
        """The way to the center may have come or gone."""
        if self._reaches_center() == self._told.reaches_center:
            return
        if self._told.reaches_center:
            self._heard_at_seconds = self._clocks.running()
        self._tell()

    def queue_changed(self) -> None:
        """Something happened that may have changed the queue."""
        self._due.set()

    async def run(self) -> None:
        """Look again, after something happened, until cancelled."""
        while True:
            await self._due.wait()
            await self.look()
            await asyncio.sleep(self._look_seconds)

    async def look(self) -> None:
        """Look at the queue, and tell of a change that matters."""
        self._due.clear()
        try:
            look = await self._queue.ask(self._look_at)
        except StoreFault:  # what was known still holds, and what changed is looked for again
            self._due.set()
        else:
            self._take(look)

    def _look_at(self, transaction: StoreTransaction) -> _Look:
        room_bytes = min(self._foreign_bytes_max - transaction.foreign_bytes(), self._free_bytes())
        return _Look(
            transaction.number(CENTER_HEARD_AT),
            contact_age(transaction, self._clocks.now()),
            max(0, room_bytes),
            role_of(self._device, transaction) is Role.COLLECTION_POINT,
        )

    def _take(self, look: _Look) -> None:
        before, self._look = self._look, look
        if before is None and look.contact_age is not None:
            # What was before the start is as long ago as the clock says.
            self._heard_at_seconds = self._clocks.running() - look.contact_age / 1_000_000
        elif before is not None and before.heard_at != look.heard_at:
            self._heard_at_seconds = self._clocks.running()
        hello = self.hello()
        told = self._told
        is_first = told.last_contact_seconds is None and hello.last_contact_seconds is not None
        is_other_kind = told.is_collection_point != hello.is_collection_point
        if is_first or is_other_kind or _differs_much(told.room_bytes, hello.room_bytes):
            self._tell()

    def _tell(self) -> None:
        # Later changes are measured by what all neighbours were told last.
        self._told = self.hello()
        self._on_change()


def _differs_much(before: int, now: int) -> bool:
    if max(before, now) < ENVELOPE_BYTES_MAX:  # no room is no room
        return False
    no_longer = min(before, now) < ENVELOPE_BYTES_MAX
    return no_longer or abs(before - now) > max(before, now) // _ROOM_PART
