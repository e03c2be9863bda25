"""What a device tells its neighbours of itself, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from edge_agent.engine.contact import CENTER_HEARD_AT
from edge_agent.engine.store import StoreFault, StoreTransaction
from edge_agent.own_standing import Clocks, OwnStanding
from edge_agent.queue.store import QueueStore
from sync_protocol.identity import Role
from sync_protocol.mesh import Hello
from tests.support.device import Authority, Device

Answer = TypeVar("Answer")
MEGABYTE = 1024 * 1024
HOUR = 3600
NOW = 1_790_000_000_000_000


@dataclass
class Desk:
    """The queue's desk on a real store."""

    store: QueueStore
    broken: bool = False

    async def ask(self, question: Callable[[StoreTransaction], Answer]) -> Answer:
        if self.broken:
            raise StoreFault("the disk is gone")
        with self.store.transaction() as transaction:
            return question(transaction)

    async def learn(self, data: bytes) -> None:
        raise NotImplementedError


@dataclass
class Standing:
    """One device's standing with everything that it depends on at hand."""

    desk: Desk
    connected: bool = False
    free_bytes: int = 1024 * MEGABYTE
    now: int = NOW
    running_seconds: float = 1_000_000
    told: int = 0
    device: bytes = b"d" * 16
    own: OwnStanding = field(init=False)

    def __post_init__(self) -> None:
        self.own = OwnStanding(
            self.device,
            self.desk,
            foreign_bytes_max=256 * MEGABYTE,
            free_bytes=lambda: self.free_bytes,
            reaches_center=lambda: self.connected,
            clocks=Clocks(lambda: self.now, lambda: self.running_seconds),
            on_change=self._tell,
            look_seconds=0,
        )

    def _tell(self) -> None:
        self.told += 1

    def heard_at(self, time: int) -> None:
        with self.desk.store.transaction() as transaction:
            transaction.put_number(CENTER_HEARD_AT, time)


def test_a_device_that_never_heard_the_center_says_so_and_how_much_room_it_has(tmp_path: Path) -> None:
    with QueueStore(tmp_path) as store:
        one = Standing(Desk(store))
        assert one.own.hello() == Hello(False, None, 0)
        asyncio.run(one.own.look())
        assert one.own.hello() == Hello(False, None, 256 * MEGABYTE)
        assert one.told == 1


def test_the_time_since_the_center_was_heard_is_counted_by_the_clock_that_runs_on(tmp_path: Path) -> None:
    with QueueStore(tmp_path) as store:
        one = Standing(Desk(store))
        one.heard_at(NOW - 2 * HOUR * 1_000_000)
        asyncio.run(one.own.look())
        one.now += 50 * 365 * 24 * HOUR * 1_000_000  # somebody sets the clock
        one.running_seconds += HOUR
        assert one.own.hello().last_contact_seconds == 3 * HOUR
        one.heard_at(one.now)
        one.running_seconds += HOUR
        asyncio.run(one.own.look())
        assert one.own.hello().last_contact_seconds == 0


def test_a_clock_that_went_back_since_the_center_was_heard_cannot_tell(tmp_path: Path) -> None:
    with QueueStore(tmp_path) as store:
        one = Standing(Desk(store))
        one.heard_at(NOW)
        one.now = NOW - 60_000_000
        asyncio.run(one.own.look())
        assert one.own.hello().last_contact_seconds == 0, "a minute's correction is no reason to doubt"
        other = Standing(Desk(store))
        other.now = 0
        asyncio.run(other.own.look())
        assert other.own.hello().last_contact_seconds is None


def test_a_laptop_says_that_it_is_a_collection_point_as_soon_as_it_is_certified(tmp_path: Path) -> None:
    laptop = Device(tmp_path, Authority(), name="laptop", role=Role.COLLECTION_POINT)
    with QueueStore(tmp_path) as store:
        one = Standing(Desk(store), device=laptop.id)
        asyncio.run(one.own.look())
        assert not one.own.hello().is_collection_point
        told = one.told
        with store.transaction() as transaction:
            transaction.put_statement(laptop.certificate)
        asyncio.run(one.own.look())
        assert one.own.hello().is_collection_point
        assert one.told == told + 1


def test_who_is_connected_hears_the_center_now_and_counts_from_the_end_of_the_connection(tmp_path: Path) -> None:
    with QueueStore(tmp_path) as store:
        one = Standing(Desk(store))
        asyncio.run(one.own.look())
        told = one.told
        one.connected = True
        one.own.link_changed()
        one.own.link_changed()
        assert one.told == told + 1
        one.running_seconds += HOUR
        assert one.own.hello() == Hello(True, 0, 256 * MEGABYTE)
        one.connected = False
        one.own.link_changed()
        assert one.told == told + 2
        one.running_seconds += 60
        assert one.own.hello() == Hello(False, 60, 256 * MEGABYTE)


def test_neighbours_hear_of_room_when_it_changes_by_much_only(tmp_path: Path) -> None:
    with QueueStore(tmp_path) as store:
        one = Standing(Desk(store))
        asyncio.run(one.own.look())
        for free_bytes, is_told in (
            (250 * MEGABYTE, False),
            (200 * MEGABYTE, False),
            (190 * MEGABYTE, True),  # against the 256 that they were told, not against the 200 before
            (180 * MEGABYTE, False),
            (100, True),
            (-5, False),
            (50 * 1024, False),  # no envelope finds room in that
            (200 * 1024, True),
        ):
            before, one.free_bytes = one.told, free_bytes
            asyncio.run(one.own.look())
            assert (one.told > before) is is_told, free_bytes
            assert one.own.hello().room_bytes == max(0, free_bytes)


def test_what_was_known_stays_while_the_queue_cannot_be_asked(tmp_path: Path) -> None:
    with QueueStore(tmp_path) as store:
        one = Standing(Desk(store))
        asyncio.run(one.own.look())
        one.desk.broken = True
        asyncio.run(one.own.look())
        assert one.own.hello() == Hello(False, None, 256 * MEGABYTE)


def test_the_queue_is_looked_at_once_and_then_when_something_happened(tmp_path: Path) -> None:
    async def live(one: Standing) -> None:
        running = asyncio.create_task(one.own.run())
        while one.told == 0:
            await asyncio.sleep(0)
        one.free_bytes = 0
        for _ in range(20):
            await asyncio.sleep(0)
        assert one.own.hello().room_bytes > 0, "nothing has happened"
        one.own.queue_changed()
        while one.told == 1:
            await asyncio.sleep(0)
        assert one.own.hello().room_bytes == 0
        running.cancel()

    with QueueStore(tmp_path) as store:
        asyncio.run(live(Standing(Desk(store))))


def test_a_change_that_a_broken_queue_hid_is_seen_when_it_works_again(tmp_path: Path) -> None:
    async def live(one: Standing) -> None:
        one.desk.broken = True
        running = asyncio.create_task(one.own.run())
        for _ in range(20):
            await asyncio.sleep(0)
        one.desk.broken = False
        for _ in range(20):
            await asyncio.sleep(0)
        assert one.told == 1
        running.cancel()

    with QueueStore(tmp_path) as store:
        asyncio.run(live(Standing(Desk(store))))
