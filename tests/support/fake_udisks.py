"""A stand-in for UDisks2 that speaks its D-Bus interface as documented, with errors on demand.

What it mounts is really mounted (`KernelMounts`, needs root) or only written into a list of mounts (`ListedMounts`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.unpack import unpack_variants

SERVICE = "org.freedesktop.UDisks2"
_ERROR = f"{SERVICE}.Error."


class MountFailedError(Exception):
    """What libmount would have said."""


class Mounts(Protocol):
    """Where mounts are made."""

    def mount(self, disk: FakeDisk, path: Path, options: str) -> None:
        """Raises MountFailedError."""

    def unmount(self, path: Path, *, force: bool) -> None:
        """Raises MountFailedError."""


class KernelMounts:
    """Really mounts, by mount(8), as libblockdev does."""

    def mount(self, disk: FakeDisk, path: Path, options: str) -> None:
        """See `Mounts`."""
        self._run("mount", "-t", disk.file_system, "-o", options, disk.node, str(path))

    def unmount(self, path: Path, *, force: bool) -> None:
        """See `Mounts`."""
        self._run("umount", *(["--lazy"] if force else []), str(path))

    def _run(self, *words: str) -> None:
        finished = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
        if finished.returncode != 0:
            raise MountFailedError(finished.stderr.strip())


@dataclass
class ListedMounts:
    """Keeps a list in the kernel's format instead; needs no rights."""

    mountinfo: Path
    busy: set[Path] = field(default_factory=set)
    dropped_options: set[str] = field(default_factory=set)

    def mount(self, disk: FakeDisk, path: Path, options: str) -> None:
        """See `Mounts`."""
        kept = ",".join(word for word in options.split(",") if word not in self.dropped_options)
        major, minor = disk.device_number
        line = f"99 1 {major}:{minor} / {path} {kept} - {disk.file_system} {disk.node} {kept}\n"
        self.mountinfo.write_text(self.mountinfo.read_text() + line)

    def unmount(self, path: Path, *, force: bool) -> None:
        """See `Mounts`."""
        if path in self.busy and not force:
            raise MountFailedError("target is busy")
        lines = self.mountinfo.read_text().splitlines(keepends=True)
        self.mountinfo.write_text("".join(line for line in lines if f" {path} " not in line))


@dataclass
class FakeDisk:
    """A block device that UDisks2 knows; without a drive it is like a loop device."""

    node: str
    device_number: tuple[int, int]
    file_system: str
    has_drive: bool = True
    mount_points: list[Path] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The last part of its object paths."""
        return Path(self.node).name


@dataclass
class FakeUdisks:
    """The service: `disks` are what it knows, `errors` what it answers first to a method, `calls` what it was asked."""

    bus_address: str
    media_folder: Path
    mounts: Mounts
    disks: dict[str, FakeDisk] = field(default_factory=dict)
    errors: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    hooks: dict[str, Callable[[FakeDisk], None]] = field(default_factory=dict)
    on_resolve: Callable[[], None] | None = None
    forbidden_options: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def appear(self, disk: FakeDisk) -> None:
        """UDisks2 notices the device, and announces it; may be called from any thread."""
        self.disks[disk.name] = disk
        signal = Message(
            path="/org/freedesktop/UDisks2",
            interface="org.freedesktop.DBus.ObjectManager",
            member="InterfacesAdded",
            message_type=MessageType.SIGNAL,
            signature="oa{sa{sv}}",
            body=[self._path(disk), {}],
        )
        self._loop.call_soon_threadsafe(self._bus.send, signal)

    @contextlib.contextmanager
    def running(self) -> Iterator[FakeUdisks]:
        """The service on its bus, on a thread of its own."""
        started, self._stop = threading.Event(), asyncio.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)))
        thread.start()
        assert started.wait(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join()

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._bus = await MessageBus(self.bus_address, BusType.SYSTEM).connect()
        self._bus.add_message_handler(self._answer)
        await self._bus.request_name(SERVICE)
        started.set()
        await self._stop.wait()
        self._bus.disconnect()

    def _path(self, disk: FakeDisk) -> str:
        return f"/org/freedesktop/UDisks2/block_devices/{disk.name}"

    def _answer(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL or not (message.path or "").startswith("/org/"):
            return None
        member = message.member or ""
        if member not in ("ResolveDevice", "Get", "Mount", "Unmount", "PowerOff"):
            return None
        if member in self.silent:
            return True
        options = unpack_variants(message.body[-1]) if isinstance(message.body[-1], dict) else {}
        self.calls.append((member, options))
        if self.errors.get(member):
            name, text = self.errors[member].pop(0)
            return Message.new_error(message, name if "." in name else _ERROR + name, text)
        if member == "ResolveDevice":
            wanted = unpack_variants(message.body[0])["path"]
            found = [self._path(disk) for disk in self.disks.values() if disk.node == wanted]
            if self.on_resolve is not None:
                self.on_resolve()
            return Message.new_method_return(message, "ao", [found])
        if member == "Get" and message.body[1] == "Version":
            return Message.new_method_return(message, "v", [Variant("s", "2.9.4")])
        disk = self.disks.get((message.path or "").rpartition("/")[2])
        if disk is None:
            text = f"No such object path '{message.path}'"
            return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownObject", text)
        if member in self.hooks:
            self.hooks[member](disk)
        try:
            return {"Get": self._get, "Mount": self._mount, "Unmount": self._unmount, "PowerOff": self._power_off}[
                member
            ](message, disk, options)
        except MountFailedError as error:
            busy = "target is busy" in str(error)
            return Message.new_error(message, _ERROR + ("DeviceBusy" if busy else "Failed"), f"Error: {error}")

    def _get(self, message: Message, disk: FakeDisk, _options: dict[str, Any]) -> Message:
        drive = f"/org/freedesktop/UDisks2/drives/{disk.name}" if disk.has_drive else "/"
        return Message.new_method_return(message, "v", [Variant("o", drive)])

    def _mount(self, message: Message, disk: FakeDisk, options: dict[str, Any]) -> Message:
        if disk.mount_points:
            text = f"Device {disk.node} is already mounted at `{disk.mount_points[0]}'."
            return Message.new_error(message, _ERROR + "AlreadyMounted", text)
        wanted = options.get("options", "")
        for word in wanted.split(","):
            if word in self.forbidden_options:
                return Message.new_error(
                    message, _ERROR + "OptionNotPermitted", f"Mount option `{word}' is not allowed"
                )
        path = self.media_folder / disk.name
        path.mkdir(parents=True)
        try:
            self.mounts.mount(disk, path, f"{wanted},nodev,nosuid")
        except MountFailedError:
            path.rmdir()
            raise
        disk.mount_points.append(path)
        return Message.new_method_return(message, "s", [str(path)])

    def _unmount(self, message: Message, disk: FakeDisk, options: dict[str, Any]) -> Message:
        if not disk.mount_points:
            return Message.new_error(message, _ERROR + "NotMounted", f"Device `{disk.node}' is not mounted")
        self.mounts.unmount(disk.mount_points[0], force=bool(options.get("force")))
        with contextlib.suppress(OSError):
            disk.mount_points[0].rmdir()
        del disk.mount_points[0]
        return Message.new_method_return(message)

    def _power_off(self, message: Message, _disk: FakeDisk, _options: dict[str, Any]) -> Message:
        return Message.new_method_return(message)
