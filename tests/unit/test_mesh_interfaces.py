"""Which interfaces the mesh uses: the rule, with fakes, and the kernel's list of this machine."""

import asyncio
import contextlib
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.mesh.interfaces import (
    ADDRESSES_MAX,
    INTERFACES_MAX,
    SETTLE_SECONDS_MAX,
    SETTLE_SECONDS_MIN,
    InterfaceRules,
    InterfaceWatch,
    MeshInterface,
    next_settling,
    usable,
)
from edge_agent.netlink import NetlinkError
from edge_agent.netlink_listing import (
    ListedInterface,
    list_interfaces,
    messages_of,
    parse_address,
    parse_listed_interface,
)

RULES = InterfaceRules(("wg*", "tun*"), ("docker*",))


def listed(name: str, index: int = 5, addresses: tuple[str, ...] = ("192.0.2.4/24",), **odd: bool) -> ListedInterface:
    facts = {"running": True, "loopback": False, "point_to_point": False, "multicast": True} | odd
    return ListedInterface(name, index, addresses=tuple(ipaddress.ip_interface(one) for one in addresses), **facts)


def test_an_ordinary_interface_is_used_with_its_addresses_link_local_first_among_ipv6() -> None:
    found = usable([listed("wlan0", 3, ("192.0.2.4/24", "2001:db8::4/64", "fe80::4/64"))], RULES)
    expected = ("192.0.2.4/24", "fe80::4/64", "2001:db8::4/64")
    assert found == (MeshInterface("wlan0", 3, tuple(ipaddress.ip_interface(one) for one in expected)),)
    assert (found[0].has_ipv4, found[0].has_ipv6) == (True, True)


@pytest.mark.parametrize(
    "interface",
    [
        listed("wg0"),
        listed("tun7"),
        listed("docker0"),
        listed("eth0", running=False),
        listed("eth0", multicast=False),
        listed("lo", loopback=True),
        listed("nordlynx", point_to_point=True),
        listed("eth0", addresses=()),
        listed("eth0", addresses=("127.0.0.1/8", "::1/128")),
    ],
    ids=lambda one: f"{one.name}-{one.running}-{one.multicast}-{len(one.addresses)}",
)
def test_what_is_no_place_for_neighbours_is_left_alone(interface: ListedInterface) -> None:
    assert usable([interface], RULES) == ()


def test_a_machine_with_very_many_interfaces_and_addresses_is_bounded() -> None:
    many = tuple(f"2001:db8::{number:x}/64" for number in range(1, 40))
    found = usable([listed(f"eth{number}", number, many) for number in range(1, 40)], RULES)
    assert len(found) == INTERFACES_MAX
    assert all(len(one.addresses) == ADDRESSES_MAX for one in found)


def test_this_machines_loopback_is_listed_with_its_address() -> None:
    loopback = next(one for one in list_interfaces() if one.loopback)
    assert (loopback.name, loopback.running, loopback.multicast) == ("lo", True, False)
    assert ipaddress.ip_interface("127.0.0.1/8") in loopback.addresses


def address_body(flags: int, wide_flags: int | None, raw: bytes, prefix_length: int = 64) -> bytes:
    body = struct.pack("=BBBBI", 10, prefix_length, flags, 253, 9) + struct.pack("=HH", 4 + len(raw), 1) + raw
    return body if wide_flags is None else body + struct.pack("=HHI", 8, 8, wide_flags)


LINK_LOCAL = ipaddress.ip_address("fe80::9")


def test_an_address_counts_once_the_kernel_has_made_sure_that_nobody_else_has_it() -> None:
    assert parse_address(address_body(0x80, 0x80, LINK_LOCAL.packed)) == (9, ipaddress.ip_interface("fe80::9/64"))
    assert parse_address(address_body(0xC0, 0xC0, LINK_LOCAL.packed)) is None  # tentative
    assert parse_address(address_body(0x80, 0x88, LINK_LOCAL.packed)) is None  # somebody has it
    assert parse_address(struct.pack("=BBBBI", 7, 64, 0, 0, 9)) is None  # another family
    for broken in (b"", address_body(0, None, b"123"), address_body(0, None, LINK_LOCAL.packed, 129)):
        with pytest.raises(NetlinkError):
            parse_address(broken)


@given(st.binary(max_size=200))
def test_garbage_gives_only_the_declared_errors(data: bytes) -> None:
    with contextlib.suppress(NetlinkError):
        parse_address(data)
    with contextlib.suppress(NetlinkError):
        parse_listed_interface(data, {})
    with contextlib.suppress(NetlinkError, OSError):
        list(messages_of(data))


def test_one_loose_plug_is_followed_ever_more_slowly_until_it_rests() -> None:
    settle_seconds = SETTLE_SECONDS_MIN
    for _ in range(20):
        settle_seconds = next_settling(settle_seconds, 1.0)
    assert settle_seconds == SETTLE_SECONDS_MAX
    assert next_settling(settle_seconds, 11.0) == SETTLE_SECONDS_MIN


def test_a_notice_without_a_difference_tells_nothing_and_one_with_a_difference_tells_it() -> None:
    state = [listed("wlan0")]
    looks: list[int] = []

    def listing() -> list[ListedInterface]:
        looks.append(1)
        return list(state)

    async def run() -> list[tuple[str, ...]]:
        told: list[tuple[str, ...]] = []
        async with InterfaceWatch(RULES, listing=listing) as watch, contextlib.aclosing(watch.changes()) as changes:
            async for interfaces in changes:
                told.append(tuple(one.name for one in interfaces))
                if len(told) == 2:
                    break

                async def notices() -> None:
                    watch._noticed()
                    while len(looks) < 2:  # it has looked again, and found nothing new
                        await asyncio.sleep(0.01)
                    state.append(listed("usb0", 9))
                    watch._noticed()

                noticing = asyncio.create_task(notices())
            await noticing
        return told

    assert asyncio.run(run()) == [("wlan0",), ("wlan0", "usb0")]


def test_a_watch_that_is_not_started_says_so() -> None:
    async def run() -> None:
        with pytest.raises(RuntimeError, match="not started"):
            await anext(InterfaceWatch(RULES).changes())

    asyncio.run(run())
