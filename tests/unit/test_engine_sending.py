"""What is sent, how much at once, how often again: windows, sizes, back-off, heads, refusals, clocks, custody."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.engine.effects import Follow, Wake
from edge_agent.engine.links import LinkShape
from edge_agent.engine.settings import EngineSettings
from sync_protocol.bundle import Frame, FrameType
from sync_protocol.envelope import Envelope, parse_envelope
from sync_protocol.head import sign_head
from sync_protocol.limits import BUNDLE_BYTES_MAX, PART_BYTES_MAX
from tests.support.device import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    Authority,
    Center,
    Device,
    committed,
    envelopes_in,
    frames_of,
    heads_in,
    memory_folder,
    questionnaire,
    receipt,
    sends,
)

YEAR_1970 = 5 * SECOND
YEAR_2037 = NOW + 11 * 365 * DAY


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    one = Device(tmp_path / "queue", Authority()).start()
    yield one
    one.stop()


@pytest.fixture
def other(tmp_path: Path, device: Device) -> Iterator[Device]:
    one = Device(tmp_path / "other", device.authority, name="tablet-2").start()
    yield one
    one.stop()


def fill(device: Device, envelopes: int, body_bytes: int = 20) -> None:
    noise = random.Random(envelopes)
    device.submit_all(
        *(
            (f"{n}", questionnaire(b'{"x":"%s"}' % noise.randbytes(body_bytes // 2).hex().encode(), f"uuid:{n}"))
            for n in range(envelopes)
        )
    )


def own_envelope(device: Device, sequence: int = 1) -> Frame:
    ((data,),) = device.rows("data", f"own = 1 AND sequence = {sequence}")
    assert isinstance(data, bytes)
    return Frame(FrameType.ENVELOPE, data)


# Windows and sizes.


def test_the_window_is_never_exceeded_and_everything_goes_once(device: Device) -> None:
    fill(device, 200, 3000)
    open_sends = device.link_up(window=3)
    sent = []
    while open_sends:
        assert len(open_sends) <= 3
        sent.append(open_sends.pop(0))
        open_sends += device.settle(sent[-1])
        open_sends += device.tick()
    assert sorted(envelope.sequence for envelope in envelopes_in(sent)) == list(range(1, 201))


@pytest.mark.parametrize("bytes_max", [16_384, 65_536, BUNDLE_BYTES_MAX])
def test_no_bundle_is_larger_than_its_link_allows_beside_a_thousand_heads(device: Device, bytes_max: int) -> None:
    carry_heads(device, 1000)
    fill(device, 40, 6000)
    sent = device.settle_all(device.link_up(bytes_max=bytes_max, window=4))
    assert max(len(send.data) for send in sent) <= bytes_max
    assert len(heads_in(sent)) == 1001
    assert sorted(envelope.sequence for envelope in envelopes_in(sent)) == list(range(1, 41))


def test_the_largest_envelopes_fit_beside_heads(device: Device) -> None:
    carry_heads(device, 1000)
    body = b'{"x":"' + random.Random(3).randbytes(PART_BYTES_MAX).hex().encode() + b'"}'
    device.submit_all(("large", questionnaire(body)))
    sent = device.settle_all(device.link_up())
    assert max(len(send.data) for send in sent) <= BUNDLE_BYTES_MAX
    assert len(heads_in(sent)) == 1001 and len(envelopes_in(sent)) == 3


def test_an_envelope_larger_than_the_link_prefers_gets_a_bundle_of_its_own(device: Device) -> None:
    fill(device, 1, PART_BYTES_MAX)
    sent = device.settle_all(device.link_up(bytes_max=16_384))
    large = [send for send in sent if len(send.data) > 16_384]
    assert [[frame.type for frame in frames_of(send)] for send in large] == [[FrameType.ENVELOPE]]


def carry_heads(device: Device, heads: int) -> None:
    """Let the device hold the heads of so many epochs of another one."""
    other = Device(device.directory, device.authority, name="tablet-2")
    assert device.store is not None
    with device.store.transaction() as transaction:
        for epoch in range(1, heads + 1):
            head = sign_head(
                other.signer,
                origin=other.id,
                epoch=epoch,
                sequence=1,
                last_id=b"i" * 32,
                receipt_serial=0,
                stated_at=NOW,
            )
            assert transaction.put_head(head)


def test_accepting_does_not_pile_up_the_heads_of_others(device: Device) -> None:
    carry_heads(device, 600)
    waiting = device.link_up(window=1)
    for number in range(8):
        device.submit(str(number))
        waiting += device.tick()
    sent = device.settle_all(waiting)
    assert len(heads_in(sent)) <= 600 + 9


def test_bundles_grow_on_a_quick_link_and_shrink_on_a_slow_one(device: Device) -> None:
    fill(device, 300, 6000)

    def carry(seconds: int, bundles: int) -> int:
        (send,) = device.link_up(window=1)
        for _ in range(bundles):
            device.now += seconds * SECOND
            (send,) = device.settle(send)
        device.link_down()
        return len(send.data)

    assert carry(20, 3) < 20_000 < 150_000 < carry(0, 5)


# Again and again, until receipted.


def wait_until_sent_again(device: Device) -> tuple[int, list[int]]:
    """Tick by half minutes until envelopes are sent; return the time it took and their sequences."""
    begun = device.now
    while device.now < begun + DAY:
        sent = device.settle_all(device.tick(30 * SECOND))
        if envelopes_in(sent):
            return device.now - begun, [envelope.sequence for envelope in envelopes_in(sent)]
    return DAY, []


def test_waits_double_up_to_the_limit_and_stay_there(device: Device) -> None:
    fill(device, 1)
    device.settle_all(device.link_up())
    waits = [wait_until_sent_again(device)[0] for _ in range(9)]
    minutes = [10, 20, 40, 80, 160, 320, 360, 360, 360]
    assert [round(wait / MINUTE) for wait in waits] == minutes


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.75), (0.999999, 1.25)])
def test_waits_are_spread_by_the_randomness_given(tmp_path: Path, chance: float, factor: float) -> None:
    device = Device(tmp_path / "queue", Authority(), randomness=lambda: chance).start()
    fill(device, 1)
    device.settle_all(device.link_up())
    wait, _ = wait_until_sent_again(device)
    device.stop()
    assert abs(wait - factor * 10 * MINUTE) <= 30 * SECOND


def test_the_engine_asks_to_be_woken_when_the_next_envelope_is_due(device: Device) -> None:
    fill(device, 1)
    device.settle_all(device.link_up())
    assert [effect.at for effect in device.effects if isinstance(effect, Wake)][-1] == NOW + 10 * MINUTE


def test_an_idle_device_is_not_woken_more_than_once_an_hour(device: Device) -> None:
    fill(device, 3)
    device.settle_all(device.link_up())
    device.receive(receipt(device, committed(1, 1, 3, device.envelope_ids()[2])))
    for _ in range(20):
        wakes = [effect.at for effect in device.step_quietly() if isinstance(effect, Wake)]
        assert wakes[-1] >= device.now + HOUR
        device.now = wakes[-1]


def test_nothing_is_sent_after_its_receipt(device: Device) -> None:
    fill(device, 3)
    device.settle_all(device.link_up())
    device.receive(receipt(device, committed(1, 1, 2, device.envelope_ids()[1])))
    assert wait_until_sent_again(device)[1] == [3]


def test_what_was_under_way_when_the_link_broke_goes_with_the_next_one(device: Device) -> None:
    fill(device, 30, 6000)
    device.settle(device.link_up(window=4)[0])
    device.link_down()
    sent = envelopes_in(device.settle_all(device.link_up()))
    assert {envelope.sequence for envelope in sent} | {1, 2, 3, 4, 5} >= set(range(1, 31))


def test_what_was_under_way_when_the_process_died_goes_after_the_start(device: Device) -> None:
    fill(device, 5)
    assert device.link_up()
    device.restart()
    assert len(envelopes_in(device.link_up())) == 5


def test_what_a_broker_took_rests_when_the_link_comes_up_anew(device: Device) -> None:
    fill(device, 5)
    device.settle_all(device.link_up())
    device.link_down()
    assert envelopes_in(device.link_up(remembered=True)) == []


def test_a_broker_that_lost_its_session_gets_everything_that_has_no_receipt(device: Device) -> None:
    fill(device, 5)
    device.settle_all(device.link_up())
    device.receive(receipt(device, committed(1, 1, 2, device.envelope_ids()[1])))
    device.link_down()
    assert [envelope.sequence for envelope in envelopes_in(device.link_up(remembered=False))] == [3, 4, 5]


# Refusals and heads.


def test_a_refused_bundle_rests_and_then_goes_again_with_its_heads(device: Device) -> None:
    fill(device, 3)
    (send,) = device.link_up()
    assert device.settle(send, taken=False) == []
    assert device.tick(2 * SECOND) == []
    again = device.tick(SECOND)
    assert len(envelopes_in(again)) == 3 and len(heads_in(again)) == 1


def test_a_far_end_that_goes_on_refusing_is_asked_ever_more_rarely(device: Device) -> None:
    fill(device, 1)
    (send,) = device.link_up()
    rests = []
    for _ in range(9):
        device.settle(send, taken=False)
        begun = device.now
        while not (sent := device.tick(SECOND)):
            pass
        rests.append((device.now - begun) // SECOND)
        send = sent[0]
    assert rests == [3, 6, 12, 24, 48, 96, 192, 384, 600]


def test_a_refused_bundle_of_heads_alone_goes_again_after_the_rest(device: Device) -> None:
    (send,) = device.link_up()
    assert len(heads_in([send])) == 1
    device.settle(send, taken=False)
    assert [effect.at for effect in device.effects if isinstance(effect, Wake)][-1] == device.now + 3 * SECOND
    assert device.tick(2 * SECOND) == []
    assert len(heads_in(device.tick(SECOND))) == 1


def test_heads_that_fall_due_while_a_far_end_is_left_in_peace_wait_for_the_end_of_the_rest(device: Device) -> None:
    (send,) = device.link_up(window=1)
    device.tick(2 * HOUR)
    device.settle(send, taken=False)
    assert [effect.at for effect in device.effects if isinstance(effect, Wake)][-1] == device.now + 3 * SECOND
    assert len(heads_in(device.tick(3 * SECOND))) == 1


def test_heads_go_again_with_what_is_sent_again(device: Device) -> None:
    fill(device, 2)
    assert len(heads_in(device.settle_all(device.link_up()))) == 1
    device.tick(5 * MINUTE)
    again = device.settle_all(device.tick(5 * MINUTE))
    assert len(envelopes_in(again)) == 2 and len(heads_in(again)) == 1


def test_a_refused_bundle_keeps_the_heads_of_others_and_the_statements(device: Device) -> None:
    carry_heads(device, 3)
    first = device.link_up(shape=LinkShape.DEAD_DROP, far_end=b"m" * 16)
    for send in first:
        device.settle(send, taken=False)
    again = device.tick(31 * SECOND)

    def shown(sent: list[Frame]) -> set[bytes]:
        return {frame.payload for frame in sent if frame.type is not FrameType.HEAD or b"i" * 32 in frame.payload}

    frames = shown([frame for send in first for frame in frames_of(send)])
    assert len(frames) == 3 + len(device.authority.statements) + 1
    assert shown([frame for send in device.settle_all(again) for frame in frames_of(send)]) == frames


def test_heads_are_stated_again_after_the_interval_and_not_before(device: Device) -> None:
    device.settle_all(device.link_up())
    assert heads_in(device.tick(59 * MINUTE)) == []
    assert len(heads_in(device.settle_all(device.tick(MINUTE)))) == 1
    assert device.tick() == []


# Clocks.

CLOCKS: list[Callable[[int], int]] = [lambda now: YEAR_1970, lambda now: YEAR_2037, lambda now: now]
IDS = ["1970", "2037", "right"]


@pytest.mark.parametrize("at_submit", CLOCKS, ids=IDS)
@pytest.mark.parametrize("at_send", CLOCKS, ids=IDS)
@pytest.mark.parametrize("at_answer", CLOCKS, ids=IDS)
@pytest.mark.parametrize("after", CLOCKS, ids=IDS)
@pytest.mark.parametrize("answer", ["taken", "refused", "lost", "killed"])
def test_whatever_the_clock_says_a_lost_envelope_is_sent_again_within_a_day(
    shared_device: Device,
    at_submit: Callable[[int], int],
    at_send: Callable[[int], int],
    at_answer: Callable[[int], int],
    after: Callable[[int], int],
    answer: str,
) -> None:
    device = shared_device
    device.now = at_submit(NOW)
    place = device.submit(f"{device.now} {next(device.requests)}").first_sequence
    device.now = at_send(NOW)
    (*_, send) = device.link_up(remembered=False)
    device.now = at_answer(NOW)
    if answer == "lost":
        device.link_down()
    elif answer == "killed":
        device.restart()
    else:
        device.settle(send, taken=answer == "taken")
        device.link_down()
    device.now = after(NOW)
    sent = device.link_up()
    hours = 0
    while place not in [envelope.sequence for envelope in envelopes_in(sent)] and hours < 24:
        sent = device.settle_all(device.tick(HOUR))
        hours += 1
    assert hours < 24
    device.link_down()
    device.receive_on_new_link(committed(1, 1, place, device.envelope_ids()[-1]))


@pytest.fixture(scope="module")
def shared_device() -> Iterator[Device]:
    with memory_folder() as folder:
        one = Device(folder / "queue", Authority()).start()
        yield one
        one.stop()


# Dead drops, and what is carried for others.


def test_a_dead_drop_gets_the_statements_before_what_they_vouch_for(device: Device) -> None:
    fill(device, 2)
    device.receive_on_new_link(committed(1, 1, 1, device.envelope_ids()[0]))
    device.link_down()
    sent = device.settle_all(device.link_up(shape=LinkShape.DEAD_DROP, far_end=b"m" * 16))
    kinds = [frame.type for send in sent for frame in frames_of(send)]
    statements = len(device.authority.statements) + 2
    assert kinds.count(FrameType.STATEMENT) == statements
    assert [envelope.sequence for envelope in envelopes_in(sent)] == [2]


def test_a_mailbox_gets_no_statements(device: Device) -> None:
    fill(device, 2)
    frames = [frame for send in device.settle_all(device.link_up()) for frame in frames_of(send)]
    assert FrameType.STATEMENT not in {frame.type for frame in frames}


def test_a_verified_envelope_of_another_is_carried_and_dropped_on_its_receipt(device: Device, other: Device) -> None:
    other.submit("a")
    device.link_up()
    effects = device.receive(other.certificate, own_envelope(other))
    assert [envelope.origin for envelope in envelopes_in(sends(effects))] == [other.id]
    assert Follow(device.link, frozenset({device.id, other.id}), listed=frozenset({other.id})) in effects
    device.receive(receipt(other, committed(1, 1, 1, other.envelope_ids()[0]), watermark=NOW))
    assert device.rows("number", "own = 0") == []
    assert [effect.origins for effect in device.effects if isinstance(effect, Follow)][-1] == frozenset({device.id})


def test_a_carried_envelope_of_another_branch_stays_until_its_own_span_comes(device: Device, other: Device) -> None:
    other.submit("a")
    device.link_up()
    device.receive(other.certificate, own_envelope(other))
    device.receive(receipt(other, committed(1, 1, 1, b"n" * 32)))
    assert len(device.rows("number", "own = 0")) == 1


def test_own_envelopes_go_before_those_of_others(device: Device, other: Device) -> None:
    other.submit("a")
    device.link_up(window=1)
    device.receive(other.certificate, own_envelope(other))
    device.submit("b")
    device.link_down()
    assert [envelope.origin for envelope in envelopes_in(device.link_up())] == [device.id, other.id]


def test_an_envelope_of_an_unknown_origin_is_refused(device: Device, other: Device) -> None:
    other.submit("a")
    device.link_up()
    device.receive(own_envelope(other))
    assert [notice.fields["reason"] for notice in device.notices("arrival_refused")] == ["untrusted_signer"]
    assert device.rows("number", "own = 0") == []


def test_an_envelope_that_its_origin_did_not_sign_is_refused(device: Device, other: Device) -> None:
    other.submit("a")
    device.link_up()
    device.receive(other.certificate)
    good = own_envelope(other).payload
    for position in (100, 200, len(good) - 1):
        bad = bytearray(good)
        bad[position] ^= 1
        device.receive(Frame(FrameType.ENVELOPE, bytes(bad)))
    assert [notice.fields["reason"] for notice in device.notices("arrival_refused")] == ["bad_signature"] * 3
    assert device.rows("number", "own = 0") == []


def test_what_is_wrong_with_a_bundle_is_told_once_for_each_reason(device: Device, other: Device) -> None:
    fill(other, 3, 200)
    device.link_up()
    device.receive(*(own_envelope(other, sequence) for sequence in (1, 2, 3)), Frame(FrameType.HEAD, b"no head"))
    refused = [(one.fields["frame"], one.fields["frames"]) for one in device.notices("arrival_refused")]
    assert refused == [("envelope", 3), ("head", 1)]
    device.receive(other.certificate, *(own_envelope(other, sequence) for sequence in (1, 2, 3)))
    assert [one.fields["envelopes"] for one in device.notices("custody_taken")] == [3]


def test_beyond_the_quota_custody_is_declined_and_own_submissions_still_work(tmp_path: Path, other: Device) -> None:
    settings = EngineSettings(foreign_bytes_max=6000)
    device = Device(tmp_path / "small", other.authority, settings=settings).start()
    fill(other, 4, 3000)
    device.link_up()
    device.receive(other.certificate, *(own_envelope(other, sequence) for sequence in (1, 2, 3, 4)))
    kept = device.rows("number", "own = 0")
    (declined,) = device.notices("custody_declined")
    answer = device.submit("own")
    device.stop()
    assert 1 <= len(kept) < 4 and declined.fields["envelopes"] == 4 - len(kept) and answer.first_sequence == 1


def rolled_back(device: Device) -> Envelope:
    """Make the device lose queue and mirror after one envelope, which is returned."""
    device.submit("a")
    frame = own_envelope(device)
    device.stop()
    for path in device.directory.iterdir():
        path.unlink()
    device.start().link_up()
    return parse_envelope(frame.payload)


def test_an_own_envelope_that_the_queue_does_not_know_begins_the_next_epoch_once(device: Device) -> None:
    lost = rolled_back(device)
    for _ in range(2):
        device.receive(Frame(FrameType.ENVELOPE, lost.data))
    assert [notice.fields["epoch"] for notice in device.notices("epoch_started")] == [2]
    assert device.submit("b").epoch == 2


def test_an_own_envelope_that_the_queue_knows_is_no_news(device: Device) -> None:
    device.submit("a")
    device.link_up()
    device.receive(own_envelope(device))
    assert not device.notices("epoch_started") and device.submit("b").epoch == 1


def test_a_damaged_bundle_gives_what_is_intact_and_is_told(device: Device, other: Device) -> None:
    other.submit("a")
    device.link_up()
    center = Center(device)
    device.submit("x")
    for send in device.settle_all(device.tick()):
        center.take(send.data)
    device.receive_damaged(other.certificate, center.receipt())
    assert device.notices("bundle_damaged") and device.notices("committed")
