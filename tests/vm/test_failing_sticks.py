"""Sticks that are slow, full, write-protected, broken or dishonest: one clear outcome each, never a false "safe"."""

from __future__ import annotations

from typing import Final

import pytest

from tests.vm.conftest import Scene
from tests.vm.paper import bundles_on, envelopes_on, opened, receipt_file
from tests.vm.stick_server import StickServer
from tests.vm.tablet import Tablet
from tests.vm.test_offload import assert_all_is_on, offload
from tests.vm.test_pulled_out import HALF, SLOW

NEARLY_ALL: Final = 91 << 20
"""Of a stick, taken by somebody's film: one file of ours still finds room, two do not."""


def is_taken_by_another_stick(scene: Scene, tablet: Tablet) -> None:
    offload(tablet, scene.stick("exfat", "blue"))


def test_a_slow_stick_ends_safe(scene: Scene) -> None:
    tablet, stick = scene.wake(), scene.stick()
    tablet.plug(stick, bytes_per_second=40_000)
    (visit,) = tablet.ended()
    assert visit["ending"] == "safe"
    tablet.yank(stick)
    assert_all_is_on(stick, tablet)


def test_a_full_stick_takes_what_finds_room_and_the_rest_goes_when_there_is_some(scene: Scene) -> None:
    tablet, stick = scene.wake("loaded tablet 17"), scene.stick(content={"film.mp4": bytes(NEARLY_ALL)})
    tablet.plug(stick)
    (visit,) = tablet.ended()
    assert (visit["ending"], visit["safe_to_remove"]) == ("full", True), visit
    tablet.yank(stick)
    part = envelopes_on(stick, tablet.key)
    assert len(part) == visit["envelopes_written"] > 0
    assert min(part) == 1, "the oldest come first"
    assert stick.check() == ""
    stick.remove("film.mp4")
    tablet.plug(stick)
    assert tablet.ended(2)[-1]["ending"] == "safe"
    tablet.yank(stick)
    assert set(part) < set(envelopes_on(stick, tablet.key))
    assert opened(envelopes_on(stick, tablet.key).values()) == sorted(tablet.accepted)


@pytest.mark.parametrize("file_system", ["vfat", "exfat"])
def test_a_read_only_stick_is_read_and_nothing_is_left(scene: Scene, file_system: str) -> None:
    tablet, stick = scene.wake(), scene.stick(file_system)
    before = stick.digest()
    tablet.plug(stick, is_read_only=True)
    (visit,) = tablet.ended()
    assert (visit["ending"], visit["envelopes_written"]) == ("read_only", 0), visit
    tablet.yank(stick)
    assert stick.digest() == before
    assert tablet.counts()["waiting"] == len(tablet.accepted)


def test_receipts_on_a_read_only_stick_count(scene: Scene) -> None:
    tablet, stick = scene.wake(), scene.stick()
    offload(tablet, stick)
    stick.put(receipt_file(list(envelopes_on(stick, tablet.key).values())))
    tablet.plug(stick, is_read_only=True)
    assert tablet.ended(2)[-1]["ending"] in ("safe", "read_only")
    assert tablet.counts()["purged"] == len(tablet.accepted)
    tablet.yank(stick)


def test_a_stick_that_fails_to_write_is_not_called_safe_and_another_one_takes_all(scene: Scene) -> None:
    tablet, stick = scene.wake("loaded tablet 17"), scene.stick()
    with StickServer(stick.image) as server:
        tablet.plug(stick, bytes_per_second=SLOW, server=server)
        tablet.wait_until_written(stick, HALF)
        server.fails_to_write = True
        (visit,) = tablet.ended()
        assert (visit["ending"], visit["safe_to_remove"]) == ("unreadable", False), visit
        tablet.yank(stick)
    envelopes_on(stick, tablet.key)
    is_taken_by_another_stick(scene, tablet)


def test_a_stick_that_fails_to_write_from_the_start_is_not_called_safe(scene: Scene) -> None:
    tablet, stick = scene.wake(), scene.stick()
    with StickServer(stick.image) as server:
        server.fails_to_write = True
        tablet.plug(stick, server=server)
        (visit,) = tablet.ended()
        assert not visit["safe_to_remove"], visit
        assert visit["envelopes_written"] == 0
        tablet.yank(stick)
    is_taken_by_another_stick(scene, tablet)


def test_a_stick_that_cannot_be_read_back_is_not_called_safe(scene: Scene) -> None:
    tablet, stick = scene.wake("loaded tablet 17"), scene.stick()
    with StickServer(stick.image) as server:
        tablet.plug(stick, bytes_per_second=SLOW, server=server)
        tablet.wait_until_written(stick, HALF)
        server.fails_to_read = True
        tablet.speed_up(stick)
        # udev looks at it again, and finds no file system: then there is a second visit, which ends at once.
        first, *following = tablet.ended()
        assert (first["ending"], first["safe_to_remove"]) == ("unreadable", False), first
        assert not any(visit["safe_to_remove"] for visit in following), following
        tablet.yank(stick)
    is_taken_by_another_stick(scene, tablet)


def test_a_stick_that_can_never_be_read_is_no_medium_and_does_no_harm(scene: Scene) -> None:
    tablet, stick = scene.wake(), scene.stick()
    with StickServer(stick.image) as server:
        server.fails_to_read = True
        tablet.plug(stick, server=server)
        tablet.wait(lambda: "sda" in tablet.machine.run("lsblk --noheadings"), "the kernel sees the stick")
        tablet.machine.run("udevadm settle")
        assert tablet.visits() == []
        tablet.yank(stick)
    is_taken_by_another_stick(scene, tablet)


def test_a_stick_that_forgets_what_it_was_given_is_found_out(scene: Scene) -> None:
    tablet, stick = scene.wake("loaded tablet 17"), scene.stick()
    with StickServer(stick.image) as server:
        # Its tables are in the part that it really has, and so is the beginning of the first file.
        server.true_size = 4 << 20
        tablet.plug(stick, server=server)
        (visit,) = tablet.ended()
        assert server.forgotten_bytes > 1 << 19, "it said that it had written them"
        assert (visit["ending"], visit["safe_to_remove"]) == ("unreadable", False), visit
        tablet.yank(stick)
    assert len(bundles_on(stick.files())) > 0
    is_taken_by_another_stick(scene, tablet)
