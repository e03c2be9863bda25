"""Devices that meet, media that are carried about: relaying to the center, receipts back, cuts, silence."""

import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_agent.engine.effects import Wake
from edge_agent.engine.events import BundleArrived, Settled, TimePassed
from edge_agent.engine.news import PendingNews
from edge_agent.engine.store import Store, StoreFault, StoreTransaction
from edge_agent.queue.store import QueueStore
from sync_protocol.bundle import Frame, FrameType, write_bundle
from sync_protocol.form import PublishedForm, publish_form, read_form
from sync_protocol.form_file import FormFile, publish_file
from sync_protocol.head import sign_head
from sync_protocol.identity import Role
from sync_protocol.statement import DEVICE_CERTIFICATE, FORM, FORM_FILE, parse_statement, sign_statement
from tests.support.device import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    Authority,
    Device,
    committed,
    envelopes_in,
    frames_of,
    memory_folder,
)
from tests.support.district import (
    District,
    Medium,
    bring,
    carried,
    fill,
    foreign_receipt,
    marked,
    meet_by_hand,
    purged,
    refusals,
)

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
        roles = {"a": Role.TABLET, "b": Role.COLLECTION_POINT, "c": Role.COLLECTION_POINT}
        made = [
            Device(folder / name, AUTHORITY, name=name, wrap_store=wrap, role=role).start()
            for name, role in roles.items()
        ]
        yield (made[0], made[1], made[2])
        for device in made:
            device.stop()


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
    assert marked(a) == 30
    assert refusals(devices) == []
    assert purged(a) == 0 and carried(b) == 30, "nothing is backed up yet"
    bundles = district.bundles
    district.census.back_up()
    district.publish(a.id)
    district.run()
    assert purged(a) == 30 and carried(b) == 0
    assert district.bundles == bundles + 1, "only the receipt went on"


def test_receipts_that_move_the_watermark_reach_an_origin_of_which_nothing_is_carried_any_more(
    devices: tuple[Device, Device, Device],
) -> None:
    a, b, _ = devices
    district = District(*devices)
    fill(a, 3)
    mailbox = district.mailbox(a)
    district.run()
    district.part(mailbox)
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
    assert a.store is not None
    with a.store.transaction() as transaction:
        for epoch in range(2, 60):
            transaction.start_epoch(epoch, reason="test", now=NOW)
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
        assert len(transaction.heads()) == 60


def test_a_refused_bundle_goes_again_with_its_statements(devices: tuple[Device, Device, Device]) -> None:
    a, b, _ = devices
    district = District(*devices)
    fill(a, 3)
    district.meet(a, b)
    refused = 0
    while lost := district.sent_by(a):
        district.wire = deque((device, one) for device, one in district.wire if one not in lost)
        refused += len(lost)
        for send in lost:
            district.step(a, Settled(send.link_key, send.token, False))
    assert refused and carried(b) == 0
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


def test_a_form_and_a_file_as_large_as_a_statement_can_be_pass_neighbours_and_media(
    devices: tuple[Device, Device, Device],
) -> None:
    a, b, c = devices
    district = District(*devices)
    xform = random.Random(7).randbytes(190 * 1024)  # so that it does not deflate
    form = publish_form(AUTHORITY.content, PublishedForm("household", "3", "Household", xform), 5)
    assert len(form.body) > 190 * 1024
    key = district.mailbox(a)
    file = publish_file(AUTHORITY.content, FormFile("household", "map.png", xform), 5)
    for source in (form, file):
        district.step(a, BundleArrived(key, write_bundle([Frame(FrameType.STATEMENT, source.data)])))
    district.meet(a, b)
    district.run()
    stick = Medium()
    for device in (b, c):
        plugged = district.plug_in(device, stick)
        district.run()
        district.part(plugged)
    for device in devices:
        assert device.store is not None
        with device.store.transaction() as transaction:
            kept = transaction.statement(FORM, form.subject)
            assert transaction.statement(FORM_FILE, file.subject) == file.data
        assert kept is not None and read_form(parse_statement(kept)).xform == xform


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
    assert len(envelopes_in(district.between_carriers)) == 8, (
        "c says that it holds what a offers, and offers nothing back"
    )


def test_what_waits_leaves_keys_first_then_certificates_and_heads_last_and_only_the_newest_of_each() -> None:
    def form(serial: int) -> Frame:
        made = sign_statement(AUTHORITY.content, kind=40, subject=b"f" * 16, serial=serial, body=b"form")
        return Frame(FrameType.STATEMENT, made.data)

    origin = Device(Path(), AUTHORITY)
    heads = [
        Frame(
            FrameType.HEAD,
            sign_head(
                origin.signer,
                origin=origin.id,
                epoch=1,
                sequence=sequence,
                last_id=b"i" * 32,
                receipt_serial=0,
                stated_at=NOW,
            ).data,
        )
        for sequence in (2, 1)
    ]
    certificate, key = (Frame(FrameType.STATEMENT, one.data) for one in (origin.certificate, AUTHORITY.statements[0]))
    news = PendingNews()
    news.add([*heads, form(2), form(1), certificate, key, form(3)])
    assert news.take_statements(len(key.payload) + 100) == [key]
    assert news.take_statements(1) == [certificate], "one at least"
    assert news.take_statements(100_000) == [form(3)]
    assert news and news.take_heads(10) == [] and news.take_heads(1000) == [heads[0]]
    assert not news and news.take_statements(1000) == []


def test_a_meeting_passes_on_statements_of_kinds_that_are_not_known(devices: tuple[Device, Device, Device]) -> None:
    a, b, c = devices
    bring(a, meet_by_hand(a, c), sign_statement(AUTHORITY.content, kind=63, subject=b"f" * 16, serial=1, body=b"x"))
    district = District(*devices)
    district.meet(a, b)
    district.run()
    assert b.store is not None
    with b.store.transaction() as transaction:
        assert transaction.statement(63, b"f" * 16) is not None
