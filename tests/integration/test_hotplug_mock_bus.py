"""Hotplug through real libudev and pyudev, on a bus whose devices umockdev plays."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.mock_usb_bus import (
    MockDevice,
    MockUsbBus,
    drive,
    partition,
    stick,
    usb_device,
    usb_interface,
    why_no_mock_bus,
)

pytestmark = pytest.mark.skipif(why_no_mock_bus() is not None, reason=str(why_no_mock_bus()))

LAST = stick(9, "sdz")
"""Plugged last: when it is told and nothing before it, what came before was ignored."""


def added(node: str = "/dev/sda1", drive: str = "/dev/sda", **changes: object) -> dict[str, Any]:
    fields = {
        "node": node,
        "drive": drive,
        "file_system": "vfat",
        "size_bytes": 129_024 * 512,
        "is_write_protected": False,
        "label": "STICK",
        "serial": "SERIAL1",
    }
    return {"added": {**fields, **changes}}


THE_LAST = added("/dev/sdz1", "/dev/sdz", serial="SERIAL9")


def what_is_told_of(*devices: MockDevice) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the watch tells of the devices and then of the last one, and its log."""
    with MockUsbBus() as bus:
        bus.plug(*devices, *LAST)
        told = bus.told(1)
        while told[-1] != THE_LAST:
            told += bus.told(1)
        return told[:-1], bus.log


def logged(log: Sequence[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [line for line in log if line["event"] == event]


def test_a_stick_with_a_partition_is_told_when_it_comes_and_when_it_goes() -> None:
    with MockUsbBus() as bus:
        bus.plug(*stick())
        assert bus.told(1) == [added()]
        bus.unplug(*stick())
        assert bus.told(1) == [{"removed": "/dev/sda1"}]


def test_a_stick_without_partitions_is_told() -> None:
    # blkid 2.38 sees a partition table in the boot sector of an exFAT without partitions.
    whole = drive(1, "sda", sectors=9, ID_FS_TYPE="exfat", ID_FS_UUID="6B07-FC02", ID_PART_TABLE_TYPE="dos")
    told, _ = what_is_told_of(usb_device(1, ":080650:"), usb_interface(1, 0, "08"), whole)
    assert told == [added("/dev/sda", file_system="exfat", size_bytes=9 * 512, label="", serial="")]


def test_two_sticks_at_once_are_told_each() -> None:
    with MockUsbBus() as bus:
        first, second = stick(1, "sda"), stick(2, "sdb", label="OTHER")
        bus.plug(*[device for pair in zip(first, second, strict=True) for device in pair])
        assert bus.told(2) == [added(), added("/dev/sdb1", "/dev/sdb", label="OTHER", serial="SERIAL2")]
        bus.unplug(*first)
        assert bus.told(1) == [{"removed": "/dev/sda1"}]


def test_a_stick_present_at_start_is_told_once() -> None:
    with MockUsbBus(present=stick()) as bus:
        bus.plug(*LAST)
        assert bus.told(2) == [added(), THE_LAST]


def test_a_node_that_another_stick_takes_at_once_is_told_in_order() -> None:
    with MockUsbBus() as bus:
        bus.plug(*stick())
        bus.told(1)
        bus.swap(stick(), stick(2, "sda", label="OTHER", uuid="B"))
        assert bus.told(2) == [{"removed": "/dev/sda1"}, added(label="OTHER", serial="SERIAL2")]


def test_a_file_system_made_anew_is_told_as_removed_and_added() -> None:
    with MockUsbBus() as bus:
        bus.plug(*stick())
        bus.told(1)
        bus.change(stick()[-1], ID_FS_UUID="B", ID_FS_TYPE="ext4")
        assert bus.told(2) == [{"removed": "/dev/sda1"}, added(file_system="ext4")]
        bus.change(stick()[-1], ID_FS_LABEL="RENAMED")
        bus.unplug(*stick())
        assert bus.told(1) == [{"removed": "/dev/sda1"}]


def test_a_write_protected_stick_is_told_as_such() -> None:
    with MockUsbBus(present=stick()) as bus:
        bus.told(1)
        bus.change(stick()[2], ro="1")  # the switch is the whole drive's
        bus.change(stick()[3])
        assert bus.told(2) == [{"removed": "/dev/sda1"}, added(is_write_protected=True)]


@pytest.mark.parametrize(
    ("interfaces", "words"),
    [
        (":030101:030102:", "human interface"),
        (":020600:0a0000:", "communication, communication data"),
        (":0e0100:", "video"),
    ],
)
def test_a_device_of_another_kind_is_ignored_and_one_line_says_so(interfaces: str, words: str) -> None:
    other = usb_device(1, interfaces, ID_MODEL="Keyboard")
    with MockUsbBus() as bus:
        bus.plug(other, usb_interface(1, 0, interfaces[1:3]))
        bus.unplug(other)
        bus.plug(*LAST)
        assert bus.told(1) == [THE_LAST]
    (line,) = logged(bus.log, "usb_device_ignored")
    assert (line["interfaces"], line["model"]) == (words, "Keyboard")


def test_a_stick_that_is_a_keyboard_as_well_is_told_and_a_line_names_the_keyboard() -> None:
    composite = [usb_device(1, ":080650:030101:"), *stick()[1:], usb_interface(1, 1, "03")]
    told, log = what_is_told_of(*composite)
    assert told == [added()]
    assert [line["interfaces"] for line in logged(log, "usb_device_ignored")] == ["human interface"]


def test_an_internal_disk_is_ignored_without_a_word() -> None:
    path = "/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda"
    told_of = {"DEVTYPE": "disk", "ID_BUS": "ata", "ID_PART_TABLE_TYPE": "gpt"}
    whole = MockDevice(path, "block", told_of, {"size": "9", "ro": "0", "removable": "0"}, "sda")
    told, log = what_is_told_of(whole, partition(whole, 1, sectors=8, ID_FS_TYPE="ext4"))
    assert told == []
    assert not [line for line in log if line.get("device") in ("/dev/sda", "/dev/sda1")]


def test_an_optical_drive_on_usb_is_ignored() -> None:
    disc = drive(1, "sr0", sectors=9, ID_CDROM="1", ID_TYPE="cd", ID_FS_TYPE="iso9660")
    told, log = what_is_told_of(usb_device(1, ":080250:"), usb_interface(1, 0, "08"), disc)
    assert told == []
    assert [line["reason"] for line in log if line.get("device") == "/dev/sr0"] == ["an optical drive"]


def test_a_card_reader_is_ignored_until_a_medium_is_in_it_and_once_it_is_out() -> None:
    slot = drive(1, "sdb", sectors=0, number=1)
    card = {"ID_FS_TYPE": "exfat", "ID_FS_UUID": "1", "ID_FS_LABEL": "CARD"}
    with MockUsbBus() as bus:
        bus.plug(usb_device(1, ":080650:"), usb_interface(1, 0, "08"), drive(1, "sda", sectors=0), slot)
        bus.change(slot, size="2048", **card)
        assert bus.told(1) == [
            added("/dev/sdb", "/dev/sdb", file_system="exfat", size_bytes=2048 * 512, label="CARD", serial="")
        ]
        bus.change(slot, size="0")
        assert bus.told(1) == [{"removed": "/dev/sdb"}]
        bus.change(slot, size="2048")
        first = partition(slot, 1, sectors=2000, ID_FS_TYPE="vfat")
        assert "added" in bus.told(1)[0]
        bus.plug(first)  # a partitioned card: the drive as a whole is no file system then
        bus.change(slot)
        assert {line.get("removed") or line["added"]["node"] for line in bus.told(2)} == {"/dev/sdb1", "/dev/sdb"}


HOSTILE = "x\x1b[2Jy\u202ez"


def test_a_hostile_description_is_told_clean_and_bounded() -> None:
    whole = drive(1, "sda", sectors=9, ID_PART_TABLE_TYPE="dos", ID_SERIAL_SHORT="S" * 2000)
    first = partition(whole, 1, sectors=8, ID_FS_TYPE="vfat", ID_FS_LABEL=HOSTILE)
    told, _ = what_is_told_of(usb_device(1, ":080650:", ID_MODEL=HOSTILE), usb_interface(1, 0, "08"), whole, first)
    assert told == [added(size_bytes=8 * 512, label="x?[2Jy?z", serial="S" * 63 + "…")]


def test_a_description_that_is_no_utf8_is_told_with_marks() -> None:
    with MockUsbBus(present=stick()) as bus:
        bus.told(1)
        bus.change(stick()[-1], ID_FS_LABEL="\udcff\udcfeA", ID_FS_UUID="\udcff")
        told = bus.told(2)
        assert told[1]["added"]["label"] == "\N{REPLACEMENT CHARACTER}" * 2 + "A"


def test_a_very_long_description_is_bounded() -> None:
    whole = drive(1, "sda", sectors=9, ID_PART_TABLE_TYPE="dos", ID_SERIAL_SHORT="S" * 10_240)
    told, _ = what_is_told_of(
        usb_device(1, ":080650:"), usb_interface(1, 0, "08"), whole, partition(whole, 1, sectors=8)
    )
    assert told == [added(file_system=None, size_bytes=8 * 512, label="", serial="S" * 63 + "…")]


def test_a_watch_with_nothing_to_hear_sleeps_without_end() -> None:
    with MockUsbBus(present=stick()) as bus:
        bus.told(1)
        bus.plug(*LAST)
        bus.told(1)
        bus.sleeps()
        time.sleep(0.2)  # so that a loop that spins has the time to show it
        sleeps = bus.sleeps()
        assert not [seconds for seconds in sleeps if seconds], "no periodic wake-ups"
        assert len(sleeps) < 10
