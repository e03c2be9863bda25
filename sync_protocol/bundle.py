"""Bundles (SPEC.md §5): the one container for MQTT payloads, files on media and mesh batches.

Reading salvages: a torn or rotten bundle yields every intact frame and an account of what was passed over.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

from sync_protocol import domains
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.limits import BUNDLE_BYTES_MAX

BUNDLE_HEADER: Final = b"CNSB\x01\0\0\0"
MARKER: Final = b"\xc5\x9a\x46\x0d"
_FRAME_HEADER: Final = struct.Struct(">4sB3sII")
_FRAME_HEADER_CHECKED_BYTES: Final = 12
_DIGEST_BYTES: Final = 16
_END: Final = struct.Struct(">I32s")

FRAME_OVERHEAD_BYTES: Final = _FRAME_HEADER.size + _DIGEST_BYTES
_SALVAGE_FACTOR: Final = 4
"""How many times its own size a bundle may make us hash: honest damage costs less than twice."""

BUNDLE_OVERHEAD_BYTES: Final = len(BUNDLE_HEADER) + FRAME_OVERHEAD_BYTES + _END.size


class FrameType(IntEnum):
    """What a frame carries."""

    ENVELOPE = 1
    HEAD = 2
    STATEMENT = 3
    WAY = 4
    END = 127


_CARRYING_TYPES: Final = frozenset(FrameType) - {FrameType.END}


@dataclass(frozen=True, slots=True)
class Frame:
    """One intact frame: its type and the bytes of what it carries, not yet parsed."""

    type: FrameType
    payload: bytes


@dataclass(frozen=True, slots=True)
class Skipped:
    """A range of bytes that held no readable frame."""

    offset: int
    length: int
    reason: str


@dataclass(frozen=True)
class BundleContents:
    """What could be read: intact frames in order (without END), and what was passed over."""

    frames: tuple[Frame, ...]
    skipped: tuple[Skipped, ...]
    complete: bool
    """END was there, and named exactly these frames."""

    @property
    def intact(self) -> bool:
        return self.complete and not self.skipped


def write_bundle(frames: Iterable[Frame]) -> bytes:
    """Return a bundle of these frames; the caller keeps it within the link's limit (see `bundle_bytes`)."""
    parts = [BUNDLE_HEADER]
    count, closing_digest = 0, sha256(domains.BUNDLE)
    for frame in frames:
        written, digest = _write_frame(frame.type, frame.payload)
        parts.append(written)
        count += 1
        closing_digest.update(digest)
    closing = _END.pack(count, closing_digest.digest())
    parts.append(_write_frame(FrameType.END, closing)[0])
    return b"".join(parts)


def frame_bytes(payload_bytes: int) -> int:
    """Return how many bytes a frame with such a payload adds to a bundle."""
    return payload_bytes + FRAME_OVERHEAD_BYTES


def read_bundle(data: bytes, bytes_max: int = BUNDLE_BYTES_MAX) -> BundleContents:
    """Read what can be read; raises ProtocolError (oversized) beyond `bytes_max`, and nothing else.

    Time and memory are linear in `data`: a frame's header is checked by its CRC before its length is used.
    """
    if len(data) > bytes_max:
        raise ProtocolError(Fault.OVERSIZED, f"a bundle has at most {bytes_max} bytes here, this has {len(data)}")
    return _Reader(data).read()


def count_envelopes(data: bytes) -> int:
    """Return how many envelopes are in a bundle of `write_bundle`; of any other bytes, some number from 0 up."""
    found, offset = 0, len(BUNDLE_HEADER)
    while offset + FRAME_OVERHEAD_BYTES <= len(data):
        marker, frame_type, _, length, _ = _FRAME_HEADER.unpack_from(data, offset)
        if marker != MARKER:
            break
        found += frame_type == FrameType.ENVELOPE
        offset += length + FRAME_OVERHEAD_BYTES
    return found


def _write_frame(frame_type: int, payload: bytes) -> tuple[bytes, bytes]:
    digest = _frame_digest(frame_type, payload)
    unchecked = struct.pack(">4sB3sI", MARKER, frame_type, bytes(3), len(payload))
    return b"".join((unchecked, zlib.crc32(unchecked).to_bytes(4, "big"), payload, digest)), digest


def _frame_digest(frame_type: int, payload: bytes) -> bytes:
    return sha256(bytes((frame_type,)) + payload).digest()[:_DIGEST_BYTES]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._frames: list[Frame] = []
        self._skipped: list[Skipped] = []
        # Kept running: with every END frame hashing all digests anew, a bundle of many would cost its size squared.
        self._closing_digest = sha256(domains.BUNDLE)
        self._count = 0
        self._end: tuple[int, int] | None = None
        """Offset and length of the END frame that named all frames so far."""
        self._hash_budget_bytes = _SALVAGE_FACTOR * len(data)

    def read(self) -> BundleContents:
        data = self._data
        if data.startswith(BUNDLE_HEADER):
            offset = len(BUNDLE_HEADER)
        elif data.startswith(MARKER):
            self._skipped.append(Skipped(0, 0, "the bundle header is missing"))
            offset = 0
        else:
            offset = self._pass_over(0, "the bundle header is damaged")
        while offset < len(data):
            if self._hash_budget_bytes < 0:
                self._skipped.append(Skipped(offset, len(data) - offset, "frames overlap: made to waste time"))
                break
            taken, reason = self._take_frame(offset)
            offset = offset + taken if taken else self._pass_over(offset, reason)
        skipped = tuple(sorted(self._skipped, key=lambda one: one.offset))
        return BundleContents(tuple(self._frames), skipped, self._end is not None)

    def _pass_over(self, offset: int, reason: str) -> int:
        """Note the bytes up to the next marker as skipped and return where it stands."""
        if self._end is not None:
            reason = "bytes follow the end of the bundle"
        following = self._data.find(MARKER, offset + 1)
        end = len(self._data) if following < 0 else following
        if self._skipped and self._skipped[-1].offset + self._skipped[-1].length == offset:
            before = self._skipped.pop()
            self._skipped.append(Skipped(before.offset, end - before.offset, before.reason))
        else:
            self._skipped.append(Skipped(offset, end - offset, reason))
        return end

    def _take_frame(self, offset: int) -> tuple[int, str]:
        """Read the frame at `offset`; return how many bytes it took, or 0 and why it is none."""
        data = self._data
        if len(data) - offset < FRAME_OVERHEAD_BYTES:
            return 0, "the bundle ends within a frame"
        marker, frame_type, zeros, length, checksum = _FRAME_HEADER.unpack_from(data, offset)
        if marker != MARKER or zlib.crc32(data[offset : offset + _FRAME_HEADER_CHECKED_BYTES]) != checksum:
            return 0, "a frame header is damaged"
        payload_from = offset + _FRAME_HEADER.size
        payload_to = payload_from + length
        if payload_to + _DIGEST_BYTES > len(data):
            return 0, "the bundle ends within a frame"
        self._hash_budget_bytes -= length
        payload = data[payload_from:payload_to]
        digest = _frame_digest(frame_type, payload)
        if data[payload_to : payload_to + _DIGEST_BYTES] != digest:
            return 0, "a frame is damaged"
        taken = payload_to + _DIGEST_BYTES - offset
        if self._end is not None:
            self._skipped.append(Skipped(*self._end, "frames follow the end of the bundle"))
            self._end = None
        if frame_type == FrameType.END:
            if any(zeros) or payload != _END.pack(self._count, self._closing_digest.digest()):
                self._skipped.append(Skipped(offset, taken, "the end does not name the frames before it"))
            else:
                self._end = (offset, taken)
            return taken, ""
        self._closing_digest.update(digest)
        self._count += 1
        if any(zeros) or frame_type not in _CARRYING_TYPES:
            self._skipped.append(Skipped(offset, taken, "a frame is of no type known here"))
        else:
            self._frames.append(Frame(FrameType(frame_type), payload))
        return taken, ""
