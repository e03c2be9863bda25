"""Sticks that are not ours, hostile sticks, and things on the bus that are no sticks."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vm.conftest import Scene
from tests.vm.fleet import FOREIGN
from tests.vm.paper import IDENTITY, enrolled
from tests.vm.stick import Content, make_stick
from tests.vm.test_offload import offload


def tree(folder: Path, content: Content) -> Path:
    """Return a folder with these files, for everybody to read."""
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def make_device(path: Path, kind: int, number: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes device nodes")
    os.mknod(path, kind | 0o666, number)


@pytest.mark.parametrize("file_system", ["vfat", "exfat", "ext4"])
def test_an_unknown_stick_is_left_as_it_was(scene: Scene, file_system: str) -> None:
    tablet = scene.wake()
    content = FOREIGN if file_system == "vfat" else None
    source = tree(scene.folder / "tree", FOREIGN) if file_system == "ext4" else None
    stick = make_stick(scene.folder, "strange", file_system, content=content, tree=source)
    before, files = stick.digest(), stick.files()
    tablet.plug(stick)
    (visit,) = tablet.ended()
    assert (visit["ending"], visit["detail"]) == ("left_alone", "it is not enrolled")
    tablet.yank(stick)
    assert stick.files() == files
    assert stick.check() == ""
    # To mount ext4 is to write that into its superblock; vfat and exfat stay as they are to the last byte.
    assert file_system == "ext4" or stick.digest() == before


def a_link_to_etc(root: Path) -> None:
    (root / "CENSUS").symlink_to("/etc")


def a_link_as_identity(root: Path) -> None:
    (root / "CENSUS").mkdir()
    (root / IDENTITY).symlink_to("/etc/edge-agent/provisioning/provisioning.json")


def a_disk_as_identity(root: Path) -> None:
    (root / "CENSUS").mkdir()
    make_device(root / IDENTITY, stat.S_IFBLK, os.makedev(8, 0))


def a_pipe_as_identity(root: Path) -> None:
    (root / "CENSUS").mkdir()
    os.mkfifo(root / IDENTITY)


@pytest.mark.parametrize("make", [a_link_to_etc, a_link_as_identity, a_disk_as_identity, a_pipe_as_identity])
def test_links_and_devices_on_a_stick_are_not_opened(scene: Scene, make: Callable[[Path], None]) -> None:
    tablet, root = scene.wake(), scene.folder / "tree"
    root.mkdir()
    make(root)
    stick = make_stick(scene.folder, "hostile", "ext4", tree=root)
    tablet.plug(stick)
    (visit,) = tablet.ended()
    assert (visit["ending"], visit["detail"]) == ("left_alone", "it is not enrolled")
    tablet.yank(stick)


def test_links_and_devices_in_place_of_bundles_are_passed_over(scene: Scene) -> None:
    tablet, root = scene.wake(), tree(scene.folder / "tree", enrolled("0017"))
    (root / "CENSUS/0123456789abcdef0123456789abcdef").symlink_to("/etc")
    folder = root / "CENSUS/ffffffffffffffffffffffffffffffff"
    folder.mkdir()
    (folder / f"{1:016x}-00000.CNS").symlink_to("/etc/edge-agent/provisioning/signing.key")
    make_device(folder / f"{1:016x}-00001.CNS", stat.S_IFCHR, os.makedev(1, 9))
    os.mkfifo(folder / f"{1:016x}-00002.CNS")
    (root / "CENSUS").chmod(0o777)
    stick = make_stick(scene.folder, "hostile", "ext4", tree=root)
    tablet.plug(stick)
    (visit,) = tablet.ended()
    tablet.yank(stick)
    assert visit["ending"] == "safe", visit
    assert sorted(visit["damaged_files"]) == [f"{'f' * 32}/{1:016x}-0000{number}.CNS" for number in range(3)]
    assert visit["envelopes_read"] == 0


def test_an_ext4_stick_that_belongs_to_another_user_is_called_read_only(scene: Scene) -> None:
    tablet = scene.wake()
    stick = make_stick(scene.folder, "linux", "ext4", tree=tree(scene.folder / "tree", enrolled("0017")))
    tablet.plug(stick)
    (visit,) = tablet.ended()
    tablet.yank(stick)
    assert (visit["ending"], visit["envelopes_written"]) == ("read_only", 0), visit
    assert tablet.counts()["waiting"] == len(tablet.accepted)


def test_usb_devices_that_are_no_storage_are_ignored(scene: Scene) -> None:
    tablet, machine = scene.wake(), scene.tablets[0].machine
    machine.qmp("netdev_add", type="user", id="network", restrict=True)
    for driver, words in {"usb-kbd": {}, "usb-tablet": {}, "usb-net": {"netdev": "network"}}.items():
        machine.qmp("device_add", driver=driver, id=driver, bus="usb.0", **words)
    there = "ls /sys/class/net | grep -v lo && grep -c 'QEMU USB' /proc/bus/input/devices"
    tablet.wait(lambda: machine.run(there, check=False).endswith("\n2\n"), "they are there")
    machine.run("udevadm settle")
    for driver in ("usb-kbd", "usb-tablet", "usb-net"):
        machine.unplugged(driver)
    assert tablet.visits() == []
    offload(tablet, scene.stick())
