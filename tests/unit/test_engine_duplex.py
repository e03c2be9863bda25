"""Devices that meet, media that are carried about: relaying to the center, receipts back, custody and its end."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from edge_agent.engine.effects import Wake
from edge_agent.engine.events import BundleArrived, LinkDown, Settled, TimePassed
from edge_agent.engine.links import LinkShape
from edge_agent.engine.store import Store, StoreFault, StoreTransaction
from edge_agent.queue.store import QueueStore
from sync_protocol.bundle import Frame, FrameType, write_bundle
from sync_protocol.envelope import seal_envelope
from sync_protocol.receipt import Span, sign_receipt
from sync_protocol.statement import DEVICE_CERTIFICATE, Statement, sign_statement
from tests.support.device import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Authority,
    Device,
    committed,
    envelopes_in,
    frames_of,
    held,
    memory_folder,
)
from tests.support.district import District, Medium, carried, open_rows, refusals

AUTHORITY = Authority()


class FailingStore:
    """A store whose next commit fails when asked."""

    def __init__(self, store: QueueStore, failing: set[str]) -> None:
        self._store = store
        self._failing = failing

    @contextmanager
    def transaction(self) -> Iterator[StoreTransaction]:
        with self._store.transaction() as transaction:
            yield transaction
            if self._failing:
                raise StoreFault("as the test wanted")


@pytest.fixture
def failing() -> set[str]:
    return set()


@pytest.fixture
def devices(failing: set[str]) -> Iterator[tuple[Device, Device, Device]]:
    def wrap(store: QueueStore) -> Store:
        return FailingStore(store, failing)

    with memory_folder() as folder:
        made = [Device(folder / name, AUTHORITY, name=name, wrap_store=wrap).start() for name in ("a", "b", "c")]
        yield (made[0], made[1], made[2])
        for device in made:
            device.stop()


def fill(device: Device, envelopes: int, body_bytes: int = 20) -> None:
    noise = random.Random(f"{device.name} {envelopes}")
    for number in range(envelopes):
        body = b'{"x":"%s"}' % noise.randbytes(body_bytes // 2).hex().encode()
        device.submit(f"{device.name} {number} {next(device.requests)}", body)


def data_of(device: Device, *sequences: int, own: int = 1) -> list[Frame]:
    marks = ",".join(str(sequence) for sequence in sequences)
    rows = device.rows("data", f"own = {own} AND sequence IN ({marks})")
    return [Frame(FrameType.ENVELOPE, data) for (data,) in rows if isinstance(data, bytes)]


def bring(device: Device, key: str, *frames: Frame | Statement) -> None:
    """Let frames come in over a link, as if the far end had sent them."""
    whole = [one if isinstance(one, Frame) else Frame(FrameType.STATEMENT, one.data) for one in frames]
    device.step(BundleArrived(key, write_bundle(whole)))


def foreign_receipt(device: Device, *spans: Span, serial: int) -> Statement:
    return sign_receipt(AUTHORITY.receipts, origin=device.id, serial=serial, watermark=0, spans=spans)


def marked(device: Device) -> int:
    return len(device.rows("number", "own = 1 AND status IS NOT NULL"))


def purged(device: Device) -> int:
    return len(device.rows("number", "own = 1 AND data IS NULL"))


# Relaying.


def test_a_device_without_a_way_to_the_center_is_served_by_one_that_meets_it(
    devices: tuple[Device, Device, Device],
) -> None:
    a, b, _ = devices
    district = District(*devices)
    fill(a, 30, 300)
    district.mailbox(b)
    district.run()
    district.meet(a, b)
    district.run()
    center = district.census.centers[a.id]
    assert len(center.questionnaires()) == 30 and len(set(center.questionnaires())) == 30
    assert marked(a) == 30 and carried(b) == 0
    assert refusals(devices) == []
    assert purged(a) == 0, "nothing is backed up yet"


def test_receipts_that_move_the_watermark_reach_an_origin_of_which_nothing_is_carried_any_more(
    devices: tuple[Device, Device, Device],
) -> None:
    a, b, _ = devices
    district = District(*devices)
    fill(a, 3)
    district.mailbox(b)
    keys = district.meet(a, b)
    district.run()
    assert carried(b) == 0 and marked(a) == 3 and purged(a) == 0
    district.part(*keys)
    district.census.back_up()
    district.publish(a.id)
    district.meet(a, b)
    district.run()
    assert purged(a) == 3
    follows = [followed for device, followed in district.mailboxes.values() if device is b]
    assert follows == [frozenset({b.id})], "an origin that can purge everything needs no more receipts"


def test_a_line_of_devices_that_meet_in_pairs_delivers_and_the_receipts_come_back(
    devices: tuple[Device, Device, Device],
) -> None:
    a, b, c = devices
    district = District(*devices)
    fill(a, 5)
    for pair in ((a, b), (b, c)):
        keys = district.meet(*pair)
        district.run()
        district.part(*keys)
    assert carried(b) == 5 and carried(c) == 5
    mailbox = district.mailbox(c)
    district.run()
    district.census.back_up()
    district.publish(a.id)
    district.part(mailbox)
    assert carried(c) == 0
    for pair in ((c, b), (b, a)):
        keys = district.meet(*pair)
        district.run()
        district.part(*keys)
    assert purged(a) == 5 and carried(b) == 0 and refusals(devices) == []


def test_a_stick_carries_envelopes_to_a_collection_point_and_receipts_back(
    devices: tuple[Device, Device, Device],
) -> None:
    a, laptop, other = devices
    district = District(*devices)
    stick = Medium()
    fill(a, 6, 400)
    key = district.plug_in(a, stick)
    district.run()
    district.part(key)
    key = district.plug_in(laptop, stick)
    district.run()
    district.part(key)
    assert carried(laptop) == 6
    mailbox = district.mailbox(laptop)
    district.run()
    district.census.back_up()
    district.publish(a.id)
    district.part(mailbox)
    assert carried(laptop) == 0
    key = district.plug_in(laptop, stick)
    district.run()
    district.part(key)
    key = district.plug_in(a, stick)
    assert purged(a) == 6
    district.part(key)
    district.part(district.plug_in(other, stick))
    assert refusals(devices) == []


def test_every_file_on_a_medium_can_be_read_alone(devices: tuple[Device, Device, Device]) -> None:
    a, b, c = devices
    district = District(*devices)
    fill(b, 3, 3000)
    keys = district.meet(a, b)
    district.run()
    district.part(*keys)
    fill(a, 30, 3000)
    stick = Medium()
    district.plug_in(a, stick)
    district.run()
    assert len(stick.files) > 2
    for file in reversed(stick.files):
        district.part(district.plug_in(c, Medium(b"n" * 16, [file])))
    assert refusals([c]) == [] and carried(c) == 33


@pytest.mark.parametrize("window", [1, 4])
def test_certificates_come_before_what_they_vouch_for_however_many_bundles_they_take(
    devices: tuple[Device, Device, Device], window: int
) -> None:
    a, b, c = devices
    district = District(*devices)
    keys = district.meet(a, c)
    district.run()
    names = [Device(Path(), AUTHORITY, name=f"tablet-{number}") for number in range(120)]
    bring(a, keys[0], *(name.certificate for name in names))
    bring(a, keys[0], *(foreign_receipt(name, committed(1, 1, 9, b"i" * 32), serial=1) for name in names))
    fill(c, 4)
    fill(a, 8, 700)
    district.wait(SECOND, by=SECOND)
    district.part(*keys)
    assert carried(a) == 4
    district.between_carriers.clear()
    district.meet(a, b, window=window, bytes_max=16_384)
    district.run()
    assert refusals(devices) == [] and carried(b) == 12, refusals(devices)
    assert len(district.between_carriers) > 4
    assert max(len(send.data) for send in district.between_carriers) <= 16_384
    assert b.store is not None
    with b.store.transaction() as transaction:
        assert len(transaction.statements(DEVICE_CERTIFICATE)) == 123
        assert len(transaction.heads()) == 2


def test_a_refused_bundle_goes_again_with_its_statements(devices: tuple[Device, Device, Device]) -> None:
    a, b, _ = devices
    district = District(*devices)
    fill(a, 3)
    district.meet(a, b)
    lost = [(device, send) for device, send in district.wire if device is a]
    district.wire.clear()
    for device, send in lost:
        district.step(device, Settled(send.link_key, send.token, False))
    district.wait(20 * SECOND, by=SECOND)
    assert carried(b) == 3 and refusals(devices) == []


def test_a_far_end_whose_store_failed_gets_everything_when_it_comes_again(
    devices: tuple[Device, Device, Device], failing: set[str]
) -> None:
    a, b, _ = devices
    district = District(*devices)
    fill(a, 3)
    keys = district.meet(a, b)
    failing.add("commit")
    with pytest.raises(StoreFault):
        district.run()
    failing.clear()
    district.part(*keys)
    assert carried(b) == 0
    district.meet(a, b)
    district.run()
    assert carried(b) == 3


# Cuts.


def relay_of_everything(folder: Path, cut_after: int, *, lose_answer: bool, restart: bool) -> bool:
    """Cut all links after so many bundles, heal, and check; return whether the cut came before the end."""
    made = [Device(folder / name, AUTHORITY, name=name).start() for name in ("a", "b", "c")]
    a, b, c = made
    district = District(*made)
    fill(a, 4, 300)
    fill(b, 2)

    def connect() -> list[str]:
        return [*district.meet(a, b, window=2), *district.meet(b, c, window=1), district.mailbox(c)]

    keys = connect()
    cut = district.run(cut_after, lose_last_answer=lose_answer) == cut_after and bool(district.wire)
    if restart:
        for device in made:
            device.stop()
    district.part(*keys)
    for device in made:
        if restart:
            device.start()
        assert refusals([device]) == []
    for round_ in range(3):
        keys = connect()
        district.run()
        if round_ == 0:
            district.census.back_up()
            district.publish(a.id, b.id)
        district.wait(2 * DAY, by=6 * HOUR)
        district.part(*keys)
    for origin, accepted in ((a, 4), (b, 2)):
        found = district.census.centers[origin.id].questionnaires()
        assert len(found) == len(set(found)) == accepted
    assert (purged(a), purged(b)) == (4, 2) and carried(a) == carried(b) == carried(c) == 0
    assert refusals(made) == []
    for device in made:
        device.stop()
    return cut


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("lose_answer", [False, True])
def test_a_cut_after_any_bundle_costs_nothing_but_time(lose_answer: bool, restart: bool) -> None:
    cut_after, was_cut = 1, True
    while was_cut:
        with memory_folder() as folder:
            was_cut = relay_of_everything(folder, cut_after, lose_answer=lose_answer, restart=restart)
        cut_after += 1
    assert cut_after > 6


# Silence, news, and never back.


def test_two_devices_that_stay_together_fall_silent(devices: tuple[Device, Device, Device]) -> None:
    a, b, _ = devices
    district = District(*devices)
    fill(a, 5)
    fill(b, 5)
    district.meet(a, b)
    first = district.run()
    assert first <= 6
    assert district.wait(17 * HOUR, by=10 * MINUTE) == 0
    assert district.wait(3 * DAY, by=HOUR) <= 2 * 4, "what no receipt answers is offered again about once a day"


def test_an_idle_device_with_a_peer_is_woken_once_an_hour(devices: tuple[Device, Device, Device]) -> None:
    a, b, _ = devices
    district = District(*devices)
    fill(a, 2)
    district.meet(a, b)
    district.run()
    for device in (a, b):
        for _ in range(12):
            (wake,) = [one.at for one in district.step(device, TimePassed()) if isinstance(one, Wake)]
            assert not district.wire and wake >= device.now + HOUR
            device.now = wake


def test_news_reaches_everybody_who_is_there_and_then_nobody_speaks(devices: tuple[Device, Device, Device]) -> None:
    a, b, c = devices
    district = District(*devices)
    for pair in ((a, b), (b, c), (c, a)):
        district.meet(*pair)
    key = district.mailbox(c)
    district.run()
    form = sign_statement(AUTHORITY.content, kind=40, subject=b"f" * 16, serial=1, body=b"form")
    district.step(c, BundleArrived(key, write_bundle([Frame(FrameType.STATEMENT, form.data)])))
    assert district.run() <= 4
    for device in devices:
        assert device.store is not None
        with device.store.transaction() as transaction:
            assert transaction.statement(40, b"f" * 16) == form.data
    assert district.wait(HOUR // 2, by=MINUTE) == 0


def test_news_is_left_on_a_medium_that_is_plugged_in(devices: tuple[Device, Device, Device]) -> None:
    a, b, _ = devices
    district = District(*devices)
    stick = Medium()
    district.plug_in(a, stick)
    district.run()
    before = len(stick.files)
    district.meet(b, a)
    district.run()
    there = [frame.payload for send in district.between_carriers[-2:] for frame in frames_of(send)]
    assert len(stick.files) > before and any(b.certificate.data == payload for payload in there)


def test_nobody_gets_back_what_it_sealed_or_brought(devices: tuple[Device, Device, Device]) -> None:
    a, b, c = devices
    district = District(*devices)
    fill(a, 4)
    for pair in ((a, b), (b, c), (c, b), (b, a)):
        keys = district.meet(*pair)
        district.run()
        district.part(*keys)
    assert len(envelopes_in(district.between_carriers)) == 8, "from a to b, and from b to c"
    district.meet(a, c)
    district.run()
    assert len(envelopes_in(district.between_carriers)) == 12, "a cannot know what c has, but c gives nothing back"


# Custody.


def meet_by_hand(device: Device, far: Device) -> str:
    """Give a device one end of a duplex link whose other end is the test."""
    for send in device.link_up(shape=LinkShape.DUPLEX, far_end=far.id):
        device.settle(send)
    return device.link


def test_what_a_kept_receipt_vouches_for_is_not_taken(devices: tuple[Device, Device, Device]) -> None:
    a, b, _ = devices
    fill(a, 4)
    key = meet_by_hand(b, a)
    bring(b, key, a.certificate, foreign_receipt(a, committed(1, 1, 3, a.envelope_ids()[2]), serial=1))
    bring(b, key, *data_of(a, 1, 2, 3, 4))
    assert b.rows("sequence", "own = 0") == [(4,)]
    bring(b, key, *data_of(a, 3))
    assert b.rows("sequence", "own = 0") == [(4,)] and len(b.notices("custody_taken")) == 3


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


def test_what_no_link_leads_to_stays_until_it_was_handed_over_and_a_newer_receipt_came(
    devices: tuple[Device, Device, Device],
) -> None:
    a, *others = devices
    lesser, greater = sorted(others, key=lambda device: device.id)
    fill(a, 6)
    serials = count(1)

    def bring_receipt(device: Device, key: str) -> None:
        bring(device, key, foreign_receipt(a, committed(1, 1, 6, a.envelope_ids()[5]), serial=next(serials)))

    for device, far, relieved in ((greater, lesser, False), (lesser, greater, True)):
        key = meet_by_hand(device, a)
        bring(device, key, a.certificate, *data_of(a, 1, 2))
        bring_receipt(device, key)
        bring_receipt(device, key)
        assert carried(device) == 2, "nobody has them from this device"
        meet_by_hand(device, far)
        assert carried(device) == 2, "the receipt is older than the handing over"
        bring_receipt(device, key)
        assert carried(device) == (0 if relieved else 2)


def test_another_branch_of_a_forked_chain_is_kept_and_carried_until_its_own_span_comes(
    devices: tuple[Device, Device, Device],
) -> None:
    a, b, c = devices
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
    assert carried(laptop) == 0 and len(center.questionnaires()) == 8
    again = len(laptop.notices("sent"))
    district.wait(2 * DAY, by=HOUR)
    assert all(not notice.fields["envelopes"] for notice in laptop.notices("sent")[again:])
    assert open_rows(a) == []
