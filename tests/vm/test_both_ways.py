"""A stick is a courier: receipts come back on it, several devices use it, and a laptop takes over what is on it."""

from __future__ import annotations

from sync_protocol.identity import device_name
from tests.vm.conftest import Scene
from tests.vm.fleet import FOREIGN
from tests.vm.paper import BACKED_UP, bundles_on, envelopes_on, receipt_file
from tests.vm.stick import Content
from tests.vm.test_offload import assert_all_is_on, offload


def test_receipts_on_a_stick_mark_first_and_purge_once_the_center_has_a_backup(scene: Scene) -> None:
    tablet, stick = scene.wake(), scene.stick()
    offload(tablet, stick)
    envelopes = list(envelopes_on(stick, tablet.key).values())
    own = set(bundles_on(stick.files()))
    put: Content = {}
    for serial, watermark, expected in ((1, 0, "synchronised"), (2, BACKED_UP, "purged")):
        put = {**put, **receipt_file(envelopes, serial=serial, watermark=watermark)}
        stick.put(put)
        tablet.plug(stick)
        visit = tablet.ended(serial + 1)[-1]
        tablet.yank(stick)
        assert visit["ending"] == "safe", visit
        assert tablet.counts()[expected] == len(envelopes), "what is committed is purged when there is a backup of it"
        left = bundles_on(stick.files())
        assert not own & set(left), "what the center has is not needed on the stick any more"
        assert put.items() <= left.items(), "another's files stay"
        assert FOREIGN.items() <= stick.files().items()


def test_two_tablets_share_a_stick_and_neither_touches_what_is_the_others(scene: Scene) -> None:
    first, second, stick = scene.wake("tablet 17"), scene.wake("tablet 18"), scene.stick()
    offload(first, stick)
    before = bundles_on(stick.files())
    offload(second, stick)
    after = bundles_on(stick.files())
    assert before.items() < after.items()
    folders = {path.split("/")[1] for path in after}
    assert folders == {device_name(tablet.key.public_bytes).hex() for tablet in (first, second)}
    assert_all_is_on(stick, first)
    # Each is offered the other's: it takes nothing over, and loses nothing of its own.
    offload(first, stick)
    assert after.items() <= stick.files().items()
    assert first.counts()["carried_for_others"] == 0


def test_a_laptop_takes_over_what_is_on_a_stick_each_envelope_once(scene: Scene) -> None:
    tablet, laptop, stick = scene.wake("tablet 17"), scene.wake("laptop 3"), scene.stick()
    offload(tablet, stick)
    before = stick.files()
    for visits in (1, 2):
        laptop.plug(stick)
        visit = laptop.ended(visits)[-1]
        laptop.yank(stick)
        assert (visit["ending"], visit["envelopes_read"]) == ("safe", len(tablet.accepted)), visit
        assert laptop.counts()["carried_for_others"] == len(tablet.accepted)
        assert before.items() <= stick.files().items(), "the tablet's copies stay until a receipt frees them"


def test_a_laptop_salvages_what_is_whole_of_a_damaged_file_and_names_it(scene: Scene) -> None:
    tablet, laptop, stick = scene.wake("tablet 17"), scene.wake("laptop 3"), scene.stick()
    offload(tablet, stick)
    (path, data), *_ = bundles_on(stick.files()).items()
    middle = len(data) // 2
    stick.put({path: data[:middle] + bytes(100) + data[middle + 100 :]})
    laptop.plug(stick)
    (visit,) = laptop.ended()
    laptop.yank(stick)
    assert visit["ending"] == "safe" and visit["damaged_files"] == [path.removeprefix("CENSUS/")], visit
    carried = laptop.counts()["carried_for_others"]
    assert len(tablet.accepted) - 2 <= carried < len(tablet.accepted)

    # The tablet sees the stick again, and leaves once more what cannot be read there.
    tablet.plug(stick)
    visit = tablet.ended(2)[-1]
    tablet.yank(stick)
    assert visit["ending"] == "safe" and visit["envelopes_written"] == len(tablet.accepted) - carried, visit
    laptop.plug(stick)
    laptop.ended(2)
    laptop.yank(stick)
    assert laptop.counts()["carried_for_others"] == len(tablet.accepted)
