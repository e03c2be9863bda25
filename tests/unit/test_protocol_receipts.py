"""Receipts: spans, marks, limits, and that nothing is signed that a device would refuse."""

from __future__ import annotations

import struct
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_protocol.bundle import Frame, FrameType, read_bundle, write_bundle
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.limits import BUNDLE_BYTES_MAX, RECEIPT_MARKS_MAX, RECEIPT_SPANS_MAX, STATEMENT_BODY_BYTES_MAX
from sync_protocol.receipt import Mark, Span, SpanStatus, read_receipt, sign_receipt
from sync_protocol.statement import RECEIPT, Statement, parse_statement, sign_statement
from tests.support import protocol_examples as examples

ID = sha256(b"id").digest()


def _sign(*spans: Span, watermark: int = 0, serial: int = 1, origin: bytes = examples.ORIGIN) -> Statement:
    return sign_receipt(examples.RECEIPTS, origin=origin, serial=serial, watermark=watermark, spans=spans)


def _span(first: int = 1, epoch: int = 1, marks: tuple[Mark, ...] = (Mark(1, 0),)) -> Span:
    return Span(epoch, first, ID, SpanStatus.COMMITTED, marks)


def test_receipt_comes_back_as_it_was_signed() -> None:
    statement = examples.receipt()
    examples.trust().check(statement)
    receipt = read_receipt(parse_statement(statement.data))
    assert receipt.origin == examples.ORIGIN
    assert (receipt.serial, receipt.watermark, receipt.spans) == (4, examples.TIME, examples.spans())


@settings(max_examples=60, deadline=None)
@given(
    places=st.lists(st.tuples(st.integers(1, (1 << 32) - 1), st.integers(1, (1 << 63))), max_size=20),
    marks=st.lists(st.tuples(st.integers(1, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)), min_size=1, max_size=20),
    status=st.sampled_from(SpanStatus),
)
def test_any_ordered_spans_come_back(
    places: list[tuple[int, int]], marks: list[tuple[int, int]], status: SpanStatus
) -> None:
    spans = tuple(
        Span(epoch, first, ID, status, tuple(Mark(*mark) for mark in marks)) for epoch, first in sorted(places)
    )
    assert read_receipt(_sign(*spans)).spans == spans


def test_times_of_a_span_follow_each_other_without_gaps() -> None:
    span = _span(10, marks=(Mark(1, 100), Mark(3, 200), Mark(2, 150)))
    assert list(span.times()) == [(10, 10, 100), (11, 13, 200), (14, 15, 150)]
    assert span.last == 15


def test_receipt_at_both_limits_fits_a_statement_and_a_bundle() -> None:
    most = RECEIPT_MARKS_MAX // RECEIPT_SPANS_MAX
    spans = [_span(1 + 100 * number, marks=(Mark(1, 1),) * most) for number in range(RECEIPT_SPANS_MAX)]
    statement = _sign(*spans)
    assert len(statement.body) <= STATEMENT_BODY_BYTES_MAX
    data = write_bundle([Frame(FrameType.STATEMENT, statement.data)])
    assert len(data) <= BUNDLE_BYTES_MAX
    (frame,) = read_bundle(data).frames
    assert read_receipt(parse_statement(frame.payload)).spans == tuple(spans)


def test_receipt_of_a_whole_census_of_one_tablet_is_a_few_hundred_bytes() -> None:
    assert len(_sign(_span(marks=tuple(Mark(40, day) for day in range(30)))).data) < 600


@pytest.mark.parametrize(
    "spans",
    [
        [_span(1 + number) for number in range(RECEIPT_SPANS_MAX + 1)],
        [_span(marks=(Mark(1, 1),) * (RECEIPT_MARKS_MAX + 1))],
        [_span(1, marks=(Mark(1, 1),) * RECEIPT_MARKS_MAX), _span(1 + RECEIPT_MARKS_MAX)],
    ],
    ids=["spans", "marks of one span", "marks of all spans"],
)
def test_receipt_beyond_a_limit_is_refused_so_that_the_caller_coarsens(spans: list[Span]) -> None:
    with pytest.raises(ProtocolError) as refusal:
        _sign(*spans)
    assert refusal.value.fault is Fault.OVERSIZED


def test_receipt_of_more_marks_than_the_limit_is_refused_by_its_reader_too() -> None:
    marks = RECEIPT_MARKS_MAX + 1
    body = struct.pack(">QHIQ32sBH", 0, 1, 1, 1, ID, 1, marks) + struct.pack(">IQ", 1, 0) * marks
    statement = sign_statement(examples.RECEIPTS, kind=RECEIPT, subject=examples.ORIGIN, serial=1, body=body)
    with pytest.raises(ProtocolError) as refusal:
        read_receipt(statement)
    assert refusal.value.fault is Fault.OVERSIZED


@pytest.mark.parametrize(
    "spans",
    [
        (_span(5), _span(1)),
        (_span(1, epoch=2), _span(1, epoch=1)),
        (_span(0),),
        (_span(-1),),
        (_span(1, epoch=0),),
        (_span(marks=()),),
        (_span(marks=(Mark(0, 1),)),),
        (_span(marks=(Mark(-1, 1),)),),
        (_span(marks=(Mark(1, -1),)),),
        (_span(marks=(Mark(1, 1 << 64),)),),
        (_span((1 << 64) - 1, marks=(Mark(2, 1),)),),
        (Span(1, 1, ID[:31], SpanStatus.COMMITTED, (Mark(1, 1),)),),
    ],
)
def test_receipt_that_no_device_would_accept_is_not_signed(spans: tuple[Span, ...]) -> None:
    with pytest.raises(ProtocolError) as refusal:
        _sign(*spans)
    assert refusal.value.fault is Fault.BAD_FIELD


def test_receipt_with_an_absurd_watermark_serial_or_origin_is_not_signed() -> None:
    for watermark, serial in ((-1, 1), (1 << 64, 1), (0, 0), (0, -1), (0, 1 << 64)):
        with pytest.raises(ProtocolError):
            _sign(_span(), watermark=watermark, serial=serial)
    with pytest.raises(ProtocolError):
        _sign(_span(), origin=b"short")


def test_spans_of_a_forked_chain_may_overlap() -> None:
    fork = (_span(3, marks=(Mark(4, 1),)), Span(1, 3, bytes(range(32)), SpanStatus.HELD, (Mark(1, 2),)))
    assert read_receipt(_sign(*fork)).spans == fork


def test_other_statements_are_not_read_as_receipts() -> None:
    with pytest.raises(ProtocolError) as refusal:
        read_receipt(examples.device_certificate())
    assert refusal.value.fault is Fault.UNKNOWN_KIND
