"""A file as slow as a stick: a FUSE server whose only file lies in memory and takes its time, for a loop device.

Throttling a device by cgroup gives credit for the time in which nothing is asked of it: our own work between two
writes would cost nothing. Here it does: one request at a time, and each takes a latency and then its bytes.
Source followed: linux/fuse.h, protocol 7.31.

Arguments of the program: the file to mount upon, and its size. It says "ready", is slow from SIGUSR1 to SIGUSR2, and
ends when it is unmounted.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import stat
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Final

from bench.ready_process import ReadyProcess

WRITE_BYTES_A_SECOND: Final = 10_000_000
READ_BYTES_A_SECOND: Final = 30_000_000
LATENCY_SECONDS: Final = 0.001
"""A plain USB 2.0 stick; its worst moments are far slower."""

_TRANSFER_BYTES_MAX: Final = 1 << 20
_PAGE_BYTES: Final = 4096
_REQUEST: Final = struct.Struct("<IIQQIIIHH")
_ANSWER: Final = struct.Struct("<IiQ")
_INIT_ANSWER: Final = struct.Struct("<IIIIHHIIHHI28x")
_ATTRIBUTES: Final = struct.Struct("<QIIQQQQQQIIIIIIIIII")
_OPENED: Final = struct.Struct("<QII")
_TRANSFER: Final = struct.Struct("<QQIIQII")
_WRITTEN: Final = struct.Struct("<II")
_BIG_WRITES_AND_MAX_PAGES: Final = 1 << 5 | 1 << 22
_DIRECT_IO: Final = 1
_MNT_DETACH: Final = 2
_PR_SET_PDEATHSIG: Final = 1


class _Asked(IntEnum):
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    OPEN = 14
    READ = 15
    WRITE = 16
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    INTERRUPT = 36


class SlowImage:
    """The one file, which is the root of its file system."""

    def __init__(self, size: int) -> None:
        self._data = mmap.mmap(-1, size)
        self._size = size
        self.is_slow = False

    def answer(self, asked: int, body: bytes) -> bytes | int:
        """Answer a request, in its own time; an int is an errno."""
        match asked:
            case _Asked.INIT:
                pages = _TRANSFER_BYTES_MAX // _PAGE_BYTES
                return _INIT_ANSWER.pack(7, 31, 0, _BIG_WRITES_AND_MAX_PAGES, 1, 1, _TRANSFER_BYTES_MAX, 1, pages, 0, 0)
            case _Asked.GETATTR | _Asked.SETATTR:
                return self._attributes()
            case _Asked.OPEN:
                return _OPENED.pack(0, _DIRECT_IO, 0)
            case _Asked.READ | _Asked.WRITE:
                return self._transfer(body, is_write=asked == _Asked.WRITE)
            case _Asked.RELEASE | _Asked.FSYNC | _Asked.FLUSH:
                return b""
        return errno.ENOSYS

    def _attributes(self) -> bytes:
        times = (0,) * 6
        mode = stat.S_IFREG | stat.S_IRUSR | stat.S_IWUSR
        blocks = self._size // 512
        return _ATTRIBUTES.pack(3600, 0, 0, 1, self._size, blocks, *times, mode, 1, 0, 0, 0, _PAGE_BYTES, 0)

    def _transfer(self, body: bytes, *, is_write: bool) -> bytes:
        _, offset, length, *_ = _TRANSFER.unpack_from(body)
        until = time.monotonic() + LATENCY_SECONDS
        until += length / (WRITE_BYTES_A_SECOND if is_write else READ_BYTES_A_SECOND)
        if is_write:
            self._data[offset : offset + length] = body[_TRANSFER.size : _TRANSFER.size + length]
            answer = _WRITTEN.pack(length, 0)
        else:
            answer = self._data[offset : offset + length]
        if self.is_slow:
            time.sleep(max(0.0, until - time.monotonic()))
        return answer


def serve(path: Path, size: int) -> None:
    """Mount upon the file and answer until unmounted."""
    library = ctypes.CDLL(None, use_errno=True)
    # Whoever is killed does not unmount; without a server, the rest fails at once instead of waiting.
    library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode={stat.S_IFREG:o},user_id={os.geteuid()},group_id={os.getegid()}"
    if library.mount(b"slow-image", os.fsencode(path), b"fuse.slow-image", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"cannot mount upon {path}")
    image = SlowImage(size)
    for number, is_slow in ((signal.SIGUSR1, True), (signal.SIGUSR2, False)):
        signal.signal(number, lambda *_, is_slow=is_slow: setattr(image, "is_slow", is_slow))
    try:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        _answer_all(device, image)
    finally:
        _unmount(path)


@contextmanager
def slow_image(path: Path, size: int) -> Iterator[ReadyProcess]:
    """Have such a file at this path, served by a process of its own; nobody may use it any more in the end."""
    path.touch()
    with ReadyProcess("bench.slow_image", [path, str(size)], path.with_suffix(".log")) as server:
        server.wait_for("ready")
        try:
            yield server
        finally:
            _unmount(path)


@contextmanager
def slowly(server: ReadyProcess) -> Iterator[None]:
    """Let the file be as slow as it claims to be."""
    os.kill(server.pid, signal.SIGUSR1)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGUSR2)


def _unmount(path: Path) -> None:
    ctypes.CDLL(None).umount2(os.fsencode(path), _MNT_DETACH)


def _answer_all(device: int, image: SlowImage) -> None:
    while True:
        try:
            request = os.read(device, _TRANSFER_BYTES_MAX + _PAGE_BYTES)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return
            if error.errno in (errno.ENOENT, errno.EINTR):  # the request was taken back
                continue
            raise
        _, asked, unique, *_ = _REQUEST.unpack_from(request)
        if asked in (_Asked.FORGET, _Asked.INTERRUPT):
            continue
        answer = image.answer(asked, request[_REQUEST.size :])
        number, data = (answer, b"") if isinstance(answer, int) else (0, answer)
        os.writev(device, [_ANSWER.pack(_ANSWER.size + len(data), -number, unique), data])


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
