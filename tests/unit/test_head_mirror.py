"""The head mirror's file: two slots, either of which may be torn, rotten or missing."""

import os
import stat
from pathlib import Path

import pytest

from edge_agent.engine.events import ChainPosition
from edge_agent.engine.store import StoreFault
from edge_agent.queue.mirror import MIRROR_FILE_NAME, FileHeadMirror

SLOT_BYTES = 512


def at(sequence: int, epoch: int = 1) -> ChainPosition:
    return ChainPosition(epoch, sequence, bytes([sequence]) * 32)


def write(folder: Path, *positions: ChainPosition, settle: bool = True) -> bytes:
    """Note these positions, settling each, and return the file's bytes."""
    mirror = FileHeadMirror(folder)
    for position in positions:
        mirror.note(position)
        if settle:
            mirror.settle()
    mirror.close()
    return (folder / MIRROR_FILE_NAME).read_bytes()


def read(folder: Path, data: bytes | None = None) -> ChainPosition | None:
    if data is not None:
        (folder / MIRROR_FILE_NAME).write_bytes(data)
    mirror = FileHeadMirror(folder)
    mirror.close()
    return mirror.position()


def test_the_newest_position_is_read_back(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    for sequence in range(1, 6):
        write(tmp_path, at(sequence))
        assert read(tmp_path) == at(sequence)


def test_a_later_epoch_is_newer_whatever_its_sequence(tmp_path: Path) -> None:
    write(tmp_path, at(9), at(0, epoch=2))
    assert read(tmp_path) == at(0, epoch=2)


@pytest.mark.parametrize("last", [4, 5])
def test_every_torn_write_and_every_flipped_bit_leaves_the_position_before_or_the_new_one(
    tmp_path: Path, last: int
) -> None:
    before = write(tmp_path, *(at(n) for n in range(1, last)))
    after = write(tmp_path, at(last))
    (slot,) = {position // SLOT_BYTES for position in range(len(after)) if before[position] != after[position]}
    start = slot * SLOT_BYTES
    for cut in range(53):
        torn = after[: start + cut] + before[start + cut :]
        assert read(tmp_path, torn) in (at(last - 1), at(last))
    for bit in range(52 * 8):
        rotten = bytearray(after)
        rotten[start + bit // 8] ^= 1 << bit % 8
        assert read(tmp_path, bytes(rotten)) == at(last - 1)


def test_two_rotten_slots_say_nothing(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path, at(1), at(2)))
    data[10] ^= 1
    data[SLOT_BYTES + 10] ^= 1
    assert read(tmp_path, bytes(data)) is None


@pytest.mark.parametrize("length", [0, 1, 100, SLOT_BYTES])
def test_a_file_cut_short_is_made_whole_again(tmp_path: Path, length: int) -> None:
    data = write(tmp_path, at(1), at(2))
    read(tmp_path, data[:length])
    assert read(tmp_path, write(tmp_path, at(3))) == at(3)


def test_what_is_on_disk_is_not_overwritten_while_the_other_slot_is_not(tmp_path: Path) -> None:
    settled = write(tmp_path, at(1), at(2))
    noted = write(tmp_path, at(3), at(4), at(5), settle=False)
    changed = {position // SLOT_BYTES for position in range(len(noted)) if settled[position] != noted[position]}
    assert len(changed) == 1, "the slot that says 2 is still there"
    (slot,) = changed
    torn = bytearray(noted)
    torn[slot * SLOT_BYTES + 20] ^= 1
    assert read(tmp_path, bytes(torn)) == at(2)


def test_what_a_process_before_only_noted_is_settled_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, at(1), settle=False)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    mirror = FileHeadMirror(tmp_path)
    mirror.note(at(1))
    mirror.settle()
    mirror.close()
    assert synced, "the position may be in the system's memory only"


def test_settling_waits_for_the_disk_once_for_each_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = FileHeadMirror(tmp_path)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    for _ in range(3):
        mirror.note(at(1))
        mirror.settle()
    mirror.note(at(2))
    mirror.settle()
    mirror.close()
    assert len(synced) == 2


def test_after_a_failed_settle_the_position_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = FileHeadMirror(tmp_path)
    mirror.note(at(1))

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(StoreFault, match="Input/output error"):
            mirror.settle()
    written: list[bytes] = []
    real = os.pwrite

    def write_down(descriptor: int, data: bytes, offset: int) -> int:
        written.append(data)
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", write_down)
    mirror.note(at(1))
    mirror.settle()
    mirror.close()
    assert written and read(tmp_path) == at(1)


def test_the_file_belongs_to_the_owner_alone_and_has_its_room_from_the_start(tmp_path: Path) -> None:
    FileHeadMirror(tmp_path).close()
    status = (tmp_path / MIRROR_FILE_NAME).stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_size == 2 * SLOT_BYTES and status.st_blocks > 0


def test_a_mirror_that_cannot_be_opened_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / MIRROR_FILE_NAME).mkdir()
    with pytest.raises(StoreFault, match=MIRROR_FILE_NAME):
        FileHeadMirror(tmp_path)
