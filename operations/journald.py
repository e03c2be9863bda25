"""journald's native datagram protocol: fields in, one datagram out, never blocking and never failing the caller.

Source followed: systemd's "Native Journal Protocol" and the description of $JOURNAL_STREAM in systemd.exec(5).
"""

import array
import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Mapping
from enum import Enum

JOURNAL_SOCKET = "/run/systemd/journal/socket"
FIELD_NAME_CHARACTERS_MAX = 64  # journald drops fields with longer names
RECORD_BYTES_MAX = 4 * 1024 * 1024  # sinks cut every field; a record beyond this is a mistake and not worth memory

_NOT_A_FIELD_CHARACTER = re.compile("[^A-Z0-9_]")


class Delivery(Enum):
    """What became of one record."""

    SENT = "sent"
    CONGESTED = "congested"  # journald is there and does not read: waiting for it would stop the daemon
    UNREACHABLE = "unreachable"  # no journald, or it has gone away


def is_journal_stream(journal_stream: str | None, file_descriptor: int) -> bool:
    """Whether the descriptor is the very stream that systemd connected to the journal ($JOURNAL_STREAM, dev:inode).

    A mere $JOURNAL_STREAM is not enough: a child whose output was redirected inherits the variable.
    """
    device, colon, inode = (journal_stream or "").partition(":")
    if not (colon and device.isdecimal() and inode.isdecimal()):
        return False
    try:
        status = os.fstat(file_descriptor)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (int(device), int(inode))


def field_name(name: str) -> str:
    """The name as journald accepts it: A-Z, 0-9 and _, at most 64 characters."""
    return _NOT_A_FIELD_CHARACTER.sub("_", name.upper())[:FIELD_NAME_CHARACTERS_MAX]


def encode_record(fields: Mapping[str, str]) -> bytes:
    """The datagram: NAME=value lines; a value with a newline goes with its length in front (64 bits, little endian)."""
    parts: list[bytes] = []
    for name, value in fields.items():
        data = value.encode("utf-8", "backslashreplace")
        if b"\n" in data:
            parts.append(name.encode("ascii") + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode("ascii") + b"=" + data + b"\n")
    return b"".join(parts)


class JournalSocket:
    """Sends records to journald. Reconnects by itself: each record names the socket anew, so a restart goes unseen."""

    def __init__(self, path: str = JOURNAL_SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def send(self, fields: Mapping[str, str]) -> Delivery:
        """One record. Never raises and never waits."""
        record = encode_record(fields)
        try:
            return self._send_record(record)
        except BlockingIOError:
            return Delivery.CONGESTED
        except OSError:
            return Delivery.UNREACHABLE

    def _send_record(self, record: bytes) -> Delivery:
        try:
            self._socket.sendto(record, self._path)
        except OSError as error:
            # A datagram larger than the socket's buffer goes as a sealed memory file, which journald reads instead.
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS) or len(record) > RECORD_BYTES_MAX:
                raise
            self._send_in_memory_file(record)
        return Delivery.SENT

    def _send_in_memory_file(self, record: bytes) -> None:
        descriptor = os.memfd_create("journal-record", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            view = memoryview(record)
            while view:
                view = view[os.write(descriptor, view) :]
            fcntl.fcntl(
                descriptor,
                fcntl.F_ADD_SEALS,
                fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL,
            )
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
            self._socket.sendmsg([], [rights], 0, self._path)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Closes the socket; a later send reports UNREACHABLE."""
        self._socket.close()
