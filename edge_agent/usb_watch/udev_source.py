"""Hears from udev of block and USB devices, through pyudev: a descriptor for the event loop, and plain values.

Importing this module imports pyudev (2 MB, 10 to 20 ms), and the first subscription runs ldconfig once to find libudev:
only where the USB watch is on. Two things are done around pyudev 0.24. Its `poll` raises an OSError without a number
when the socket has lost notices, and goes on raising it for ever, because nobody takes the error off the socket (pyudev
issue 194): SO_ERROR is read here, which takes it off. And a property that is no UTF-8 raises: the bytes are in that
exception, and are decoded with replacements.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyudev

from edge_agent.usb_watch.device_description import (
    DESCRIBING_PROPERTIES,
    DeviceDescription,
    UsbDeviceDescription,
    is_plain_node,
)
from edge_agent.usb_watch.hotplug import DeviceEvent, NoticesLost
from edge_agent.usb_watch.system_drive import parts_of, place_in_use

RECEIVE_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Some thousand notices; taken up only in use. Without CAP_NET_ADMIN the kernel grants less (net.core.rmem_max)."""

_SECTOR_BYTES: Final = 512  # of the attribute `size`, whatever the drive's own sectors are
_SO_RCVBUFFORCE: Final = 33
_MOUNTINFO: Final = Path("/proc/self/mountinfo")
_SWAPS: Final = Path("/proc/swaps")

_Device: TypeAlias = Any  # pyudev has no types


class UdevSource:
    """One subscription to udev. Raises OSError where there is no libudev or no netlink."""

    def __init__(self, receive_buffer_bytes: int = RECEIVE_BUFFER_BYTES) -> None:
        try:
            self._context = pyudev.Context()
        except ImportError as error:
            raise OSError(errno.ENOENT, "libudev is not installed: install the package libudev1") from error
        # "udev", not "kernel": only when udev is done with a device are its properties there.
        self._monitor = pyudev.Monitor.from_netlink(self._context, source="udev")
        self._monitor.filter_by("block")
        self._monitor.filter_by("usb", "usb_device")
        # A second handle of the same socket, for what pyudev and libudev do not offer in every version.
        self._socket = socket.socket(fileno=os.dup(self._monitor.fileno()))
        self._set_receive_buffer(receive_buffer_bytes)
        self._monitor.start()

    def fileno(self) -> int:
        """Return the descriptor that is readable when a notice waits."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()
        del self._monitor  # pyudev has no other way

    def receive(self) -> DeviceEvent | None:
        """Return the next notice; None when none waits. Raises NoticesLost, and OSError when it cannot be read."""
        try:
            device = self._monitor.poll(timeout=0)
        except OSError as fault:
            number = fault.errno or self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number == errno.ENOBUFS:
                raise NoticesLost from fault
            raise OSError(number or errno.EIO, f"udev's notices cannot be read: {fault}") from fault
        except (ValueError, OverflowError) as fault:  # libudev's EINVAL: a notice that is cut off or makes no sense
            raise NoticesLost from fault
        return None if device is None else _event(device)

    def present(self) -> list[DeviceDescription]:
        """Return the block devices that are there now and that udev is done with; the others' notices will come."""
        return [_description(device) for device in self._context.list_devices(subsystem="block") if _is_done(device)]

    def place_in_use(self, drive: str) -> str | None:
        """Return where the running system uses the drive ("/boot", "swap"); None when it does not."""
        mountinfo = _MOUNTINFO.read_text("utf-8", errors="replace")
        try:
            swaps = _SWAPS.read_text("utf-8", errors="replace")
        except OSError:
            # ProcSubset=pid hides the list from a service: what looks like swap is then taken to be in use.
            swaps = "\n".join(_node(swap) for swap in self._context.list_devices(subsystem="block", ID_FS_TYPE="swap"))
        return place_in_use(parts_of(drive), mountinfo, swaps)

    def _set_receive_buffer(self, receive_buffer_bytes: int) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        with contextlib.suppress(OSError):  # without the capability, the kernel's maximum it is
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer_bytes)


def _event(device: _Device) -> DeviceEvent:
    action = device.action or ""
    if device.subsystem == "usb":
        return DeviceEvent(action, UsbDeviceDescription(_properties(device)))
    return DeviceEvent(action, _description(device))


def _description(device: _Device) -> DeviceDescription:
    properties = _properties(device)
    node = _node(device)
    disk = device.find_parent("block", "disk") if properties.get("DEVTYPE") == "partition" else device
    interface = device.find_parent("usb", "usb_interface")
    sectors = _number(device, "size")
    sequence = _number(disk, "diskseq") if disk is not None else None
    return DeviceDescription(
        node=node,
        # Of a partition that is gone already, sysfs no longer shows the drive.
        drive=_node(disk) if disk is not None else node,
        properties=properties,
        size_bytes=None if sectors is None else sectors * _SECTOR_BYTES,
        is_write_protected=_number(device, "ro") == 1 or (disk is not None and _number(disk, "ro") == 1),
        is_divided=disk is device and any(Path(device.sys_path).glob("*/partition")),
        is_below_usb=interface is not None or device.find_parent("usb") is not None,
        interface_class=None if interface is None else _attribute(interface, "bInterfaceClass"),
        interface_driver=None if interface is None else interface.driver,
        disk_sequence=sequence,
    )


def _is_done(device: _Device) -> bool:
    # ID_BUS is udev's word, never the kernel's: udev has been at it, even where its own record is out of sight.
    return device.is_initialized or "ID_BUS" in _properties(device)


def _node(device: _Device) -> str:
    node: str = device.device_node or ""
    return node if is_plain_node(node) else ""


def _properties(device: _Device) -> dict[str, str]:
    properties = {}
    for name in DESCRIBING_PROPERTIES:
        try:
            value = device.properties.get(name)
        except UnicodeDecodeError as error:
            value = error.object.decode("utf-8", errors="replace")
        if value is not None:
            properties[name] = value
    return properties


def _attribute(device: _Device, name: str) -> str | None:
    value: bytes | None = device.attributes.get(name)
    return None if value is None else value.decode("utf-8", errors="replace").strip()


def _number(device: _Device, name: str) -> int | None:
    value = _attribute(device, name)
    return int(value) if value is not None and value.isascii() and value.isdigit() else None
