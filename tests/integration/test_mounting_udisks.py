"""What UDisks2 may answer, and what becomes of it. Nothing is really mounted here, so that no rights are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.mounting import (
    Mounted,
    MountRefusal,
    MountRefused,
    PoweredOff,
    PowerOffRefusal,
    PowerOffRefused,
    Unmounted,
    UnmountFailed,
)
from edge_agent.usb_watch.udisks_mounting import UdisksMounting
from tests.support.fake_udisks import FakeDisk, FakeUdisks, ListedMounts
from tests.support.message_bus import message_bus, why_no_message_bus

_SAFE = "rw,nosuid,nodev,noexec,noatime,nosymfollow"


@dataclass
class Desk:
    """A machine with UDisks2 and one stick, /dev/sdz1, as far as this process can see."""

    folder: Path
    udisks: FakeUdisks
    mounts: ListedMounts
    disk: FakeDisk
    mounting: UdisksMounting

    def device(self, file_system: str = "vfat", *, is_write_protected: bool = False) -> BlockDevice:
        """The stick."""
        return BlockDevice("/dev/sdz1", "/dev/sdz", file_system, 1 << 30, is_write_protected)

    def mount(self, *, writable: bool = True) -> Mounted | MountRefused:
        """Mounts it."""
        return self.mounting.mount(self.device(self.disk.file_system), writable=writable)

    def mounted_by_a_desktop(self, options: str, *, name: str = "desktop") -> Path:
        """Somebody else's mount of the stick."""
        path = self.folder / name
        path.mkdir()
        self.mounts.mount(self.disk, path, options)
        self.disk.mount_points.append(path)
        return path

    def unplugged(self) -> None:
        """The kernel has let go of the stick."""
        (self.folder / "sys/class/block/sdz1/dev").unlink()

    @property
    def asked(self) -> list[str]:
        """The methods called, in their order."""
        return [member for member, _ in self.udisks.calls]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """With the stick plugged in and known to UDisks2."""
    if reason := why_no_message_bus():
        pytest.skip(reason)
    for name, number in (("sdz", "65:144"), ("sdz1", "65:145")):
        (tmp_path / "sys/class/block" / name).mkdir(parents=True)
        (tmp_path / "sys/class/block" / name / "dev").write_text(f"{number}\n")
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text("22 1 0:20 / / rw,relatime shared:1 - tmpfs tmpfs rw\n")
    mounts = ListedMounts(mountinfo)
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(message_bus(tmp_path))
        udisks = stack.enter_context(FakeUdisks(address, tmp_path / "media" / "us", mounts).running())
        disk = FakeDisk("/dev/sdz1", (65, 145), "vfat")
        udisks.disks = {"sdz1": disk, "sdz": FakeDisk("/dev/sdz", (65, 144), "")}
        mounting = UdisksMounting(
            address,
            (tmp_path / "media" / "us",),
            timeout_seconds=20,
            appearing_timeout_seconds=20,
            cleanup_timeout_seconds=20,
            retry_pauses_seconds=(0.01, 0.01),
            sysfs=tmp_path / "sys",
            mountinfo=mountinfo,
        )
        yield Desk(tmp_path, udisks, mounts, disk, mounting)


def _reason(outcome: object) -> MountRefusal:
    assert isinstance(outcome, MountRefused), outcome
    return outcome.reason


def _mounted(outcome: object) -> Mounted:
    assert isinstance(outcome, Mounted), outcome
    return outcome


@pytest.mark.parametrize(
    ("file_system", "options"),
    [
        ("vfat", "nosuid,nodev,noexec,noatime,utf8=1,shortname=mixed,flush,umask=0077,nosymfollow"),
        ("exfat", "nosuid,nodev,noexec,noatime,umask=0077,nosymfollow"),
        ("ext4", "nosuid,nodev,noexec,noatime,nosymfollow"),
    ],
)
def test_udisks_is_asked_for_the_protections_and_for_no_conversation(
    desk: Desk, file_system: str, options: str
) -> None:
    desk.disk.file_system = file_system
    _mounted(desk.mount())
    member, words = desk.udisks.calls[-1]
    assert member == "Mount"
    assert words == {"auth.no_user_interaction": True, "fstype": file_system, "options": options}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("NotAuthorized", "Not authorized to perform operation", MountRefusal.NOT_PERMITTED),
        ("NotAuthorizedCanObtain", "Not authorized to perform operation", MountRefusal.NOT_PERMITTED),
        ("DeviceBusy", "busy", MountRefusal.BUSY),
        ("MountedByOtherUser", "other", MountRefusal.BUSY),
        ("org.freedesktop.DBus.Error.UnknownMethod", "no file system there", MountRefusal.UNKNOWN_FILE_SYSTEM),
        ("org.freedesktop.DBus.Error.AccessDenied", "a policy of the bus", MountRefusal.NOT_PERMITTED),
    ],
)
def test_an_error_of_udisks_becomes_its_refusal(desk: Desk, name: str, text: str, reason: MountRefusal) -> None:
    desk.udisks.errors["Mount"] = [(name, text)]
    assert _reason(desk.mount()) is reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("wrong fs type, bad option, bad superblock on /dev/sdz1", MountRefusal.DAMAGED),
        ("unknown filesystem type 'exfat'", MountRefusal.UNKNOWN_FILE_SYSTEM),
        ("out of memory", MountRefusal.FAILED),
    ],
)
def test_a_failed_mount_is_told_apart_by_its_text(desk: Desk, text: str, reason: MountRefusal) -> None:
    desk.udisks.errors["Mount"] = [("Failed", text)] * 2
    assert _reason(desk.mount()) is reason


def test_a_stick_pulled_out_during_the_mount_counts_as_vanished(desk: Desk) -> None:
    desk.udisks.hooks["Mount"] = lambda _disk: desk.unplugged()
    desk.mounts.dropped_options = {"noexec"}
    assert _reason(desk.mount()) is MountRefusal.VANISHED
    assert desk.disk.mount_points == []


def test_a_device_that_udisks_notices_later_than_udev_is_waited_for(desk: Desk) -> None:
    late = desk.udisks.disks.pop("sdz1")
    asked_once = iter([True])
    # The first question finds nothing; the announcement comes while the answer is on its way.
    desk.udisks.on_resolve = lambda: desk.udisks.appear(late) if next(asked_once, False) else None
    _mounted(desk.mount())
    assert desk.asked.count("ResolveDevice") >= 2


def test_a_device_that_goes_before_udisks_noticed_it_counts_as_vanished(desk: Desk) -> None:
    del desk.udisks.disks["sdz1"]
    desk.udisks.on_resolve = lambda: (desk.folder / "sys/class/block/sdz1/dev").unlink(missing_ok=True)
    assert _reason(desk.mount()) is MountRefusal.VANISHED


def test_without_nosymfollow_in_the_systems_mount_library_a_file_system_without_links_is_mounted(desk: Desk) -> None:
    desk.udisks.forbidden_options = {"nosymfollow"}
    _mounted(desk.mount())


def test_without_nosymfollow_a_file_system_with_links_is_refused_and_not_left(desk: Desk) -> None:
    desk.disk.file_system = "ext4"
    desk.udisks.forbidden_options = {"nosymfollow"}
    assert _reason(desk.mount()) is MountRefusal.UNSAFE_OPTIONS
    assert desk.disk.mount_points == []


@pytest.mark.parametrize("dropped", ["nosuid", "nodev", "noexec"])
def test_a_mount_that_lacks_a_protection_is_undone_and_refused(desk: Desk, dropped: str) -> None:
    desk.mounts.dropped_options = {dropped}
    outcome = desk.mount()
    assert _reason(outcome) is MountRefusal.UNSAFE_OPTIONS
    assert isinstance(outcome, MountRefused)
    assert dropped in outcome.detail
    assert desk.disk.mount_points == []


def test_an_option_that_the_administrator_forbids_is_a_refusal(desk: Desk) -> None:
    desk.udisks.forbidden_options = {"noexec"}
    assert _reason(desk.mount()) is MountRefusal.UNSAFE_OPTIONS


def test_another_device_at_the_path_is_refused(desk: Desk) -> None:
    desk.disk.device_number = (65, 99)  # a stick that came under the same name
    assert _reason(desk.mount()) is MountRefusal.UNSAFE_OPTIONS


def test_a_desktops_unsafe_mount_is_replaced(desk: Desk) -> None:
    desk.mounted_by_a_desktop("rw,nosuid,nodev,relatime")
    mounted = _mounted(desk.mount())
    assert mounted.path == desk.folder / "media" / "us" / "sdz1"
    assert desk.disk.mount_points == [mounted.path]
    assert desk.asked == ["ResolveDevice", "Mount", "Unmount", "Mount"]


def test_a_desktops_safe_mount_is_taken_over_and_unmounted_in_the_end(desk: Desk) -> None:
    path = desk.mounted_by_a_desktop(_SAFE)
    mounted = _mounted(desk.mount())
    assert mounted.path == path
    assert mounted.unmount() == Unmounted(was_lazy=False)
    assert desk.disk.mount_points == []


def test_a_desktops_mount_for_writing_is_not_taken_over_for_reading(desk: Desk) -> None:
    desk.mounted_by_a_desktop(_SAFE)
    assert _mounted(desk.mount(writable=False)).is_read_only


def test_a_desktops_mount_in_use_is_left_to_it(desk: Desk) -> None:
    path = desk.mounted_by_a_desktop("rw,nosuid,nodev,relatime")
    desk.mounts.busy = {path}
    assert _reason(desk.mount()) is MountRefusal.BUSY
    assert desk.disk.mount_points == [path]
    assert all(not words.get("force") for member, words in desk.udisks.calls if member == "Unmount")


def test_a_desktops_mount_that_may_not_be_taken_away_is_left_to_it(desk: Desk) -> None:
    path = desk.mounted_by_a_desktop("rw,nosuid,nodev,relatime")
    desk.udisks.errors["Unmount"] = [("NotAuthorized", "Not authorized to perform operation")]
    assert _reason(desk.mount()) is MountRefusal.NOT_PERMITTED
    assert desk.disk.mount_points == [path]


def test_a_desktop_that_mounts_again_and_again_wins_in_the_end(desk: Desk) -> None:
    names = iter("abcdefgh")

    def remount(disk: FakeDisk) -> None:
        if not disk.mount_points:
            desk.mounted_by_a_desktop("rw,nosuid,nodev,relatime", name=next(names))

    desk.udisks.hooks["Mount"] = remount
    assert _reason(desk.mount()) is MountRefusal.BUSY


def test_every_mount_of_the_stick_is_taken_away_at_the_end(desk: Desk) -> None:
    mounted = _mounted(desk.mount())
    desk.mounted_by_a_desktop("rw,nosuid,nodev,relatime")
    assert mounted.unmount() == Unmounted(was_lazy=False)
    assert desk.disk.mount_points == []


def test_a_mount_that_is_busy_for_a_moment_is_not_unmounted_lazily(desk: Desk) -> None:
    mounted = _mounted(desk.mount())
    desk.udisks.errors["Unmount"] = [("DeviceBusy", "target is busy")] * 2
    assert mounted.unmount() == Unmounted(was_lazy=False)


def test_a_mount_that_stays_busy_is_unmounted_lazily(desk: Desk) -> None:
    mounted = _mounted(desk.mount())
    desk.mounts.busy = {mounted.path}
    assert mounted.unmount() == Unmounted(was_lazy=True)
    assert desk.disk.mount_points == []


def test_a_mount_that_does_not_go_is_said_to_have_stayed(desk: Desk) -> None:
    mounted = _mounted(desk.mount())
    desk.udisks.errors["Unmount"] = [("Failed", "no way")] * 20
    stubborn = replace(desk.mounting, cleanup_timeout_seconds=0)
    again = _mounted(stubborn.mount(desk.device(), writable=True))  # its own mount, taken over
    assert isinstance(again.unmount(), UnmountFailed)
    desk.udisks.errors.clear()
    assert mounted.unmount() == Unmounted(was_lazy=False)


def test_a_pulled_out_stick_that_udisks_cleans_up_counts_as_unmounted(desk: Desk) -> None:
    mounted = _mounted(desk.mount())
    desk.unplugged()
    del desk.udisks.disks["sdz1"]
    # UDisks2 notices as late as at our question.
    desk.udisks.on_resolve = lambda: desk.mounts.unmount(mounted.path, force=True)
    assert mounted.unmount() == Unmounted(was_lazy=False)


def test_a_mount_that_udisks_never_answers_to_is_refused_and_not_left(desk: Desk) -> None:
    desk.udisks.silent = {"Mount"}
    impatient = replace(desk.mounting, timeout_seconds=0.5)
    assert _reason(impatient.mount(desk.device(), writable=True)) is MountRefusal.FAILED
    assert desk.udisks.calls[-1] == ("Unmount", {"auth.no_user_interaction": True, "force": True})


def test_without_udisks_on_the_bus_this_way_is_unavailable(tmp_path: Path) -> None:
    if reason := why_no_message_bus():
        pytest.skip(reason)
    with message_bus(tmp_path) as address:
        why = UdisksMounting(address).why_unavailable()
    assert why is not None
    assert "ServiceUnknown" in why


def test_without_a_bus_this_way_is_unavailable(tmp_path: Path) -> None:
    assert UdisksMounting(f"unix:path={tmp_path / 'nobody'}").why_unavailable() is not None


def test_a_drive_is_powered_off_without_a_question(desk: Desk) -> None:
    assert desk.mounting.power_off(desk.device()) == PoweredOff()
    assert desk.udisks.calls[-1] == ("PowerOff", {"auth.no_user_interaction": True})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("DeviceBusy", PowerOffRefusal.BUSY),
        ("NotAuthorized", PowerOffRefusal.NOT_PERMITTED),
        ("NotSupported", PowerOffRefusal.NOT_SUPPORTED),
        ("Failed", PowerOffRefusal.FAILED),
    ],
)
def test_a_refused_power_off_says_why(desk: Desk, name: str, reason: PowerOffRefusal) -> None:
    desk.udisks.errors["PowerOff"] = [(name, "no")]
    outcome = desk.mounting.power_off(desk.device())
    assert isinstance(outcome, PowerOffRefused)
    assert outcome.reason is reason


def test_leftovers_are_our_own_safe_mounts_only(desk: Desk) -> None:
    ours = _mounted(desk.mount())
    other = FakeDisk("/dev/sdy1", (65, 200), "vfat")
    desk.mounts.mount(other, desk.folder / "media" / "us" / "by hand", "rw,nosuid,nodev,relatime")
    elsewhere = FakeDisk("/dev/sdx1", (65, 201), "vfat")
    desk.mounts.mount(elsewhere, desk.folder / "media" / "them", _SAFE)
    cleared = desk.mounting.clear_leftovers()
    assert (cleared.removed, cleared.remaining) == ((ours.path,), ())
    assert desk.asked.count("Unmount") == 1
