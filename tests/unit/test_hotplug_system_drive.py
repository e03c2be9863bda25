"""Whether the running system lives on a drive, from the texts of /proc and the folders of /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.usb_watch.system_drive import DrivePart, parts_of, place_in_use

SWAPS_HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
INTERNAL = "22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n"
STICK = (DrivePart("8:16", frozenset({"/dev/sdb"})), DrivePart("8:17", frozenset({"/dev/sdb1"})))


def mount(place: str, number: str = "8:17", source: str = "/dev/sdb1") -> str:
    return f"36 22 {number} / {place} rw,noatime shared:7 master:1 - vfat {source} rw,errors=remount-ro\n"


@pytest.mark.parametrize(
    "place",
    ["/", "/boot", "/boot/efi", "/home", "/var/lib/edge-agent", "/run/live/medium", "/cdrom", "/medial", "/mnt2"],
)
def test_a_drive_with_a_mounted_system_file_system_is_in_use(place: str) -> None:
    assert place_in_use(STICK, INTERNAL + mount(place), SWAPS_HEADER) == place


@pytest.mark.parametrize(
    "place", ["/media/department/STICK", "/run/media/u/S", "/mnt", "/mnt/stick", "/run/edge-agent/media/1"]
)
def test_a_drive_mounted_where_media_are_mounted_is_not_in_use(place: str) -> None:
    assert place_in_use(STICK, INTERNAL + mount(place), SWAPS_HEADER) is None


def test_a_drive_that_is_not_mounted_is_not_in_use() -> None:
    assert place_in_use(STICK, INTERNAL, SWAPS_HEADER + "/dev/zram0 partition 100 0 100\n") is None


def test_a_drive_is_in_use_whichever_of_its_partitions_is() -> None:
    third = DrivePart("8:19", frozenset({"/dev/sdb3"}))
    assert place_in_use((*STICK, third), mount("/", "8:19", "/dev/sdb3"), "") == "/"


def test_a_subvolume_of_btrfs_is_known_by_its_source() -> None:
    text = "22 1 0:31 /@ / rw,relatime - btrfs /dev/sdb1 rw,subvol=/@\n"
    assert place_in_use(STICK, text, "") == "/"


def test_a_place_with_escaped_characters_is_read_as_it_is() -> None:
    assert place_in_use(STICK, mount("/srv/a\\040b\\134"), "") == "/srv/a b\\"


def test_a_drive_is_in_use_when_it_is_swapped_to() -> None:
    assert place_in_use(STICK, INTERNAL, SWAPS_HEADER + "/dev/sdb1 partition 1 0 -2\n") == "swap"


def test_a_drive_is_in_use_when_it_holds_a_swap_file() -> None:
    swaps = SWAPS_HEADER + "/media/u/a\\040b/swapfile file 1 0 -2\n"
    assert place_in_use(STICK, INTERNAL + mount("/media/u/a\\040b"), swaps) == "swap"
    assert place_in_use(STICK, INTERNAL + mount("/media/u/a"), swaps) is None


@pytest.mark.parametrize(
    "text", ["\n", "x", "- - -", "1 2 3 4 5 6 7 8 9 10", "1 2 8:17 / /x rw - \n", "1 2 8:17 / / rw a b c -\n"]
)
def test_a_line_that_makes_no_sense_is_skipped_and_the_next_one_counts(text: str) -> None:
    assert place_in_use(STICK, text + "\n" + mount("/boot"), text) in ("/boot", "/")


def test_the_parts_of_a_drive_are_its_partitions_and_what_is_stacked_on_them(tmp_path: Path) -> None:
    def node(path: str, number: str) -> Path:
        folder = tmp_path / path
        folder.mkdir(parents=True)
        (folder / "dev").write_text(number + "\n")
        return folder

    node("sdb", "8:16")
    partition = node("sdb/sdb2", "8:18")
    (partition / "partition").write_text("2\n")
    (tmp_path / "sdb2").symlink_to(partition)
    mapped = node("dm-0", "254:0")
    (mapped / "dm").mkdir()
    (mapped / "dm" / "name").write_text("vault\n")
    (partition / "holders").mkdir()
    (partition / "holders" / "dm-0").symlink_to(mapped)
    (mapped / "holders").mkdir()
    (mapped / "holders" / "sdb").symlink_to(tmp_path / "sdb")  # a ring, which there should not be, ends
    node("sdc", "8:32")

    assert parts_of("/dev/sdb", tmp_path) == {
        DrivePart("8:16", frozenset({"/dev/sdb"})),
        DrivePart("8:18", frozenset({"/dev/sdb2"})),
        DrivePart("254:0", frozenset({"/dev/dm-0", "/dev/mapper/vault"})),
    }
    assert place_in_use(parts_of("/dev/sdb", tmp_path), mount("/", "254:0", "/dev/mapper/vault"), "") == "/"


def test_a_drive_that_is_gone_has_no_parts(tmp_path: Path) -> None:
    assert parts_of("/dev/sdb", tmp_path) == frozenset()
