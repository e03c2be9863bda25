"""How it stands with neighbours: as values, in one line, and as commands write it."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO
from typing import Any

import pytest

from edge_agent.commands.mesh import duration, print_peers, print_standing
from edge_agent.commands.status import carrier_name, mesh_sentence
from edge_agent.journal_sentences import SENTENCES
from edge_agent.mesh.mesh_watch import MeshSituation
from edge_agent.mesh.neighbours import NeighbourState
from edge_agent.mesh.peer_link import Passed
from edge_agent.mesh_document import mesh_document
from operations.sentences import message_of, parse_sentences
from sync_protocol.mesh import Hello
from tests.support.shared_data import PROJECT_FOLDER

NOW = 1_790_000_000_000_000
AWAKE = MeshSituation(True, None, ("wlan0",), ("192.168.4.7 port 8884 on wlan0",), 0, None)
LAPTOP = NeighbourState(b"l" * 16, "192.168.4.1", True, 60.0, Hello(True, 0, 5 * 1024**2), Passed(3, 2, 4096))
TABLET = NeighbourState(b"t" * 16, "fe80::1%wlan0", False, 90.5, Hello(False, 7200, 0), Passed())
NAMED: dict[bytes, dict[str, str | None]] = {
    b"l" * 16: {"name": "laptop 3", "role": "collection_point"},
    b"t" * 16: {"name": None, "role": None},
}


def named(mesh: dict[str, Any]) -> dict[str, Any]:
    """As the status has it, which looks names up in the queue."""
    return {**mesh, "neighbours": [{**one, **NAMED[bytes.fromhex(one["device"])]} for one in mesh["neighbours"]]}


def test_neighbours_are_told_with_what_they_say_and_what_passed() -> None:
    document = mesh_document("always", AWAKE, [LAPTOP, TABLET], now=NOW)
    tablet, laptop = document["neighbours"]
    assert tablet["connected_at"] == NOW - 90_500_000, "who came first stands first"
    assert laptop == {
        "device": (b"l" * 16).hex(),
        "address": "192.168.4.1",
        "dialled": True,
        "connected_at": NOW - 60_000_000,
        "reaches_center": True,
        "last_contact_seconds": 0,
        "room_bytes": 5 * 1024**2,
        "bundles_in": 2,
        "bundles_out": 3,
        "bytes_in": 4096,
    }
    assert (document["awake"], document["asleep_because"]) == (True, None)


@pytest.mark.parametrize(
    ("mesh", "sentence"),
    [
        (mesh_document("off", None, [], now=NOW), "mesh: no neighbour is looked for: it is switched off (mesh.duty)"),
        (
            mesh_document("mains", MeshSituation(False, "the device is on battery", (), (), 0, None), [], now=NOW),
            "mesh: no neighbour is looked for: the device is on battery",
        ),
        (
            mesh_document("always", MeshSituation(True, None, (), (), 0, None), [], now=NOW),
            "mesh: this device is on no local network, where neighbours could be",
        ),
        (mesh_document("always", AWAKE, [], now=NOW), "mesh: no neighbour is connected; looked for on wlan0"),
        (
            named(mesh_document("always", AWAKE, [LAPTOP], now=NOW)),
            "mesh: 1 neighbour connected: laptop 3 (6c6c6c6c…)",
        ),
        (
            named(mesh_document("always", AWAKE, [LAPTOP] * 5, now=NOW)),
            "mesh: 5 neighbours connected: " + ", ".join(["laptop 3 (6c6c6c6c…)"] * 3) + " and 2 more",
        ),
    ],
)
def test_one_sentence_says_how_it_stands(mesh: dict[str, Any], sentence: str) -> None:
    assert mesh_sentence(mesh) == sentence


def peers_of(mesh: dict[str, Any]) -> str:
    written = StringIO()
    print_peers({"mesh": mesh}, written)
    return written.getvalue()


def test_peers_are_a_table_or_the_sentence_that_says_why_there_is_none() -> None:
    written = peers_of(named(mesh_document("always", AWAKE, [LAPTOP, TABLET], now=NOW)))
    tablet, laptop = [line.split("  ") for line in written.splitlines() if "192.168" in line or "fe80" in line]
    assert {"laptop 3 (6c6c6c6c…)", "collection point", "us", "reaches it now", "192.168.4.1"} <= {
        cell.strip() for cell in laptop
    }
    assert {(b"t" * 16).hex(), "it", "heard it 2 h ago", "fe80::1%wlan0"} <= {cell.strip() for cell in tablet}
    assert peers_of(mesh_document("off", None, [], now=NOW)).startswith("mesh: no neighbour is looked for")


def standing_of(document: dict[str, Any]) -> str:
    written = StringIO()
    print_standing(document, written)
    return written.getvalue()


def test_the_standing_shows_refusals_handovers_and_custody() -> None:
    situation = MeshSituation(True, None, ("wlan0",), AWAKE.listening, 4, "192.168.4.9: TLS: no certificate")
    handover = {"carrier": "ab" * 16, "envelopes": 12, "last_at": NOW, "name": "0017", "role": "medium"}
    origin = {"origin": "cd" * 16, "envelopes": 3, "bytes": 9 * 1024, "name": "tablet 2", "role": "tablet"}
    written = standing_of(
        {
            "mesh": mesh_document("always", situation, [], now=NOW),
            "handovers": [handover],
            "custody": {"origins": 5, "envelopes": 7, "bytes": 20_000, "largest": [origin]},
        }
    )
    for piece in (
        "(duty: always)",
        "neighbours are let in at 192.168.4.7 port 8884 on wlan0",
        "4 connections refused since the start; the last: 192.168.4.9: TLS: no certificate",
        "medium 0017",
        "carried for others (5): 7 envelopes",
        "tablet 2 (cdcdcdcd…)",
        "and for 4 devices with less",
    ):
        assert piece in written, written


def test_a_standing_with_nothing_in_it_says_so() -> None:
    empty = {"origins": 0, "envelopes": 0, "bytes": 0, "largest": []}
    written = standing_of({"mesh": mesh_document("always", AWAKE, [], now=NOW), "handovers": [], "custody": empty})
    assert "nothing is carried for other devices" in written
    assert "no own envelope that still waits" in written


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_durations_are_told_in_their_largest_unit(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_a_device_is_told_by_its_name_and_by_what_the_journal_has() -> None:
    assert carrier_name("tablet 2", "cd" * 16, "tablet") == "tablet 2 (cdcdcdcd…)"
    assert carrier_name(None, "cd" * 16) == "cd" * 16


def test_the_journal_tells_of_neighbours_in_sentences() -> None:
    sentences = parse_sentences(SENTENCES)
    device = b"l" * 16
    fields = {"device": device, "address": "192.168.4.1", "dialled": True}
    assert message_of("neighbour_connected", fields, sentences) == (
        f"neighbour {device.hex()} is connected (192.168.4.1) (dialled=yes)"
    )
    fields = {"device": device, "address": "192.168.4.1", "seconds": 61, "reason": "it is silent"}
    assert message_of("neighbour_left", fields, sentences) == (
        f"neighbour {device.hex()} left after 61 seconds: it is silent (address=192.168.4.1)"
    )
    fields = {"address": "192.168.4.9", "reason": "TLS: no certificate", "dialled": False}
    assert message_of("neighbour_refused", fields, sentences).startswith(
        "this device refused whoever is at 192.168.4.9: TLS: no certificate"
    )


def test_every_event_and_sentence_of_the_mesh_is_explained_to_operators() -> None:
    operating = (PROJECT_FOLDER / "docs" / "operating.md").read_text(encoding="utf-8")
    events = [name for name in SENTENCES if name.startswith(("neighbour_", "mesh_"))]
    # What is told at the level "debug" only is for support.
    assert [name for name in events if f"`{name}`" not in operating] == ["neighbour_connection_spare"]
    for beginning in ("no neighbour is connected", "no neighbour is looked for", "this device is on no local network"):
        assert f"mesh: {beginning}" in operating


def test_a_daemon_loads_no_zeroconf_before_its_mesh_runs() -> None:
    program = "import sys, edge_agent.app; sys.exit('zeroconf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
