"""What is carried for others: taken or not, passed on, and when its custody ends (docs/decisions/0016)."""

from collections.abc import Iterator

import pytest

from edge_agent.engine.events import LinkDown
from sync_protocol.bundle import Frame, FrameType
from sync_protocol.envelope import seal_envelope
from sync_protocol.identity import Role
from tests.support.device import (
    DAY,
    HOUR,
    NOW,
    Authority,
    Device,
    committed,
    envelopes_in,
    held,
    memory_folder,
)
from tests.support.district import (
    District,
    Medium,
    bring,
    carried,
    data_of,
    fill,
    foreign_receipt,
    meet_by_hand,
    open_rows,
)

AUTHORITY = Authority()


@pytest.fixture
def devices() -> Iterator[tuple[Device, Device, Device]]:
    with memory_folder() as folder:
        roles = {"a": Role.TABLET, "b": Role.COLLECTION_POINT, "c": Role.TABLET}
        a, b, c = (Device(folder / name, AUTHORITY, name=name, role=role).start() for name, role in roles.items())
        yield (a, b, c)
        for device in (a, b, c):
            device.stop()


def test_what_a_kept_receipt_vouches_for_is_not_taken(devices: tuple[Device, Device, Device]) -> None:
    a, b, _ = devices
    fill(a, 4)
    key = meet_by_hand(b, a)
    bring(b, key, a.certificate, foreign_receipt(a, committed(1, 1, 3, a.envelope_ids()[2]), serial=1))
    bring(b, key, *data_of(a, 1, 2, 3, 4))
    assert b.rows("sequence", "own = 0") == [(4,)]
    bring(b, key, *data_of(a, 3))
    assert b.rows("sequence", "own = 0") == [(4,)] and [
        one.fields["envelopes"] for one in b.notices("custody_taken")
    ] == [3]


def test_a_receipt_counts_for_what_follows_it_in_its_bundle(devices: tuple[Device, Device, Device]) -> None:
    a, b, _ = devices
    fill(a, 2)
    key = meet_by_hand(b, a)
    newest = foreign_receipt(a, committed(1, 1, 2, a.envelope_ids()[1]), serial=1)
    bring(b, key, a.certificate, *data_of(a, 1), newest, *data_of(a, 2))
    assert carried(b) == 0


def test_what_is_held_is_not_taken_either(devices: tuple[Device, Device, Device]) -> None:
    a, b, _ = devices
    fill(a, 1)
    key = meet_by_hand(b, a)
    bring(b, key, a.certificate, foreign_receipt(a, held(1, 1, 1, a.envelope_ids()[0]), serial=1), *data_of(a, 1))
    assert carried(b) == 0


def test_a_receipt_ends_the_custody_of_all_that_its_last_id_leads_to(devices: tuple[Device, Device, Device]) -> None:
    a, b, _ = devices
    fill(a, 6)
    key = meet_by_hand(b, a)
    bring(b, key, a.certificate, *data_of(a, 2, 3, 4, 5, 6))
    bring(b, key, foreign_receipt(a, committed(1, 1, 5, a.envelope_ids()[4]), serial=1))
    assert b.rows("sequence", "own = 0") == [(6,)]


def test_what_no_link_leads_to_stays_and_is_offered_until_a_span_ends_there(
    devices: tuple[Device, Device, Device],
) -> None:
    a, b, _ = devices
    fill(a, 6)
    ids = a.envelope_ids()
    key = meet_by_hand(b, a)
    bring(b, key, a.certificate, *data_of(a, 1, 2))
    for serial in (1, 2, 3):
        bring(b, key, foreign_receipt(a, committed(1, 1, 6, ids[5]), serial=serial))
        assert carried(b) == 2
    sends = b.link_up()
    assert len(envelopes_in(sends)) == 2
    for send in sends:
        b.settle(send)
    bring(b, key, foreign_receipt(a, committed(1, 1, 6, ids[5]), serial=4))
    assert carried(b) == 2, "a broker's word is nobody's custody"
    bring(b, key, foreign_receipt(a, committed(1, 1, 2, ids[1]), committed(1, 3, 6, ids[5]), serial=5))
    assert carried(b) == 0


def test_what_is_not_behind_the_watermark_yet_rests_and_then_is_offered_again(
    devices: tuple[Device, Device, Device],
) -> None:
    a, b, _ = devices
    fill(a, 3)
    ids = a.envelope_ids()
    key = meet_by_hand(b, a)
    bring(b, key, a.certificate, *data_of(a, 1, 2, 3))
    bring(b, key, foreign_receipt(a, committed(1, 1, 3, ids[2]), serial=1, watermark=NOW - 1))
    assert carried(b) == 3 and not b.notices("custody_ended")
    assert envelopes_in(b.link_up()) == []
    b.now += DAY - 1
    assert envelopes_in(b.tick()) == []
    b.now += 1
    assert len(envelopes_in(b.tick())) == 3
    bring(b, key, foreign_receipt(a, committed(1, 1, 3, ids[2]), serial=2, watermark=NOW))
    assert carried(b) == 0


def test_each_newer_receipt_begins_the_rest_anew(devices: tuple[Device, Device, Device]) -> None:
    a, b, _ = devices
    fill(a, 1)
    key = meet_by_hand(b, a)
    bring(b, key, a.certificate, *data_of(a, 1))
    for serial in (1, 2, 3):
        bring(b, key, foreign_receipt(a, committed(1, 1, 1, a.envelope_ids()[0]), serial=serial, watermark=0))
        b.now += DAY - 1
    assert envelopes_in(b.link_up()) == []


def test_what_a_receipt_takes_back_is_offered_at_once(devices: tuple[Device, Device, Device]) -> None:
    a, b, _ = devices
    fill(a, 3)
    ids = a.envelope_ids()
    key = meet_by_hand(b, a)
    bring(b, key, a.certificate, *data_of(a, 1, 2, 3))
    bring(b, key, foreign_receipt(a, committed(1, 1, 3, ids[2]), serial=1, watermark=0))
    bring(b, key, foreign_receipt(a, committed(1, 1, 1, ids[0]), serial=2, watermark=0))
    assert [notice.fields["envelopes"] for notice in b.notices("custody_resumed")] == [2]
    assert len(envelopes_in(b.link_up())) == 2


def test_a_rest_goes_on_under_a_receipt_that_ends_elsewhere(devices: tuple[Device, Device, Device]) -> None:
    a, b, _ = devices
    fill(a, 4)
    ids = a.envelope_ids()
    key = meet_by_hand(b, a)
    bring(b, key, a.certificate, *data_of(a, 1, 2))
    bring(b, key, foreign_receipt(a, committed(1, 1, 2, ids[1]), serial=1, watermark=0))
    b.now += DAY // 2
    bring(b, key, foreign_receipt(a, committed(1, 1, 4, ids[3]), serial=2))
    assert carried(b) == 2 and envelopes_in(b.link_up()) == []
    b.now += DAY // 2
    assert len(envelopes_in(b.tick())) == 2


def test_what_the_center_may_still_lose_is_taken_and_rests(devices: tuple[Device, Device, Device]) -> None:
    a, b, _ = devices
    fill(a, 2)
    key = meet_by_hand(b, a)
    listed = foreign_receipt(a, committed(1, 1, 2, a.envelope_ids()[1]), serial=1, watermark=0)
    bring(b, key, a.certificate, listed, *data_of(a, 2))
    assert carried(b) == 1 and envelopes_in(b.link_up()) == []
    b.now += DAY
    assert len(envelopes_in(b.tick())) == 1
    bring(b, key, *data_of(a, 2))
    b.step(LinkDown(b.link))
    assert len(envelopes_in(b.link_up())) == 1, "a neighbour that has it too puts nothing to rest"


def test_another_branch_of_a_forked_chain_is_kept_and_carried_until_its_own_span_comes(
    devices: tuple[Device, Device, Device],
) -> None:
    a, *others = devices
    b, c = sorted(others, key=lambda device: device.id)
    fill(a, 4)
    twin = seal_envelope(
        b"other branch",
        recipient=AUTHORITY.center.public_key,
        signer=a.signer,
        origin=a.id,
        epoch=1,
        sequence=3,
        previous_id=a.envelope_ids()[1],
    )
    branch = Frame(FrameType.ENVELOPE, twin.data)
    key = meet_by_hand(b, a)
    whole = committed(1, 1, 4, a.envelope_ids()[3])
    bring(b, key, a.certificate, branch, *data_of(a, 1, 2, 3, 4))
    meet_by_hand(b, c)
    bring(b, key, foreign_receipt(a, whole, serial=1))
    assert b.rows("id", "own = 0") == [(twin.id,)], "the chain leads to its twin"
    bring(b, key, foreign_receipt(a, whole, committed(1, 3, 3, twin.id), serial=2))
    assert carried(b) == 0
    bring(b, key, branch)
    assert carried(b) == 0


def test_the_only_copy_of_a_branch_reaches_the_center_although_a_receipt_covers_its_place(
    devices: tuple[Device, Device, Device],
) -> None:
    a, b, c = devices
    district = District(*devices)
    fill(a, 3)
    keys = district.meet(a, b)
    district.run()
    district.part(*keys)
    lost = a.envelope_ids()
    a.stop()
    for path in a.directory.iterdir():
        path.unlink()
    a.start()
    fill(a, 5, 30)
    mailbox = district.mailbox(a)
    district.run()
    district.part(mailbox)
    keys = district.meet(a, c)
    district.run()
    district.part(*keys)
    keys = district.meet(c, b)
    district.run()
    district.part(*keys)
    assert carried(b) == 3, "its chain came here by b only"
    district.mailbox(b)
    district.run()
    assert set(lost) <= district.census.centers[a.id].envelopes.keys()
    district.census.back_up()
    district.publish(a.id)
    assert carried(b) == 0


def test_devices_without_a_center_do_not_hand_receipted_envelopes_to_and_fro(
    devices: tuple[Device, Device, Device],
) -> None:
    a, b, c = devices
    d = Device(a.directory.parent / "d", AUTHORITY, name="d").start()
    district = District(a, b, c, d)
    fill(a, 9)
    keys = district.meet(a, b)
    district.run()
    district.part(*keys)
    fill(a, 3)
    handed = 0
    for serial in range(1, 5):
        district.between_carriers.clear()
        key = meet_by_hand(d, a)
        newest = foreign_receipt(a, committed(1, 1, 12, a.envelope_ids()[11]), serial=serial)
        bring(d, key, a.certificate, newest)
        d.step(LinkDown(key))
        for _ in range(6):
            for pair in ((b, c), (c, d), (d, b)):
                keys = district.meet(*pair)
                district.run()
                district.part(*keys)
        handed = len(envelopes_in(district.between_carriers))
        assert handed <= 9 * 6, "no more than once each way between two of three, for each receipt"
        assert carried(b) + carried(c) + carried(d) >= 9, "somebody has them"
    before = len(envelopes_in(district.between_carriers))
    for pair in ((b, c), (c, d), (d, b)) * 5:
        keys = district.meet(*pair)
        district.run()
        district.part(*keys)
    assert len(envelopes_in(district.between_carriers)) == before, "without a new receipt nothing moves"
    d.stop()


def test_a_duplicate_brought_by_a_stale_stick_is_sent_once_and_let_go(
    devices: tuple[Device, Device, Device],
) -> None:
    a, laptop, _ = devices
    district = District(*devices)
    stick = Medium()
    fill(a, 4)
    key = district.plug_in(a, stick)
    district.run()
    district.part(key)
    fill(a, 4)
    mailbox = district.mailbox(a)
    district.run()
    district.part(mailbox)
    district.mailbox(laptop)
    district.run()
    center = district.census.centers[a.id]
    key = district.plug_in(laptop, stick)
    district.run()
    district.part(key)
    assert carried(laptop) == 4 and len(center.questionnaires()) == 8, "given once more, so that a receipt names it"
    district.census.back_up()
    district.publish(a.id)
    assert carried(laptop) == 0
    again = len(laptop.notices("sent"))
    district.wait(2 * DAY, by=HOUR)
    assert all(not notice.fields["envelopes"] for notice in laptop.notices("sent")[again:])
    assert open_rows(a) == []
