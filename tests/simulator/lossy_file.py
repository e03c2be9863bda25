"""A file whose bytes are durable sector by sector, and only once they are synced.

The contract is the one that SQLite asks for by the name of powersafe overwrite: a cut may leave anything in bytes that
were written and not synced, and never touches others.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

SECTOR_BYTES = 512
_TORN_SHARE = 1 / 12

Choice = Callable[[int], int]
"""Chooses one of so many states, in the order they were reached; 0 is the durable one."""


class LossyFile:
    """What programs read (`content`), what is on the platter, and the states that each sector had in between."""

    def __init__(self, content: bytes | bytearray = b"") -> None:
        """A file with this content, all of it durable."""
        self.content = bytearray(content)
        self._durable = bytearray(content)
        self._lengths = [len(content)]
        self._unsynced: dict[int, list[_Version]] = {}
        # A sync that failed: the system takes these sectors for written, and no later sync reaches them.
        self._abandoned: dict[int, list[_Version]] = {}
        self._before_truncation: list[LossyFile] = []

    def read(self, size: int, offset: int) -> bytes:
        return bytes(self.content[offset : offset + size])

    def write(self, data: bytes, offset: int) -> None:
        if not data:
            return
        end = offset + len(data)
        if end > len(self.content):
            if offset > len(self.content):
                self._dirty(len(self.content), offset)
            self.content.extend(bytes(end - len(self.content)))
            self._lengths.append(end)
        self.content[offset:end] = data
        self._dirty(offset, end)

    def truncate(self, size: int) -> None:
        """Make the file this long; what it grows by is zeros.

        To cut a file short is one change of the file system's books: a power cut leaves what was before it or what
        came after, never some of the sectors cut off beside new ones.
        """
        before = len(self.content)
        if size > before:
            self.content.extend(bytes(size - before))
            self._lengths.append(size)
            self._dirty(before, size)
        elif size < before:
            self._before_truncation.append(self._copy())
            del self.content[size:]
            del self._durable[size:]
            self._lengths = [*(min(length, size) for length in self._lengths), size]
            for states in (self._unsynced, self._abandoned):
                for sector in list(states):
                    room = size - sector * SECTOR_BYTES
                    if room <= 0:
                        del states[sector]
                    elif room < SECTOR_BYTES:
                        states[sector] = [version.cut_short(room) for version in states[sector]]

    def sync(self) -> None:
        """Make durable what was written since the last sync, except what a failed sync gave up."""
        size = len(self.content)
        _resize(self._durable, size)
        for sector in self._unsynced:
            start = sector * SECTOR_BYTES
            if start < size:
                end = min(start + SECTOR_BYTES, size)
                self._durable[start:end] = self.content[start:end]
        self._unsynced.clear()
        self._lengths = [size]
        self._before_truncation.clear()

    def fail_sync(self) -> None:
        """Give up what was written: it may be on the platter, and it counts as synced until it is written again."""
        self._abandoned.update(self._unsynced)
        self._unsynced.clear()

    def forget_cached(self) -> None:
        """Show what is on the platter where the system believed a sync that failed; what is yet to be written stays."""
        for sector in self._abandoned:
            start = sector * SECTOR_BYTES
            shown = self._sector(self._durable, sector)
            self.content[start : start + SECTOR_BYTES] = shown[: max(len(self.content) - start, 0)]
        self._abandoned.clear()

    def survivor(self, choose: Choice, randomness: Random) -> LossyFile:
        """Return the file as a cut leaves it."""
        states = [*self._before_truncation, self]
        return states[choose(len(states))]._survivor(choose, randomness)

    def _survivor(self, choose: Choice, randomness: Random) -> LossyFile:
        data = bytearray(self._durable)
        _resize(data, self._lengths[choose(len(self._lengths))])
        for sector, versions in (self._abandoned | self._unsynced).items():
            start = sector * SECTOR_BYTES
            room = len(data) - start
            chosen = choose(len(versions) + 1)
            if room <= 0 or chosen == 0:
                continue
            version = versions[chosen - 1]
            state = version.content
            if randomness.random() < _TORN_SHARE:
                before = versions[chosen - 2].content if chosen > 1 else self._sector(self._durable, sector)
                state = version.torn(before, randomness)
            data[start : start + SECTOR_BYTES] = state[:room]
        return LossyFile(data)

    def _copy(self) -> LossyFile:
        copy = LossyFile(self.content)
        copy._durable = bytearray(self._durable)
        copy._lengths = list(self._lengths)
        copy._unsynced = {sector: list(versions) for sector, versions in self._unsynced.items()}
        copy._abandoned = {sector: list(versions) for sector, versions in self._abandoned.items()}
        return copy

    def _dirty(self, start: int, end: int) -> None:
        """Note the new state of the sectors that a range touches."""
        for sector in range(start // SECTOR_BYTES, (end + SECTOR_BYTES - 1) // SECTOR_BYTES):
            origin = sector * SECTOR_BYTES
            abandoned = self._abandoned.pop(sector, None)
            versions = self._unsynced.setdefault(sector, abandoned or [])
            first, last = max(start - origin, 0), min(end - origin, SECTOR_BYTES)
            versions.append(_Version(self._sector(self.content, sector), first, last))

    @staticmethod
    def _sector(content: bytearray, sector: int) -> bytes:
        return bytes(content[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES]).ljust(SECTOR_BYTES, b"\0")


class _Version:
    """A sector after one write, and which of its bytes that write covered."""

    __slots__ = ("content", "first", "last")

    def __init__(self, content: bytes, first: int, last: int) -> None:
        self.content = content
        self.first = first
        self.last = last

    def cut_short(self, size: int) -> _Version:
        """Return the version of a sector of which the file keeps the beginning only."""
        content = self.content[:size].ljust(SECTOR_BYTES, b"\0")
        return _Version(content, min(self.first, size), min(self.last, size))

    def torn(self, before: bytes, randomness: Random) -> bytes:
        """Return the sector half written, or with rubbish, within the bytes that were being written."""
        if randomness.random() < 0.5:
            written = randomness.randbytes(self.last - self.first)
        else:
            until = randomness.randint(self.first, self.last)
            written = self.content[self.first : until] + before[until : self.last]
        return before[: self.first] + written + before[self.last :]


def _resize(data: bytearray, size: int) -> None:
    if size < len(data):
        del data[size:]
    else:
        data.extend(bytes(size - len(data)))
