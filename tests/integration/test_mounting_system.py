"""Mounting by the kernel's own calls: its folders, its rights, its power switch, and the list of mounts it reads."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.mount_table import (
    MountEntry,
    fault_of_mount,
    kernel_has_nosymfollow,
    mount_at,
    mounts_below,
    read_mount_table,
)
from edge_agent.usb_watch.mounting import Mounted, MountRefused, PoweredOff, PowerOffRefusal, PowerOffRefused
from edge_agent.usb_watch.system_mounting import SystemMounting
from tests.support.loop_media import loop_medium, make_image, why_no_loop_media

_STICK = BlockDevice("/dev/sdz1", "/dev/sdz", "vfat", 1 << 30, is_write_protected=False)


def _entry(options: str, *, file_system: str = "ext4", super_options: str = "rw", root: str = "/") -> MountEntry:
    words = frozenset(options.split(",")), file_system, "/dev/sdz1", frozenset(super_options.split(","))
    return MountEntry((8, 1), root, Path("/media/stick"), *words)


def test_a_mount_is_read_with_its_odd_names(tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_bytes(
        b"1 0 0:20 / / rw shared:1 - tmpfs tmpfs rw\n"
        b"36 35 98:0 /mnt1 /media/a\\040stick\\134\xd0\x96 rw,noexec master:1 shared:7 - ext4 /dev/root ro,barrier\n"
        b"37 35 98:1 / /media/a\\040stick\\134\xd0\x96/in/side rw - vfat /dev/sda1 rw\n"
    )
    path = Path("/media/a stick\\Ж")
    entry = mount_at(path, mountinfo)
    assert entry == read_mount_table(mountinfo)[1]
    assert entry is not None
    assert (entry.device_number, entry.root, entry.file_system, entry.source) == ((98, 0), "/mnt1", "ext4", "/dev/root")
    assert entry.options == {"rw", "noexec"}
    assert entry.is_read_only
    assert [found.path for found in mounts_below(path, mountinfo)] == [path / "in/side"]
    assert mount_at(Path("/media"), mountinfo) is None


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (_entry("nosuid,nodev,noexec,nosymfollow"), None),
        (_entry("nosuid,nodev,noexec"), "mounted without nosymfollow"),
        (_entry("nosuid,nodev,noexec", file_system="vfat"), None),
        (_entry("nosuid,nosymfollow"), "mounted without nodev, noexec"),
        (_entry("nosuid,nodev,noexec,nosymfollow", root="/folder"), "another device is mounted there: 8:1"),
        (None, "the kernel does not list the mount"),
    ],
)
def test_what_is_wrong_with_a_mount_is_named(entry: MountEntry | None, fault: str | None) -> None:
    assert fault_of_mount(entry, (8, 1), "6.1.0") == fault


def test_another_device_at_the_place_is_a_fault() -> None:
    assert fault_of_mount(_entry("nosuid,nodev,noexec,nosymfollow"), (8, 17), "6.1.0") is not None


def test_an_old_kernel_is_not_blamed_for_what_it_cannot_do() -> None:
    assert fault_of_mount(_entry("nosuid,nodev,noexec"), (8, 1), "5.4.0-42-generic") is None
    assert [kernel_has_nosymfollow(release) for release in ("4.19", "5.9.16", "5.10.0", "6.1.0-18-amd64", "?")] == [
        False,
        False,
        True,
        True,
        True,
    ]


@pytest.mark.root
def test_without_the_capability_this_way_is_unavailable_and_a_medium_is_refused(tmp_path: Path) -> None:
    if reason := why_no_loop_media():
        pytest.skip(reason)
    make_image(tmp_path / "image", "ext4")
    with loop_medium(tmp_path / "image") as medium:
        code = (
            "from pathlib import Path\n"
            "from edge_agent.usb_watch.block_device import BlockDevice\n"
            "from edge_agent.usb_watch.system_mounting import SystemMounting\n"
            f"mounting = SystemMounting(Path({str(tmp_path / 'places')!r}))\n"
            f"print(mounting.why_unavailable(), mounting.mount({medium.block_device('ext4')!r}, writable=True))"
        )
        words = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-c", code]
        answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "CAP_SYS_ADMIN" in answer
    assert "NOT_PERMITTED" in answer
    assert list((tmp_path / "places").iterdir()) == []


@pytest.mark.root
def test_nobody_else_can_pass_the_folder_of_the_mounts(tmp_path: Path) -> None:
    if reason := why_no_loop_media():
        pytest.skip(reason)
    make_image(tmp_path / "image", "ext4")
    mounting = SystemMounting(tmp_path / "run" / "places")
    with loop_medium(tmp_path / "image") as medium:
        mounted = mounting.mount(medium.block_device("ext4"), writable=True)
        assert isinstance(mounted, Mounted)
        assert stat.S_IMODE(mounted.path.parent.stat().st_mode) == 0o700
        mounted.unmount()


@pytest.mark.root
def test_a_superblock_that_asks_for_a_panic_does_not_get_it(tmp_path: Path) -> None:
    if reason := why_no_loop_media():
        pytest.skip(reason)
    make_image(tmp_path / "image", "ext4")
    subprocess.run(["tune2fs", "-e", "panic", str(tmp_path / "image")], check=True, capture_output=True)
    with loop_medium(tmp_path / "image") as medium:
        mounted = SystemMounting(tmp_path / "places").mount(medium.block_device("ext4"), writable=True)
        assert isinstance(mounted, Mounted)
        entry = mount_at(mounted.path)
        assert entry is not None
        assert "errors=remount-ro" in entry.super_options
        mounted.unmount()


def test_a_mount_point_that_cannot_be_made_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "places").write_text("a file is in the way")
    (tmp_path / "class/block/sdz1").mkdir(parents=True)
    (tmp_path / "class/block/sdz1/dev").write_text("65:145\n")
    outcome = SystemMounting(tmp_path / "places", sysfs=tmp_path).mount(_STICK, writable=True)
    assert isinstance(outcome, MountRefused)
    assert "places" in outcome.detail


def _plug_card_reader(folder: Path) -> Path:
    """A sysfs with a USB device of two drives, sdz and sdy; the USB device's folder."""
    usb = folder / "sys/devices/pci0000:00/usb1/1-1"
    (folder / "dev").mkdir()
    (folder / "sys/class/block").mkdir(parents=True)
    for lun, name in enumerate(("sdz", "sdy")):
        scsi = usb / f"1-1:1.0/host2/target2:0:0/2:0:0:{lun}"
        (scsi / "block" / name).mkdir(parents=True)
        (scsi / "delete").write_text("")
        (scsi / "block" / name / "device").symlink_to("../..")
        (folder / "sys/class/block" / name).symlink_to(scsi / "block" / name)
        (folder / "dev" / name).write_bytes(b"")
    (usb / "idVendor").write_text("0951\n")
    (usb / "remove").write_text("")
    return usb


def test_powering_off_detaches_every_drive_of_the_device_and_then_the_device(tmp_path: Path) -> None:
    usb = _plug_card_reader(tmp_path)
    stick = BlockDevice(str(tmp_path / "dev/sdz1"), str(tmp_path / "dev/sdz"), "vfat", 1, is_write_protected=False)
    assert SystemMounting(tmp_path / "places", sysfs=tmp_path / "sys").power_off(stick) == PoweredOff()
    assert [path.read_text() for path in sorted(usb.glob("*/host2/*/*/delete"))] == ["1", "1"]
    assert (usb / "remove").read_text() == "1"


@pytest.mark.root
def test_a_drive_that_is_still_mounted_keeps_its_power(tmp_path: Path) -> None:
    if reason := why_no_loop_media():
        pytest.skip(reason)
    usb = _plug_card_reader(tmp_path)
    make_image(tmp_path / "image", "ext4")
    stick = BlockDevice(str(tmp_path / "dev/sdz1"), str(tmp_path / "dev/sdz"), "ext4", 1, is_write_protected=False)
    mounting = SystemMounting(tmp_path / "places", sysfs=tmp_path / "sys")
    with loop_medium(tmp_path / "image") as medium:
        (tmp_path / "dev/sdy").unlink()
        os.mknod(tmp_path / "dev/sdy", stat.S_IFBLK | 0o600, os.makedev(*medium.device_number))
        mounted = SystemMounting(tmp_path / "places").mount(medium.block_device("ext4"), writable=True)
        assert isinstance(mounted, Mounted)
        refused = mounting.power_off(stick)
        assert isinstance(refused, PowerOffRefused)
        assert refused.reason is PowerOffRefusal.BUSY
        assert (usb / "remove").read_text() == ""
        mounted.unmount()
        assert mounting.power_off(stick) == PoweredOff()
