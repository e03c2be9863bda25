"""What is inside an envelope (SPEC.md §2.1): metadata, compressed body, padding; and cutting into parts."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec

from sync_protocol import dictionary
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.limits import (
    CONTENT_BUCKET_BYTES,
    METADATA_BYTES_MAX,
    NAME_CHARACTERS_MAX,
    PART_BYTES_MAX,
    PARTS_MAX,
    QUESTIONNAIRE_BYTES_MAX,
)

CONTENT_VERSION: Final = 1
CODING_AS_IS: Final = 0
CODING_DEFLATE: Final = 1
CODING_DEFLATE_DICTIONARY: Final = 2

MEDIA_TYPE_JSON: Final = "application/json"
MEDIA_TYPE_XML: Final = "text/xml"
MEDIA_TYPE_ATTACHMENTS: Final = "multipart/form-data"
"""XForm instance XML with its files, in the form of SPEC.md §2.2 (`attachments`)."""
MEDIA_TYPES: Final = frozenset({MEDIA_TYPE_JSON, MEDIA_TYPE_XML, MEDIA_TYPE_ATTACHMENTS})

_PREFIX: Final = struct.Struct(">BBHII8s")
_NO_DICTIONARY: Final = bytes(dictionary.DICTIONARY_ID_BYTES)
_DEFLATE_WINDOW_BITS: Final = -15
_DEFLATE_LEVEL: Final = 6
_TIME_LIMIT: Final = 1 << 63


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a part says of itself and of its questionnaire; travels encrypted."""

    form: str
    form_version: str
    instance_id: str
    media_type: str
    created_at: int
    part: int
    parts: int
    whole_bytes: int
    whole_digest: str


@dataclass(frozen=True)
class Questionnaire:
    """One filled form as its form program handed it over; `created_at` in microseconds by the device's clock."""

    form: str
    form_version: str
    instance_id: str
    media_type: str
    created_at: int
    body: bytes


_metadata_decoder = msgspec.json.Decoder(Metadata)


def cut(questionnaire: Questionnaire) -> Iterator[tuple[Metadata, bytes]]:
    """Yield the parts of a questionnaire, in order; nearly always one.

    Raises ProtocolError (oversized, bad_field) before the first part when the questionnaire breaks a limit.
    """
    body = questionnaire.body
    if len(body) > QUESTIONNAIRE_BYTES_MAX:
        raise ProtocolError(
            Fault.OVERSIZED, f"a questionnaire has at most {QUESTIONNAIRE_BYTES_MAX} bytes, this has {len(body)}"
        )
    parts = _parts_of(len(body))
    digest = sha256(body).hexdigest()
    for part in range(1, parts + 1):
        metadata = Metadata(
            form=questionnaire.form,
            form_version=questionnaire.form_version,
            instance_id=questionnaire.instance_id,
            media_type=questionnaire.media_type,
            # No clock is trusted, and none that is wrong may keep a questionnaire from being accepted.
            created_at=min(max(0, questionnaire.created_at), _TIME_LIMIT - 1),
            part=part,
            parts=parts,
            whole_bytes=len(body),
            whole_digest=digest,
        )
        _check_metadata(metadata)
        yield metadata, body[(part - 1) * PART_BYTES_MAX : part * PART_BYTES_MAX]


def _parts_of(whole_bytes: int) -> int:
    return max(1, -(-whole_bytes // PART_BYTES_MAX))


def encode_content(metadata: Metadata, body: bytes) -> bytes:
    """Return the plaintext of an envelope; its length is a multiple of CONTENT_BUCKET_BYTES."""
    compressor = zlib.compressobj(_DEFLATE_LEVEL, zlib.DEFLATED, _DEFLATE_WINDOW_BITS, zdict=dictionary.CURRENT)
    coded = compressor.compress(body) + compressor.flush()
    coding, dictionary_id = CODING_DEFLATE_DICTIONARY, dictionary.CURRENT_ID
    if len(coded) >= len(body):
        coded, coding, dictionary_id = body, CODING_AS_IS, _NO_DICTIONARY
    described = msgspec.json.encode(metadata)
    content = (
        _PREFIX.pack(CONTENT_VERSION, coding, len(described), len(coded), len(body), dictionary_id) + described + coded
    )
    return content + bytes(-len(content) % CONTENT_BUCKET_BYTES)


def decode_content(content: bytes) -> tuple[Metadata, bytes]:
    """Return metadata and body of one part; never makes more than PART_BYTES_MAX bytes of body.

    Raises ProtocolError: truncated, unknown_version, oversized, bad_field, bad_content, unknown_dictionary.
    """
    if len(content) < _PREFIX.size:
        raise ProtocolError(Fault.TRUNCATED, "the content ends within its prefix")
    version, coding, metadata_bytes, coded_bytes, body_bytes, dictionary_id = _PREFIX.unpack_from(content)
    if version != CONTENT_VERSION:
        raise ProtocolError(Fault.UNKNOWN_VERSION, f"content version {version} is not known here")
    if metadata_bytes > METADATA_BYTES_MAX or body_bytes > PART_BYTES_MAX:
        raise ProtocolError(Fault.OVERSIZED, "the content announces more than a part may have")
    coded_from = _PREFIX.size + metadata_bytes
    coded_to = coded_from + coded_bytes
    if coded_to > len(content):
        raise ProtocolError(Fault.TRUNCATED, "the content announces more bytes than there are")
    if (
        len(content) != coded_to + (-coded_to % CONTENT_BUCKET_BYTES)
        or content.count(0, coded_to) != len(content) - coded_to
    ):
        raise ProtocolError(Fault.BAD_CONTENT, "the content is not padded with zeros to its bucket")
    metadata = _parse_metadata(content[_PREFIX.size : coded_from])
    if body_bytes != min(PART_BYTES_MAX, metadata.whole_bytes - (metadata.part - 1) * PART_BYTES_MAX):
        raise ProtocolError(Fault.BAD_CONTENT, "the body does not have the length of its part of the questionnaire")
    body = _decode_body(content[coded_from:coded_to], coding, dictionary_id, body_bytes)
    if metadata.parts == 1 and sha256(body).hexdigest() != metadata.whole_digest:
        raise ProtocolError(Fault.BAD_CONTENT, "the body does not have the digest that the metadata names")
    return metadata, body


def _parse_metadata(data: bytes) -> Metadata:
    try:
        metadata = _metadata_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # a ValidationError is a DecodeError
        raise ProtocolError(Fault.BAD_CONTENT, "the metadata is not what SPEC.md 2.1 asks for") from None
    _check_metadata(metadata)
    return metadata


def _check_metadata(metadata: Metadata) -> None:
    for member in ("form", "form_version", "instance_id"):
        value: str = getattr(metadata, member)
        if len(value) > NAME_CHARACTERS_MAX or not value.isprintable():
            raise ProtocolError(
                Fault.BAD_FIELD, f"{member} is longer than {NAME_CHARACTERS_MAX} characters or not printable"
            )
    if not metadata.instance_id:
        raise ProtocolError(Fault.BAD_FIELD, "the instance id is empty")
    if metadata.media_type not in MEDIA_TYPES:
        raise ProtocolError(Fault.BAD_FIELD, f"the media type is none of {', '.join(sorted(MEDIA_TYPES))}")
    if not (
        1 <= metadata.part <= metadata.parts <= PARTS_MAX and 0 <= metadata.whole_bytes <= QUESTIONNAIRE_BYTES_MAX
    ) or metadata.parts != _parts_of(metadata.whole_bytes):
        raise ProtocolError(Fault.BAD_FIELD, "part, parts and whole_bytes do not go together")
    if not 0 <= metadata.created_at < _TIME_LIMIT:
        raise ProtocolError(Fault.BAD_FIELD, "created_at is not a time")
    if len(metadata.whole_digest) != 64 or set(metadata.whole_digest) - set("0123456789abcdef"):
        raise ProtocolError(Fault.BAD_FIELD, "whole_digest is not 64 hexadecimal digits")


def _decode_body(coded: bytes, coding: int, dictionary_id: bytes, body_bytes: int) -> bytes:
    if coding != CODING_DEFLATE_DICTIONARY and dictionary_id != _NO_DICTIONARY:
        raise ProtocolError(Fault.BAD_FIELD, "a dictionary is named but not used")
    if coding == CODING_AS_IS:
        if len(coded) != body_bytes:
            raise ProtocolError(Fault.BAD_CONTENT, "the body is not as long as announced")
        return coded
    if coding == CODING_DEFLATE:
        inflater = zlib.decompressobj(_DEFLATE_WINDOW_BITS)
    elif coding == CODING_DEFLATE_DICTIONARY:
        preset = dictionary.DICTIONARIES.get(dictionary_id)
        if preset is None:
            raise ProtocolError(Fault.UNKNOWN_DICTIONARY, f"dictionary {dictionary_id.hex()} is not known here")
        inflater = zlib.decompressobj(_DEFLATE_WINDOW_BITS, zdict=preset)
    else:
        raise ProtocolError(Fault.BAD_FIELD, f"coding {coding} is not known here")
    try:
        # One byte of room beyond what is announced shows a bomb without inflating it.
        body = inflater.decompress(coded, body_bytes + 1)
    except zlib.error:
        raise ProtocolError(Fault.BAD_CONTENT, "the body does not inflate") from None
    if len(body) != body_bytes or not inflater.eof or inflater.unused_data:
        raise ProtocolError(Fault.BAD_CONTENT, "the body is not as long as announced")
    return body
