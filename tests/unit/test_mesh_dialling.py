"""Which addresses are dialled and when, on an event loop whose time only passes when nothing else is left to do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from itertools import pairwise

from edge_agent.backoff import Backoff
from edge_agent.mesh import dialling
from edge_agent.mesh.allowance import Allowance
from edge_agent.mesh.dialling import Address, Dialling, Ending, Try

STATIC, OTHER = Address("192.0.2.1", 1), Address("192.0.2.2", 2)


class _LeapingSelector(selectors.DefaultSelector):
    """Leaps to the next timer instead of waiting for it."""

    leapt_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.leapt_seconds += timeout or 0
        return super().select(0)


def live(story: Coroutine[None, None, None]) -> None:
    selector = _LeapingSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.leapt_seconds  # type: ignore[method-assign]  # time that leaps
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(story)


class Network:
    """Answers every try of an address with what the test says, and notes when it was made."""

    def __init__(self, *tries: Try) -> None:
        self.tries = list(tries)
        self.at: dict[Address, list[float]] = {}
        self.faults: list[Exception] = []

    async def attempt(self, address: Address) -> Try:
        self.at.setdefault(address, []).append(asyncio.get_running_loop().time())
        tried = self.tries.pop(0) if len(self.tries) > 1 else self.tries[0]
        await asyncio.sleep(tried.lasted_seconds)
        return tried


async def dial(network: Network, *met: Address, static: tuple[Address, ...] = (), seconds: float) -> None:
    made = Dialling(
        static, backoff=Backoff(2, 64), randomness=lambda: 0.5, attempt=network.attempt, on_fault=network.faults.append
    )
    running = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    for address in met:
        made.meet(address)
    await asyncio.sleep(seconds)
    running.cancel()
    await asyncio.wait({running})
    assert made.addresses == frozenset()


def test_a_static_peer_is_tried_for_ever_with_growing_pauses() -> None:
    async def story() -> None:
        network = Network(Try(Ending.FAILED))
        await dial(network, static=(STATIC,), seconds=1000)
        at = network.at[STATIC]
        assert [later - earlier for earlier, later in pairwise(at)][:7] == [2, 4, 8, 16, 32, 32, 32]
        assert len(at) > 20

    live(story())


def test_a_discovered_address_that_never_answers_is_tried_seldom_and_forgotten_when_it_is_lost() -> None:
    async def story() -> None:
        network = Network(Try(Ending.FAILED))
        made = Dialling(
            (), backoff=Backoff(2, 64), randomness=lambda: 0.5, attempt=network.attempt, on_fault=network.faults.append
        )
        running = asyncio.create_task(made.run())
        await asyncio.sleep(0)
        made.meet(OTHER)
        await asyncio.sleep(3000)
        at = network.at[OTHER]
        assert [later - earlier for earlier, later in pairwise(at)] == [2, 4, 8, 16, 32, *[dialling.REST_SECONDS] * 3]
        tries = len(at)
        made.lose(OTHER)
        await asyncio.sleep(3000)
        assert len(network.at[OTHER]) == tries
        assert made.addresses == frozenset()
        made.meet(OTHER)
        await asyncio.sleep(1)
        assert len(network.at[OTHER]) == tries + 1
        running.cancel()
        await asyncio.wait({running})

    live(story())


def test_a_link_that_held_is_made_again_soon_and_one_that_fell_soon_is_not() -> None:
    async def story() -> None:
        steady = Network(Try(Ending.ENDED, 100))
        await dial(steady, static=(STATIC,), seconds=350)
        assert steady.at[STATIC] == [0, 101, 202, 303]
        falling = Network(Try(Ending.ENDED, 1))
        await dial(falling, static=(STATIC,), seconds=30)
        assert [at - falling.at[STATIC][0] for at in falling.at[STATIC]] == [0, 3, 8, 17]

    live(story())


def test_after_a_link_that_had_nothing_to_say_there_is_a_rest_unless_it_is_met_again() -> None:
    async def story() -> None:
        network = Network(Try(Ending.IDLE, 600))
        made = Dialling(
            (), backoff=Backoff(2, 64), randomness=lambda: 0.5, attempt=network.attempt, on_fault=network.faults.append
        )
        running = asyncio.create_task(made.run())
        await asyncio.sleep(0)
        made.meet(OTHER)
        await asyncio.sleep(601 + dialling.REST_SECONDS)
        assert network.at[OTHER] == [0, 600 + dialling.REST_SECONDS]
        await asyncio.sleep(610)
        made.meet(OTHER)
        await asyncio.sleep(1)
        assert len(network.at[OTHER]) == 3
        running.cancel()
        await asyncio.wait({running})

    live(story())


def test_ones_own_address_is_tried_again_after_a_rest_or_when_the_interfaces_changed() -> None:
    async def story() -> None:
        network = Network(Try(Ending.OURSELVES))
        await dial(network, static=(STATIC,), seconds=1000)
        assert network.at[STATIC] == [0, dialling.REST_SECONDS]

    live(story())


def test_where_there_is_no_way_it_is_asked_again_at_once_when_the_interfaces_changed_and_seldom_otherwise() -> None:
    async def story() -> None:
        network = Network(Try(Ending.NO_WAY))
        made = Dialling(
            (STATIC,),
            backoff=Backoff(2, 64),
            randomness=lambda: 0.5,
            attempt=network.attempt,
            on_fault=network.faults.append,
        )
        running = asyncio.create_task(made.run())
        await asyncio.sleep(130)
        made.ways_changed()
        await asyncio.sleep(1)
        assert network.at[STATIC] == [0, 60, 120, 130]
        running.cancel()
        await asyncio.wait({running})

    live(story())


def test_a_fault_in_one_try_ends_nothing() -> None:
    class Faulty(Network):
        async def attempt(self, address: Address) -> Try:
            await super().attempt(address)
            raise ZeroDivisionError

    async def story() -> None:
        network = Faulty(Try(Ending.FAILED))
        await dial(network, OTHER, static=(STATIC,), seconds=5)
        assert len(network.at[STATIC]) == len(network.at[OTHER]) == 2
        assert len(network.faults) == 4

    live(story())


def test_of_discovered_addresses_only_so_many_are_tried_at_a_time_and_static_ones_always() -> None:
    async def story() -> None:
        network = Network(Try(Ending.FAILED))
        met = [Address("192.0.2.9", port) for port in range(1, 500)]
        await dial(network, *met, static=(STATIC,), seconds=0.5)
        assert len(network.at) <= dialling.DISCOVERED_MAX + 1
        assert STATIC in network.at

    live(story())


def test_false_announcements_cannot_keep_a_true_one_out_nor_make_the_device_dial_without_end() -> None:
    async def story() -> None:
        network = Network(Try(Ending.FAILED))
        false = [Address("192.0.2.9", port) for port in range(1, 500)]
        await dial(network, *false, OTHER, seconds=1800)
        assert OTHER in network.at
        tries = sum(map(len, network.at.values()))
        assert tries <= dialling.DISCOVERED_TRIES_PER_MINUTE_MAX * 31

    live(story())


def test_true_ones_with_a_link_keep_their_place_however_many_false_ones_are_announced() -> None:
    class Mixed(Network):
        async def attempt(self, address: Address) -> Try:
            await super().attempt(address)
            if address == OTHER:
                await asyncio.sleep(100)
                return Try(Ending.ENDED, 100)
            return Try(Ending.FAILED)

    async def story() -> None:
        network = Mixed(Try(Ending.FAILED))
        false = [Address("192.0.2.9", port) for port in range(1, 500)]
        await dial(network, OTHER, *false, seconds=1000)
        assert len(network.at[OTHER]) >= 9

    live(story())


def test_a_static_peer_that_could_not_be_reached_is_tried_at_once_when_the_interfaces_change() -> None:
    async def story() -> None:
        network = Network(Try(Ending.FAILED))
        made = Dialling(
            (STATIC,),
            backoff=Backoff(2, 600),
            randomness=lambda: 0.5,
            attempt=network.attempt,
            on_fault=network.faults.append,
        )
        running = asyncio.create_task(made.run())
        await asyncio.sleep(0)
        made.meet(OTHER)
        await asyncio.sleep(1000)
        tries, others = len(network.at[STATIC]), len(network.at[OTHER])
        made.ways_changed()
        await asyncio.sleep(1)
        assert len(network.at[STATIC]) == tries + 1
        assert len(network.at[OTHER]) == others, "a discovery says anew what it sees"
        await asyncio.sleep(5)
        assert len(network.at[STATIC]) == tries + 2, "and then soon again"
        running.cancel()
        await asyncio.wait({running})

    live(story())


def test_an_address_that_is_lost_while_it_waits_for_its_turn_is_not_dialled() -> None:
    async def story() -> None:
        network = Network(Try(Ending.FAILED))
        made = Dialling(
            (), backoff=Backoff(2, 64), randomness=lambda: 0.5, attempt=network.attempt, on_fault=network.faults.append
        )
        running = asyncio.create_task(made.run())
        await asyncio.sleep(0)
        crowd = [Address(f"192.0.2.{number}", 1) for number in range(3)]
        made._tries = Allowance(1, 60)
        for address in crowd:
            made.meet(address)
        await asyncio.sleep(1)
        made.lose(crowd[1])
        await asyncio.sleep(300)
        assert crowd[1] not in network.at
        assert crowd[2] in network.at
        running.cancel()
        await asyncio.wait({running})

    live(story())
