"""The capacity check against sticks that lie in the ways that are sold, in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operations.capacity_check import BLOCK_BYTES, FakeSize, Genuine, check_capacity

MIB = 1 << 20
SECRET = b"0123456789abcdef"


@dataclass
class MemoryStick:
    """Keeps sectors of 512 bytes in a dictionary; `place` says where a sector really goes, None: nowhere."""

    size_bytes: int
    place: Callable[[int], int | None] = lambda sector: sector
    sectors: dict[int, bytes] = field(default_factory=dict)
    failing: Callable[[int, int], bool] = lambda _calls, _offset: False
    writes: int = 0
    settled: int = 0

    def read(self, offset: int, size: int) -> bytes:
        data = b""
        parts = []
        for sector in range(offset // 512, (offset + size) // 512):
            place = self.place(sector)
            parts.append(bytes(512) if place is None else self.sectors.get(place, place.to_bytes(8, "big") * 64))
        return data.join(parts)

    def write(self, offset: int, data: bytes) -> None:
        self.writes += 1
        if self.failing(self.writes, offset):
            raise OSError(5, "Input/output error")
        for number in range(len(data) // 512):
            place = self.place(offset // 512 + number)
            if place is not None:
                self.sectors[place] = data[number * 512 :][:512]

    def settle(self) -> None:
        self.settled += 1

    def whole(self) -> dict[int, bytes]:
        """Every sector that was ever written, as it reads now."""
        return {place: self.sectors[place] for place in sorted(self.sectors)}


def untouched(stick: MemoryStick) -> bool:
    return all(data == place.to_bytes(8, "big") * 64 for place, data in stick.sectors.items())


def check(stick: MemoryStick) -> Genuine | FakeSize:
    return check_capacity(stick, SECRET, lambda _done, _total: None)


@pytest.mark.parametrize("size_bytes", [0, 512, BLOCK_BYTES, 3 * MIB + 512, 4 * MIB, 64 * MIB, 2000 * MIB + 1536])
def test_a_genuine_stick_passes_and_keeps_what_was_on_it(size_bytes: int) -> None:
    stick = MemoryStick(size_bytes)
    assert check(stick) == Genuine(size_bytes)
    assert untouched(stick)
    assert stick.settled == 2


@settings(max_examples=40, deadline=None)
@given(st.integers(min_value=8 * MIB // 512, max_value=(64 - 4) * MIB // 512))
def test_a_stick_that_wraps_around_is_found_wherever_it_really_ends(real_sectors: int) -> None:
    stick = MemoryStick(64 * MIB, lambda sector: sector % real_sectors)
    found = check(stick)
    assert isinstance(found, FakeSize)
    assert untouched(stick), "what was on it is put back"
    if real_sectors * 512 % BLOCK_BYTES == 0:
        assert found.real_bytes == real_sectors * 512


@settings(max_examples=20, deadline=None)
@given(st.integers(min_value=1, max_value=256 * MIB // 512 - 1))
def test_a_stick_that_drops_what_lies_beyond_its_end_is_found(real_sectors: int) -> None:
    stick = MemoryStick(256 * MIB, lambda sector: sector if sector < real_sectors else None)
    found = check(stick)
    assert isinstance(found, FakeSize)
    assert real_sectors * 512 - BLOCK_BYTES < found.real_bytes <= real_sectors * 512 + 4 * MIB
    assert untouched(stick)


def test_a_stick_that_puts_everything_beyond_its_end_into_one_place_is_found() -> None:
    stick = MemoryStick(256 * MIB, lambda sector: min(sector, 64 * MIB // 512 + sector % 8))
    found = check(stick)
    assert isinstance(found, FakeSize)
    assert 64 * MIB <= found.real_bytes <= 68 * MIB


def test_a_stick_that_hides_its_end_behind_a_cache_of_what_was_written_last_is_found() -> None:
    """Its controller answers the newest 2 MiB from memory, wherever they were written."""

    @dataclass
    class CachingStick(MemoryStick):
        newest: dict[int, bytes] = field(default_factory=dict)

        def write(self, offset: int, data: bytes) -> None:
            super().write(offset, data)
            for number in range(len(data) // 512):
                sector = offset // 512 + number
                self.newest.pop(sector, None)
                self.newest[sector] = data[number * 512 :][:512]
            for sector in list(self.newest)[: -2 * MIB // 512]:
                del self.newest[sector]

        def read(self, offset: int, size: int) -> bytes:
            kept = super().read(offset, size)
            sectors = range(offset // 512, (offset + size) // 512)
            return b"".join(
                self.newest.get(sector, kept[number * 512 :][:512]) for number, sector in enumerate(sectors)
            )

    stick = CachingStick(256 * MIB, lambda sector: sector if sector < 64 * MIB // 512 else None)
    assert isinstance(check(stick), FakeSize)


@pytest.mark.parametrize("call", [1, 30, 66])
def test_what_was_there_is_put_back_when_the_check_is_cut_short(call: int) -> None:
    stick = MemoryStick(256 * MIB, failing=lambda calls, _offset: calls == call)
    with pytest.raises(OSError, match="Input/output error"):
        check(stick)
    assert untouched(stick)


def test_progress_goes_from_nothing_to_all() -> None:
    told: list[tuple[int, int]] = []
    check_capacity(MemoryStick(64 * MIB), SECRET, lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted({done for done, _ in told})
