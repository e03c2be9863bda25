"""A USB bus of umockdev's, with the hotplug watch on it: real libudev and pyudev, synthetic devices, no hardware.

umockdev has to be loaded before libudev, so the watch runs in a process of its own (`python -m
tests.support.mock_usb_bus` under umockdev's preload library), which also plays the devices: libumockdev through ctypes.
It takes commands as JSON lines and answers with what the watch tells, and with its log, as JSON lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shutil import which
from typing import Any

from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.hotplug import Hotplug
from operations.journal import configure_logging

_CONTROLLER = "/devices/pci0000:00/0000:00:14.0/usb2"
_LIBRARY = "libumockdev.so.0"
_PRELOAD = "libumockdev-preload.so.0"
_MODULE = "tests.support.mock_usb_bus"


def why_no_mock_bus() -> str | None:
    """The reason to skip a test on the mock bus; None when it can be made here."""
    if which("umockdev-wrapper") is None:
        return "umockdev is not installed: apt-get install umockdev"
    return None


@dataclass(frozen=True)
class MockDevice:
    """One device: its path below /sys, its node's name, udev's properties and the kernel's attributes."""

    path: str
    subsystem: str
    properties: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    node: str | None = None

    def text(self) -> str:
        """In the format of umockdev-record."""
        lines = [f"P: {self.path}"]
        if self.node:
            lines += [f"N: {self.node}", f"E: DEVNAME=/dev/{self.node}"]
        lines += [f"E: SUBSYSTEM={self.subsystem}"]
        lines += [f"E: {name}={value}" for name, value in self.properties.items()]
        lines += [f"A: {name}={value}" for name, value in self.attributes.items()]
        return "\n".join(lines) + "\n\n"


def usb_device(port: int, interfaces: str, **properties: str) -> MockDevice:
    """A device on a port of the bus, with what udev has read of its interfaces (":080650:")."""
    told = {"DEVTYPE": "usb_device", "ID_USB_INTERFACES": interfaces, **properties}
    return MockDevice(f"{_CONTROLLER}/2-{port}", "usb", told, {"idVendor": "46f4"}, f"bus/usb/002/{port + 1:03}")


def usb_interface(port: int, number: int, interface_class: str) -> MockDevice:
    """One interface of that device."""
    path = f"{_CONTROLLER}/2-{port}/2-{port}:1.{number}"
    return MockDevice(path, "usb", {"DEVTYPE": "usb_interface"}, {"bInterfaceClass": interface_class})


def drive(port: int, name: str, *, sectors: int, number: int = 0, **properties: str) -> MockDevice:
    """A whole drive below the device's first interface; `number` is its logical unit."""
    path = f"{_CONTROLLER}/2-{port}/2-{port}:1.0/host{port}/target{port}:0:0/{port}:0:0:{number}/block/{name}"
    told = {"DEVTYPE": "disk", "ID_BUS": "usb", "ID_USB_DRIVER": "usb-storage", **properties}
    return MockDevice(path, "block", told, {"size": str(sectors), "ro": "0", "removable": "1"}, name)


def partition(of: MockDevice, number: int, *, sectors: int, **properties: str) -> MockDevice:
    """A partition of the drive, with udev's properties of the drive, as udev hands them down."""
    handed_down = {name: value for name, value in of.properties.items() if not name.startswith("ID_FS_")}
    told = {**handed_down, "DEVTYPE": "partition", **properties}
    attributes = {"partition": str(number), "size": str(sectors), "ro": "0"}
    return MockDevice(f"{of.path}/{of.node}{number}", "block", told, attributes, f"{of.node}{number}")


def stick(port: int = 1, name: str = "sda", *, label: str = "STICK", uuid: str = "5FC4-140C") -> list[MockDevice]:
    """A stick with one partition, in the order in which the kernel shows it."""
    whole = drive(port, name, sectors=131_072, ID_PART_TABLE_TYPE="dos", ID_SERIAL_SHORT=f"SERIAL{port}")
    file_system = {"ID_FS_TYPE": "vfat", "ID_FS_UUID": uuid, "ID_FS_LABEL": label, "ID_FS_USAGE": "filesystem"}
    first = partition(whole, 1, sectors=129_024, **file_system)
    return [usb_device(port, ":080650:"), usb_interface(port, 0, "08"), whole, first]


class MockUsbBus:
    """The bus with a watch on it. `plug` and `unplug` are followed by `told`, which waits."""

    def __init__(self, present: Sequence[MockDevice] = ()) -> None:
        """`present` is plugged before the watch starts."""
        self._present = present
        self.log: list[dict[str, Any]] = []

    def __enter__(self) -> MockUsbBus:
        environment = {**os.environ, "LD_PRELOAD": _PRELOAD, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._command(*(["plug", device.text()] for device in self._present), ["watch"])
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def plug(self, *devices: MockDevice) -> None:
        """They appear one after the other, before the watch looks again."""
        self._command(*(["plug", device.text()] for device in devices))

    def unplug(self, *devices: MockDevice) -> None:
        """They disappear, the last first."""
        self._command(*self._words_to_unplug(devices))

    def swap(self, old: Sequence[MockDevice], new: Sequence[MockDevice]) -> None:
        """The old disappear and the new appear before the watch looks again."""
        self._command(*self._words_to_unplug(old), *(["plug", device.text()] for device in new))

    def change(self, device: MockDevice, **attributes: str) -> None:
        """The kernel's attributes and udev's properties (in upper case) change, and udev says so."""
        words = [
            ["property" if name.isupper() else "attribute", device.path, name, attributes[name]] for name in attributes
        ]
        self._command(*words, ["notice", device.path, "change"])

    def told(self, count: int) -> list[dict[str, Any]]:
        """The next things that the watch tells, {"added": fields} or {"removed": node}; waits for them."""
        told: list[dict[str, Any]] = []
        while len(told) < count:
            answer = self._answer()
            if "added" in answer or "removed" in answer:
                told.append(answer)
        return told

    def sleeps(self) -> list[float | None]:
        """How long each sleep of the event loop, since it was last asked, was meant to last; None is without end."""
        self._command(["sleeps"])
        while "sleeps" not in (answer := self._answer()):
            pass
        return list(answer["sleeps"])

    @staticmethod
    def _words_to_unplug(devices: Sequence[MockDevice]) -> list[list[str]]:
        backwards = devices[::-1]
        notices = [["notice", device.path, "remove"] for device in backwards]
        return notices + [["unplug", device.path] for device in backwards]

    def _command(self, *commands: list[str]) -> None:
        if self._process.stdin is None:
            raise RuntimeError("the bus takes no commands")
        self._process.stdin.write(json.dumps(commands) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        """The next line; of the log's lines, {"event": name} with the fields, a copy is kept."""
        answer: dict[str, Any] = json.loads(self._line())
        if "event" in answer:
            answer = {"event": answer["event"], **answer["fields"]}
            self.log.append(answer)
        return answer

    def _line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise RuntimeError(f"the bus has ended with status {self._process.wait()}")
        return line


class _Testbed:
    def __init__(self) -> None:
        self._library = ctypes.CDLL(_LIBRARY)
        self._library.umockdev_testbed_new.restype = ctypes.c_void_p
        self._library.umockdev_testbed_get_sys_dir.restype = ctypes.c_char_p
        self._bed = ctypes.c_void_p(self._library.umockdev_testbed_new())
        self._sys = Path(os.fsdecode(self._library.umockdev_testbed_get_sys_dir(self._bed)))

    def _call(self, function: str, *texts: str) -> None:
        words = [text.encode("utf-8", "surrogateescape") for text in texts]
        getattr(self._library, f"umockdev_testbed_{function}")(self._bed, *words)

    def plug(self, text: str) -> None:
        function = self._library.umockdev_testbed_add_from_string
        if not function(self._bed, text.encode("utf-8", "surrogateescape"), None):
            raise ValueError(f"umockdev does not take {text}")

    def unplug(self, path: str) -> None:
        self._call("remove_device", f"/sys{path}")
        # umockdev leaves this link behind, and stumbles over it when the name comes again.
        (self._sys / "block" / Path(path).name).unlink(missing_ok=True)

    def notice(self, path: str, action: str) -> None:
        self._call("uevent", f"/sys{path}", action)

    def attribute(self, path: str, name: str, value: str) -> None:
        self._call("set_attribute", f"/sys{path}", name, value)

    def property(self, path: str, name: str, value: str) -> None:
        self._call("set_property", f"/sys{path}", name, value)


class _NotingSelector(selectors.EpollSelector):
    def __init__(self) -> None:
        super().__init__()
        self.sleeps: list[float | None] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.sleeps.append(timeout)
        return super().select(timeout)


def _say(**words: object) -> None:
    print(json.dumps(words), flush=True)  # noqa: T201  # its output is what it is for


async def _play(selector: _NotingSelector) -> None:
    loop = asyncio.get_running_loop()
    bed = _Testbed()
    commands = asyncio.StreamReader(limit=16 * 1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)

    def added(device: BlockDevice) -> None:
        _say(added=asdict(device))

    watching: asyncio.Task[None] | None = None
    while line := await commands.readline():
        for word, *rest in json.loads(line):
            if word == "watch":
                watching = asyncio.create_task(Hotplug(added, lambda node: _say(removed=node)).run())
                await asyncio.sleep(0)  # it subscribes and lists
            elif word == "sleeps":
                _say(sleeps=selector.sleeps)
                selector.sleeps.clear()
            else:
                getattr(bed, word)(*rest)
    if watching is not None:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


if __name__ == "__main__":
    configure_logging("hotplug", style="json", level="debug", stream=sys.stdout)
    _selector = _NotingSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(_selector)) as runner:
        runner.run(_play(_selector))
