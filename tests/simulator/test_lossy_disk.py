"""The queue on a disk that loses at a power cut whatever was not synced.

`CENSUS_CUTS` sets how many cuts the random lives go through together (default 2,000); a failure names its seed.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from edge_agent.queue.store import QUEUE_FILE_NAME, QueueBusy, QueueStore
from tests.simulator.lossy_disk import Call, DiskError, Habits, LossyDisk, PowerCut
from tests.simulator.lossy_file import SECTOR_BYTES
from tests.simulator.lossy_ledger import Violation
from tests.simulator.lossy_life import FOLDER, Life, WatchedDevice
from tests.support.device import Authority

# SQLite overlooks some errors when it closes a file; apsw then tells the interpreter of them.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

AUTHORITY = Authority()
CUTS = int(os.environ.get("CENSUS_CUTS", "2000"))
CUTS_A_LIFE = 8
BLOCKS = 4
SEEDS_A_BLOCK = 10_000_000
CUTS_TO_CATCH_MAX = 300


def live(seed: int, cuts: int, habits: Habits | None = None) -> Life:
    """Let one life pass; a violation names what repeats it."""
    life = Life(seed, AUTHORITY, habits)
    try:
        life.live(cuts)
    except Violation as violation:
        raise Violation(f"seed {seed}, cut {life.cuts}: {violation}") from violation
    return life


# The promise.


@pytest.mark.parametrize("block", range(BLOCKS))
def test_random_cuts_lose_nothing_that_was_promised(block: int) -> None:
    cuts, reached = 0, Counter[str]()
    seed = block * SEEDS_A_BLOCK
    while cuts < CUTS // BLOCKS:
        life = live(seed, CUTS_A_LIFE)
        cuts, reached, seed = cuts + life.cuts, reached + life.reached, seed + 1
    expected = {"cut in Submitted", "cut in BundleArrived", "cut in LinkUp", "cut while opening", "cut while stopping"}
    expected |= {"rolled back", "purged", "submitted again", "orderly stop"}
    assert cuts < 500 or expected <= reached.keys()


def test_a_queue_cut_anywhere_while_it_is_made_is_made_by_the_next_start() -> None:
    randomness = Random(1)
    for number in range(1, 1000):
        device = WatchedDevice(AUTHORITY, LossyDisk(), randomness)
        device.lossy_disk.cut_at(number)
        try:
            device.start()
        except PowerCut:
            device.give_up()
        else:
            device.give_up()
            assert number > 50
            break
        for _ in range(4):
            start_with_cuts(device.lossy_disk.cut(randomness), randomness, cuts=2).give_up()


def start_with_cuts(disk: LossyDisk, randomness: Random, *, cuts: int) -> WatchedDevice:
    """Start on a disk that is cut again while the device starts, and then not any more."""
    for _ in range(cuts):
        device = WatchedDevice(AUTHORITY, disk, randomness)
        disk.cut_at(randomness.randint(1, 40))
        try:
            device.start_and_check()
        except PowerCut:
            disk = disk.cut(randomness)
        device.give_up()
        if not disk.is_dead:
            break
        disk = disk.cut(randomness)
    device = WatchedDevice(AUTHORITY, disk, randomness)
    device.start_and_check()
    return device


# Planted faults: the lives must notice each of them.

_WAL = "PRAGMA journal_mode = WAL"
_FULL = "PRAGMA synchronous = FULL"
_SYNCHRONOUS = "PRAGMA synchronous"
PLANTED = {
    "synchronous=NORMAL": Habits(
        substitutes={_FULL: ("PRAGMA synchronous = NORMAL", "SELECT 1"), _SYNCHRONOUS: ("SELECT 1", "SELECT 2")}
    ),
    "synchronous=OFF": Habits(
        substitutes={_FULL: ("PRAGMA synchronous = OFF", "SELECT 1"), _SYNCHRONOUS: ("SELECT 1", "SELECT 2")}
    ),
    "journal_mode=MEMORY": Habits(substitutes={_WAL: ("PRAGMA journal_mode = MEMORY", "SELECT 'wal'")}),
    "journal_mode=OFF": Habits(substitutes={_WAL: ("PRAGMA journal_mode = OFF", "SELECT 'wal'")}),
    "mirror settled without fdatasync": Habits(ignored=frozenset({Call.SYNC_DATA})),
    "no directory fsync": Habits(ignored=frozenset({Call.SYNC_DIRECTORY})),
    "no directory fsync, SQLite's neither": Habits(
        ignored=frozenset({Call.SYNC_DIRECTORY, Call.SQLITE_SYNC_DIRECTORY})
    ),
    "a drive that lies about flushes": Habits(ignored=frozenset({Call.SQLITE_SYNC, Call.SYNC, Call.SYNC_DATA})),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_noticed_within_a_few_hundred_cuts(
    fault: str, record_property: Callable[[str, object], None]
) -> None:
    cuts = 0
    for seed in range(1000):
        life = Life(seed, AUTHORITY, PLANTED[fault])
        try:
            life.live(CUTS_A_LIFE)
        except Violation as violation:
            record_property("cuts to catch", cuts + life.cuts)
            record_property("violation", str(violation))
            return
        finally:
            cuts += life.cuts
        assert cuts < CUTS_TO_CATCH_MAX


# The disk itself.


def test_one_seed_makes_the_same_choices_in_every_process() -> None:
    program = (
        "from tests.simulator.lossy_life import Life; from tests.support.device import Authority\n"
        "life = Life(5, Authority()); life.live(20)\n"
        "print(life.cuts, sorted(life.reached.items()), life.calls, life.randomness.random())"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(told) == 1


def names_and_bytes(disk: LossyDisk, seed: int) -> dict[str, bytes]:
    return {path.name: data for path, data in disk.cut(Random(seed)).image().items()}


def test_bytes_survive_only_if_they_are_synced_and_a_name_only_if_its_folder_is() -> None:
    disk = LossyDisk()
    synced, unnamed = disk.open(FOLDER / "synced"), disk.open(FOLDER / "unnamed")
    disk.sync_directory(FOLDER)
    disk.write(synced, b"a" * 2_000, 0)
    disk.sync_data(synced)
    disk.write(synced, b"b" * 2_000, 0)
    unnamed = disk.open(FOLDER / "unnamed too")
    disk.write(unnamed, b"c", 0)
    disk.sync(unnamed)
    found = [names_and_bytes(disk, seed) for seed in range(200)]
    assert {("unnamed too" in one, one.get("unnamed too")) for one in found} == {(False, None), (True, b"c")}
    assert all(len(one["synced"]) == 2_000 for one in found)
    sectors = {one["synced"][:SECTOR_BYTES] for one in found}
    assert {b"a" * SECTOR_BYTES, b"b" * SECTOR_BYTES} < sectors, "old, new, and torn"


def test_bytes_that_were_not_written_are_never_touched() -> None:
    randomness = Random(3)
    for seed in range(200):
        disk = LossyDisk()
        file = disk.open(FOLDER / "file")
        disk.sync_directory(FOLDER)
        disk.write(file, b"a" * 5_000, 0)
        disk.sync(file)
        written: set[int] = set()
        for _ in range(randomness.randint(1, 5)):
            start, size = randomness.randrange(4_000), randomness.randint(1, 900)
            disk.write(file, b"b" * size, start)
            written |= set(range(start, start + size))
        after = names_and_bytes(disk, seed)["file"]
        assert all(byte == ord("a") for place, byte in enumerate(after) if place not in written)


def test_a_sync_after_one_that_failed_does_not_reach_what_that_gave_up() -> None:
    disk = LossyDisk()
    file = disk.open(FOLDER / "file")
    disk.sync_directory(FOLDER)
    disk.write(file, b"a", 0)
    disk.sync(file)
    disk.write(file, b"b", 0)
    disk.fail_at(1, DiskError.BROKEN)
    with pytest.raises(OSError, match="Input/output"):
        disk.sync(file)
    disk.sync(file)
    assert b"a" in {names_and_bytes(disk, seed)["file"] for seed in range(50)}
    again = disk.cut(Random(1))
    file = again.open(FOLDER / "file")
    again.write(file, b"c", 0)
    again.sync(file)
    assert {names_and_bytes(again, seed)["file"] for seed in range(50)} == {b"c"}


def test_after_the_cut_no_call_does_anything() -> None:
    disk = LossyDisk()
    store = QueueStore(FOLDER, disk=disk)
    with store.transaction() as transaction:
        transaction.put_number("n", 1)
    disk.cut_at(1)
    with pytest.raises(PowerCut), store.transaction() as transaction:
        transaction.put_number("n", 2)
    before = disk.image()
    with pytest.raises(PowerCut), store.transaction():
        pass
    store.close()
    assert disk.image() == before
    with QueueStore(FOLDER, disk=disk.cut(Random(1))) as again, again.transaction() as transaction:
        assert transaction.number("n") in (1, 2)


def test_a_lossy_disk_is_locked_like_any_other_and_leaves_nothing_on_the_machine() -> None:
    disk = LossyDisk()
    with QueueStore(FOLDER, disk=disk), pytest.raises(QueueBusy):
        QueueStore(FOLDER, disk=disk)
    with QueueStore(FOLDER, disk=disk) as store:
        assert store.path == FOLDER / QUEUE_FILE_NAME
    assert not Path(FOLDER).exists()
