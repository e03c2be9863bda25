"""Network namespaces for tests: a tablet and a broker's host joined by a tunnel and by an open network.

Needs root. Everything lives in namespaces with random names that the test deletes; the machine's own network is never
touched.
"""

import contextlib
import ctypes
import os
import select
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

_CLONE_NEWNET = 0x40000000
_ETH_P_ALL = 3
_NAMESPACES = Path("/run/netns")

Made = TypeVar("Made")


def why_no_namespaces() -> str | None:
    """The reason to skip a test that needs namespaces; None when they can be made here."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return None if probe.returncode == 0 else f"no network namespaces here: {probe.stderr.decode().strip()}"


@dataclass
class Namespace:
    """One network namespace by its name."""

    name: str

    def ip(self, *words: str) -> None:
        """Runs ip(8) inside."""
        subprocess.run(["ip", "-n", self.name, *words], check=True, capture_output=True)

    def command(self, *words: str) -> list[str]:
        """The command line that runs the words inside."""
        return ["ip", "netns", "exec", self.name, *words]

    def make(self, factory: Callable[[], Made]) -> Made:
        """Calls the factory on a thread inside; a socket made there belongs to the namespace wherever it is used."""
        result: list[Made] = []
        errors: list[BaseException] = []

        def inside() -> None:
            try:
                library = ctypes.CDLL(None, use_errno=True)
                with (_NAMESPACES / self.name).open("rb") as handle:
                    if library.setns(handle.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                result.append(factory())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return result[0]


@contextlib.contextmanager
def namespace(label: str) -> Iterator[Namespace]:
    """A new namespace with its loopback up, deleted afterwards."""
    made = Namespace(f"census-{label}-{uuid.uuid4().hex[:10]}")
    subprocess.run(["ip", "netns", "add", made.name], check=True, capture_output=True)
    try:
        made.ip("link", "set", "lo", "up")
        yield made
    finally:
        subprocess.run(["ip", "netns", "delete", made.name], check=True, capture_output=True)


@dataclass
class Capture:
    """Counts the frames on one interface that hold any of the addresses, as IP packet, ARP or inside of ICMP."""

    place: Namespace
    interface: str
    addresses: tuple[bytes, ...]
    frames: list[bytes] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def __enter__(self) -> "Capture":
        def listen() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            made.setsockopt(socket.SOL_SOCKET, 33, 16 * 1024 * 1024)  # SO_RCVBUFFORCE: an overrun would hide frames
            made.bind((self.interface, 0))
            return made

        self._socket = self.place.make(listen)
        self._stop_reading, self._stop_writing = os.pipe()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._stop_writing, b".")
        self._thread.join()
        self._socket.close()
        os.close(self._stop_reading)
        os.close(self._stop_writing)

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._stop_reading, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._socket.fileno() in ready:
                try:
                    frame = self._socket.recv(65536)
                except OSError as error:  # the interface went down: AF_PACKET reports it once and goes on
                    self.unreadable.append(str(error))
                    continue
                if any(address in frame for address in self.addresses):
                    self.frames.append(frame)
            elif self._stop_reading in ready:
                return

    @property
    def count(self) -> int:
        """How many such frames have passed."""
        return len(self.frames)


BROKER_IPV4 = "198.51.100.7"
BROKER_IPV6 = "2001:db8:51::7"
TUNNEL = "wg0"
OPEN_NETWORK = "eth0"


@dataclass
class TwoRoutes:
    """A tablet with a tunnel (wg0) and an open network (eth0) to the host that holds the broker's addresses.

    The tunnel is a veth pair under the tunnel's name: what the kernel does with a route, a name and a bound socket is
    the same for every kind of interface.
    """

    tablet: Namespace
    broker_host: Namespace

    def make_tunnel(self, tablet_host: int = 2) -> None:
        """Creates wg0 with addresses and makes it the broker's route."""
        self.tablet.ip("link", "add", TUNNEL, "type", "veth", "peer", "name", "far0", "netns", self.broker_host.name)
        self.broker_host.ip("address", "add", "10.9.0.1/24", "dev", "far0")
        self.broker_host.ip("-6", "address", "add", "fd09::1/64", "dev", "far0", "nodad")
        self.broker_host.ip("link", "set", "far0", "up")
        self.tablet.ip("address", "add", f"10.9.0.{tablet_host}/24", "dev", TUNNEL)
        self.tunnel_up(tablet_host)

    def tunnel_up(self, tablet_host: int = 2) -> None:
        """Brings wg0 up; the kernel has forgotten its routes and IPv6 addresses."""
        self.tablet.ip("link", "set", TUNNEL, "up")
        self.tablet.ip("-6", "address", "replace", f"fd09::{tablet_host}/64", "dev", TUNNEL, "nodad")
        self.route_by_tunnel()

    def tunnel_down(self) -> None:
        """Takes wg0 down; its routes go with it, and the default route by eth0 is what is left."""
        self.tablet.ip("link", "set", TUNNEL, "down")

    def delete_tunnel(self) -> None:
        """Deletes wg0 and its far end."""
        self.tablet.ip("link", "delete", TUNNEL)

    def change_address(self, old_host: int, new_host: int) -> None:
        """Gives wg0 another address, as a VPN does that hands out leases."""
        self.tablet.ip("address", "delete", f"10.9.0.{old_host}/24", "dev", TUNNEL)
        self.tablet.ip("-6", "address", "delete", f"fd09::{old_host}/64", "dev", TUNNEL)
        self.tablet.ip("address", "add", f"10.9.0.{new_host}/24", "dev", TUNNEL)
        self.tablet.ip("-6", "address", "add", f"fd09::{new_host}/64", "dev", TUNNEL, "nodad")
        self.route_by_tunnel()

    def route_by_tunnel(self) -> None:
        """The broker's addresses by wg0."""
        self.tablet.ip("route", "replace", f"{BROKER_IPV4}/32", "via", "10.9.0.1", "dev", TUNNEL)
        self.tablet.ip("-6", "route", "replace", f"{BROKER_IPV6}/128", "via", "fd09::1", "dev", TUNNEL)

    def route_by_open_network(self) -> None:
        """The broker's addresses by eth0, where they answer as well."""
        self.tablet.ip("route", "replace", f"{BROKER_IPV4}/32", "via", "192.0.2.1", "dev", OPEN_NETWORK)
        self.tablet.ip("-6", "route", "replace", f"{BROKER_IPV6}/128", "via", "fd02::1", "dev", OPEN_NETWORK)


@contextlib.contextmanager
def two_routes() -> Iterator[TwoRoutes]:
    """Both namespaces joined both ways, the tunnel up, and a default route by the open network."""
    with namespace("tablet") as tablet, namespace("broker") as broker_host:
        broker_host.ip("address", "add", f"{BROKER_IPV4}/32", "dev", "lo")
        broker_host.ip("-6", "address", "add", f"{BROKER_IPV6}/128", "dev", "lo", "nodad")
        tablet.ip("link", "add", OPEN_NETWORK, "type", "veth", "peer", "name", "near0", "netns", broker_host.name)
        for place, interface, host in ((tablet, OPEN_NETWORK, 2), (broker_host, "near0", 1)):
            place.ip("address", "add", f"192.0.2.{host}/24", "dev", interface)
            place.ip("-6", "address", "add", f"fd02::{host}/64", "dev", interface, "nodad")
            place.ip("link", "set", interface, "up")
        tablet.ip("route", "add", "default", "via", "192.0.2.1", "dev", OPEN_NETWORK)
        tablet.ip("-6", "route", "add", "default", "via", "fd02::1", "dev", OPEN_NETWORK)
        made = TwoRoutes(tablet, broker_host)
        made.make_tunnel()
        yield made
