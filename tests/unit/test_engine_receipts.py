"""What a receipt changes, and what it must not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.engine.receipts import LAST_RECEIPT_AT
from sync_protocol.bundle import Frame, FrameType
from sync_protocol.receipt import Mark, Span, SpanStatus
from sync_protocol.statement import RECEIPT, Statement, sign_statement
from tests.support.device import (
    DAY,
    HOUR,
    NOW,
    SECOND,
    Authority,
    Device,
    committed,
    envelopes_in,
    heads_in,
    held,
    questionnaire,
    receipt,
    sends,
)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """A device with five envelopes, all of them sent and taken by the far end."""
    one = Device(tmp_path / "queue", Authority()).start()
    one.submit_all(*((str(number), questionnaire(instance_id=f"uuid:{number}")) for number in range(1, 6)))
    one.settle_all(one.link_up())
    yield one
    one.stop()


def ids(device: Device) -> list[bytes]:
    return device.envelope_ids()


def marks(device: Device) -> list[object]:
    return [at for (at,) in device.rows("committed_at")]


def purged(device: Device) -> list[object]:
    return [sequence for (sequence,) in device.rows("sequence", "own = 1 AND data IS NULL")]


def sent_again(device: Device) -> list[int]:
    """Return the sequences that are sent when all waits are over and the link comes up anew."""
    device.tick(2 * DAY)
    device.link_down()
    return [envelope.sequence for envelope in envelopes_in(device.settle_all(device.link_up()))]


def reasons(device: Device) -> list[object]:
    return [notice.fields["reason"] for notice in device.notices("arrival_refused")]


def test_that_a_far_end_took_everything_purges_and_marks_nothing(device: Device) -> None:
    device.tick(2 * DAY)
    assert purged(device) == [] and marks(device) == [None] * 5


def test_the_sync_mark_is_the_commit_time_that_the_receipt_gives_each_envelope(device: Device) -> None:
    times = (Mark(2, NOW + 7), Mark(1, NOW + 3), Mark(2, NOW + 11))
    device.receive(receipt(device, Span(1, 1, ids(device)[4], SpanStatus.COMMITTED, times)))
    assert marks(device) == [NOW + 7, NOW + 7, NOW + 3, NOW + 11, NOW + 11]
    assert purged(device) == [], "a commit that is in no backup frees nobody"


def test_what_lies_at_or_before_the_watermark_is_purged_and_nothing_later(device: Device) -> None:
    span = Span(1, 1, ids(device)[4], SpanStatus.COMMITTED, (Mark(2, NOW), Mark(1, NOW + 1), Mark(2, NOW + 2)))
    device.receive(receipt(device, span, watermark=NOW + 1))
    assert purged(device) == [1, 2, 3]
    device.receive(receipt(device, span, serial=2, watermark=NOW + 2))
    assert purged(device) == [1, 2, 3, 4, 5]


def test_what_the_receipt_does_not_list_is_neither_marked_nor_purged(device: Device) -> None:
    device.receive(receipt(device, committed(1, 2, 3, ids(device)[2]), watermark=NOW + DAY))
    assert purged(device) == [2, 3]
    assert sent_again(device) == [1, 4, 5]


def test_what_is_held_is_not_purged_and_not_sent_again_while_the_receipt_lists_it(device: Device) -> None:
    all_ids = ids(device)
    spans = (committed(1, 1, 2, all_ids[1]), held(1, 3, 3, all_ids[2]), committed(1, 4, 5, all_ids[4]))
    device.receive(receipt(device, *spans, watermark=NOW + DAY))
    assert purged(device) == [1, 2, 4, 5]
    assert sent_again(device) == []
    device.receive(receipt(device, spans[0], spans[2], serial=2, watermark=NOW + DAY))
    assert sent_again(device) == [3]


def test_held_that_becomes_committed_is_purged(device: Device) -> None:
    device.receive(receipt(device, held(1, 1, 5, ids(device)[4])))
    device.receive(receipt(device, committed(1, 1, 5, ids(device)[4]), serial=2, watermark=NOW))
    assert purged(device) == [1, 2, 3, 4, 5]


def test_a_stale_receipt_changes_nothing_and_is_told(device: Device) -> None:
    device.receive(receipt(device, committed(1, 1, 2, ids(device)[1]), serial=5))
    device.receive(receipt(device, committed(1, 1, 5, ids(device)[4]), serial=5, watermark=NOW + DAY))
    device.receive(receipt(device, committed(1, 1, 5, ids(device)[4]), serial=4, watermark=NOW + DAY))
    assert marks(device) == [NOW, NOW, None, None, None] and purged(device) == []
    assert len(device.notices("statement_stale")) == 2


def test_the_same_receipt_again_is_no_news(device: Device) -> None:
    one = receipt(device, committed(1, 1, 5, ids(device)[4]))
    device.receive(one)
    before = len(device.notices("committed"))
    device.receive(one)
    assert len(device.notices("committed")) == before and not device.notices("statement_stale")


def test_a_receipt_with_any_byte_changed_is_refused(device: Device) -> None:
    good = receipt(device, committed(1, 1, 5, ids(device)[4]), watermark=NOW + DAY).data
    for position in range(0, len(good), 11):
        bad = bytearray(good)
        bad[position] ^= 1
        device.receive(Frame(FrameType.STATEMENT, bytes(bad)))
    assert marks(device) == [None] * 5 and purged(device) == []
    assert len(device.notices("arrival_refused")) >= len(range(0, len(good), 11)) - 4


@pytest.mark.parametrize("signer", ["issuer", "content", "root", "stranger"])
def test_a_receipt_by_a_key_that_may_not_sign_receipts_is_refused(device: Device, signer: str) -> None:
    key = device.signer if signer == "stranger" else getattr(device.authority, signer)
    device.receive(receipt(device, committed(1, 1, 5, ids(device)[4]), watermark=NOW + DAY, signer=key))
    assert reasons(device) == ["untrusted_signer"] and marks(device) == [None] * 5


def test_a_receipt_by_a_withdrawn_key_is_refused_also_after_a_restart(device: Device) -> None:
    device.receive(device.authority.withdraw(device.authority.receipts))
    device.receive(receipt(device, committed(1, 1, 5, ids(device)[4])))
    device.restart().link_up()
    device.receive(receipt(device, committed(1, 1, 5, ids(device)[4])))
    assert reasons(device) == ["untrusted_signer"] * 2 and marks(device) == [None] * 5


def test_a_receipt_for_another_origin_is_kept_to_pass_on_and_changes_nothing_here(device: Device) -> None:
    other = Device(device.directory, device.authority, name="tablet-2")
    foreign = receipt(other, committed(1, 1, 5, ids(device)[4]), serial=9, watermark=NOW + DAY)
    device.receive(foreign)
    assert marks(device) == [None] * 5 and purged(device) == []
    assert device.store is not None
    with device.store.transaction() as transaction:
        assert transaction.statement(RECEIPT, other.id) == foreign.data
        assert transaction.statement(RECEIPT, device.id) is None
        assert transaction.number(LAST_RECEIPT_AT) is None, "the center has not spoken of this device"
    assert not device.notices("chain_forked") and device.submit("new").epoch == 1


def test_a_span_beyond_the_own_chain_begins_the_next_epoch_once(device: Device) -> None:
    beyond = committed(1, 1, 9, b"n" * 32)
    for serial in (1, 2, 3):
        device.receive(receipt(device, beyond, serial=serial, watermark=NOW + DAY))
    assert [notice.fields["epoch"] for notice in device.notices("epoch_started")] == [2]
    assert purged(device) == [] and marks(device) == [None] * 5
    answer = device.submit("new")
    assert (answer.epoch, answer.first_sequence) == (2, 1)


def test_a_span_of_an_epoch_that_the_device_does_not_know_begins_the_one_after_it(device: Device) -> None:
    device.receive(receipt(device, committed(7, 1, 1, b"n" * 32)))
    assert device.submit("new").epoch == 8


def test_a_span_beyond_an_earlier_epoch_begins_none(device: Device) -> None:
    device.receive(receipt(device, committed(4, 1, 1, b"n" * 32)))
    device.receive(receipt(device, committed(3, 1, 1, b"n" * 32), committed(4, 1, 1, b"n" * 32), serial=2))
    device.receive(receipt(device, committed(1, 1, 8, b"n" * 32), committed(4, 1, 1, b"n" * 32), serial=3))
    assert [notice.fields["epoch"] for notice in device.notices("epoch_started")] == [5]


def test_a_span_with_another_id_is_an_alarm_and_the_other_spans_still_count(device: Device) -> None:
    all_ids = ids(device)
    spans = (committed(1, 1, 2, all_ids[1]), committed(1, 3, 4, b"n" * 32), committed(1, 5, 5, all_ids[4]))
    device.receive(receipt(device, *spans, watermark=NOW))
    assert purged(device) == [1, 2, 5] and marks(device)[2:4] == [None, None]
    (alarm,) = device.notices("chain_forked")
    assert alarm.fields["sequence"] == 4
    assert sent_again(device) == [3, 4]


def test_a_fork_of_the_current_chain_begins_the_next_epoch_once(device: Device) -> None:
    for serial in (1, 2):
        device.receive(receipt(device, committed(1, 1, 4, b"n" * 32), serial=serial))
    assert device.submit("new").epoch == 2
    assert len(device.notices("epoch_started")) == 1


def test_overlapping_spans_of_a_forked_chain_mark_what_the_own_branch_has(device: Device) -> None:
    all_ids = ids(device)
    spans = (committed(1, 1, 4, b"n" * 32), committed(1, 1, 3, all_ids[2]), committed(1, 2, 4, all_ids[3], NOW + 5))
    device.receive(receipt(device, *spans))
    assert marks(device) == [NOW, NOW + 5, NOW + 5, NOW + 5, None]


def test_what_a_restored_center_no_longer_lists_loses_its_mark_and_is_sent_again(device: Device) -> None:
    all_ids = ids(device)
    device.receive(receipt(device, committed(1, 1, 5, all_ids[4])))
    assert sent_again(device) == []
    device.receive(receipt(device, committed(1, 1, 2, all_ids[1]), serial=2))
    assert marks(device) == [NOW, NOW, None, None, None]
    assert sent_again(device) == [3, 4, 5]
    assert device.notices("commit_withdrawn")[0].fields["envelopes"] == 3
    device.receive(receipt(device, committed(1, 1, 5, all_ids[4], NOW + DAY), serial=3, watermark=NOW + DAY))
    assert purged(device) == [1, 2, 3, 4, 5]


def test_a_withdrawn_commit_is_sent_at_once_on_a_link_that_is_up(device: Device) -> None:
    device.receive(receipt(device, committed(1, 1, 5, ids(device)[4])))
    again = sends(device.receive(receipt(device, serial=2)))
    assert [envelope.sequence for envelope in envelopes_in(device.settle_all(again))] == [1, 2, 3, 4, 5]
    assert marks(device) == [None] * 5


def test_a_purged_envelope_that_no_span_covers_is_an_alarm(device: Device) -> None:
    all_ids = ids(device)
    device.receive(receipt(device, committed(1, 1, 5, all_ids[4]), watermark=NOW))
    device.receive(receipt(device, committed(1, 1, 3, all_ids[2]), serial=2))
    (alarm,) = device.notices("purged_but_unlisted")
    assert alarm.fields == {"epoch": 1, "sequence": 4, "last_sequence": 5, "envelopes": 2}


def test_a_purged_envelope_under_a_span_of_another_branch_is_not_told_as_lost(device: Device) -> None:
    device.receive(receipt(device, committed(1, 1, 5, ids(device)[4]), watermark=NOW))
    device.receive(receipt(device, committed(1, 1, 9, b"n" * 32), serial=2))
    assert not device.notices("purged_but_unlisted")


def test_a_receipt_for_an_earlier_epoch_still_marks_and_purges_there(device: Device) -> None:
    first_epoch = ids(device)
    device.receive(receipt(device, committed(1, 1, 9, b"n" * 32)))
    device.submit("later")
    later = ids(device)[-1]
    spans = (committed(1, 1, 5, first_epoch[4]), committed(2, 1, 1, later, NOW + 3))
    device.receive(receipt(device, *spans, serial=2, watermark=NOW))
    assert purged(device) == [1, 2, 3, 4, 5] and marks(device) == [NOW] * 5 + [NOW + 3]


def test_two_thousand_marks_are_kept_exactly(tmp_path: Path) -> None:
    device = Device(tmp_path / "queue", Authority()).start()
    device.submit_all(*((str(n), questionnaire(instance_id=f"uuid:{n}")) for n in range(2000)))
    device.link_up()
    times = tuple(Mark(1, NOW + 3 * number) for number in range(2000))
    device.receive(receipt(device, Span(1, 1, ids(device)[-1], SpanStatus.COMMITTED, times), watermark=NOW + 3 * 999))
    assert marks(device) == [NOW + 3 * number for number in range(2000)]
    assert len(purged(device)) == 1000
    device.stop()


@pytest.mark.parametrize(
    ("watermark", "time", "epoch", "first"),
    [(2**64 - 1, NOW, 1, 1), (0, 2**63, 1, 1), (0, NOW, 2**32 - 1, 1), (0, NOW, 1, 2**63)],
)
@pytest.mark.parametrize("own", [True, False])
def test_numbers_that_cannot_be_kept_are_refused_as_a_whole(
    device: Device, watermark: int, time: int, epoch: int, first: int, *, own: bool
) -> None:
    subject = device if own else Device(device.directory, device.authority, name="tablet-2")
    device.receive(receipt(subject, committed(epoch, first, first, b"n" * 32, time), watermark=watermark))
    assert reasons(device) == ["bad_field"]
    device.receive(receipt(device, committed(1, 1, 5, ids(device)[4])))
    assert marks(device) == [NOW] * 5


def test_heads_state_every_epoch_and_the_receipt_that_the_device_holds(device: Device) -> None:
    device.receive(receipt(device, committed(1, 1, 9, b"n" * 32), serial=6))
    device.submit("later")
    device.link_down()
    heads = {head.epoch: head for head in heads_in(device.settle_all(device.link_up()))}
    assert {epoch: (head.sequence, head.receipt_serial) for epoch, head in heads.items()} == {1: (5, 6), 2: (1, 6)}
    assert heads[1].last_id == ids(device)[4] and heads[2].last_id == ids(device)[5]


def test_a_statement_of_an_unknown_kind_is_kept_to_pass_on(device: Device) -> None:
    form = sign_statement(device.authority.content, kind=40, subject=b"f" * 16, serial=1, body=b"form")
    device.receive(form)
    assert isinstance(form, Statement) and device.store is not None
    with device.store.transaction() as transaction:
        assert transaction.statement(40, b"f" * 16) == form.data


def test_silence_of_the_center_is_told_once_and_its_end_once(device: Device) -> None:
    for _ in range(60):
        device.tick(2 * HOUR)
    assert len(device.notices("receipt_silence")) == 1 and not device.notices("receipt_silence_ended")
    seconds = device.notices("receipt_silence")[0].fields["silence_seconds"]
    assert isinstance(seconds, int) and 3 * DAY <= seconds * SECOND <= 3 * DAY + 2 * HOUR
    device.receive(receipt(device, committed(1, 1, 4, ids(device)[3], device.now)))
    device.tick(HOUR)
    assert len(device.notices("receipt_silence_ended")) == 1 and len(device.notices("receipt_silence")) == 1


def test_nobody_waits_for_the_center_while_everything_is_receipted(device: Device) -> None:
    device.receive(receipt(device, committed(1, 1, 5, ids(device)[4])))
    device.tick(9 * DAY)
    assert not device.notices("receipt_silence")


def test_a_receipt_at_a_time_far_ahead_does_not_silence_the_alarm_for_ever(device: Device) -> None:
    right = device.now
    device.now = right + 11 * 365 * DAY
    device.receive(receipt(device, committed(1, 1, 4, ids(device)[3])))
    device.now = right
    device.tick(4 * DAY)
    assert device.notices("receipt_silence")


def test_a_clock_that_was_at_1970_makes_no_alarm_of_it(tmp_path: Path) -> None:
    device = Device(tmp_path / "queue", Authority(), now=0).start()
    device.submit("a")
    device.submit("b")
    device.link_up()
    device.receive(receipt(device, committed(1, 1, 1, device.envelope_ids()[0], NOW)))
    device.now = NOW + HOUR
    device.tick()
    device.stop()
    assert not device.notices("receipt_silence")
