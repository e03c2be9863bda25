"""Bundles in good condition: what goes in comes out, and sizes are known beforehand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_protocol.bundle import (
    BUNDLE_OVERHEAD_BYTES,
    MARKER,
    Frame,
    FrameType,
    count_envelopes,
    frame_bytes,
    read_bundle,
    write_bundle,
)
from sync_protocol.errors import Fault, ProtocolError

_TYPES = st.sampled_from([FrameType.ENVELOPE, FrameType.HEAD, FrameType.STATEMENT])
_PAYLOADS = st.one_of(st.binary(max_size=300), st.binary(max_size=9).map(lambda data: data + MARKER + data))


@settings(max_examples=200, deadline=None)
@given(frames=st.lists(st.builds(Frame, _TYPES, _PAYLOADS), max_size=30))
def test_frames_come_back_in_order_and_the_size_was_known(frames: list[Frame]) -> None:
    data = write_bundle(iter(frames))
    contents = read_bundle(data)
    assert list(contents.frames) == frames
    assert contents.intact
    assert contents.complete
    assert count_envelopes(data) == sum(frame.type is FrameType.ENVELOPE for frame in frames)
    assert len(data) == BUNDLE_OVERHEAD_BYTES + sum(frame_bytes(len(frame.payload)) for frame in frames)


@given(data=st.binary(max_size=300), offset=st.integers(0, 200))
def test_envelopes_are_counted_in_any_bytes_without_a_fault(data: bytes, offset: int) -> None:
    written = write_bundle([Frame(FrameType.ENVELOPE, bytes(50))])
    assert count_envelopes(data) >= 0
    assert 0 <= count_envelopes(written[:offset] + data) <= 1 + len(data) // len(MARKER)


def test_bundle_within_a_frame_of_a_bundle_is_not_mistaken_for_it() -> None:
    inner = write_bundle([Frame(FrameType.HEAD, b"inner")])
    outer = Frame(FrameType.STATEMENT, inner)
    assert read_bundle(write_bundle([outer])).frames == (outer,)


def test_limit_of_a_medium_is_the_callers() -> None:
    data = write_bundle([Frame(FrameType.ENVELOPE, bytes(1000))])
    assert read_bundle(data, len(data)).intact
    with pytest.raises(ProtocolError) as refusal:
        read_bundle(data, len(data) - 1)
    assert refusal.value.fault is Fault.OVERSIZED
