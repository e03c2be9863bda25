"""One connection between neighbours, as a table: who says hello when, what ends it, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.mesh import conversation as mesh
from edge_agent.mesh.allowance import Allowance
from edge_agent.mesh.conversation import (
    Answered,
    BundleCame,
    Conversation,
    Ended,
    EndReason,
    Greeted,
    Outcome,
    Said,
    Write,
)
from sync_protocol.limits import MESH_PAYLOAD_BYTES_MAX
from sync_protocol.mesh import (
    Arrived,
    BundleMessage,
    Hello,
    Inventory,
    Item,
    Message,
    Offer,
    Offered,
    Ping,
    Pong,
    Taken,
    Verdict,
    Verdicts,
    digests_of,
)
from sync_protocol.mesh_stream import MessageReader, write_message

HELLO = Hello(False, None, 0)
GATEWAY = Hello(True, 0, 0)
DATA = b"8 bytes."
DIGESTS = digests_of([])
EVERYWHERE = frozenset(range(16))
OFFER = Offer(1, (Offered(bytes(32), 1, 1), Offered(b"i" * 32, 2, 0)))
ANSWER = Verdicts(1, (Verdict.WANTED, Verdict.HELD))


def bytes_of(*messages: Message) -> bytes:
    return b"".join(write_message(one) for one in messages)


def said(outcomes: Sequence[Outcome]) -> list[Arrived]:
    """Return the messages that are to be written."""
    return MessageReader().feed(b"".join(one.data for one in outcomes if isinstance(one, Write)))


def ending(outcomes: Sequence[Outcome]) -> EndReason:
    (ended,) = outcomes
    assert isinstance(ended, Ended)
    return ended.reason


def opened(*, dialled: bool = True) -> Conversation:
    """Return a conversation that both sides have greeted in, at 0 seconds."""
    made = Conversation(dialled=dialled, now_seconds=0)
    if dialled:
        made.admit(HELLO, 0)
    made.received(bytes_of(HELLO), 0)
    if not dialled:
        made.admit(HELLO, 0)
    assert made.is_open
    return made


def test_who_dialled_says_hello_first_and_the_other_answers_when_it_admits() -> None:
    dialler, other = (Conversation(dialled=dialled, now_seconds=0) for dialled in (True, False))
    assert said(other.admit(HELLO, 0)) == []
    first = dialler.admit(HELLO, 0)
    assert said(first) == [HELLO]
    assert other.received(bytes_of(HELLO), 1) == [Greeted(HELLO)]
    assert not other.is_open
    assert said(other.admit(GATEWAY, 1)) == [GATEWAY]
    assert other.is_open
    assert dialler.received(bytes_of(GATEWAY), 2) == [Greeted(GATEWAY)]
    assert dialler.is_open


@pytest.mark.parametrize(
    "data",
    [bytes_of(Ping(DATA)), bytes_of(BundleMessage(1, b"")), bytes_of(Taken(1, True)), b"\x63" + bytes(7), b"GET / HT"],
)
@pytest.mark.parametrize("dialled", [True, False])
def test_anything_before_hello_ends_it(data: bytes, dialled: bool) -> None:
    assert ending(Conversation(dialled=dialled, now_seconds=0).received(data, 0)) is EndReason.MISUSED


@pytest.mark.parametrize("message", [BundleMessage(1, b""), Taken(1, True)])
def test_bundles_and_answers_before_the_other_side_has_admitted_end_it(message: Message) -> None:
    asked = Conversation(dialled=False, now_seconds=0)
    assert ending(asked.received(bytes_of(HELLO, message), 0)) is EndReason.MISUSED


def test_who_says_no_hello_or_is_not_admitted_in_time_is_let_go() -> None:
    silent, asked = (Conversation(dialled=False, now_seconds=5) for _ in range(2))
    asked.received(bytes_of(HELLO), 6)
    for one in (silent, asked):
        assert one.due_at == 15
        assert one.time_passed(14.9) == []
        assert ending(one.time_passed(15)) is EndReason.NO_HELLO


def test_bundles_have_numbers_and_are_answered_by_them() -> None:
    here = opened()
    first, written = here.send(b"one", 1)
    assert said(written) == [BundleMessage(first, b"one")]
    second, _ = here.send(b"two", 1)
    assert second != first
    assert not here.can_send
    assert here.received(bytes_of(Taken(second, False)), 2) == [Answered(Taken(second, False))]
    assert here.can_send
    assert ending(here.received(bytes_of(Taken(second, False)), 2)) is EndReason.MISUSED


def test_a_bundle_that_came_is_answered_with_what_became_of_it() -> None:
    here = opened()
    assert here.received(bytes_of(BundleMessage(9, b"data")), 1) == [BundleCame(9, b"data")]
    assert said(here.answer(9, recorded=True, now_seconds=2)) == [Taken(9, True)]


def test_a_third_bundle_before_the_first_is_answered_ends_it_and_none_of_them_is_recorded() -> None:
    three = [BundleMessage(number, b"x") for number in (1, 2, 3)]
    assert ending(opened().received(bytes_of(*three), 1)) is EndReason.MISUSED
    patient = opened()
    patient.received(bytes_of(*three[:2]), 1)
    patient.answer(1, recorded=True, now_seconds=1)
    assert patient.received(bytes_of(three[2]), 1) == [BundleCame(3, b"x")]


def test_a_number_that_is_still_unanswered_may_not_come_again() -> None:
    twice = bytes_of(BundleMessage(1, b"x"), BundleMessage(1, b"y"))
    assert ending(opened().received(twice, 1)) is EndReason.MISUSED


def test_pings_are_answered_and_sent_after_a_minute_of_silence() -> None:
    here = opened()
    assert said(here.received(bytes_of(Ping(DATA)), 10)) == [Pong(DATA)]
    assert here.due_at == 70
    assert here.time_passed(69.9) == []
    (ping,) = said(here.time_passed(70))
    assert isinstance(ping, Ping)
    here.received(bytes_of(Pong(ping.data)), 75)
    assert here.time_passed(134.9) == []
    assert len(said(here.time_passed(135))) == 1


def test_a_silent_far_end_is_let_go_after_90_seconds() -> None:
    here = opened()
    here.time_passed(60)
    assert here.time_passed(89.9) == []
    assert ending(here.time_passed(90)) is EndReason.SILENT
    assert here.received(bytes_of(Ping(DATA)), 91) == []
    assert here.time_passed(99) == []
    assert here.due_at is None


def test_while_a_bundle_is_recorded_the_far_end_is_not_taken_for_silent_and_hears_of_us() -> None:
    here = opened()
    here.received(bytes_of(BundleMessage(1, b"x")), 10)
    assert len(said(here.time_passed(100))) == 1
    assert here.time_passed(159) == []
    assert len(said(here.time_passed(160))) == 1
    here.answer(1, recorded=True, now_seconds=161)
    assert here.time_passed(220) == []
    here.time_passed(221)
    assert ending(here.time_passed(251)) is EndReason.SILENT


def test_a_far_end_that_pings_but_never_answers_a_bundle_is_let_go() -> None:
    here = opened()
    here.send(b"x", 5)
    for now in range(10, 125, 10):
        here.received(bytes_of(Ping(DATA)), now)
        assert not any(isinstance(one, Ended) for one in here.time_passed(now))
    assert ending(here.time_passed(125)) is EndReason.UNANSWERED


def test_two_that_have_nothing_to_say_part_after_ten_minutes() -> None:
    here = opened()
    here.received(bytes_of(BundleMessage(1, b"x")), 30)
    here.answer(1, recorded=True, now_seconds=31)
    for now in range(60, 631, 20):
        here.received(bytes_of(Ping(DATA)), now)
        assert not any(isinstance(one, Ended) for one in here.time_passed(now))
    assert ending(here.time_passed(631)) is EndReason.IDLE


def test_a_probed_far_end_has_little_time_to_say_anything() -> None:
    alive, gone = opened(), opened()
    for one in (alive, gone):
        assert len(said(one.probe(20))) == 1
        assert one.due_at == 30
    alive.received(bytes_of(Pong(bytes(8))), 29)
    assert alive.time_passed(30) == []
    assert ending(gone.time_passed(30)) is EndReason.SILENT


def test_news_of_oneself_waits_so_that_the_far_end_is_not_flooded() -> None:
    here = opened()
    assert said(here.say(GATEWAY, 1)) == [GATEWAY]
    assert said(here.say(HELLO, 2)) == []
    assert here.due_at == 11
    assert said(here.say(GATEWAY, 3)) == []
    assert said(here.time_passed(11)) == [GATEWAY]
    assert said(here.say(HELLO, 30)) == [HELLO]


def test_a_far_end_that_hears_all_news_of_ours_never_ends_it() -> None:
    here, there = opened(), opened(dialled=False)
    for now in range(2000):
        for outcome in here.say(GATEWAY if now % 2 else HELLO, now):
            assert isinstance(outcome, Write)
            assert not any(isinstance(one, Ended) for one in there.received(outcome.data, now))


def test_hellos_without_end_are_cut_off() -> None:
    here = opened()
    for _ in range(mesh.HELLOS_PER_MINUTE_MAX - 1):
        assert here.received(bytes_of(GATEWAY), 1) == [Greeted(GATEWAY)]
    assert ending(here.received(bytes_of(GATEWAY), 1)) is EndReason.FLOODED


@pytest.mark.parametrize("flood", [bytes_of(Ping(DATA)) * 1000, b"\x63" + bytes(3) + b"\0\0\x10\0" + bytes(4096)])
def test_floods_of_pings_or_unknown_messages_are_cut_off(flood: bytes) -> None:
    here, taken_bytes = opened(), 0
    while not any(isinstance(one, Ended) for one in here.received(flood, 1)):
        taken_bytes += len(flood)
        assert taken_bytes <= mesh.BESIDE_BYTES_PER_MINUTE_MAX
    assert taken_bytes > mesh.BESIDE_BYTES_PER_MINUTE_MAX // 2


def test_bundles_and_their_answers_are_not_counted_as_a_flood() -> None:
    here = opened()
    for number in range(100):
        here.received(bytes_of(BundleMessage(number, bytes(200_000))), 1)
        here.answer(number, recorded=True, now_seconds=1)
        mine, _ = here.send(b"x", 1)
        assert isinstance(here.received(bytes_of(Taken(mine, True, (bytes(32),) * 1000)), 1)[0], Answered)


def test_what_is_too_long_ends_it_before_it_has_come() -> None:
    too_long = b"\2" + bytes(3) + (MESH_PAYLOAD_BYTES_MAX + 1).to_bytes(4, "big")
    assert ending(opened().received(too_long, 1)) is EndReason.MISUSED


@given(st.lists(st.binary(max_size=60) | st.sampled_from([bytes_of(HELLO), bytes_of(BundleMessage(1, b""))])))
def test_no_bytes_of_a_far_end_do_anything_but_end_it(pieces: list[bytes]) -> None:
    here = Conversation(dialled=False, now_seconds=0)
    for piece in pieces:
        for outcome in here.received(piece, 1):
            if isinstance(outcome, Greeted):
                here.admit(HELLO, 1)
        here.time_passed(2)


@pytest.mark.parametrize("message", [DIGESTS, Inventory(EVERYWHERE, ()), OFFER])
def test_what_the_far_ends_engine_says_is_for_ours(message: Message) -> None:
    assert opened().received(bytes_of(message), 1) == [Said(message)]  # type: ignore[arg-type]  # all are Exchanged


@pytest.mark.parametrize("message", [DIGESTS, Inventory(EVERYWHERE, ()), OFFER, ANSWER])
def test_nothing_is_said_about_envelopes_before_the_other_side_has_admitted(message: Message) -> None:
    asked = Conversation(dialled=False, now_seconds=0)
    asked.received(bytes_of(HELLO), 0)
    assert ending(asked.received(bytes_of(message), 1)) is EndReason.MISUSED


def test_an_offer_is_answered_once_by_as_many_verdicts() -> None:
    one = opened()
    assert said(one.tell(OFFER, 1)) == [OFFER]
    assert one.received(bytes_of(ANSWER), 2) == [Said(ANSWER)]
    assert ending(one.received(bytes_of(ANSWER), 3)) is EndReason.MISUSED


@pytest.mark.parametrize(
    "answer", [Verdicts(2, ANSWER.verdicts), Verdicts(1, ANSWER.verdicts[:1]), Verdicts(1, ANSWER.verdicts * 2)]
)
def test_an_answer_to_no_offer_or_of_another_length_ends_it(answer: Verdicts) -> None:
    one = opened()
    one.tell(OFFER, 1)
    assert ending(one.received(bytes_of(answer), 2)) is EndReason.MISUSED


def test_a_second_offer_before_the_first_is_answered_ends_it() -> None:
    one = opened()
    one.received(bytes_of(OFFER), 1)
    assert ending(one.received(bytes_of(Offer(2, OFFER.envelopes)), 2)) is EndReason.MISUSED
    other = opened()
    other.received(bytes_of(OFFER), 1)
    assert said(other.tell(ANSWER, 1)) == [ANSWER]
    assert other.received(bytes_of(Offer(2, OFFER.envelopes)), 2) == [Said(Offer(2, OFFER.envelopes))]


def test_an_offer_of_a_new_link_waits_for_the_answer_to_the_one_before() -> None:
    one = opened()
    one.tell(OFFER, 1)
    second = Offer(1, OFFER.envelopes[:1])
    assert said(one.tell(second, 2)) == []
    first, *rest = one.received(bytes_of(ANSWER), 3)
    assert first == Said(ANSWER)
    assert said(rest) == [second]
    answer = Verdicts(1, (Verdict.HELD,))
    assert one.received(bytes_of(answer), 4) == [Said(answer)]


def test_verdicts_that_nobody_waits_for_are_not_written() -> None:
    assert said(opened().tell(ANSWER, 1)) == []


def test_a_far_end_that_never_answers_an_offer_is_let_go() -> None:
    one = opened()
    one.tell(OFFER, 1)
    for second in range(30, 121, 30):
        one.received(bytes_of(Pong(DATA)), second)
        assert not [outcome for outcome in one.time_passed(second) if isinstance(outcome, Ended)]
    assert ending(one.time_passed(121)) is EndReason.UNANSWERED


def test_digests_and_lists_without_end_are_cut_off() -> None:
    asking, listing = opened(), opened()
    for _ in range(mesh.DIGESTS_PER_MINUTE_MAX):
        assert asking.received(bytes_of(DIGESTS), 1) == [Said(DIGESTS)]
    assert ending(asking.received(bytes_of(DIGESTS), 1)) is EndReason.FLOODED
    items = tuple(Item(number.to_bytes(16, "big"), 1, 0, (1, 0)) for number in range(6_000))
    outcomes = [listing.received(bytes_of(Inventory(EVERYWHERE, items)), 1) for _ in range(5)]
    assert ending(outcomes[-1]) is EndReason.FLOODED


def test_an_allowance_fills_up_with_time_and_never_beyond_itself() -> None:
    allowance = Allowance(60, 60)
    assert allowance.spend(60, 0) == 0
    assert allowance.spend(6, 0) == 6
    assert allowance.spend(0, 6) == 0
    assert allowance.spend(60, 10_000) == 0
    assert allowance.spend(1, 10_000) == 1
