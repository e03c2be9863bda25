"""The vectors of notices (SPEC.md §10): tokens and numbers, as text."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING

from sync_protocol import domains
from sync_protocol.identity import device_name
from sync_protocol.keys import SigningKey
from sync_protocol.notice import notice_number, sign_notice

if TYPE_CHECKING:
    from tests.vectors.generate import Writer

_AT = 1_633_000_000_000_000
_QUESTIONNAIRES = (
    ("census_household", "uuid:0f5cf0b2-6f0a-4d0b-9f3e-2d8a9a6f1c11"),
    ("census_temporary", "uuid:0f5cf0b2-6f0a-4d0b-9f3e-2d8a9a6f1c11"),
    ("анкета", "uuid:2b1f7d3e-0a44-4c55-8a0e-7c6c7f1f0a01"),
)


def notice_numbers() -> list[dict[str, str]]:
    return [
        {"form": form, "instance_id": instance_id, "number": notice_number(form, instance_id)}
        for form, instance_id in _QUESTIONNAIRES
    ]


def _text(data: bytes) -> bytes:
    return base64.b32encode(data).rstrip(b"=")


def _raw(signer: SigningKey, form: bytes = b"census_household", domain: bytes = domains.NOTICE, **wrong: int) -> bytes:
    device = device_name(signer.public_bytes)
    number, length = wrong.get("number", 123_456_789_012_345_678), wrong.get("length", len(form))
    zeros = struct.pack(">H", wrong.get("zeros", 0))
    unsigned = struct.pack(">4sBB2s16sQQ", b"CNSN", wrong.get("version", 1), length, zeros, device, number, _AT) + form
    return unsigned + signer.sign(domain + unsigned)


def write_notices(writer: Writer, online: SigningKey, tablet: SigningKey) -> None:
    device = device_name(online.public_bytes)
    for name, (form, instance_id) in zip(("notice", "notice_other_form", "notice_utf8"), _QUESTIONNAIRES, strict=True):
        made = sign_notice(online, device=device, form=form, instance_id=instance_id, accepted_at=_AT)
        expected = {"signer": device.hex(), "number": made.number, "form": form, "at": _AT}
        writer.accept(name, "notice", made.token.encode(), **expected)
    good = _raw(online)
    text = _text(good)
    longest = _raw(online, b"f" * 64)
    number = notice_number(*_QUESTIONNAIRES[0])
    for name, data, fault in (
        ("notice_empty", b"", "truncated"),
        ("notice_cut_by_one_character", text[:-1], "truncated"),
        ("notice_cut_by_one_byte", _text(good[:-1]), "truncated"),
        ("notice_with_trailing_byte", _text(good + b"\0"), "trailing_bytes"),
        ("notice_too_long", _text(longest + b"\0"), "oversized"),
        ("notice_of_other_characters", b"1" + text[1:], "bad_content"),
        ("notice_written_otherwise", _text(longest)[:-1] + b"B", "bad_content"),
        ("notice_bad_magic", _text(b"CNSE" + good[4:]), "bad_magic"),
        ("notice_version_2", _text(_raw(online, version=2)), "unknown_version"),
        ("notice_reserved_bytes", _text(_raw(online, zeros=1)), "bad_field"),
        ("notice_number_too_large", _text(_raw(online, number=10**18)), "bad_field"),
        ("notice_without_form", _text(_raw(online, b"")), "bad_field"),
        ("notice_form_not_utf8", _text(_raw(online, b"\xff")), "bad_field"),
        ("notice_form_not_printable", _text(_raw(online, b"a\n")), "bad_field"),
        ("notice_form_longer_than_allowed", _text(_raw(online, b"f" * 64, length=65)), "truncated"),
        ("notice_by_a_tablet", _text(_raw(tablet)), "untrusted_signer"),
        ("notice_in_head_domain", _text(_raw(online, domain=domains.HEAD)), "bad_signature"),
        ("notice_of_another_number", _text(good[:31] + b"\0" + good[32:]), "bad_signature"),
    ):
        writer.refuse(name, "notice", data, fault)
    writer.accept("notice_number_in_groups", "notice_number", number.encode(), number=number)
    spaced = f" {number.replace('-', ' ')}\n".encode()
    writer.accept("notice_number_with_spaces", "notice_number", spaced, number=number)
    exchanged = number[:2] + number[3] + number[2] + number[4:]
    for name, data, fault in (
        ("notice_number_exchanged", exchanged.encode(), "bad_field"),
        ("notice_number_too_short", number[:-1].encode(), "truncated"),
        ("notice_number_too_long", number.encode() + b"0", "oversized"),
        ("notice_number_of_letters", number[:-1].encode() + b"x", "bad_field"),
        ("notice_number_of_other_digits", (number[:-1] + "٣").encode(), "bad_field"),
    ):
        writer.refuse(name, "notice_number", data, fault)
