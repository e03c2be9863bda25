"""Says which network interfaces the mesh uses now, and hears when that changes.

The rule, whole: an interface is used while it is up, has a carrier and an address, and can multicast; never loopback,
never one that a pattern names as VPN or as excluded, and never a point-to-point one: that is a tunnel whose name nobody
wrote down, or a modem, and no neighbour is at its far end. A USB cable between two devices is Ethernet to the kernel.
"""

import asyncio
import fnmatch
import ipaddress
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from edge_agent.netlink import INTERFACE_GROUPS, ChangeSocket, NetlinkError
from edge_agent.netlink_listing import InterfaceAddress, ListedInterface, list_interfaces

SETTLE_SECONDS_MIN, SETTLE_SECONDS_MAX = 0.2, 5.0
"""An interface that comes up brings several notices at once: they are one change. One that never comes to rest (a loose
plug, a router that hands out a new network every second) is followed ever more slowly."""
QUIET_SECONDS: Final = 10.0
"""After this long without a change the next one counts as the first again."""
ADDRESSES_MAX: Final = 8
"""Of one interface and one family. They all go into one packet, and privacy addresses may pile up."""
INTERFACES_MAX: Final = 16


@dataclass(frozen=True)
class MeshInterface:
    """One interface that the mesh uses, with its usable addresses and their networks, link-local ones included."""

    name: str
    index: int
    addresses: tuple[InterfaceAddress, ...]

    @property
    def has_ipv4(self) -> bool:
        """Whether it can speak IPv4."""
        return any(address.version == 4 for address in self.addresses)

    @property
    def has_ipv6(self) -> bool:
        """Whether it can speak IPv6."""
        return any(address.version == 6 for address in self.addresses)


@dataclass(frozen=True)
class InterfaceRules:
    """Patterns of names (as fnmatch reads them) that the mesh leaves alone."""

    vpn_patterns: tuple[str, ...]
    excluded_patterns: tuple[str, ...] = ()

    def permit(self, name: str) -> bool:
        """Whether no pattern names it."""
        return not any(fnmatch.fnmatchcase(name, one) for one in (*self.vpn_patterns, *self.excluded_patterns))


def usable(listed: Sequence[ListedInterface], rules: InterfaceRules) -> tuple[MeshInterface, ...]:
    """Those of all interfaces that the mesh uses, in the order given; no more than INTERFACES_MAX."""
    found = [
        MeshInterface(interface.name, interface.index, _announceable(interface.addresses))
        for interface in listed
        if interface.running
        and interface.multicast
        and not interface.loopback
        and not interface.point_to_point
        and rules.permit(interface.name)
    ]
    return tuple(interface for interface in found if interface.addresses)[:INTERFACES_MAX]


def _announceable(addresses: Sequence[InterfaceAddress]) -> tuple[InterfaceAddress, ...]:
    ipv4 = [one for one in addresses if one.version == 4 and not _useless(one.ip)]
    # Link-local ones first: they are there when nobody hands out others, and stay when a router changes its mind.
    ipv6 = sorted(
        (one for one in addresses if one.version == 6 and not _useless(one.ip)),
        key=lambda one: not one.ip.is_link_local,
    )
    return (*ipv4[:ADDRESSES_MAX], *ipv6[:ADDRESSES_MAX])


def _useless(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_loopback or address.is_unspecified or address.is_multicast


def next_settling(settle_seconds: float, since_change_seconds: float) -> float:
    """How long to let notices settle after a change that came so long after the one before."""
    return SETTLE_SECONDS_MIN if since_change_seconds > QUIET_SECONDS else min(SETTLE_SECONDS_MAX, settle_seconds * 1.5)


class InterfaceWatch:
    """Follows the interfaces by the kernel's notices; nothing wakes up while nothing changes.

    Belongs to the event loop that runs when `start` is called.
    """

    def __init__(
        self, rules: InterfaceRules, *, listing: Callable[[], Sequence[ListedInterface]] = list_interfaces
    ) -> None:
        self._rules = rules
        self._listing = listing
        self._notices: ChangeSocket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: set[asyncio.Event] = set()
        self._fault: Exception | None = None

    def now(self) -> tuple[MeshInterface, ...]:
        """What the mesh may use at this moment. Raises NetlinkError, OSError."""
        return usable(self._listing(), self._rules)

    def start(self) -> None:
        """Subscribes to the kernel's notices on the running event loop. Raises OSError."""
        if self._notices is None:
            self._notices = ChangeSocket(INTERFACE_GROUPS)
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._notices.fileno(), self._noticed)

    def close(self) -> None:
        """Ends the subscription. Whoever iterates over `changes` is to be cancelled by its owner."""
        if self._notices is not None and self._loop is not None:
            self._loop.remove_reader(self._notices.fileno())
            self._notices.close()
            self._notices = None

    async def __aenter__(self) -> "InterfaceWatch":
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def changes(self) -> AsyncGenerator[tuple[MeshInterface, ...], None]:
        """What may be used now, and then each answer that differs from the one before. Raises NetlinkError, OSError."""
        if self._notices is None:
            raise RuntimeError("the watch is not started: call start() or use it in `async with`")
        changed = asyncio.Event()
        self._changed.add(changed)  # before the first look: a notice that comes in between is not missed
        last: tuple[MeshInterface, ...] | None = None
        loop = asyncio.get_running_loop()
        settle_seconds, changed_at_seconds = SETTLE_SECONDS_MIN, loop.time()
        try:
            while True:
                changed.clear()
                current = self.now()
                if current != last:
                    settle_seconds = next_settling(settle_seconds, loop.time() - changed_at_seconds)
                    last, changed_at_seconds = current, loop.time()
                    yield current
                await changed.wait()
                await asyncio.sleep(settle_seconds)
                if self._fault is not None:
                    raise NetlinkError("the kernel's notices have ended") from self._fault
        finally:
            self._changed.discard(changed)

    def _noticed(self) -> None:
        if self._notices is None or self._loop is None:
            return
        try:
            self._notices.drain()
        except Exception as fault:  # noqa: BLE001  # whatever it is, those who wait must hear of it, or they hang
            self._fault = fault
            self._loop.remove_reader(self._notices.fileno())
        for changed in self._changed:
            changed.set()
