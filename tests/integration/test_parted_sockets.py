"""Sockets of ended connections: kept while the broker may still send, closed when it has ended."""

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest

from edge_agent.mqtt.parted_sockets import PartedSockets


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(0)
        made.settimeout(20)
        yield made


def connected_to(listening: socket.socket) -> tuple[socket.socket, socket.socket]:
    near = socket.create_connection(listening.getsockname())
    far, _ = listening.accept()
    far.settimeout(20)
    return near, far


def test_what_still_arrives_is_thrown_away_and_the_end_of_the_other_side_closes_it(listening: socket.socket) -> None:
    async def run() -> None:
        parted = PartedSockets()
        near, far = connected_to(listening)
        parted.part(near)
        assert far.recv(10) == b""  # our side has said that it is over
        await asyncio.to_thread(far.sendall, b"x" * 5_000_000)  # more than any buffer: it is read, and nobody is reset
        assert len(parted) == 1
        far.close()
        await until(lambda: len(parted) == 0)
        assert near.fileno() == -1

    asyncio.run(run())


def test_a_reset_closes_it(listening: socket.socket) -> None:
    async def run() -> None:
        parted = PartedSockets()
        near, far = connected_to(listening)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        parted.part(near)
        await until(lambda: len(parted) == 0)

    asyncio.run(run())


def test_a_socket_that_still_connects_is_not_forgotten_by_the_kernel(listening: socket.socket) -> None:
    async def run() -> None:
        parted = PartedSockets()
        waiting = []
        for _ in range(4):  # a full backlog: the last of these stay in SYN-SENT
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
            waiting.append(one)
        late = waiting[-1]
        assert late.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\2"
        parted.part(late)
        assert late.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\2"
        listening.listen(16)  # there is room now: the kernel's next try connects
        for _ in waiting:
            far, _ = await asyncio.to_thread(listening.accept)
            far.close()
        await until(lambda: len(parted) == 0)
        for one in waiting:
            one.close()

    asyncio.run(run())


def test_the_oldest_goes_when_there_are_too_many_and_each_when_its_time_is_over(listening: socket.socket) -> None:
    async def run() -> None:
        parted = PartedSockets(kept_seconds_max=0.2, kept_sockets_max=2)
        pairs = [connected_to(listening) for _ in range(3)]
        for near, _ in pairs:
            parted.part(near)
        assert [near.fileno() == -1 for near, _ in pairs] == [True, False, False]
        await until(lambda: len(parted) == 0)
        for _, far in pairs:
            far.close()

    asyncio.run(run())


def test_closing_releases_all(listening: socket.socket) -> None:
    async def run() -> None:
        parted = PartedSockets()
        near, far = connected_to(listening)
        parted.part(near)
        parted.close()
        assert (len(parted), near.fileno()) == (0, -1)
        far.close()

    asyncio.run(run())
