"""A stick whose electronics misbehave: its blocks are served to QEMU by this process, over a unix socket.

Source followed: the NBD protocol (NetworkBlockDevice/nbd, doc/proto.md), fixed newstyle negotiation, simple replies.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol, Self

_OPTION_MAGIC: Final = b"IHAVEOPT"
_OPTION_EXPORT_NAME, _OPTION_ABORT, _OPTION_GO = 1, 2, 7
_REPLY_MAGIC: Final = 0x3E889045565A9
_REPLY_ACKNOWLEDGED, _REPLY_INFORMATION, _REPLY_UNSUPPORTED = 1, 3, (1 << 31) + 1
_FLAGS: Final = 0b101
"""The flags are there; a flush can be asked for."""
_READ, _WRITE, _DISCONNECT, _FLUSH = range(4)
_REQUEST: Final = struct.Struct(">IHHQQI")
_ANSWER: Final = struct.Struct(">IIQ")


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def write(self, data: bytes, /) -> int: ...
    def flush(self) -> None: ...


class StickServer:
    """Serves one image to one machine at a time; a context manager. What is set, holds from the next request on."""

    def __init__(self, image: Path) -> None:
        self._file = image.open("r+b", buffering=0)
        self._size = image.stat().st_size
        self.fails_to_read = False
        self.fails_to_write = False
        self.true_size: int | None = None
        """Beyond this it forgets what it was given, and says that all is well: a stick sold as larger than it is."""
        self.wraps_around = False
        """Instead of forgetting it, it writes over what lies at its beginning; and reads from there."""
        self.forgotten_bytes = 0
        self._folder = tempfile.TemporaryDirectory(prefix="stick-")
        self.path = Path(self._folder.name, "socket")

    def __enter__(self) -> Self:
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(self.path))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        self._folder.cleanup()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream:
            try:
                stream.write(b"NBDMAGIC" + _OPTION_MAGIC + struct.pack(">H", 3))
                stream.flush()
                stream.read(4)
                if self._negotiate(stream):
                    while self._serve(stream):
                        stream.flush()
            except (OSError, struct.error, ValueError):
                # The machine was switched off.
                return

    def _negotiate(self, stream: _Stream) -> bool:
        while True:
            _, option, length = struct.unpack(">8sII", stream.read(16))
            stream.read(length)
            if option == _OPTION_GO:
                information = struct.pack(">HQH", 0, self._size, _FLAGS)
                stream.write(_reply(option, _REPLY_INFORMATION, information) + _reply(option, _REPLY_ACKNOWLEDGED))
            elif option in (_OPTION_EXPORT_NAME, _OPTION_ABORT):
                return False
            else:
                stream.write(_reply(option, _REPLY_UNSUPPORTED))
            stream.flush()
            if option == _OPTION_GO:
                return True

    def _serve(self, stream: _Stream) -> bool:
        _, _, kind, cookie, offset, length = _REQUEST.unpack(stream.read(_REQUEST.size))
        if kind == _DISCONNECT:
            return False
        error, answer = 0, b""
        if kind == _WRITE:
            data = stream.read(length)
            error = errno.EIO if self.fails_to_write else self._write(offset, data)
        elif kind == _READ:
            error = errno.EIO if self.fails_to_read else 0
            answer = b"" if error else self._read(offset, length)
        elif kind != _FLUSH:
            error = errno.EINVAL
        stream.write(_ANSWER.pack(0x67446698, error, cookie) + answer)
        return True

    def _read(self, offset: int, length: int) -> bytes:
        if self.true_size is None or not self.wraps_around:
            return os.pread(self._file.fileno(), length, offset)
        return b"".join(os.pread(self._file.fileno(), size, place) for place, size in self._places(offset, length))

    def _places(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield where a run of bytes really lies, and how much of it lies there."""
        true_size = self.true_size or self._size
        while length > 0:
            place = offset % true_size
            size = min(length, true_size - place)
            yield place, size
            offset, length = offset + size, length - size

    def _write(self, offset: int, data: bytes) -> int:
        if self.wraps_around:
            for place, size in self._places(offset, len(data)):
                os.pwrite(self._file.fileno(), data[:size], place)
                data = data[size:]
            return 0
        kept = len(data) if self.true_size is None else max(0, min(len(data), self.true_size - offset))
        self.forgotten_bytes += len(data) - kept
        os.pwrite(self._file.fileno(), data[:kept], offset)
        return 0


def _reply(option: int, kind: int, data: bytes = b"") -> bytes:
    return struct.pack(">QIII", _REPLY_MAGIC, option, kind, len(data)) + data
