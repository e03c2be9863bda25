"""Bytes that somebody damaged or made to hurt: only the declared error, nothing forged, nothing lost beside it.

Every single bit flipped and every truncation, exhaustively; what cannot be enumerated is in
`test_hostile_structures.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import pytest

from sync_protocol.bundle import Frame, FrameType, read_bundle, write_bundle
from sync_protocol.content import decode_content
from sync_protocol.envelope import HEADER_BYTES, parse_envelope
from sync_protocol.errors import ProtocolError
from sync_protocol.head import parse_head
from sync_protocol.identity import read_device_certificate
from sync_protocol.keys import SIGNATURE_BYTES
from sync_protocol.medium import read_medium_certificate, read_medium_identity
from sync_protocol.receipt import read_receipt
from sync_protocol.statement import parse_statement
from tests.support import protocol_examples as examples

Reader = Callable[[bytes], object]


def _flips(data: bytes, bits: range | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield (bit, data with that bit flipped)."""
    changed = bytearray(data)
    for bit in bits if bits is not None else range(8 * len(data)):
        changed[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(changed)
        changed[bit // 8] ^= 1 << bit % 8


def _read_envelope(data: bytes) -> None:
    parse_envelope(data).verify(examples.TABLET_VERIFIER)


def _read_head(data: bytes) -> None:
    parse_head(data).verify(examples.TABLET_VERIFIER)


def _read_receipt(data: bytes) -> None:
    statement = parse_statement(data)
    examples.trust().check(statement)
    read_receipt(statement)


def _read_device_certificate(data: bytes) -> None:
    statement = parse_statement(data)
    examples.trust().check(statement)
    read_device_certificate(statement)


def _read_medium_certificate(data: bytes) -> None:
    statement = parse_statement(data)
    examples.trust().check(statement)
    read_medium_certificate(statement)


def _read_key_certificate(data: bytes) -> None:
    examples.trust().learn(parse_statement(data))


SIGNED = [
    pytest.param(_read_envelope, lambda: examples.envelope().data, id="envelope"),
    pytest.param(_read_head, lambda: examples.head().data, id="head"),
    pytest.param(_read_receipt, lambda: examples.receipt().data, id="receipt"),
    pytest.param(_read_device_certificate, lambda: examples.device_certificate().data, id="device certificate"),
    pytest.param(_read_medium_certificate, lambda: examples.medium_certificate().data, id="medium certificate"),
    pytest.param(_read_key_certificate, lambda: examples.key_certificate(serial=2).data, id="key certificate"),
]


@pytest.mark.parametrize(("read", "make"), SIGNED)
def test_no_single_bit_flip_of_something_signed_verifies(read: Reader, make: Callable[[], bytes]) -> None:
    data = make()
    read(data)
    for bit, changed in _flips(data):
        with pytest.raises(ProtocolError):
            read(changed)
            pytest.fail(f"bit {bit} of {8 * len(data)} may be flipped")


@pytest.mark.parametrize(("read", "make"), SIGNED)
def test_no_truncation_and_no_extension_of_something_signed_verifies(read: Reader, make: Callable[[], bytes]) -> None:
    data = make()
    for changed in (*(data[:length] for length in range(len(data))), data + b"\0", data + data):
        with pytest.raises(ProtocolError):
            read(changed)


@pytest.mark.parametrize(
    ("parse", "make"),
    [
        pytest.param(lambda data: read_receipt(parse_statement(data)), lambda: examples.receipt().data, id="receipt"),
        pytest.param(
            lambda data: read_device_certificate(parse_statement(data)),
            lambda: examples.device_certificate().data,
            id="device certificate",
        ),
        pytest.param(
            lambda data: read_medium_certificate(parse_statement(data)),
            lambda: examples.medium_certificate().data,
            id="medium certificate",
        ),
    ],
)
def test_body_readers_raise_nothing_else_even_where_no_signature_guards_them(
    parse: Reader, make: Callable[[], bytes]
) -> None:
    for _, changed in _flips(make()):
        try:
            parse(changed)
        except ProtocolError:
            continue


def test_identity_of_a_medium_with_one_bit_flipped_names_the_same_medium_or_none() -> None:
    data = examples.medium_identity()
    certificate = examples.medium_certificate().data
    refused = 0
    for _, changed in _flips(data):
        try:
            identity = read_medium_identity(changed)
        except ProtocolError:
            refused += 1
            continue
        assert identity.certificate.data == certificate
    # Damage of the certificate's own frame costs the identity, damage beside it does not.
    assert refused == 8 * (len(certificate) + 32)


def test_no_bit_flip_of_header_or_ciphertext_opens_though_signed_anew() -> None:
    # The origin itself may be hostile: then the signature is good and only the encryption binds header and content.
    data = examples.envelope().data
    signed_bits = 8 * (len(data) - SIGNATURE_BYTES)
    sample = range(8 * HEADER_BYTES, signed_bits, 37)
    for bit, changed in (*_flips(data, range(8 * HEADER_BYTES)), *_flips(data, sample)):
        with pytest.raises(ProtocolError):
            parse_envelope(changed).open(examples.CENTER)
            pytest.fail(f"bit {bit} may be flipped")


def test_id_of_an_envelope_does_not_depend_on_its_signature_and_on_every_other_bit() -> None:
    original = examples.envelope()
    signature_from = 8 * (len(original.data) - SIGNATURE_BYTES)
    for bit, changed in _flips(original.data):
        try:
            other = parse_envelope(changed)
        except ProtocolError:
            assert bit < signature_from
            continue
        assert (other.id == original.id) == (bit >= signature_from)


@pytest.mark.parametrize("body", [b'{"age":41}' * 30, b"", bytes(range(256))], ids=["deflated", "empty", "as is"])
def test_content_with_one_bit_flipped_decodes_to_the_same_or_is_refused(body: bytes) -> None:
    data = examples.content(body)
    decoded = decode_content(data)
    for _, changed in _flips(data):
        try:
            metadata, found = decode_content(changed)
        except ProtocolError:
            continue
        # A flip within the metadata's JSON can make another form or instance; what it cannot make is another body.
        assert found == body
        assert metadata.whole_digest == decoded[0].whole_digest


def test_content_cut_anywhere_is_refused() -> None:
    data = examples.content(b'{"age":41}' * 300)
    for length in range(len(data)):
        with pytest.raises(ProtocolError):
            decode_content(data[:length])


# --- bundles ---


def _example_bundle() -> tuple[bytes, list[Frame], list[range]]:
    """Return a bundle, its frames, and the byte range of each."""
    frames = [
        Frame(FrameType.STATEMENT, examples.receipt().data),
        Frame(FrameType.HEAD, examples.head().data),
        Frame(FrameType.STATEMENT, examples.device_certificate().data),
        Frame(FrameType.ENVELOPE, examples.envelope().data[:600]),
        Frame(FrameType.HEAD, b""),
    ]
    data = write_bundle(frames)
    ranges, offset = [], 8
    for frame in frames:
        ranges.append(range(offset, offset + 32 + len(frame.payload)))
        offset = ranges[-1].stop
    return data, frames, ranges


def test_bundle_with_one_bit_flipped_yields_exactly_the_other_frames() -> None:
    data, frames, ranges = _example_bundle()
    for bit, changed in _flips(data):
        contents = read_bundle(changed)
        untouched = tuple(frame for frame, where in zip(frames, ranges, strict=True) if bit // 8 not in where)
        assert contents.frames == untouched, f"bit {bit}"
        assert not contents.intact
        # The damage is told, at the place where it is.
        assert any(one.offset <= bit // 8 < one.offset + one.length for one in contents.skipped)


def test_bundle_cut_anywhere_yields_exactly_the_frames_before_the_cut() -> None:
    data, frames, ranges = _example_bundle()
    for length in range(len(data)):
        contents = read_bundle(data[:length])
        assert contents.frames == tuple(f for f, where in zip(frames, ranges, strict=True) if where.stop <= length)
        assert not contents.complete


def test_bundle_whose_beginning_is_lost_yields_exactly_the_frames_after_it() -> None:
    data, frames, ranges = _example_bundle()
    for lost in range(1, len(data)):
        contents = read_bundle(data[lost:])
        assert contents.frames == tuple(f for f, where in zip(frames, ranges, strict=True) if where.start >= lost)
        assert not contents.intact


def test_bundle_with_any_block_overwritten_yields_exactly_the_untouched_frames() -> None:
    data, frames, ranges = _example_bundle()
    for start in range(0, len(data), 64):
        changed = data[:start] + bytes(64) + data[start + 64 :]
        contents = read_bundle(changed[: len(data)])
        hit = set(range(start, start + 64))
        assert contents.frames == tuple(f for f, where in zip(frames, ranges, strict=True) if hit.isdisjoint(where))


def test_bundle_with_two_frames_in_exchange_is_not_intact_but_loses_nothing() -> None:
    data, frames, ranges = _example_bundle()
    first, second = (data[where.start : where.stop] for where in ranges[:2])
    contents = read_bundle(data[:8] + second + first + data[ranges[1].stop :])
    assert not contents.complete
    assert sorted(frame.payload for frame in contents.frames) == sorted(frame.payload for frame in frames)


def test_frame_header_of_another_length_is_not_believed() -> None:
    data, frames, ranges = _example_bundle()
    start = ranges[1].start
    header = data[start : start + 8] + (0xFFFFFFFF).to_bytes(4, "big")
    lied = data[:start] + header + zlib.crc32(header).to_bytes(4, "big") + data[start + 16 :]
    assert read_bundle(lied).frames == tuple(frame for frame in frames if frame is not frames[1])
