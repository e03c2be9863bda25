"""The files of one mounted medium, as far as they are ours: listing, reading, leaving and taking away.

    CENSUS/MEDIUM.CNS                       who the medium is (SPEC.md §8)
    CENSUS/<device, 32 hex digits>/         one folder for each device that leaves something
        <visit, 16 hex digits>-<number>.CNS     a bundle, complete and durable
        <…>.CNS.PART                            one that was being written when the medium was pulled out

A medium comes from strangers. So every name is matched against these patterns, nothing is opened through a link or
on another file system, only plain files are read, and everything is bounded. All calls block; use a thread.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from edge_agent.usb_watch.file_calls import SYSTEM_CALLS, FileCalls
from sync_protocol.limits import MEDIUM_BUNDLE_BYTES_MAX, MEDIUM_IDENTITY_BYTES_MAX
from sync_protocol.medium import MEDIUM_FILE, MEDIUM_FOLDER

_DEVICE_FOLDER: Final = re.compile(r"[0-9a-f]{32}")
_PART: Final = ".PART"
_BUNDLE_FILE: Final = re.compile(r"[0-9a-f]{16}-[0-9]{5}\.CNS(\.PART)?")

ENTRIES_MAX: Final = 50_000
"""Names looked at in one visit: a district's month is a few thousand files."""

RESERVE_BYTES: Final = 256 * 1024
"""Left free, for the folders and tables that a file system makes on the way."""


class FaultKind(Enum):
    """What a medium that fails us looks like from here."""

    GONE = "gone"
    FULL = "full"
    READ_ONLY = "read-only"
    UNREADABLE = "unreadable"
    ODD = "odd"
    """What has the name of a bundle is none, or may not be opened; the medium itself did not fail."""


class VolumeFault(Exception):
    """A call on the medium failed."""

    def __init__(self, kind: FaultKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass(frozen=True)
class BundleFile:
    """One complete file of a device's folder."""

    device: str
    name: str


@dataclass(frozen=True)
class Listing:
    """What lies on a medium. `parts` are unfinished files of one's own; `foreign` counts what matches no pattern."""

    files: tuple[BundleFile, ...]
    parts: tuple[str, ...]
    foreign: int
    is_whole: bool
    """False when there was more than ENTRIES_MAX."""


class Volume:
    """See the module; raises VolumeFault. `device` is this device's name (32 hex digits)."""

    def __init__(self, root: Path, device: str, calls: FileCalls = SYSTEM_CALLS) -> None:
        self._root = root
        self._device = device
        self._calls = calls

    def identity(self) -> bytes | None:
        """Return the identity file's bytes; None when the medium has none that could be one."""
        with _faults(), self._folders(MEDIUM_FOLDER) as folder:
            if folder is None:
                return None
            return self._read(folder, MEDIUM_FILE, MEDIUM_IDENTITY_BYTES_MAX)

    def listing(self) -> Listing:
        """List the bundles of all devices in the order of their names, this device's own first: if there is more than a
        visit can look at, these matter most.
        """
        left = ENTRIES_MAX
        foreign = 0
        with _faults(), self._folders(MEDIUM_FOLDER) as census:
            # One's own is looked for by its name: among names without end it may be the last.
            folders = {self._device: self._names_in(self._device, left)}
            left -= len(folders[self._device])
            names = [] if census is None else self._calls.names(census, left)
            left -= len(names)
            devices = {name for name in names if _DEVICE_FOLDER.fullmatch(name)}
            foreign += len(names) - len(devices) - names.count(MEDIUM_FILE)
            for device in sorted(devices - {self._device}):
                folders[device] = self._names_in(device, left)
                left -= len(folders[device])
        ours = {device: sorted(filter(_BUNDLE_FILE.fullmatch, found)) for device, found in folders.items()}
        foreign += sum(len(folders[device]) - len(names) for device, names in ours.items())
        files = [(device, name) for device, names in ours.items() for name in names if not name.endswith(_PART)]
        parts = [name for name in ours[self._device] if name.endswith(_PART)]
        return Listing(tuple(BundleFile(*file) for file in files), tuple(parts), foreign, is_whole=left > 0)

    def read(self, file: BundleFile) -> bytes:
        """Return a file's bytes; raises VolumeFault (odd) for what is no plain file of a bundle's size."""
        with _faults(), self._folders(MEDIUM_FOLDER, file.device) as folder:
            data = None if folder is None else self._read(folder, file.name, MEDIUM_BUNDLE_BYTES_MAX)
        if data is None:
            raise VolumeFault(FaultKind.ODD, f"{file.device}/{file.name} is no file that could be a bundle")
        return data

    def write(self, name: str, data: bytes) -> BundleFile:
        """Leave a file in this device's folder; on return it is as durable as the medium's own word.

        The order was measured on vfat: a rename loses the content of a file that was synced only before it.
        """
        self._leave((MEDIUM_FOLDER, self._device), name, data)
        return BundleFile(self._device, name)

    def write_identity(self, data: bytes) -> None:
        """Say who the medium is, in the place of what it said before."""
        with _faults(), self._folders(MEDIUM_FOLDER) as folder:
            if folder is not None:
                # On vfat, a file that is renamed over another one may lose its content.
                self._calls.remove(folder, MEDIUM_FILE)
                self._calls.sync(folder)
        self._leave((MEDIUM_FOLDER,), MEDIUM_FILE, data)

    def remove(self, name: str) -> None:
        """Take a file of this device's own folder away; one that is not there any more is as good."""
        with _faults(), self._folders(MEDIUM_FOLDER, self._device) as folder:
            if folder is not None:
                self._calls.remove(folder, name)

    def sync(self) -> None:
        """Return when the whole file system is on the medium, by its own word."""
        with _faults(), self._folders() as root:
            if root is not None:
                self._calls.sync(root)
                self._calls.sync_file_system(root)

    def _leave(self, folders: Sequence[str], name: str, data: bytes) -> None:
        with _faults():
            if len(data) + RESERVE_BYTES > self._calls.free_bytes(self._root):
                raise VolumeFault(FaultKind.FULL, "the medium is full")
            with self._folders(*folders, make=True) as folder:
                if folder is None:
                    raise VolumeFault(FaultKind.UNREADABLE, f"{MEDIUM_FOLDER} on the medium is no folder")
                descriptor = self._calls.create(folder, name + _PART)
                try:
                    self._calls.write(descriptor, data)
                    self._calls.sync(descriptor)
                    self._calls.rename(folder, name + _PART, name)
                    self._calls.sync(folder)
                    self._calls.sync(descriptor)
                finally:
                    self._calls.close(descriptor)

    def _names_in(self, device: str, names_max: int) -> list[str]:
        with self._folders(MEDIUM_FOLDER, device) as folder:
            return [] if folder is None else self._calls.names(folder, names_max)

    @contextmanager
    def _folders(self, *path: str, make: bool = False) -> Iterator[int | None]:
        """Open a folder below the root, each step by itself; None when a step is not a folder of this file system."""
        descriptor = self._calls.open_root(self._root)
        try:
            home = self._calls.status(descriptor).st_dev
            for name in path:
                if make and self._calls.make_folder(descriptor, name):
                    self._calls.sync(descriptor)
                following = self._calls.open(descriptor, name, is_folder=True)
                if following is None:
                    break
                self._calls.close(descriptor)
                descriptor = following
                if self._calls.status(descriptor).st_dev != home:
                    following = None
                    break
            else:
                following = descriptor
            yield following
        finally:
            self._calls.close(descriptor)

    def _read(self, folder: int, name: str, bytes_max: int) -> bytes | None:
        descriptor = self._calls.open(folder, name, is_folder=False)
        if descriptor is None:
            return None
        try:
            status = self._calls.status(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > bytes_max:
                return None
            # A file may grow while it is read; what comes beyond its size at first is not looked at.
            return self._calls.read(descriptor, status.st_size)
        finally:
            self._calls.close(descriptor)


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_UNREADABLE: Final = frozenset({errno.EIO, errno.EUCLEAN, errno.EILSEQ, errno.EINVAL, errno.EFBIG, errno.EOVERFLOW})


@contextmanager
def _faults() -> Iterator[None]:
    """Turn the system's refusals into what they mean; whatever is not known means that the medium is gone."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            kind = FaultKind.FULL
        elif error.errno in _READ_ONLY:
            kind = FaultKind.READ_ONLY
        elif error.errno in _UNREADABLE:
            kind = FaultKind.UNREADABLE
        else:
            kind = FaultKind.GONE
        raise VolumeFault(kind, os.strerror(error.errno or 0)) from error
