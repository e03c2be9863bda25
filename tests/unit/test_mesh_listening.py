"""Listening follows the interfaces, and what cannot be listened on is told once and tried again."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import pytest
from structlog.testing import capture_logs

from edge_agent.mesh import listening
from edge_agent.mesh.bound_sockets import bound_socket
from edge_agent.mesh.interfaces import MeshInterface
from edge_agent.mesh.listening import Listeners
from edge_agent.mesh.ways import Way


def loopback(*hosts: str) -> MeshInterface:
    return MeshInterface("lo", socket.if_nametoindex("lo"), tuple(ipaddress.ip_interface(f"{one}/8") for one in hosts))


class Opened:
    """Takes listeners over."""

    def __init__(self, port: int) -> None:
        self.sockets: list[socket.socket] = []
        self.listeners = Listeners(port, open=self.open, shut=self.shut)

    def open(self, made: socket.socket, way: Way) -> None:
        assert way.interface == "lo"
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
        self.sockets.append(made)

    def shut(self, made: socket.socket) -> None:
        self.sockets.remove(made)
        made.close()

    @property
    def hosts(self) -> set[str]:
        return {one.getsockname()[0] for one in self.sockets}


def taken_port() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_listeners_come_and_go_with_the_addresses() -> None:
    async def story() -> None:
        with taken_port() as taken:
            port = taken.getsockname()[1]
            opened = Opened(port)
            opened.listeners.follow([loopback("127.0.0.2", "127.0.0.3")])
            kept = {one.getsockname()[0]: one for one in opened.sockets}["127.0.0.3"]
            opened.listeners.follow([loopback("127.0.0.3", "127.0.0.4")])
            assert opened.hosts == {"127.0.0.3", "127.0.0.4"}
            assert kept in opened.sockets
            assert opened.listeners.told == (f"127.0.0.3 port {port} on lo", f"127.0.0.4 port {port} on lo")
            opened.listeners.close()
            assert opened.sockets == []
            assert not opened.listeners.told

    asyncio.run(story())


def test_a_port_that_is_taken_is_told_once_tried_again_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "AGAIN_SECONDS", 0.05)

    async def story() -> None:
        taken = taken_port()
        opened = Opened(taken.getsockname()[1])
        with taken:
            trying = asyncio.create_task(opened.listeners.keep_trying())
            opened.listeners.follow([loopback("127.0.0.1", "127.0.0.2")])
            await asyncio.sleep(0.3)
            assert opened.hosts == {"127.0.0.2"}
        async with asyncio.timeout(20):
            while opened.hosts != {"127.0.0.1", "127.0.0.2"}:
                await asyncio.sleep(0.01)
        trying.cancel()
        opened.listeners.close()

    with capture_logs() as logs:
        asyncio.run(story())
    (line,) = (one for one in logs if one["log_level"] == "warning")
    assert (line["event"], line["place"]) == ("mesh_not_listening", "127.0.0.1 on lo")
    assert "another program has taken the port" in line["problem"]


def test_an_address_that_is_gone_already_and_an_interface_that_is_not_there_do_no_harm() -> None:
    async def story() -> None:
        opened = Opened(0)
        gone = MeshInterface("nothing0", 999_999, (ipaddress.ip_interface("192.0.2.1/24"),))
        opened.listeners.follow([gone, loopback("192.0.2.77", "127.0.0.2")])
        assert opened.hosts == {"127.0.0.2"}
        opened.listeners.close()

    with capture_logs() as logs:
        asyncio.run(story())
    assert not [one for one in logs if one["log_level"] != "debug"]


def test_where_sockets_cannot_be_bound_to_interfaces_nothing_is_listened_on_and_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_option = socket.socket.setsockopt

    def as_before_5_7(made: socket.socket, level: int, option: int, value: bytes) -> None:
        if option == socket.SO_BINDTODEVICE:
            raise PermissionError(1, "Operation not permitted")
        set_option(made, level, option, value)

    async def story() -> None:
        opened = Opened(0)
        opened.listeners.follow([loopback("127.0.0.2", "127.0.0.3")])
        assert opened.sockets == []

    monkeypatch.setattr(socket.socket, "setsockopt", as_before_5_7)
    with pytest.raises(PermissionError):
        bound_socket("lo", 1, "127.0.0.1")
    with bound_socket("lo", 1, "fe80::1"):
        pass  # its scope binds it
    with capture_logs() as logs:
        asyncio.run(story())
    (line,) = (one for one in logs if one["log_level"] == "warning")
    assert "Linux 5.7" in line["problem"]
