"""Devices on one network: envelopes and receipts over real links, and what happens when these break."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge_agent.backoff import Backoff
from edge_agent.engine.effects import Effect
from edge_agent.engine.events import BundleArrived, Event
from edge_agent.engine.links import Link, LinkShape
from edge_agent.engine.ports import Outlet
from edge_agent.engine.store import StoreFault
from edge_agent.mesh import peer_link
from edge_agent.mesh.dialling import Address
from edge_agent.mesh.neighbours import MeshSettings
from edge_agent.mesh.peer_link import PeerLink
from sync_protocol.bundle import FrameType, read_bundle, write_bundle
from sync_protocol.envelope import parse_envelope
from sync_protocol.mesh import BundleMessage, Hello, Inventory, Message, Ping, Pong, Taken, Verdict, Verdicts
from sync_protocol.mesh_stream import write_message
from tests.support.device import NOW, committed, receipt
from tests.support.mesh_devices import (
    ADDRESS,
    QUICK,
    Certificates,
    MeshDevice,
    mesh_device,
    on_event_loop,
    raw_peer,
    until,
)
from tests.support.tcp_relay import TcpRelay

Greeting = Callable[[PeerLink], Awaitable[str | None]]

HELLO = Hello(False, None, 1_000_000)
NOTHING = write_bundle([])


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    folder = tmp_path / "tls"
    folder.mkdir()
    return Certificates(folder)


def links_of(device: MeshDevice) -> list[Link | str]:
    """Return what the engine hears of links from now on: one that comes up, the key of one that goes down."""
    seen: list[Link | str] = []
    runner = device.living.runner
    up, down = runner.link_up, runner.link_down

    def link_up(link: Link, outlet: Outlet) -> None:
        seen.append(link)
        up(link, outlet)

    def link_down(link_key: str) -> None:
        seen.append(link_key)
        down(link_key)

    runner.link_up, runner.link_down = link_up, link_down  # type: ignore[method-assign]  # to look on
    return seen


def hold_arrivals(device: MeshDevice) -> tuple[list[bytes], asyncio.Event]:
    """Make the device record no envelopes until the event is set; return what has come, too, but for statements."""
    came: list[bytes] = []
    go_on = asyncio.Event()
    runner, arrived = device.living.runner, device.living.runner.bundle_arrived

    async def bundle_arrived(link_key: str, data: bytes) -> tuple[bytes, ...]:
        if envelopes_of(data) or not read_bundle(data).frames:
            came.append(data)
            await go_on.wait()
        return await arrived(link_key, data)

    runner.bundle_arrived = bundle_arrived  # type: ignore[method-assign]  # to hold it up
    return came, go_on


@contextmanager
def silent_peer(port: int, context: ssl.SSLContext) -> Iterator[Callable[..., None]]:
    """Dial with little room in the kernel, and fetch nothing after the handshake; yields what says messages."""
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.setblocking(False)
        plain.connect_ex((ADDRESS, port))
        outgoing, incoming = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing)

        def shake_hands() -> None:
            plain.setblocking(True)
            while True:
                try:
                    return tls.do_handshake()
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    incoming.write(plain.recv(65536))

        def say(*messages: Message) -> None:
            if tls.version() is None or not plain.getblocking():
                shake_hands()
            tls.write(b"".join(write_message(one) for one in messages))
            plain.sendall(outgoing.read())

        yield say


async def marks(device: MeshDevice) -> Sequence[object]:
    return [row[0] for row in await device.rows("committed_at", "own = 1")]


@on_event_loop
async def test_envelopes_go_over_and_receipts_come_back(tmp_path: Path, certificates: Certificates) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a, mesh_device(tmp_path, "b", certificates) as b:
        before = await a.submit("1", "2")
        a.neighbours.meet(ADDRESS, b.port)
        await b.until_keeps(before)
        after = await a.submit("3")
        await b.until_keeps(after)
        await a.until_keeps(await b.submit("4"))
        await b.living.runner.learn(receipt(a.living.device, committed(1, 1, 3, after[-1])).data)
        async with asyncio.timeout(30):
            while await marks(a) != [NOW, NOW, NOW]:
                await asyncio.sleep(0.02)
        (state,) = a.neighbours.states()
        assert (state.device, state.address, state.dialled, state.hello) == (b.id, ADDRESS, True, b.hello)
        assert state.passed.bundles_out > 0
        (other,) = b.neighbours.states()
        assert (other.device, other.dialled) == (a.id, False)


@on_event_loop
async def test_the_engine_is_told_what_a_link_is_and_hears_anew_when_that_changes(
    tmp_path: Path, certificates: Certificates
) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a, mesh_device(tmp_path, "b", certificates) as b:
        seen = links_of(a)
        a.neighbours.meet(ADDRESS, b.port)
        await until(lambda: len(seen) == 1)
        b.hello = replace(b.hello, reaches_center=True)
        b.neighbours.hello_changed()
        await until(lambda: len(seen) == 3)
        first, ended, second = seen
        assert isinstance(first, Link)
        assert isinstance(second, Link)
        assert (first.shape, first.far_end, first.reaches_center) == (LinkShape.DUPLEX, b.id, False)
        assert ended == first.key
        assert second == replace(first, key=second.key, reaches_center=True)
        assert second.key != first.key
        b.hello = replace(b.hello, is_collection_point=True, last_contact_seconds=7)
        b.neighbours.hello_changed()
        await until(lambda: len(seen) == 5)
        third = seen[-1]
        assert isinstance(third, Link)
        assert third == replace(second, key=third.key, collects=True, contact_age=7_000_000)
        await b.until_keeps(await a.submit("1"))
        await a.until_keeps(await b.submit("2"))


def envelopes_of(data: bytes) -> list[bytes]:
    frames = read_bundle(data).frames
    return [parse_envelope(frame.payload).id for frame in frames if frame.type is FrameType.ENVELOPE]


@on_event_loop
async def test_what_was_sent_and_not_answered_comes_again_over_the_next_connection(
    tmp_path: Path, certificates: Certificates
) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a, mesh_device(tmp_path, "b", certificates) as b:
        came, go_on = hold_arrivals(b)
        ids = await a.submit("1", "2")
        with TcpRelay((ADDRESS, b.port)) as relay:
            a.neighbours.meet(*relay.address)
            await until(lambda: len(came) == 1)
            assert ids[0] in envelopes_of(came[0])
            await asyncio.to_thread(relay.cut)
            await until(lambda: not a.connected())
            await asyncio.to_thread(relay.heal)
            await until(lambda: [one for data in came for one in envelopes_of(data)].count(ids[0]) == 2)
            assert not await b.keeps(ids)
            go_on.set()
            await b.until_keeps(ids)


@on_event_loop
async def test_a_connection_killed_in_mid_bundle_loses_nothing(tmp_path: Path, certificates: Certificates) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a, mesh_device(tmp_path, "b", certificates) as b:
        came, go_on = hold_arrivals(b)
        go_on.set()
        ids = await a.submit("1", filler_bytes=120_000)
        with TcpRelay((ADDRESS, b.port), bytes_per_second=200_000) as relay:
            a.neighbours.meet(*relay.address)
            await until(lambda: relay.counters.bytes_to_target > 60_000)
            await asyncio.to_thread(relay.cut)
            await until(lambda: not a.connected() and not b.connected())
            assert [one for data in came for one in envelopes_of(data)] == []
            await asyncio.to_thread(relay.heal)
            await b.until_keeps(ids)


@on_event_loop
async def test_what_the_queue_could_not_record_is_not_answered(tmp_path: Path, certificates: Certificates) -> None:
    async with mesh_device(tmp_path, "b", certificates) as b:
        stepper = b.living.device.stepper
        step = stepper.step

        def failing(event: Event, now: int) -> list[Effect]:
            if isinstance(event, BundleArrived):
                raise StoreFault("as the test wanted")
            return step(event, now)

        stepper.step = failing  # type: ignore[method-assign]  # a disk that fails
        async with raw_peer(b.port, certificates.client(bytes(16).hex()), hello=HELLO) as peer:
            peer.say(BundleMessage(1, NOTHING))
            while (heard := await peer.hear()) is not None:
                assert not isinstance(heard, Taken)


@on_event_loop
async def test_a_bundle_is_not_answered_once_the_queue_has_closed_the_link(
    tmp_path: Path, certificates: Certificates
) -> None:
    async with mesh_device(tmp_path, "b", certificates) as b:
        runner, up, outlets = b.living.runner, b.living.runner.link_up, list[Outlet]()

        def link_up(link: Link, outlet: Outlet) -> None:
            outlets.append(outlet)
            up(link, outlet)

        async def bundle_arrived(link_key: str, data: bytes) -> tuple[bytes, ...]:
            outlets[0].close()
            return ()

        runner.link_up, runner.bundle_arrived = link_up, bundle_arrived  # type: ignore[method-assign]  # a failing disk
        async with raw_peer(b.port, certificates.client(bytes(16).hex()), hello=HELLO) as peer:
            peer.say(BundleMessage(1, NOTHING))
            while (heard := await peer.hear()) is not None:
                assert not isinstance(heard, Taken)


@on_event_loop
async def test_while_one_bundle_is_recorded_the_next_is_left_waiting(
    tmp_path: Path, certificates: Certificates
) -> None:
    async with mesh_device(tmp_path, "b", certificates) as b:
        came, go_on = hold_arrivals(b)
        async with raw_peer(b.port, certificates.client(bytes(16).hex()), hello=HELLO) as peer:
            peer.say(BundleMessage(5, NOTHING), BundleMessage(6, NOTHING), Ping(b"anybody?"))
            await until(lambda: len(came) == 1)
            await asyncio.sleep(0.1)
            assert len(came) == 1
            go_on.set()
            assert [await peer.hear_a(Taken), await peer.hear_a(Taken)] == [Taken(5, True), Taken(6, True)]
            assert await peer.hear_a(Pong) == Pong(b"anybody?")


@on_event_loop
async def test_a_third_bundle_before_the_first_is_answered_ends_the_link(
    tmp_path: Path, certificates: Certificates
) -> None:
    async with mesh_device(tmp_path, "b", certificates) as b:
        came, go_on = hold_arrivals(b)
        go_on.set()
        async with raw_peer(b.port, certificates.client(bytes(16).hex()), hello=HELLO) as peer:
            peer.say(*(BundleMessage(number, NOTHING) for number in (1, 2, 3)))
            await peer.until_closed()
        await until(lambda: not b.connected())
        assert came == []


@on_event_loop
async def test_a_neighbour_that_fetches_nothing_is_let_go_and_others_are_served(
    tmp_path: Path, certificates: Certificates
) -> None:
    settings = replace(QUICK, progress_seconds=0.3)
    async with mesh_device(tmp_path, "a", certificates, settings=settings) as a:
        ids = await a.submit(*map(str, range(4)), filler_bytes=120_000)
        with silent_peer(a.port, certificates.client(bytes(16).hex())) as say:
            seen = links_of(a)
            await asyncio.to_thread(say, HELLO)
            await until(lambda: len(seen) == 1)
            await asyncio.to_thread(say, Inventory(frozenset(), ()))
            async with asyncio.timeout(30):
                while len(await a.rows("number", "number IN (SELECT envelope FROM dispatch)")) < len(ids):
                    await asyncio.sleep(0.02)
            await asyncio.to_thread(say, Verdicts(1, (Verdict.WANTED,) * len(ids)))
            async with mesh_device(tmp_path, "b", certificates) as b:
                b.neighbours.meet(ADDRESS, a.port)
                await b.until_keeps(ids)
                await until(lambda: a.connected() == {b.id})


@on_event_loop
async def test_two_that_dial_each_other_end_up_with_one_link(tmp_path: Path, certificates: Certificates) -> None:
    for number in range(6):
        folder = tmp_path / str(number)
        async with mesh_device(folder, "a", certificates) as a, mesh_device(folder, "b", certificates) as b:
            a.neighbours.meet(ADDRESS, b.port)
            for _ in range(number):
                await asyncio.sleep(0.001)
            b.neighbours.meet(ADDRESS, a.port)
            await b.until_keeps(await a.submit("1"))
            await a.until_keeps(await b.submit("2"))
            await asyncio.sleep(0.05)
            (there,), (here,) = a.neighbours.states(), b.neighbours.states()
            assert there.dialled != here.dialled


@on_event_loop
async def test_of_two_dials_that_cross_the_one_of_the_smaller_name_stays(
    tmp_path: Path, certificates: Certificates
) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a, mesh_device(tmp_path, "b", certificates) as b:
        both_said_hello = asyncio.Barrier(2)
        for one in (a, b):
            greeted = one.neighbours.greeted

            async def late(link: PeerLink, greeted: Greeting = greeted) -> str | None:
                if not link.dialled:
                    async with asyncio.timeout(20):
                        await both_said_hello.wait()
                return await greeted(link)

            one.neighbours.greeted = late  # type: ignore[method-assign]  # so that they do cross
        with capture_logs() as logs:
            a.neighbours.meet(ADDRESS, b.port)
            b.neighbours.meet(ADDRESS, a.port)
            await a.until_connected(b)
            await b.until_connected(a)
            # The line is written when both have taken leave of the spare connection.
            await until(lambda: any(one.get("reason") == "it is connected already" for one in logs))
        assert [one.get("reason") for one in logs].count("it is connected already") == 1
        told = {"neighbour_refused", "neighbour_refuses_us", "neighbour_unreached"}
        assert [one for one in logs if one["event"] in told] == [], "nobody was refused"
        smaller, greater = sorted((a, b), key=lambda one: one.id)
        (there,), (here,) = smaller.neighbours.states(), greater.neighbours.states()
        assert there.dialled
        assert not here.dialled
        await b.until_keeps(await a.submit("1"))


@on_event_loop
async def test_a_device_that_starts_again_is_found_again(tmp_path: Path, certificates: Certificates) -> None:
    async with mesh_device(tmp_path, "b", certificates) as b:
        first = await b.submit("1")
        seen = links_of(b)
        async with AsyncExitStack() as stack:
            a = await stack.enter_async_context(mesh_device(tmp_path, "a", certificates))
            port = a.port
            b.neighbours.meet(ADDRESS, port)
            await a.until_keeps(first)
        await until(lambda: not b.connected())
        link, ended = seen
        assert isinstance(link, Link)
        assert ended == link.key
        second = await b.submit("2")
        async with mesh_device(tmp_path, "a", certificates, port=port) as a:
            await a.until_keeps([*first, *second])


@on_event_loop
async def test_a_neighbour_that_lost_its_end_of_the_link_gets_another(
    tmp_path: Path, certificates: Certificates
) -> None:
    name = bytes(16).hex()
    async with mesh_device(tmp_path, "b", certificates) as b:
        context = certificates.client(name)
        async with raw_peer(b.port, context, hello=HELLO) as first, raw_peer(b.port, context, hello=HELLO) as second:
            await first.until_closed()
            second.say(BundleMessage(1, NOTHING))
            assert await second.hear_a(Taken) == Taken(1, True)
            assert len(b.neighbours.states()) == 1


@on_event_loop
async def test_static_peers_are_dialled_until_they_are_there(tmp_path: Path, certificates: Certificates) -> None:
    async with mesh_device(tmp_path, "b", certificates) as b:
        port = b.port
    settings = MeshSettings(static_peers=(Address(ADDRESS, port),), backoff=Backoff(1, 1))
    async with mesh_device(tmp_path, "a", certificates, settings=settings) as a:
        ids = await a.submit("1")
        async with mesh_device(tmp_path, "b", certificates, port=port) as b:
            await b.until_keeps(ids)


@on_event_loop
async def test_links_go_over_ipv6_too(tmp_path: Path, certificates: Certificates) -> None:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(mesh_device(tmp_path, "a", certificates))
        try:
            b = await stack.enter_async_context(mesh_device(tmp_path, "b", certificates, address="::1"))
        except OSError:
            pytest.skip("there is no IPv6 here")
        a.neighbours.meet("::1", b.port)
        await b.until_keeps(await a.submit("1"))
        assert [state.address for state in b.neighbours.states()] == ["::1"]


@on_event_loop
async def test_addresses_that_are_none_do_no_harm(tmp_path: Path, certificates: Certificates) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a, mesh_device(tmp_path, "b", certificates) as b:
        for host, port in (
            ("", 1),
            ("..", 1),
            ("x" * 70 + ".test", 1),
            ("::1%absent", 1),
            (ADDRESS, 70_000),
            ("a\0", 1),
        ):
            a.neighbours.meet(host, port)
        await asyncio.sleep(0.1)
        a.neighbours.meet(ADDRESS, b.port)
        await b.until_keeps(await a.submit("1"))


@on_event_loop
async def test_a_device_with_two_addresses_gets_one_link(tmp_path: Path, certificates: Certificates) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a, mesh_device(tmp_path, "b", certificates) as b:
        with TcpRelay((ADDRESS, b.port)) as relay, capture_logs() as logs:
            a.neighbours.meet(ADDRESS, b.port)
            a.neighbours.meet(*relay.address)
            await until(lambda: relay.counters.connections == 1)
            await until(lambda: any(one["event"] == "neighbour_connection_spare" for one in logs))
            await b.until_keeps(await a.submit("1"))
            assert len(a.neighbours.states()) == len(b.neighbours.states()) == 1
            assert [one for one in logs if one["event"].startswith("neighbour_refuse")] == []


@on_event_loop
async def test_a_neighbour_that_sends_more_than_its_share_is_read_more_slowly_and_others_are_not(
    tmp_path: Path, certificates: Certificates
) -> None:
    async with mesh_device(tmp_path, "b", certificates) as b:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(peer_link, "BYTES_PER_MINUTE_MAX", 2_000)
            eager = raw_peer(b.port, certificates.client(bytes(16).hex()), hello=HELLO)
            modest = raw_peer(b.port, certificates.client(bytes(15).hex() + "01"), hello=HELLO)
            async with eager as one, modest as other:
                one.say(BundleMessage(1, NOTHING + bytes(4_000)))
                assert await one.hear_a(Taken) == Taken(1, True)
                one.say(Ping(b"eager..."))
                other.say(Ping(b"modest.."))
                assert await other.hear_a(Pong) == Pong(b"modest..")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(one.hear_a(Pong), 0.2)
