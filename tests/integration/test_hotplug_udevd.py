"""Hotplug through a real udevd, its own rules and blkid, with the kernel's events of a loop device."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.watched_loop_device import WatchedLoopDevice, why_no_watched_loop_device

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(why_no_watched_loop_device() is not None, reason=str(why_no_watched_loop_device())),
]


def added(node: str, label: str = "STICK", file_system: str = "vfat") -> dict[str, Any]:
    size = 16 * 1024 * 1024
    claim = {"file_system": file_system, "size_bytes": size, "is_write_protected": False, "label": label, "serial": ""}
    return {"added": {"node": node, "drive": node, **claim}}


def test_a_medium_that_comes_and_goes_is_told_with_what_blkid_reads_from_it() -> None:
    with WatchedLoopDevice() as stick:
        stick.does("attach")
        assert stick.told(1) == [added(stick.node)]
        stick.does("detach")
        assert stick.told(1) == [{"removed": stick.node}]


def test_a_file_system_made_anew_is_told_and_a_mere_opening_is_not() -> None:
    with WatchedLoopDevice() as stick:
        stick.does("attach")
        stick.told(1)
        stick.does("touch", "format")
        assert stick.told(2) == [{"removed": stick.node}, added(stick.node, "ANEW")]


def test_visits_that_follow_each_other_before_the_watch_looks_are_told_in_order() -> None:
    with WatchedLoopDevice() as stick:
        stick.does("attach", "detach", "attach", "format")
        told = stick.told(1)
        while told[-1] != added(stick.node, "ANEW"):
            told += stick.told(1)
        # Each added but the last is followed by its removal.
        assert [next(iter(line)) for line in told] == ["added", "removed"] * (len(told) // 2) + ["added"]


def test_a_medium_that_the_system_lives_on_is_left_alone() -> None:
    with WatchedLoopDevice() as stick:
        stick.does("attach", "mount_as_system")
        stick.does("unmount", "touch")
        assert stick.told(1) == [added(stick.node, "SYSTEM", "ext4")]
        assert "usb_drive_of_system" in stick.log


def test_what_looks_like_swap_is_left_alone_where_the_list_of_swaps_is_hidden() -> None:
    with WatchedLoopDevice() as stick:
        stick.does("attach")
        stick.told(1)
        stick.does("hide_swaps", "format_as_swap")
        assert stick.told(1) == [{"removed": stick.node}]
        stick.does("format")
        assert stick.told(1) == [added(stick.node, "ANEW")]
        assert "usb_drive_of_system" in stick.log


def test_what_happens_while_notices_are_lost_is_found_by_listing() -> None:
    with WatchedLoopDevice(receive_buffer_bytes=4096) as stick:
        stick.does("attach")
        assert stick.told(1) == [added(stick.node)]
        stick.does("storm", "detach")
        assert stick.told(1) == [{"removed": stick.node}]
        assert "hotplug_notices_lost" in stick.log
        stick.does("attach")
        assert stick.told(1) == [added(stick.node)], "it hears again"
