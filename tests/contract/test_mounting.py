"""What the daemon may expect of every way to mount media, asked of the kernel's own calls and of UDisks2."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.mount_table import mount_at
from edge_agent.usb_watch.mounting import (
    MOUNTED_FILE_SYSTEMS,
    Mounted,
    Mounting,
    MountRefusal,
    MountRefused,
    PowerOffRefusal,
    PowerOffRefused,
    Unmounted,
)
from edge_agent.usb_watch.system_mounting import SystemMounting
from edge_agent.usb_watch.udisks_mounting import UdisksMounting
from tests.support.fake_udisks import FakeDisk, FakeUdisks, KernelMounts
from tests.support.loop_media import LoopMedium, loop_medium, make_image, why_no_loop_media
from tests.support.message_bus import message_bus, why_no_message_bus
from tests.support.real_udisks import INSIDE, real_udisks, wait_until_udev_knows

pytestmark = pytest.mark.root


# What the expressions of `Bench.construction` need, here and in a process that gets killed.
_IMPORTS = """
from pathlib import Path
from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.system_mounting import SystemMounting
from edge_agent.usb_watch.udisks_mounting import UdisksMounting, own_media_folders
"""


class Bench(ABC):
    """One implementation with the media plugged into it."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.stack = stack

    @abstractmethod
    def construction(self) -> str:
        """The expression that makes the implementation, for this process or another."""

    def noticed(self, medium: LoopMedium, file_system: str) -> None:  # noqa: B027  # most need not be told
        """Tells the implementation's other side of a medium."""

    def pulled_out(self, medium: LoopMedium) -> None:
        """The medium goes away."""
        medium.vanish()

    def mounting(self) -> Mounting:
        """The implementation."""
        namespace: dict[str, object] = {}
        exec(_IMPORTS, namespace)
        made = eval(self.construction(), namespace)
        assert isinstance(made, SystemMounting | UdisksMounting)
        return made

    def plug(
        self,
        file_system: str = "ext4",
        *,
        claims: str | None = None,
        content: Path | None = None,
        image: bytes | None = None,
        is_write_protected: bool = False,
    ) -> LoopMedium:
        """A medium with that file system, or with those bytes and a claim to be that file system."""
        path = self.folder / f"medium-{len(list(self.folder.glob('medium-*.image')))}.image"
        if image is not None:
            path.write_bytes(image)
        else:
            make_image(path, file_system, content)
        medium = self.stack.enter_context(loop_medium(path, is_write_protected=is_write_protected))
        self.noticed(medium, claims or file_system)
        return medium


class SystemBench(Bench):
    """mount(2)."""

    def construction(self) -> str:
        """See `Bench`."""
        return f"SystemMounting(Path({str(self.folder / 'places')!r}), retry_pauses_seconds=(0.01, 0.01))"


class FakeUdisksBench(Bench):
    """A stand-in for UDisks2 on a private bus that really mounts."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        super().__init__(folder, stack)
        self.address = stack.enter_context(message_bus(folder))
        self.media_folder = folder / "run" / "media"
        fake = FakeUdisks(self.address, self.media_folder, KernelMounts())
        self.fake = stack.enter_context(fake.running())

    def construction(self) -> str:
        """See `Bench`."""
        return (
            f"UdisksMounting({self.address!r}, (Path({str(self.media_folder)!r}),),"
            " appearing_timeout_seconds=5, retry_pauses_seconds=(0.01, 0.01))"
        )

    def noticed(self, medium: LoopMedium, file_system: str) -> None:
        """See `Bench`."""
        self.fake.appear(FakeDisk(str(medium.node), medium.device_number, file_system, has_drive=False))

    def pulled_out(self, medium: LoopMedium) -> None:
        """See `Bench`."""
        del self.fake.disks[medium.node.name]
        super().pulled_out(medium)


class RealUdisksBench(Bench):
    """The real udisksd on a private bus; started with the first use, because it then looks for what is there."""

    address: str | None = None

    def construction(self) -> str:
        """See `Bench`."""
        if self.address is None:
            self.address = self.stack.enter_context(message_bus(self.folder))
            self.stack.enter_context(real_udisks(self.address))
        return f"UdisksMounting({self.address!r}, own_media_folders(), retry_pauses_seconds=(0.01, 0.01))"

    def noticed(self, medium: LoopMedium, file_system: str) -> None:
        """See `Bench`."""
        wait_until_udev_knows(medium)


# The real udisksd needs a udevd: tests/integration/test_mounting_udisksd.py runs this file where there is one.
@pytest.fixture(params=["udisksd"] if INSIDE in os.environ else ["kernel", "udisks"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """Each implementation."""
    reasons = [why_no_loop_media()]
    if request.param != "kernel":
        reasons.append(why_no_message_bus())
    for reason in filter(None, reasons):
        pytest.skip(reason)
    kinds: dict[str, Callable[[Path, contextlib.ExitStack], Bench]]
    kinds = {"kernel": SystemBench, "udisks": FakeUdisksBench, "udisksd": RealUdisksBench}
    with contextlib.ExitStack() as stack:
        yield kinds[request.param](tmp_path, stack)


def _mounted(outcome: Mounted | MountRefused) -> Mounted:
    assert isinstance(outcome, Mounted), outcome
    return outcome


def _refusal(outcome: Mounted | MountRefused) -> MountRefusal:
    assert isinstance(outcome, MountRefused), outcome
    return outcome.reason


def _mount(bench: Bench, medium: LoopMedium, file_system: str = "ext4", *, writable: bool = True) -> Mounted:
    return _mounted(bench.mounting().mount(medium.block_device(file_system), writable=writable))


def test_this_way_is_available_where_it_can_work(bench: Bench) -> None:
    bench.plug()
    assert bench.mounting().why_unavailable() is None


@pytest.mark.parametrize("file_system", MOUNTED_FILE_SYSTEMS)
def test_a_mount_carries_its_protections_and_is_gone_after_unmounting(bench: Bench, file_system: str) -> None:
    if reason := why_no_loop_media(file_system):
        pytest.skip(reason)
    medium = bench.plug(file_system)
    mounted = _mount(bench, medium, file_system)
    entry = mount_at(mounted.path)
    assert entry is not None
    assert entry.device_number == medium.device_number
    assert {"nosuid", "nodev", "noexec", "noatime", "nosymfollow"} <= entry.options
    assert not mounted.is_read_only
    (mounted.path / "written").write_bytes(b"questionnaire")
    if file_system != "ext4":
        assert (mounted.path / "written").stat().st_mode & 0o077 == 0
    assert mounted.unmount() == Unmounted(was_lazy=False)
    assert medium.mounts() == []
    assert not mounted.path.exists()


def test_what_was_written_is_there_at_the_next_mount(bench: Bench) -> None:
    medium = bench.plug()
    first = _mount(bench, medium)
    (first.path / "written").write_bytes(b"questionnaire")
    first.unmount()
    second = _mount(bench, medium, writable=False)
    assert (second.path / "written").read_bytes() == b"questionnaire"


def test_a_program_a_device_node_and_a_link_on_the_medium_are_dead(bench: Bench, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    (content / "program").write_text("#!/bin/sh\necho it ran\n")
    (content / "program").chmod(0o4755)
    os.mknod(content / "null", 0o020666, os.makedev(1, 3))
    (content / "link").symlink_to("/etc/passwd")
    path = _mount(bench, bench.plug(content=content)).path
    with pytest.raises(PermissionError):
        subprocess.run([path / "program"], check=False)
    with pytest.raises(PermissionError):
        (path / "null").open("rb")
    with pytest.raises(OSError, match="symbolic links") as link:
        (path / "link").open("rb")
    assert link.value.errno == errno.ELOOP


def test_a_mount_for_reading_cannot_be_written(bench: Bench) -> None:
    mounted = _mount(bench, bench.plug(), writable=False)
    assert mounted.is_read_only
    with pytest.raises(OSError, match="Read-only") as write:
        (mounted.path / "written").write_bytes(b"")
    assert write.value.errno == errno.EROFS


def test_a_write_protected_medium_is_mounted_and_said_to_be_read_only(bench: Bench) -> None:
    medium = bench.plug(is_write_protected=True)
    device = medium.block_device("ext4", is_write_protected=True)
    assert _mounted(bench.mounting().mount(device, writable=True)).is_read_only


def test_a_medium_whose_write_protection_nobody_mentioned_is_said_to_be_read_only(bench: Bench) -> None:
    medium = bench.plug(is_write_protected=True)
    outcome = bench.mounting().mount(medium.block_device("ext4"), writable=True)
    assert _mounted(outcome).is_read_only


@pytest.mark.parametrize("file_system", [None, "ntfs", "iso9660", "../ext4"])
def test_another_file_system_is_refused_untried(bench: Bench, file_system: str | None) -> None:
    medium = bench.plug()
    outcome = bench.mounting().mount(medium.block_device(file_system), writable=False)
    assert _refusal(outcome) is MountRefusal.UNKNOWN_FILE_SYSTEM
    assert medium.mounts() == []


@pytest.mark.parametrize("image", [b"\xa5" * (1 << 20), bytes(1 << 20)], ids=["noise", "zeros"])
def test_garbage_that_claims_to_be_a_file_system_is_refused_and_leaves_nothing(bench: Bench, image: bytes) -> None:
    medium = bench.plug(image=image, claims="ext4")
    outcome = bench.mounting().mount(medium.block_device("ext4"), writable=True)
    assert _refusal(outcome) in (MountRefusal.DAMAGED, MountRefusal.UNKNOWN_FILE_SYSTEM)
    assert medium.mounts() == []
    assert list(bench.folder.glob("places/*")) == []


def test_a_file_system_cut_short_is_refused(bench: Bench, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    make_image(whole, "ext4")
    medium = bench.plug(image=whole.read_bytes()[: 1 << 20], claims="ext4")
    assert _refusal(bench.mounting().mount(medium.block_device("ext4"), writable=True)) is MountRefusal.DAMAGED


def test_a_device_that_vanished_before_is_refused(bench: Bench) -> None:
    medium = bench.plug()
    device = medium.block_device("ext4")
    mounting = bench.mounting()
    bench.pulled_out(medium)
    assert _refusal(mounting.mount(device, writable=True)) is MountRefusal.VANISHED


def test_a_drive_that_vanished_is_not_powered_off(bench: Bench) -> None:
    medium = bench.plug()
    device = medium.block_device("ext4")
    mounting = bench.mounting()
    bench.pulled_out(medium)
    outcome = mounting.power_off(device)
    assert isinstance(outcome, PowerOffRefused)
    assert outcome.reason is PowerOffRefusal.VANISHED


def test_what_is_no_usb_drive_is_not_powered_off(bench: Bench) -> None:
    medium = bench.plug()
    outcome = bench.mounting().power_off(medium.block_device("ext4"))
    assert isinstance(outcome, PowerOffRefused)
    assert outcome.reason is PowerOffRefusal.NOT_SUPPORTED


def test_a_busy_mount_goes_away_lazily_and_says_so(bench: Bench) -> None:
    medium = bench.plug()
    mounted = _mount(bench, medium)
    with (mounted.path / "open").open("wb") as file:
        assert mounted.unmount() == Unmounted(was_lazy=True)
        assert medium.mounts() == []
        file.write(b"goes on")


def test_unmounting_twice_is_fine(bench: Bench) -> None:
    mounted = _mount(bench, bench.plug())
    mounted.unmount()
    assert mounted.unmount() == Unmounted(was_lazy=False)


def test_a_mount_that_someone_else_took_away_counts_as_unmounted(bench: Bench) -> None:
    medium = bench.plug()
    mounted = _mount(bench, medium)
    subprocess.run(["umount", str(mounted.path)], check=True)
    assert mounted.unmount() == Unmounted(was_lazy=False)


def test_a_medium_whose_storage_fails_can_still_be_unmounted(bench: Bench) -> None:
    medium = bench.plug()
    mounted = _mount(bench, medium)
    os.truncate(medium.image, 0)  # every read and write of the device fails from here on
    subprocess.run(["losetup", "--set-capacity", str(medium.node)], check=True, capture_output=True)
    with contextlib.suppress(OSError), (mounted.path / "written").open("wb") as file:
        file.write(b"questionnaire")
        os.fsync(file.fileno())
    assert isinstance(mounted.unmount(), Unmounted)
    assert medium.mounts() == []


def test_two_media_at_once_do_not_meet(bench: Bench) -> None:
    one, other = bench.plug(), bench.plug()
    mounting = bench.mounting()
    first = _mounted(mounting.mount(one.block_device("ext4"), writable=True))
    second = _mounted(mounting.mount(other.block_device("ext4"), writable=True))
    assert first.path != second.path
    (first.path / "only here").write_bytes(b"")
    assert not (second.path / "only here").exists()
    assert first.unmount() == Unmounted(was_lazy=False)
    assert other.mounts() == [second.path]


def test_nothing_is_left_of_a_daemon_that_was_killed(bench: Bench) -> None:
    medium = bench.plug()
    device = medium.block_device("ext4")
    call = f"{bench.construction()}.mount({device!r}, writable=True)"
    code = f"{_IMPORTS}\nimport time\nprint({call}.path, flush=True); time.sleep(100)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
    assert medium.mounts() == [left]
    cleared = bench.mounting().clear_leftovers()
    assert (cleared.removed, cleared.remaining) == ((left,), ())
    assert medium.mounts() == []
    assert not left.exists()
    assert bench.mounting().clear_leftovers().removed == ()


def test_a_drive_named_like_nothing_is_refused(bench: Bench) -> None:
    bench.plug()
    nowhere = BlockDevice("/dev/../etc/passwd", "/dev/sd-none", "ext4", 1, is_write_protected=False)
    assert _refusal(bench.mounting().mount(nowhere, writable=False)) is MountRefusal.VANISHED
