"""What two neighbours say to each other: no more news than there is, no envelope twice, no more copies than agreed."""

from collections.abc import Iterator

import pytest

from edge_agent.engine.effects import Say, Wake
from edge_agent.engine.events import BundleArrived, LinkDown, LinkUp, Said, TimePassed
from edge_agent.engine.links import Link, LinkShape
from edge_agent.engine.settings import EngineSettings
from edge_agent.engine.store import StoreTransaction
from sync_protocol.bundle import Frame, FrameType, write_bundle
from sync_protocol.identity import CENTER, Role
from sync_protocol.limits import MESH_SHARDS
from sync_protocol.mesh import Digests, Inventory, Item, Offer, Offered, Verdict, Verdicts, digests_of
from sync_protocol.mesh_stream import write_message
from sync_protocol.way import Leg, Way, read_way, write_way
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
    sends,
)
from tests.support.district import (
    District,
    Medium,
    bring,
    carried,
    data_of,
    fill,
    foreign_receipt,
    marked,
    purged,
)
from tests.support.spoken_to import link_to, said

AUTHORITY = Authority()
EVERYWHERE = frozenset(range(MESH_SHARDS))


@pytest.fixture
def tablets() -> Iterator[list[Device]]:
    with memory_folder() as folder:
        made = [Device(folder / name, AUTHORITY, name=name).start() for name in "abcdef"]
        yield made
        for device in made:
            device.stop()


def ready(device: Device, far: bytes = b"f" * 16, *, reaches_center: bool = True) -> tuple[Link, list[Offer]]:
    """Let a device have a neighbour that lacks nothing but envelopes; return what it offers."""
    link = link_to(far, key=f"by hand {far.hex()}", reaches_center=reaches_center)
    device.step(LinkUp(link))
    return link, [
        one.message for one in said(device, link, Inventory(frozenset(), ())) if isinstance(one.message, Offer)
    ]


def copies(device: Device, where: str = "own = 1") -> list[object]:
    return [row[0] for row in device.rows("copies", where)]


# News.


def test_two_that_know_the_same_say_so_in_300_bytes_and_send_nothing(tablets: list[Device]) -> None:
    a, b, *_ = tablets
    district = District(a, b)
    fill(a, 3)
    keys = district.meet(a, b)
    district.run()
    district.part(*keys)
    for _ in range(2):
        said_before, bundles = len(district.said), district.bundles
        keys = district.meet(a, b)
        district.run()
        district.part(*keys)
        assert district.bundles == bundles
        assert sum(len(write_message(one.message)) for one in district.said[said_before:]) <= 300


def test_only_what_the_far_end_lacks_is_sent(tablets: list[Device]) -> None:
    a, b, c, *_ = tablets
    district = District(a, b, c)
    for pair in ((a, b), (b, c), (a, b)):
        keys = district.meet(*pair)
        district.run()
        district.part(*keys)
    district.between_carriers.clear()
    form = foreign_receipt(c, committed(1, 1, 1, b"i" * 32), serial=1)
    key = a.link_up(shape=LinkShape.DUPLEX, far_end=b"x" * 16) or a.link
    bring(a, str(key), form)
    a.link_down()
    keys = district.meet(a, b)
    district.run()
    frames = [frame.payload for send in district.between_carriers for frame in frames_of(send)]
    assert frames == [form.data]


def test_a_newer_head_and_an_older_one_are_told_apart(tablets: list[Device]) -> None:
    a, b, c, *_ = tablets
    district = District(a, b, c)
    for _ in range(2):
        fill(a, 1)
        keys = district.meet(a, b)
        district.run()
        district.part(*keys)
    keys = district.meet(b, c)
    district.run()
    assert c.store is not None
    with c.store.transaction() as transaction:
        known = {(item.subject, item.newness[0]) for item in transaction.known() if item.kind == 0}
    assert (a.id, 2) in known


def test_shards_that_were_not_asked_for_or_were_given_before_bring_nothing(tablets: list[Device]) -> None:
    a, *_ = tablets
    link = link_to(b"f" * 16)
    a.step(LinkUp(link))
    first = a.step(Said(link.key, Inventory(EVERYWHERE, ())))
    assert sends(first)
    for send in sends(first):
        a.settle(send)
    assert not sends(a.step(Said(link.key, Inventory(EVERYWHERE, ())))), "a list costs what it lists only once"


def test_many_digests_bring_lists_but_no_statement(tablets: list[Device]) -> None:
    a, *_ = tablets
    link = link_to(b"f" * 16)
    a.step(LinkUp(link))
    for _ in range(3):
        effects = a.step(Said(link.key, Digests((bytes(8),) * MESH_SHARDS)))
        assert not sends(effects)
        assert [
            one.message.shards for one in effects if isinstance(one, Say) and isinstance(one.message, Inventory)
        ] == [EVERYWHERE]


def test_a_list_that_lies_about_having_everything_costs_only_its_teller(tablets: list[Device]) -> None:
    a, b, *_ = tablets
    fill(a, 2)
    link = link_to(b.id)
    a.step(LinkUp(link))
    assert a.store is not None
    with a.store.transaction() as transaction:
        items = [*transaction.known(), Item(a.id, 0, 1, (1 << 62, 1 << 62))]
    assert not sends(a.step(Said(link.key, Inventory(EVERYWHERE, tuple(items)))))
    a.step(LinkDown(link.key))
    district = District(a, b)
    district.meet(a, b)
    district.run()
    assert carried(b) == 2, "another one, or the same later, is told everything"


def test_offers_wait_for_the_news_of_the_far_end_but_not_for_ever(tablets: list[Device]) -> None:
    a, b, *_ = tablets
    fill(a, 2)
    link = link_to(b.id)
    a.step(LinkUp(link))
    receipt = foreign_receipt(a, committed(1, 1, 2, a.envelope_ids()[1], at=NOW), serial=5)
    newer = Item(a.id, 1, 0, (5, 0))
    assert not said(a, link, Inventory(frozenset({newer.shard}), (newer,)))
    wakes = [effect.at for effect in a.step(TimePassed()) if isinstance(effect, Wake)]
    assert a.now < wakes[0] <= a.now + 10 * SECOND
    bring(a, link.key, receipt)
    assert marked(a) == 2 and purged(a) == 2
    a.now += 11 * SECOND
    assert not [one for one in a.step(TimePassed()) if isinstance(one, Say)], "the receipt has spared them"
    fill(b, 1)
    other = link_to(a.id)
    b.step(LinkUp(other))
    unknown = Item(b"n" * 16, 1, 0, (5, 0))
    assert not said(b, other, Inventory(frozenset({unknown.shard}), (unknown,)))
    b.now += 11 * SECOND
    (offer,) = (one for one in b.step(TimePassed()) if isinstance(one, Say))
    assert isinstance(offer.message, Offer)


# Envelopes.


def test_what_the_far_end_holds_is_not_sent_and_counts_as_handed_over(tablets: list[Device]) -> None:
    a, *_ = tablets
    fill(a, 3)
    link, (offer,) = ready(a)
    assert [one.id for one in offer.envelopes] == a.envelope_ids()
    effects = a.step(Said(link.key, Verdicts(offer.number, (Verdict.HELD, Verdict.WANTED, Verdict.HELD))))
    (send,) = sends(effects)
    assert [one.sequence for one in envelopes_in([send])] == [2]
    a.settle(send)
    assert a.store is not None
    kept = a.store.connection.execute("SELECT count(*) FROM dispatch WHERE kept_at IS NOT NULL").fetchone()
    assert kept == (3,)
    a.step(LinkDown(link.key))
    assert ready(a)[1] == []
    a.now += 2 * DAY
    assert len(ready(a, b"f" * 16)[1][0].envelopes) == 3, "without a receipt it is asked again"


def test_what_there_is_no_room_for_is_no_handover_and_is_offered_again_later(tablets: list[Device]) -> None:
    a, *_ = tablets
    fill(a, 2)
    link, (offer,) = ready(a)
    a.step(Said(link.key, Verdicts(offer.number, (Verdict.NO_ROOM, Verdict.LATER))))
    assert a.notices("offer_declined")
    assert a.store is not None
    assert a.store.connection.execute("SELECT count(*) FROM dispatch WHERE kept_at IS NOT NULL").fetchone() == (0,)
    a.now += 10 * MINUTE
    (later,) = (one.message for one in a.step(TimePassed()) if isinstance(one, Say))
    assert isinstance(later, Offer) and [one.id for one in later.envelopes] == a.envelope_ids()[1:]
    a.step(Said(link.key, Verdicts(later.number, (Verdict.HELD,))))
    a.now += HOUR
    (again,) = (one.message for one in a.step(TimePassed()) if isinstance(one, Say))
    assert isinstance(again, Offer) and [one.id for one in again.envelopes] == a.envelope_ids()[:1]


def test_a_cut_at_any_word_makes_what_was_on_offer_due_again(tablets: list[Device]) -> None:
    a, *_ = tablets
    fill(a, 2)
    link, (offer,) = ready(a)
    a.step(LinkDown(link.key))
    link, (offer,) = ready(a)
    a.step(Said(link.key, Verdicts(offer.number, (Verdict.WANTED,) * 2)))
    a.step(LinkDown(link.key))
    link, (offer,) = ready(a)
    assert len(offer.envelopes) == 2
    a.restart()
    assert len(ready(a)[1][0].envelopes) == 2
    assert copies(a) == [8, 8], "no copies have left"


def test_an_answer_to_another_offer_does_nothing(tablets: list[Device]) -> None:
    a, *_ = tablets
    fill(a, 1)
    link, (offer,) = ready(a)
    assert not sends(a.step(Said(link.key, Verdicts(offer.number + 1, (Verdict.WANTED,)))))
    assert sends(a.step(Said(link.key, Verdicts(offer.number, (Verdict.WANTED,)))))


def test_an_offer_beyond_the_room_is_wanted_up_to_the_room() -> None:
    with memory_folder() as folder:
        b = Device(folder, AUTHORITY, name="b", settings=EngineSettings(foreign_bytes_max=10_000)).start()
        link = link_to(b"f" * 16)
        b.step(LinkUp(link))
        offered = tuple(Offered(bytes([number]) * 32, 4_000, 0) for number in range(3))
        (answer,) = said(b, link, Offer(1, offered))
        assert answer.message == Verdicts(1, (Verdict.WANTED, Verdict.WANTED, Verdict.NO_ROOM))
        b.stop()


def test_no_origin_takes_more_room_than_is_left_for_all_others(tablets: list[Device]) -> None:
    flooder, honest = tablets[0], tablets[1]
    fill(flooder, 12, 2_000)
    fill(honest, 4, 2_000)
    size = len(data_of(flooder, 1)[0].payload)
    with memory_folder() as folder:
        b = Device(folder, AUTHORITY, name="laptop", settings=EngineSettings(foreign_bytes_max=10 * size)).start()
        link = link_to(b"f" * 16)
        b.step(LinkUp(link))
        bring(b, link.key, flooder.certificate, honest.certificate, *data_of(flooder, *range(1, 13)))
        assert carried(b) == 5 and b.notices("custody_declined")
        bring(b, link.key, *data_of(honest, 1, 2, 3, 4))
        assert len(b.rows("number", f"own = 0 AND origin = x'{honest.id.hex()}'")) == 3, "half of the other half"
        b.stop()


def test_what_is_declined_in_a_bundle_is_not_handed_over_and_takes_no_copies(tablets: list[Device]) -> None:
    a, *_ = tablets
    fill(a, 3, 2_000)
    with memory_folder() as folder:
        b = Device(folder, AUTHORITY, name="b", settings=EngineSettings(foreign_bytes_max=2 * 4_500)).start()
        district = District(a, b)
        district.meet(a, b)
        district.run()
        assert 0 < carried(b) < 3
        assert a.store is not None
        kept = a.store.connection.execute("SELECT count(*) FROM dispatch WHERE kept_at IS NOT NULL").fetchone()[0]
        assert kept == carried(b)
        assert sorted(copies(a), key=str) == [4] * carried(b) + [8] * (3 - carried(b))
        b.stop()


# Copies.


def test_copies_are_halved_with_each_handover_and_the_last_one_walks_on(tablets: list[Device]) -> None:
    a, *others = tablets
    district = District(*tablets)
    fill(a, 1)
    for other in others:
        keys = district.meet(a, other)
        district.run()
        district.part(*keys)
    assert copies(a) == [0]
    assert [copies(other, "own = 0") for other in others] == [[4], [2], [1], [1], []]
    holder, stranger = others[3], others[4]
    keys = district.meet(holder, stranger)
    district.run()
    assert copies(holder, "own = 0") == [0] and copies(stranger, "own = 0") == [1]


def test_a_device_that_has_been_without_the_center_for_longer_is_given_nothing(tablets: list[Device]) -> None:
    a, b, *_ = tablets
    fill(a, 1)
    fill(b, 1)
    a.link_up()
    bring(a, a.link, foreign_receipt(b, committed(1, 1, 1, b"i" * 32), serial=1))  # the center is heard
    a.link_down()
    district = District(a, b)
    district.meet(a, b)
    district.run()
    assert (carried(a), carried(b)) == (1, 0)


def test_a_receipt_that_comes_by_a_neighbour_is_no_contact_with_the_center(tablets: list[Device]) -> None:
    a, b, *_ = tablets
    fill(a, 1)
    fill(b, 1)
    link = link_to(b"f" * 16)
    a.step(LinkUp(link))
    bring(a, link.key, foreign_receipt(b, committed(1, 1, 1, b"i" * 32), serial=1, watermark=0))
    a.step(LinkDown(link.key))
    district = District(a, b)
    district.meet(a, b)
    district.run()
    assert carried(b) == 1


def test_a_device_with_a_way_to_the_center_gives_to_no_neighbour(tablets: list[Device]) -> None:
    a, b, *_ = tablets
    fill(a, 2)
    district = District(a, b)
    key = district.mailbox(a)
    district.wire.clear()
    district.meet(a, b)
    district.run()
    assert carried(b) == 0
    district.part(key)
    district.wait(MINUTE, by=SECOND)
    assert carried(b) == 2, "its way is gone, and the neighbour is still there"


def test_a_neighbour_that_calls_itself_the_center_is_not_believed(tablets: list[Device]) -> None:
    a, b, *_ = tablets
    fill(a, 1)
    link, (offer,) = ready(a, CENTER)
    assert len(offer.envelopes) == 1
    assert ready(a, b.id)[1], "a way to the center is a mailbox, whatever a neighbour is called"
    (send,) = sends(a.step(Said(link.key, Verdicts(offer.number, (Verdict.WANTED,)))))
    a.settle(send)
    assert a.store is not None
    with a.store.transaction() as transaction:
        assert contact_of(transaction) is None


def contact_of(transaction: StoreTransaction) -> int | None:
    return transaction.number("center_heard_at")


def test_after_a_silence_the_origin_sprays_anew_and_nobody_else_does(tablets: list[Device]) -> None:
    a, b, c, *_ = tablets
    district = District(a, b, c)
    fill(a, 1)
    for pair in ((a, b), (a, c)):
        district.part(*(district.meet(*pair)))
    keys = district.meet(a, b)
    district.run()
    district.part(*keys)
    assert copies(a) == [4] and copies(b, "own = 0") == [4]
    for device in (a, b):
        device.now += 3 * DAY + HOUR
        ready(device, b"z" * 16, reaches_center=False)
    assert copies(a) == [8] and copies(b, "own = 0") == [4]


def test_a_clock_from_the_future_does_not_keep_an_origin_from_spraying_anew(tablets: list[Device]) -> None:
    a, b, *_ = tablets
    a.now = NOW + 4_000 * DAY
    fill(a, 1)
    district = District(a, b)
    keys = district.meet(a, b)
    district.run()
    district.part(*keys)
    a.now = NOW
    ready(a, b"z" * 16)
    assert copies(a) == [8]


# How they have come.


def test_the_way_of_an_envelope_is_told_from_hop_to_hop_and_up_to_the_center(tablets: list[Device]) -> None:
    a, b, c, *_ = tablets
    district = District(a, b, c)
    fill(a, 2)
    for pair in ((a, b), (b, c)):
        keys = district.meet(*pair)
        district.run()
        district.part(*keys)
    assert b.rows("leg, hops", "own = 0") == [(1, 1), (1, 1)]
    assert c.rows("leg, hops", "own = 0") == [(1, 2), (1, 2)]
    fill(c, 1)
    frames = [frame for send in c.link_up() for frame in frames_of(send)]
    kinds = [frame.type for frame in frames if frame.type in (FrameType.WAY, FrameType.ENVELOPE)]
    assert kinds == [FrameType.ENVELOPE, FrameType.WAY, FrameType.ENVELOPE, FrameType.ENVELOPE], "own ones come first"
    (way,) = (read_way(frame.payload) for frame in frames if frame.type is FrameType.WAY)
    assert way == Way(Leg.MESH, 2)


def test_a_medium_among_the_legs_is_remembered(tablets: list[Device]) -> None:
    a, b, *_ = tablets
    with memory_folder() as folder:
        laptop = Device(folder, AUTHORITY, name="laptop", role=Role.COLLECTION_POINT).start()
        district = District(a, b, laptop)
        fill(a, 1)
        keys = district.meet(a, b)
        district.run()
        district.part(*keys)
        stick = Medium()
        district.part(district.plug_in(b, stick) if not district.run() else "")
        key = district.plug_in(b, stick)
        district.run()
        district.part(key)
        district.part(district.plug_in(laptop, stick))
        assert laptop.rows("leg, hops", "own = 0") == [(2, 2)]
        laptop.stop()


def test_of_what_follows_a_way_that_cannot_be_read_only_the_last_hop_is_known(tablets: list[Device]) -> None:
    a, b, *_ = tablets
    fill(a, 2)
    link = link_to(a.id)
    b.step(LinkUp(link))
    one, two = data_of(a, 1, 2)
    far, *odd = (
        Frame(FrameType.WAY, data) for data in (write_way(Way(Leg.USB, 255)), b"", b"\x07\x01\0\0", b"\0\x01\0\0")
    )
    certificate = Frame(FrameType.STATEMENT, a.certificate.data)
    b.step(BundleArrived(link.key, write_bundle([certificate, far, *odd, one, far, two])))
    assert b.rows("leg, hops", "own = 0") == [(1, 1), (2, 255)]
    refused = b.notices("arrival_refused")
    assert sum(int(str(one.fields["frames"])) for one in refused) == 3


def test_nothing_said_on_a_link_of_another_shape_is_heard(tablets: list[Device]) -> None:
    a, *_ = tablets
    a.link_up()
    assert not [one for one in a.step(Said(a.link, digests_of([]))) if isinstance(one, Say)]
    assert a.step(Said("no link", digests_of([])))
