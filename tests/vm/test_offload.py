"""A stick is plugged in, everything that waits is left on it, and the sentence says that it may be removed."""

from __future__ import annotations

from typing import Final

import pytest

from tests.vm.conftest import Scene
from tests.vm.fleet import FOREIGN
from tests.vm.paper import bundles_on, envelopes_on, opened
from tests.vm.stick import Layout, Stick
from tests.vm.tablet import Tablet, Visit

BY_ITSELF: Final = """
set -e
printf '[usb]\\nmounting = "system"\\n' >> /etc/edge-agent/edge-agent.toml
cd /usr/local/share/doc/census-sync/examples
install -D -m 0644 edge-agent-mounting.conf /etc/systemd/system/edge-agent.service.d/mounting.conf
systemctl daemon-reload
systemctl restart edge-agent
"""


def offload(tablet: Tablet, stick: Stick) -> Visit:
    """Plug a stick in, see everything left on it, and take it out."""
    before = len(tablet.visits())
    tablet.plug(stick)
    visit = tablet.ended(before + 1)[-1]
    tablet.yank(stick)
    assert visit["ending"] == "safe" and visit["safe_to_remove"], visit
    assert_all_is_on(stick, tablet)
    return visit


def assert_all_is_on(stick: Stick, tablet: Tablet) -> None:
    assert opened(envelopes_on(stick, tablet.key).values()) == sorted(tablet.accepted)
    assert FOREIGN.items() <= stick.files().items(), "somebody else's files changed"


@pytest.mark.parametrize("file_system", ["vfat", "exfat"])
def test_everything_is_left_on_a_stick(scene: Scene, file_system: str) -> None:
    tablet, stick = scene.wake(), scene.stick(file_system)
    visit = offload(tablet, stick)
    assert visit["envelopes_written"] == len(tablet.accepted)
    assert visit["files_checked"] == visit["files_written"] == len(bundles_on(stick.files()))
    (line,) = tablet.events("medium_safe")
    assert line["CENSUS_ENDING"] == "safe to remove" and line["CENSUS_NUMBER"] in ("0017", "0019")
    assert stick.check() == ""
    assert tablet.counts()["waiting"] == len(tablet.accepted), "a stick frees nobody"


@pytest.mark.parametrize("file_system", ["vfat", "exfat"])
def test_everything_is_left_on_a_stick_that_the_daemon_mounts_by_itself(scene: Scene, file_system: str) -> None:
    tablet, stick = scene.wake(), scene.stick(file_system)
    tablet.machine.run("systemctl mask --now udisks2")
    tablet.machine.run(BY_ITSELF)
    tablet.remember_daemon()
    offload(tablet, stick)
    assert stick.check() == ""


@pytest.mark.parametrize(
    ("layout", "first_sector"),
    [(Layout.WHOLE, 2048), (Layout.GPT, 2048), (Layout.MBR, 40_960)],
    ids=["without a partition table", "with a GPT", "in its second partition"],
)
def test_everything_is_left_on_a_stick_of_another_layout(scene: Scene, layout: Layout, first_sector: int) -> None:
    offload(scene.wake(), scene.stick(layout=layout, first_sector=first_sector))


def test_a_second_visit_leaves_only_what_came_since(scene: Scene) -> None:
    tablet, stick = scene.wake(), scene.stick()
    offload(tablet, stick)
    before = bundles_on(stick.files())
    tablet.submit([b'{"household":"one more"}'])
    tablet.plug(stick)
    visit = tablet.ended(2)[-1]
    tablet.yank(stick)
    assert (visit["ending"], visit["envelopes_written"]) == ("safe", 1)
    assert before.items() <= stick.files().items()
    assert_all_is_on(stick, tablet)


def test_two_sticks_at_once_each_get_everything(scene: Scene) -> None:
    tablet, sticks = scene.wake(), [scene.stick("vfat", "red"), scene.stick("exfat", "blue")]
    for stick in sticks:
        tablet.plug(stick)
    visits = tablet.ended(2)
    assert [visit["ending"] for visit in visits] == ["safe", "safe"]
    assert {visit["number"] for visit in visits} == {"0017", "0019"}
    for stick in sticks:
        tablet.yank(stick)
        assert_all_is_on(stick, tablet)


def test_a_stick_that_is_there_when_the_daemon_starts_is_visited(scene: Scene) -> None:
    tablet, stick = scene.wake(), scene.stick("exfat")
    tablet.machine.run("systemctl stop edge-agent")
    tablet.plug(stick)
    tablet.machine.run("until test -b /dev/sda1; do sleep 0.1; done; udevadm settle; systemctl start edge-agent")
    tablet.remember_daemon()
    assert [visit["ending"] for visit in tablet.ended()] == ["safe"]
    tablet.yank(stick)
    assert_all_is_on(stick, tablet)
