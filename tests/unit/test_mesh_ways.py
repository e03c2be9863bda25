"""By which interface an address is dialled: the rule, with the kernel's answers made up."""

from __future__ import annotations

import ipaddress

import pytest

from edge_agent.mesh.dialling import Address
from edge_agent.mesh.interfaces import MeshInterface
from edge_agent.mesh.ways import NoWay, Way, Ways
from edge_agent.netlink import IpAddress, NetlinkError, Route

ETH0 = MeshInterface("eth0", 2, tuple(map(ipaddress.ip_interface, ("192.0.2.4/24", "fe80::4/64"))))
USB0 = MeshInterface("usb0", 5, (ipaddress.ip_interface("198.51.100.4/24"),))
BY_ETH0, BY_VPN = Route(2, "192.0.2.4", by_gateway=False), Route(9, "10.9.0.2", by_gateway=False)
BY_ROUTER = Route(2, "192.0.2.4", by_gateway=True)
WAY = Way("eth0", 2)


def ways(route: Route | Exception | None) -> Ways:
    def ask(address: IpAddress, port: int | None) -> Route | None:
        if isinstance(route, Exception):
            raise route
        return route

    made = Ways(ask)
    made.follow((ETH0, USB0))
    return made


@pytest.mark.parametrize(
    ("address", "route", "way"),
    [
        (Address("192.0.2.9", 1), BY_ETH0, WAY),
        (Address("203.0.113.9", 1), BY_ROUTER, WAY),
        (Address("192.0.2.9", 1), BY_VPN, None),
        (Address("203.0.113.9", 1), BY_VPN, None),
        (Address("203.0.113.9", 1), None, None),
        (Address("203.0.113.9", 1), NetlinkError("broken"), None),
        (Address("203.0.113.9", 1), OSError("broken"), None),
        (Address("fe80::9%eth0", 1), None, WAY),
        (Address("fe80::9%usb0", 1), BY_ETH0, None),  # no IPv6 there
        (Address("fe80::9%wg0", 1), BY_VPN, None),
        (Address("fe80::9", 1), BY_ETH0, None),
        (Address("192.0.2.9", 1, "eth0"), BY_ETH0, WAY),
        (Address("192.0.2.9", 1, "eth0"), BY_VPN, None),
        (Address("192.0.2.9", 1, "eth0"), BY_ROUTER, None),
        (Address("192.0.2.9", 1, "usb0"), BY_ETH0, None),
        (Address("192.0.2.9", 1, "wlan0"), BY_ETH0, None),
        (Address("fe80::9", 1, "eth0"), None, WAY),
        (Address("tablet.example", 1), BY_ETH0, None),
        (Address("", 1), BY_ETH0, None),
        (Address("224.0.0.251", 1), BY_ETH0, None),
        (Address("0.0.0.0", 1), BY_ETH0, None),
    ],
)
def test_an_address_is_dialled_by_an_interface_of_the_mesh_or_not_at_all(
    address: Address, route: Route | Exception | None, way: Way | None
) -> None:
    found = ways(route).to(address)
    assert (None if isinstance(found, NoWay) else found) == way


def test_an_interface_that_was_made_again_is_another_one() -> None:
    made = ways(None)
    assert made.has(WAY)
    assert not made.has(Way("eth0", 3))
    made.follow((USB0,))
    assert not made.has(WAY)
    assert isinstance(made.to(Address("fe80::9%eth0", 1)), NoWay)
