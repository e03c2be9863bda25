"""Not one packet to or from the broker's address outside the tunnel, captured and counted, whatever happens to it."""

import contextlib
import json
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.certificates import TestAuthority
from tests.support.mosquitto import Mosquitto, why_no_mosquitto
from tests.support.namespaces import (
    BROKER_IPV4,
    BROKER_IPV6,
    OPEN_NETWORK,
    TUNNEL,
    Capture,
    Namespace,
    TwoRoutes,
    two_routes,
    why_no_namespaces,
)

WAIT_SECONDS = 40.0
SETTLE_SECONDS = 1.0  # for what a wrong implementation would still send: retransmissions come within 200 to 800 ms

REASON = why_no_namespaces()
pytestmark = [pytest.mark.root, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@dataclass
class Listener:
    """Answers on the broker's address by whatever way it is asked, and pushes data all the time."""

    place: Namespace
    address: str
    connections: list[socket.socket] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Listener":
        def listen() -> socket.socket:
            family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
            made = socket.socket(family, socket.SOCK_STREAM)
            made.bind((self.address, 0))
            made.listen()
            return made

        self._socket = self.place.make(listen)
        self.port: int = self._socket.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        for connection in (self._socket, *self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self.threads:
            thread.join()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]  # a bound method
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections.append(connection)
                self._start(self._push, connection)
                self._start(self._echo, connection)

    @staticmethod
    def _push(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"tick\n" * 50)
                time.sleep(0.005)

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(4096):
                for word in data.split():
                    connection.sendall(b"echo %s\n" % word)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # as a broker does when its client is gone


@dataclass
class Client:
    """The guarded client's process; its events are read as they come."""

    process: subprocess.Popen[str]
    events: queue.Queue[dict[str, object]]
    seen: list[dict[str, object]] = field(default_factory=list)

    def wait_for(self, event: str, **fields: object) -> dict[str, object]:
        """The next such event; all before it are passed over."""
        until = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                one = self.events.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {event} {fields} in {WAIT_SECONDS} s; the last: {self.seen[-10:]}") from None
            self.seen.append(one)
            if one["event"] == event and all(one.get(name) == value for name, value in fields.items()):
                return one


def guarded_client(network: TwoRoutes, listener: Listener, *switches: str) -> contextlib.AbstractContextManager[Client]:
    arguments = ["--address", listener.address, "--port", str(listener.port), *switches]
    return running(network, "tests.support.guarded_client", *arguments)


@contextlib.contextmanager
def running(network: TwoRoutes, module: str, *arguments: str) -> Iterator[Client]:
    """The program inside the tablet's namespace; it must still run at the end, and is ended by its own pid."""
    process = subprocess.Popen(
        network.tablet.command(sys.executable, "-m", module, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    events: queue.Queue[dict[str, object]] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            events.put(json.loads(line))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield Client(process, events)
        assert process.poll() is None, f"the client has ended: {process.stderr.read() if process.stderr else ''}"
    finally:
        process.kill()
        process.wait()
        reader.join()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


@dataclass
class Captures:
    near: Capture
    far: Capture
    tunnel: Capture

    def outside(self) -> int:
        return self.near.count + self.far.count


@contextlib.contextmanager
def captures(network: TwoRoutes, address: str) -> Iterator[Captures]:
    wanted = (packed(address),)
    with (
        Capture(network.tablet, OPEN_NETWORK, wanted) as near,
        Capture(network.broker_host, "near0", wanted) as far,
        Capture(network.tablet, TUNNEL, wanted) as tunnel,
    ):
        yield Captures(near, far, tunnel)


@pytest.mark.parametrize("address", [BROKER_IPV4, BROKER_IPV6])
def test_no_packet_passes_outside_the_tunnel_while_it_goes_down_up_moves_and_changes(address: str) -> None:
    with (
        two_routes() as network,
        Listener(network.broker_host, address) as listener,
        captures(network, address) as seen,
        guarded_client(network, listener) as client,
    ):
        client.wait_for("echoed", number=10)

        network.tunnel_down()
        client.wait_for("refused", reason="not_vpn_interface", interface=OPEN_NETWORK)
        time.sleep(SETTLE_SECONDS)
        network.tunnel_up()
        client.wait_for("echoed", number=10)

        for _ in range(3):
            network.route_by_open_network()
            client.wait_for("refused", reason="not_vpn_interface", interface=OPEN_NETWORK)
            time.sleep(SETTLE_SECONDS)
            network.route_by_tunnel()
            client.wait_for("echoed", number=10)

        network.change_address(2, 3)
        client.wait_for("echoed", number=10)
        inside_before = seen.tunnel.count

        network.delete_tunnel()
        client.wait_for("refused", reason="not_vpn_interface", interface=OPEN_NETWORK)
        time.sleep(SETTLE_SECONDS)
        network.make_tunnel(tablet_host=4)
        with Capture(network.tablet, TUNNEL, (packed(address),)) as second_tunnel:
            client.wait_for("echoed", number=10)
        time.sleep(SETTLE_SECONDS)

        assert (seen.near.count, seen.far.count) == (0, 0), [frame.hex() for frame in seen.near.frames[:3]]
        assert inside_before > 100
        assert second_tunnel.count > 10


@pytest.mark.parametrize(
    ("address", "family", "own"),
    [(BROKER_IPV4, "-4", "10.9.0.2/24"), (BROKER_IPV6, "-6", "fd09::2/64")],
    ids=["IPv4", "IPv6"],
)
def test_nothing_is_sent_from_another_address_while_the_tunnel_has_none(address: str, family: str, own: str) -> None:
    # Answers would come to that address, and so outside of the tunnel.
    with (
        two_routes() as network,
        Listener(network.broker_host, address) as listener,
        captures(network, address) as seen,
        guarded_client(network, listener) as client,
    ):
        client.wait_for("echoed", number=10)
        network.tablet.ip(family, "address", "delete", own, "dev", TUNNEL)
        network.tablet.ip(family, "route", "replace", address, "dev", TUNNEL)
        client.wait_for("refused", reason="no_address", interface=TUNNEL)
        time.sleep(SETTLE_SECONDS)
        network.tablet.ip(family, "address", "add", own, "dev", TUNNEL, *(["nodad"] if family == "-6" else []))
        network.route_by_tunnel()
        client.wait_for("echoed", number=10)
        assert (seen.near.count, seen.far.count) == (0, 0), [frame.hex() for frame in seen.near.frames[:3]]


@pytest.mark.skipif(why_no_mosquitto() is not None, reason=str(why_no_mosquitto()))
@pytest.mark.parametrize("address", [BROKER_IPV4, BROKER_IPV6])
def test_mqtt_in_full_flow_leaves_the_tunnel_with_no_packet_and_comes_back(address: str, tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path / "authority")
    server, device = authority.issue("broker", address=address), authority.issue("tablet-1")
    port = 8883  # the namespace is this test's own
    files = ["--authority", device.authority, "--certificate", device.certificate, "--key", device.key]
    arguments = ["--address", address, "--port", str(port), *map(str, files)]
    with (
        two_routes() as network,
        Mosquitto(
            tmp_path / "broker", tls=server, address=address, port=port, command_prefix=network.broker_host.command()
        ),
        captures(network, address) as seen,
        running(network, "tests.support.guarded_publisher", *arguments) as client,
    ):
        client.wait_for("published", number=10)
        for _ in range(3):
            network.route_by_open_network()
            client.wait_for("ended_by_guard")
            time.sleep(SETTLE_SECONDS)
            network.route_by_tunnel()
            client.wait_for("published", number=10)
        network.tunnel_down()
        client.wait_for("ended_by_guard")
        network.tunnel_up()
        client.wait_for("published", number=10)
        network.change_address(2, 3)
        client.wait_for("published", number=10)
        inside = seen.tunnel.count
        network.delete_tunnel()
        client.wait_for("ended_by_guard")
        time.sleep(SETTLE_SECONDS)
        network.make_tunnel(tablet_host=4)
        client.wait_for("published", number=10)
        assert (seen.near.count, seen.far.count) == (0, 0), [frame.hex() for frame in seen.near.frames[:3]]
        assert inside > 100


@pytest.mark.parametrize("address", [BROKER_IPV4, BROKER_IPV6])
def test_an_interface_made_again_under_its_name_ends_the_connection(address: str) -> None:
    with (
        two_routes() as network,
        Listener(network.broker_host, address) as listener,
        guarded_client(network, listener) as client,
    ):
        first = client.wait_for("permitted")
        client.wait_for("echoed", number=10)
        network.delete_tunnel()
        network.make_tunnel()
        second = client.wait_for("permitted")
        while second["index"] == first["index"]:
            second = client.wait_for("permitted")
        assert second["interface"] == first["interface"] == TUNNEL
        client.wait_for("echoed", number=10)


@pytest.mark.parametrize("address", [BROKER_IPV4, BROKER_IPV6])
def test_without_binding_the_capture_counts_packets_outside(address: str) -> None:
    """The proof that the zero above means something: one protection less, and packets are seen."""
    with (
        two_routes() as network,
        Listener(network.broker_host, address) as listener,
        captures(network, address) as seen,
        guarded_client(network, listener, "--without-binding", "--without-guard") as client,
    ):
        client.wait_for("echoed", number=10)
        assert seen.outside() == 0
        network.route_by_open_network()
        wait_until_outside(seen)


def test_without_parting_the_kernel_answers_for_a_closed_socket_outside_the_tunnel() -> None:
    """Why PartedSockets exists: a plain close() while the broker still sends lets the kernel's resets out."""
    with (
        two_routes() as network,
        Listener(network.broker_host, BROKER_IPV6) as listener,
        captures(network, BROKER_IPV6) as seen,
        guarded_client(network, listener, "--without-parting") as client,
    ):
        client.wait_for("echoed", number=10)
        network.route_by_open_network()
        client.wait_for("refused")
        wait_until_outside(seen)


def wait_until_outside(seen: Captures) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while seen.outside() == 0:
        assert time.monotonic() < until, "nothing was captured outside the tunnel"
        time.sleep(0.05)
    sys.stdout.write(f"outside the tunnel: near {seen.near.count}, far {seen.far.count}\n")


@pytest.mark.parametrize("address", [BROKER_IPV4, BROKER_IPV6])
def test_a_start_without_any_route_sends_nothing_and_connects_once_there_is_one(address: str) -> None:
    with two_routes() as network, Listener(network.broker_host, address) as listener:
        network.tablet.ip("route", "replace", "unreachable", address)
        with captures(network, address) as seen, guarded_client(network, listener) as client:
            client.wait_for("refused", reason="no_route")
            network.tablet.ip("route", "delete", "unreachable", address)
            network.route_by_tunnel()
            client.wait_for("echoed", number=10)
            assert seen.outside() == 0


def test_a_tunnel_without_its_far_end_is_refused_as_down() -> None:
    with two_routes() as network, Listener(network.broker_host, BROKER_IPV4) as listener:
        network.broker_host.ip("link", "set", "far0", "down")
        with guarded_client(network, listener) as client:
            client.wait_for("refused", reason="interface_down", interface=TUNNEL)
            network.broker_host.ip("link", "set", "far0", "up")
            client.wait_for("permitted", interface=TUNNEL)


def test_policy_routing_that_takes_the_brokers_port_elsewhere_is_seen() -> None:
    with (
        two_routes() as network,
        Listener(network.broker_host, BROKER_IPV4) as listener,
        captures(network, BROKER_IPV4) as seen,
        guarded_client(network, listener) as client,
    ):
        client.wait_for("echoed", number=10)
        network.tablet.ip("route", "add", "default", "via", "192.0.2.1", "dev", OPEN_NETWORK, "table", "77")
        network.tablet.ip("rule", "add", "ipproto", "tcp", "dport", str(listener.port), "lookup", "77")
        client.wait_for("refused", reason="not_vpn_interface", interface=OPEN_NETWORK)
        time.sleep(SETTLE_SECONDS)
        assert seen.outside() == 0
