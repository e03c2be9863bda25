"""The daemon as a process of this machine: who it runs as, and what that user and that process may do."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.configuration import Configuration
from edge_agent.queue.intake.local_protocol import CONTROL_SOCKET_NAME
from edge_agent.usb_watch.mount_table import MountEntry, read_mount_table

READ: Final = 4
WRITE: Final = 2
PASS: Final = 1

_CREDENTIALS: Final = struct.Struct("3i")
_TIMEOUT_SECONDS: Final = 5


@dataclass(frozen=True)
class Account:
    """A user, with all of his groups."""

    name: str
    user_id: int
    group_ids: frozenset[int]

    def may(self, path: Path, wanted: int) -> bool:
        """Whether the modes of a file, and of the folders on the way to it, let him; raises OSError."""
        return self._may(path, wanted) and all(self._may(folder, PASS) for folder in path.parents)

    def _may(self, path: Path, wanted: int) -> bool:
        status = path.stat()
        if self.user_id == 0:
            return wanted != PASS or status.st_mode & 0o111 != 0
        if status.st_uid == self.user_id:
            granted = status.st_mode >> 6
        else:
            granted = status.st_mode >> 3 if status.st_gid in self.group_ids else status.st_mode
        return granted & wanted == wanted


def service_account(configuration: Configuration) -> Account | None:
    """Return whom the daemon runs as: the owner of its queue's folder; None while there is none."""
    try:
        entry = pwd.getpwuid(configuration.device.state_directory.stat().st_uid)
    except (OSError, KeyError):
        return None
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Account(entry.pw_name, entry.pw_uid, frozenset(groups))


def service_process(configuration: Configuration) -> int | None:
    """Return the running daemon's process, which the kernel tells of whoever listens; None when none can be asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_SECONDS)
        try:
            connection.connect(str(configuration.device.runtime_directory / CONTROL_SOCKET_NAME))
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
    process: int = _CREDENTIALS.unpack(credentials)[0]
    return process


def mount_seen_by(process: int, path: Path) -> MountEntry | None:
    """Return the mount that holds a path for a process, which may see others than we do; raises OSError."""
    return mount_holding(path.resolve(), read_mount_table(Path(f"/proc/{process}/mountinfo")))


def mount_holding(path: Path, mounts: list[MountEntry]) -> MountEntry | None:
    """Return the innermost mount on the way to a path, of several on one point the last."""
    found: MountEntry | None = None
    for entry in mounts:
        is_inner = found is None or len(entry.path.parts) >= len(found.path.parts)
        if path.is_relative_to(entry.path) and is_inner:
            found = entry
    return found
