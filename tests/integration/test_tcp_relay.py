"""The link that tests and demo cut: what passes, what is lost, and what the two ends see."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.processes import wait_until
from tests.support.tcp_relay import LinkState, TcpRelay

_TIMEOUT_SECONDS = 10.0
# Long enough for bytes that should not come to come, were they let through.
_SILENCE_SECONDS = 0.3


class EchoServer:
    """Sends back what it is sent, connection by connection, until the other side says end of file."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        # A thread waiting in accept() is woken by the shutdown, not by the close. Closed twice, nothing waits.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    server = EchoServer()
    yield server
    server.close()


@pytest.fixture
def relay(echo: EchoServer) -> Iterator[TcpRelay]:
    with TcpRelay(echo.address) as link:
        yield link


def _connect(relay: TcpRelay) -> socket.socket:
    return socket.create_connection(relay.address, timeout=_TIMEOUT_SECONDS)


def _exchange(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    received = b""
    while len(received) < len(data):
        part = client.recv(65536)
        if not part:
            break
        received += part
    return received


def test_a_link_that_is_up_forwards_both_ways_and_counts(relay: TcpRelay) -> None:
    data = bytes(range(256)) * 4000
    with _connect(relay) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        received = b""
        while len(received) < len(data):
            received += client.recv(65536)
        sender.join()
    assert received == data
    wait_until(lambda: relay.counters.bytes_from_target == len(data), "the relay has counted what came back")
    assert relay.counters.bytes_to_target == len(data)
    assert relay.counters.connections == 1


def test_end_of_file_passes_through_after_the_last_byte(relay: TcpRelay) -> None:
    with _connect(relay) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read() == b"last words"


def test_a_cut_link_resets_connections_and_refuses_new_ones_until_healed(relay: TcpRelay) -> None:
    with _connect(relay) as client:
        assert _exchange(client, b"before") == b"before"
        relay.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        _connect(relay)
    relay.heal()
    with _connect(relay) as client:
        assert _exchange(client, b"after") == b"after"


def test_a_stalled_link_keeps_connections_and_passes_nothing_until_healed(relay: TcpRelay) -> None:
    with _connect(relay) as before:
        assert _exchange(before, b"before") == b"before"
        relay.stall()
        passed = relay.counters.bytes_to_target
        with _connect(relay) as meanwhile:
            for client in (before, meanwhile):
                client.sendall(b"held")
                client.settimeout(_SILENCE_SECONDS)
                with pytest.raises(TimeoutError):
                    client.recv(1)
                client.settimeout(_TIMEOUT_SECONDS)
            assert relay.counters.bytes_to_target == passed
            relay.heal()
            assert before.recv(4) == b"held"
            assert meanwhile.recv(4) == b"held"


def test_a_stalled_link_can_be_cut_and_healed(relay: TcpRelay) -> None:
    relay.stall()
    with _connect(relay) as client:
        wait_until(lambda: relay.counters.connections == 1, "the relay accepted")
        relay.cut()
        assert relay.state is LinkState.CUT
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    relay.heal()
    with _connect(relay) as client:
        assert _exchange(client, b"after") == b"after"


def test_a_target_that_is_down_looks_down(echo: EchoServer, relay: TcpRelay) -> None:
    echo.close()
    # The reset may come while connect() is still being answered, so that it is the one that raises.
    with pytest.raises(ConnectionResetError), _connect(relay) as client:
        client.recv(1)


def test_delay_and_bandwidth_make_a_link_slower_by_at_least_what_was_asked(echo: EchoServer) -> None:
    with TcpRelay(echo.address, delay_seconds=0.1, bytes_per_second=200_000) as slow, _connect(slow) as client:
        started = time.monotonic()
        assert _exchange(client, bytes(40_000)) == bytes(40_000)
        # A lower bound only: two delays, and all chunks but the last (16 KiB at most) wait for the bandwidth.
        assert time.monotonic() - started >= 0.2 + (40_000 - 16_384) / 200_000
