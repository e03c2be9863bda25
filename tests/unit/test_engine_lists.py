"""Counted lists on their way: back to the device over neighbours and sticks, and to nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from edge_agent.engine.events import BundleArrived, RecipientKeyMade
from edge_agent.engine.settings import EngineSettings
from edge_agent.engine.store import StoreFull, StoreTransaction
from edge_agent.queue.store import QueueStore
from sync_protocol.bundle import Frame, FrameType, read_bundle, write_bundle
from sync_protocol.counted_list import CountedList, Entry, Section, Status, open_counted_list, seal_counted_list
from sync_protocol.device_key import decode_device_key
from sync_protocol.envelope import KIND_DEVICE_KEY, KIND_QUESTIONNAIRE_PART, parse_envelope
from sync_protocol.identity import Role
from sync_protocol.keys import RecipientPrivateKey
from sync_protocol.limits import MEDIUM_BUNDLE_BYTES_MAX
from sync_protocol.statement import COUNTED_LIST, Statement, parse_statement
from tests.support.device import DAY, NOW, Authority, Device, envelopes_in, held, memory_folder, seed
from tests.support.district import District, Medium, fill, foreign_receipt, refusals

AUTHORITY = Authority()
KEY = RecipientPrivateKey(seed("tablet a lists"))


def list_for(device: Device, serial: int = 1, *, name: str = "Иванов Пётр", keep_until: int = NOW + DAY) -> Statement:
    entries = (Entry(name=name, status=Status.COUNTED),)
    made = CountedList(
        as_of=NOW, keep_until=keep_until, sections=(Section(place="1", title="School", entries=entries),)
    )
    return seal_counted_list(AUTHORITY.content, KEY.public_key, device.id, made, serial)


def kept(device: Device, subject: Device) -> Statement | None:
    if device.store is None:
        raise TypeError("the device is not started")
    with device.store.transaction() as transaction:
        data = transaction.statement(COUNTED_LIST, subject.id)
    return None if data is None else parse_statement(data)


def serials(*devices: Device, of: Device) -> list[int | None]:
    found = [kept(device, of) for device in devices]
    return [None if one is None else one.serial for one in found]


def give(district: District, device: Device, key: str, *lists: Statement) -> None:
    """Let lists come down the mailbox."""
    data = write_bundle([Frame(FrameType.STATEMENT, one.data) for one in lists])
    district.step(device, BundleArrived(key, data))
    district.run()


def lists_in(*bundles: bytes) -> list[Statement]:
    frames = [frame for data in bundles for frame in read_bundle(data, MEDIUM_BUNDLE_BYTES_MAX).frames]
    found = [parse_statement(frame.payload) for frame in frames if frame.type is FrameType.STATEMENT]
    return [one for one in found if one.kind == COUNTED_LIST]


@pytest.fixture
def devices() -> Iterator[tuple[Device, Device, Device, Device]]:
    with memory_folder() as folder:
        roles = {"a": Role.TABLET, "b": Role.TABLET, "c": Role.COLLECTION_POINT, "d": Role.TABLET}
        made = [Device(folder / name, AUTHORITY, name=name, role=role).start() for name, role in roles.items()]
        yield (made[0], made[1], made[2], made[3])
        for device in made:
            device.stop()


# The key.


def test_the_key_is_told_once_as_a_link_of_the_chain_that_only_the_center_can_open(
    devices: tuple[Device, Device, Device, Device],
) -> None:
    a, *_ = devices
    a.submit("1")
    for _ in range(2):
        a.step(RecipientKeyMade(KEY.public_key.public_bytes))
        a.restart()
    a.submit("2")
    _, told, after = envelopes_in(a.link_up())
    assert (told.kind, told.sequence, after.previous_id) == (KIND_DEVICE_KEY, 2, told.id)
    assert decode_device_key(told.open(AUTHORITY.center)).name == KEY.name
    a.step(RecipientKeyMade(RecipientPrivateKey(seed("a new one")).public_key.public_bytes))
    assert a.rows("max(sequence)") == [(4,)], "a new key is told, too"


def test_a_new_epoch_tells_the_key_anew(devices: tuple[Device, Device, Device, Device]) -> None:
    a, *_ = devices
    a.step(RecipientKeyMade(KEY.public_key.public_bytes))
    a.stop()
    for name in ("queue.db", "queue.db-wal", "queue.db-shm"):
        (a.directory / name).unlink(missing_ok=True)
    a.start()
    a.step(RecipientKeyMade(KEY.public_key.public_bytes))
    ((data,),) = a.rows("data")
    assert isinstance(data, bytes)
    told = parse_envelope(data)
    assert (told.kind, told.epoch, told.sequence) == (KIND_DEVICE_KEY, 2, 1)


def test_a_key_that_cannot_be_recorded_disturbs_no_link() -> None:
    failing: set[str] = set()

    class Failing:
        def __init__(self, store: QueueStore) -> None:
            self._store = store

        @contextmanager
        def transaction(self) -> Iterator[StoreTransaction]:
            with self._store.transaction() as transaction:
                yield transaction
                if failing:
                    raise StoreFull("as the test wanted")

    with memory_folder() as folder:
        device = Device(folder, AUTHORITY, wrap_store=Failing).start()
        device.link_up()
        failing.add("now")
        with pytest.raises(StoreFull):
            device.step(RecipientKeyMade(KEY.public_key.public_bytes))
        failing.clear()
        device.submit("1")
        (sent,) = envelopes_in(device.tick())
        assert (sent.kind, sent.sequence) == (KIND_QUESTIONNAIRE_PART, 1)
        device.stop()


# The way back.


def test_a_list_goes_back_over_the_carriers_to_the_device_and_to_nobody_else(
    devices: tuple[Device, Device, Device, Device],
) -> None:
    a, b, c, stranger = devices
    district = District(*devices)
    a.step(RecipientKeyMade(KEY.public_key.public_bytes))
    for pair in ((a, b), (b, c)):
        keys = district.meet(*pair)
        district.run()
        district.part(*keys)
    # All of it is with the center and backed up, and carried no more, when the list is made.
    receipt = foreign_receipt(a, held(1, 1, 1, a.envelope_ids()[0]), serial=9)
    mailbox = c.link_up()
    assert mailbox is not None
    c.receive(receipt)
    c.receive(list_for(a))
    c.link_down()
    for pair in ((c, stranger), (c, b), (b, stranger), (b, a), (stranger, a)):
        keys = district.meet(*pair)
        district.run()
        district.part(*keys)
    assert serials(a, b, c, stranger, of=a) == [1, 1, 1, None]
    given_away = lists_in(*(send.data for send in district.between_carriers))
    assert len(given_away) == 2, "the stranger was not even given it"
    given = kept(a, a)
    assert given is not None
    assert open_counted_list(given, KEY).sections[0].entries[0].name == "Иванов Пётр"
    assert refusals(devices) == []


def test_each_neighbour_is_given_each_list_once(devices: tuple[Device, Device, Device, Device]) -> None:
    a, b, *_ = devices
    district = District(*devices)
    district.part(*district.meet(a, b))
    b.link_up()
    b.receive(list_for(a))
    b.link_down()
    for _ in range(3):
        keys = district.meet(a, b)
        district.run()
        district.part(*keys)
    assert len(lists_in(*(send.data for send in district.between_carriers))) == 1
    b.link_up()
    b.receive(list_for(a, serial=2))
    b.link_down()
    district.meet(a, b)
    district.run()
    assert serials(a, b, of=a) == [2, 2]


def test_a_list_that_comes_while_the_neighbour_is_there_goes_on_at_once_and_older_ones_do_not(
    devices: tuple[Device, Device, Device, Device],
) -> None:
    a, b, c, _ = devices
    district = District(*devices)
    mailbox = district.mailbox(b)
    district.meet(a, b)
    district.meet(b, c)
    district.run()
    give(district, b, mailbox, list_for(a, serial=5), list_for(a, serial=4))
    assert serials(a, b, c, of=a) == [5, 5, None]
    assert len(lists_in(*(send.data for send in district.between_carriers))) == 1
    give(district, b, mailbox, list_for(a, serial=4))
    assert serials(a, of=a) == [5]


def test_a_stick_takes_a_list_to_a_tablet_without_a_link(devices: tuple[Device, Device, Device, Device]) -> None:
    a, other, laptop, _ = devices
    district = District(*devices)
    stick = Medium()
    fill(a, 1)
    for device in (a, laptop):
        key = district.plug_in(device, stick)
        district.run()
        district.part(key)
    laptop.link_up()
    laptop.receive(list_for(a))
    laptop.link_down()
    for device in (laptop, other, a):
        key = district.plug_in(device, stick)
        district.run()
        district.part(key)
    assert serials(a, other, laptop, of=a) == [1, None, 1]
    before = len(stick.files)
    fill(a, 1)
    district.part(district.plug_in(a, stick))
    district.plug_in(a, stick)
    district.run()
    assert len(stick.files) > before and lists_in(*stick.files[before:]) == [], "nobody else needs it from there"


# What is kept.


def test_a_list_whose_time_is_over_by_the_centers_own_word_is_dropped_and_not_taken_again(
    devices: tuple[Device, Device, Device, Device],
) -> None:
    a, b, *_ = devices
    a.link_up()
    a.receive(list_for(a, keep_until=NOW + DAY))
    a.now += 400 * DAY
    a.link_up()
    assert serials(a, of=a) == [1], "the device's own clock says nothing"
    a.receive(foreign_receipt(b, serial=1, watermark=NOW + DAY))
    a.link_up()
    assert serials(a, of=a) == [None]
    a.receive(list_for(a, serial=2, keep_until=NOW + DAY))
    assert serials(a, of=a) == [None]
    a.receive(list_for(a, serial=2, keep_until=NOW + DAY + 1))
    assert serials(a, of=a) == [2]


def test_lists_for_others_are_bounded_and_the_newest_stay(devices: tuple[Device, Device, Device, Device]) -> None:
    a, b, c, d = devices
    size = len(list_for(a).data)
    a.stop()
    a.settings = EngineSettings(lists_bytes_max=2 * size)
    a.start()
    district = District(*devices)
    for other in (b, c, d):
        district.meet(a, other)
    a.link_up()
    a.receive(list_for(b, serial=5), list_for(c, serial=4), list_for(a, serial=1), list_for(d, serial=6))
    assert [serials(a, of=one)[0] for one in devices] == [1, 5, None, 6]


def test_a_list_that_is_none_is_refused(devices: tuple[Device, Device, Device, Device]) -> None:
    a, *_ = devices
    a.link_up()
    genuine = list_for(a)
    a.receive(seal_counted_list(AUTHORITY.issuer, KEY.public_key, a.id, CountedList(as_of=1, keep_until=NOW * 2), 1))
    a.receive(Frame(FrameType.STATEMENT, genuine.data[:-1] + bytes((genuine.data[-1] ^ 1,))))
    assert serials(a, of=a) == [None]
    assert [notice.fields["reason"] for notice in a.notices("arrival_refused")] == ["untrusted_signer", "bad_signature"]
