"""Commands `media enrol` and `media write`: what is done to a stick itself, or to a folder that stands for one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from central_broker.authority import AuthorityRecord
from central_broker.commands.context import CenterContext, find_medium, json_option, now, pass_center
from central_broker.commands.medium_documents import document
from central_broker.commands.refusals import or_fail
from central_broker.media import MediumWords, enrol_medium, medium_identity
from central_broker.medium_device import mounted
from central_broker.medium_folder import MediumFolderError, device_folders, medium_at, write_identity_file
from central_broker.storage.inquiry_records import MediumRecord
from operations.console import fail, print_json, print_line
from operations.last_day import expires_option
from operations.stick_check import internal_option, need_capacity, need_stick
from sync_protocol.domains import NAME_BYTES
from sync_protocol.identity import Standing

_TAKE_OUT: Final = {True: "Unmount the stick", False: "Take the stick out"}

_device_option = click.option(
    "--device",
    type=click.Path(path_type=Path, resolve_path=True),
    help="The stick's partition, such as /dev/sdb1, not mounted: lsblk shows it. As root.",
)
_out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Instead: the root of a mounted stick, or any folder; CENSUS/MEDIUM.CNS is written below it.",
)
_replace_option = click.option("--replace", is_flag=True, help="Overwrite the identity of another medium.")


@click.command(
    name="enrol",
    epilog="""\b
Examples:
  sudo central-broker media enrol --number 0017 --holder "A. Akhmetova" --device /dev/sdb1
  central-broker media enrol --number 0018 --holder "A. Akhmetova" --expires 2026-11-30
  central-broker media write 0018 --out /media/stick        what the second one still needs
""",
)
@click.option("--number", required=True, help="The inventory number, as it is written on the stick.")
@click.option("--holder", required=True, help="The employee of the Department who answers for it.")
@expires_option
@_device_option
@internal_option
@_out_option
@_replace_option
@json_option
@pass_center
def media_enrol(
    center: CenterContext,
    *,
    number: str,
    holder: str,
    expires: int | None,
    device: Path | None,
    internal: bool,
    out: Path | None,
    replace: bool,
    as_json: bool,
) -> None:
    """Certify a new stick and write its identity onto it.

    With --device its capacity is checked first: sticks of fake size are sold everywhere, and lose what is written
    beyond their real end. What is on the stick stays. Number and holder can be read by whoever finds it.
    """
    stick = _stick(device, out, internal=internal)
    before = None
    if stick is not None:
        before = stick.look(None, replace=replace)
        stick.check_capacity(quiet=as_json)
    files = center.files()
    with files.only_one(), center.storage() as storage:
        words = MediumWords(number, holder, Standing.ACTIVE, expires or 0)
        signer = files.issuing_key()
        name = os.urandom(NAME_BYTES)
        record = or_fail(enrol_medium(name, words, storage=storage, signer=signer, now=now()))
        known = None if before is None else storage.medium(before)
        path = None if stick is None else stick.write(record, files.authority())
    if as_json:
        print_json({**document(record), "file": path, "replaced": before})
        return
    print_line(f"Medium {record.number} is enrolled: {record.medium.hex()}")
    if before is not None:
        said = before.hex() if known is None else f"{known.number} ({before.hex()})"
        print_line(
            f"It was the medium {said}. If that is no more: central-broker media standing {before.hex()} returned"
        )
    if path is None:
        print_line(f"Now write it onto the stick: central-broker media write {record.medium.hex()} --out FOLDER")
    else:
        print_line(f"Written: {path}. {_TAKE_OUT[device is None]}, and write the number {record.number} on it.")


@click.command(
    name="write",
    epilog="""\b
Examples:
  central-broker media write 0017 --out /media/stick
""",
)
@click.argument("medium")
@_device_option
@internal_option
@_out_option
@_replace_option
@json_option
@pass_center
def media_write(
    center: CenterContext,
    *,
    medium: str,
    device: Path | None,
    internal: bool,
    out: Path | None,
    replace: bool,
    as_json: bool,
) -> None:
    """Write the identity of MEDIUM onto its stick, again or for the first time."""
    stick = _stick(device, out, internal=internal) or fail("which stick?", "name it with --device, or --out")
    with center.storage() as storage:
        record = find_medium(storage, medium)
    stick.look(record.medium, replace=replace)
    path = stick.write(record, center.files().authority())
    if as_json:
        print_json({"medium": record.medium, "number": record.number, "file": path})
        return
    print_line(f"Written: {path}. {_TAKE_OUT[device is None]}.")
    if record.standing is not Standing.ACTIVE:
        print_line(f"Tablets do not write to it: medium {record.number} is {record.standing.name.lower()}.")


@dataclass(frozen=True)
class _Stick:
    """A device that is mounted for each step, or a folder. Every method ends the command when it fails."""

    device: Path | None
    folder: Path | None
    internal: bool

    def look(self, medium: bytes | None, *, replace: bool) -> bytes | None:
        """Return the other medium that it is already; fails unless that may be overwritten."""
        with self._root(writable=False) as root:
            before = medium_at(root)
        if before is None or before == medium:
            return None
        if not replace:
            fail(
                f"{self._name} is the medium {before.hex()} already",
                f"central-broker media show {before.hex()} tells which; --replace makes it another one",
            )
        return before

    def check_capacity(self, *, quiet: bool) -> None:
        """Check it, if it is a device. Pulled out meanwhile, it would lose some of what is on it: it has to be new."""
        if self.device is None:
            return
        with self._root(writable=False) as root:
            left_there = device_folders(root)
        if left_there:
            fail(
                f"{left_there} devices have left questionnaires on it",
                "have a collection point take them in first: plug it in there. Then format it",
            )
        need_capacity(self.device, internal=self.internal, quiet=quiet)

    def write(self, record: MediumRecord, authority: AuthorityRecord) -> Path:
        """Write the medium's identity; return the file's path."""
        data = or_fail(medium_identity(record, authority))
        again = f"central-broker media write {record.medium.hex()} {self._option}"
        with self._root(writable=True) as root:
            try:
                return write_identity_file(root, data)
            except OSError as error:
                fail(
                    f"{self._name} cannot be written: {error.strerror}",
                    f"free space or take another stick, then: {again}",
                )

    @contextmanager
    def _root(self, *, writable: bool) -> Iterator[Path]:
        try:
            if self.folder is not None:
                yield self.folder
            elif self.device is not None:
                with mounted(self.device, writable=writable) as root:
                    yield root
        except MediumFolderError as error:
            fail(error.problem, error.remedy)

    @property
    def _name(self) -> str:
        return str(self.device or self.folder)

    @property
    def _option(self) -> str:
        return f"--device {self.device}" if self.device is not None else "--out FOLDER"


def _stick(device: Path | None, folder: Path | None, *, internal: bool) -> _Stick | None:
    if device is not None and folder is not None:
        fail("--device and --out are two places", "give one of them")
    if device is not None:
        need_stick(device, internal=internal)
    return None if device is folder is None else _Stick(device, folder, internal)
