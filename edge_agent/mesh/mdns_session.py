"""zeroconf on exactly one interface: announces this device there, asks who else is there, says goodbye.

An instance of its own for each interface, and every socket bound to it by SO_BINDTODEVICE. One instance for all would
name each interface's addresses on all others, and its socket for everything would hear and answer questions that come
in by any other interface, the VPN's included.
"""

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Final

# Offered at the package's top, but not listed in its __all__:
from zeroconf import (  # type: ignore[attr-defined]
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
    IPVersion,
    ServiceInfo,
)
from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncZeroconf

from edge_agent.mesh.interfaces import MeshInterface
from edge_agent.mesh.mdns_answers import SERVICE_TYPE, TTL_SECONDS
from edge_agent.mesh.mdns_gate import Gate, GatedProtocol

START_SECONDS_MAX: Final = 5.0
GOODBYE_SECONDS_MAX: Final = 2.0
RECORD_VERSION: Final = b"1"

_FLAGS_QUERY, _TYPE_PTR, _CLASS_IN = 0, 12, 1
_MDNS_IPV4 = "224.0.0.251"


class MdnsSession:
    """One interface, from `open` to `close`. The names are drawn by whoever makes it: nothing tells this machine's."""

    def __init__(self, interface: MeshInterface, port: int, *, instance: str, host: str, gate: Gate) -> None:
        self._interface = interface
        self._port = port
        self._instance = instance
        self._host = host
        self._gate = gate
        self._zeroconf: AsyncZeroconf | None = None
        self._info: ServiceInfo | None = None
        self._announcing: asyncio.Future[object] | None = None

    async def open(self, forbidden: Callable[[], None]) -> None:
        """Announces this device; `forbidden` is called when this machine does not let it be sent. Raises OSError."""
        # zeroconf's own lines would quote strangers' packets; what matters is told as an Oddity.
        logging.getLogger("zeroconf").setLevel(logging.CRITICAL)
        try:
            self._zeroconf = AsyncZeroconf(interfaces=self._places(), ip_version=self._version())
            await self._zeroconf.zeroconf.async_wait_for_start(START_SECONDS_MAX)
            self._confine(self._zeroconf, forbidden)
            self._info = self._describe()
            # The name has 80 random bits: asking first whether it is free would cost half a second and three packets.
            announcing = await self._zeroconf.async_register_service(self._info, cooperating_responders=True)
            self._announcing = asyncio.ensure_future(announcing)
            # An announcement that fails is repeated by nobody's complaint: the next question names this device, too.
            self._announcing.add_done_callback(lambda done: done.cancelled() or done.exception())
        except (ZeroconfError, RuntimeError, TimeoutError) as error:
            await self.close(goodbye=False)
            raise OSError(f"multicast DNS does not start: {error}") from error
        except BaseException:
            await self.close(goodbye=False)
            raise

    def ask(self, known: Sequence[tuple[str, int]], *, unicast: bool) -> None:
        """Asks who is there; the names in `known`, with their seconds left, need not answer."""
        if self._zeroconf is None or self._info is None:
            return
        question = DNSQuestion(SERVICE_TYPE, _TYPE_PTR, _CLASS_IN)
        question.unicast = unicast
        out = DNSOutgoing(_FLAGS_QUERY)
        out.add_question(question)
        for name, seconds in [*known, (self._instance, TTL_SECONDS)]:
            out.add_answer_at_time(DNSPointer(SERVICE_TYPE, _TYPE_PTR, _CLASS_IN, seconds, f"{name}.{SERVICE_TYPE}"), 0)
        self._zeroconf.zeroconf.async_send(out)

    async def close(self, *, goodbye: bool) -> None:
        """Ends it, with a goodbye to the neighbours or without a word."""
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is None:
            return
        if self._announcing is not None:
            self._announcing.cancel()
        if not goodbye and self._info is not None:
            with contextlib.suppress(KeyError):
                zeroconf.zeroconf.registry.async_remove(self._info)
        try:
            with contextlib.suppress(TimeoutError, OSError, ZeroconfError):
                await asyncio.wait_for(zeroconf.async_close(), GOODBYE_SECONDS_MAX)
        finally:
            zeroconf.zeroconf.close()  # a goodbye that was cut short leaves its sockets open; otherwise it does nothing

    def _places(self) -> list[str | int]:
        # IPv6 by index: a link-local address may stand on several interfaces, as with VLANs.
        ipv4 = [str(address.ip) for address in self._interface.addresses if address.version == 4]
        return [*ipv4[:1], *([self._interface.index] if self._interface.has_ipv6 else [])]

    def _version(self) -> IPVersion:
        if self._interface.has_ipv4 and self._interface.has_ipv6:
            return IPVersion.All
        return IPVersion.V4Only if self._interface.has_ipv4 else IPVersion.V6Only

    def _confine(self, zeroconf: AsyncZeroconf, forbidden: Callable[[], None]) -> None:
        # Nothing has been sent yet, and nothing would be answered: no service is registered before this is done.
        engine = zeroconf.zeroconf.engine
        if not engine.senders:
            raise OSError(f"no address of {self._interface.name} can be used for multicast DNS yet")
        for reader in engine.readers:
            _bind_to_interface(reader.transport.get_extra_info("socket"), self._interface.name)
            GatedProtocol(self._gate, reader.transport, forbidden)
        if self._interface.has_ipv4:
            self._join_by_index(engine.readers[0].transport.get_extra_info("socket"))

    def _join_by_index(self, listening: socket.socket) -> None:
        # zeroconf joins by address, and another interface may have the same one: two cables with the same private net.
        member = struct.pack("=4s4si", socket.inet_aton(_MDNS_IPV4), bytes(4), self._interface.index)
        with contextlib.suppress(OSError):  # EADDRINUSE: it had joined on the right one
            listening.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)

    def _describe(self) -> ServiceInfo:
        return ServiceInfo(
            SERVICE_TYPE,
            f"{self._instance}.{SERVICE_TYPE}",
            port=self._port,
            properties={b"v": RECORD_VERSION},
            server=f"{self._host}.local.",
            addresses=[address.ip.packed for address in self._interface.addresses],
            host_ttl=TTL_SECONDS,
            other_ttl=TTL_SECONDS,
        )


def _bind_to_interface(bound: socket.socket, name: str) -> None:
    # A socket with a link-local address is bound by its scope already, and without CAP_NET_RAW that cannot be said
    # again: EPERM.
    if _interface_of(bound) != name:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")
    if _interface_of(bound) != name:
        raise OSError(f"a socket for {name} is not bound to it")


def _interface_of(bound: socket.socket) -> str:
    return bound.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0").decode()
