"""What follows when a link to a neighbour begins, ends or moves at an awkward moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge_agent.mesh import conversation
from edge_agent.mesh.connection import PeerConnection
from edge_agent.mesh.peer_link import PeerLink
from edge_agent.mesh.peer_tls import peer_tls
from sync_protocol.bundle import write_bundle
from sync_protocol.mesh import BundleMessage, Hello, Taken
from tests.support.mesh_devices import (
    ADDRESS,
    QUICK,
    Certificates,
    RawPeer,
    mesh_device,
    on_event_loop,
    raw_peer,
    until,
)

HELLO = Hello(False, None, 1_000_000)
GREATEST = b"\xff" * 16


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    folder = tmp_path / "tls"
    folder.mkdir()
    return Certificates(folder)


@asynccontextmanager
async def listening_peer(
    certificates: Certificates, device: bytes
) -> AsyncIterator[tuple[int, asyncio.Queue[RawPeer]]]:
    """Let a far end be dialled that says whatever a test wants; yields its port, and who has come."""
    came: asyncio.Queue[RawPeer] = asyncio.Queue()
    context = peer_tls(certificates.device(device.hex())).server
    server = await asyncio.start_server(
        lambda reader, writer: came.put_nowait(RawPeer(reader, writer)), ADDRESS, 0, ssl=context
    )
    async with server:
        yield server.sockets[0].getsockname()[1], came


@on_event_loop
async def test_a_change_while_hellos_are_exchanged_is_told_to_the_neighbour_too(
    tmp_path: Path, certificates: Certificates
) -> None:
    async with listening_peer(certificates, GREATEST) as (port, came), mesh_device(tmp_path, "a", certificates) as a:
        a.neighbours.meet(ADDRESS, port)
        peer = await came.get()
        assert not (await peer.hear_a(Hello)).reaches_center
        a.hello = replace(a.hello, reaches_center=True)
        a.neighbours.hello_changed()
        peer.say(HELLO)
        async with asyncio.timeout(10):
            assert (await peer.hear_a(Hello)).reaches_center
        peer.writer.transport.abort()


@on_event_loop
async def test_a_link_that_is_over_keeps_nobody_out_while_it_takes_leave(
    tmp_path: Path, certificates: Certificates
) -> None:
    async with listening_peer(certificates, GREATEST) as (port, came), mesh_device(tmp_path, "a", certificates) as a:
        a.neighbours.meet(ADDRESS, port)
        peer = await came.get()
        peer.say(HELLO)
        await until(lambda: a.connected() == {GREATEST})
        assert isinstance(peer.writer.transport, asyncio.Transport)
        peer.writer.transport.pause_reading()  # it does not take leave
        peer.say(Taken(7, True))  # so this side ends it
        await until(lambda: not a.connected())
        again = certificates.client(GREATEST.hex())
        async with raw_peer(a.port, again, hello=HELLO):
            assert a.connected() == {GREATEST}
        peer.writer.transport.abort()


@pytest.mark.parametrize("quiet", [True, False])
@on_event_loop
async def test_a_neighbour_that_ends_a_quiet_link_just_before_this_side_would_is_left_to_rest(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    monkeypatch.setattr(conversation, "IDLE_SECONDS", 3)
    often = replace(QUICK, standing_check_seconds=0.4)
    async with (
        listening_peer(certificates, GREATEST) as (port, came),
        mesh_device(tmp_path, "a", certificates, settings=often) as a,
    ):
        a.neighbours.meet(ADDRESS, port)
        peer = await came.get()
        peer.say(HELLO)
        await until(lambda: a.connected() == {GREATEST})
        await asyncio.sleep(2.8 if quiet else 0.1)
        peer.writer.close()
        if quiet:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(came.get(), 3)
        else:
            (await asyncio.wait_for(came.get(), 10)).writer.transport.abort()


@on_event_loop
async def test_an_address_that_has_become_another_devices_is_dialled_although_the_first_is_connected(
    tmp_path: Path, certificates: Certificates
) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a:
        async with mesh_device(tmp_path, "b", certificates) as b:
            port = b.port
            a.neighbours.meet(ADDRESS, port)
            await a.until_connected(b)
            a.neighbours.lose(ADDRESS, port)
        await until(lambda: not a.connected())
        async with (
            mesh_device(tmp_path, "b", certificates) as b,
            mesh_device(tmp_path, "c", certificates, port=port) as c,
        ):
            b.neighbours.meet(ADDRESS, a.port)
            await a.until_connected(b)
            a.neighbours.meet(ADDRESS, port)
            await a.until_connected(b, c)


@on_event_loop
async def test_a_link_that_a_fault_has_ended_is_told_as_that(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
        with capture_logs() as logs:
            async with raw_peer(a.port, certificates.client(GREATEST.hex()), hello=HELLO) as peer:

                async def faulty(self: PeerLink, number: int, bundle: bytes) -> None:
                    raise ZeroDivisionError

                monkeypatch.setattr(PeerLink, "_record", faulty)
                peer.say(BundleMessage(1, write_bundle([])))
                await peer.until_closed()
            await until(lambda: any(one["event"] == "neighbour_left" for one in logs))
        (left,) = [one for one in logs if one["event"] == "neighbour_left"]
        assert "fault in this device" in left["reason"]


@on_event_loop
async def test_a_link_that_ends_while_a_second_connection_is_still_being_closed_is_no_fault(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = PeerConnection.close
    async with AsyncExitStack() as stack:
        port, came = await stack.enter_async_context(listening_peer(certificates, GREATEST))
        other_port, _ = await stack.enter_async_context(listening_peer(certificates, GREATEST))
        a = await stack.enter_async_context(mesh_device(tmp_path, "a", certificates))
        a.neighbours.meet(ADDRESS, port)
        peer = await came.get()
        peer.say(HELLO)
        await until(lambda: bool(a.connected()))

        async def close_late(connection: PeerConnection) -> None:
            if not closing.done():  # the second one: the first ends before it is gone
                closing.set_result(None)
                peer.writer.transport.abort()
                await until(lambda: not a.connected())
                await asyncio.sleep(0.1)
            await close(connection)

        closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(PeerConnection, "close", close_late)
        a.neighbours.meet(ADDRESS, other_port)
        await closing
        await until(lambda: came.qsize() > 0)  # it goes on dialling
