"""Says whether the broker's address is reached through the VPN now, and makes sockets that can go no other way.

The rule, whole: traffic to the broker's address leaves by an interface whose name matches one of the patterns, and from
an address to which answers come by such an interface, too. Two things enforce it. A socket is bound to interface and
address before it connects, so the kernel sends its packets there or nowhere, whatever the routing table says later. And
the guard ends a connection whose route has moved, because a bound socket would otherwise hang in silence.

What cannot be done from here: when the broker sends to a connection that this device no longer knows (the daemon was
killed), the kernel itself refuses, by the routing table. A routing rule for the broker's address closes that.
"""

import asyncio
import contextlib
import fnmatch
import ipaddress
import socket
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import TypeAlias

from edge_agent.netlink import ChangeSocket, interface_at, route_to
from edge_agent.netlink_listing import list_interfaces


class Refusal(Enum):
    """Why the broker must not be spoken to now."""

    NO_ROUTE = "no_route"
    NOT_VPN_INTERFACE = "not_vpn_interface"
    INTERFACE_DOWN = "interface_down"
    NO_ADDRESS = "no_address"


@dataclass(frozen=True)
class Permitted:
    """The VPN is there. Two of these differ when a connection made under one cannot live under the other.

    `index` changes when an interface is deleted and made again under its name; `source` is the local address of new
    connections (None where the kernel names none) and changes with the interface's address.
    """

    interface: str
    index: int
    source: str | None


@dataclass(frozen=True)
class Refused:
    """The VPN is not there, with the interface that the route names instead, if it names one."""

    reason: Refusal
    interface: str | None = None

    def __str__(self) -> str:
        match self.reason:
            case Refusal.NO_ROUTE:
                return "no route leads to the broker: is the VPN connected?"
            case Refusal.NOT_VPN_INTERFACE:
                return f"the route to the broker leaves by {self.interface}, which vpn.interfaces does not name"
            case Refusal.INTERFACE_DOWN:
                return f"the VPN's interface {self.interface} is down"
            case Refusal.NO_ADDRESS:
                return f"the VPN's interface {self.interface} has no address: is the VPN still being connected?"


VpnVerdict: TypeAlias = Permitted | Refused


class VpnGuard:
    """Watches the route to one address. Costs no wake-up while nothing changes: the kernel's notices drive it.

    Belongs to the event loop that runs when `start` is called; `verdict` works without one. Not responsible for
    ending connections: whoever holds one waits on `wait_until_refused_or_changed` and ends it.
    """

    def __init__(self, address: str, patterns: Sequence[str], *, port: int | None = None) -> None:
        """`address` is an IP literal (ValueError otherwise); `port` lets rules of policy routing count that name it."""
        self._address = ipaddress.ip_address(address)
        self._patterns = tuple(patterns)
        self._port = port
        self._notices: ChangeSocket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._fault: Exception | None = None

    def verdict(self) -> VpnVerdict:
        """What holds now, asked of the kernel (some 50 µs). Raises NetlinkError."""
        route = route_to(self._address, self._port)
        if route is None:
            return Refused(Refusal.NO_ROUTE)
        interface = interface_at(route.interface_index)
        if interface is None:  # gone between the two questions; its notice is on the way
            return Refused(Refusal.NO_ROUTE)
        if not any(fnmatch.fnmatchcase(interface.name, pattern) for pattern in self._patterns):
            return Refused(Refusal.NOT_VPN_INTERFACE, interface.name)
        if not interface.running:
            return Refused(Refusal.INTERFACE_DOWN, interface.name)
        if route.source is not None and self._answers_come_elsewhere(route.source):
            return Refused(Refusal.NO_ADDRESS, interface.name)
        return Permitted(interface.name, interface.index, route.source)

    def _answers_come_elsewhere(self, source: str) -> bool:
        """Tell whether the kernel would send from an address of an interface that is no VPN, and no loopback.

        It does while the VPN's own address is not there, or not ready: then what is sent goes through the VPN, and what
        the broker answers does not.
        """
        own = ipaddress.ip_address(source)
        holding = [one for one in list_interfaces() if any(own == held.ip for held in one.addresses)]
        return bool(holding) and not any(
            one.loopback or any(fnmatch.fnmatchcase(one.name, pattern) for pattern in self._patterns) for one in holding
        )

    def start(self) -> None:
        """Subscribes to the kernel's notices on the running event loop. Raises OSError."""
        if self._notices is None:
            self._notices = ChangeSocket()
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._notices.fileno(), self._noticed)

    def close(self) -> None:
        """Ends the subscription; whoever still waits is cancelled."""
        if self._notices is not None and self._loop is not None:
            self._loop.remove_reader(self._notices.fileno())
            self._notices.close()
            self._notices = None
        for waiter in self._waiters:
            waiter.cancel()

    async def __aenter__(self) -> "VpnGuard":
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def changes(self) -> AsyncGenerator[VpnVerdict, None]:
        """The verdict now, and then each verdict that differs from the one before. Raises NetlinkError."""
        last: VpnVerdict | None = None
        while True:
            # Registered before asking: a notice that comes in between is not missed.
            notice = self._next_notice()
            try:
                verdict = self.verdict()
                if verdict != last:
                    last = verdict
                    yield verdict
                await notice
            finally:
                self._forget(notice)

    async def wait_until_permitted(self) -> Permitted:
        """Returns as soon as the VPN is there. Raises NetlinkError."""
        async with contextlib.aclosing(self.changes()) as verdicts:
            async for verdict in verdicts:
                if isinstance(verdict, Permitted):
                    return verdict
        raise AssertionError("changes() never ends by itself")

    async def wait_until_refused_or_changed(self, held: Permitted) -> VpnVerdict:
        """Returns the new verdict as soon as a connection made under `held` must end. Raises NetlinkError."""
        async with contextlib.aclosing(self.changes()) as verdicts:
            async for verdict in verdicts:
                if verdict != held:
                    return verdict
        raise AssertionError("changes() never ends by itself")

    def _next_notice(self) -> asyncio.Future[None]:
        if self._notices is None:
            raise RuntimeError("the guard is not started: call start() or use it in `async with`")
        notice: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._fault is not None:
            notice.set_exception(self._fault)
        self._waiters.add(notice)
        return notice

    def _forget(self, notice: asyncio.Future[None]) -> None:
        self._waiters.discard(notice)
        if not notice.cancel() and not notice.cancelled():
            notice.exception()  # looked at, so that asyncio does not report a fault that another waiter raised

    def _noticed(self) -> None:
        if self._notices is None:
            return
        try:
            self._notices.drain()
        except Exception as fault:  # noqa: BLE001  # whatever it is, those who wait must hear of it, or they hang
            self._fault = fault
            if self._loop is not None:
                self._loop.remove_reader(self._notices.fileno())
        for waiter in self._waiters:
            if not waiter.done():
                if self._fault is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(self._fault)


def bound_socket(interface: str, address: str, source: str | None) -> socket.socket:
    """A TCP socket for this address's family that can send by this interface only, and from this address of it (None:
    from what the kernel takes); not connected yet.

    Linux lets a process without privileges bind a socket that is not bound yet since 5.7. Raises OSError: ENODEV when
    the interface is gone, EADDRNOTAVAIL when its address is, EPERM on older kernels without CAP_NET_RAW.
    """
    family = socket.AF_INET if ipaddress.ip_address(address).version == 4 else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        if source is not None:
            made.bind((source, 0) if family == socket.AF_INET else (source, 0, 0, socket.if_nametoindex(interface)))
    except BaseException:
        made.close()
        raise
    return made
