"""What udev says of a device, and whether it is a file system on a USB drive."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.device_description import (
    TEXT_CHARACTERS_MAX,
    DeviceDescription,
    Ignored,
    UsbDeviceDescription,
    block_device_of,
    ignored_interfaces,
    is_of_earlier_visit,
    printable,
    sighting_of,
    why_ignored,
)

PARTITION = DeviceDescription(
    node="/dev/sdb1",
    drive="/dev/sdb",
    properties={
        "DEVTYPE": "partition",
        "ID_BUS": "usb",
        "ID_FS_TYPE": "vfat",
        "ID_FS_UUID": "5FC4-140C",
        "ID_FS_LABEL": "ДЕПАРТАМЕНТ",
        "ID_SERIAL_SHORT": "0001",
        "ID_PART_ENTRY_SCHEME": "dos",
        "ID_PART_ENTRY_TYPE": "0xc",
        "ID_PART_TABLE_TYPE": "dos",
    },
    size_bytes=16_000_000,
    is_below_usb=True,
    interface_class="08",
    interface_driver="usb-storage",
)
STICK = replace(
    PARTITION,
    node="/dev/sdb",
    properties={"DEVTYPE": "disk", "ID_BUS": "usb", "ID_FS_TYPE": "exfat", "ID_FS_UUID": "6B07-FC02"},
)


def with_properties(description: DeviceDescription, **changes: str | None) -> DeviceDescription:
    changed = {**description.properties, **changes}
    return replace(description, properties={name: value for name, value in changed.items() if value is not None})


def test_a_partition_on_a_stick_is_described() -> None:
    assert block_device_of(PARTITION) == BlockDevice(
        "/dev/sdb1", "/dev/sdb", "vfat", 16_000_000, is_write_protected=False, label="ДЕПАРТАМЕНТ", serial="0001"
    )


def test_a_stick_without_partitions_is_described() -> None:
    assert block_device_of(STICK) == BlockDevice("/dev/sdb", "/dev/sdb", "exfat", 16_000_000, is_write_protected=False)


def test_a_partition_without_a_known_file_system_is_described_as_such() -> None:
    described = block_device_of(with_properties(PARTITION, ID_FS_TYPE=None))
    assert described is not None
    assert described.file_system is None


def test_a_partitionless_exfat_counts_although_blkid_sees_a_partition_table_in_its_boot_sector() -> None:
    assert block_device_of(with_properties(STICK, ID_PART_TABLE_TYPE="dos")) is not None


def test_the_bridge_of_a_disk_enclosure_counts_although_udev_calls_its_bus_ata() -> None:
    assert block_device_of(with_properties(PARTITION, ID_BUS="ata")) is not None


@pytest.mark.parametrize("driver", ["uas", "ums-realtek", "usb-storage"])
def test_every_driver_of_mass_storage_counts_whatever_class_the_device_claims(driver: str) -> None:
    assert block_device_of(replace(PARTITION, interface_class="ff", interface_driver=driver)) is not None


def test_udevs_word_for_the_bus_counts_where_the_way_up_is_not_there() -> None:
    far = replace(PARTITION, is_below_usb=False, interface_class=None, interface_driver=None)
    assert why_ignored(far) == Ignored.NOT_MASS_STORAGE
    assert block_device_of(with_properties(far, ID_USB_INTERFACES=":030101:080650:")) is not None
    assert block_device_of(with_properties(far, ID_USB_DRIVER="uas")) is not None
    assert why_ignored(with_properties(far, ID_USB_INTERFACES=":030108:")) == Ignored.NOT_MASS_STORAGE


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        (with_properties(replace(PARTITION, is_below_usb=False), ID_BUS="ata"), Ignored.NOT_ON_USB),
        (replace(PARTITION, is_below_usb=False, properties={}), Ignored.NOT_ON_USB),
        (replace(PARTITION, interface_class="ff", interface_driver="rtsx_usb"), Ignored.NOT_MASS_STORAGE),
        (replace(PARTITION, interface_class="03", interface_driver=None), Ignored.NOT_MASS_STORAGE),
        (with_properties(STICK, ID_CDROM="1"), Ignored.OPTICAL),
        (with_properties(STICK, ID_TYPE="cd"), Ignored.OPTICAL),
        (replace(STICK, node="/dev/sr0"), Ignored.OPTICAL),
        (replace(STICK, size_bytes=0), Ignored.NO_MEDIUM),
        (replace(PARTITION, size_bytes=None), Ignored.NO_MEDIUM),
        (replace(STICK, is_divided=True), Ignored.PARTITIONED),
        (with_properties(STICK, ID_FS_TYPE=None, ID_PART_TABLE_TYPE="gpt"), Ignored.PARTITIONED),
        (with_properties(STICK, ID_FS_TYPE=None), Ignored.NO_FILE_SYSTEM),
        (with_properties(PARTITION, ID_PART_ENTRY_TYPE="0x5"), Ignored.PARTITION_CONTAINER),
        (with_properties(PARTITION, ID_PART_ENTRY_TYPE="0xf"), Ignored.PARTITION_CONTAINER),
    ],
)
def test_what_is_no_file_system_on_a_usb_drive_is_ignored_for_its_reason(
    description: DeviceDescription, reason: Ignored
) -> None:
    assert why_ignored(description) == reason
    assert block_device_of(description) is None


@pytest.mark.parametrize(
    "node",
    ["", "sdb1", "/dev/", "/dev/../etc/shadow", "/dev/..", "/dev/a\nb", "/dev/a b", "/dev/дск", "/dev/" + "a" * 99],
)
def test_a_node_with_a_strange_name_is_ignored(node: str) -> None:
    assert why_ignored(replace(PARTITION, node=node)) == Ignored.STRANGE_NODE
    assert why_ignored(replace(PARTITION, drive=node)) == Ignored.STRANGE_NODE


HOSTILE_TEXTS = [
    "a\nMay 1 tablet edge-agent: safe to remove",
    "\x1b[2J\x1b[31mred",
    "\u202egnp.exe",
    "a\x00b\r\u2028c",
    "\ud800\udfff",
    "\N{REPLACEMENT CHARACTER}" * 3,
    "x" * 10_240,
    "\n" * 10_240,
]


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_a_hostile_text_is_bounded_and_prints_on_one_line(text: str) -> None:
    described = block_device_of(with_properties(PARTITION, ID_FS_LABEL=text, ID_SERIAL_SHORT=text, ID_FS_UUID=text))
    assert described is not None
    for clean in (described.label, described.serial):
        assert len(clean) <= TEXT_CHARACTERS_MAX
        assert clean.isprintable()
        assert len(clean.splitlines()) <= 1


def test_an_honest_text_is_left_as_it_is_up_to_the_bound() -> None:
    assert printable("Ақмола 7") == "Ақмола 7"
    assert printable("x" * TEXT_CHARACTERS_MAX) == "x" * TEXT_CHARACTERS_MAX
    assert printable("x" * (TEXT_CHARACTERS_MAX + 1)) == "x" * (TEXT_CHARACTERS_MAX - 1) + "…"


@pytest.mark.parametrize("name", ["vfat\n", "../x", "", "v" * 99, "vf at"])
def test_a_hostile_name_of_a_file_system_is_no_name(name: str) -> None:
    described = block_device_of(with_properties(PARTITION, ID_FS_TYPE=name))
    assert described is not None
    assert described.file_system is None


def test_a_file_system_that_was_made_anew_or_moved_is_another_one() -> None:
    seen = sighting_of(with_properties(PARTITION, DISKSEQ="7", USEC_INITIALIZED="1000"))
    assert seen is not None
    for changed in (
        with_properties(PARTITION, ID_FS_UUID="0000-0001"),
        with_properties(PARTITION, ID_FS_TYPE="ext4"),
        with_properties(PARTITION, DISKSEQ="8"),
        with_properties(PARTITION, USEC_INITIALIZED="2000"),
        with_properties(PARTITION, ID_SERIAL_SHORT="0002"),
        replace(PARTITION, size_bytes=15_000_000),
        replace(PARTITION, is_write_protected=True),
        replace(PARTITION, disk_sequence=8),
    ):
        other = sighting_of(changed)
        assert other is not None
        assert not other.is_same_as(seen)


def test_a_new_label_or_a_missing_number_makes_no_other_file_system() -> None:
    seen = sighting_of(with_properties(PARTITION, DISKSEQ="7", USEC_INITIALIZED="1000"))
    for changed in (with_properties(PARTITION, ID_FS_LABEL="NEW"), with_properties(PARTITION, DISKSEQ="x")):
        other = sighting_of(changed)
        assert seen is not None
        assert other is not None
        assert other.is_same_as(seen)


@pytest.mark.parametrize(
    ("told", "heard", "earlier"), [("2000", "1000", True), ("1000", "1000", False), ("1000", "2000", False)]
)
def test_an_event_of_an_earlier_visit_is_known_by_the_time_udev_first_saw_it(
    told: str, heard: str, earlier: bool
) -> None:
    sighting = sighting_of(with_properties(PARTITION, USEC_INITIALIZED=told))
    assert sighting is not None
    assert is_of_earlier_visit(with_properties(PARTITION, USEC_INITIALIZED=heard), sighting) is earlier
    assert is_of_earlier_visit(PARTITION, sighting) is False


@pytest.mark.parametrize(
    ("interfaces", "words"),
    [
        (":080650:", ()),
        (":030101:030102:", ("human interface",)),
        (":080650:030101:", ("human interface",)),
        (":020600:0a0000:", ("communication", "communication data")),
        (":0e0100:0e0200:", ("video",)),
        (":zz", ("unknown",)),
        ("\n" * 10_000, ("unknown",)),
        ("", ()),
    ],
)
def test_what_a_usb_device_is_besides_mass_storage_is_said_in_words(interfaces: str, words: tuple[str, ...]) -> None:
    assert ignored_interfaces(UsbDeviceDescription({"ID_USB_INTERFACES": interfaces})) == words
