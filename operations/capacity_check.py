"""Finds sticks that claim more room than they have: what is written beyond their real end is lost, or lies elsewhere.

    0        L              2L             3L                                                        C
    |==run===|              m              m              m         …            m             m    m|

Markers of one block lie one stride L apart over the whole capacity C; then a run fills the first stride. Every block
has content of its own, and all is read back. A stick that drops what lies beyond its real end R, or maps it all to one
place, fails at a marker. One that wraps around, with whatever R from L to C, has put the first marker beyond R into the
run's place, and the run over it: marker k·L lies at k·L − R, which is within the run for the smallest k·L not below R.
The run comes last, so that neither a small cache nor spare blocks hold the markers for show.

What was there is read before and put back after, also when the check is cut short by an error or by Ctrl-C; a stick
that is pulled out meanwhile has lost some of it. Not responsible for opening the device: see `block_storage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256, shake_128
from typing import Final, Protocol

BLOCK_BYTES: Final = 4096

_RUN_BYTES_MIN: Final = 4 << 20
_RUN_BYTES_MAX: Final = 128 << 20
"""Of memory for what was there, and some 15 seconds of writing on a slow stick, twice."""
_MARKERS_AIMED_AT: Final = 256
"""Slow sticks write a few dozen single blocks a second."""
_CHUNK_BYTES: Final = 1 << 20


class BlockStorage(Protocol):
    """A device's blocks; offsets and sizes are multiples of BLOCK_BYTES. Every call may raise OSError."""

    @property
    def size_bytes(self) -> int: ...

    def read(self, offset: int, size: int) -> bytes:
        """Return what the device itself holds, not what the system remembers of it."""
        ...

    def write(self, offset: int, data: bytes) -> None: ...

    def settle(self) -> None:
        """Return when everything written is on the device, by its own word."""
        ...


@dataclass(frozen=True)
class Genuine:
    """Everything read back as it was written."""

    capacity_bytes: int


@dataclass(frozen=True)
class FakeSize:
    """What is written from `real_bytes` on is not kept, or overwrites what lies before: so much it really has, or less
    (known to one stride).
    """

    claimed_bytes: int
    real_bytes: int


Progress = Callable[[int, int], None]
"""Hears how many bytes are done, of how many."""


def check_capacity(storage: BlockStorage, secret: bytes, progress: Progress) -> Genuine | FakeSize:
    """Check a device that nobody else uses; what is on it stays. Raises OSError, with as much put back as can be.

    `secret` is drawn at random for each check, so that nothing on the device can look like ours.
    """
    markers, run = _plan(storage.size_bytes)
    spans = markers + run
    work = _Work(storage, secret, progress, bytes_total=4 * sum(span.size for span in spans))
    before = [work.read(span) for span in spans]
    try:
        for span in spans:
            work.write(span, work.content(span))
        storage.settle()
        wrong = [found for span in spans if (found := work.first_wrong(span)) is not None]
    finally:
        for span, data in zip(spans, before, strict=True):
            work.write(span, data)
        storage.settle()
    if not wrong:
        return Genuine(storage.size_bytes)
    # What lies lower was written later: so the lowest wrong block is beyond the end, and tells where that is.
    offset, block = min(wrong)
    return FakeSize(storage.size_bytes, offset - work.places(run).get(sha256(block).digest(), 0))


@dataclass(frozen=True)
class _Span:
    """Whole blocks, side by side."""

    offset: int
    size: int

    @property
    def blocks(self) -> range:
        return range(self.offset, self.offset + self.size, BLOCK_BYTES)


def _plan(size_bytes: int) -> tuple[list[_Span], list[_Span]]:
    """Return the markers, the highest first, and the run in chunks."""
    capacity = size_bytes - size_bytes % BLOCK_BYTES
    stride = max(_RUN_BYTES_MIN, min(_RUN_BYTES_MAX, capacity // _MARKERS_AIMED_AT))
    stride = min(capacity, stride - stride % BLOCK_BYTES)
    markers = {*range(stride, capacity, stride or 1), capacity - BLOCK_BYTES} if stride < capacity else set()
    run = [_Span(offset, min(_CHUNK_BYTES, stride - offset)) for offset in range(0, stride, _CHUNK_BYTES)]
    return [_Span(offset, BLOCK_BYTES) for offset in sorted(markers, reverse=True)], run


class _Work:
    """The device, with progress."""

    def __init__(self, storage: BlockStorage, secret: bytes, progress: Progress, *, bytes_total: int) -> None:
        self._storage = storage
        self._secret = secret
        self._progress = progress
        self._bytes_done = 0
        self._bytes_total = bytes_total

    def read(self, span: _Span) -> bytes:
        data = self._storage.read(span.offset, span.size)
        self._moved(span)
        return data

    def write(self, span: _Span, data: bytes) -> None:
        self._storage.write(span.offset, data)
        self._moved(span)

    def content(self, span: _Span) -> bytes:
        """What is written there: every block says where it belongs, in a way that nobody can foresee."""
        return b"".join(map(self._block, span.blocks))

    def first_wrong(self, span: _Span) -> tuple[int, bytes] | None:
        """Return where the first block lies that does not read as it was written, and what it holds."""
        data = self.read(span)
        if data == self.content(span):
            return None
        found = ((offset, data[offset - span.offset :][:BLOCK_BYTES]) for offset in span.blocks)
        return next((offset, block) for offset, block in found if block != self._block(offset))

    def places(self, spans: Iterable[_Span]) -> dict[bytes, int]:
        """Return where every block was written, by its digest."""
        return {sha256(self._block(offset)).digest(): offset for span in spans for offset in span.blocks}

    def _block(self, offset: int) -> bytes:
        return shake_128(self._secret + offset.to_bytes(8, "big")).digest(BLOCK_BYTES)

    def _moved(self, span: _Span) -> None:
        self._bytes_done += span.size
        self._progress(self._bytes_done, self._bytes_total)
