"""New sticks: their capacity is checked, on the device itself, and a delegated laptop makes them the Department's."""

from __future__ import annotations

import json

import pytest

from tests.vm.conftest import Scene
from tests.vm.fleet import FOREIGN
from tests.vm.paper import IDENTITY, delegation_file
from tests.vm.stick import make_stick
from tests.vm.stick_server import StickServer
from tests.vm.tablet import Tablet
from tests.vm.test_offload import offload

CHECK = "edge-agent media check /dev/sda1"


def refusal(tablet: Tablet, script: str) -> str:
    return tablet.machine.run(f"({script}) 2>&1 && echo it did not refuse", check=False)


@pytest.mark.parametrize("file_system", ["vfat", "exfat"])
def test_a_genuine_stick_is_as_it_was_after_its_check(scene: Scene, file_system: str) -> None:
    tablet, stick = scene.wake(), make_stick(scene.folder, "new", file_system)
    before = stick.digest()
    tablet.plug(stick)
    tablet.ended()
    assert json.loads(tablet.machine.run(f"{CHECK} --json"))["genuine"]
    tablet.yank(stick)
    assert stick.digest() == before


@pytest.mark.parametrize("wraps_around", [False, True])
def test_a_stick_of_fake_size_is_found_out(scene: Scene, wraps_around: bool) -> None:
    tablet, stick = scene.wake(), make_stick(scene.folder, "new", "vfat")
    before = stick.digest()
    with StickServer(stick.image) as server:
        # What is on it lies at its beginning; 16 MB and a bit are no power of two.
        server.true_size, server.wraps_around = (16 << 20) + 4096 * 5, wraps_around
        tablet.plug(stick, server=server)
        tablet.ended()
        said = refusal(tablet, CHECK)
        tablet.yank(stick)
    assert "at most 0.02 GB" in said and "give it back" in said, said
    assert stick.digest() == before, "what was on it was put back"


@pytest.mark.parametrize("file_system", ["vfat", "exfat"])
def test_a_delegated_laptop_enrols_a_stick_and_a_tablet_uses_it(scene: Scene, file_system: str) -> None:
    laptop, courier = scene.wake("laptop 3"), scene.stick(name="red")
    new = make_stick(scene.folder, "new", file_system, content=FOREIGN if file_system == "vfat" else None)
    enrol = 'edge-agent media enrol /dev/sda1 --number 0021 --holder "A. Akhmetova"'
    laptop.plug(new)
    laptop.ended()
    assert "has not delegated" in refusal(laptop, enrol)
    courier.put(delegation_file(laptop.key))
    laptop.plug(courier)
    laptop.ended(2)
    laptop.yank(courier)
    assert "Medium 0021 is enrolled" in laptop.machine.run(enrol)
    laptop.yank(new)
    assert IDENTITY in new.files() and new.check() == ""

    tablet = scene.wake("tablet 17")
    tablet.plug(new)
    (visit,) = tablet.ended()
    tablet.yank(new)
    assert (visit["ending"], visit["number"], visit["envelopes_written"]) == ("safe", "0021", len(tablet.accepted))
    laptop.plug(new)
    visit = laptop.ended(3)[-1]
    laptop.yank(new)
    assert (visit["ending"], visit["envelopes_read"]) == ("safe", len(tablet.accepted))


def test_a_stick_that_is_in_use_is_neither_checked_nor_enrolled(scene: Scene) -> None:
    tablet, stick = scene.wake(), make_stick(scene.folder, "new", "vfat")
    tablet.plug(stick)
    tablet.ended()
    tablet.machine.run("mount /dev/sda1 /mnt")
    assert "unmount it" in refusal(tablet, CHECK)
    tablet.machine.run("umount /mnt")
    assert "divided into partitions" in refusal(tablet, "edge-agent media check /dev/sda")
    assert "not on USB" in refusal(tablet, "edge-agent media check /dev/vda")
    tablet.yank(stick)
    offload(tablet, scene.stick("exfat", "blue"))
