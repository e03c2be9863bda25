"""Says whether an address that a stranger names may be spoken to: only what lies on the interface's own network."""

import ipaddress
from collections.abc import Callable

from edge_agent.mesh.interfaces import MeshInterface
from edge_agent.netlink import IpAddress, NetlinkError, Route, route_to

_NETWORK_OF_ALL = 0


def is_on_link(address: IpAddress, interface: MeshInterface) -> bool:
    """Whether the address lies in a network of the interface, or is link-local; never this device's own."""
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        return False
    if any(own.ip == address for own in interface.addresses):
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.is_link_local:
        return interface.has_ipv6
    return any(
        own.version == address.version
        and own.network.prefixlen > _NETWORK_OF_ALL
        and address in own.network
        and not _stands_for_all(address, own.network)
        for own in interface.addresses
    )


def _stands_for_all(address: IpAddress, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    if network.prefixlen >= network.max_prefixlen - 1:
        return False  # two hosts and nothing else (RFC 3021)
    return address == network.network_address or (address.version == 4 and address == network.broadcast_address)


def may_be_met(
    address: IpAddress,
    interface: MeshInterface,
    *,
    ask_route: Callable[[IpAddress], Route | None] = route_to,
) -> bool:
    """Whether the kernel, too, would reach it by this interface and no router: a VPN may own a part of the network."""
    if not is_on_link(address, interface):
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.is_link_local:
        return True  # meaningful with its scope only, and the scope is this interface
    try:
        route = ask_route(address)
    except (NetlinkError, OSError):
        return False
    return route is not None and route.interface_index == interface.index and not route.by_gateway
