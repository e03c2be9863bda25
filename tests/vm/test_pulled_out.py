"""The stick, the daemon or the power goes away in the middle: nothing is lost, and the next visit completes."""

from __future__ import annotations

import time
from random import Random

import pytest

from tests.vm.conftest import Scene
from tests.vm.paper import bundles_on, envelopes_on
from tests.vm.stick import Stick
from tests.vm.tablet import Tablet
from tests.vm.test_offload import assert_all_is_on

SLOW = 400_000
"""Bytes a second: a visit to a stick then takes some seconds of writing."""
HALF = 1_300_000
"""Bytes after which some files are complete, and a large one has been begun."""


def finish(tablet: Tablet, stick: Stick, visits: int) -> None:
    """Plug the stick in again, and see everything on it in the end."""
    tablet.plug(stick)
    visit = tablet.ended(visits)[-1]
    assert visit["ending"] == "safe", visit
    tablet.yank(stick)
    assert_all_is_on(stick, tablet)
    names = [path for path in stick.files() if path.startswith("CENSUS/")]
    assert not [name for name in names if name.endswith(".PART")], "what was half written is taken away"


@pytest.mark.parametrize("file_system", ["vfat", "exfat"])
def test_a_stick_pulled_out_in_mid_write_keeps_what_was_complete_and_the_next_visit_completes(
    scene: Scene, file_system: str
) -> None:
    tablet, stick = scene.wake("loaded tablet 17"), scene.stick(file_system)
    tablet.write_at_once()
    tablet.plug(stick, bytes_per_second=SLOW)
    tablet.wait_until_written(stick, HALF)
    tablet.yank(stick)
    (visit,) = tablet.ended()
    assert (visit["ending"], visit["safe_to_remove"], visit["present"]) == ("gone", False, False), visit
    assert tablet.events("medium_unfinished")
    assert len(bundles_on(stick.files())) > 0, "some files were complete"
    # Whether the name of the file that had been begun was on the stick already is up to the kernel.
    assert 10 < len(envelopes_on(stick, tablet.key)) < tablet.counts()["waiting"], "it was in mid write"
    assert not tablet.mounts()
    finish(tablet, stick, 2)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_stick_pulled_out_again_and_again_loses_nothing(scene: Scene, seed: int) -> None:
    moments = Random(seed)
    tablet, stick = scene.wake("loaded tablet 17"), scene.stick("vfat" if seed % 2 else "exfat")
    complete: dict[str, bytes] = {}
    tablet.write_at_once()
    for visits in range(1, 5):
        # It goes on where it was pulled out, and so has less to do each time.
        tablet.plug(stick, bytes_per_second=SLOW // 2)
        tablet.noticed(visits)
        time.sleep(moments.uniform(0.1, 4))
        tablet.yank(stick)
        for visit in tablet.ended(visits):
            # Even where vfat shows empty folders and the kernel answers EIO, at first.
            assert (visit["ending"] in ("gone", "vanished"), visit["safe_to_remove"]) == (True, False), visit
        found = bundles_on(stick.files())
        assert complete.items() <= found.items(), "what was complete stays"
        envelopes_on(stick, tablet.key)
        complete = found
    finish(tablet, stick, 5)


def test_a_stick_pulled_out_while_it_is_checked_is_not_called_safe(scene: Scene) -> None:
    tablet, stick = scene.wake("loaded tablet 17"), scene.stick()
    tablet.plug(stick)
    tablet.wait(lambda: [one for one in tablet.visits() if one["stage"] == "checking"], "it is checked")
    tablet.yank(stick)
    (visit,) = tablet.ended()
    assert not visit["safe_to_remove"], visit
    assert_all_is_on(stick, tablet)
    finish(tablet, stick, 2)


def test_a_power_cut_in_mid_write_loses_nothing_and_the_stick_that_is_there_at_boot_is_completed(scene: Scene) -> None:
    tablet, stick = scene.wake("loaded tablet 17"), scene.stick()
    tablet.plug(stick, bytes_per_second=SLOW)
    tablet.wait_until_written(stick, HALF)
    tablet.cut_power()
    assert len(envelopes_on(stick, tablet.key)) > 10
    tablet.machine.boot(lambda: tablet.plug(stick))
    tablet.remember_daemon()
    (visit,) = tablet.ended()
    assert visit["ending"] == "safe", visit
    assert tablet.counts()["waiting"] >= len(tablet.accepted)
    tablet.yank(stick)
    assert_all_is_on(stick, tablet)


def test_a_daemon_killed_in_mid_write_is_started_again_and_completes_the_stick(scene: Scene) -> None:
    tablet, stick = scene.wake("loaded tablet 17"), scene.stick("exfat")
    tablet.plug(stick, bytes_per_second=SLOW)
    tablet.wait_until_written(stick, HALF)
    tablet.machine.run("systemctl kill --signal=KILL edge-agent")
    tablet.speed_up(stick)
    killed = tablet.main_process
    # systemd starts it again by itself.
    tablet.remember_daemon()
    assert tablet.main_process != killed
    (visit,) = tablet.ended()
    assert visit["ending"] == "safe", visit
    (line,) = tablet.events("media_left_mounted")
    assert (line["CENSUS_REMOVED"], line["CENSUS_REMAINING"]) == ("1", "0")
    tablet.yank(stick)
    assert_all_is_on(stick, tablet)


def test_a_daemon_restarted_in_mid_write_leaves_no_mount_and_completes_the_stick(scene: Scene) -> None:
    tablet, stick = scene.wake("loaded tablet 17"), scene.stick()
    tablet.plug(stick, bytes_per_second=SLOW)
    tablet.wait_until_written(stick, HALF)
    tablet.machine.run("systemctl stop edge-agent")
    assert "/dev/sd" not in tablet.machine.run("cat /proc/mounts")
    tablet.speed_up(stick)
    tablet.machine.run("systemctl start edge-agent")
    tablet.remember_daemon()
    (visit,) = tablet.ended()
    assert visit["ending"] == "safe", visit
    tablet.yank(stick)
    assert_all_is_on(stick, tablet)
