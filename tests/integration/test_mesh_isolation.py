"""A relaying tablet learns nothing of what it carries, and a revoked device is nobody's neighbour any more."""

from __future__ import annotations

import json
import re
import secrets
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from demo.processes import wait_until
from tests.support.account import envelopes_at_center, stored
from tests.support.mesh_census import MeshCensus, MeshDevice, mesh_census, why_no_mesh_census
from tests.support.mesh_ground import Cable
from tests.support.namespaces import Capture

MARKS: Final = 3
"""How often the answer stands in the questionnaire: compressed or not, it would be seen."""

REASON = why_no_mesh_census()
pytestmark = [pytest.mark.root, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


def forms_of(text: str) -> list[bytes]:
    """A text as it might stand somewhere: as it is, without its hyphens, as UTF-16, as the bytes that it writes."""
    plain = text.encode()
    digits = text.replace("-", "")
    as_bytes = [bytes.fromhex(digits)] if re.fullmatch("([0-9a-f]{2})+", digits) else []
    return [plain, digits.encode(), text.upper().encode(), text.encode("utf-16-le"), *as_bytes]


def found_in(content: Iterable[bytes], sought: Iterable[bytes]) -> set[bytes]:
    """Those of the sought that stand anywhere."""
    left = set(sought)
    found: set[bytes] = set()
    for piece in content:
        found |= {one for one in left if one in piece}
    return found


def files_of(*folders: Path) -> Iterator[bytes]:
    """Every file below the folders, whole."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path.read_bytes()


def memory_of(pid: int) -> Iterator[bytes]:
    """All that a process can read and write of its own memory: what a core of it would hold."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights, *_ = line.split()
            if not rights.startswith("rw") or "[v" in line:
                continue
            first, last = (int(one, 16) for one in place.split("-"))
            memory.seek(first)
            whole = bytearray()
            try:
                while len(whole) < last - first:
                    whole += memory.read(last - first - len(whole))
            except OSError:  # a page that is there by its name only
                pass
            yield bytes(whole)


class Chain:
    """origin – relay – laptop – center: each neighbour on a network of its own, joined when the test says so."""

    def __init__(self, census: MeshCensus) -> None:
        self.census = census
        self.origin, self.relay, *_ = census.tablets
        ground = census.ground
        self.of_origin = ground.cable(self.origin.place, "near0")
        self.of_relay = [ground.cable(self.relay.place, name) for name in ("near0", "near1")]
        self.of_laptop = ground.cable(census.laptop.place, "near0")

    def join(self, network: str, *cables: Cable) -> None:
        for cable in cables:
            self.census.ground.join(cable, network)


def relay_pid(device: MeshDevice) -> int:
    if device.process is None:
        raise TypeError(f"{device.name} is not started")
    return device.process.pid


def test_of_a_marked_questionnaire_nothing_is_on_a_relays_wires_disk_journal_or_memory(tmp_path: Path) -> None:
    answer, form = secrets.token_hex(24), f"form_{secrets.token_hex(12)}"
    instance = "-".join(secrets.token_hex(count) for count in (4, 2, 2, 2, 6))
    body = json.dumps({"form": form, "meta": {"instanceID": f"uuid:{instance}"}, "answers": [answer] * MARKS}).encode()
    sought = [one for text in (answer, form, instance) for one in forms_of(text)]
    submission = tmp_path / "submission.json"
    submission.write_bytes(body)
    with mesh_census(tmp_path / "census", "origin", "relay", forms=[form]) as census, ExitStack() as stack:
        chain = Chain(census)
        captures = [
            stack.enter_context(Capture(chain.relay.place, interface, (b"",))) for interface in ("near0", "near1", "lo")
        ]
        census.start()
        chain.origin.edge_agent("submit", submission)
        chain.join("village", chain.of_origin, chain.of_relay[0])
        wait_until(
            lambda: chain.relay.counts()["carried_for_others"] == 1, "the relay has it", evidence=census.log_tails
        )
        envelope_id = bytes.fromhex(chain.relay.envelopes()[0]["id"])
        looked_at = {
            "disk": list(files_of(chain.relay.folder)),
            "memory": list(memory_of(relay_pid(chain.relay))),
            "packets": [b"".join(capture.frames) for capture in captures],
        }
        for place, content in looked_at.items():
            assert found_in(content, sought) == set(), f"while it carries, in its {place}"
        # So it was the right disk and the right memory, and what is on the wires is seen.
        assert found_in(looked_at["disk"], [envelope_id]) and found_in(looked_at["memory"], [envelope_id])
        assert len(looked_at["packets"][0]) > chain.relay.envelopes()[0]["bytes"]

        chain.join("office", chain.of_relay[1], chain.of_laptop)
        wait_until(lambda: stored(census.center).total() == 1, "it is at the center", evidence=census.log_tails)
        census.center.back_up()
        wait_until(
            lambda: chain.relay.counts()["carried_for_others"] == 0, "the relay is free", evidence=census.log_tails
        )
        wait_until(lambda: chain.origin.counts()["purged"] == 1, "the origin, too", evidence=census.log_tails)
        for device in (chain.relay, census.laptop, chain.origin):
            assert found_in(files_of(device.folder), sought) == set(), device.name
        assert found_in(memory_of(relay_pid(chain.relay)), sought) == set()
        assert found_in([b"".join(capture.frames) for capture in captures], sought) == set()

        # The search finds what is there: in what was submitted, in the census database, and in a packet.
        plain = {text.encode() for text in (answer, form, instance)}
        assert found_in([submission.read_bytes()], sought) == plain
        assert found_in(files_of(census.center.folder / "state"), sought) >= plain
        with chain.relay.place.make(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sending:
            sending.sendto(body, ("127.0.0.1", 9))
        wait_until(
            lambda: found_in([b"".join(captures[2].frames)], sought) == plain, "the packet is captured, and searched"
        )
        assert not any(capture.unreadable and not capture.frames for capture in captures[:2])


def refusals(device: MeshDevice, refused: str) -> list[str]:
    """What the device has written of a refusal of the other for its standing: "dialled=yes" when it had dialled."""
    lines = (device.folder / "edge-agent.log").read_text().splitlines()
    told = [line for line in lines if "neighbour_refused" in line and f"device={refused}" in line and "revoked" in line]
    return [word for line in told for word in line.split() if word.startswith("dialled=")]


OF_ORIGIN, OF_LAPTOP = "192.168.20.1", "192.168.30.1"
STATIC: Final[dict[str, dict[str, dict[str, Any]]]] = {
    # So it is known who dials: the relay dials the origin, and the origin dials the laptop.
    "origin": {"mesh": {"discovery": False, "static_peers": [OF_LAPTOP]}},
    "relay": {"mesh": {"static_peers": [OF_ORIGIN]}},
}


def test_a_revoked_device_is_refused_by_who_knows_and_what_it_had_handed_over_is_held_at_the_center(
    tmp_path: Path,
) -> None:
    """The relay hears of the revocation from a messenger, and gives him the envelopes; nobody refuses those."""
    with mesh_census(tmp_path, "origin", "relay", "messenger", settings=STATIC) as census:
        chain = Chain(census)
        for cable, host in ((chain.of_origin, OF_ORIGIN), (chain.of_relay[0], "192.168.20.2")):
            cable.place.ip("address", "add", f"{host}/24", "dev", cable.interface)
        for cable, host in ((chain.of_origin, "192.168.30.2"), (chain.of_laptop, OF_LAPTOP)):
            cable.place.ip("address", "add", f"{host}/24", "dev", cable.interface)
        messenger = census.tablets[2]
        of_messenger = census.ground.cable(messenger.place, "near0")
        census.start()
        lost, at_relay = chain.origin.id, chain.relay.id
        chain.origin.submit([b'{"visit":1}', b'{"visit":2}'], form="household")
        chain.join("village", chain.of_origin, chain.of_relay[0])
        wait_until(
            lambda: chain.relay.counts()["carried_for_others"] == 2, "the relay has them", evidence=census.log_tails
        )
        for cable in (chain.of_origin, chain.of_relay[0]):
            census.ground.cut(cable)
        wait_until(lambda: chain.relay.neighbours() == set(), "they have parted")

        census.center.ask("devices", "standing", "origin", "revoked")
        chain.join("office", chain.of_laptop, of_messenger)
        for device in (census.laptop, messenger):
            wait_until(lambda device=device: knows(device, lost), f"{device.name} knows", evidence=census.log_tails)  # type: ignore[misc]  # mypy and lambda defaults
        census.ground.cut(of_messenger)
        chain.join("road", of_messenger, chain.of_relay[1])
        wait_until(lambda: messenger.counts()["carried_for_others"] == 2, "they travel on", evidence=census.log_tails)
        assert knows(chain.relay, lost)

        # It comes back, with more, and nobody who knows has anything to do with it.
        chain.origin.submit([b'{"visit":3}'], form="household")
        chain.join("village", chain.of_origin, chain.of_relay[0])
        wait_until(lambda: refusals(chain.relay, lost), "the relay refuses it", evidence=census.log_tails)
        assert chain.relay.neighbours() == {messenger.id}
        census.ground.cut(chain.of_origin)
        chain.join("office", chain.of_origin)
        wait_until(lambda: refusals(census.laptop, lost), "the laptop refuses it", evidence=census.log_tails)
        assert refusals(chain.relay, lost) == ["dialled=yes"]
        assert refusals(census.laptop, lost) == ["dialled=no"]
        assert chain.origin.neighbours() == set()

        census.ground.cut(of_messenger)
        chain.join("office", of_messenger)
        wait_until(
            lambda: len(census.center.ask("held", "list")["held"]) == 2, "both are held", evidence=census.log_tails
        )
        held = census.center.ask("held", "list")["held"]
        assert {(one["reason"], one["sequence"]) for one in held} == {("revoked_origin", 1), ("revoked_origin", 2)}
        assert stored(census.center).total() == 0
        assert {(one.origin.hex(), one.sequence, one.status) for one in envelopes_at_center(census.center)} == {
            (lost, 1, "held"),
            (lost, 2, "held"),
        }
        assert all(lost not in device.neighbours() for device in (census.laptop, messenger, chain.relay))
        assert at_relay not in chain.origin.neighbours()


def knows(device: MeshDevice, revoked: str) -> bool:
    """Whether the device has heard of the revocation: the second certificate of the other."""
    log = (device.folder / "edge-agent.log").read_text()
    return f"(kind 2, serial 2) subject={revoked}" in log
