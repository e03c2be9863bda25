"""The tablets and laptops that scenarios start from: each is made once, frozen, and shared by all test processes."""

from __future__ import annotations

import fcntl
import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sync_protocol.identity import Role
from sync_protocol.keys import VerifyingKey
from tests.support.protocol_examples import ROOT
from tests.vm.machine import Frozen, Image, Machine
from tests.vm.paper import enrolled, key_of, provisioning, questionnaires
from tests.vm.product import build_product
from tests.vm.stick import Content, Stick, make_stick
from tests.vm.tablet import Tablet

SMALL: Final = questionnaires("a day", 24, 3_000)
LARGE: Final = questionnaires("photographs", 3, 1_300_000)
"""With them there are some 3 MB to leave, in several files."""
FOREIGN: Final[Content] = {"Photos/IMG_0001.JPG": b"not ours" * 5_000, "letter.txt": "Құрметті әріптес".encode()}

_INSTALL: Final = """
set -e
# As scripts/install-venv and docs/installation.md have it.
systemd-sysusers /usr/local/lib/sysusers.d/census-*.conf
systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/census-*.conf
cp /usr/local/share/polkit-1/rules.d/50-edge-agent.rules /etc/polkit-1/rules.d/
systemctl daemon-reload
systemctl start udisks2
"""
_COMPILE: Final = """
test -e /opt/census-sync/lib/python3*/site-packages/edge_agent/__pycache__ || python3 -m compileall -q /opt/census-sync
"""
_CONFIGURATION: Final = (
    '[device]\ncounted_lists = false\n[broker]\naddress = "10.8.0.1"\n[intake]\ndefault_form = "household"\n'
)
_START: Final = """
set -e
mkdir -p /etc/edge-agent/provisioning
tar -C /etc/edge-agent/provisioning -x
chmod 0700 /etc/edge-agent/provisioning
chown -R edge-agent:edge-agent /etc/edge-agent/provisioning
systemctl enable --quiet --now edge-agent
"""
_FILL_STICK: Final = """
set -e
until test -b /dev/sda1; do sleep 0.1; done
udevadm settle
mount -t exfat /dev/sda1 /mnt
tar -C /mnt -x --no-same-owner
umount /mnt
"""


@dataclass(frozen=True)
class _Kind:
    """What a device of the fleet is, and what it has accepted."""

    role: Role
    accepted: list[bytes]
    made_from: str = "bare"


_KINDS: Final = {
    "tablet 17": _Kind(Role.TABLET, SMALL),
    "loaded tablet 17": _Kind(Role.TABLET, [*SMALL, *LARGE], made_from="tablet 17"),
    "tablet 18": _Kind(Role.TABLET, SMALL[:5]),
    "laptop 3": _Kind(Role.COLLECTION_POINT, []),
}


class Fleet:
    """See the module; `folder` is shared by all test processes, `image_folder` is what scripts/vm-image made."""

    def __init__(self, folder: Path, image_folder: Path) -> None:
        self._folder = folder
        self._image_folder = image_folder
        folder.mkdir(exist_ok=True)

    @contextmanager
    def awake(self, name: str, folder: Path) -> Iterator[Tablet]:
        """Wake a device up in `folder`; it is switched off in the end."""
        frozen = self._once(name, lambda made: self._make(name, made))
        with self._machine(folder).wake(_frozen_in(frozen)) as machine:
            tablet = Tablet(machine, self.key(name), list(_KINDS[name].accepted))
            tablet.main_process = int((frozen / "main-process").read_text())
            yield tablet

    def key(self, name: str) -> VerifyingKey:
        """Return the key of a device that was made."""
        return key_of(self._folder / name.removeprefix("loaded ") / "provisioning")

    def exfat_stick(self, name: str, folder: Path) -> Stick:
        """Return an enrolled exFAT stick with foreign files on it: they are written in a guest."""
        bare = self._once("bare", self._make_bare)
        return Stick("template", bare / "template.img", "exfat", 2048).copy(name, folder)

    # How each is made.

    def _make(self, name: str, folder: Path) -> None:
        kind = _KINDS[name]
        if kind.made_from != "bare":
            with self.awake(kind.made_from, folder / "machine") as tablet:
                tablet.submit(kind.accepted[len(tablet.accepted) :])
                self._freeze(tablet, folder)
            return
        bare = self._once("bare", self._make_bare)
        files = provisioning(folder, name, kind.role)
        with self._machine(folder / "machine").wake(_frozen_in(bare)) as machine:
            machine.put("/etc/edge-agent/edge-agent.toml", _CONFIGURATION)
            machine.run(_START, standard_input=_archive(files))
            tablet = Tablet(machine, key_of(files))
            tablet.submit(kind.accepted)
            tablet.remember_daemon()
            # By then the watch over media has found its way of mounting.
            tablet.wait(lambda: "udisksd" in machine.run("pgrep -l udisksd"), "UDisks2 runs")
            self._freeze(tablet, folder)

    def _freeze(self, tablet: Tablet, folder: Path) -> None:
        (folder / "main-process").write_text(str(tablet.main_process))
        tablet.machine.freeze(folder)

    def _make_bare(self, folder: Path) -> None:
        """Boot, and install what `make install-venv` installs; nobody is enrolled yet."""
        template = make_stick(folder, "template", "exfat")
        with self._machine(folder / "machine").boot() as machine:
            machine.run(_INSTALL)
            machine.run(_COMPILE, seconds=300)
            tablet = Tablet(machine, VerifyingKey(ROOT.public_bytes))
            tablet.plug(template)
            machine.run(_FILL_STICK, standard_input=_archive_of({**enrolled("0019"), **FOREIGN}))
            tablet.yank(template)
            machine.freeze(folder)

    def _machine(self, folder: Path) -> Machine:
        product = self._once("product", lambda made: build_product(made / "squashfs", self._image_folder))
        return Machine(folder, Image(self._image_folder, product / "squashfs"))

    def _once(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return a folder that one process makes while the others wait."""
        folder = self._folder / name
        with (self._folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "made").exists():
                folder.mkdir()
                make(folder)
                (folder / "made").touch()
        return folder


def _frozen_in(folder: Path) -> Frozen:
    return Frozen(folder / "memory", folder / "disk.qcow2")


def _archive(folder: Path) -> bytes:
    return _archive_of({path.name: path.read_bytes() for path in folder.iterdir()})


def _archive_of(content: Content) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o600
            tar.addfile(entry, io.BytesIO(data))
    return archive.getvalue()
