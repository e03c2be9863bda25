"""`edge-agent media check` and `media enrol`: new sticks, at a Department laptop. Both work on the device, as root.

| step of enrolling | when it fails |
|---|---|
| the daemon certifies the medium | nothing has happened |
| what is on it is looked at | nothing has happened |
| its capacity is checked | what was on it is put back |
| its identity is written and read back | it may be enrolled again, under the same number |
| the daemon takes note of it, for the center | any collection point does, when it meets the medium |
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import click

from edge_agent.commands.context import ask_daemon, configured, json_option
from edge_agent.control import MEDIUM_CERTIFY, MEDIUM_RECORD
from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.mounting import Mounted, MountRefused, Unmounted
from edge_agent.usb_watch.system_mounting import SystemMounting
from edge_agent.usb_watch.volume import Volume, VolumeFault
from operations.block_storage import drive_of
from operations.console import fail, print_json, print_line
from operations.last_day import expires_option
from operations.stick_check import gigabytes, internal_option, need_capacity, need_stick
from sync_protocol.errors import ProtocolError
from sync_protocol.medium import MEDIUM_FOLDER, read_medium_certificate, read_medium_identity

_NO_FILE_SYSTEM: Final = 2
"""Exit status of blkid."""

_DEVICE: Final = click.Path(path_type=Path, resolve_path=True)

Result = TypeVar("Result")


@click.command(
    "check",
    epilog="""\b
Example:
  sudo edge-agent media check /dev/sdb1
""",
)
@click.argument("device", type=_DEVICE)
@internal_option
@json_option
def check_command(device: Path, *, internal: bool, as_json: bool) -> None:
    """Find out whether DEVICE has the room that it claims. What is on it stays, unless it is pulled out meanwhile.

    Sticks of fake size are sold everywhere: what is written beyond their real end is lost. The check takes up to two
    minutes on a slow stick. DEVICE is a partition (lsblk shows it) and must not be mounted.
    """
    need_stick(device, internal=internal)
    size_bytes = need_capacity(device, internal=internal, quiet=as_json)
    if as_json:
        print_json({"device": device, "genuine": True, "capacity_bytes": size_bytes})
    else:
        print_line(f"{device} has the {gigabytes(size_bytes)} that it claims.")


@click.command(
    "enrol",
    epilog="""\b
Example:
  sudo edge-agent media enrol /dev/sdb1 --number 0017 --holder "A. Akhmetova"
""",
)
@click.argument("device", type=_DEVICE)
@click.option("--number", required=True, help="The inventory number, as it is written on the stick.")
@click.option("--holder", required=True, help="The employee of the Department who answers for it.")
@expires_option
@click.option("--replace", is_flag=True, help="It was another medium before; that one is no more.")
@internal_option
@json_option
@click.pass_context
def enrol_command(
    context: click.Context,
    *,
    device: Path,
    number: str,
    holder: str,
    expires: int | None,
    replace: bool,
    internal: bool,
    as_json: bool,
) -> None:
    """Check a new stick and make it one of the Department's, on a laptop that the authority has delegated.

    Tablets write to it from now on, and the center hears of it as soon as this laptop has a link. Number and holder can
    be read by whoever finds the stick. Other files on it are left alone. DEVICE is its partition, such as /dev/sdb1,
    formatted with vfat, exfat or ext4, and not mounted; `lsblk` shows it.
    """
    need_stick(device, internal=internal)
    configuration = configured(context)
    words = {"number": number, "holder": holder, **({"expires_at": expires} if expires else {})}
    no_daemon = ("the daemon does not run, and only it can certify", "start it: systemctl start edge-agent")
    certified = ask_daemon(configuration, {"request": MEDIUM_CERTIFY, **words}) or fail(*no_daemon)
    identity = bytes.fromhex(certified["identity"])
    with _mount_points() as places:
        stick = _Stick(device, SystemMounting(places))
        before = stick.look(replace=replace)
        need_capacity(device, internal=internal, quiet=as_json)
        stick.write(identity)
    ask_daemon(configuration, {"request": MEDIUM_RECORD, "identity": identity.hex()}) or fail(*no_daemon)
    if as_json:
        print_json({"device": device, "medium": certified["medium"], "number": number, "replaced": before})
        return
    print_line(f"Medium {number} is enrolled: {certified['medium']}")
    if before is not None:
        print_line(f"It was the medium {before}. Tell the center that this one is no more.")
    print_line(f"Take the stick out, and write the number {number} on it.")


@contextmanager
def _mount_points() -> Iterator[Path]:
    """A folder of our own, which only goes when it is empty: never with something that is still mounted in it."""
    places = Path(tempfile.mkdtemp(prefix="edge-agent-"))
    try:
        yield places
    finally:
        with suppress(OSError):
            places.rmdir()


class _Stick:
    """The file system on a device, mounted for each step anew. Every method ends the command when it fails."""

    def __init__(self, device: Path, mounting: SystemMounting) -> None:
        self._mounting = mounting
        self._device = BlockDevice(str(device), drive_of(device), _file_system_of(device), 0, is_write_protected=False)

    def look(self, *, replace: bool) -> str | None:
        """Return the name of the medium that it is already; end the command unless that may be overwritten."""
        identity, listing = self._on_volume(lambda volume: (volume.identity(), volume.listing()), writable=False)
        if listing.files:
            fail(
                f"there are {len(listing.files)} files of devices on it",
                "have a collection point take them in first: plug it in there. Then format it",
            )
        if identity is None:
            return None
        try:
            certificate = read_medium_certificate(read_medium_identity(identity).certificate)
        except ProtocolError:
            return None  # says nothing to anybody
        if not replace:
            fail(
                f"it is a medium already: number {certificate.number}, held by {certificate.holder}",
                "if that one is no more, --replace makes it another one",
            )
        return certificate.medium.hex()

    def write(self, identity: bytes) -> None:
        """Write the identity, and read it back from the medium itself."""

        def write(volume: Volume) -> None:
            volume.write_identity(identity)
            volume.sync()

        self._on_volume(write, writable=True)
        if self._on_volume(lambda volume: volume.identity(), writable=False) != identity:
            fail(f"{self._device.node} does not read back as it was written", "it is worn: take another one")
        self._mounting.power_off(self._device)

    def _on_volume(self, work: Callable[[Volume], Result], *, writable: bool) -> Result:
        with self._mounted(writable=writable) as mounted:
            try:
                result = work(Volume(mounted.path, ""))
                if writable and self._device.file_system == "ext4":
                    # There, who made a folder owns it; every device's daemon is to make one in it.
                    mounted.path.joinpath(MEDIUM_FOLDER).chmod(0o1777)
            except VolumeFault as fault:
                fail(f"{self._device.node}: {fault}", "free some space on it, unlock it, or take another stick")
        return result

    @contextmanager
    def _mounted(self, *, writable: bool) -> Iterator[Mounted]:
        mounted = self._mounting.mount(self._device, writable=writable)
        if isinstance(mounted, MountRefused):
            fail(f"{self._device.node} cannot be mounted: {mounted.detail}", mounted.sentence)
        try:
            yield mounted
        finally:
            outcome = mounted.unmount()
        if not isinstance(outcome, Unmounted):
            fail(f"{self._device.node} cannot be unmounted: {outcome.detail}", outcome.sentence)


def _file_system_of(device: Path) -> str:
    words = ["blkid", "--probe", "--output", "value", "--match-tag", "TYPE", str(device)]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        fail(f"blkid cannot be run: {error.strerror}", "install util-linux")
    if answer.returncode == _NO_FILE_SYSTEM or not answer.stdout.strip():
        fail(f"there is no file system on {device}", f"make one: mkfs.exfat {device}")
    return answer.stdout.strip()
