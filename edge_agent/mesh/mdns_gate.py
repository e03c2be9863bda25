"""Stands between the network and zeroconf: what may come in, how much of it, and where it goes.

zeroconf keeps up to 10,000 records of up to 9 KB that strangers send, repeats them in its own questions, and answers
whoever asks. So it gets questions about our service only, from the local network only, and no stranger's answers at
all: those are read here, one packet by itself, and bounded by Neighbourhood. While there is more than can be useful,
the kernel is told to throw everything away for a second, so that a flood costs no wake-ups either.
"""

import asyncio
import contextlib
import ctypes
import ipaddress
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, cast

from edge_agent.mesh.interfaces import MeshInterface
from edge_agent.mesh.mdns_answers import PACKET_BYTES_MAX, Announcement, Goodbye, concerns_us, is_answer, read_answer
from edge_agent.mesh.near_addresses import is_on_link
from edge_agent.mesh.oddity import Oddity
from edge_agent.netlink import IpAddress

MDNS_PORT: Final = 5353
SOURCE_PACKETS_BURST: Final = 24
SOURCE_PACKETS_PER_SECOND: Final = 4.0
ALL_PACKETS_BURST: Final = 256
ALL_PACKETS_PER_SECOND: Final = 64.0
"""A hall of 200 tablets, each asking every two minutes and announcing itself now and then, stays below this."""
SOURCES_MAX: Final = 256
REFUSED_MAX: Final = 128
"""So many packets too many, and the shutter closes: reading them costs some 20 µs each."""
SHUTTER_SECONDS: Final = 1.0

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_BPF_RETURN_NOTHING = struct.pack("=HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K: keep 0 bytes of each packet


class Bucket:
    """So many at once, and so many a second in the long run."""

    def __init__(self, burst: float, per_second: float, now_seconds: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._left = burst
        self._at_seconds = now_seconds

    def take(self, now_seconds: float) -> bool:
        """Whether one more is within the measure."""
        self._left = min(self._burst, self._left + (now_seconds - self._at_seconds) * self._per_second)
        self._at_seconds = now_seconds
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Gate:
    """The measure and the rules for one interface, shared by its sockets. No I/O; `now_seconds` is monotonic."""

    def __init__(
        self,
        interface: MeshInterface,
        is_own: Callable[[str], bool],
        deliver: Callable[[Announcement | Goodbye, IpAddress], None],
        tell: Callable[[Oddity], None],
        now_seconds: float,
    ) -> None:
        self._interface = interface
        self._is_own = is_own
        self._deliver = deliver
        self._tell = tell
        self._own = {own.ip for own in interface.addresses}
        self._all = Bucket(ALL_PACKETS_BURST, ALL_PACKETS_PER_SECOND, now_seconds)
        self._sources: dict[str, Bucket] = {}
        self._refused = 0

    def admit(self, datagram: bytes, host: str, port: int, now_seconds: float) -> bool:
        """Whether zeroconf shall see the packet. What a neighbour says of itself is delivered from here."""
        source = _address(host)
        own = source in self._own
        if not self._within_measure(host, now_seconds, own=own):
            self._refused += 1
            self._tell(Oddity.TOO_MUCH_TRAFFIC)
            return False
        if not concerns_us(datagram):
            return False
        if source is None or port != MDNS_PORT or not (own or is_on_link(source, self._interface)):
            # RFC 6762 §11. Whoever asks from another port is no neighbour, and zeroconf would answer.
            self._tell(Oddity.OFF_LINK)
            return False
        if len(datagram) > PACKET_BYTES_MAX:
            self._tell(Oddity.TOO_LARGE)
            return False
        if not is_answer(datagram):
            return not own
        return self._heard(datagram, source, own=own)

    def unreadable(self) -> None:
        """Hear that zeroconf choked on what was admitted."""
        self._tell(Oddity.UNREADABLE)

    def must_close(self) -> bool:
        """Whether there has been so much too much that the kernel shall throw it away for a while."""
        if self._refused < REFUSED_MAX:
            return False
        self._refused = 0
        return True

    def _heard(self, datagram: bytes, source: IpAddress, *, own: bool) -> bool:
        said = read_answer(datagram)
        if isinstance(said, Oddity):
            self._tell(said)
            return False
        if self._is_own(said.name):
            # zeroconf must see what it sent itself: that is how it keeps from repeating it within a second.
            return own and isinstance(said, Announcement) and set(said.addresses) <= self._own
        if isinstance(said, Announcement) and source not in said.addresses:
            self._tell(Oddity.UNFIT)  # ours always names where it speaks from: nobody can send us to a third party
        elif not own:
            self._deliver(said, source)
        return False

    def _within_measure(self, host: str, now_seconds: float, *, own: bool) -> bool:
        bucket = self._sources.pop(host, None)
        if bucket is None:
            if len(self._sources) >= SOURCES_MAX:
                self._sources.pop(next(iter(self._sources)))
            bucket = Bucket(SOURCE_PACKETS_BURST, SOURCE_PACKETS_PER_SECOND, now_seconds)
        self._sources[host] = bucket  # the last heard are kept
        # What this device sends comes back by multicast and is measured by itself, so that no stranger's flood keeps it
        # out; but it is measured: with IPv6 a neighbour can send under this device's address.
        return bucket.take(now_seconds) and (own or self._all.take(now_seconds))


def _address(host: str) -> IpAddress | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


class GatedProtocol(asyncio.DatagramProtocol):
    """Takes the place of zeroconf's protocol on one socket, and passes on what the gate admits."""

    def __init__(self, gate: Gate, transport: asyncio.DatagramTransport, forbidden: Callable[[], None]) -> None:
        self._gate = gate
        self._inner = cast(asyncio.DatagramProtocol, transport.get_protocol())
        self._socket = cast(socket.socket, transport.get_extra_info("socket"))
        self._loop = asyncio.get_running_loop()
        self._forbidden = forbidden
        self._reopening: asyncio.TimerHandle | None = None
        transport.set_protocol(self)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        host, port = addr[0], addr[1]
        if self._gate.admit(data, host, port, self._loop.time()):
            try:
                self._inner.datagram_received(data, cast(tuple[str, int], addr))
            except Exception:  # noqa: BLE001  # a parser of hostile bytes that is not ours; asyncio would log each
                self._gate.unreadable()
        if self._gate.must_close():
            self._close_shutter()

    def error_received(self, exc: Exception) -> None:
        """Sending failed. An interface on its way out is none of our business: the kernel's notice comes."""
        if isinstance(exc, PermissionError):
            self._forbidden()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
        self._inner.connection_lost(exc)

    def _close_shutter(self) -> None:
        if self._reopening is None:
            program = ctypes.create_string_buffer(_BPF_RETURN_NOTHING)
            described = struct.pack("@HP", 1, ctypes.addressof(program))  # sock_fprog: length, pointer
            with contextlib.suppress(OSError):  # then the flood costs wake-ups, and nothing else
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
            self._reopening = self._loop.call_later(SHUTTER_SECONDS, self._open_shutter)

    def _open_shutter(self) -> None:
        self._reopening = None
        if self._socket.fileno() >= 0:
            with contextlib.suppress(OSError):  # ENOENT: it was never attached
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, struct.pack("=i", 0))
