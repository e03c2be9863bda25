"""A virtual machine in plain emulation (QEMU's TCG): booted once, frozen, and woken as often as a test wants it.

It ends with the process that started it, even when that is killed. Its power can be cut; what had reached the state
disk is then what the next start finds.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tests.vm.json_lines import ConversationEnded, JsonLines

_MEMORY_MEGABYTES: Final = 512
_BOOT_SECONDS: Final = 240.0
_KERNEL_WORDS: Final = "console=ttyS0 quiet loglevel=4 mitigations=off random.trust_cpu=on panic=5 nokaslr audit=0"
_WORDS: Final = (
    *("-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35,usb=off,vmport=off,hpet=off"),
    *("-m", str(_MEMORY_MEGABYTES), "-cpu", "max", "-accel", "tcg,thread=single,tb-size=256"),
    *("-object", "rng-random,filename=/dev/urandom,id=random", "-device", "virtio-rng-pci,rng=random"),
    *("-device", "qemu-xhci,id=usb,p2=8,p3=8", "-device", "virtio-serial-pci"),
)


@dataclass(frozen=True)
class Image:
    """What a machine starts from: the folder that scripts/vm-image made, and the product."""

    folder: Path
    product: Path


@dataclass(frozen=True)
class Frozen:
    """A machine that stands still, on disk."""

    memory: Path
    disk: Path


class GuestError(Exception):
    """A command in the guest failed, or the machine does not answer."""


class Machine:
    """See the module. A context manager; `folder` is for this machine alone."""

    def __init__(self, folder: Path, image: Image) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._image = image
        self.disk = folder / "state.qcow2"
        self._process: subprocess.Popen[bytes] | None = None
        self._boots = 0

    # Life.

    def boot(self, meanwhile: Callable[[], None] = lambda: None) -> Self:
        """Start it, on a new state disk unless it has one already, and wait until its hand answers.

        `meanwhile` is done while it has not yet looked at its USB ports.
        """
        if not self.disk.exists():
            _layer_above(self._image.folder / "state.qcow2", self.disk)
        self._spawn()
        meanwhile()
        self._wait_for_hand()
        return self

    def wake(self, frozen: Frozen) -> Self:
        """Let it go on where another one was frozen."""
        _layer_above(frozen.disk, self.disk)
        self._spawn("-incoming", f"exec:cat {shlex.quote(str(frozen.memory))}")
        self._wait_while("inmigrate")
        self.qmp("cont")
        self._wait_for_hand()
        return self

    def freeze(self, folder: Path) -> Frozen:
        """Let it stand still in `folder`; this machine ends. No medium may be plugged in."""
        folder.mkdir(parents=True, exist_ok=True)
        frozen = Frozen(folder / "memory", folder / "disk.qcow2")
        self.run("sync")
        self.qmp("stop")
        self.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        self.qmp("migrate", uri=f"exec:cat > {shlex.quote(str(frozen.memory))}")
        while (state := self.qmp("query-migrate"))["status"] != "completed":
            if state["status"] == "failed":
                raise GuestError(f"it cannot be frozen: {state}")
            time.sleep(0.02)
        # An orderly end: the state disk is to be whole.
        with contextlib.suppress(ConversationEnded):
            self.qmp("quit")
        self._running().wait(20)
        self._process = None
        self.disk.rename(frozen.disk)
        return frozen

    def cut_power(self) -> None:
        """What the guest had not yet sent to its disk is gone; `boot` starts it again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._hand.close()
            self._control.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut_power()

    # What a person does at its keyboard.

    def run(self, script: str, *, seconds: float = 90, standard_input: bytes = b"", check: bool = True) -> str:
        """Run a shell script as root and return what it says; raises GuestError when it fails, unless not `check`."""
        words = {"run": script, "seconds": seconds, "input": base64.b64encode(standard_input).decode()}
        answer = self._ask(words, seconds + 10)
        output, errors = (base64.b64decode(answer[name]).decode(errors="replace") for name in ("output", "errors"))
        if check and answer["status"] != 0:
            raise GuestError(f"{script!r} ended with {answer['status']}: {output}{errors}")
        return output

    def put(self, path: str, data: bytes | str, *, mode: int = 0o644) -> None:
        data = data.encode() if isinstance(data, str) else data
        self._done({"put": path, "data": base64.b64encode(data).decode(), "mode": mode})

    def get(self, path: str) -> bytes:
        return self._done({"get": path})

    def talk(self, socket: str, data: bytes, lines: int = 1) -> list[bytes]:
        """Say something to a unix socket in the guest, and return so many lines of its answer; raises GuestError."""
        return self._done({"talk": socket, "data": base64.b64encode(data).decode(), "lines": lines}).splitlines()

    # What a person does to its case.

    def qmp(self, command: str, /, **arguments: Any) -> Any:
        """Give QEMU a command; raises GuestError when it refuses."""
        answer = self._control.ask({"execute": command, "arguments": arguments}, 30)
        if "error" in answer:
            raise GuestError(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def unplugged(self, device: str) -> None:
        """Unplug a device; return when the machine has let go of it."""
        self.qmp("device_del", id=device)
        self._control.event(
            lambda event: event.get("event") == "DEVICE_DELETED" and event["data"].get("device") == device, 30
        )

    @property
    def console(self) -> str:
        """What the kernel and systemd said since the last start."""
        path = self._folder / f"console-{self._boots}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # Inside.

    def _spawn(self, *words: str) -> None:
        # A socket's path has at most 107 bytes; pytest's folders are deep.
        with tempfile.TemporaryDirectory(prefix="vm-") as sockets:
            control, hand = Path(sockets, "control"), Path(sockets, "hand")
            self._boots += 1
            log = self._folder / f"qemu-{self._boots}.log"
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    # The kernel ends it when the thread is gone that starts it here.
                    ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", *self._words(control, hand), *words],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            process = self._process
            try:
                self._control = JsonLines(control, lambda: process.poll() is None)
                self._hand = JsonLines(hand, lambda: process.poll() is None)
                self._control.event(lambda event: "QMP" in event, 20)
                self.qmp("qmp_capabilities")
            except ConversationEnded as error:
                raise GuestError(f"QEMU did not start: {log.read_text()[-2000:]}") from error

    def _words(self, control: Path, hand: Path) -> list[str]:
        folder = self._image.folder
        words = [*_WORDS, "-kernel", str(folder / "vmlinux"), "-initrd", str(folder / "initramfs")]
        words += ["-append", _KERNEL_WORDS, "-serial", f"file:{self._folder}/console-{self._boots}.log"]
        words += ["-qmp", f"unix:{control},server=on,wait=off"]
        words += ["-chardev", f"socket,id=hand,path={hand},server=on,wait=off"]
        words += ["-device", "virtserialport,chardev=hand,name=census.hand"]
        disks = {"debian": folder / "root.squashfs", "product": self._image.product}
        for name, path in disks.items():
            file = {"driver": "file", "filename": str(path), "locking": "off"}
            words += _disk(name, {"driver": "raw", "read-only": True, "file": file})
        return words + _disk("state", {"driver": "qcow2", "file": {"driver": "file", "filename": str(self.disk)}})

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise GuestError("the machine is off")
        return self._process

    def _wait_while(self, status: str) -> None:
        deadline = time.monotonic() + 60
        while self.qmp("query-status")["status"] == status:
            if time.monotonic() > deadline:
                raise GuestError(f"it stays {status}")
            time.sleep(0.02)

    def _wait_for_hand(self) -> None:
        deadline = time.monotonic() + _BOOT_SECONDS
        while True:
            try:
                # What is said before the guest listens is lost.
                self._hand.ask({"get": "/etc/hostname"}, 1)
            except ConversationEnded:
                if self._running().poll() is not None or time.monotonic() > deadline:
                    raise GuestError(f"the guest does not answer: {self.console[-3000:]}") from None
            else:
                return

    def _ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        try:
            return self._hand.ask(request, seconds)
        except (ConversationEnded, OSError) as error:
            raise GuestError(f"the guest does not answer ({error}): {self.console[-3000:]}") from error

    def _done(self, request: dict[str, Any]) -> bytes:
        answer = self._ask(request, 120)
        if answer["status"] != 0:
            raise GuestError(base64.b64decode(answer["errors"]).decode())
        return base64.b64decode(answer["output"])


def _disk(name: str, node: dict[str, Any]) -> list[str]:
    blockdev = json.dumps({"node-name": name, **node})
    return ["-blockdev", blockdev, "-device", f"virtio-blk-pci,drive={name},serial={name}"]


def _layer_above(base: Path, disk: Path) -> None:
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base.resolve()), str(disk)]
    subprocess.run(words, check=True)
