"""Decides from udev's description of a device whether it is a file system on a USB drive. No input or output.

Everything here but the kernel's names is the device's own claim, and a device may be hostile: texts are bounded and
made printable, names that are no plain names of the kernel are refused. Source followed: what `60-persistent-storage`,
`usb_id` and `blkid` of systemd 252 set, and bDeviceClass of the USB base specification.

Not responsible for: whether the medium is enrolled, or whether its file system is one that is mounted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from edge_agent.usb_watch.block_device import BlockDevice

TEXT_CHARACTERS_MAX: Final = 64
"""Of a label or a serial number: more than honest ones have, and it fits a line of the journal."""

DESCRIBING_PROPERTIES: Final = (
    "DEVTYPE",
    "DISKSEQ",
    "ID_BUS",
    "ID_CDROM",
    "ID_FS_LABEL",
    "ID_FS_TYPE",
    "ID_FS_USAGE",
    "ID_FS_UUID",
    "ID_MODEL",
    "ID_PART_ENTRY_SCHEME",
    "ID_PART_ENTRY_TYPE",
    "ID_PART_TABLE_TYPE",
    "ID_SERIAL",
    "ID_SERIAL_SHORT",
    "ID_TYPE",
    "ID_USB_DRIVER",
    "ID_USB_INTERFACES",
    "ID_USB_SERIAL_SHORT",
    "USEC_INITIALIZED",
)
"""The properties of udev that are looked at; no others need to be read."""

_NODE: Final = re.compile(r"/dev/[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FILE_SYSTEM: Final = re.compile(r"[A-Za-z0-9_.+-]{1,32}")
_COUNTING_NUMBER: Final = re.compile(r"[0-9]{1,19}")
_MASS_STORAGE_CLASS: Final = "08"
_MASS_STORAGE_DRIVERS: Final = ("usb-storage", "uas")
_MASS_STORAGE_DRIVER_PREFIX: Final = "ums-"  # usb-storage for devices with whims, each whim a driver of its own
_OPTICAL_TYPES: Final = ("cd", "optical")
_EXTENDED_PARTITIONS: Final = ("0x5", "0xf", "0x85")  # a table's own box, which holds the logical partitions

_INTERFACE_CLASSES: Final = {
    "01": "audio",
    "02": "communication",
    "03": "human interface",
    "06": "still image",
    "07": "printer",
    "08": "mass storage",
    "09": "hub",
    "0a": "communication data",
    "0b": "smart card",
    "0e": "video",
    "e0": "wireless",
    "ef": "miscellaneous",
    "fe": "application specific",
    "ff": "vendor specific",
}


class Ignored(Enum):
    """Why a block device is none of ours."""

    NOT_ON_USB = "not on USB"
    NOT_MASS_STORAGE = "not USB mass storage"
    STRANGE_NODE = "its node has a strange name"
    OPTICAL = "an optical drive"
    NO_MEDIUM = "no medium in it"
    PARTITIONED = "a partitioned drive: its partitions count"
    PARTITION_CONTAINER = "an extended partition: its logical partitions count"
    NO_FILE_SYSTEM = "neither partitions nor a file system on it"


@dataclass(frozen=True)
class DeviceDescription:
    """What udev and the kernel say of one block device; None where they say nothing.

    `interface_class` (two hexadecimal digits) and `interface_driver` are of the USB interface that it hangs on.
    `is_divided` says that the kernel has found partitions on it, `properties` are those of DESCRIBING_PROPERTIES.
    """

    node: str
    drive: str
    properties: Mapping[str, str]
    size_bytes: int | None = None
    is_write_protected: bool = False
    is_divided: bool = False
    is_below_usb: bool = False
    interface_class: str | None = None
    interface_driver: str | None = None
    disk_sequence: int | None = None


@dataclass(frozen=True)
class UsbDeviceDescription:
    """A USB device as such, before or without any block device on it."""

    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sighting:
    """A file system with what tells it from another one that came to the same node before or after it.

    `disk_sequence` is the kernel's number of this medium in this drive (since Linux 5.15), `first_seen_microseconds`
    udev's time of the node's appearance, on a clock that never goes back; None where they are not told.
    """

    device: BlockDevice
    file_system_identity: str
    disk_sequence: int | None
    first_seen_microseconds: int | None

    def is_same_as(self, other: Sighting) -> bool:
        """Tell whether nothing that matters to a visit has changed. A label may change: it says nothing."""
        own, others = self.device, other.device
        return (
            (own.node, own.drive, own.file_system, own.size_bytes, own.is_write_protected, own.serial)
            == (
                others.node,
                others.drive,
                others.file_system,
                others.size_bytes,
                others.is_write_protected,
                others.serial,
            )
            and self.file_system_identity == other.file_system_identity
            and _agree(self.disk_sequence, other.disk_sequence)
            and _agree(self.first_seen_microseconds, other.first_seen_microseconds)
        )


def block_device_of(description: DeviceDescription) -> BlockDevice | None:
    """Return the file system on a USB drive that this is; None for everything else."""
    if why_ignored(description) is not None:
        return None
    properties = description.properties
    file_system = properties.get("ID_FS_TYPE", "")
    serial = properties.get("ID_USB_SERIAL_SHORT") or properties.get("ID_SERIAL_SHORT") or properties.get("ID_SERIAL")
    return BlockDevice(
        node=description.node,
        drive=description.drive,
        file_system=file_system if _FILE_SYSTEM.fullmatch(file_system) else None,
        size_bytes=description.size_bytes or 0,
        is_write_protected=description.is_write_protected,
        label=printable(properties.get("ID_FS_LABEL", "")),
        serial=printable(serial or ""),
    )


def sighting_of(description: DeviceDescription) -> Sighting | None:
    """Return the file system with its identity; None for everything else."""
    device = block_device_of(description)
    if device is None:
        return None
    identity = printable(description.properties.get("ID_FS_UUID", ""))
    return Sighting(device, identity, disk_sequence_of(description), first_seen_of(description))


def why_ignored(description: DeviceDescription) -> Ignored | None:
    """Return why this is not a file system on a USB drive; None when it is one."""
    properties = description.properties
    if not description.is_below_usb and properties.get("ID_BUS") != "usb":
        return Ignored.NOT_ON_USB
    if not is_plain_node(description.node) or not is_plain_node(description.drive):
        return Ignored.STRANGE_NODE
    if (
        "ID_CDROM" in properties
        or properties.get("ID_TYPE") in _OPTICAL_TYPES
        or description.node.startswith("/dev/sr")
    ):
        return Ignored.OPTICAL
    if not _is_mass_storage(description):
        return Ignored.NOT_MASS_STORAGE
    if not description.size_bytes:
        return Ignored.NO_MEDIUM
    if properties.get("DEVTYPE") == "partition":
        return Ignored.PARTITION_CONTAINER if _is_container(properties) else None
    # blkid takes the boot sector of a partitionless exFAT for a partition table besides: only what the kernel has
    # found divides a drive that has a file system.
    if description.is_divided:
        return Ignored.PARTITIONED
    if not properties.get("ID_FS_TYPE"):
        return Ignored.PARTITIONED if properties.get("ID_PART_TABLE_TYPE") else Ignored.NO_FILE_SYSTEM
    return None


def is_plain_node(node: str) -> bool:
    """Tell whether it is a plain name of the kernel's directly in /dev: it climbs nowhere and breaks no line."""
    return _NODE.fullmatch(node) is not None


def is_of_earlier_visit(description: DeviceDescription, told: Sighting) -> bool:
    """Tell whether an event speaks of something that was at the node before what has been told of it meanwhile."""
    first_seen = first_seen_of(description)
    return (
        first_seen is not None
        and told.first_seen_microseconds is not None
        and first_seen < told.first_seen_microseconds
    )


def first_seen_of(description: DeviceDescription) -> int | None:
    """Return udev's time of the node's appearance in microseconds, if it is told."""
    return _counting_number(description.properties.get("USEC_INITIALIZED"))


def disk_sequence_of(description: DeviceDescription) -> int | None:
    """Return the kernel's number of this medium, from the event or, where events do not have it, from the drive."""
    told = _counting_number(description.properties.get("DISKSEQ"))
    return description.disk_sequence if told is None else told


def ignored_interfaces(description: UsbDeviceDescription) -> tuple[str, ...]:
    """Return what else than mass storage a USB device offers, as words, each once; it is left to others."""
    told = description.properties.get("ID_USB_INTERFACES", "")
    codes = [code[:2].lower() for code in told[: TEXT_CHARACTERS_MAX * 7].split(":") if code]
    words = [_INTERFACE_CLASSES.get(code, "unknown") for code in codes if code != _MASS_STORAGE_CLASS]
    return tuple(dict.fromkeys(words))


def printable(text: str) -> str:
    """Return at most TEXT_CHARACTERS_MAX characters, with a question mark for each that does not print.

    Line ends, terminal sequences, marks that turn the direction of writing and undecodable bytes do not print.
    """
    cut = text[: TEXT_CHARACTERS_MAX + 1]
    clean = "".join(character if character.isprintable() else "?" for character in cut).strip()
    return clean if len(cut) <= TEXT_CHARACTERS_MAX else clean[: TEXT_CHARACTERS_MAX - 1] + "…"


def _is_mass_storage(description: DeviceDescription) -> bool:
    properties = description.properties
    if description.interface_class is not None or description.interface_driver is not None:
        driver, classes = description.interface_driver or "", f":{description.interface_class}"
    else:  # the way up the bus is not there: udev's word for it is
        driver, classes = properties.get("ID_USB_DRIVER", ""), properties.get("ID_USB_INTERFACES", "")
    is_driven = driver in _MASS_STORAGE_DRIVERS or driver.startswith(_MASS_STORAGE_DRIVER_PREFIX)
    return is_driven or f":{_MASS_STORAGE_CLASS}" in classes


def _is_container(properties: Mapping[str, str]) -> bool:
    scheme, kind = properties.get("ID_PART_ENTRY_SCHEME"), properties.get("ID_PART_ENTRY_TYPE")
    return scheme == "dos" and kind in _EXTENDED_PARTITIONS


def _counting_number(text: str | None) -> int | None:
    return int(text) if text is not None and _COUNTING_NUMBER.fullmatch(text) else None


def _agree(one: int | None, other: int | None) -> bool:
    return one is None or other is None or one == other
