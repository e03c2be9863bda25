"""Questionnaires into parts and content, and back; padding; limits."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256, shake_256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_protocol.content import (
    CODING_AS_IS,
    CODING_DEFLATE_DICTIONARY,
    Questionnaire,
    cut,
    decode_content,
    encode_content,
)
from sync_protocol.envelope import parse_envelope
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.keys import SEALING_OVERHEAD_BYTES
from sync_protocol.limits import (
    BUNDLE_BYTES_MAX,
    ENVELOPE_BYTES_MAX,
    METADATA_BYTES_MAX,
    NAME_CHARACTERS_MAX,
    PART_BYTES_MAX,
    PARTS_MAX,
    QUESTIONNAIRE_BYTES_MAX,
)
from tests.support import protocol_examples as examples


def _patternless(length: int) -> bytes:
    return shake_256(b"patternless").digest(length)


@pytest.mark.parametrize(
    "length",
    [0, 1, 500, 1023, 1024, 1025, 10_000, PART_BYTES_MAX - 1, PART_BYTES_MAX, PART_BYTES_MAX + 1, 3 * PART_BYTES_MAX],
)
@pytest.mark.parametrize("make", [_patternless, bytes, lambda length: (b'{"age":41},' * length)[:length]])
def test_questionnaire_comes_back_from_its_parts(length: int, make: Callable[[int], bytes]) -> None:
    body = make(length)
    found = [decode_content(encode_content(metadata, part)) for metadata, part in cut(examples.questionnaire(body))]
    assert b"".join(part for _, part in found) == body
    assert [metadata.part for metadata, _ in found] == list(range(1, len(found) + 1))
    for metadata, _ in found:
        assert metadata.parts == len(found) == max(1, -(-length // PART_BYTES_MAX))
        assert metadata.whole_bytes == length
        assert metadata.whole_digest == sha256(body).hexdigest()


@settings(max_examples=100, deadline=None)
@given(
    body=st.binary(max_size=5000),
    form=st.text(st.characters(codec="utf-8"), max_size=NAME_CHARACTERS_MAX).filter(str.isprintable),
    created_at=st.integers(0, (1 << 63) - 1),
)
def test_every_member_comes_back_as_it_was(body: bytes, form: str, created_at: int) -> None:
    questionnaire = Questionnaire(form, "", "uuid:1", "text/xml", created_at, body)
    ((metadata, part),) = cut(questionnaire)
    decoded, found = decode_content(encode_content(metadata, part))
    assert found == body
    assert (decoded.form, decoded.form_version, decoded.instance_id) == (form, "", "uuid:1")
    assert (decoded.media_type, decoded.created_at) == ("text/xml", created_at)


@pytest.mark.parametrize("created_at", [-1, -(10**30), 1 << 63, 10**30])
def test_absurd_clock_does_not_keep_a_questionnaire_from_being_sealed(created_at: int) -> None:
    ((metadata, part),) = cut(Questionnaire("f", "", "i", "text/xml", created_at, b"body"))
    assert decode_content(encode_content(metadata, part))[0].created_at == (0 if created_at < 0 else (1 << 63) - 1)


def test_padding_fills_exactly_to_the_bucket_and_never_adds_one() -> None:
    sizes = set()
    for length in range(600, 1700):
        body = _patternless(length)
        content = examples.content(body)
        unpadded = 20 + int.from_bytes(content[2:4], "big") + int.from_bytes(content[4:8], "big")
        assert len(content) == -(-unpadded // 1024) * 1024
        assert not any(content[unpadded:])
        sizes.add(unpadded % 1024)
    assert {0, 1, 1023} <= sizes


def test_bodies_of_one_bucket_cannot_be_told_apart_by_size() -> None:
    assert len({len(examples.content(b'{"age":%d}' % age)) for age in range(0, 120)}) == 1


def test_body_that_does_not_compress_is_kept_as_is_and_one_that_does_uses_the_dictionary() -> None:
    assert examples.content(_patternless(400))[1] == CODING_AS_IS
    assert examples.content(b'{"line":1,"sex":1}' * 5)[1] == CODING_DEFLATE_DICTIONARY


def test_largest_part_makes_an_envelope_below_its_limit_and_room_in_a_bundle() -> None:
    names = "\U0001f600" * NAME_CHARACTERS_MAX
    questionnaire = Questionnaire(names, names, names, "application/json", 1, _patternless(PART_BYTES_MAX))
    ((metadata, part),) = cut(questionnaire)
    content = encode_content(metadata, part)
    assert int.from_bytes(content[2:4], "big") <= METADATA_BYTES_MAX
    envelope = examples.envelope(content)
    assert len(envelope.data) == 96 + len(content) + SEALING_OVERHEAD_BYTES + 64 <= ENVELOPE_BYTES_MAX
    assert len(envelope.data) + 1000 < BUNDLE_BYTES_MAX
    assert decode_content(parse_envelope(envelope.data).open(examples.CENTER))[1] == questionnaire.body


def test_metadata_that_json_must_escape_still_fits() -> None:
    for character in ('"', "\\", "я"):
        names = character * NAME_CHARACTERS_MAX
        ((metadata, part),) = cut(Questionnaire(names, names, names, "text/xml", 1, b""))
        assert decode_content(encode_content(metadata, part))[0] == metadata


def test_largest_questionnaire_is_cut_and_a_larger_one_refused() -> None:
    parts = list(cut(examples.questionnaire(bytes(QUESTIONNAIRE_BYTES_MAX))))
    assert len(parts) == PARTS_MAX
    with pytest.raises(ProtocolError) as refusal:
        next(iter(cut(examples.questionnaire(bytes(QUESTIONNAIRE_BYTES_MAX + 1)))))
    assert refusal.value.fault is Fault.OVERSIZED
    assert str(QUESTIONNAIRE_BYTES_MAX) in refusal.value.detail


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("form", "x" * (NAME_CHARACTERS_MAX + 1)),
        ("form", "two\nlines"),
        ("form_version", "\ud800"),
        ("instance_id", ""),
        ("instance_id", "\u202e"),
        ("media_type", "text/html"),
    ],
)
def test_questionnaire_with_an_unfit_member_is_refused_before_it_is_sealed(member: str, value: str) -> None:
    fields = {"form": "f", "form_version": "", "instance_id": "i", "media_type": "text/xml"} | {member: value}
    with pytest.raises(ProtocolError) as refusal:
        list(cut(Questionnaire(**fields, created_at=1, body=b"")))
    assert refusal.value.fault is Fault.BAD_FIELD
    assert member.split("_", maxsplit=1)[0] in refusal.value.detail


def test_refusals_never_quote_what_a_respondent_answered() -> None:
    secret = b'{"name":"Serik","age":41}'
    content = bytearray(examples.content(secret))
    for at in range(0, len(content), 7):
        content[at] ^= 0x20
        try:
            decode_content(bytes(content))
        except ProtocolError as error:
            assert "Serik" not in str(error)
        content[at] ^= 0x20
