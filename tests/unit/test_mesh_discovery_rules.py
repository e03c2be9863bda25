"""What discovery believes of strangers: packets, addresses, the measure, and what it remembers, with fakes."""

import ipaddress
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.mesh.interfaces import MeshInterface
from edge_agent.mesh.mdns_answers import TTL_SECONDS, Announcement, Goodbye, draw_name, read_answer
from edge_agent.mesh.mdns_gate import ALL_PACKETS_BURST, REFUSED_MAX, SOURCE_PACKETS_BURST, SOURCES_MAX, Gate
from edge_agent.mesh.near_addresses import is_on_link, may_be_met
from edge_agent.mesh.neighbourhood import NEIGHBOURS_MAX, NEIGHBOURS_PER_SOURCE_MAX, Change, Neighbourhood
from edge_agent.mesh.oddity import Oddity
from edge_agent.netlink import IpAddress, NetlinkError, Route
from tests.support.announcements import TYPE, announcement, question

NAME, OTHER = "abcdefgh23456723", "zzzzzzzz77777777"
OWN, NEAR = "192.0.2.1", "192.0.2.9"


def ip(text: str) -> IpAddress:
    return ipaddress.ip_address(text)


PLACE = MeshInterface(
    "wlan0", 3, tuple(ipaddress.ip_interface(one) for one in (f"{OWN}/24", "fe80::1/64", "2001:db8::1/64"))
)


def test_importing_discovery_loads_no_multicast_dns() -> None:
    code = "import sys, edge_agent.mesh.discovery, edge_agent.mesh.interfaces; sys.exit('zeroconf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_announcement_says_where_a_neighbour_is() -> None:
    said = read_answer(announcement(NAME.upper(), [NEAR, "fe80::9"], 7001, ttl_seconds=100_000))
    assert said == Announcement(NAME, 7001, (ip(NEAR), ip("fe80::9")), TTL_SECONDS)


def test_a_time_to_live_of_zero_is_a_goodbye() -> None:
    assert read_answer(announcement(NAME, [NEAR], ttl_seconds=0)) == Goodbye(NAME)


@pytest.mark.parametrize(
    "packet",
    [
        announcement("Tablet of Aigerim", [NEAR]),
        announcement("a" * 63, [NEAR]),
        announcement(NAME, [NEAR], 0),
        announcement(NAME, []),
        announcement(NAME, [NEAR], with_service=False),
        announcement(NAME, [f"192.0.2.{host}" for host in range(1, 30)]),
        announcement(NAME, [NEAR], also=[OTHER]),
        announcement(NAME, [NEAR]).replace(b"_census-sync", b"_census-sunk"),
        question(),
    ],
    ids=["name", "long", "port", "addresses", "nowhere", "everywhere", "two", "type", "question"],
)
def test_what_no_device_of_ours_announces_is_refused(packet: bytes) -> None:
    assert read_answer(packet) is Oddity.UNFIT


def test_a_packet_larger_than_ours_is_refused_before_it_is_read() -> None:
    assert read_answer(announcement(NAME, [NEAR]) + bytes(1500)) is Oddity.TOO_LARGE


@given(st.binary(max_size=400))
def test_garbage_is_never_more_than_odd(data: bytes) -> None:
    assert isinstance(read_answer(data), Oddity)


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_flipped_byte_never_raises(place: int, value: int) -> None:
    packet = bytearray(announcement(NAME, [NEAR, "fe80::9"]))
    packet[place % len(packet)] = value
    assert isinstance(read_answer(bytes(packet)), Announcement | Goodbye | Oddity)


def test_a_drawn_name_is_one_that_is_accepted_and_depends_on_nothing_but_the_draw() -> None:
    assert draw_name(lambda count: b"\xa5" * count) == "uws2ljnfuws2ljnf"
    drawn = draw_name(lambda count: bytes(range(count)))
    assert isinstance(read_answer(announcement(drawn, [NEAR])), Announcement)


@pytest.mark.parametrize("address", [NEAR, "fe80::9", "2001:db8::9"])
def test_addresses_of_the_interfaces_own_networks_are_near(address: str) -> None:
    assert is_on_link(ip(address), PLACE)


@pytest.mark.parametrize(
    "address",
    (
        f"{OWN} 192.0.2.0 192.0.2.255 192.0.3.9 127.0.0.1 0.0.0.0 224.0.0.251 255.255.255.255 169.254.1.1 "
        "fe80::1 ::1 :: ff02::fb 2001:db8:1::9 2001:db8:: ::ffff:192.0.2.9"
    ).split(),
)
def test_all_other_addresses_are_not(address: str) -> None:
    assert not is_on_link(ip(address), PLACE)


def test_a_network_of_everything_makes_nobody_a_neighbour() -> None:
    everything = MeshInterface("eth0", 2, (ipaddress.ip_interface("192.0.2.1/0"),))
    assert not is_on_link(ip("198.51.100.7"), everything)


@pytest.mark.parametrize(
    ("route", "expected"),
    [(Route(3, None), True), (Route(4, None), False), (Route(3, None, by_gateway=True), False), (None, False)],
    ids=["here", "by the VPN", "by a router", "nowhere"],
)
def test_an_address_is_met_only_where_the_kernel_reaches_it_directly(route: Route | None, expected: bool) -> None:
    assert may_be_met(ip(NEAR), PLACE, ask_route=lambda _: route) is expected


def test_when_the_kernel_does_not_say_the_address_is_not_met() -> None:
    def silent(_: IpAddress) -> Route | None:
        raise NetlinkError("silence")

    assert not may_be_met(ip(NEAR), PLACE, ask_route=silent)


def hood(own: tuple[str, ...] = ()) -> Neighbourhood:
    return Neighbourhood(own.__contains__, lambda address: is_on_link(address, PLACE))


def said(name: str, *addresses: str, port: int = 7000) -> Announcement:
    return Announcement(name, port, tuple(ip(one) for one in addresses), TTL_SECONDS)


def test_a_neighbour_is_told_once_and_again_only_under_a_new_name_or_at_a_new_place() -> None:
    near = hood()
    place = (ip(NEAR), 7000)
    assert near.heard(said(NAME, NEAR), ip(NEAR), 0.0) == Change(found=(place,))
    assert near.heard(said(NAME, NEAR), ip(NEAR), 1.0) == Change()
    assert near.heard(said(NAME, NEAR, "fe80::9"), ip(NEAR), 2.0) == Change(found=((ip("fe80::9"), 7000),))
    assert near.heard(said(OTHER, NEAR), ip(NEAR), 3.0) == Change(found=(place,))
    assert near.heard(Goodbye(NAME), ip(NEAR), 4.0) == Change(lost=((ip("fe80::9"), 7000),))
    assert near.heard(Goodbye(OTHER), ip("192.0.2.77"), 5.0) == Change()  # said by another
    assert near.heard(Goodbye(OTHER), ip(NEAR), 6.0) == Change(lost=(place,))


def test_one_that_falls_silent_is_forgotten_in_time_and_one_that_is_heard_again_is_not() -> None:
    near = hood()
    near.heard(said(NAME, NEAR), ip(NEAR), 0.0)
    assert near.fresh(TTL_SECONDS / 2 - 1) == [(NAME, TTL_SECONDS // 2 + 1)]
    assert near.fresh(TTL_SECONDS / 2) == []
    near.heard(said(NAME, NEAR), ip(NEAR), 100.0)
    assert near.expire(TTL_SECONDS + 99.0) == Change()
    assert near.expire(TTL_SECONDS + 100.0) == Change(lost=((ip(NEAR), 7000),))


def test_this_device_is_never_its_own_neighbour() -> None:
    assert hood(own=(NAME,)).heard(said(NAME, NEAR), ip(NEAR), 0.0) == Change()
    assert hood().heard(said(NAME, OWN), ip(NEAR), 0.0) == Change(oddity=Oddity.UNREACHABLE_ADDRESS)


def test_addresses_elsewhere_are_passed_over_and_odd_when_there_are_no_others() -> None:
    near = hood()
    assert near.heard(said(NAME, NEAR, "198.51.100.7"), ip(NEAR), 0.0) == Change(found=((ip(NEAR), 7000),))
    assert near.heard(said(OTHER, "198.51.100.7"), ip(NEAR), 0.0) == Change(oddity=Oddity.UNREACHABLE_ADDRESS)


def drawn(number: int) -> str:
    return draw_name(lambda count: number.to_bytes(count, "big"))


def test_thousands_of_names_are_bounded_for_each_sender_and_in_all() -> None:
    near = hood()
    odd = [near.heard(said(drawn(number), NEAR), ip(NEAR), 0.0).oddity for number in range(1000)]
    assert len(near) == NEIGHBOURS_PER_SOURCE_MAX
    assert odd.count(Oddity.TOO_MANY_NEIGHBOURS) == 1000 - NEIGHBOURS_PER_SOURCE_MAX
    for number in range(2000, 4000):
        address = f"2001:db8::{number:x}"
        near.heard(said(drawn(number), address), ip(address), 0.0)
    assert len(near) == NEIGHBOURS_MAX
    near.expire(TTL_SECONDS + 1.0)
    assert len(near) == 0


class Entrance:
    """A gate with what came through it."""

    def __init__(self) -> None:
        self.heard: list[tuple[Announcement | Goodbye, IpAddress]] = []
        self.odd: list[Oddity] = []
        self.gate = Gate(
            PLACE, (OTHER,).__contains__, lambda said, source: self.heard.append((said, source)), self.odd.append, 0.0
        )


def test_questions_of_neighbours_go_to_the_responder_and_their_answers_never_do() -> None:
    entrance = Entrance()
    assert entrance.gate.admit(question(), NEAR, 5353, 0.0)
    assert entrance.gate.admit(question(), f"::ffff:{NEAR}", 5353, 0.0)
    assert entrance.gate.admit(question(), "fe80::9%wlan0", 5353, 0.0)
    assert not entrance.gate.admit(announcement(NAME, [NEAR]), f"::ffff:{NEAR}", 5353, 0.0)
    assert [source for _, source in entrance.heard] == [ip(NEAR)]
    assert entrance.odd == []


@pytest.mark.parametrize("host", ["198.51.100.7", "192.0.3.9", "2001:db8:1::9", "not an address"])
def test_nobody_outside_the_local_network_is_answered_or_believed(host: str) -> None:
    entrance = Entrance()
    assert not entrance.gate.admit(question(), host, 5353, 0.0)
    assert not entrance.gate.admit(announcement(NAME, [NEAR]), host, 5353, 0.0)
    assert entrance.heard == []
    assert set(entrance.odd) == {Oddity.OFF_LINK}


def test_a_question_from_another_port_or_about_other_services_is_not_passed_on() -> None:
    entrance = Entrance()
    assert not entrance.gate.admit(question(), NEAR, 40000, 0.0)
    assert not entrance.gate.admit(question("_ipp._tcp.local."), NEAR, 5353, 0.0)
    assert not entrance.gate.admit(question("_services._dns-sd._udp.local."), NEAR, 5353, 0.0)
    assert entrance.gate.admit(question(TYPE.upper()), NEAR, 5353, 0.0)


def test_an_announcement_that_names_only_a_third_party_is_refused() -> None:
    entrance = Entrance()
    entrance.gate.admit(announcement(NAME, ["192.0.2.77"]), NEAR, 5353, 0.0)
    assert (entrance.heard, entrance.odd) == ([], [Oddity.UNFIT])


def test_the_responder_sees_its_own_announcement_but_not_its_own_question_nor_a_forgery() -> None:
    gate = Entrance().gate
    assert gate.admit(announcement(OTHER, [OWN]), OWN, 5353, 0.0)
    assert not gate.admit(question(), OWN, 5353, 0.0)
    assert not gate.admit(announcement(OTHER, [NEAR]), NEAR, 5353, 0.0)
    assert not gate.admit(announcement(OTHER, [OWN, NEAR]), OWN, 5353, 0.0)


def test_one_sender_has_a_measure_and_leaves_the_others_theirs() -> None:
    entrance = Entrance()
    admitted = [entrance.gate.admit(question(), NEAR, 5353, 0.0) for _ in range(100)]
    assert admitted.count(True) == SOURCE_PACKETS_BURST
    assert entrance.gate.admit(question(), "192.0.2.10", 5353, 0.0)
    assert entrance.gate.admit(question(), NEAR, 5353, 1.0)
    assert set(entrance.odd) == {Oddity.TOO_MUCH_TRAFFIC}


def test_all_senders_together_have_a_measure_and_beyond_it_the_shutter_closes() -> None:
    entrance = Entrance()
    sources = [f"2001:db8::{number:x}" for number in range(2, SOURCES_MAX * 4)]
    admitted = [entrance.gate.admit(question(), source, 5353, 0.0) for source in sources]
    assert admitted.count(True) == ALL_PACKETS_BURST
    assert len(entrance.gate._sources) <= SOURCES_MAX
    assert len(sources) - ALL_PACKETS_BURST > REFUSED_MAX
    assert entrance.gate.must_close()
    assert not entrance.gate.must_close()


def test_who_claims_a_neighbours_name_neither_displaces_nor_silences_it() -> None:
    near = hood()
    near.heard(said(NAME, NEAR), ip(NEAR), 0.0)
    assert near.heard(said(NAME, "192.0.2.66"), ip("192.0.2.66"), 1.0) == Change(found=((ip("192.0.2.66"), 7000),))
    assert near.heard(Goodbye(NAME), ip("192.0.2.66"), 2.0) == Change(lost=((ip("192.0.2.66"), 7000),))
    assert near.heard(Goodbye(NAME), ip("192.0.2.67"), 2.0) == Change()
    near.heard(said(NAME, "192.0.2.66"), ip("192.0.2.66"), 3.0)
    assert near.fresh(3.0) == []  # so that both are asked
    assert near.heard(Goodbye(NAME), ip(NEAR), 4.0) == Change(lost=((ip(NEAR), 7000),))


def test_a_neighbour_that_moves_is_followed_when_it_speaks_from_where_it_was() -> None:
    near = hood()
    near.heard(said(NAME, NEAR, "2001:db8::9"), ip(NEAR), 0.0)
    moved = near.heard(said(NAME, "192.0.2.10", "2001:db8::9"), ip("2001:db8::9"), 1.0)
    assert moved == Change(found=((ip("192.0.2.10"), 7000),), lost=((ip(NEAR), 7000),))


def test_who_sends_under_this_devices_address_has_a_measure_too() -> None:
    entrance = Entrance()
    for _ in range(REFUSED_MAX + SOURCE_PACKETS_BURST):
        entrance.gate.admit(announcement(NAME, [OWN]), OWN, 5353, 0.0)
    assert entrance.gate.must_close()


def test_what_this_device_sends_is_not_kept_out_by_a_flood_of_others() -> None:
    entrance = Entrance()
    for number in range(2, ALL_PACKETS_BURST * 2):
        entrance.gate.admit(question(), f"2001:db8::{number:x}", 5353, 0.0)
    assert entrance.gate.admit(announcement(OTHER, [OWN]), OWN, 5353, 0.0)
