"""Whoever else is on the network: refused with one line, at a bounded cost, and links go on beside them."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator, MutableMapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from structlog.testing import capture_logs

from central_broker.tls_authority import CONSUMER_NAME, create_tls_authority, to_pem
from edge_agent.mesh import connection, door, neighbours, standings
from edge_agent.mesh.connection import PeerConnection
from edge_agent.mesh.neighbours import MeshSettings
from edge_agent.mesh.peer_link import PeerLink
from edge_agent.mesh.peer_tls import APPLICATION_PROTOCOL, PeerTls, peer_tls
from edge_agent.mesh.ways import Way
from edge_agent.tls import TlsMaterial, TlsMaterialError
from sync_protocol.bundle import write_bundle
from sync_protocol.identity import Standing, certify_device
from sync_protocol.mesh import BundleMessage, Hello, Ping, Taken
from sync_protocol.mesh_stream import write_message
from tests.support.mesh_devices import (
    ADDRESS,
    QUICK,
    Certificates,
    MeshDevice,
    listening,
    mesh_device,
    on_event_loop,
    raw_peer,
    until,
)

HELLO = Hello(False, None, 1_000_000)
Logs = list[MutableMapping[str, Any]]


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    folder = tmp_path / "tls"
    folder.mkdir()
    return Certificates(folder)


@pytest.fixture
def logs() -> Iterator[Logs]:
    with capture_logs() as captured:
        yield captured


def refusals(logs: Logs, event: str = "neighbour_refused") -> list[str]:
    return [f"{line['reason']}" for line in logs if line["event"] == event]


def name(number: int) -> str:
    return number.to_bytes(16).hex()


async def revoke(device: MeshDevice, at: MeshDevice, standing: Standing = Standing.REVOKED) -> None:
    """Let one device learn how the authority sees another."""
    revoked = device.living.device
    statement = certify_device(
        revoked.authority.issuer,
        public_key=revoked.signer.public_bytes,
        role=revoked.role,
        standing=standing,
        issued_at=revoked.now,
        name=revoked.name,
        serial=2,
    )
    await at.living.runner.learn(statement.data)


async def is_turned_away(port: int, context: ssl.SSLContext | None, data: bytes = b"") -> bool:
    """Dial, say something, and tell whether the device says hello."""
    try:
        async with raw_peer(port, context) as peer:
            if data:
                peer.writer.write(data)
            else:
                peer.say(HELLO)
            return await peer.hear() is None
    except OSError:
        return True


def without_certificate(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(certificates.root)
    context.set_alpn_protocols([APPLICATION_PROTOCOL])
    return context


@on_event_loop
async def test_strangers_of_every_kind_are_refused_with_one_line_each_and_a_link_goes_on(
    tmp_path: Path, certificates: Certificates, logs: Logs
) -> None:
    other = Certificates(tmp_path / "other", create_tls_authority())
    other.folder.mkdir()
    forged = peer_tls(replace(other.device(name(1)), authority=certificates.root)).client
    other_protocol = certificates.client(name(2))
    other_protocol.set_alpn_protocols(["http/1.1"])
    no_protocol = without_certificate(certificates)
    no_protocol.load_cert_chain(certificates.folder / f"{name(2)}.crt", certificates.folder / f"{name(2)}.key")
    strangers: list[tuple[ssl.SSLContext | None, bytes]] = [
        (without_certificate(certificates), b""),
        (forged, b""),
        (certificates.client(CONSUMER_NAME), b""),
        (certificates.client(name(3).upper().replace("0", "A")), b""),
        (other_protocol, b""),
        (None, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (None, bytes(range(256)) * 40),
        (None, b"\x16\x03\x01\xff\xff" + bytes(70_000)),
        (certificates.client(name(4)), b"\x02" + bytes(3) + b"\xff\xff\xff\xff" + bytes(100_000)),
        (certificates.client(name(5)), write_message(Ping(b"anybody?"))),
    ]
    async with mesh_device(tmp_path, "a", certificates) as a, mesh_device(tmp_path, "b", certificates) as b:
        a.neighbours.meet(ADDRESS, b.port)
        await b.until_keeps(await a.submit("1"))
        for _ in range(2):
            for context, data in strangers:
                assert await is_turned_away(b.port, context, data)
        assert b.connected() == {a.id}
        await b.until_keeps(await a.submit("2"))
    told = refusals(logs)
    assert len(told) == len(set(told)), told
    for part in (
        "TLS: peer did not return a certificate",
        "its certificate does not verify",
        "common name is not a device's",
        f"does not speak {APPLICATION_PROTOCOL}",
        "TLS: http request",
        "before hello",
        "oversized",
    ):
        assert any(part in one for one in told), (part, told)
    assert [line["reason"] for line in logs if line["event"] == "neighbour_left"][:1] == [
        "the mesh of this device stops"
    ]


@on_event_loop
async def test_what_only_serves_is_no_device_whatever_its_certificate(
    tmp_path: Path, certificates: Certificates, logs: Logs
) -> None:
    serving = peer_tls(certificates.server("census-broker", ADDRESS, name(9))).server
    server = await asyncio.start_server(lambda reader, writer: None, ADDRESS, 0, ssl=serving)
    async with server, mesh_device(tmp_path, "a", certificates) as a:
        a.neighbours.meet(ADDRESS, server.sockets[0].getsockname()[1])
        await until(lambda: bool(refusals(logs)))
    assert refusals(logs) == ["the certificate's common name is not a device's"]


@on_event_loop
async def test_dates_of_certificates_are_not_looked_at(tmp_path: Path, certificates: Certificates) -> None:
    key_file = certificates.device(name(1)).key
    issuer = certificates.authority.issuing
    valid = x509.load_pem_x509_certificates((certificates.folder / f"{name(1)}.crt").read_bytes())[0]
    builder = (
        x509.CertificateBuilder()
        .subject_name(valid.subject)
        .issuer_name(valid.issuer)
        .public_key(valid.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid.not_valid_before_utc)
        .not_valid_after(valid.not_valid_before_utc.replace(year=1971))
    )
    for extension in valid.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    expired = builder.sign(issuer.key, SHA256())
    material = certificates.write("expired", to_pem(expired, issuer.certificate), key_file.read_bytes())
    async with mesh_device(tmp_path, "b", certificates) as b, raw_peer(b.port, peer_tls(material).client) as peer:
        peer.say(HELLO)
        assert await peer.hear_a(Hello) == b.hello


@pytest.mark.parametrize("dialled", [False, True])
@on_event_loop
async def test_a_device_that_was_called_in_is_refused_whoever_dials(
    tmp_path: Path, certificates: Certificates, logs: Logs, dialled: bool
) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a, mesh_device(tmp_path, "b", certificates) as b:
        await revoke(a, b, Standing.LOST)
        from_, to = (b, a) if dialled else (a, b)
        from_.neighbours.meet(ADDRESS, to.port)
        reason = "the authority says that it is lost"
        await until(lambda: reason in refusals(logs))
        assert [one["dialled"] for one in logs if one.get("reason") == reason] == [dialled]
        # Whoever is refused is not told why, and says no more than what he has seen.
        await until(lambda: bool(refusals(logs, "neighbour_refuses_us")))
        (told,) = [one for one in logs if one["event"] == "neighbour_refuses_us"]
        assert "without a hello" in told["reason"]
        assert (told["device"], told["dialled"]) == (b.id, not dialled)
        assert (a.neighbours.refusals.refused, a.neighbours.refusals.last) == (0, None)
        assert b.neighbours.refusals.refused > 0
        assert not a.connected()
        assert not b.connected()


@pytest.mark.parametrize("dialled", [False, True])
@on_event_loop
async def test_the_journal_says_which_side_does_not_accept_the_others_certificate(
    tmp_path: Path, certificates: Certificates, logs: Logs, dialled: bool
) -> None:
    other = Certificates(tmp_path / "other", create_tls_authority())
    other.folder.mkdir()
    stranger = peer_tls(replace(other.device(name(1)), authority=certificates.root))  # it would accept ours
    if dialled:
        server = await asyncio.start_server(lambda reader, writer: None, ADDRESS, 0, ssl=stranger.server)
        async with server, mesh_device(tmp_path, "a", certificates) as a:
            a.neighbours.meet(ADDRESS, server.sockets[0].getsockname()[1])
            await until(lambda: bool(refusals(logs)))
    else:
        async with mesh_device(tmp_path, "a", certificates) as a:
            assert await is_turned_away(a.port, stranger.client)
            await until(lambda: bool(refusals(logs)))
    (line,) = [one for one in logs if one["event"].startswith("neighbour_")]
    assert "its certificate does not verify" in line["reason"]
    assert line["dialled"] is dialled


def choosy(certificates: Certificates, folder: Path) -> PeerTls:
    """Return a device's contexts that accept no certificate of ours, though its own is one."""
    other = Certificates(folder / "other", create_tls_authority())
    other.folder.mkdir()
    return peer_tls(replace(certificates.device(name(1)), authority=other.root))


def shake_hands_in_vain(made: socket.socket, context: ssl.SSLContext, *, serves: bool) -> None:
    """As OpenSSL does it by itself: whoever does not accept a certificate says so, which asyncio leaves out."""
    made.settimeout(20)
    with made.dup() as plain, suppress(OSError):
        with suppress(OSError), context.wrap_socket(made, server_side=serves):
            pass
        plain.shutdown(socket.SHUT_WR)
        while plain.recv(65536):  # a reset would overtake what was said
            pass


@pytest.mark.parametrize("dialled", [False, True])
@on_event_loop
async def test_whoever_says_that_it_does_not_accept_this_devices_certificate_is_told_as_refusing(
    tmp_path: Path, certificates: Certificates, logs: Logs, dialled: bool
) -> None:
    peer = choosy(certificates, tmp_path)
    async with mesh_device(tmp_path, "a", certificates) as a:
        if dialled:
            with listening() as server:
                a.neighbours.meet(ADDRESS, server.getsockname()[1])
                came, _ = await asyncio.to_thread(server.accept)
                await asyncio.to_thread(shake_hands_in_vain, came, peer.server, serves=True)
        else:
            made = await asyncio.to_thread(socket.create_connection, (ADDRESS, a.port))
            await asyncio.to_thread(shake_hands_in_vain, made, peer.client, serves=False)
        await until(lambda: bool(refusals(logs, "neighbour_refuses_us")))
        assert a.neighbours.refusals.refused == 0
    assert refusals(logs) == []
    assert refusals(logs, "neighbour_refuses_us") == ["it does not accept this device (unknown ca)"]


@pytest.mark.parametrize("dialled", [False, True])
@on_event_loop
async def test_a_device_of_ours_that_does_not_accept_this_devices_certificate_is_not_told_as_refused_here(
    tmp_path: Path, certificates: Certificates, logs: Logs, dialled: bool
) -> None:
    peer = choosy(certificates, tmp_path)
    event = "neighbour_refuses_us" if dialled else "neighbour_unreached"
    async with mesh_device(tmp_path, "a", certificates) as a:
        if dialled:
            server = await asyncio.start_server(lambda reader, writer: None, ADDRESS, 0, ssl=peer.server)
            async with server:
                a.neighbours.meet(ADDRESS, server.sockets[0].getsockname()[1])
                await until(lambda: bool(refusals(logs, event)))
        else:
            assert await is_turned_away(a.port, peer.client)
            await until(lambda: bool(refusals(logs, event)))
        assert a.neighbours.refusals.refused == 0
    assert refusals(logs) == []
    assert "certificate" in refusals(logs, event)[0]


@on_event_loop
async def test_where_nobody_answers_nobody_is_told_as_refused(
    tmp_path: Path, certificates: Certificates, logs: Logs
) -> None:
    with listening() as gone:
        port = gone.getsockname()[1]
    async with mesh_device(tmp_path, "a", certificates) as a:
        a.neighbours.meet(ADDRESS, port)
        await until(lambda: bool(refusals(logs, "neighbour_unreached")))
    assert refusals(logs, "neighbour_unreached") == ["Connection refused"]
    assert refusals(logs) == []


@on_event_loop
async def test_nothing_is_said_to_a_device_that_was_called_in(tmp_path: Path, certificates: Certificates) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a, mesh_device(tmp_path, "b", certificates) as b:
        await revoke(a, b)
        heard: asyncio.Queue[bytes] = asyncio.Queue()

        async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.put_nowait(await reader.read())
            writer.close()

        serving = peer_tls(certificates.device(a.id.hex())).server
        async with await asyncio.start_server(hear, ADDRESS, 0, ssl=serving) as server:
            b.neighbours.meet(ADDRESS, server.sockets[0].getsockname()[1])
            assert await asyncio.wait_for(heard.get(), 20) == b""


@on_event_loop
async def test_a_neighbour_that_is_called_in_is_parted_from(
    tmp_path: Path, certificates: Certificates, logs: Logs
) -> None:
    often = replace(QUICK, standing_check_seconds=0.05)
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(mesh_device(tmp_path, "a", certificates))
        b = await stack.enter_async_context(mesh_device(tmp_path, "b", certificates, settings=often))
        c = await stack.enter_async_context(mesh_device(tmp_path, "c", certificates))
        for one in (a, c):
            one.neighbours.meet(ADDRESS, b.port)
        await b.until_connected(a, c)
        await revoke(a, b)
        await b.until_connected(c)
        assert not await b.keeps(await a.submit("1"))
        await b.until_keeps(await c.submit("2"))
    assert "the authority says that it is revoked" in [line.get("reason") for line in logs]


@on_event_loop
async def test_a_called_in_neighbour_is_parted_from_at_its_next_hello(
    tmp_path: Path, certificates: Certificates
) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a, mesh_device(tmp_path, "b", certificates) as b:
        a.neighbours.meet(ADDRESS, b.port)
        await b.until_connected(a)
        await revoke(a, b)
        a.neighbours.hello_changed()
        await until(lambda: not b.connected())


@on_event_loop
async def test_a_device_does_not_talk_to_itself(tmp_path: Path, certificates: Certificates, logs: Logs) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a:
        a.neighbours.meet(ADDRESS, a.port)
        await until(lambda: bool(refusals(logs, "neighbour_unreached")))
        await asyncio.sleep(0.1)
        assert not a.connected()
        assert set(refusals(logs, "neighbour_unreached")) == {"it is this device itself"}
        assert a.neighbours.refusals.refused == 0


@on_event_loop
async def test_there_are_never_more_neighbours_than_allowed(tmp_path: Path, certificates: Certificates) -> None:
    settings = MeshSettings(peers_max=2)
    async with mesh_device(tmp_path, "b", certificates, settings=settings) as b, AsyncExitStack() as stack:
        for number in (1, 2):
            context = certificates.client(name(number))
            await stack.enter_async_context(raw_peer(b.port, context, hello=HELLO))
        assert await is_turned_away(b.port, certificates.client(name(3)))
        assert len(b.neighbours.states()) == 2
        async with raw_peer(b.port, certificates.client(name(2)), hello=HELLO) as again:
            again.say(BundleMessage(1, write_bundle([])))
            assert await again.hear_a(Taken) == Taken(1, True)


@on_event_loop
async def test_those_who_only_stand_at_the_door_keep_nobody_out(tmp_path: Path, certificates: Certificates) -> None:
    async with mesh_device(tmp_path, "b", certificates) as b, AsyncExitStack() as stack:
        standing = [
            await stack.enter_async_context(raw_peer(b.port, None, source=f"127.0.0.{number}"))
            for number in range(2, 3 * door.STRANGERS_MAX)
        ]
        for peer in standing[::2]:
            peer.writer.write(b"\x16\x03\x01")
        async with raw_peer(b.port, certificates.client(name(1)), hello=HELLO) as honest:
            honest.say(BundleMessage(1, write_bundle([])))
            assert await honest.hear_a(Taken) == Taken(1, True)
            early = standing[: -door.STRANGERS_MAX]
            await asyncio.gather(*(peer.until_closed() for peer in early))
            assert len(b.neighbours.states()) == 1


@on_event_loop
async def test_one_address_fills_only_a_part_of_the_door(tmp_path: Path, certificates: Certificates) -> None:
    async with mesh_device(tmp_path, "b", certificates) as b, AsyncExitStack() as stack:
        for _ in range(door.STRANGERS_OF_AN_ADDRESS_MAX):
            await stack.enter_async_context(raw_peer(b.port, None, source="127.0.0.2"))
        async with raw_peer(b.port, None, source="127.0.0.2") as one_more:
            await one_more.until_closed()
        async with raw_peer(b.port, certificates.client(name(1)), source="127.0.0.3", hello=HELLO):
            pass


@on_event_loop
async def test_slow_strangers_are_let_go_in_time(tmp_path: Path, certificates: Certificates, logs: Logs) -> None:
    settings = replace(QUICK, handshake_seconds=0.3)
    async with mesh_device(tmp_path, "b", certificates, settings=settings) as b:
        async with raw_peer(b.port, None) as slow:
            for byte in b"\x16\x03\x01":
                slow.writer.write(bytes((byte,)))
                await asyncio.sleep(0.02)
            await slow.until_closed()
        await until(lambda: bool(refusals(logs)))
    assert refusals(logs) == ["it does not answer in time"]


@on_event_loop
async def test_a_flood_of_pings_ends_the_link_of_who_floods_only(
    tmp_path: Path, certificates: Certificates, logs: Logs
) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a, mesh_device(tmp_path, "b", certificates) as b:
        a.neighbours.meet(ADDRESS, b.port)
        await b.until_connected(a)
        async with raw_peer(b.port, certificates.client(name(1)), hello=HELLO) as flooding:
            try:
                while not flooding.writer.transport.is_closing():
                    flooding.say(*[Ping(b"anybody?")] * 500)
                    await flooding.writer.drain()
                    await asyncio.sleep(0)
            except OSError:
                pass
        await b.until_connected(a)
        await b.until_keeps(await a.submit("1"))
    (line,) = [one for one in logs if one["event"] == "neighbour_left" and one["device"] == bytes.fromhex(name(1))]
    assert line["reason"] in ("it says too much", "it does not fetch the answers to what it asks")


@on_event_loop
async def test_addresses_that_anybody_announces_are_bounded(tmp_path: Path, certificates: Certificates) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a, mesh_device(tmp_path, "b", certificates) as b:
        b.neighbours.meet(ADDRESS, a.port)
        for number in range(500):
            b.neighbours.meet("127.9.0.1", 1 + number)
        await b.until_connected(a)
        tasks = [task for task in asyncio.all_tasks() if not task.done()]
        assert len(tasks) < 120


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path, certificates: Certificates) -> None:
    material = certificates.device(name(1))
    with pytest.raises(TlsMaterialError, match="absent"):
        peer_tls(TlsMaterial(tmp_path / "absent.crt", material.certificate, material.key))


@on_event_loop
async def test_a_device_that_comes_and_goes_without_end_is_turned_away_for_a_while(
    tmp_path: Path, certificates: Certificates, logs: Logs
) -> None:
    restless = certificates.client(name(1))
    async with mesh_device(tmp_path, "a", certificates) as a:
        welcome = 0
        for _ in range(neighbours.COMINGS_PER_MINUTE_MAX * 3):
            welcome += not await is_turned_away(a.port, restless)
        assert neighbours.COMINGS_PER_MINUTE_MAX <= welcome < neighbours.COMINGS_PER_MINUTE_MAX * 2
        assert not await is_turned_away(a.port, certificates.client(name(2)))
        assert a.neighbours.refusals.refused >= neighbours.COMINGS_PER_MINUTE_MAX
        assert str(a.neighbours.refusals.last).endswith("it comes and goes too often")
    assert sum("too often" in one for one in refusals(logs)) == 1


@on_event_loop
async def test_arrivals_beyond_the_measure_wait_and_another_interfaces_do_not(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "ARRIVALS_PER_MINUTE_MAX", 1)
    async with mesh_device(tmp_path, "a", certificates) as a:
        other = listening()
        a.neighbours.listen(other, Way("usb0", 7))
        for _ in range(2):  # the second is let in, too, and then nobody for two minutes
            assert await is_turned_away(a.port, None, b"nothing")
        waiting = asyncio.create_task(is_turned_away(a.port, certificates.client(name(1))))
        assert not await is_turned_away(other.getsockname()[1], certificates.client(name(2)))
        assert not waiting.done()
        waiting.cancel()


@on_event_loop
async def test_a_listener_that_is_shut_is_closed_and_links_that_came_in_by_it_stay(
    tmp_path: Path, certificates: Certificates
) -> None:
    async with mesh_device(tmp_path, "a", certificates) as a:
        other = listening()
        port = other.getsockname()[1]
        a.neighbours.listen(other, Way("usb0", 7))
        async with raw_peer(port, certificates.client(name(1)), hello=HELLO) as peer:
            a.neighbours.deafen(other)
            await until(lambda: other.fileno() < 0)
            with pytest.raises(OSError, match="Connect call failed"):
                await asyncio.open_connection(ADDRESS, port)
            assert a.connected() == {bytes.fromhex(name(1))}
            a.neighbours.ways_changed(lambda way: way.interface != "usb0")
            await peer.until_closed()
            assert a.connected() == set()


@on_event_loop
async def test_a_dial_that_is_called_off_leaves_no_connection_behind(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()
    made: list[PeerConnection] = []

    async def ask_without_end(self: standings.Standings, device: bytes) -> str | None:
        asked.set()
        await asyncio.Event().wait()
        return None

    class Watched(PeerConnection):
        def __init__(self, *words: Any, **named: Any) -> None:
            super().__init__(*words, **named)
            made.append(self)

    async with mesh_device(tmp_path, "b", certificates) as b:
        monkeypatch.setattr(standings.Standings, "refusal", ask_without_end)
        monkeypatch.setattr(connection, "PeerConnection", Watched)
        async with mesh_device(tmp_path, "a", certificates) as a:
            a.neighbours.meet(ADDRESS, b.port)
            await asked.wait()
        await until(lambda: all(one.writer.transport.is_closing() for one in made if one.dialled))
        assert [one for one in made if one.dialled]


@on_event_loop
async def test_links_end_when_they_are_quiet_and_not_while_bundles_pass(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "QUIET_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(neighbours, "QUIET_SECONDS", 2)
    hello = Hello(True, 0, 1_000_000)
    async with (
        mesh_device(tmp_path, "a", certificates) as a,
        mesh_device(tmp_path, "b", certificates, hello=hello) as b,
    ):
        a.neighbours.meet(ADDRESS, b.port)
        await a.until_connected(b)
        retiring = asyncio.create_task(a.neighbours.retire())
        for number in range(30):
            await b.until_keeps(await a.submit(f"{number}"))
            await asyncio.sleep(0.1)
        assert a.connected() == {b.id}
        assert not retiring.done()
        await retiring
        await until(lambda: not a.connected() and not b.connected())
        a.neighbours.meet(ADDRESS, b.port)  # nobody is dialled any more
        await asyncio.sleep(0.5)
        assert not a.connected()


@on_event_loop
async def test_a_link_over_which_one_large_bundle_creeps_is_not_quiet(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "QUIET_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(neighbours, "QUIET_SECONDS", 2)
    async with (
        mesh_device(tmp_path, "a", certificates) as a,
        raw_peer(a.port, certificates.client(name(1)), hello=HELLO) as peer,
    ):
        retiring = asyncio.create_task(a.neighbours.retire())
        written = write_message(BundleMessage(1, write_bundle([]) + bytes(60_000)))
        for offset in range(0, 40_000, 1000):
            peer.writer.write(written[offset : offset + 1000])
            await peer.writer.drain()
            await asyncio.sleep(0.1)
        assert not retiring.done()
        assert a.connected() == {bytes.fromhex(name(1))}
        await retiring
        await peer.until_closed()


@on_event_loop
async def test_a_fault_in_one_link_is_told_once_and_ends_no_other(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    async with mesh_device(tmp_path, "a", certificates) as a, mesh_device(tmp_path, "b", certificates) as b:
        a.neighbours.meet(ADDRESS, b.port)
        await a.until_connected(b)
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(f"{context['exception']!r}"))

        async def faulty(self: PeerLink) -> str:
            self.part("faulty")
            raise ZeroDivisionError

        with monkeypatch.context() as patched:
            patched.setattr(PeerLink, "run", faulty)
            for number in range(5):
                async with raw_peer(a.port, certificates.client(name(number))) as peer:
                    await peer.until_closed()
        assert told == ["ZeroDivisionError()"]
        await b.until_keeps(await a.submit("1"))
