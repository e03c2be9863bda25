"""Bytes made to hurt, beyond single damage: arbitrary and structured lies, bombs, and bundles that waste time.

Memory is measured with tracemalloc and work by counting hashed bytes: neither depends on how fast the machine is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_protocol import bundle, dictionary, domains
from sync_protocol.bundle import Frame, FrameType, read_bundle, write_bundle
from sync_protocol.content import Metadata, decode_content
from sync_protocol.envelope import parse_envelope
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.head import parse_head
from sync_protocol.identity import read_device_certificate, read_recipient_key
from sync_protocol.keys import RecipientPublicKey, VerifyingKey
from sync_protocol.limits import (
    BUNDLE_BYTES_MAX,
    ENVELOPE_BYTES_MAX,
    MEDIUM_IDENTITY_BYTES_MAX,
    PART_BYTES_MAX,
    STATEMENT_BODY_BYTES_MAX,
)
from sync_protocol.medium import certify_medium, read_medium_certificate, read_medium_identity
from sync_protocol.receipt import read_receipt
from sync_protocol.records import RECORD_BYTES_MAX, EnrolmentRequest, Provisioning, check_request, decode_record
from sync_protocol.statement import Statement, parse_statement, sign_statement
from sync_protocol.topics import carrier_of
from tests.support import protocol_examples as examples

Reader = Callable[[bytes], object]


def _statement(kind: int, body: bytes, subject: bytes = examples.ORIGIN) -> bytes:
    return sign_statement(examples.ISSUER, kind=kind, subject=subject, serial=1, body=body).data


def _open(data: bytes) -> object:
    return decode_content(parse_envelope(data).open(examples.CENTER))


READERS: dict[str, tuple[Reader, bytes]] = {
    "envelope": (_open, examples.envelope().data),
    "content": (decode_content, examples.content()),
    "head": (parse_head, examples.head().data),
    "statement": (parse_statement, examples.receipt().data),
    "receipt": (lambda data: read_receipt(parse_statement(data)), examples.receipt().data),
    "device certificate": (
        lambda data: read_device_certificate(parse_statement(data)),
        examples.device_certificate().data,
    ),
    "medium certificate": (
        lambda data: read_medium_certificate(parse_statement(data)),
        examples.medium_certificate().data,
    ),
    "medium identity": (read_medium_identity, examples.medium_identity()),
    "key certificate": (lambda data: examples.trust().learn(parse_statement(data)), examples.key_certificate().data),
    "recipient key": (
        lambda data: read_recipient_key(parse_statement(data)),
        _statement(4, examples.CENTER.public_key.public_bytes, examples.CENTER.name),
    ),
    "enrolment request": (
        lambda data: check_request(decode_record(data, EnrolmentRequest)),
        b'{"name":"a","role":"b"}',
    ),
    "provisioning": (lambda data: decode_record(data, Provisioning), b'{"device":"a","statements":["QQ=="]}'),
    "verifying key": (VerifyingKey, examples.TABLET.public_bytes),
    "recipient public key": (RecipientPublicKey, examples.CENTER.public_key.public_bytes),
    "topic": (lambda data: carrier_of("census/1/up/" + data.decode("latin-1")), examples.ORIGIN.hex().encode()),
}
READER_NAMES = sorted(READERS)


def _only_declared(read: Reader, data: bytes) -> None:
    try:
        read(data)
    except ProtocolError as error:
        assert error.detail
        assert len(str(error)) < 500


@pytest.mark.parametrize("name", READER_NAMES)
@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=3000))
def test_arbitrary_bytes_raise_only_the_declared_error(name: str, data: bytes) -> None:
    _only_declared(READERS[name][0], data)


_EDGE_NUMBERS = st.sampled_from(
    [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1]
)


@st.composite
def _mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """Overwrite number fields with edge values, splice, repeat, cut or extend."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, min(len(changed), 120) - 1)))
        match draw(st.sampled_from(["number", "bytes", "remove", "repeat", "extend"])):
            case "number":
                size = draw(st.sampled_from([1, 2, 4, 8]))
                changed[at : at + size] = (draw(_EDGE_NUMBERS) & ((1 << 8 * size) - 1)).to_bytes(size, "big")
            case "bytes":
                changed[at : at + 4] = draw(st.binary(min_size=4, max_size=4))
            case "remove":
                del changed[at : at + draw(st.integers(1, 64))]
            case "repeat":
                changed[at:at] = changed[at : at + draw(st.integers(1, 64))]
            case _:
                changed += draw(st.binary(max_size=64))
    return bytes(changed)


@pytest.mark.parametrize("name", READER_NAMES)
@settings(max_examples=150, deadline=None)
@given(draws=st.data())
def test_lying_fields_raise_only_the_declared_error(name: str, draws: st.DataObject) -> None:
    read, data = READERS[name]
    _only_declared(read, draws.draw(_mutated(data)))


@settings(max_examples=300, deadline=None)
@given(kind=st.integers(0, 255), body=st.binary(max_size=400))
def test_statement_of_any_kind_with_any_body_raises_only_the_declared_error(kind: int, body: bytes) -> None:
    statement = Statement(b"", kind, examples.ORIGIN, examples.ORIGIN, 1, body)
    for read in (
        read_receipt,
        read_device_certificate,
        read_recipient_key,
        read_medium_certificate,
        examples.trust().learn,
    ):
        with pytest.raises(ProtocolError):
            read(statement)


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=200), texts=st.lists(st.binary(max_size=70), max_size=3))
def test_medium_certificate_of_any_body_is_read_back_the_same_or_refused(body: bytes, texts: list[bytes]) -> None:
    body = body[:20].ljust(20, b"\0") + b"".join(bytes((len(text),)) + text for text in texts)
    statement = Statement(b"", 5, examples.ORIGIN, examples.MEDIUM, 7, body)
    try:
        read = read_medium_certificate(statement)
    except ProtocolError:
        return
    again = certify_medium(examples.ISSUER, **dataclasses.asdict(read))
    assert again.body == body


@settings(max_examples=300, deadline=None)
@given(
    chunks=st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.just(bundle.MARKER),
            st.just(bundle.BUNDLE_HEADER),
            st.builds(
                lambda kind, payload: bundle._write_frame(kind, payload)[0],
                st.integers(0, 255),
                st.binary(max_size=60),
            ),
            st.just(write_bundle(())),
        ),
        max_size=12,
    )
)
def test_bundle_of_any_pieces_is_accounted_for_to_the_byte(chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    contents = read_bundle(data)
    position = len(bundle.BUNDLE_HEADER) if data.startswith(bundle.BUNDLE_HEADER) else 0
    found = position + sum(bundle.frame_bytes(len(frame.payload)) for frame in contents.frames)
    found += sum(one.length for one in contents.skipped)
    found += bundle.frame_bytes(36) if contents.complete else 0
    assert found == len(data)
    ends = [one.offset + one.length for one in contents.skipped]
    assert all(end <= after.offset for end, after in zip(ends, contents.skipped[1:], strict=False))


# --- memory ---


def _peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        with contextlib.suppress(ProtocolError):
            work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _receipt_of_most_marks() -> bytes:
    body = struct.pack(">QHIQ32sBH", 0, 1, 1, 1, bytes(32), 1, 8000) + struct.pack(">IQ", 1, 1 << 60) * 8000
    return _statement(1, body)


def _frames(count: int) -> bytes:
    return write_bundle([Frame(FrameType.HEAD, b"")] * count)


def _identity_of_many() -> bytes:
    key, one = examples.key_certificate().data, examples.medium_certificate().data
    frames = [Frame(FrameType.STATEMENT, key)] * 300 + [Frame(FrameType.STATEMENT, one)]
    return write_bundle(frames)


def _unknown_frames(count: int) -> bytes:
    return bundle.BUNDLE_HEADER + bundle._write_frame(99, b"")[0] * count


@pytest.mark.parametrize(
    ("read", "data", "times"),
    [
        pytest.param(parse_envelope, bytes(ENVELOPE_BYTES_MAX), 2, id="envelope"),
        pytest.param(read_medium_identity, _identity_of_many(), 12, id="identity of many keys"),
        pytest.param(decode_content, bytes(ENVELOPE_BYTES_MAX), 3, id="content"),
        pytest.param(lambda data: read_receipt(parse_statement(data)), _receipt_of_most_marks(), 30, id="marks"),
        pytest.param(read_bundle, _frames(8000), 8, id="bundle of empty frames"),
        pytest.param(read_bundle, _unknown_frames(8000), 8, id="bundle of unknown frames"),
        pytest.param(read_bundle, bundle.MARKER * (BUNDLE_BYTES_MAX // 4), 4, id="bundle of markers"),
        pytest.param(
            lambda data: decode_record(data, Provisioning),
            b'{"statements":[' + b'"",' * ((RECORD_BYTES_MAX - 20) // 3) + b'""]}',
            20,
            id="provisioning of empty statements",
        ),
        pytest.param(
            lambda data: decode_record(data, Provisioning), b"[" * RECORD_BYTES_MAX, 4, id="record of brackets"
        ),
    ],
)
def test_reader_never_needs_more_than_a_small_multiple_of_its_input(read: Reader, data: bytes, times: int) -> None:
    assert _peak_bytes(lambda: read(data)) <= times * len(data) + 100_000


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (parse_envelope, bytes(ENVELOPE_BYTES_MAX + 1)),
        (read_medium_identity, bytes(MEDIUM_IDENTITY_BYTES_MAX + 1)),
        (read_bundle, bytes(BUNDLE_BYTES_MAX + 1)),
        (lambda data: decode_record(data, Provisioning), bytes(RECORD_BYTES_MAX + 1)),
        (parse_statement, examples.receipt().data[:48] + struct.pack(">I", STATEMENT_BODY_BYTES_MAX + 1) + bytes(99)),
    ],
)
def test_what_is_over_its_limit_is_refused_as_oversized(read: Reader, data: bytes) -> None:
    with pytest.raises(ProtocolError) as refusal:
        read(data)
    assert refusal.value.fault is Fault.OVERSIZED


# --- bundles made to waste time ---


class _Counter:
    """Stands in for sha256 and counts what it is given to hash."""

    def __init__(self) -> None:
        self.hashed_bytes = 0

    def __call__(self, data: bytes = b"") -> Any:
        return _CountedDigest(self, sha256(), data)


class _CountedDigest:
    def __init__(self, counter: _Counter, real: Any, data: bytes) -> None:
        self._counter, self._real = counter, real
        self.update(data)

    def update(self, data: bytes) -> None:
        self._counter.hashed_bytes += len(data)
        self._real.update(data)

    def digest(self) -> bytes:
        digest: bytes = self._real.digest()
        return digest


def _read_counting(monkeypatch: pytest.MonkeyPatch, data: bytes) -> tuple[bundle.BundleContents, int]:
    counter = _Counter()
    monkeypatch.setattr(bundle, "sha256", counter)
    return read_bundle(data), counter.hashed_bytes


def _header(kind: int, length: int) -> bytes:
    unchecked = struct.pack(">4sB3sI", bundle.MARKER, kind, bytes(3), length)
    return unchecked + zlib.crc32(unchecked).to_bytes(4, "big")


def _overlap(size: int) -> bytes:
    """Return headers that are each believable, and each claim everything that follows."""
    size -= size % 16
    return b"".join(_header(1, size - 16 * number - 32) for number in range(size // 16 - 3)) + bytes(48)


def test_overlapping_frames_cannot_make_a_reader_hash_more_than_a_few_times_their_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = bundle.BUNDLE_HEADER + _overlap(BUNDLE_BYTES_MAX - 8)
    contents, hashed_bytes = _read_counting(monkeypatch, data)
    assert contents.frames == ()
    assert "overlap" in contents.skipped[-1].reason
    assert 3 * len(data) < hashed_bytes <= 5 * len(data) + 1000


def test_overlapping_frames_hide_no_intact_frame_that_stands_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Frame(FrameType.HEAD, examples.head().data), Frame(FrameType.ENVELOPE, examples.envelope().data)]
    before = write_bundle(frames)
    contents, _ = _read_counting(monkeypatch, before + _overlap(BUNDLE_BYTES_MAX - len(before)))
    assert list(contents.frames) == frames
    assert "overlap" in contents.skipped[-1].reason
    assert contents.complete
    assert not contents.intact


def test_damaged_frames_without_overlap_never_stop_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    # Honest damage, at its worst: every frame but the last has a wrong digest.
    payload = bytes(1000)
    broken = (_header(1, len(payload)) + payload + bytes(16)) * 200
    last = bundle._write_frame(FrameType.HEAD, b"still here")[0]
    data = bundle.BUNDLE_HEADER + broken + last
    contents, hashed_bytes = _read_counting(monkeypatch, data)
    assert contents.frames == (Frame(FrameType.HEAD, b"still here"),)
    assert hashed_bytes <= len(data)


@pytest.mark.parametrize("right", [True, False])
def test_many_end_frames_cost_no_more_than_their_size(monkeypatch: pytest.MonkeyPatch, *, right: bool) -> None:
    frames = write_bundle([Frame(FrameType.HEAD, b"")] * 4000)
    end = frames[-68:] if right else bundle._write_frame(FrameType.END, bytes(36))[0]
    data = frames + end * ((BUNDLE_BYTES_MAX - len(frames)) // len(end))
    contents, hashed_bytes = _read_counting(monkeypatch, data)
    assert len(contents.frames) == 4000
    assert hashed_bytes <= 2 * len(data)


# --- bombs ---


def _bomb(preset: bytes = b"") -> bytes:
    compressor = (
        zlib.compressobj(9, zlib.DEFLATED, -15, zdict=preset) if preset else zlib.compressobj(9, zlib.DEFLATED, -15)
    )
    return compressor.compress(bytes(50_000_000)) + compressor.flush()


def _bomb_content(coding: int, body_bytes: int, coded: bytes) -> bytes:
    metadata = json.dumps(_described(whole_bytes=body_bytes)).encode()
    named = dictionary.CURRENT_ID if coding == 2 else bytes(8)
    data = struct.pack(">BBHII8s", 1, coding, len(metadata), len(coded), body_bytes, named) + metadata + coded
    return data + bytes(-len(data) % 1024)


def _described(**members: object) -> dict[str, object]:
    described: dict[str, object] = {
        "form": "f",
        "form_version": "",
        "instance_id": "i",
        "media_type": "text/xml",
        "created_at": 1,
        "part": 1,
        "parts": 1,
        "whole_bytes": 0,
        "whole_digest": sha256(b"").hexdigest(),
    }
    return described | members


_REAL_INFLATER = zlib.decompressobj


class _CountedInflater:
    """Stands in for zlib's inflater and counts what comes out of it."""

    produced_bytes = 0

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self._real = _REAL_INFLATER(*arguments, **keywords)

    def decompress(self, data: bytes, bytes_max: int) -> bytes:
        produced = self._real.decompress(data, bytes_max)
        _CountedInflater.produced_bytes += len(produced)
        return produced

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.mark.parametrize("coding", [1, 2])
@pytest.mark.parametrize("body_bytes", [0, 1, 1000, PART_BYTES_MAX])
def test_bomb_is_refused_after_no_more_than_a_byte_beyond_what_it_declares(
    monkeypatch: pytest.MonkeyPatch, coding: int, body_bytes: int
) -> None:
    data = _bomb_content(coding, body_bytes, _bomb(dictionary.CURRENT if coding == 2 else b""))
    with pytest.raises(ProtocolError) as refusal:
        decode_content(data)
    assert refusal.value.fault is Fault.BAD_CONTENT
    assert _peak_bytes(lambda: decode_content(data)) <= 4 * len(data) + 2 * body_bytes + 100_000

    monkeypatch.setattr(_CountedInflater, "produced_bytes", 0)
    monkeypatch.setattr(zlib, "decompressobj", _CountedInflater)
    with pytest.raises(ProtocolError):
        decode_content(data)
    assert _CountedInflater.produced_bytes == body_bytes + 1


def test_bomb_that_declares_its_true_size_is_refused_before_it_is_inflated() -> None:
    data = _bomb_content(1, 50_000_000, _bomb())
    with pytest.raises(ProtocolError) as refusal:
        decode_content(data)
    assert refusal.value.fault is Fault.OVERSIZED
    assert _peak_bytes(lambda: decode_content(data)) <= 100_000


def _content_with(metadata: bytes) -> bytes:
    data = struct.pack(">BBHII8s", 1, 0, len(metadata), 0, 0, bytes(8)) + metadata
    return data + bytes(-len(data) % 1024)


def _with_member(name: str, value: bytes) -> bytes:
    """Return metadata with one member's value written as these bytes."""
    return json.dumps(_described(**{name: "@"})).encode().replace(b'"@"', value)


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param(b"[" * 4096, id="open brackets"),
        pytest.param(b'{"a":' * 800, id="open objects"),
        pytest.param(b"[" * 2000 + b"]" * 2000, id="nested lists"),
        pytest.param(_with_member("unknown", b"[" * 1500 + b"]" * 1500), id="nested unknown member"),
        pytest.param(_with_member("created_at", b"9" * 3000), id="number of 3,000 digits"),
        pytest.param(_with_member("created_at", b"1e9999"), id="infinite number"),
        pytest.param(_with_member("created_at", b"1.5"), id="fraction"),
        pytest.param(_with_member("created_at", b"NaN"), id="not a number"),
        pytest.param(_with_member("created_at", b"-Infinity"), id="minus infinity"),
        pytest.param(_with_member("created_at", b"true"), id="truth for a number"),
        pytest.param(_with_member("parts", b"18446744073709551617"), id="number of 65 bits"),
        pytest.param(_with_member("whole_bytes", b"-1"), id="negative length"),
        pytest.param(_with_member("form", b'"\\ud800"'), id="half a surrogate pair"),
        pytest.param(_with_member("form", b'"\\udc00\\ud800"'), id="surrogates the wrong way round"),
        pytest.param(_with_member("form", b'"\xed\xa0\x80"'), id="surrogate as bytes"),
        pytest.param(_with_member("form", b'"\xff"'), id="not UTF-8"),
        pytest.param(_with_member("form", b'"\xc0\x80"'), id="overlong zero"),
        pytest.param(_with_member("form", b'"\\u0000"'), id="zero character"),
        pytest.param(_with_member("form", '"\u202e"'.encode()), id="text direction override"),
        pytest.param(_with_member("form", b"null"), id="null"),
        pytest.param(b"\xef\xbb\xbf" + _with_member("form", b'"f"'), id="byte order mark"),
        pytest.param(_with_member("form", b'"f"') + b"{}", id="two documents"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_hostile_metadata_is_refused_with_the_declared_error(metadata: bytes) -> None:
    with pytest.raises(ProtocolError) as refusal:
        decode_content(_content_with(metadata))
    assert refusal.value.fault in {Fault.BAD_CONTENT, Fault.BAD_FIELD}


def test_of_a_member_written_twice_the_last_counts() -> None:
    twice = b'{"form":"first",' + _with_member("form", b'"last"')[1:]
    metadata, _ = decode_content(_content_with(twice))
    assert isinstance(metadata, Metadata)
    assert metadata.form == "last"


# --- keys that are no keys ---

_SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize("text", _SMALL_ORDER)
def test_signing_key_that_anybody_could_sign_for_is_refused(text: str, sign: int) -> None:
    public_key = bytearray.fromhex(text)
    public_key[31] |= sign
    with pytest.raises(ProtocolError) as refusal:
        VerifyingKey(bytes(public_key))
    assert refusal.value.fault is Fault.BAD_FIELD


def test_signing_key_that_is_no_point_verifies_nothing() -> None:
    no_point = VerifyingKey((2).to_bytes(32, "little"))
    for signature in (bytes(64), b"\1" + bytes(63), examples.TABLET.sign(b"message")):
        with pytest.raises(ProtocolError):
            no_point.verify(signature, b"message")


@pytest.mark.parametrize("length", [0, 1, 63, 65, 4096])
def test_signature_of_another_length_is_a_bad_signature(length: int) -> None:
    with pytest.raises(ProtocolError) as refusal:
        examples.TABLET_VERIFIER.verify(bytes(length), b"message")
    assert refusal.value.fault is Fault.BAD_SIGNATURE


def test_signature_is_not_malleable() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    signature = examples.TABLET.sign(b"message")
    larger = int.from_bytes(signature[32:], "little") + order
    with pytest.raises(ProtocolError):
        examples.TABLET_VERIFIER.verify(signature[:32] + larger.to_bytes(32, "little"), b"message")


@pytest.mark.parametrize("point", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18])
def test_recipient_key_that_nothing_can_be_sealed_to_is_refused(point: int) -> None:
    lattice = examples.CENTER.public_key.public_bytes[:1184]
    with pytest.raises(ProtocolError) as refusal:
        RecipientPublicKey(lattice + point.to_bytes(32, "little"))
    assert refusal.value.fault is Fault.BAD_FIELD


def test_recipient_key_with_a_coefficient_beyond_the_modulus_is_refused() -> None:
    public_key = bytearray(examples.CENTER.public_key.public_bytes)
    public_key[0:2] = (3329).to_bytes(2, "little")
    with pytest.raises(ProtocolError):
        RecipientPublicKey(bytes(public_key))


# --- one signature, one meaning ---

_DOMAINS = [value for name, value in vars(domains).items() if name.isupper() and isinstance(value, bytes)]


def test_no_domain_is_the_beginning_of_another() -> None:
    assert len(_DOMAINS) == 14
    for one in _DOMAINS:
        assert one.endswith(b"\0")
        assert sum(other.startswith(one) for other in _DOMAINS) == 1


def test_signature_of_one_kind_verifies_as_no_other() -> None:
    head, envelope = examples.head().data, examples.envelope().data
    for signed, right in ((head, domains.HEAD), (envelope, domains.ENVELOPE)):
        for domain in _DOMAINS:
            if domain != right:
                with pytest.raises(ProtocolError):
                    examples.TABLET_VERIFIER.verify(signed[-64:], domain + signed[:-64])


def test_ciphertext_moved_to_another_place_of_the_chain_does_not_open() -> None:
    plaintext = examples.content()
    first = examples.envelope(plaintext)
    second = examples.envelope(plaintext, 2, first.id)
    moved = first.data[:96] + second.data[96:-64]
    spliced = parse_envelope(moved + examples.TABLET.sign(domains.ENVELOPE + moved))
    spliced.verify(examples.TABLET_VERIFIER)
    with pytest.raises(ProtocolError) as refusal:
        spliced.open(examples.CENTER)
    assert refusal.value.fault is Fault.UNDECRYPTABLE
