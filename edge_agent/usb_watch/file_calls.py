"""Every call that is made on a medium's files, behind one seam: tests let any of them fail, tear or find nothing."""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

_NO_SUCH_THING: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EACCES})
"""What is not there, or a link, a device or a socket where a file was looked for. A device on a medium that is mounted
nodev answers EACCES; so does, on ext4, what only another user may read: it is not for us, and no fault of the medium.
"""


class FileCalls(Protocol):
    """Raises OSError. Names are those within an open folder; descriptors are the calls' own."""

    def open_root(self, path: Path) -> int:
        """Open the folder where the medium is mounted."""
        ...

    def open(self, folder: int, name: str, *, is_folder: bool) -> int | None:
        """Open for reading what is no link; None when there is nothing of that name and kind."""
        ...

    def create(self, folder: int, name: str) -> int:
        """Open a new, empty file for writing; one of that name is emptied, unless it is a link."""
        ...

    def make_folder(self, folder: int, name: str) -> bool:
        """Make a folder; False when there is something of that name."""
        ...

    def names(self, folder: int, names_max: int) -> list[str]:
        """Return the names in a folder, no more than so many."""
        ...

    def status(self, descriptor: int) -> os.stat_result: ...

    def read(self, descriptor: int, size: int) -> bytes:
        """Return up to `size` bytes from the beginning; fewer only at the end of the file."""
        ...

    def write(self, descriptor: int, data: bytes) -> None:
        """Write everything."""
        ...

    def sync(self, descriptor: int) -> None:
        """Return when the file or folder is durable."""
        ...

    def sync_file_system(self, descriptor: int) -> None:
        """Return when everything on its file system is durable."""
        ...

    def rename(self, folder: int, name: str, new_name: str) -> None: ...

    def remove(self, folder: int, name: str) -> None:
        """Remove a file; nothing happens when there is none."""
        ...

    def free_bytes(self, path: Path) -> int: ...

    def close(self, descriptor: int) -> None: ...


class SystemFileCalls:
    """The machine's own calls."""

    def open_root(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def open(self, folder: int, name: str, *, is_folder: bool) -> int | None:
        # Without O_NONBLOCK, a pipe on the medium would keep us waiting for ever.
        kind = os.O_DIRECTORY if is_folder else os.O_NONBLOCK | os.O_NOCTTY
        try:
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=folder)
        except OSError as error:
            if error.errno in _NO_SUCH_THING:
                return None
            raise

    def create(self, folder: int, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, _FILE_MODE, dir_fd=folder)
        _allow_reading(descriptor, _FILE_MODE)
        return descriptor

    def make_folder(self, folder: int, name: str) -> bool:
        try:
            os.mkdir(name, _FOLDER_MODE, dir_fd=folder)
        except FileExistsError:
            return False
        descriptor = self.open(folder, name, is_folder=True)
        if descriptor is not None:
            _allow_reading(descriptor, _FOLDER_MODE)
            os.close(descriptor)
        return True

    def names(self, folder: int, names_max: int) -> list[str]:
        with os.scandir(folder) as entries:
            return [entry.name for entry in islice(entries, max(0, names_max))]

    def status(self, descriptor: int) -> os.stat_result:
        return os.fstat(descriptor)

    def read(self, descriptor: int, size: int) -> bytes:
        parts = []
        offset = 0
        while offset < size and (part := os.pread(descriptor, size - offset, offset)):
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def write(self, descriptor: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def sync_file_system(self, descriptor: int) -> None:
        # Python has no syncfs(2) of its own.
        if _LIBC.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def rename(self, folder: int, name: str, new_name: str) -> None:
        os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=folder)

    def remove(self, folder: int, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)

    def free_bytes(self, path: Path) -> int:
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize

    def close(self, descriptor: int) -> None:
        os.close(descriptor)


# On ext4 a medium keeps who owns what, and the next machine's daemon is another user. Everything is sealed and signed,
# so that all may read it.
_FILE_MODE: Final = 0o644
_FOLDER_MODE: Final = 0o755


def _allow_reading(descriptor: int, mode: int) -> None:
    """Undo the service's umask; vfat and exfat, where the mount says who may what, refuse."""
    with suppress(PermissionError):
        os.fchmod(descriptor, mode)


_LIBC: Final = ctypes.CDLL(None, use_errno=True)
SYSTEM_CALLS: Final[FileCalls] = SystemFileCalls()
