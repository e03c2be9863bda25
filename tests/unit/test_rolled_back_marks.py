"""A tablet put back to an older state, and receipts that reach further than what it has left."""

from __future__ import annotations

import shutil
from pathlib import Path

from central_broker.receipts import Chain
from central_broker.storage.batch_records import EnvelopeStatus
from central_broker.storage.receipt_records import ChainRow
from sync_protocol.receipt import Mark, Span, SpanStatus
from tests.support.device import Authority, Device, receipt


def rows_of(ids: list[bytes], epoch: int = 1) -> list[ChainRow]:
    previous = [bytes(32), *ids]
    return [
        ChainRow(epoch, number, one, previous[number - 1], EnvelopeStatus.COMMITTED, 100 + number)
        for number, one in enumerate(ids, start=1)
    ]


def test_what_an_older_queue_still_has_keeps_its_sync_marks(tmp_path: Path) -> None:
    device = Device(tmp_path / "state", Authority()).start()
    device.link_up()
    for number in range(1, 6):
        device.submit(str(number))
    device.stop()
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    device.start()
    for number in range(6, 10):
        device.submit(str(number))
    rows = rows_of(device.envelope_ids())
    device.stop()
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "copy").rename(tmp_path / "state")
    device.start()
    device.link_up()
    device.receive(receipt(device, *Chain(rows).spans(), serial=2))
    assert [at for (at,) in device.rows("committed_at")] == [None] * 5, "nothing that it has vouches for its part"
    # It has begun the next epoch and stated its head; from then on the center speaks of the old one piece by piece.
    device.receive(receipt(device, *Chain(rows, newest_epoch=2).spans(), serial=3))
    assert [at for (at,) in device.rows("committed_at")] == [101, 102, 103, 104, 105]


def test_a_forked_epoch_that_is_over_is_told_envelope_by_envelope_and_alarmed_once(tmp_path: Path) -> None:
    device = Device(tmp_path / "state", Authority()).start()
    device.link_up()
    for number in range(1, 5):
        device.submit(str(number))
    own = rows_of(device.envelope_ids())
    twin = [
        ChainRow(1, n, bytes([n]) * 32, own[1].id if n == 3 else b"\3" * 32, own[0].status, 200 + n) for n in (3, 4)
    ]
    spans = Chain(sorted([*own, *twin], key=lambda row: row.sequence), newest_epoch=2).spans()
    assert [span.first for span in spans] == [1, 2, 3, 3, 4, 4]
    device.receive(receipt(device, *spans, serial=1))
    assert [at for (at,) in device.rows("committed_at")] == [101, 102, 103, 104]
    (alarm,) = device.notices("chain_forked")
    assert alarm.fields["sequence"] == 3


def test_a_long_epoch_that_is_over_is_told_in_pieces_that_a_receipt_has_room_for() -> None:
    ids = [number.to_bytes(32, "big") for number in range(1, 2_502)]
    spans = Chain(rows_of(ids), newest_epoch=2).spans()
    assert len(spans) == 834
    assert [span.last - span.first + 1 for span in spans[:-1]] == [3] * 833
    assert spans[-1].last == 2_501


def test_the_newest_epoch_stays_one_span_and_the_end_of_an_epoch_asks_for_a_new_chain() -> None:
    first, second = rows_of([b"a" * 32, b"b" * 32]), rows_of([b"c" * 32, b"d" * 32], epoch=2)
    chain = Chain(first)
    assert not chain.extend(second[0])
    spans = Chain([*first, *second]).spans()
    marks = (Mark(1, 101), Mark(1, 102))
    assert spans == [
        Span(1, 1, b"a" * 32, SpanStatus.COMMITTED, marks[:1]),
        Span(1, 2, b"b" * 32, SpanStatus.COMMITTED, marks[1:]),
        Span(2, 1, b"d" * 32, SpanStatus.COMMITTED, marks),
    ]
