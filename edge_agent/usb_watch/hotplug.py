"""Tells which file systems on USB mass storage come and go, each once, in order. Sleeps until udev speaks.

The subscription begins before what is there already is listed, so that there is no gap; what is then heard a second
time is known. What is told follows from one table, for every node and each notice about it:

| notice, or listing  | not told yet      | told, and the same | told, and another one now     |
|---------------------|-------------------|--------------------|-------------------------------|
| a file system is it | added             | nothing            | removed, then added           |
| it is none of ours  | nothing           | –                  | removed                       |
| it is gone          | nothing           | removed            | removed (of an earlier visit: nothing) |

When notices were lost (too many at once, or one that cannot be read), those that wait are thrown away and everything is
listed anew, by the same table. When the subscription itself fails, it is made anew first.

Not responsible for: mounting, enrolment, or whether the file system is one that can be mounted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.device_description import (
    DeviceDescription,
    Ignored,
    Sighting,
    UsbDeviceDescription,
    ignored_interfaces,
    is_of_earlier_visit,
    printable,
    sighting_of,
    why_ignored,
)
from operations.journal import get_logger

log = get_logger()

_NOTICES_AT_ONCE_MAX: Final = 256
"""Then others on the event loop have their turn: a device that comes and goes without end must not stop the daemon."""

_GONE: Final = "remove"
_CAME: Final = "add"


class NoticesLost(Exception):
    """Some notices are lost or cannot be read; those that follow can."""


@dataclass(frozen=True)
class DeviceEvent:
    """One notice: `action` is the kernel's word ("add", "remove", "change", …)."""

    action: str
    description: DeviceDescription | UsbDeviceDescription


class DeviceSource(Protocol):
    """A subscription to udev, as `udev_source.UdevSource` is one. Any method may raise OSError."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when a notice waits."""

    def receive(self) -> DeviceEvent | None:
        """Return the next notice, None when none waits. Raises NoticesLost, or OSError: the subscription failed."""

    def present(self) -> list[DeviceDescription]:
        """Return the block devices that are there now."""

    def place_in_use(self, drive: str) -> str | None:
        """Return where the running system uses the drive; None when it does not."""

    def close(self) -> None:
        """End the subscription."""


def open_udev() -> DeviceSource:
    """Subscribe to udev. Raises OSError."""
    from edge_agent.usb_watch.udev_source import UdevSource  # pyudev is loaded only where the USB watch runs

    return UdevSource()


class Hotplug:
    """Watches udev and calls `on_added` with a file system on a USB drive, `on_removed` with its node when it is gone.

    Both are called on the event loop of `run`, must return at once, and may be told of a device that is gone by then.
    """

    def __init__(
        self,
        on_added: Callable[[BlockDevice], None],
        on_removed: Callable[[str], None],
        *,
        open_source: Callable[[], DeviceSource] = open_udev,
    ) -> None:
        self._on_added = on_added
        self._on_removed = on_removed
        self._open_source = open_source
        self._told: dict[str, Sighting] = {}

    async def run(self) -> None:
        """Watch until cancelled. Raises OSError when udev cannot be heard; run again, it tells what is new since."""
        while True:
            source = self._open_source()
            try:
                await self._follow(source)
            finally:
                source.close()

    async def _follow(self, source: DeviceSource) -> None:
        """Return when the subscription has to be made anew; raises OSError when it has never worked."""
        self._compare(source)
        heard_something = False
        while True:
            await _readable(source.fileno())
            try:
                heard_something |= self._take_what_waits(source)
            except OSError as fault:
                if not heard_something:
                    raise
                log.warning("hotplug_failed", problem=str(fault))
                return

    def _take_what_waits(self, source: DeviceSource) -> bool:
        """Tell whether there was anything."""
        for count in range(_NOTICES_AT_ONCE_MAX):
            try:
                event = source.receive()
            except NoticesLost:
                log.warning("hotplug_notices_lost")
                _throw_away(source)
                self._compare(source)
                return True
            if event is None:
                return count > 0
            self._take(event, source)
        return True

    def _compare(self, source: DeviceSource) -> None:
        """List what is there, and tell what is gone, what came and what is another one now."""
        present = source.present()
        nodes = {description.node for description in present}
        for node in [node for node in self._told if node not in nodes]:
            self._forget(node)
        for description in present:
            self._see(description, source)

    def _take(self, event: DeviceEvent, source: DeviceSource) -> None:
        description = event.description
        if isinstance(description, UsbDeviceDescription):
            if event.action == _CAME:
                _tell_of_ignored_interfaces(description)
            return
        told = self._told.get(description.node)
        if told is not None and is_of_earlier_visit(description, told):
            return  # the listing was ahead of the notices
        if event.action != _GONE:
            self._see(description, source)
        elif told is not None:
            self._forget(description.node)

    def _see(self, description: DeviceDescription, source: DeviceSource) -> None:
        told = self._told.get(description.node)
        sighting = sighting_of(description)
        if told is not None:
            if sighting is not None and sighting.is_same_as(told):
                return
            self._forget(description.node)
        if sighting is None:
            _tell_of_ignored(description)
            return
        # Asked only now: a file system that was told may since be mounted, and that is no reason to withdraw it.
        place = source.place_in_use(sighting.device.drive)
        if place is not None:
            log.info("usb_drive_of_system", device=sighting.device.node, place=place)
            return
        self._on_added(sighting.device)
        self._told[description.node] = sighting

    def _forget(self, node: str) -> None:
        self._on_removed(node)
        del self._told[node]


async def _readable(descriptor: int) -> None:
    """Return when something waits at the descriptor. Costs no wake-up until then."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


def _throw_away(source: DeviceSource) -> None:
    """Take what waits: it is older than the listing that follows. What comes during the listing is heard after it."""
    for _ in range(_NOTICES_AT_ONCE_MAX * _NOTICES_AT_ONCE_MAX):
        try:
            if source.receive() is None:
                return
        except NoticesLost:
            continue


def _tell_of_ignored(description: DeviceDescription) -> None:
    reason = why_ignored(description)
    if reason not in (None, Ignored.NOT_ON_USB):  # the machine's own disks are no news
        log.debug("usb_block_device_ignored", device=printable(description.node), reason=reason.value)


def _tell_of_ignored_interfaces(description: UsbDeviceDescription) -> None:
    interfaces = ignored_interfaces(description)
    if interfaces:
        model = printable(description.properties.get("ID_MODEL", ""))
        log.info("usb_device_ignored", interfaces=", ".join(interfaces), model=model)
