"""Hosts in network namespaces find each other, and nothing of it leaves by an interface it must not leave by."""

import contextlib
import functools
import itertools
import json
import queue
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from edge_agent.mesh.mdns_answers import draw_name
from edge_agent.mesh.neighbourhood import NEIGHBOURS_MAX, NEIGHBOURS_PER_SOURCE_MAX
from tests.support.announcements import MDNS_IPV4, MDNS_IPV6, MDNS_PORT, announcement, question
from tests.support.namespaces import Capture, Namespace, namespace, why_no_namespaces

WAIT_SECONDS = 40.0
SETTLE_SECONDS = 2.0  # for what a wrong implementation would still send: announcements repeat within 1 s
PORTS = itertools.count(7001)
HOST_NAME = b"tablet-of-aigerim"
# A shorter one may occur in random names.
OWN_NAME = [name.encode() for name in [socket.gethostname()] if len(name) >= 6]

REASON = why_no_namespaces()
pytestmark = [pytest.mark.root, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@dataclass
class Searcher:
    """A process that discovers; its events are read as they come."""

    process: subprocess.Popen[str]
    port: int
    events: queue.Queue[dict[str, object]] = field(default_factory=queue.Queue)
    seen: list[dict[str, object]] = field(default_factory=list)

    def wait_for(self, event: str, **fields: object) -> dict[str, object]:
        """The next such event; all before it are passed over."""
        until = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                one = self.events.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {event} {fields} in {WAIT_SECONDS} s; the last: {self.seen[-10:]}") from None
            self.seen.append(one)
            if one["event"] == event and all(one.get(name) == value for name, value in fields.items()):
                return one

    def wait_for_all(self, event: str, addresses: set[str]) -> None:
        """Until such an event has come for each address, in any order."""
        while addresses:
            addresses = addresses - {str(self.wait_for(event)["address"])}

    def resident_kilobytes(self) -> int:
        """What the process holds now."""
        self.process.send_signal(signal.SIGUSR1)
        kilobytes = self.wait_for("resident")["kilobytes"]
        assert isinstance(kilobytes, int)
        return kilobytes

    def found(self) -> list[str]:
        """All addresses told as found so far."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.seen.append(self.events.get_nowait())
        return [str(one["address"]) for one in self.seen if one["event"] == "found"]


@contextlib.contextmanager
def searching(place: Namespace, *words: str, prefix: tuple[str, ...] = ()) -> Iterator[Searcher]:
    """Discovery inside the namespace, without any capability, as the daemon runs; leaves with a goodbye at the end."""
    port = next(PORTS)
    command = [
        *prefix,
        "setpriv",
        "--bounding-set=-all",
        "--inh-caps=-all",
        sys.executable,
        "-m",
        "tests.support.discovering",
        "--port",
        str(port),
        *words,
    ]
    process = subprocess.Popen(place.command(*command), stdout=subprocess.PIPE, text=True)
    made = Searcher(process, port)

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            made.events.put(json.loads(line))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        made.wait_for("started")
        yield made
    finally:
        process.terminate()
        assert process.wait(WAIT_SECONDS) == 0
        reader.join()


@contextlib.contextmanager
def hosts(count: int) -> Iterator[tuple[Namespace, list[Namespace]]]:
    """A switch and so many hosts, each on it by its eth0, with no address but what the kernel gives."""
    with contextlib.ExitStack() as stack:
        switch = stack.enter_context(namespace("switch"))
        switch.ip("link", "add", "bridge0", "type", "bridge", "mcast_snooping", "0")
        switch.ip("link", "set", "bridge0", "up")
        made = [stack.enter_context(namespace(f"host{number}")) for number in range(count)]
        for number, place in enumerate(made):
            plug_in(switch, place, "eth0", f"port{number}")
        yield switch, made


def plug_in(switch: Namespace, place: Namespace, name: str, port: str) -> None:
    """A cable from the host to the switch."""
    switch.ip("link", "add", port, "type", "veth", "peer", "name", name, "netns", place.name)
    switch.ip("link", "set", port, "master", "bridge0", "up")
    place.ip("link", "set", name, "up")


def without_ipv6(place: Namespace) -> None:
    words = ("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
    subprocess.run(place.command(*words), check=True, capture_output=True)


def link_local(place: Namespace, name: str) -> str:
    """The interface's own fe80 address, once the kernel has made sure of it."""
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        words = ["ip", "-n", place.name, "-6", "-j", "address", "show", "dev", name, "scope", "link"]
        told = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        ready = [one for entry in told for one in entry.get("addr_info", ()) if not one.get("tentative")]
        if ready:
            return str(ready[0]["local"])
        time.sleep(0.05)
    raise AssertionError(f"no link-local address on {name}")


def hardware_address(place: Namespace, name: str) -> bytes:
    words = ["ip", "-n", place.name, "-j", "link", "show", "dev", name]
    told = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return bytes.fromhex(told[0]["address"].replace(":", ""))


def mdns_on(place: Namespace, interface: str) -> Capture:
    """Everything of multicast DNS that passes, with the joining of its groups."""
    groups = (socket.inet_aton(MDNS_IPV4), socket.inet_pton(socket.AF_INET6, MDNS_IPV6))
    return Capture(place, interface, (*groups, b"_census-sync"))


def test_two_hosts_find_each_other_over_ipv4_alone_and_hear_each_other_leave() -> None:
    with hosts(2) as (_, (one, two)):
        for number, place in enumerate((one, two), start=1):
            without_ipv6(place)
            place.ip("address", "add", f"192.0.2.{number}/24", "dev", "eth0")
        with searching(one) as first:
            with searching(two) as second:
                first.wait_for("found", address="192.0.2.2", port=second.port, interface="eth0")
                second.wait_for("found", address="192.0.2.1", port=first.port, interface="eth0")
            first.wait_for("lost", address="192.0.2.2", port=second.port)


def test_two_hosts_find_each_other_by_link_local_ipv6_alone_and_hear_each_other_leave() -> None:
    with hosts(2) as (_, (one, two)):
        addresses = [link_local(place, "eth0") for place in (one, two)]
        with searching(one) as first:
            with searching(two) as second:
                first.wait_for("found", address=addresses[1], port=second.port, interface="eth0")
                second.wait_for("found", address=addresses[0], port=first.port, interface="eth0")
            first.wait_for("lost", address=addresses[1], port=second.port)


def test_three_hosts_find_each_other_at_all_their_addresses_and_none_finds_itself() -> None:
    with hosts(3) as (_, places), contextlib.ExitStack() as stack:
        held: list[set[str]] = []
        for number, place in enumerate(places, start=1):
            place.ip("address", "add", f"192.0.2.{number}/24", "dev", "eth0")
            held.append({f"192.0.2.{number}", link_local(place, "eth0")})
        searchers = [stack.enter_context(searching(place)) for place in places]
        for number, searcher in enumerate(searchers):
            others = set().union(*held[:number], *held[number + 1 :])
            searcher.wait_for_all("found", others)
        time.sleep(SETTLE_SECONDS)
        for number, searcher in enumerate(searchers):
            assert not held[number] & set(searcher.found())
            assert not [one for one in searcher.seen if one["event"] == "odd"]


def test_a_host_on_one_network_by_two_interfaces_does_not_find_itself() -> None:
    with hosts(2) as (switch, (one, two)):
        plug_in(switch, one, "eth1", "port9")
        own = {link_local(one, name) for name in ("eth0", "eth1")}
        with searching(one) as first, searching(two) as second:
            second.wait_for_all("found", set(own))
            first.wait_for("found", address=link_local(two, "eth0"), port=second.port, interface="eth0")
            time.sleep(SETTLE_SECONDS)
            assert not own & set(first.found())


def test_a_cable_plugged_in_later_is_used_and_pulled_out_is_dropped_while_the_rest_goes_on() -> None:
    with hosts(2) as (_, (one, two)), namespace("laptop") as laptop:
        one.ip("address", "add", "192.0.2.1/24", "dev", "eth0")
        two.ip("address", "add", "192.0.2.2/24", "dev", "eth0")
        with searching(one) as first, searching(laptop) as at_laptop:
            for _ in range(2):  # the second time under the same name, with another index
                one.ip("link", "add", "usb0", "type", "veth", "peer", "name", "usb0", "netns", laptop.name)
                for place, host in ((one, 1), (laptop, 2)):
                    place.ip("address", "add", f"198.51.100.{host}/24", "dev", "usb0")
                    place.ip("link", "set", "usb0", "up")
                first.wait_for("found", address="198.51.100.2", port=at_laptop.port, interface="usb0")
                at_laptop.wait_for("found", address="198.51.100.1", port=first.port, interface="usb0")
                one.ip("link", "delete", "usb0")
                first.wait_for("lost", address="198.51.100.2", port=at_laptop.port, interface="usb0")
                at_laptop.wait_for("lost", address="198.51.100.1", port=first.port, interface="usb0")
            with searching(two) as second:
                first.wait_for("found", address="192.0.2.2", port=second.port, interface="eth0")
                second.wait_for("found", address="192.0.2.1", port=first.port, interface="eth0")


def test_an_address_that_changes_is_told_to_the_neighbours_at_once() -> None:
    with hosts(2) as (_, (one, two)):
        for number, place in enumerate((one, two), start=1):
            without_ipv6(place)
            place.ip("address", "add", f"192.0.2.{number}/24", "dev", "eth0")
        with searching(one) as first, searching(two) as second:
            first.wait_for("found", address="192.0.2.2", port=second.port)
            second.wait_for("found", address="192.0.2.1")
            two.ip("address", "add", "192.0.2.7/25", "dev", "eth0")  # another prefix: not a secondary of the first
            first.wait_for("found", address="192.0.2.7", port=second.port)
            two.ip("address", "delete", "192.0.2.2/24", "dev", "eth0")
            first.wait_for("lost", address="192.0.2.2", port=second.port)


def test_an_address_that_the_vpn_or_a_router_would_carry_is_never_told() -> None:
    with hosts(2) as (_, (one, two)):
        one.ip("address", "add", "192.0.2.1/24", "dev", "eth0")
        two.ip("address", "add", "192.0.2.200/24", "dev", "eth0")
        two.ip("address", "add", "192.0.2.100/24", "dev", "eth0")
        two.ip("address", "add", "192.0.2.50/24", "dev", "eth0")
        one.ip("link", "add", "wg0", "type", "bridge")
        one.ip("link", "set", "wg0", "up")
        one.ip("route", "add", "192.0.2.200/32", "dev", "wg0")
        one.ip("route", "add", "192.0.2.100/32", "via", "192.0.2.9", "dev", "eth0")
        near = link_local(two, "eth0")
        with searching(one) as first, searching(two):
            first.wait_for_all("found", {near, "192.0.2.50"})
            time.sleep(SETTLE_SECONDS)
            assert set(first.found()) == {near, "192.0.2.50"}


def test_each_network_is_told_its_own_addresses_only() -> None:
    with hosts(1) as (_, (one,)), namespace("laptop") as laptop:
        one.ip("address", "add", "192.0.2.1/24", "dev", "eth0")
        one.ip("link", "add", "usb0", "type", "veth", "peer", "name", "usb0", "netns", laptop.name)
        for place, host in ((one, 1), (laptop, 2)):
            place.ip("address", "add", f"198.51.100.{host}/24", "dev", "usb0")
            place.ip("link", "set", "usb0", "up")
        with (
            mdns_on(one, "eth0") as on_network,
            mdns_on(laptop, "usb0") as on_cable,
            searching(one) as first,
            searching(laptop) as at_laptop,
        ):
            at_laptop.wait_for("found", address="198.51.100.1", port=first.port)
            time.sleep(SETTLE_SECONDS)
            announced = [frame for frame in on_network.frames if b"_census-sync" in frame]
            assert announced
            assert not [frame for frame in announced if socket.inet_aton("198.51.100.1") in frame]
            assert not [frame for frame in on_cable.frames if socket.inet_aton("192.0.2.1") in frame]


def ask_from(place: Namespace, interface: str, *, to: str) -> None:
    """Asks as a stranger there would, from the port of multicast DNS and from another, by multicast and directly."""

    def make(family: socket.AddressFamily, port: int) -> socket.socket:
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        made.bind(("", port))
        return made

    for port, unicast in itertools.product((MDNS_PORT, 0), (False, True)):
        with place.make(functools.partial(make, socket.AF_INET, port)) as asking:
            for target in (MDNS_IPV4, to):
                asking.sendto(question(unicast=unicast), (target, MDNS_PORT))
        with place.make(functools.partial(make, socket.AF_INET6, port)) as asking:
            asking.sendto(question(unicast=unicast), (MDNS_IPV6, MDNS_PORT))


@pytest.mark.parametrize(("name", "silent"), [("wg0", True), ("eth7", False)])
def test_nothing_is_sent_on_an_interface_named_like_a_vpn_even_when_asked_there(name: str, silent: bool) -> None:
    """The second case is the proof that the first can fail: the same interface under another name is not silent."""
    with hosts(2) as (_, (one, two)), namespace("beyond") as beyond:
        one.ip("address", "add", "192.0.2.1/24", "dev", "eth0")
        two.ip("address", "add", "192.0.2.2/24", "dev", "eth0")
        one.ip("link", "add", name, "type", "veth", "peer", "name", "far0", "netns", beyond.name)
        for place, interface, host in ((one, name, 1), (beyond, "far0", 2)):
            place.ip("address", "add", f"10.9.0.{host}/24", "dev", interface)
            place.ip("link", "set", interface, "up")
        beyond.ip("route", "add", "192.0.2.0/24", "via", "10.9.0.1")
        own = hardware_address(one, name)
        link_local(one, name)

        def join() -> socket.socket:  # as avahi would: the kernel then takes the groups' packets in there
            made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            member = socket.inet_aton(MDNS_IPV4) + socket.inet_aton("10.9.0.1")
            made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            index = one.make(lambda: socket.if_nametoindex(name))
            member = socket.inet_pton(socket.AF_INET6, MDNS_IPV6) + struct.pack("@I", index)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
            return made

        joined = one.make(join)
        time.sleep(SETTLE_SECONDS)  # that program's own IGMP reports are not what is counted
        try:
            with mdns_on(beyond, "far0") as seen, searching(one) as first, searching(two) as second:
                first.wait_for("found", address="192.0.2.2", port=second.port)
                for target in ("10.9.0.1", "192.0.2.1"):
                    ask_from(beyond, "far0", to=target)
                one.ip("address", "add", "10.9.0.3/24", "dev", name)  # a change there, too, is no reason to speak
                time.sleep(SETTLE_SECONDS)
                ask_from(beyond, "far0", to="10.9.0.3")
                time.sleep(SETTLE_SECONDS)
                sent = [frame for frame in seen.frames if frame[6:12] == own and is_mdns(frame)]
        finally:
            joined.close()
        assert bool(sent) is not silent, [frame.hex() for frame in sent[:3]]
        assert len(seen.frames) > 8  # the questions themselves were captured


def is_mdns(frame: bytes) -> bool:
    """UDP from or to port 5353, over IPv4 or IPv6."""
    kind, body = frame[12:14], frame[14:]
    if kind == b"\x08\x00":
        header, protocol = (body[0] & 0x0F) * 4, body[9]
    elif kind == b"\x86\xdd":
        header, protocol = 40, body[6]
    else:
        return False
    port = MDNS_PORT.to_bytes(2, "big")
    return protocol == socket.IPPROTO_UDP and port in (body[header : header + 2], body[header + 2 : header + 4])


def test_the_name_differs_between_two_starts_and_no_packet_tells_the_hosts_name() -> None:
    named = ("unshare", "--uts", "sh", "-c", f'hostname {HOST_NAME.decode()} && exec "$@"', "sh")
    names: list[set[bytes]] = []
    with hosts(2) as (_, (one, two)):
        address = link_local(one, "eth0")
        with searching(two) as second:
            for _ in range(2):
                with mdns_on(one, "eth0") as seen:
                    with searching(one, prefix=named) as first:
                        second.wait_for("found", address=address, port=first.port)
                    second.wait_for("lost", address=address, port=first.port)
                own = hardware_address(one, "eth0")
                sent = [frame for frame in seen.frames if frame[6:12] == own and is_mdns(frame)]
                assert sent
                assert not [frame for frame in sent if any(name in frame for name in (HOST_NAME, *OWN_NAME))]
                answers = [frame for frame in sent if b"\x84\x00" in frame[:80]]
                # Labels of 16 characters: the instance's and the server's, and nothing else of that form.
                names.append({label for frame in answers for label in re.findall(rb"\x10([a-z2-7]{16})", frame)})
    assert [len(one) for one in names] == [2, 2]
    assert not names[0] & names[1]


def test_a_flood_of_false_neighbours_is_bounded_and_a_true_one_is_found_afterwards() -> None:
    with hosts(3) as (_, (one, two, hostile)):
        one.ip("address", "add", "10.7.0.1/16", "dev", "eth0")
        two.ip("address", "add", "10.7.0.2/16", "dev", "eth0")
        for host in range(8):
            hostile.ip("address", "add", f"10.7.1.{host}/16", "dev", "eth0")
        with searching(one) as first:
            before = first.resident_kilobytes()
            flood(hostile, count=20_000)
            with searching(two) as second:
                first.wait_for("found", address="10.7.0.2", port=second.port)
            grown = first.resident_kilobytes() - before
            false = [address for address in first.found() if address.startswith("10.7.1.")]
            odd = [one["oddity"] for one in first.seen if one["event"] == "odd"]
        sys.stdout.write(f"{len(false)} of 20,000 false ones told, {grown} KB more, odd: {odd}\n")
        assert len(odd) == len(set(odd))
        assert {"too_many_neighbours", "too_much_traffic"} <= set(odd)
        assert 8 * NEIGHBOURS_PER_SOURCE_MAX <= NEIGHBOURS_MAX
        assert len(false) < 2_000
        assert grown < 8_000


def flood(place: Namespace, *, count: int) -> None:
    """So many announcements of different names from eight addresses, as fast as they can be sent."""

    def make(host: int) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(f"10.7.1.{host}"))
        made.bind((f"10.7.1.{host}", MDNS_PORT))
        return made

    with contextlib.ExitStack() as stack:
        senders = [stack.enter_context(place.make(functools.partial(make, host))) for host in range(8)]
        for number in range(count):
            host = number % 8
            name = draw_name(number.to_bytes)
            packet = announcement(name, [f"10.7.1.{host}"], 1 + number % 60_000, text=bytes(255) * 4)
            senders[host].sendto(packet, (MDNS_IPV4, MDNS_PORT))
