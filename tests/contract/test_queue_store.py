"""What the engine may expect of a store, asked of the queue; and what the queue promises of its files."""

import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.engine.effects import Accepted
from edge_agent.engine.events import ChainPosition
from edge_agent.engine.store import SequenceRange, StoreFault, StoreFull
from edge_agent.queue import transaction as transaction_module
from edge_agent.queue.migrations import MIGRATIONS
from edge_agent.queue.store import LOCK_FILE_NAME, QUEUE_FILE_NAME, QueueBusy, QueueStore
from edge_agent.queue.transaction import QueueTransaction
from sync_protocol.content import Metadata, encode_content
from sync_protocol.envelope import NO_ID, Envelope, seal_envelope
from sync_protocol.head import sign_head
from sync_protocol.identity import CENTER
from sync_protocol.mesh import Item
from sync_protocol.receipt import SpanStatus
from sync_protocol.statement import sign_statement
from sync_protocol.way import Leg, Way
from tests.support.device import HOUR, NOW, Authority, Device

AUTHORITY = Authority()
OWN = Device(Path(), AUTHORITY)
OTHER = Device(Path(), AUTHORITY, name="tablet-2")
MEDIUM = b"m" * 16


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QueueStore]:
    with QueueStore(tmp_path / "queue") as one:
        with one.transaction() as transaction:
            transaction.start_epoch(1, reason="first start", now=NOW)
        yield one


def envelope(sequence: int, *, device: Device = OWN, epoch: int = 1, body: bytes = b"x") -> Envelope:
    metadata = Metadata(
        form="f",
        form_version="",
        instance_id=f"uuid:{sequence}",
        media_type="application/json",
        created_at=0,
        part=1,
        parts=1,
        whole_bytes=len(body),
        whole_digest="0" * 64,
    )
    return seal_envelope(
        encode_content(metadata, body),
        recipient=AUTHORITY.center.public_key,
        signer=device.signer,
        origin=device.id,
        epoch=epoch,
        sequence=sequence,
        previous_id=NO_ID if sequence == 1 else b"p" * 32,
    )


def add(store: QueueStore, *envelopes: Envelope) -> None:
    with store.transaction() as transaction:
        for one in envelopes:
            own = one.origin == OWN.id
            assert transaction.add_envelope(one, own=own, carrier=None if own else OTHER.id, now=NOW)


def due(store: QueueStore, now: int = NOW, *, destination: bytes = CENTER, bytes_max: int = 10**9) -> list[int]:
    with store.transaction() as transaction:
        return [one.number for one in transaction.due(destination, now, bytes_max=bytes_max)]


def place(first: int, last: int) -> SequenceRange:
    return SequenceRange(OWN.id, 1, first, last)


# The chain and submissions.


def test_position_follows_the_newest_epoch_and_its_last_envelope(store: QueueStore) -> None:
    first, second = envelope(1), envelope(2)
    add(store, first, second)
    with store.transaction() as transaction:
        assert transaction.position() == ChainPosition(1, 2, second.id)
        transaction.start_epoch(4, reason="test", now=NOW)
        assert transaction.position() == ChainPosition(4, 0, NO_ID)
        assert transaction.epochs() == [ChainPosition(1, 2, second.id), ChainPosition(4, 0, NO_ID)]
        for epoch in (4, 2):
            with pytest.raises(StoreFault, match="does not follow"):
                transaction.start_epoch(epoch, reason="test", now=NOW)


def test_anothers_envelopes_do_not_move_the_position(store: QueueStore) -> None:
    add(store, envelope(7, device=OTHER))
    with store.transaction() as transaction:
        assert transaction.position() == ChainPosition(1, 0, NO_ID)


def test_a_submission_is_remembered_by_its_key(store: QueueStore) -> None:
    with store.transaction() as transaction:
        assert transaction.accepted_before(b"k" * 32) is None
        transaction.remember_submission(b"k" * 32, Accepted(5, 1, 2, 3, repeated=False), NOW)
        assert transaction.accepted_before(b"k" * 32) == Accepted(0, 1, 2, 3, repeated=True)


def test_of_submissions_whose_keys_begin_alike_the_first_tells_when_it_was(store: QueueStore) -> None:
    with store.transaction() as transaction:
        assert transaction.submitted_at(b"i" * 32) is None
        for key, at in ((b"i" * 32 + b"b" * 32, NOW + 1), (b"i" * 32 + b"a" * 32, NOW + 2), (b"j" * 64, NOW)):
            transaction.remember_submission(key, Accepted(5, 1, 2, 3, repeated=False), at)
        assert transaction.submitted_at(b"i" * 32) == NOW + 1


def test_an_envelope_is_stored_once(store: QueueStore) -> None:
    one = envelope(1)
    add(store, one)
    with store.transaction() as transaction:
        assert not transaction.add_envelope(one, own=True, carrier=None, now=NOW)
        assert transaction.envelope_id(OWN.id, 1, 1) == one.id
        assert transaction.envelope_id(OWN.id, 1, 2) is None


def test_a_transaction_that_fails_leaves_nothing(store: QueueStore) -> None:
    with pytest.raises(RuntimeError), store.transaction() as transaction:
        transaction.add_envelope(envelope(1), own=True, carrier=None, now=NOW)
        transaction.put_number("n", 1)
        raise RuntimeError
    with store.transaction() as transaction:
        assert transaction.envelope_id(OWN.id, 1, 1) is None and transaction.number("n") is None


# Marks, purges.


def test_marks_are_counted_when_they_change_something(store: QueueStore) -> None:
    add(store, *(envelope(n) for n in range(1, 4)))
    with store.transaction() as transaction:
        assert transaction.mark(place(1, 2), SpanStatus.COMMITTED, NOW) == 2
        assert transaction.mark(place(1, 3), SpanStatus.COMMITTED, NOW) == 1
        assert transaction.mark(place(1, 3), SpanStatus.COMMITTED, NOW) == 0
        assert transaction.mark(place(3, 3), SpanStatus.HELD, NOW) == 1
        assert transaction.unmark(place(2, 3)) == 2
        assert transaction.unmark(place(2, 3)) == 0


def test_only_own_committed_envelopes_up_to_the_watermark_are_purged(store: QueueStore) -> None:
    add(store, *(envelope(n) for n in range(1, 5)), envelope(1, device=OTHER))
    with store.transaction() as transaction:
        transaction.mark(place(1, 1), SpanStatus.COMMITTED, NOW)
        transaction.mark(place(2, 2), SpanStatus.COMMITTED, NOW + 1)
        transaction.mark(place(3, 3), SpanStatus.HELD, NOW)
        transaction.mark(SequenceRange(OTHER.id, 1, 1, 1), SpanStatus.COMMITTED, NOW)
        assert transaction.purge_own(OWN.id, watermark=NOW, now=NOW) == 1
        assert transaction.purge_own(OTHER.id, watermark=NOW, now=NOW) == 0
        assert transaction.purged_count(place(1, 4)) == 1
        assert transaction.unmark(place(1, 1)) == 0, "what is purged cannot be sent again"
        assert transaction.position().sequence == 4
        assert transaction.envelope_id(OWN.id, 1, 1) is not None


REOPENING: list[Callable[[QueueTransaction], object]] = [
    lambda t: t.add_envelope(envelope(9), own=True, carrier=None, now=NOW),
    lambda t: t.unmark(place(1, 1)),
    lambda t: t.end_rest([3]),
    lambda t: t.end_rests(NOW + HOUR, longest=HOUR),
    lambda t: t.forget_attempts(NOW, MEDIUM),
    lambda t: t.forget_dispatches(MEDIUM),
    lambda t: t.renew_copies(8, NOW, after=0),
    lambda t: (t.drop_foreign([4]), t.add_envelope(envelope(9), own=True, carrier=None, now=NOW)),
]
_RENEWED = 6
"""Only copies can be renewed of what is due already."""


@pytest.mark.parametrize("position", range(len(REOPENING)))
def test_the_openings_change_whenever_there_is_more_to_offer(store: QueueStore, position: int) -> None:
    add(store, envelope(1), envelope(2), envelope(1, device=OTHER), envelope(2, device=OTHER))
    with store.transaction() as transaction:
        transaction.mark(place(1, 1), SpanStatus.COMMITTED, NOW)
        transaction.rest([3], NOW)
        transaction.note_offered(MEDIUM, [2, 4], now=NOW, next_at=NOW + HOUR)
        if position == _RENEWED:
            transaction.note_answered(MEDIUM, [2, 4], now=NOW, next_at=NOW)
    spray = position == _RENEWED
    with store.transaction() as transaction:
        before = transaction.openings()
        assert transaction.offerable(MEDIUM, NOW, spray=spray, count_max=9) == []
        assert isinstance(transaction, QueueTransaction)
        REOPENING[position](transaction)
        offerable = transaction.offerable(MEDIUM, NOW, spray=spray, count_max=9)
        openings = transaction.openings()
        assert offerable, "otherwise this says nothing"
        assert openings.reopened > before.reopened or all(one.number > before.newest_number for one in offerable)
        if openings.reopened == before.reopened:
            newer = transaction.offerable(MEDIUM, NOW, spray=spray, count_max=9, after=before.newest_number)
            assert newer == offerable


def test_foreign_envelopes_are_counted_and_dropped_by_number(store: QueueStore) -> None:
    one, two = envelope(1, device=OTHER), envelope(2, device=OTHER)
    add(store, one, two, envelope(1))
    with store.transaction() as transaction:
        assert transaction.foreign_origins() == {OTHER.id}
        assert transaction.foreign_bytes() == len(one.data) + len(two.data)
        transaction.note_sent(CENTER, [1], now=NOW, next_at=NOW)
        assert transaction.drop_foreign([1]) == 1
        assert transaction.foreign_bytes() == len(two.data)
        assert transaction.drop_foreign([1, 3]) == 0, "gone already, and an own one"
        assert transaction.next_due_at(CENTER) is None


def test_what_is_carried_of_each_origin_is_known_whatever_comes_twice_and_goes(store: QueueStore) -> None:
    third = Device(Path(), AUTHORITY, name="tablet-3")
    ones = [envelope(n, device=OTHER) for n in (1, 2, 3)]
    theirs = [envelope(n, device=third, body=bytes(3_000)) for n in (1, 2)]
    add(store, envelope(1), *ones, *theirs)
    with store.transaction() as transaction:
        assert not transaction.add_envelope(ones[0], own=False, carrier=MEDIUM, now=NOW)
        sizes = {origin: sum(len(one.data) for one in some) for origin, some in ((OTHER.id, ones), (third.id, theirs))}
        assert {origin: transaction.foreign_bytes(origin) for origin in sizes} == sizes
        assert transaction.foreign_bytes() == sum(sizes.values())
        assert transaction.foreign_origins() == set(sizes)
        assert transaction.drop_foreign([5, 6]) == 2
        assert not transaction.carries(third.id) and transaction.carries(OTHER.id)
        assert transaction.foreign_origins() == {OTHER.id}
        assert transaction.foreign_bytes(third.id) == 0
        assert transaction.foreign_bytes(OWN.id) == 0 and not transaction.carries(OWN.id)
    with pytest.raises(ValueError, match="undone"), store.transaction() as transaction:
        transaction.drop_foreign([2, 3])
        raise ValueError("undone")
    with store.transaction() as transaction:
        assert transaction.foreign_bytes() == sizes[OTHER.id]


def test_what_is_carried_of_a_range_comes_from_its_end(store: QueueStore) -> None:
    kept = [envelope(n, device=OTHER) for n in (1, 2, 4)]
    fork = envelope(2, device=OTHER, body=b"other branch")
    add(store, *kept, fork, envelope(3))
    with store.transaction() as transaction:
        carried = list(transaction.carried(SequenceRange(OTHER.id, 1, 1, 3)))
        assert [one.sequence for one in carried] == [2, 2, 1]
        assert {one.id for one in carried} == {kept[0].id, kept[1].id, fork.id}
        assert carried[-1].data == kept[0].data
        assert list(transaction.carried(place(1, 9))) == [], "own ones are not carried for anybody"


def test_what_rests_is_kept_and_due_to_nobody_until_its_rest_is_over(store: QueueStore) -> None:
    foreign = [envelope(n, device=OTHER) for n in (1, 2, 3)]
    add(store, *foreign, envelope(1))
    with store.transaction() as transaction:
        transaction.note_sent(CENTER, [1, 2], now=NOW, next_at=NOW + HOUR)
        transaction.rest([1, 2, 4], NOW)
        assert transaction.resting(OTHER.id) == {1, 2}, "own ones never rest"
        assert transaction.carries(OTHER.id) and not transaction.carries(OWN.id)
        assert transaction.next_due_at(CENTER) is None, "nobody is woken for what rests"
    assert due(store) == due(store, destination=MEDIUM) == [4, 3]
    with store.transaction() as transaction:
        transaction.end_rest([1])
    assert due(store) == [4, 1, 3]
    with store.transaction() as transaction:
        transaction.end_rests(NOW + HOUR - 1, longest=HOUR)
        assert transaction.resting(OTHER.id) == {2}
        transaction.end_rests(NOW + HOUR, longest=HOUR)
        assert transaction.resting(OTHER.id) == frozenset()
    assert due(store) == [4, 1, 2, 3]


def test_a_rest_that_begins_in_the_future_is_over_because_the_clock_went_back(store: QueueStore) -> None:
    add(store, envelope(1, device=OTHER))
    with store.transaction() as transaction:
        transaction.rest([1], NOW)
        transaction.end_rests(NOW, longest=HOUR)
        assert transaction.resting(OTHER.id) == {1}
        transaction.end_rests(NOW - 1, longest=HOUR)
        assert transaction.resting(OTHER.id) == frozenset()


def test_what_comes_to_rest_at_once_is_not_due_and_what_is_there_already_is_left_as_it_is(store: QueueStore) -> None:
    one, two = envelope(1, device=OTHER), envelope(2, device=OTHER)
    add(store, one)
    with store.transaction() as transaction:
        assert not transaction.add_envelope(one, own=False, carrier=MEDIUM, now=NOW, rests_since=NOW)
        assert transaction.add_envelope(two, own=False, carrier=MEDIUM, now=NOW, rests_since=NOW)
        assert transaction.resting(OTHER.id) == {2}
    assert due(store) == [1]


# Sending.


def test_due_gives_own_before_others_in_the_order_of_arrival_within_the_room(store: QueueStore) -> None:
    foreign, own = envelope(1, device=OTHER), [envelope(n) for n in (1, 2, 3)]
    add(store, foreign, *own)
    assert due(store) == [2, 3, 4, 1]
    assert due(store, bytes_max=len(own[0].data) * 2 + 200) == [2, 3]
    assert due(store, bytes_max=1) == [2], "one at least, whatever its size"


def test_nobody_is_given_what_it_sealed_or_brought_but_the_center_is_given_everything(store: QueueStore) -> None:
    third = Device(Path(), AUTHORITY, name="tablet-3")
    add(store, envelope(1), envelope(1, device=OTHER), envelope(1, device=third))
    with store.transaction() as transaction:
        transaction.add_envelope(envelope(2, device=third), own=False, carrier=CENTER, now=NOW)
    assert due(store) == [1, 2, 3, 4]
    assert due(store, destination=MEDIUM) == [1, 2, 3, 4]
    assert due(store, destination=OTHER.id) == [1, 4], "it sealed 2 and brought 3"
    assert due(store, destination=third.id) == [1, 2]


def test_what_is_not_for_a_destination_hides_nothing_and_wakes_nobody(
    store: QueueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction_module, "_DUE_ROWS_MAX", 3)
    add(store, *(envelope(n, device=OTHER) for n in range(1, 8)))
    with store.transaction() as transaction:
        transaction.add_envelope(envelope(8, device=OTHER), own=False, carrier=MEDIUM, now=NOW)
        transaction.add_envelope(envelope(9, device=OTHER, epoch=2), own=False, carrier=OWN.id, now=NOW)
        assert transaction.next_due_at(MEDIUM) is None
    third = Device(Path(), AUTHORITY, name="tablet-3")
    assert due(store, destination=OTHER.id) == []
    assert due(store, destination=MEDIUM) == [1, 2, 3]
    with store.transaction() as transaction:
        transaction.add_envelope(envelope(1, device=third), own=False, carrier=MEDIUM, now=NOW)
    assert due(store, destination=OTHER.id) == [10]


def test_what_is_under_way_is_due_again_at_its_time_for_its_destination_only(store: QueueStore) -> None:
    add(store, envelope(1), envelope(2))
    with store.transaction() as transaction:
        transaction.note_sent(CENTER, [1], now=NOW, next_at=NOW + 100)
        assert transaction.next_due_at(CENTER) == NOW + 100
        assert transaction.next_due_at(MEDIUM) is None
    assert due(store, NOW + 99) == [2] and due(store, NOW + 100) == [1, 2]
    assert due(store, destination=MEDIUM) == [1, 2]
    with store.transaction() as transaction:
        transaction.note_answered(CENTER, [1], now=NOW + 10, next_at=NOW + 500)
    assert due(store, NOW + 100) == [2] and due(store, NOW + 500) == [1, 2]


def test_attempts_are_counted_through_answers(store: QueueStore) -> None:
    add(store, envelope(1))
    with store.transaction() as transaction:
        for attempt in range(3):
            assert [one.attempts for one in transaction.due(CENTER, NOW, bytes_max=10**6)] == [attempt]
            transaction.note_sent(CENTER, [1], now=NOW, next_at=NOW + 100)
            transaction.note_answered(CENTER, [1], now=NOW, next_at=NOW)


def test_records_from_the_future_do_not_count(store: QueueStore) -> None:
    add(store, envelope(1), envelope(2))
    with store.transaction() as transaction:
        transaction.note_sent(CENTER, [1], now=NOW + 1000, next_at=NOW + 2000)
        transaction.note_sent(CENTER, [2], now=NOW - 10, next_at=NOW + 10)
        transaction.note_answered(CENTER, [2], now=NOW + 1000, next_at=NOW + 2000)
    assert due(store) == [1, 2]


@pytest.mark.parametrize("destination", [None, CENTER, MEDIUM])
def test_forgetting_attempts_makes_due_what_was_under_way_and_nothing_else(
    store: QueueStore, destination: bytes | None
) -> None:
    add(store, envelope(1), envelope(2))
    with store.transaction() as transaction:
        transaction.note_sent(CENTER, [1, 2], now=NOW, next_at=NOW + 100)
        transaction.note_answered(CENTER, [2], now=NOW, next_at=NOW + 100)
        transaction.forget_attempts(NOW, destination)
    assert due(store) == ([] if destination == MEDIUM else [1])


def test_forgetting_dispatches_makes_due_what_a_destination_took(store: QueueStore) -> None:
    add(store, envelope(1), envelope(2))
    with store.transaction() as transaction:
        for destination in (CENTER, MEDIUM):
            transaction.note_sent(destination, [1, 2], now=NOW, next_at=NOW + 100)
            transaction.note_answered(destination, [1, 2], now=NOW, next_at=NOW + 100)
        assert transaction.forget_dispatches(CENTER) == 2
    assert due(store) == [1, 2] and due(store, destination=MEDIUM) == []


def test_a_mark_ends_the_waiting_and_a_withdrawn_mark_makes_due_at_once(store: QueueStore) -> None:
    add(store, envelope(1))
    with store.transaction() as transaction:
        transaction.note_sent(CENTER, [1], now=NOW, next_at=NOW + 100)
        transaction.mark(place(1, 1), SpanStatus.COMMITTED, NOW)
        assert transaction.next_due_at(CENTER) is None
        assert transaction.oldest_open_at() is None
    assert due(store, NOW + 200) == []
    with store.transaction() as transaction:
        transaction.unmark(place(1, 1))
        assert transaction.oldest_open_at() == NOW
    assert due(store) == [1]


# Statements, heads, numbers.


def test_the_newest_statement_of_each_subject_is_kept(store: QueueStore) -> None:
    def form(serial: int, subject: bytes) -> bytes:
        one = sign_statement(AUTHORITY.content, kind=40, subject=subject * 16, serial=serial, body=b"%d" % serial)
        with store.transaction() as transaction:
            transaction.put_statement(one)
        return one.data

    second, _, other = form(2, b"a"), form(1, b"a"), form(1, b"b")
    with store.transaction() as transaction:
        assert transaction.statement(40, b"a" * 16) == second
        assert transaction.statements(40) == [second, other]
        assert transaction.statements(41) == []


def test_the_newest_head_of_each_epoch_is_kept(store: QueueStore) -> None:
    def put(epoch: int, sequence: int, serial: int) -> bool:
        head = sign_head(
            OTHER.signer,
            origin=OTHER.id,
            epoch=epoch,
            sequence=sequence,
            last_id=b"i" * 32,
            receipt_serial=serial,
            stated_at=NOW,
        )
        with store.transaction() as transaction:
            return transaction.put_head(head)

    assert [put(1, 5, 1), put(1, 4, 9), put(1, 5, 1), put(1, 5, 2), put(2, 1, 0)] == [True, False, False, True, True]
    with store.transaction() as transaction:
        assert len(transaction.heads()) == 2


def test_an_origin_asks_until_a_receipt_reaches_as_far_as_its_head(store: QueueStore) -> None:
    def put(epoch: int, sequence: int) -> None:
        head = sign_head(
            OTHER.signer,
            origin=OTHER.id,
            epoch=epoch,
            sequence=sequence,
            last_id=b"i" * 32 if sequence else NO_ID,
            receipt_serial=0,
            stated_at=NOW,
        )
        with store.transaction() as transaction:
            assert transaction.put_head(head)

    def asking_after(epoch: int, sequence: int) -> bool:
        with store.transaction() as transaction:
            transaction.answer_heads(OTHER.id, epoch, sequence)
            return transaction.asking_origins() == {OTHER.id}

    put(2, 0)
    assert not asking_after(1, 5), "an empty chain asks for nothing"
    put(1, 5)
    assert asking_after(1, 4) and not asking_after(1, 5)
    put(1, 6)
    assert asking_after(1, 5) and asking_after(2, 6) and not asking_after(1, 9)


def test_numbers_are_replaced(store: QueueStore) -> None:
    with store.transaction() as transaction:
        transaction.put_number("n", 1)
        transaction.put_number("n", -2)
        assert transaction.number("n") == -2


# Files.


def test_what_was_left_on_a_medium_is_noted_for_each_and_can_be_taken_back(store: QueueStore) -> None:
    with store.transaction() as transaction:
        assert transaction.left_on(MEDIUM) is None
        transaction.note_left_on(MEDIUM, b"one")
        transaction.note_left_on(b"o" * 16, b"other")
        transaction.note_left_on(MEDIUM, b"two")
    with store.transaction() as transaction:
        assert (transaction.left_on(MEDIUM), transaction.left_on(b"o" * 16)) == (b"two", b"other")
        transaction.note_left_on(MEDIUM, None)
    with store.transaction() as transaction:
        assert (transaction.left_on(MEDIUM), transaction.left_on(b"o" * 16)) == (None, b"other")


def test_the_connection_is_as_durable_as_promised(store: QueueStore) -> None:
    asked = ("journal_mode", "synchronous", "foreign_keys", "auto_vacuum")
    assert [store.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in asked] == ["wal", 2, 1, 1]


def test_a_queue_that_does_not_become_durable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
            return super().execute("SELECT 1" if sql == "PRAGMA synchronous" else sql, parameters)

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=Careless))
    with pytest.raises(StoreFault, match="power cut"):
        QueueStore(tmp_path)


def test_only_the_owner_may_read_the_files(store: QueueStore, tmp_path: Path) -> None:
    add(store, envelope(1))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "queue").iterdir()}
    assert set(modes.values()) == {0o600}
    assert {QUEUE_FILE_NAME, f"{QUEUE_FILE_NAME}-wal", LOCK_FILE_NAME} <= modes.keys()


def test_a_second_opener_is_told_that_the_queue_is_in_use(store: QueueStore, tmp_path: Path) -> None:
    with pytest.raises(QueueBusy, match="in use by another process"):
        QueueStore(tmp_path / "queue")
    program = (
        "import sys; from pathlib import Path; from edge_agent.queue.store import QueueStore; "
        "QueueStore(Path(sys.argv[1]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "queue")], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 1 and "QueueBusy" in ended.stderr


def test_a_program_that_ignores_the_lock_file_cannot_read_or_write_either(store: QueueStore, tmp_path: Path) -> None:
    add(store, envelope(1))
    program = (
        "import sqlite3, sys; "
        "sqlite3.connect(sys.argv[1], timeout=0).execute('SELECT count(*) FROM envelope').fetchone()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "queue" / QUEUE_FILE_NAME)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1 and "database is locked" in ended.stderr


def offers(store: QueueStore, now: int = NOW, *, spray: bool = False) -> list[tuple[int, int]]:
    with store.transaction() as transaction:
        found = transaction.offerable(MEDIUM, now, spray=spray, count_max=100)
    assert all(one.bytes > 1_000 and len(one.id) == 32 for one in found)
    return [(one.number, one.copies) for one in found]


def test_what_is_offered_is_under_way_until_it_is_answered_and_only_what_is_kept_is_a_handover(
    store: QueueStore,
) -> None:
    add(store, *(envelope(number) for number in (1, 2, 3)))
    assert [number for number, _ in offers(store)] == due(store, destination=MEDIUM) == [1, 2, 3]
    with store.transaction() as transaction:
        transaction.note_offered(MEDIUM, [1, 2], now=NOW, next_at=NOW + HOUR)
    assert [number for number, _ in offers(store)] == [3]
    with store.transaction() as transaction:
        transaction.note_answered(MEDIUM, [1], now=NOW, next_at=NOW + 10, kept=True)
        transaction.note_answered(MEDIUM, [2], now=NOW, next_at=NOW + 10)
    assert [number for number, _ in offers(store, NOW + 10)] == [1, 2, 3]
    with store.transaction() as transaction:
        transaction.note_offered(MEDIUM, [1], now=NOW + 10, next_at=NOW + HOUR)
        transaction.note_sent(MEDIUM, [2], now=NOW + 10, next_at=NOW + HOUR)
        transaction.note_answered(MEDIUM, [1, 2], now=NOW + 11, next_at=NOW + HOUR)
    rows = store.connection.execute("SELECT envelope, attempts, kept_at FROM dispatch ORDER BY 1").fetchall()
    assert rows == [(1, 0, NOW), (2, 1, None)], "an offer is no attempt, and a handover is not forgotten"


def test_only_what_has_copies_to_make_is_for_a_spray(store: QueueStore) -> None:
    with store.transaction() as transaction:
        for number, copies in ((1, 0), (2, 8), (3, 1)):
            transaction.add_envelope(envelope(number), own=True, carrier=None, now=NOW, copies=copies)
    assert offers(store) == [(1, 0), (2, 8), (3, 1)]
    assert offers(store, spray=True) == [(2, 8), (3, 1)]
    with store.transaction() as transaction:
        transaction.give_copies({2: 4, 3: 5})
    assert offers(store) == [(1, 0), (2, 4), (3, 0)]


def test_copies_of_own_envelopes_without_a_receipt_are_renewed_after_their_time(store: QueueStore) -> None:
    with store.transaction() as transaction:
        for number, at in ((1, NOW), (2, NOW + HOUR), (3, NOW)):
            transaction.add_envelope(envelope(number), own=True, carrier=None, now=at, copies=1)
        other = envelope(1, device=OTHER)
        transaction.add_envelope(other, own=False, carrier=MEDIUM, now=NOW, copies=1)
        transaction.mark(SequenceRange(OWN.id, 1, 3, 3), SpanStatus.COMMITTED, NOW)
        assert transaction.renew_copies(8, NOW + HOUR, after=HOUR) == 1
    rows = "SELECT number, copies, copies_since FROM envelope ORDER BY number"
    assert store.connection.execute(rows).fetchall() == [
        (1, 8, NOW + HOUR),
        (2, 1, NOW + HOUR),
        (3, 1, NOW),
        (4, 1, NOW),
    ]
    with store.transaction() as transaction:
        assert transaction.renew_copies(8, NOW - HOUR, after=HOUR) == 1, "a time from the future does not count"
        assert transaction.renew_copies(8, NOW + 9 * HOUR, after=HOUR) == 0, "what has all its copies keeps its time"


def test_stored_envelopes_come_in_the_order_asked_for_and_only_while_they_are_open(store: QueueStore) -> None:
    add(store, *(envelope(number) for number in (1, 2, 3)))
    with store.transaction() as transaction:
        transaction.mark(SequenceRange(OWN.id, 1, 2, 2), SpanStatus.COMMITTED, NOW)
        assert [one.number for one in transaction.stored([3, 2, 1, 99], bytes_max=10**9)] == [3, 1]
        assert [one.number for one in transaction.stored([3, 1], bytes_max=1)] == [3], "one at least"
        assert transaction.stored([2], bytes_max=10**9) == []


def test_how_an_envelope_came_is_kept_with_it(store: QueueStore) -> None:
    one = envelope(1, device=OTHER)
    with store.transaction() as transaction:
        transaction.add_envelope(one, own=False, carrier=MEDIUM, now=NOW, way=Way(Leg.USB, 3))
        (kept,) = transaction.due(CENTER, NOW, bytes_max=10**9)
        assert kept.way == Way(Leg.USB, 3)


def test_what_is_known_is_every_statement_and_head_by_its_newness(store: QueueStore) -> None:
    statement = sign_statement(AUTHORITY.content, kind=40, subject=b"f" * 16, serial=7, body=b"form")
    head = sign_head(
        OTHER.signer, origin=OTHER.id, epoch=2, sequence=5, last_id=b"i" * 32, receipt_serial=3, stated_at=NOW
    )
    with store.transaction() as transaction:
        transaction.put_statement(statement)
        transaction.put_head(head)
        assert set(transaction.known()) == {Item(b"f" * 16, 40, 0, (7, 0)), Item(OTHER.id, 0, 2, (5, 3))}
        assert transaction.head(OTHER.id, 2) == head.data
        assert transaction.head(OTHER.id, 1) is None


def test_room_is_counted_in_all_and_for_one_origin(store: QueueStore) -> None:
    third = Device(Path(), AUTHORITY, name="tablet-3")
    add(store, envelope(1), envelope(1, device=OTHER), envelope(2, device=OTHER), envelope(1, device=third))
    size = len(envelope(1).data)
    with store.transaction() as transaction:
        assert transaction.foreign_bytes() == 3 * size
        assert transaction.foreign_bytes(OTHER.id) == 2 * size
        assert transaction.foreign_bytes(OWN.id) == 0


def test_the_next_time_that_something_is_due_can_be_asked_from_a_time_on(store: QueueStore) -> None:
    add(store, envelope(1), envelope(2))
    with store.transaction() as transaction:
        transaction.note_sent(MEDIUM, [1], now=NOW, next_at=NOW + 10)
        transaction.note_sent(MEDIUM, [2], now=NOW, next_at=NOW + 20)
        assert transaction.next_due_at(MEDIUM) == NOW + 10
        assert transaction.next_due_at(MEDIUM, after=NOW + 10) == NOW + 20
        assert transaction.next_due_at(MEDIUM, after=NOW + 20) is None


def test_a_closed_queue_can_be_opened_again(tmp_path: Path) -> None:
    for _ in range(3):
        QueueStore(tmp_path).close()


def test_an_empty_file_gets_every_migration(tmp_path: Path) -> None:
    with QueueStore(tmp_path) as store:
        assert store.connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert store.connection.execute("SELECT count(*) FROM envelope").fetchone() == (0,)


def test_a_queue_of_the_first_release_is_brought_up_to_date_with_everything_in_it(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / QUEUE_FILE_NAME) as connection:
        connection.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
        connection.execute("INSERT INTO chain VALUES (1, 'first start', 0)")
        one = envelope(1, device=OTHER)
        connection.execute(
            "INSERT INTO envelope (id, origin, epoch, sequence, own, bytes, received_at, data) "
            "VALUES (?, ?, 1, 1, 0, ?, 0, ?)",
            (one.id, one.origin, len(one.data), one.data),
        )
        connection.execute("INSERT INTO dispatch VALUES (1, ?, 1, ?, ?, ?)", (CENTER, NOW, NOW, NOW))
        connection.execute("INSERT INTO head VALUES (?, 1, 1, 0, x'00')", (OTHER.id,))
    connection.close()
    with QueueStore(tmp_path) as store:
        assert due(store) == [1]
        with store.transaction() as transaction:
            assert [row.id for row in transaction.carried(SequenceRange(OTHER.id, 1, 1, 1))] == [one.id]
            assert transaction.resting(OTHER.id) == frozenset()
            assert transaction.asking_origins() == {OTHER.id}
            assert transaction.foreign_origins() == {OTHER.id}
            assert transaction.foreign_bytes() == len(one.data)


def test_a_queue_of_a_newer_release_is_refused_and_left_alone(tmp_path: Path) -> None:
    QueueStore(tmp_path).close()
    with sqlite3.connect(tmp_path / QUEUE_FILE_NAME) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StoreFault, match="newer release"):
        QueueStore(tmp_path)
    with sqlite3.connect(tmp_path / QUEUE_FILE_NAME) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
    connection.close()


@pytest.mark.parametrize("damage", ["text", "first page", "later page"])
def test_a_damaged_file_is_told_with_what_to_do(tmp_path: Path, damage: str) -> None:
    with QueueStore(tmp_path) as store:
        with store.transaction() as transaction:
            transaction.start_epoch(1, reason="test", now=NOW)
        add(store, *(envelope(n, body=os.urandom(3000)) for n in range(1, 30)))
    path = tmp_path / QUEUE_FILE_NAME
    data = bytearray(path.read_bytes())
    if damage == "text":
        data = bytearray(b"this is no database, but a text that somebody put here\n" * 200)
    elif damage == "first page":
        data[100:2000] = b"\xff" * 1900
    else:
        data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(StoreFault, match=r"damaged.*keep the files"), QueueStore(tmp_path) as store:
        due(store)


def test_a_missing_folder_that_cannot_be_made_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreFault, match=re.escape(str(tmp_path / "file"))):
        QueueStore(tmp_path / "file" / "queue")


def test_the_room_of_purged_envelopes_goes_back_to_the_disk(store: QueueStore, tmp_path: Path) -> None:
    add(store, *(envelope(n, body=os.urandom(50_000)) for n in range(1, 101)))
    store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    full = (tmp_path / "queue" / QUEUE_FILE_NAME).stat().st_size
    with store.transaction() as transaction:
        transaction.mark(place(1, 100), SpanStatus.COMMITTED, NOW)
        assert transaction.purge_own(OWN.id, watermark=NOW, now=NOW) == 100
    store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert (tmp_path / "queue" / QUEUE_FILE_NAME).stat().st_size < full / 10


# Every statement of a transaction, failing for want of room.

WORK: list[Callable[[QueueTransaction], object]] = [
    lambda t: t.start_epoch(2, reason="r" * 9000, now=NOW),
    lambda t: t.remember_submission(b"k" * 9000, Accepted(0, 1, 1, 1, repeated=False), NOW),
    lambda t: t.add_envelope(envelope(9, body=os.urandom(9000)), own=True, carrier=None, now=NOW),
    lambda t: t.put_statement(
        sign_statement(AUTHORITY.content, kind=40, subject=b"s" * 16, serial=1, body=bytes(9000))
    ),
    lambda t: t.put_number("n" * 9000, 1),
]


@pytest.mark.parametrize("position", range(len(WORK)))
def test_a_statement_that_finds_no_room_takes_its_whole_transaction_with_it(store: QueueStore, position: int) -> None:
    add(store, envelope(1))
    pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
    store.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFull, match="the disk is full"), store.transaction() as transaction:
        transaction.put_number("small", 1)
        WORK[position](transaction)
    store.connection.execute("PRAGMA max_page_count = 100000")
    with store.transaction() as transaction:
        assert transaction.number("small") is None
        assert transaction.position() == ChainPosition(1, 1, transaction.envelope_id(OWN.id, 1, 1) or b"")
        WORK[position](transaction)


# Plans.

PLANS: list[tuple[str, Callable[[QueueTransaction], object]]] = [
    ("due", lambda t: t.due(CENTER, NOW, bytes_max=10)),
    ("next_due_at", lambda t: t.next_due_at(CENTER)),
    ("position", lambda t: t.position()),
    ("mark", lambda t: t.mark(place(1, 2), SpanStatus.COMMITTED, NOW)),
    ("unmark", lambda t: t.unmark(place(1, 2))),
    ("purged_count", lambda t: t.purged_count(place(1, 2))),
    ("purge_own", lambda t: t.purge_own(OWN.id, watermark=NOW, now=NOW)),
    ("envelope_id", lambda t: t.envelope_id(OWN.id, 1, 1)),
    ("oldest_open_at", lambda t: t.oldest_open_at()),
    ("foreign_origins", lambda t: t.foreign_origins()),
    ("foreign_bytes", lambda t: t.foreign_bytes()),
    ("due to a peer", lambda t: t.due(MEDIUM, NOW, bytes_max=10)),
    ("carried", lambda t: list(t.carried(SequenceRange(OTHER.id, 1, 1, 9)))),
    ("drop_foreign", lambda t: t.drop_foreign([2])),
    ("asking_origins", lambda t: t.asking_origins()),
    ("answer_heads", lambda t: t.answer_heads(OTHER.id, 1, 9)),
    ("forget_attempts", lambda t: t.forget_attempts(NOW)),
    ("openings", lambda t: t.openings()),
    ("accepted_before", lambda t: t.accepted_before(b"k")),
]


@pytest.mark.parametrize(("name", "work"), PLANS, ids=[name for name, _ in PLANS])
def test_no_statement_reads_or_sorts_the_whole_queue(
    store: QueueStore, name: str, work: Callable[[QueueTransaction], object]
) -> None:
    add(store, envelope(1), envelope(1, device=OTHER))
    ran: list[str] = []
    store.connection.set_trace_callback(ran.append)
    with store.transaction() as transaction:
        assert isinstance(transaction, transaction_module.QueueTransaction)
        work(transaction)
    store.connection.set_trace_callback(None)
    statements = [sql for sql in ran if not sql.startswith(("BEGIN", "COMMIT", "--"))]
    assert statements, name
    for sql in statements:
        plan = [row[3] for row in store.connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
        assert plan and not any("TEMP B-TREE" in step for step in plan), (sql, plan)
        # A scan along a partial index reads only the envelopes that are still there to be sent; `carried` has a row for
        # each origin, however many envelopes are.
        good = ("INDEX", "PRIMARY KEY", "SUBQUERY", "SEARCH", "SCAN carried")
        assert all(any(word in step for word in good) for step in plan), (sql, plan)
