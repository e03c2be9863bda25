"""A real udevd with the hotplug watch beside it, in namespaces of their own; a loop device stands for the stick.

The events are the kernel's, the properties are what udev's own rules and blkid make of them. A loop device is not on
USB: one more rule says of this one that it is. udevd has a /dev, a /run and rules of its own, and touches nothing of
the machine's but the loop device. Needs root.

`python -m tests.support.watched_loop_device` is what runs inside: commands and answers are JSON lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.hotplug import Hotplug
from edge_agent.usb_watch.udev_source import RECEIVE_BUFFER_BYTES, UdevSource
from operations.journal import configure_logging
from tests.support.namespaces import why_no_namespaces

_UDEVD = Path("/lib/systemd/systemd-udevd")
_RULES = Path("/lib/udev/rules.d")
_KEPT_RULES = ("60-block.rules", "60-persistent-storage.rules")
_LOOP_CONTROL = "/dev/loop-control"
_LOOP_CTL_ADD, _LOOP_CTL_REMOVE = 0x4C80, 0x4C81
_IMAGE = "/run/stick.img"
_IMAGE_BYTES = 16 * 1024 * 1024
_MODULE = "tests.support.watched_loop_device"
_TRIES, _PAUSE_SECONDS = 100, 0.05


def why_no_watched_loop_device() -> str | None:
    """The reason to skip a test with a real udevd; None when it can run here."""
    if (reason := why_no_namespaces()) is not None:
        return reason
    if not _UDEVD.exists() or not (_RULES / _KEPT_RULES[1]).exists():
        return "udevd is not installed: apt-get install udev"
    if shutil.which("mkfs.vfat") is None:
        return "mkfs.vfat is not installed: apt-get install dosfstools"
    return None if Path(_LOOP_CONTROL).exists() else "this kernel has no loop devices"


class WatchedLoopDevice:
    """The namespaces with udevd, watch and a loop device, from outside."""

    def __init__(self, receive_buffer_bytes: int = RECEIVE_BUFFER_BYTES) -> None:
        self._receive_buffer_bytes = receive_buffer_bytes
        self.log: list[str] = []

    def __enter__(self) -> WatchedLoopDevice:
        # The number outlasts the namespaces: it must be nobody else's. It is free for a process of this test alone.
        self.number = 1024 + os.getpid() % 100_000
        inside = [sys.executable, "-m", _MODULE, str(self.number), str(self._receive_buffer_bytes)]
        unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with contextlib.ExitStack() as stack:
            stack.callback(_remove_loop_device, self.number)
            _add_loop_device(self.number)
            self._process = subprocess.Popen(
                [*unshare, *inside], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.callback(self._end)
            self.does("nothing")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def node(self) -> str:
        """The loop device's node, inside."""
        return f"/dev/loop{self.number}"

    def does(self, *words: str) -> None:
        """Has the commands done, which stops the watch's event loop meanwhile; returns when they are."""
        self._command(list(words))
        self.told_until_done: list[dict[str, Any]] = []
        while "done" not in (answer := self._answer()):
            self.told_until_done.append(answer)

    def told(self, count: int) -> list[dict[str, Any]]:
        """The next things that the watch tells: {"added": fields} or {"removed": node}; waits for them."""
        while len(self.told_until_done) < count:
            self.told_until_done.append(self._answer())
        told, self.told_until_done = self.told_until_done[:count], self.told_until_done[count:]
        return told

    def _command(self, words: list[str]) -> None:
        if self._process.stdin is None:
            raise RuntimeError("nothing runs inside")
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        while self._process.stdout is not None and (line := self._process.stdout.readline()):
            answer: dict[str, Any] = json.loads(line)
            if "event" not in answer:
                return answer
            self.log.append(answer["event"])
        raise RuntimeError(f"what ran inside has ended with status {self._process.wait()}")

    def _end(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()  # it then unmounts and detaches
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _add_loop_device(number: int) -> None:
    with Path(_LOOP_CONTROL).open("rb+", buffering=0) as control:
        fcntl.ioctl(control, _LOOP_CTL_ADD, number)


def _remove_loop_device(number: int) -> None:
    with Path(_LOOP_CONTROL).open("rb+", buffering=0) as control:
        for _ in range(_TRIES):
            try:
                fcntl.ioctl(control, _LOOP_CTL_REMOVE, number)
            except OSError:  # still in use: the kernel lets go of an image a moment after it is told to
                time.sleep(_PAUSE_SECONDS)
            else:
                return


def _run(*words: str) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def _furnish(number: int) -> None:
    """Make /dev, /run and the rules private, and start udevd."""
    _run("mount", "--make-rprivate", "/")
    _run("ip", "link", "set", "lo", "up")
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for folder in ("udev/rules.d", "kept-rules", "media/stick"):
        Path("/run", folder).mkdir(parents=True)
    for name in _KEPT_RULES:
        shutil.copy(_RULES / name, "/run/kept-rules")
    _run("mount", "--bind", "/run/kept-rules", str(_RULES.resolve()))
    says_usb = f'KERNEL=="loop{number}", ENV{{ID_BUS}}="usb", ENV{{ID_USB_DRIVER}}="usb-storage"\n'
    # udev's own rules leave loop devices out only where they look for serial numbers, blkid is for all of them.
    Path("/run/udev/rules.d/50-pretence.rules").write_text(says_usb)
    kept_nodes = {
        name: Path("/dev", name).stat() for name in ("null", "zero", "urandom", "loop-control", f"loop{number}")
    }
    _run("mount", "-t", "tmpfs", "-o", "mode=755,dev", "tmpfs", "/dev")
    for name, status in kept_nodes.items():
        os.mknod(f"/dev/{name}", status.st_mode, status.st_rdev)
    _run(str(_UDEVD), "--daemon", "--resolve-names=never")


class _Inside:
    """What can be done to the loop device. Each step returns when udevd has handled what it caused."""

    def __init__(self, number: int) -> None:
        self._node = f"/dev/loop{number}"
        with Path(_IMAGE).open("wb") as image:
            image.truncate(_IMAGE_BYTES)
        _run("mkfs.vfat", "-i", "0000000A", "-n", "STICK", _IMAGE)
        self._is_attached = False

    def nothing(self) -> None:
        pass

    def attach(self) -> None:
        _run("losetup", self._node, _IMAGE)
        self._is_attached = True

    def detach(self) -> None:
        _run("losetup", "-d", self._node)
        self._is_attached = False

    def format(self) -> None:
        _run("mkfs.vfat", "-i", "0000000B", "-n", "ANEW", self._node)

    def format_as_swap(self) -> None:
        _run("mkswap", self._node)

    def hide_swaps(self) -> None:
        """As ProcSubset=pid does to a service."""
        _run("mount", "-t", "proc", "-o", "subset=pid", "proc", "/proc")

    def touch(self) -> None:
        with Path(self._node).open("rb+", buffering=0):
            pass

    def mount_as_system(self) -> None:
        _run("mkfs.ext4", "-q", "-F", "-L", "SYSTEM", self._node)  # not every kernel has vfat
        Path("/run/system").mkdir()
        _run("mount", self._node, "/run/system")

    def unmount(self) -> None:
        _run("umount", self._node)

    def storm(self) -> None:
        for _ in range(64):
            _run("udevadm", "trigger", "--action=change", "--settle", self._node)

    def end(self) -> None:
        subprocess.run(["umount", "-q", self._node], check=False)
        if self._is_attached:
            self.detach()


def _say(**words: object) -> None:
    print(json.dumps(words), flush=True)  # noqa: T201  # its output is what it is for


@contextlib.contextmanager
def _ending(inside: _Inside) -> Iterator[Callable[[str], None]]:
    def do(word: str) -> None:
        getattr(inside, word)()
        _run("udevadm", "settle", "--timeout=30")

    try:
        yield do
    finally:
        inside.end()


async def _watch(number: int, receive_buffer_bytes: int) -> None:
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)

    def added(device: BlockDevice) -> None:
        _say(added=asdict(device))

    hotplug = Hotplug(added, lambda node: _say(removed=node), open_source=lambda: UdevSource(receive_buffer_bytes))
    watching = asyncio.create_task(hotplug.run())
    await asyncio.sleep(0)  # it subscribes and lists
    with _ending(_Inside(number)) as do:
        while line := await commands.readline():
            for word in json.loads(line):
                do(word)
            _say(done=True)
    watching.cancel()
    await asyncio.wait([watching])


if __name__ == "__main__":
    configure_logging("hotplug", style="json", level="debug", stream=sys.stdout)
    _furnish(int(sys.argv[1]))
    asyncio.run(_watch(int(sys.argv[1]), int(sys.argv[2])))
