"""What a visit to a medium means to the engine: who takes over, what is left again, what may be taken away."""

from collections.abc import Iterator

import pytest

from edge_agent.engine.custody import ChainPlace, released
from edge_agent.engine.events import BundleArrived, LinkDown, LinkUp, Settled
from edge_agent.engine.links import medium_reading, medium_writing
from sync_protocol.bundle import write_bundle
from sync_protocol.envelope import Envelope, parse_envelope
from sync_protocol.identity import Role
from sync_protocol.limits import BUNDLE_BYTES_MAX
from tests.support.device import NOW, Authority, Device, committed, envelopes_in, memory_folder, sends
from tests.support.district import District, Medium, bring, carried, data_of, fill, foreign_receipt, meet_by_hand

AUTHORITY = Authority()
MEDIUM = b"m" * 16


@pytest.fixture
def tablet() -> Iterator[Device]:
    with memory_folder() as folder:
        device = Device(folder / "tablet", AUTHORITY, name="tablet").start()
        yield device
        device.stop()


@pytest.fixture
def laptop() -> Iterator[Device]:
    with memory_folder() as folder:
        device = Device(folder / "laptop", AUTHORITY, name="laptop", role=Role.COLLECTION_POINT).start()
        yield device
        device.stop()


def envelopes_of(device: Device, own: int = 1) -> list[Envelope]:
    return [parse_envelope(data) for (data,) in device.rows("data", f"own = {own}") if isinstance(data, bytes)]


def leave(device: Device, *held: Envelope, key: str = "writing") -> list[Envelope]:
    """Let a device write a medium that has these already; return what it leaves."""
    holds = frozenset(envelope.id for envelope in held)
    waiting = sends(device.step(LinkUp(medium_writing(key, MEDIUM, holds, bundle_bytes_max=BUNDLE_BYTES_MAX))))
    left = []
    while waiting:
        send = waiting.pop(0)
        left += envelopes_in([send])
        waiting += sends(device.step(Settled(key, send.token, True)))
    device.step(LinkDown(key))
    return left


def test_a_tablet_reads_receipts_from_a_medium_and_leaves_others_envelopes_there(
    tablet: Device, laptop: Device
) -> None:
    fill(laptop, 2)
    newest = foreign_receipt(tablet, serial=1)
    for device, taken in ((tablet, 0), (laptop, 0)):
        device.step(LinkUp(medium_reading("reading", MEDIUM)))
        bring(device, "reading", laptop.certificate, newest, *data_of(laptop, 1, 2))
        device.step(LinkDown("reading"))
        assert carried(device) == taken
    assert tablet.store is not None
    with tablet.store.transaction() as transaction:
        assert transaction.statement(1, tablet.id) == newest.data


def test_a_collection_point_takes_over_what_lies_on_a_medium(tablet: Device, laptop: Device) -> None:
    fill(tablet, 3)
    laptop.step(LinkUp(medium_reading("reading", MEDIUM)))
    bring(laptop, "reading", tablet.certificate, *data_of(tablet, 1, 2, 3))
    assert carried(laptop) == 3


def test_nothing_leaves_while_a_medium_is_read(tablet: Device) -> None:
    fill(tablet, 3)
    assert sends(tablet.step(LinkUp(medium_reading("reading", MEDIUM)))) == []
    assert sends(tablet.step(BundleArrived("reading", write_bundle([])))) == []
    assert sends(tablet.tick()) == []


def test_what_is_found_on_a_medium_is_not_left_again_and_what_is_missing_is(tablet: Device) -> None:
    fill(tablet, 4)
    one, two, three, four = envelopes_of(tablet)
    assert leave(tablet, one, three) == [two, four]
    assert leave(tablet, one, two, three, four, key="again") == []
    assert leave(tablet, two, key="another stick") == [one, three, four]


def test_a_medium_that_grew_up_elsewhere_is_believed_only_about_what_is_kept_here(
    tablet: Device, laptop: Device
) -> None:
    fill(laptop, 1)
    fill(tablet, 1)
    assert leave(tablet, *envelopes_of(laptop)) == envelopes_of(tablet)


def test_own_envelopes_are_released_once_a_receipt_lists_them(tablet: Device) -> None:
    fill(tablet, 3)
    envelopes = envelopes_of(tablet)
    key = meet_by_hand(tablet, tablet)
    assert tablet.store is not None
    with tablet.store.transaction() as transaction:
        assert released(map(ChainPlace.of, envelopes), transaction) == frozenset()
    bring(tablet, key, foreign_receipt(tablet, committed(1, 1, 2, envelopes[1].id), serial=1, watermark=0))
    with tablet.store.transaction() as transaction:
        assert released(map(ChainPlace.of, envelopes), transaction) == {envelopes[0].id, envelopes[1].id}
    bring(tablet, key, foreign_receipt(tablet, committed(1, 1, 3, envelopes[2].id), serial=2))
    assert len(tablet.rows("id", "own = 1 AND data IS NULL")) == 3
    with tablet.store.transaction() as transaction:
        assert released(map(ChainPlace.of, envelopes), transaction) == {envelope.id for envelope in envelopes}


@pytest.mark.parametrize(("watermark", "free"), [(NOW - 1, 0), (NOW, 3)])
def test_what_is_not_here_is_released_only_by_a_receipt_that_vouches_for_it_behind_the_watermark(
    tablet: Device, laptop: Device, watermark: int, free: int
) -> None:
    fill(tablet, 5)
    envelopes = envelopes_of(tablet)
    key = meet_by_hand(laptop, tablet)
    newest = foreign_receipt(tablet, committed(1, 1, 3, envelopes[2].id), serial=1, watermark=watermark)
    bring(laptop, key, tablet.certificate, newest)
    assert laptop.store is not None
    with laptop.store.transaction() as transaction:
        assert released(map(ChainPlace.of, envelopes), transaction) == {envelope.id for envelope in envelopes[:free]}
        assert released(map(ChainPlace.of, envelopes[:2]), transaction) == frozenset(), "nothing leads to these"


def test_carried_envelopes_are_released_while_they_rest_and_not_before(tablet: Device, laptop: Device) -> None:
    fill(tablet, 2)
    envelopes = envelopes_of(tablet)
    key = meet_by_hand(laptop, tablet)
    bring(laptop, key, tablet.certificate, *data_of(tablet, 1, 2))
    assert laptop.store is not None
    with laptop.store.transaction() as transaction:
        assert released(map(ChainPlace.of, envelopes), transaction) == frozenset()
    bring(laptop, key, foreign_receipt(tablet, committed(1, 1, 2, envelopes[1].id), serial=1, watermark=0))
    with laptop.store.transaction() as transaction:
        assert released(map(ChainPlace.of, envelopes), transaction) == {envelope.id for envelope in envelopes}


def test_what_a_tablet_leaves_a_collection_point_takes_and_the_receipt_comes_back_on_the_same_stick(
    tablet: Device, laptop: Device
) -> None:
    district = District(tablet, laptop)
    stick = Medium()
    fill(tablet, 5)
    district.mailbox(laptop)
    for device in (tablet, laptop):
        key = district.plug_in(device, stick)
        district.run()
        district.part(key)
    district.census.back_up()
    district.publish(tablet.id)
    for device in (laptop, tablet):
        key = district.plug_in(device, stick)
        district.run()
        district.part(key)
    assert len(tablet.rows("id", "own = 1 AND data IS NULL")) == 5
    assert carried(laptop) == 0
