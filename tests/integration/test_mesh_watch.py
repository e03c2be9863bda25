"""Devices in network namespaces, each with its whole mesh: they meet, exchange, and leave the VPN alone."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_mesh_discovery import hosts, link_local, mdns_on, without_ipv6
from tests.support.device import Authority, Device
from tests.support.mesh_devices import Certificates
from tests.support.namespaces import Capture, Namespace, namespace, why_no_namespaces

WAIT_SECONDS = 40.0
SETTLE_SECONDS = 3.0
PORT = 8884
SECOND = 1_000_000
NOON = 1_790_000_100 * SECOND  # at the beginning of an interval of 15 minutes

REASON = why_no_namespaces()
pytestmark = [pytest.mark.root, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

State = dict[str, Any]


@dataclass
class Watcher:
    """A device's process; what it last told, and all its lines."""

    name: str
    process: subprocess.Popen[str]
    lines: queue.Queue[State] = field(default_factory=queue.Queue)
    logged: list[str] = field(default_factory=list)
    state: State = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)

    def until(self, holds: Callable[[State], bool]) -> State:
        """Wait until a state holds; states on the way are passed over, none is looked at twice."""
        until = time.monotonic() + WAIT_SECONDS
        while not (self.state and holds(self.state)):
            try:
                line = self.lines.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{self.name}: {self.state}; {self.logged[-20:]}") from None
            if line["event"] == "state":
                self.state = line
            elif line["event"] == "submitted":
                self.ids = line["ids"]
        return self.state

    def look(self) -> State:
        """The newest state."""
        with contextlib.suppress(queue.Empty):
            while True:
                line = self.lines.get_nowait()
                if line["event"] == "state":
                    self.state = line
        return self.state

    def submit(self, text: str) -> str:
        """Make a questionnaire; return its envelope's id."""
        before = len(self.ids)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"submit": text}) + "\n")
        self.process.stdin.flush()
        until = time.monotonic() + WAIT_SECONDS
        while len(self.ids) == before:
            line = self.lines.get(timeout=max(0.01, until - time.monotonic()))
            if line["event"] == "state":
                self.state = line
            elif line["event"] == "submitted":
                self.ids = line["ids"]
        return self.ids[-1]

    def until_connected(self, *others: Watcher) -> State:
        names = sorted(device_id(other.name) for other in others)
        return self.until(lambda state: state["neighbours"] == names)

    def until_holds(self, *ids: str) -> State:
        return self.until(lambda state: set(ids) <= set(state["holds"]))


def device_id(name: str) -> str:
    return Device(Path("/nonexistent"), Authority(), name=name).id.hex()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    folder = tmp_path / "tls"
    folder.mkdir()
    made = Certificates(folder)
    for name in ("a", "b"):
        made.device(device_id(name))
    return made


@contextlib.contextmanager
def watching(place: Namespace, folder: Path, name: str, *words: str) -> Iterator[Watcher]:
    """A device in a namespace, without any capability, as the daemon runs."""
    (folder / name).mkdir(exist_ok=True)
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "tests.support.mesh_watching"]
    command += ["--folder", str(folder / name), "--name", name, "--certificates", str(folder / "tls"), *words]
    process = subprocess.Popen(
        place.command(*command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    made = Watcher(name, process)

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith('{"event"'):
                made.lines.put(json.loads(line))
            else:
                made.logged.append(line.rstrip())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert made.lines.get(timeout=WAIT_SECONDS)["event"] == "started", made.logged
        yield made
    finally:
        process.terminate()
        code = process.wait(WAIT_SECONDS)
        reader.join()
        assert process.stdin is not None
        process.stdin.close()
    assert code == 0, made.logged
    assert not [line for line in made.logged if "Traceback" in line or "exception" in line.lower()], made.logged


def tcp_on(place: Namespace, interface: str) -> Capture:
    """Whatever names the mesh's port, its service or a device."""
    return Capture(place, interface, (PORT.to_bytes(2), b"_census-sync"))


def test_two_devices_behind_one_bridge_find_each_other_and_exchange(tmp_path: Path, certificates: Certificates) -> None:
    with hosts(2) as (_, (one, two)):
        for number, place in enumerate((one, two), start=1):
            place.ip("address", "add", f"192.0.2.{number}/24", "dev", "eth0")
        local = link_local(one, "eth0")
        with watching(one, tmp_path, "a") as a, watching(two, tmp_path, "b", "--reaches-center") as b:
            a.until_connected(b)
            b.until_connected(a)
            b.until_holds(a.submit("1"))
            expected = sorted([f"192.0.2.1 port {PORT} on eth0", f"{local} port {PORT} on eth0"])
            assert a.look()["listening"] == expected
            assert a.look()["interfaces"] == ["eth0"]
            assert a.look()["awake"]


def test_link_local_ipv6_is_enough(tmp_path: Path, certificates: Certificates) -> None:
    with hosts(2) as (_, (one, two)):
        for place in (one, two):
            link_local(place, "eth0")
        with watching(one, tmp_path, "a") as a, watching(two, tmp_path, "b", "--reaches-center") as b:
            assert a.until_connected(b)["addresses"][0].endswith("%eth0")
            b.until_holds(a.submit("1"))


def test_an_interface_that_comes_later_is_used_and_one_that_goes_ends_its_links_only(
    tmp_path: Path, certificates: Certificates
) -> None:
    with (
        namespace("tablet") as one,
        namespace("laptop") as two,
        watching(one, tmp_path, "a") as a,
        watching(two, tmp_path, "b", "--reaches-center") as b,
    ):
        a.until(lambda state: state["awake"] and state["interfaces"] == [])
        for _ in range(2):
            one.ip("link", "add", "usb0", "type", "veth", "peer", "name", "usb0", "netns", two.name)
            for place, host in ((one, 1), (two, 2)):
                place.ip("address", "add", f"198.51.100.{host}/24", "dev", "usb0")
                place.ip("link", "set", "usb0", "up")
            a.until_connected(b)
            b.until_holds(a.submit(f"{len(a.ids)}"))
            one.ip("link", "delete", "usb0")
            a.until(lambda state: state["neighbours"] == [] and state["listening"] == [])
            b.until(lambda state: state["neighbours"] == [] and state["listening"] == [])


@dataclass
class Tunnelled:
    """A tablet with a VPN (wg0) beside its network; the VPN's far end answers to the peer's address as well."""

    tablet: Namespace
    peer: Namespace
    far: Namespace


@contextlib.contextmanager
def tunnelled() -> Iterator[Tunnelled]:
    with hosts(2) as (_, (one, two)), namespace("far") as far:
        for number, place in enumerate((one, two), start=1):
            without_ipv6(place)
            place.ip("address", "add", f"192.0.2.{number}/24", "dev", "eth0")
        far.ip("address", "add", "192.0.2.2/32", "dev", "lo")
        one.ip("link", "add", "wg0", "type", "veth", "peer", "name", "far0", "netns", far.name)
        for place, name, host in ((one, "wg0", 2), (far, "far0", 1)):
            place.ip("address", "add", f"10.9.0.{host}/24", "dev", name)
            place.ip("link", "set", name, "up")
        one.ip("route", "add", "default", "via", "10.9.0.1", "dev", "wg0")
        far.ip("route", "add", "192.0.2.1/32", "via", "10.9.0.2", "dev", "far0")
        yield Tunnelled(one, two, far)


def test_not_a_packet_of_the_mesh_leaves_by_the_vpn_and_nobody_comes_in_by_it(
    tmp_path: Path, certificates: Certificates
) -> None:
    with tunnelled() as at:
        peers = ("--peer", f"192.0.2.2/{PORT}", "--peer", f"203.0.113.9/{PORT}", "--peer", f"10.9.0.1/{PORT}")
        with (
            tcp_on(at.tablet, "wg0") as leaving,
            mdns_on(at.tablet, "wg0") as asked,
            watching(at.tablet, tmp_path, "a", *peers) as a,
            watching(at.peer, tmp_path, "b", "--reaches-center") as b,
        ):
            a.until_connected(b)
            b.until_holds(a.submit("1"))
            time.sleep(SETTLE_SECONDS)
            assert not leaving.frames
            assert not asked.frames
            assert a.look()["listening"] == [f"192.0.2.1 port {PORT} on eth0"]
            for address in ("192.0.2.1", "10.9.0.2"):  # by the VPN, to either of the tablet's addresses
                with pytest.raises(OSError), at.far.make(socket.socket) as dialling:
                    dialling.settimeout(SETTLE_SECONDS)
                    dialling.connect((address, PORT))
            assert a.look()["refused"] == 0, a.look()["last"]


def test_a_configured_peer_that_the_vpn_has_taken_is_not_dialled_until_the_route_comes_back(
    tmp_path: Path, certificates: Certificates
) -> None:
    with tunnelled() as at:
        at.tablet.ip("route", "add", "192.0.2.2/32", "via", "10.9.0.1", "dev", "wg0")
        with tcp_on(at.tablet, "wg0") as leaving:
            words = ("--no-discovery", "--peer", f"192.0.2.2/{PORT}")
            with (
                watching(at.peer, tmp_path, "b", "--no-discovery"),
                watching(at.tablet, tmp_path, "a", *words) as a,
            ):
                a.until(lambda state: state["listening"] != [])
                time.sleep(SETTLE_SECONDS)
                assert a.look()["neighbours"] == []
                at.tablet.ip("link", "set", "wg0", "down")
                # The kernel tells of interfaces that the mesh uses; this one is noticed by another.
                at.tablet.ip("address", "add", "192.0.2.9/24", "dev", "eth0")
                a.until(lambda state: len(state["neighbours"]) == 1)
                at.tablet.ip("link", "set", "wg0", "up")
                at.tablet.ip("route", "add", "192.0.2.2/32", "via", "10.9.0.1", "dev", "wg0")
                b_holds = a.submit("1")
                assert b_holds
                time.sleep(SETTLE_SECONDS)  # the link goes on by eth0, whatever the routes say
                assert len(a.look()["neighbours"]) == 1
            # When they part, too: what is left of the connection stays bound.
            assert not leaving.frames


def test_a_configured_peer_behind_a_router_is_dialled_by_the_interface_that_leads_there(
    tmp_path: Path, certificates: Certificates
) -> None:
    with hosts(2) as (_, (one, router)), namespace("office") as two:
        router.ip("link", "add", "inside", "type", "veth", "peer", "name", "eth0", "netns", two.name)
        for place, name, address in (
            (one, "eth0", "192.0.2.1/24"),
            (router, "eth0", "192.0.2.254/24"),
            (router, "inside", "198.51.100.254/24"),
            (two, "eth0", "198.51.100.2/24"),
        ):
            place.ip("address", "add", address, "dev", name)
            place.ip("link", "set", name, "up")
        subprocess.run(router.command("sysctl", "-qw", "net.ipv4.ip_forward=1"), check=True, capture_output=True)
        one.ip("route", "add", "198.51.100.0/24", "via", "192.0.2.254")
        two.ip("route", "add", "default", "via", "198.51.100.254")
        with (
            watching(two, tmp_path, "b", "--reaches-center") as b,
            watching(one, tmp_path, "a", "--peer", f"198.51.100.2/{PORT}") as a,
        ):
            assert a.until_connected(b)["addresses"] == ["198.51.100.2"]
            b.until_holds(a.submit("1"))


def test_a_port_that_is_taken_is_told_once_and_the_device_dials_all_the_same(
    tmp_path: Path, certificates: Certificates
) -> None:
    with hosts(2) as (_, (one, two)):
        for number, place in enumerate((one, two), start=1):
            place.ip("address", "add", f"192.0.2.{number}/24", "dev", "eth0")
            link_local(place, "eth0")
        with (
            one.make(lambda: socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)),
            watching(one, tmp_path, "a") as a,
            watching(two, tmp_path, "b") as b,
        ):
            a.until_connected(b)
            assert a.look()["listening"] == []
        assert len([line for line in a.logged if "another program has taken the port" in line]) == 1, a.logged


def test_on_battery_the_mesh_sleeps_and_wakes_when_its_interval_begins(
    tmp_path: Path, certificates: Certificates
) -> None:
    battery = tmp_path / "power" / "battery"
    battery.mkdir(parents=True)
    (battery / "type").write_text("Battery\n")
    (battery / "status").write_text("Discharging\n")
    words = ("--duty", "interval", "--power", str(battery.parent), "--clock", str(NOON - 6 * SECOND))
    with hosts(2) as (_, (one, two)), mdns_on(one, "eth0") as heard:
        for number, place in enumerate((one, two), start=1):
            without_ipv6(place)
            place.ip("address", "add", f"192.0.2.{number}/24", "dev", "eth0")
        with watching(one, tmp_path, "a", *words) as a, watching(two, tmp_path, "b", *words) as b:
            asleep = a.until(lambda state: str(state["because"]).startswith("the next look"))
            assert (asleep["awake"], asleep["interfaces"], asleep["listening"]) == (False, [], [])
            assert not heard.frames
            a.until_connected(b)
            assert a.look()["awake"]


def test_at_the_end_of_its_interval_the_mesh_ends_quiet_links_and_sleeps(
    tmp_path: Path, certificates: Certificates
) -> None:
    battery = tmp_path / "power" / "battery"
    battery.mkdir(parents=True)
    (battery / "type").write_text("Battery\n")
    (battery / "status").write_text("Discharging\n")
    words = ("--duty", "interval", "--power", str(battery.parent), "--clock", str(NOON + 80 * SECOND))
    with hosts(2) as (_, (one, two)):
        for number, place in enumerate((one, two), start=1):
            without_ipv6(place)
            place.ip("address", "add", f"192.0.2.{number}/24", "dev", "eth0")
        with watching(one, tmp_path, "a", *words) as a, watching(two, tmp_path, "b") as b:
            a.until_connected(b)
            retiring = a.until(lambda state: state["listening"] == [])
            assert retiring["awake"]
            assert retiring["neighbours"] == [device_id("b")]
            asleep = a.until(lambda state: not state["awake"])
            assert asleep["because"].startswith("the next look")
            assert a.until(lambda state: state["neighbours"] == [])
            b.until(lambda state: state["neighbours"] == [])


def test_on_battery_a_mesh_for_mains_only_is_asleep(tmp_path: Path, certificates: Certificates) -> None:
    battery = tmp_path / "power" / "battery"
    battery.mkdir(parents=True)
    (battery / "type").write_text("Battery\n")
    (battery / "status").write_text("Discharging\n")
    words = ("--duty", "mains", "--power", str(battery.parent))
    with hosts(1) as (_, (one,)), watching(one, tmp_path, "a", *words) as a:
        state = a.until(lambda state: state["because"] == "the device is on battery")
        assert (state["awake"], state["interfaces"]) == (False, [])
