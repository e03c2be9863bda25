"""A yank, a power cut or an error at every call of a visit: nothing lost, no false "safe", the next completes."""

import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from random import Random

import pytest

from edge_agent.usb_watch.actions import Ending, Outcome
from sync_protocol.identity import Role
from tests.support.device import Authority, Device, memory_folder
from tests.support.district import carried, fill, ids_in
from tests.support.medium_visit import Walk, enrolled_medium, ids_on
from tests.support.memory_medium import MemoryMedium, PowerCut

AUTHORITY = Authority()
ENVELOPES = 18


class Scene:
    """A device with a backlog and a medium, to be begun anew from the same state as often as needed."""

    def __init__(self, folder: Path, role: Role) -> None:
        self.folder = folder
        self.role = role
        self.others: frozenset[bytes] = frozenset()
        tablet = Device(folder / "tablet", AUTHORITY, name="tablet").start()
        fill(tablet, ENVELOPES, 3000)
        self.medium = enrolled_medium(AUTHORITY)
        self.own = frozenset(tablet.envelope_ids())
        if role is Role.COLLECTION_POINT:
            assert Walk(tablet, self.medium).visit(1).ending is Ending.SAFE
            self.others = self.own
            laptop = Device(folder / "laptop", AUTHORITY, name="laptop", role=role).start()
            fill(laptop, 4, 3000)
            self.own = frozenset(laptop.envelope_ids())
            laptop.stop()
        tablet.stop()

    def begin(self) -> tuple[Device, MemoryMedium]:
        name = "tablet" if self.role is Role.TABLET else "laptop"
        again = self.folder / "again"
        shutil.rmtree(again, ignore_errors=True)
        shutil.copytree(self.folder / name, again)
        return Device(again, AUTHORITY, name=name, role=self.role).start(), deepcopy(self.medium)

    def calls(self) -> int:
        device, medium = self.begin()
        medium.calls = 0
        assert Walk(device, medium).visit(2).ending is Ending.SAFE
        device.stop()
        return medium.calls


@pytest.fixture(scope="module", params=[Role.TABLET, Role.COLLECTION_POINT], ids=["writing", "importing"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with memory_folder() as folder:
        yield Scene(folder, request.param)


def visit(device: Device, medium: MemoryMedium) -> tuple[Outcome | None, frozenset[bytes]]:
    """Return what came of a visit, None when the device lost its power in it; and the ids in complete files."""
    walk = Walk(device, medium)
    try:
        outcome = walk.visit(2)
    except PowerCut:
        return None, ids_in(*walk.written)
    assert not walk.is_mounted, "no mount is left behind"
    return outcome, ids_in(*walk.written)


@pytest.mark.parametrize("trouble", ["gone", "torn", "power", "unreadable", "full", "read-only"])
def test_whatever_call_fails_nothing_is_lost_and_the_next_visit_completes(scene: Scene, trouble: str) -> None:
    endings: set[Ending | None] = set()
    for number in range(scene.calls()):
        for some_reached_it in (False, True) if trouble in ("gone", "torn", "power") else (True,):
            device, medium = scene.begin()
            medium.calls, medium.trouble, medium.trouble_at = 0, trouble, number
            outcome, left = visit(device, medium)
            endings.add(None if outcome is None else outcome.ending)
            where = f"{trouble} at call {number}, {medium.log[-1]}"
            if outcome is not None and outcome.ending is Ending.SAFE:
                assert ids_on(medium) >= scene.own | scene.others, f"said to be safe: {where}"
            if outcome is None:
                device.stop()
            if outcome is None or medium.is_gone:
                medium.pull(Random(number) if some_reached_it else None)
                assert some_reached_it or left <= ids_on(medium), f"a complete file was lost: {where}"
            medium.trouble_at = None
            if outcome is None:
                device.start()
            assert {row[0] for row in device.rows("id", "own = 1 AND data IS NOT NULL")} == scene.own, where
            again = Walk(device, medium).visit(3)
            assert again.ending is Ending.SAFE, where
            assert ids_on(medium) >= scene.own | scene.others, where
            assert not [path for path in medium.files if path[-1:] and path[-1].endswith(".PART")], where
            if scene.role is Role.COLLECTION_POINT:
                assert carried(device) == ENVELOPES, where
            device.stop()
    expected: dict[str, set[Ending | None]] = {
        "gone": {Ending.GONE},
        "torn": {Ending.GONE},
        "power": {None},
        "unreadable": {Ending.UNREADABLE},
        "full": {Ending.FULL},
        "read-only": {Ending.READ_ONLY},
    }
    assert endings >= expected[trouble]
