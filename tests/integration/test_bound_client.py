"""The MQTT client on a bound socket, against a real mosquitto with mutual TLS."""

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiomqtt
import paho.mqtt.client as paho
import pytest

from edge_agent.mqtt.bound_client import BoundClient, UnsupportedLibraryError, broker_tls_context
from edge_agent.mqtt.parted_sockets import PartedSockets
from edge_agent.tls import TlsMaterialError
from tests.support.certificates import Material, TestAuthority
from tests.support.mosquitto import Mosquitto, why_no_mosquitto

ADDRESS = "127.0.0.1"

REASON = why_no_mosquitto()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@dataclass(frozen=True)
class Broker:
    port: int
    device: Material


@pytest.fixture
def authority(tmp_path: Path) -> TestAuthority:
    return TestAuthority(tmp_path / "authority")


@pytest.fixture
def broker(tmp_path: Path, authority: TestAuthority) -> Iterator[Broker]:
    with Mosquitto(tmp_path / "broker", tls=authority.issue("broker", address=ADDRESS)) as running:
        yield Broker(running.port, authority.issue("tablet-1"))


def client_of(
    port: int, device: Material, parted: PartedSockets, *, interface: str = "lo", timeout_seconds: float = 10
) -> BoundClient:
    return BoundClient(
        ADDRESS,
        port,
        interface=interface,
        source=None,
        identifier="tablet-1",
        tls_context=broker_tls_context(device.authority, device.certificate, device.key),
        parted_sockets=parted,
        session_expiry_seconds=3600,
        connect_timeout_seconds=timeout_seconds,
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def open_descriptors() -> int:
    return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))


def test_a_bundle_goes_out_and_comes_back_on_a_socket_bound_before_it_connected(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound_at_connect: list[bytes] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: object) -> None:
        bound_at_connect.append(self.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0"))
        connect(self, address)  # type: ignore[arg-type]  # passed through

    async def run() -> None:
        parted = PartedSockets()
        async with client_of(broker.port, broker.device, parted) as client:
            monkeypatch.undo()
            connection = client._client.socket()
            assert isinstance(connection, ssl.SSLSocket)
            assert connection.version() == "TLSv1.3"
            await client.subscribe("t", qos=1)
            await client.publish("t", b"\x00bundle", qos=1)
            async with asyncio.timeout(10):
                assert (await anext(client.messages)).payload == b"\x00bundle"
        await until(lambda: len(parted) == 0)

    monkeypatch.setattr(socket.socket, "connect", watched)
    asyncio.run(run())
    assert bound_at_connect == [b"lo"]


def test_the_session_survives_the_connection(broker: Broker) -> None:
    async def run() -> None:
        parted = PartedSockets()
        async with client_of(broker.port, broker.device, parted) as first:
            await first.subscribe("t", qos=1)
            first.abandon()
        async with client_of(broker.port, broker.device, parted) as second:
            await second.publish("t", b"later", qos=1)
            async with asyncio.timeout(10):
                assert (await anext(second.messages)).payload == b"later"
        parted.close()

    asyncio.run(run())


def test_abandoning_ends_the_connection_at_once_and_leaves_nothing_behind(broker: Broker) -> None:
    async def run() -> None:
        parted = PartedSockets()
        before = open_descriptors()
        async with client_of(broker.port, broker.device, parted) as client:
            listening = asyncio.create_task(anext(client.messages))
            await asyncio.sleep(0)
            client.abandon()
            with pytest.raises(aiomqtt.MqttError):
                await listening
            with pytest.raises(aiomqtt.MqttError):
                await client.publish("t", b"x", qos=1)
        await until(lambda: len(parted) == 0)
        del client
        await until(lambda: open_descriptors() <= before)

    asyncio.run(run())


def test_an_interface_that_is_not_there_is_an_error_and_nothing_connects(broker: Broker) -> None:
    async def run() -> None:
        parted = PartedSockets()
        with pytest.raises(aiomqtt.MqttError, match="No such device"):
            async with client_of(broker.port, broker.device, parted, interface="wg-absent0"):
                pass
        assert len(parted) == 0

    asyncio.run(run())


@contextlib.contextmanager
def silent_listener() -> Iterator[int]:
    """Accepts and never says a word."""
    with socket.socket() as listening:
        listening.bind((ADDRESS, 0))
        listening.listen()
        accepted: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    accepted.append(listening.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for one in accepted:
            one.close()


def test_a_broker_that_never_answers_is_given_up_after_the_timeout(authority: TestAuthority) -> None:
    async def run(port: int) -> None:
        parted = PartedSockets()
        with pytest.raises(aiomqtt.MqttError):
            async with client_of(port, authority.issue("tablet-1"), parted, timeout_seconds=0.5):
                pass
        assert len(parted) == 1  # until the listener ends it
        parted.close()

    with silent_listener() as port:
        asyncio.run(run(port))


def test_a_connect_that_is_cancelled_leaves_no_connection(authority: TestAuthority) -> None:
    async def run(port: int) -> None:
        parted = PartedSockets()
        client = client_of(port, authority.issue("tablet-1"), parted, timeout_seconds=3)
        connecting = asyncio.create_task(client.__aenter__())
        await until(lambda: client._duplicate is not None)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await until(lambda: len(parted) == 1)
        assert client._client.socket() is None
        parted.close()

    with silent_listener() as port:
        asyncio.run(run(port))


def test_a_connect_that_succeeds_after_it_was_abandoned_is_ended(broker: Broker) -> None:
    """The thread that connects cannot be cancelled: here it gets through in the very moment of the abandoning."""

    async def run() -> None:
        parted = PartedSockets()
        client = client_of(broker.port, broker.device, parted)
        loop = asyncio.get_running_loop()
        shake_hands = client._client._ssl_wrap_socket
        connecting: asyncio.Task[BoundClient]

        async def cancel() -> None:
            connecting.cancel()
            await asyncio.wait({connecting})

        def slow(plain: socket.socket) -> ssl.SSLSocket:
            made = shake_hands(plain)
            asyncio.run_coroutine_threadsafe(cancel(), loop).result(10)
            return made

        monkey = pytest.MonkeyPatch()
        monkey.setattr(client._client, "_ssl_wrap_socket", slow)
        connecting = asyncio.create_task(client.__aenter__())
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await loop.shutdown_default_executor()
        await until(lambda: client._client.socket() is None)
        await until(lambda: len(parted) == 0)

    asyncio.run(run())


def test_an_abandoned_client_never_connects(broker: Broker) -> None:
    async def run() -> None:
        parted = PartedSockets()
        client = client_of(broker.port, broker.device, parted)
        client.abandon()
        with pytest.raises(aiomqtt.MqttError, match="abandoned"):
            async with client:
                pass
        assert client._duplicate is None
        assert len(parted) == 0

    asyncio.run(run())


def refusal_of(tmp_path: Path, server: Material, device: Material) -> str:
    async def run(port: int) -> None:
        async with client_of(port, device, PartedSockets()) as client:
            await client.publish("t", b"x", qos=1)

    with Mosquitto(tmp_path / "other", tls=server) as other:
        try:
            asyncio.run(run(other.port))
        except aiomqtt.MqttError as error:
            return str(error)
    return "accepted"


def test_a_broker_of_another_authority_is_refused(tmp_path: Path, authority: TestAuthority) -> None:
    other = TestAuthority(tmp_path / "impostor", "another authority").issue("broker", address=ADDRESS)
    assert "CERTIFICATE_VERIFY_FAILED" in refusal_of(tmp_path, other, authority.issue("tablet-1"))


def test_a_certificate_for_another_address_is_refused(tmp_path: Path, authority: TestAuthority) -> None:
    server = authority.issue("broker", address="127.0.0.2")
    assert "IP address mismatch" in refusal_of(tmp_path, server, authority.issue("tablet-1"))


def test_a_device_certificate_is_no_brokers_certificate(tmp_path: Path, authority: TestAuthority) -> None:
    assert "CERTIFICATE_VERIFY_FAILED" in refusal_of(tmp_path, authority.issue("x"), authority.issue("tablet-1"))


def test_a_wrong_clock_does_not_lock_the_tablet_out(tmp_path: Path, authority: TestAuthority) -> None:
    server = authority.issue("broker", address=ADDRESS, days_valid=-1)
    assert refusal_of(tmp_path, server, authority.issue("tablet-1")) == "accepted"


def test_unusable_key_files_are_named(tmp_path: Path, authority: TestAuthority) -> None:
    device = authority.issue("tablet-1")
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    with pytest.raises(TlsMaterialError, match=r"broken\.pem"):
        broker_tls_context(broken, device.certificate, device.key)
    with pytest.raises(TlsMaterialError, match=r"absent\.pem"):
        broker_tls_context(device.authority, tmp_path / "absent.pem", device.key)


@pytest.mark.parametrize("name", ["_create_socket_connection", "_create_socket"])
def test_another_paho_is_noticed_at_construction(
    name: str, authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        client_of(1, authority.issue("tablet-1"), PartedSockets())

    asyncio.run(run())
    monkeypatch.delattr(paho.Client, name)
    with pytest.raises(UnsupportedLibraryError, match="bound to the VPN"):
        asyncio.run(run())
