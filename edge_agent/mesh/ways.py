"""By which interface an address is dialled, if by any: so that neither the VPN nor a default route by it can carry it.

| address | is dialled by | while |
|---|---|---|
| found by discovery | the interface where it was found | the mesh uses it, and no router lies between |
| configured, fe80::1%eth0 | the interface that it names | the mesh uses it |
| configured, any other | where the kernel's route for this port leaves | the mesh uses that; routers may lie between |

Whatever the way, the socket is bound to the interface before it connects (SO_BINDTODEVICE): a route that changes later
cannot move it. A route by a VPN, by loopback, by a point-to-point or an excluded interface is no way, and the address
is asked about again later. Names are not resolved: the question would leave by who knows what interface.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_agent.mesh.dialling import Address
from edge_agent.mesh.interfaces import MeshInterface
from edge_agent.mesh.near_addresses import may_be_met
from edge_agent.netlink import IpAddress, NetlinkError, Route, route_to


@dataclass(frozen=True)
class Way:
    """An interface that the mesh uses. Two of one name differ when it was deleted and made again."""

    interface: str
    index: int


@dataclass(frozen=True)
class NoWay:
    """Why an address is not dialled now, as a sentence's end."""

    reason: str


class Ways:
    """Knows the interfaces that the mesh uses now; `ask_route` is the kernel's answer (address, port)."""

    def __init__(self, ask_route: Callable[[IpAddress, int | None], Route | None] = route_to) -> None:
        self._ask_route = ask_route
        self._interfaces: tuple[MeshInterface, ...] = ()

    def follow(self, interfaces: Sequence[MeshInterface]) -> None:
        """Hear which interfaces the mesh uses from now on."""
        self._interfaces = tuple(interfaces)

    def has(self, way: Way) -> bool:
        """Whether the mesh still uses the interface."""
        return any((one.name, one.index) == (way.interface, way.index) for one in self._interfaces)

    def to(self, address: Address) -> Way | NoWay:
        """The way to an address now. Never raises."""
        try:
            host = ipaddress.ip_address(address.host)
        except ValueError:
            return NoWay("its address is none: write an IPv4 or IPv6 address, no name")
        scope = host.scope_id if isinstance(host, ipaddress.IPv6Address) else None
        bare = ipaddress.ip_address(address.host.partition("%")[0])
        if address.interface is not None:
            return self._to_found(bare, address.interface)
        if isinstance(bare, ipaddress.IPv6Address) and bare.is_link_local:
            return self._to_link_local(scope)
        return self._to_routed(bare, address.port)

    def _to_found(self, host: IpAddress, name: str) -> Way | NoWay:
        interface = self._named(name)
        if interface is None:
            return NoWay(f"the mesh does not use {name} now")
        if not may_be_met(host, interface, ask_route=lambda asked: self._ask_route(asked, None)):
            return NoWay(f"it is not on the network of {name}")
        return Way(interface.name, interface.index)

    def _to_link_local(self, scope: str | None) -> Way | NoWay:
        if scope is None:
            return NoWay("a link-local address needs its interface, as in fe80::1%eth0")
        interface = self._named(scope)
        if interface is None or not interface.has_ipv6:
            return NoWay(f"the mesh does not use {scope} now")
        return Way(interface.name, interface.index)

    def _to_routed(self, host: IpAddress, port: int) -> Way | NoWay:
        if host.is_multicast or host.is_unspecified:
            return NoWay("its address stands for no single device")
        try:
            route = self._ask_route(host, port)
        except (NetlinkError, OSError):
            return NoWay("the kernel does not say how it is reached")
        if route is None:
            return NoWay("no route leads there")
        for interface in self._interfaces:
            if interface.index == route.interface_index:
                return Way(interface.name, interface.index)
        return NoWay("the route to it leaves by an interface that the mesh does not use")

    def _named(self, name: str) -> MeshInterface | None:
        return next((one for one in self._interfaces if one.name == name), None)
