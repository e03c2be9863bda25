"""The kernel's words about routes: understood when right, a typed error when odd."""

import asyncio
import contextlib
import ipaddress
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.mqtt.vpn_guard import Permitted, Refusal, Refused, VpnGuard
from edge_agent.netlink import (
    NetlinkError,
    attributes_of,
    body_of_answer,
    interface_at,
    parse_interface,
    parse_route,
    route_to,
)

# Answers recorded from a kernel 6.18: 10.0.0.9 by interface 2 from 10.0.0.1, and fd00::1 by lo (a local address).
ROUTE_IPV4 = bytes.fromhex(
    "02200000fe0000010002000008000f00fe000000080001000a0000090800040002000000080007000a000001080019000000000024000c00"
    "0200000000000000000000000000000000000000000000000000000000000000"
)
ROUTE_ERROR = bytes.fromhex(
    "38000000020000000100000000000000"
    + "9bffffff240000001a00010007000000000000000220000000000000000000000800010009090909"
)


def test_a_recorded_route_is_understood() -> None:
    route = parse_route(ROUTE_IPV4)
    assert route is not None
    assert (route.interface_index, route.source) == (2, "10.0.0.1")


@pytest.mark.parametrize("route_type", [3, 4, 5, 6, 7, 8, 9, 255])
def test_a_route_that_goes_nowhere_is_no_route(route_type: int) -> None:
    assert parse_route(ROUTE_IPV4[:7] + bytes([route_type]) + ROUTE_IPV4[8:]) is None


def test_the_kernels_error_comes_with_its_number() -> None:
    with pytest.raises(OSError, match="unreachable") as caught:
        body_of_answer(ROUTE_ERROR, 1, 24)
    assert caught.value.errno == 101
    with pytest.raises(NetlinkError):
        body_of_answer(ROUTE_ERROR, 2, 24)  # the answer to another question


@pytest.mark.parametrize("length", range(len(ROUTE_IPV4)))
def test_a_cut_route_is_a_typed_error_or_a_shorter_truth(length: int) -> None:
    try:
        route = parse_route(ROUTE_IPV4[:length])
    except NetlinkError:
        return
    assert route is not None
    assert route.interface_index == 2


@given(st.binary(max_size=300))
def test_garbage_gives_only_the_declared_error(data: bytes) -> None:
    for parse in (parse_route, parse_interface, lambda raw: list(attributes_of(raw))):
        with contextlib.suppress(NetlinkError):
            parse(data)
    with contextlib.suppress(NetlinkError, OSError):
        body_of_answer(data, struct.unpack_from("=I", data, 8)[0] if len(data) >= 12 else 1, 24)


@pytest.mark.parametrize("number", [0, 1, -4096, -(2**31), 2**31 - 1])
def test_an_error_number_that_no_kernel_has_is_a_typed_error(number: int) -> None:
    with pytest.raises(NetlinkError):
        body_of_answer(struct.pack("=IHHIIi", 20, 2, 0, 1, 0, number), 1, 24)


def test_this_machines_loopback_is_found() -> None:
    route = route_to(ipaddress.ip_address("127.0.0.1"), 8883)
    assert route is not None
    interface = interface_at(route.interface_index)
    assert interface is not None
    assert (interface.name, interface.running) == ("lo", True)
    assert interface_at(2**31 - 1) is None


def test_the_guard_permits_loopback_only_when_a_pattern_names_it() -> None:
    assert VpnGuard("127.0.0.1", ["wg*", "lo"]).verdict() == Permitted("lo", 1, "127.0.0.1")
    refused = VpnGuard("127.0.0.1", ["wg*", "tun*"], port=8883).verdict()
    assert refused == Refused(Refusal.NOT_VPN_INTERFACE, "lo")
    assert "lo" in str(refused)
    with pytest.raises(ValueError, match=r"broker\.example"):
        VpnGuard("broker.example", ["lo"])


def test_waiting_without_a_started_guard_is_refused_and_a_closed_one_leaves_no_descriptor() -> None:
    async def run() -> None:
        guard = VpnGuard("127.0.0.1", ["lo"])
        with pytest.raises(RuntimeError, match="not started"):
            await guard.wait_until_permitted()
        before = len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))
        async with guard:
            held = await guard.wait_until_permitted()
            waiting = asyncio.create_task(guard.wait_until_refused_or_changed(held))
            await asyncio.sleep(0)
            assert not waiting.done()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(list(Path(f"/proc/{os.getpid()}/fd").iterdir())) == before

    asyncio.run(run())
