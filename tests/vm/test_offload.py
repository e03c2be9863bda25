"""A stick is plugged in, everything that waits is left on it, and the sentence says that it may be removed."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Scene
from tests.vm.fleet import FOREIGN
from tests.vm.paper import envelopes_on, opened


@pytest.mark.parametrize("file_system", ["vfat", "exfat"])
def test_everything_is_left_on_a_stick_by_udisks(scene: Scene, file_system: str) -> None:
    tablet, stick = scene.wake(), scene.stick(file_system)
    tablet.plug(stick)
    (visit,) = tablet.ended()
    assert visit["ending"] == "safe" and visit["safe_to_remove"], visit
    assert visit["envelopes_written"] == len(tablet.accepted)
    (line,) = tablet.events("medium_safe")
    assert line["CENSUS_ENDING"] == "safe to remove"
    tablet.yank(stick)
    assert opened(envelopes_on(stick, tablet.key).values()) == sorted(tablet.accepted)
    assert FOREIGN.items() <= stick.files().items()
    assert stick.check() == ""
    assert tablet.counts()["waiting"] == len(tablet.accepted), "a stick frees nobody"
