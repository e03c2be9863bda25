"""The firewall lines of the guides, as they stand there: neighbours meet, and reach nothing else of each other."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.edge_fixtures import authority
from tests.support.certificates import TestAuthority
from tests.support.edge_device import EdgeDevice
from tests.support.namespaces import Namespace, namespace, why_no_namespaces
from tests.support.processes import wait_until

__all__ = ["authority"]

REASON = why_no_namespaces() or (None if shutil.which("nft") else "nft is not installed (package nftables)")
pytestmark = [pytest.mark.root, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

GUIDES = Path(__file__).parents[2] / "docs"
# What any firewall has before the mesh's lines are added; without the first two, nothing on the machine itself works.
USUAL = [
    "nft add table inet filter",
    'nft add chain inet filter input "{ type filter hook input priority 0; policy drop; }"',
    "nft add rule inet filter input iif lo accept",
    "nft add rule inet filter input ct state established,related accept",
    "nft add rule inet filter input icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
]
OTHER_PORT = 9_999


def lines_of(guide: str) -> list[str]:
    """The nft lines of a guide, as root types them."""
    return re.findall(r"^    sudo (nft .*)$", (GUIDES / guide).read_text(), re.MULTILINE)


def reaches(source: Namespace, target: Namespace, address: str, port: int) -> bool:
    """Whether somebody at the source gets a connection to a port on which the target listens."""
    server = target.make(lambda: socket.create_server((address, port), reuse_port=True))
    with server:
        accepting = threading.Thread(target=_accept_one, args=(server,))
        accepting.start()
        try:
            source.make(lambda: socket.create_connection((address, port), timeout=3).close())
        except TimeoutError:
            return False
        finally:
            # Whatever became of the connection, the thread ends with one of the target's own.
            target.make(lambda: socket.create_connection((address, port)).close())
            accepting.join()
    return True


def _accept_one(server: socket.socket) -> None:
    connection, _ = server.accept()
    connection.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.mark.parametrize(("guide", "interface"), [("installation.md", "wlan0"), ("usb-cable.md", "census0")])
def test_behind_a_firewall_with_the_lines_of_the_guide_neighbours_meet_and_nothing_else_is_reached(
    stack: ExitStack, tmp_path: Path, authority: TestAuthority, guide: str, interface: str
) -> None:
    places = [stack.enter_context(namespace(f"firewall{number}")) for number in (1, 2)]
    places[0].ip("link", "add", interface, "type", "veth", "peer", "name", interface, "netns", places[1].name)
    devices = []
    for number, place in enumerate(places, start=1):
        place.ip("address", "add", f"192.168.77.{number}/24", "dev", interface)
        place.ip("link", "set", interface, "up")
    assert reaches(places[0], places[1], "192.168.77.2", OTHER_PORT), "before there is a firewall"
    for number, place in enumerate(places, start=1):
        for line in [*USUAL, *lines_of(guide)]:
            subprocess.run(place.command("bash", "-c", line), check=True, capture_output=True)
        made = EdgeDevice(tmp_path / f"device{number}", authority, 1, lines={"mesh": ""})
        devices.append(stack.enter_context(made).enrol(f"tablet {number}"))
        devices[-1].start(prefix=place.command())
    wait_until(
        lambda: all(len(device.document("mesh", "peers")) == 1 for device in devices),
        "both have a neighbour",
        evidence=lambda: "\n".join(device.log.read_text()[-2000:] for device in devices),
    )
    assert not reaches(places[0], places[1], "192.168.77.2", OTHER_PORT)
