"""The head mirror: a small file beside the queue that remembers how far the chain reached.

If the queue is ever put back to an older state (a restored copy, a lost write-ahead log), the mirror is ahead of it,
and the next epoch begins. Two slots are written in turn, each with its own checksum, so that a torn write leaves the
other one: the slot that is known to be on disk is not written again before the other one is there, too.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final

from edge_agent.engine.events import ChainPosition
from edge_agent.engine.store import StoreFault
from edge_agent.queue.disk import SYSTEM_DISK, Disk

MIRROR_FILE_NAME: Final = "head.mirror"
_SLOT: Final = struct.Struct(">4sIQ32sI")
_MAGIC: Final = b"CNSM"
_SLOT_STRIDE_BYTES: Final = 512
_SLOTS: Final = 2
_CHECKED_BYTES: Final = _SLOT.size - 4


class FileHeadMirror:
    """The mirror on disk; see `engine.store.HeadMirror`."""

    def __init__(self, directory: Path, *, disk: Disk = SYSTEM_DISK) -> None:
        """Open or create the mirror; raises StoreFault."""
        path = directory / MIRROR_FILE_NAME
        self._disk = disk
        try:
            self._descriptor = disk.open(path)
            if disk.size(self._descriptor) < _SLOTS * _SLOT_STRIDE_BYTES:
                # Its room is taken now, so that a full disk later does not stop it.
                disk.allocate(self._descriptor, _SLOTS * _SLOT_STRIDE_BYTES)
                disk.sync(self._descriptor)
                disk.sync_directory(directory)
            # What is read may be in the system's memory only: the process before may have ended before it settled.
            disk.sync_data(self._descriptor)
            disk.forget_cached(path)
        except OSError as error:
            raise StoreFault(f"cannot open {path}: {error.strerror}") from error
        slots = [self._read(slot) for slot in range(_SLOTS)]
        newest = max(
            (slot for slot in range(_SLOTS) if slots[slot]), key=lambda slot: _order(slots[slot]), default=None
        )
        self._position = None if newest is None else slots[newest]
        self._slot = 0 if newest is None else newest
        self._settled = True

    def position(self) -> ChainPosition | None:
        """Return what the mirror says; None when it has never been written, or neither slot can be read."""
        return self._position

    def note(self, position: ChainPosition) -> None:
        if position == self._position:
            return
        slot = (self._slot + 1) % _SLOTS if self._settled else self._slot
        unchecked = _SLOT.pack(_MAGIC, position.epoch, position.sequence, position.last_id, 0)[:_CHECKED_BYTES]
        data = unchecked + zlib.crc32(unchecked).to_bytes(4, "big")
        try:
            self._disk.write(self._descriptor, data, slot * _SLOT_STRIDE_BYTES)
        except OSError as error:
            raise StoreFault(f"cannot write the head mirror: {error.strerror}") from error
        self._position, self._slot, self._settled = position, slot, False

    def settle(self) -> None:
        if self._settled:
            return
        try:
            self._disk.sync_data(self._descriptor)
        except OSError as error:
            # The system may take the pages for written from now on: the next note must write them again.
            self._position = None
            raise StoreFault(f"cannot write the head mirror: {error.strerror}") from error
        self._settled = True

    def close(self) -> None:
        """Close the file."""
        self._disk.close(self._descriptor)

    def _read(self, slot: int) -> ChainPosition | None:
        data = self._disk.read(self._descriptor, _SLOT.size, slot * _SLOT_STRIDE_BYTES)
        if len(data) < _SLOT.size:
            return None
        magic, epoch, sequence, last_id, checksum = _SLOT.unpack(data)
        if magic != _MAGIC or zlib.crc32(data[:_CHECKED_BYTES]) != checksum:
            return None
        return ChainPosition(epoch, sequence, last_id)


def _order(position: ChainPosition | None) -> tuple[int, int]:
    return (0, 0) if position is None else (position.epoch, position.sequence)
