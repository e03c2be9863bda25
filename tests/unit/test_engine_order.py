"""Record first, release after: observed through a store and a mirror that write down, and fail on demand."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_agent.engine.effects import Send
from edge_agent.engine.events import ChainPosition
from edge_agent.engine.store import HeadMirror, StoreFault, StoreTransaction
from edge_agent.queue.mirror import FileHeadMirror
from edge_agent.queue.store import QueueStore
from tests.support.device import MINUTE, Authority, Center, Device, envelopes_in, heads_in, sends


@dataclass
class Record:
    """What happened, in order, and what is to fail next."""

    happened: list[str] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)

    def note(self, what: str) -> None:
        if what in self.failing:
            raise StoreFault(f"{what} failed, as the test wanted")
        self.happened.append(what)


class RecordingStore:
    def __init__(self, store: QueueStore, record: Record) -> None:
        self._store = store
        self._record = record

    @contextmanager
    def transaction(self) -> Iterator[StoreTransaction]:
        with self._store.transaction() as transaction:
            yield transaction
            self._record.note("commit")

    @property
    def connection(self) -> sqlite3.Connection:
        return self._store.connection


class RecordingMirror:
    def __init__(self, mirror: FileHeadMirror, record: Record) -> None:
        self._mirror = mirror
        self._record = record

    def note(self, position: ChainPosition) -> None:
        self._record.note("note")
        self._mirror.note(position)

    def settle(self) -> None:
        self._record.note("settle")
        self._mirror.settle()


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
def device(tmp_path: Path, record: Record) -> Iterator[Device]:
    def mirror(real: FileHeadMirror) -> HeadMirror:
        return RecordingMirror(real, record)

    one = Device(
        tmp_path / "queue",
        Authority(),
        wrap_store=lambda store: RecordingStore(store, record),
        wrap_mirror=mirror,
    ).start()
    yield one
    one.stop()


def test_the_mirror_is_settled_after_the_commit_and_before_any_send(device: Device, record: Record) -> None:
    device.submit("a")
    record.happened.clear()
    assert device.link_up()
    assert record.happened == ["commit", "note", "settle"]


def test_accepting_waits_for_the_commit_and_not_for_the_mirror(device: Device, record: Record) -> None:
    record.happened.clear()
    device.submit("a")
    assert record.happened == ["commit", "note"]
    record.failing = {"note", "settle"}
    assert device.submit("b").first_sequence == 2
    assert device.notices("mirror_fault")


def test_a_failed_commit_lets_nothing_out_and_nothing_in(device: Device, record: Record) -> None:
    device.link_up()
    device.submit("a")
    record.failing = {"commit"}
    before = len(device.effects)
    with pytest.raises(StoreFault):
        device.tick()
    with pytest.raises(StoreFault):
        device.submit("b")
    assert len(device.effects) == before
    record.failing.clear()
    assert device.rows("sequence") == [(1,)]


def test_a_mirror_that_cannot_be_settled_lets_nothing_out(device: Device, record: Record) -> None:
    device.submit("a")
    record.failing = {"settle"}
    with pytest.raises(StoreFault):
        device.link_up()
    record.failing.clear()
    assert envelopes_in(device.link_up()), "what was recorded as under way is sent when the link comes up anew"


def test_after_a_failed_commit_every_session_is_forgotten_and_a_new_one_sends_everything(
    device: Device, record: Record
) -> None:
    for number in range(30):
        device.submit(str(number), body=b'{"x":"%s"}' % (bytes([65 + number % 26]) * 9000))
    lost = device.link_up(window=3)
    assert len(lost) == 3
    record.failing = {"commit"}
    with pytest.raises(StoreFault):
        device.settle(lost[0])
    record.failing.clear()
    assert device.tick() == [], "the old link is forgotten"
    assert device.settle(lost[1]) == []
    device.link_down()
    center = Center(device)
    for send in device.settle_all(device.link_up(window=3)):
        center.take(send.data)
    assert len(center.envelopes) == 30


def test_a_submission_that_the_store_refuses_leaves_the_links_alone(device: Device, record: Record) -> None:
    device.link_up()
    record.failing = {"commit"}
    with pytest.raises(StoreFault):
        device.submit("a")
    record.failing.clear()
    device.submit("b")
    assert envelopes_in(device.tick())


def test_what_was_learnt_in_a_step_that_failed_is_not_believed(device: Device, record: Record) -> None:
    device.link_up()
    record.failing = {"commit"}
    with pytest.raises(StoreFault):
        device.receive(device.authority.withdraw(device.authority.receipts))
    record.failing.clear()
    device.link_up()
    device.receive(Center(device).receipt())
    assert not device.notices("arrival_refused")


def test_an_alarm_that_could_not_be_recorded_is_told_with_the_next_step(device: Device, record: Record) -> None:
    device.submit("a")
    device.now += 4 * 24 * 60 * MINUTE
    record.failing = {"commit"}
    with pytest.raises(StoreFault):
        device.tick()
    record.failing.clear()
    device.tick()
    assert len(device.notices("receipt_silence")) == 1


def test_submitting_sends_nothing_by_itself_but_asks_to_be_woken_at_once(device: Device) -> None:
    device.link_up()
    device.submit("a")
    before = len(device.effects)
    device.submit("b")
    assert not sends(device.effects[before:])
    sent = device.tick()
    assert [head.sequence for head in heads_in(sent)] == [2] and len(envelopes_in(sent)) == 2
    assert all(isinstance(one, Send) for one in sent)
