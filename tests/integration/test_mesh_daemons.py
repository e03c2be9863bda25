"""Two daemons on one network, each in a namespace of its own: they find each other, and their commands show it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.integration.edge_fixtures import authority
from tests.support.certificates import TestAuthority
from tests.support.edge_device import EdgeDevice
from tests.support.mosquitto import Mosquitto, why_no_mosquitto
from tests.support.namespaces import Namespace, namespace, why_no_namespaces
from tests.support.processes import wait_until

__all__ = ["authority"]

REASON = why_no_namespaces()
pytestmark = [pytest.mark.root, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@dataclass
class Host:
    """A device in a namespace, with one interface to the other's."""

    place: Namespace
    device: EdgeDevice

    def start(self) -> None:
        self.device.start(prefix=self.place.command())

    def doctor(self) -> list[tuple[str, str]]:
        """(verdict, found) of the mesh; as the daemon sees the network, so inside."""
        findings = json.loads(self._inside("doctor", "--json"))["findings"]
        return [(one["verdict"], one["found"]) for one in findings if one["check"] == "mesh"]

    def _inside(self, *words: str) -> str:
        command = [sys.executable, "-m", "edge_agent", "--configuration", str(self.device.configuration), *words]
        return subprocess.run(self.place.command(*command), capture_output=True, text=True, check=False).stdout

    def peers(self) -> list[dict[str, Any]]:
        peers: list[dict[str, Any]] = self.device.document("mesh", "peers")
        return peers

    def mesh(self) -> dict[str, Any]:
        mesh: dict[str, Any] = self.device.document("mesh", "status")["mesh"]
        return mesh


def pair(
    stack: ExitStack, folder: Path, authority: TestAuthority, mesh: tuple[str, str], broker_port: int = 1
) -> tuple[Host, Host]:
    hosts = []
    for number, lines in enumerate(mesh, start=1):
        place = stack.enter_context(namespace(f"daemon{number}"))
        made = EdgeDevice(folder / f"device{number}", authority, broker_port, lines={"mesh": lines})
        device = stack.enter_context(made).enrol(f"tablet {number}")
        hosts.append(Host(place, device))
    one, other = hosts
    one.place.ip("link", "add", "near0", "type", "veth", "peer", "name", "near0", "netns", other.place.name)
    for number, host in enumerate(hosts, start=1):
        host.place.ip("address", "add", f"192.168.77.{number}/24", "dev", "near0")
        host.place.ip("link", "set", "near0", "up")
    return one, other


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def test_two_daemons_find_each_other_and_say_so_until_one_is_gone(
    stack: ExitStack, tmp_path: Path, authority: TestAuthority
) -> None:
    one, other = pair(stack, tmp_path, authority, ("", ""))
    assert ("ok", "port 8884 is free for neighbours") in one.doctor()
    one.start()
    other.start()
    wait_until(lambda: len(one.peers()) == len(other.peers()) == 1, "both have a neighbour", evidence=_logs(one, other))
    (seen,), (back,) = one.peers(), other.peers()
    assert (seen["device"], back["device"]) == (other.device.name.hex(), one.device.name.hex())
    assert seen["dialled"] is not back["dialled"]
    assert (seen["reaches_center"], seen["last_contact_seconds"]) == (False, None)
    wait_until(lambda: one.peers()[0]["room_bytes"] > 0, "it has heard of the other's room")
    assert one.mesh()["interfaces"] == ["near0"]
    assert any("port 8884" in place for place in one.mesh()["listening"])
    assert "1 neighbour connected" in one.device.succeed("status")
    assert [verdict for verdict, _ in one.doctor()] == ["ok"] * 3
    assert "zeroconf" in Path(f"/proc/{one.device.process.pid}/maps").read_text()
    other.device.process.terminate()
    wait_until(lambda: one.peers() == [], "the neighbour has left")
    (left,) = one.device.wait_for_event("neighbour_left")
    assert other.device.name.hex() in left


def test_what_one_hands_over_the_other_carries_and_both_show_it(
    stack: ExitStack, tmp_path: Path, authority: TestAuthority
) -> None:
    peers = 'discovery = false\nstatic_peers = ["192.168.77.2"]'
    one, other = pair(stack, tmp_path, authority, (peers, "discovery = false"))
    one.start()
    other.start()
    one.device.submit('{"persons":1}', '{"persons":2}')
    wait_until(
        lambda: other.device.counts()["carried_for_others"] == 2, "the other carries both", evidence=_logs(one, other)
    )
    wait_until(lambda: one.device.document("mesh", "status")["handovers"] != [], "the handover is recorded")
    (handover,) = one.device.document("mesh", "status")["handovers"]
    assert (handover["carrier"], handover["envelopes"]) == (other.device.name.hex(), 2)
    assert abs(handover["last_at"] - time.time_ns() // 1_000) < 300_000_000
    (held,) = other.device.document("mesh", "status")["custody"]["largest"]
    assert (held["origin"], held["envelopes"], held["name"]) == (one.device.name.hex(), 2, "tablet 1")
    assert "handed over to" in one.device.succeed("status")
    assert "tablet 1" in other.device.succeed("mesh", "status")
    assert "zeroconf" not in Path(f"/proc/{one.device.process.pid}/maps").read_text()


def test_neighbours_hear_that_the_room_of_a_device_has_become_less(
    stack: ExitStack, tmp_path: Path, authority: TestAuthority
) -> None:
    peers = 'discovery = false\nstatic_peers = ["192.168.77.2"]'
    small = "discovery = false\nforeign_megabytes_max = 16"
    one, other = pair(stack, tmp_path, authority, (peers, small))
    one.start()
    other.start()
    wait_until(
        lambda: [peer["room_bytes"] for peer in one.peers()] == [16 * 1024 * 1024],
        "it has heard of the room",
        evidence=_logs(one, other),
    )
    noise = Random(7)
    one.device.submit(*(f'{{"notes":"{b64encode(noise.randbytes(130_000)).decode()}"}}' for _ in range(36)))
    wait_until(lambda: other.device.counts()["carried_for_others"] == 36, "it carries them", evidence=_logs(one, other))
    wait_until(
        lambda: one.peers()[0]["room_bytes"] < 12 * 1024 * 1024, "it has heard of less", evidence=_logs(one, other)
    )


@pytest.mark.skipif(why_no_mosquitto() is not None, reason=str(why_no_mosquitto()))
def test_neighbours_hear_at_once_that_the_way_to_the_center_comes_and_goes(
    stack: ExitStack, tmp_path: Path, authority: TestAuthority
) -> None:
    one, other = pair(stack, tmp_path, authority, ("", ""), broker_port=8883)
    one.start()
    other.start()
    wait_until(lambda: len(one.peers()) == 1, "they are connected", evidence=_logs(one, other))
    assert one.peers()[0]["reaches_center"] is False
    server = authority.issue("broker", address="127.0.0.1")
    broker = Mosquitto(tmp_path / "broker", tls=server, port=8883, command_prefix=other.place.command())
    stack.enter_context(broker)
    reached = {"reaches_center": True, "last_contact_seconds": 0}
    wait_until(lambda: reached.items() <= one.peers()[0].items(), "the way came", evidence=_logs(one, other))
    broker.stop()
    wait_until(lambda: one.peers()[0]["reaches_center"] is False, "the way went", evidence=_logs(one, other))
    assert one.peers()[0]["last_contact_seconds"] is not None
    assert len(one.device.logged("neighbour_connected")) == 1, "it was told on the same connection"


def _logs(*hosts: Host) -> Any:
    return lambda: "\n".join(host.device.log.read_text()[-2000:] for host in hosts)
