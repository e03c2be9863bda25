"""The watch over a scripted udev: order, identity, lost notices, a subscription that fails."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.device_description import DeviceDescription, UsbDeviceDescription
from edge_agent.usb_watch.hotplug import DeviceEvent, Hotplug, NoticesLost


def stick(node: str = "/dev/sdb", *, uuid: str = "A", size_bytes: int = 1000, **properties: str) -> DeviceDescription:
    told = {"DEVTYPE": "disk", "ID_BUS": "usb", "ID_FS_TYPE": "vfat", "ID_FS_UUID": uuid, **properties}
    return DeviceDescription(node, node, told, size_bytes, is_below_usb=True, interface_class="08")


def came(description: DeviceDescription) -> DeviceEvent:
    return DeviceEvent("add", description)


def changed(description: DeviceDescription) -> DeviceEvent:
    return DeviceEvent("change", description)


def gone(description: DeviceDescription) -> DeviceEvent:
    # sysfs has forgotten it; the notice still has udev's properties.
    return DeviceEvent("remove", replace(description, size_bytes=None, is_below_usb=False, interface_class=None))


class ScriptedUdev:
    """What is there, and the notices (or faults) that wait."""

    def __init__(self) -> None:
        self.there: list[DeviceDescription] = []
        self.waiting: list[DeviceEvent | Exception] = []
        self.places: dict[str, str] = {}
        self.opened = 0
        self.closed = 0
        self.listed = 0
        self.refuses_to_open = False
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK)

    def open(self) -> ScriptedUdev:
        if self.refuses_to_open:
            raise OSError(errno.EPERM, "no netlink")
        self.opened += 1
        return self

    def says(self, *notices: DeviceEvent | Exception) -> None:
        self.waiting += notices
        os.eventfd_write(self._descriptor, 1)

    def fileno(self) -> int:
        return self._descriptor

    def receive(self) -> DeviceEvent | None:
        if not self.waiting:
            os.eventfd_read(self._descriptor)
            return None
        notice = self.waiting.pop(0)
        if isinstance(notice, Exception):
            raise notice
        return notice

    def present(self) -> list[DeviceDescription]:
        self.listed += 1
        return list(self.there)

    def place_in_use(self, drive: str) -> str | None:
        return self.places.get(drive)

    def close(self) -> None:
        self.closed += 1

    def dispose(self) -> None:
        os.close(self._descriptor)


class Told:
    """What the watch has told, in order: "+/dev/sdb A" with the label, "-/dev/sdb"."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def added(self, device: BlockDevice) -> None:
        self.lines.append(f"+{device.node}" + (f" {device.label}" if device.label else ""))

    def removed(self, node: str) -> None:
        self.lines.append(f"-{node}")


async def until_quiet(udev: ScriptedUdev) -> None:
    """Return when all that waits has been taken: some turns of the event loop, no time."""
    for _ in range(50):
        await asyncio.sleep(0)
    assert udev.waiting == []


def watch(udev: ScriptedUdev, *steps: Callable[[], None]) -> list[str]:
    """Run the watch, take the steps one by one, and return what was told."""
    told = Told()

    async def run() -> None:
        running = asyncio.create_task(Hotplug(told.added, told.removed, open_source=udev.open).run())
        await until_quiet(udev)
        for step in steps:
            step()
            await until_quiet(udev)
            if running.done():
                break
        running.cancel()
        await running

    try:
        asyncio.run(run())
    except asyncio.CancelledError:
        pass
    finally:
        udev.dispose()
    assert udev.closed == udev.opened
    return told.lines


def says(udev: ScriptedUdev, *notices: DeviceEvent | Exception) -> Callable[[], None]:
    return lambda: udev.says(*notices)


def test_what_is_present_at_start_is_told_once_though_its_notice_follows() -> None:
    udev = ScriptedUdev()
    udev.there = [stick(USEC_INITIALIZED="5")]
    assert watch(udev, says(udev, came(stick(USEC_INITIALIZED="5")))) == ["+/dev/sdb"]


def test_notices_that_wait_together_are_told_in_their_order() -> None:
    udev = ScriptedUdev()
    first, second = stick(ID_FS_LABEL="A"), stick(uuid="B", ID_FS_LABEL="B")
    told = watch(udev, says(udev, came(first), gone(first), came(second), came(stick("/dev/sdc"))))
    assert told == ["+/dev/sdb A", "-/dev/sdb", "+/dev/sdb B", "+/dev/sdc"]


def test_the_removal_of_what_was_never_told_is_not_told() -> None:
    udev = ScriptedUdev()
    assert watch(udev, says(udev, gone(stick()), came(stick("/dev/sdc")))) == ["+/dev/sdc"]


def test_late_notices_of_an_earlier_visit_to_the_node_do_not_end_the_present_one() -> None:
    udev = ScriptedUdev()
    earlier, present = stick(uuid="A", USEC_INITIALIZED="5"), stick(uuid="B", USEC_INITIALIZED="9")
    udev.there = [present]
    assert watch(udev, says(udev, changed(earlier), gone(earlier), came(present))) == ["+/dev/sdb"]


def test_a_change_that_matters_is_told_as_removed_and_added() -> None:
    udev = ScriptedUdev()
    udev.there = [stick(uuid="A", ID_FS_LABEL="A")]
    assert watch(udev, says(udev, changed(stick(uuid="B", ID_FS_LABEL="B")))) == [
        "+/dev/sdb A",
        "-/dev/sdb",
        "+/dev/sdb B",
    ]


def test_a_change_that_does_not_matter_is_not_told() -> None:
    udev = ScriptedUdev()
    udev.there = [stick()]
    assert watch(udev, says(udev, changed(stick(ID_FS_LABEL="NEW")), changed(stick()))) == ["+/dev/sdb"]


def test_a_medium_that_leaves_and_enters_a_reader_is_told() -> None:
    udev = ScriptedUdev()
    udev.there = [stick(size_bytes=0)]
    told = watch(udev, says(udev, changed(stick())), says(udev, changed(stick(size_bytes=0))))
    assert told == ["+/dev/sdb", "-/dev/sdb"]


def test_a_drive_of_the_system_is_not_told() -> None:
    udev = ScriptedUdev()
    udev.places = {"/dev/sdb": "/boot"}
    udev.there = [stick()]
    assert watch(udev, says(udev, changed(stick()), came(stick("/dev/sdc")))) == ["+/dev/sdc"]


def test_a_medium_in_use_since_it_was_told_is_not_withdrawn() -> None:
    udev = ScriptedUdev()
    udev.there = [stick()]

    def mount() -> None:
        udev.places = {"/dev/sdb": "/somewhere"}
        udev.says(changed(stick()), NoticesLost())

    assert watch(udev, mount) == ["+/dev/sdb"]
    assert udev.listed == 2


def test_after_lost_notices_everything_is_compared_with_what_is_there() -> None:
    udev = ScriptedUdev()
    udev.there = [stick("/dev/sdb"), stick("/dev/sdc", ID_FS_LABEL="C"), stick("/dev/sdd")]

    def lose() -> None:
        udev.there = [stick("/dev/sdc", uuid="X", ID_FS_LABEL="X"), stick("/dev/sdd"), stick("/dev/sde")]
        udev.says(NoticesLost())

    assert watch(udev, lose)[3:] == ["-/dev/sdb", "-/dev/sdc", "+/dev/sdc X", "+/dev/sde"]
    assert udev.opened == 1


def test_notices_from_before_a_loss_are_thrown_away_since_they_are_older_than_the_listing() -> None:
    udev = ScriptedUdev()
    udev.there = [stick()]

    def lose() -> None:
        udev.says(NoticesLost(), gone(stick()), NoticesLost(), came(stick("/dev/sdc")))

    assert watch(udev, lose) == ["+/dev/sdb"]


def test_a_subscription_that_fails_is_made_anew_and_nothing_is_missed_or_told_twice() -> None:
    udev = ScriptedUdev()
    udev.there = [stick("/dev/sdb"), stick("/dev/sdc")]

    def fail() -> None:
        udev.there = [stick("/dev/sdc"), stick("/dev/sdd")]
        udev.says(OSError(errno.EIO, "broken"))

    told = watch(udev, says(udev, came(stick("/dev/sdc"))), fail)
    assert told == ["+/dev/sdb", "+/dev/sdc", "-/dev/sdb", "+/dev/sdd"]
    assert udev.opened == 2


def test_a_loss_that_ends_in_a_failure_makes_the_subscription_anew() -> None:
    udev = ScriptedUdev()
    watch(udev, says(udev, came(stick())), says(udev, NoticesLost(), OSError(errno.EIO, "broken")))
    assert udev.opened == 2


def test_a_subscription_that_never_works_is_a_fault_and_no_endless_loop() -> None:
    udev = ScriptedUdev()
    with pytest.raises(OSError, match="broken"):
        watch(udev, says(udev, OSError(errno.EIO, "broken")))
    assert udev.opened == 1


def test_a_udev_that_cannot_be_heard_at_all_is_a_fault() -> None:
    udev = ScriptedUdev()
    udev.refuses_to_open = True
    with pytest.raises(PermissionError):
        watch(udev, lambda: None)


def test_a_watch_that_runs_again_tells_only_what_changed_meanwhile() -> None:
    udev = ScriptedUdev()
    udev.there = [stick("/dev/sdb"), stick("/dev/sdc")]
    told = Told()
    hotplug = Hotplug(told.added, told.removed, open_source=udev.open)

    async def run_and_stop() -> None:
        running = asyncio.create_task(hotplug.run())
        await until_quiet(udev)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(run_and_stop())
    udev.there = [stick("/dev/sdc")]
    asyncio.run(run_and_stop())
    udev.dispose()
    assert told.lines == ["+/dev/sdb", "+/dev/sdc", "-/dev/sdb"]


def test_a_storm_of_notices_leaves_turns_to_others_and_is_taken_whole() -> None:
    udev = ScriptedUdev()
    storm: Iterable[DeviceEvent] = [came(stick(f"/dev/sd{number}")) for number in range(1000)]
    waiting_at_turns: list[int] = []
    told = Told()

    async def run() -> None:
        running = asyncio.create_task(Hotplug(told.added, told.removed, open_source=udev.open).run())
        await until_quiet(udev)
        udev.says(*storm)
        while udev.waiting:
            waiting_at_turns.append(len(udev.waiting))
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(run())
    udev.dispose()
    assert len(told.lines) == 1000
    assert len(set(waiting_at_turns)) > 2


def test_a_usb_device_of_another_kind_is_nothing_to_tell() -> None:
    udev = ScriptedUdev()
    keyboard = UsbDeviceDescription({"ID_USB_INTERFACES": ":030101:", "ID_MODEL": "a\nb"})
    assert watch(udev, says(udev, DeviceEvent("add", keyboard), DeviceEvent("remove", keyboard), came(stick()))) == [
        "+/dev/sdb"
    ]
