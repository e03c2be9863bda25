"""The identity file on a mounted medium, or in a folder that will be copied to one. The medium may be anybody's."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from operations.durable_files import sync_directory, sync_file, write_durably
from sync_protocol.errors import ProtocolError
from sync_protocol.limits import MEDIUM_IDENTITY_BYTES_MAX
from sync_protocol.medium import MEDIUM_FILE, MEDIUM_FOLDER, MediumIdentity, read_medium_identity

_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class MediumFolderError(Exception):
    """The folder cannot be used; `remedy` says what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


def identity_path(root: Path) -> Path:
    """Where the identity of the medium mounted at `root` is."""
    return root / MEDIUM_FOLDER / MEDIUM_FILE


def read_identity_file(root: Path) -> MediumIdentity | None:
    """Return what the medium says of itself, unverified; None when there is no such file.

    Raises MediumFolderError for a file that is none, ProtocolError for one that says nothing, OSError.
    """
    path = identity_path(root)
    _refuse_link(path.parent)
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        return None
    except OSError:
        raise _odd(path) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _odd(path)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MEDIUM_IDENTITY_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    return read_medium_identity(data)


def medium_at(root: Path) -> bytes | None:
    """Return the name of the medium that the file claims; None when there is none, or when it names none."""
    try:
        identity = read_identity_file(root)
    except ProtocolError:
        return None
    return None if identity is None else identity.certificate.subject


def device_folders(root: Path) -> int:
    """Return how many devices have left something there."""
    folder = identity_path(root).parent
    _refuse_link(folder)
    return sum(one.is_dir() for one in folder.iterdir()) if folder.exists() else 0


def write_identity_file(root: Path, data: bytes) -> Path:
    """Write the file whole, and read it back. Raises MediumFolderError, OSError."""
    path = identity_path(root)
    _refuse_link(path.parent)
    path.parent.mkdir(exist_ok=True)
    sync_directory(root)
    # On vfat, a file that is renamed over another one may lose its content.
    path.unlink(missing_ok=True)
    sync_directory(path.parent)
    write_durably(path, data)
    sync_file(path)  # once more, under its final name: on vfat the rename loses the data otherwise
    if path.read_bytes() != data:
        raise MediumFolderError(f"{path} does not read back as it was written", "the medium is worn: take another one")
    return path


def _refuse_link(folder: Path) -> None:
    """A link on a medium would have us read or write elsewhere, as root."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise _odd(folder)


def _odd(path: Path) -> MediumFolderError:
    return MediumFolderError(f"{path} is not what it should be", "format the medium anew, or take another one")
