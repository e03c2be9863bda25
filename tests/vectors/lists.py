"""Vectors of device keys (SPEC.md §2.3) and counted lists (§4.3): sealed, so every run makes others.

The device's recipient key of these is the key of the index that questionnaires are sealed to.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from sync_protocol import domains
from sync_protocol.counted_list import CountedList, Entry, Section, Status, seal_counted_list
from sync_protocol.device_key import encode_device_key
from sync_protocol.envelope import KIND_DEVICE_KEY, NO_ID, Envelope, seal_envelope
from sync_protocol.identity import device_name
from sync_protocol.keys import RecipientPrivateKey, SigningKey
from sync_protocol.statement import COUNTED_LIST, Statement, sign_statement

if TYPE_CHECKING:
    from tests.vectors.generate import Writer

_TIME = 1_633_000_000_000_000
_KEEP_UNTIL = _TIME + 7 * 86_400_000_000
_SERIAL = 4
_LIST = CountedList(
    as_of=_TIME,
    keep_until=_KEEP_UNTIL,
    sections=(
        Section(
            place="590-17",
            title="Жатақхана № 3",
            entries=(
                Entry(name="Әсем Қалиева", status=Status.COUNTED, birth_date="1985-03-02", channel="online"),
                Entry(name="Фёдор Ким", status=Status.MISSING, room="12"),
                Entry(name="Serik Omarov", status=Status.UNLISTED, channel="tablet", counted_on="2021-10-02"),
            ),
            notices=("4821-0937",),
        ),
    ),
)


@dataclass(frozen=True)
class ListKeys:
    """Whose vectors these are."""

    tablet: SigningKey
    content: SigningKey
    recipient: RecipientPrivateKey


def write_lists(writer: Writer, keys: ListKeys) -> None:
    """Write what is right, and one mistake each."""
    public_key = keys.recipient.public_key
    told = encode_device_key(public_key)
    envelope = _sealed(told, keys)
    writer.accept(
        "device_key",
        "device_key",
        envelope.data,
        id=envelope.id.hex(),
        origin=envelope.origin.hex(),
        public_key=public_key.public_bytes.hex(),
        recipient=public_key.name.hex(),
    )
    for name, content, fault in (
        ("device_key_of_another_version", b"\2" + told[1:], "unknown_version"),
        ("device_key_with_bits_in_zeros", told[:1] + b"\1" + told[2:], "bad_content"),
        ("device_key_padded_with_ones", told[:-1] + b"\1", "bad_content"),
        ("device_key_too_short", told[:-1], "bad_content"),
        ("device_key_that_nothing_can_be_sealed_to", told[: 4 + 1184] + bytes(len(told) - 4 - 1184), "bad_field"),
        ("device_key_content_empty", b"", "truncated"),
    ):
        writer.refuse(name, "device_key", _sealed(content, keys).data, fault)
    device = device_name(keys.tablet.public_bytes)
    source = seal_counted_list(keys.content, public_key, device, _LIST, _SERIAL)
    writer.accept(
        "counted_list",
        "counted_list",
        source.data,
        kind=source.kind,
        signer=source.signer.hex(),
        subject=source.subject.hex(),
        serial=source.serial,
        body_sha256=sha256(source.body).hexdigest(),
        keep_until=_KEEP_UNTIL,
        list=_as_json(),
    )
    for name, statement, fault in _mistakes(source, device, keys):
        writer.refuse(name, "counted_list", statement.data, fault)


def _mistakes(source: Statement, device: bytes, keys: ListKeys) -> list[tuple[str, Statement, str]]:
    encoded = json.dumps(_as_json()).encode()
    coded = _deflate(encoded)
    later = json.dumps(_as_json() | {"keep_until": _KEEP_UNTIL + 1}).encode()
    nameless = json.dumps(_as_json() | {"sections": [{"place": "1"}]}).encode()

    def signed(body: bytes, serial: int = _SERIAL) -> Statement:
        return sign_statement(keys.content, kind=COUNTED_LIST, subject=device, serial=serial, body=body)

    def sealed(plaintext: bytes) -> Statement:
        clear = struct.pack(">Q", _KEEP_UNTIL) + keys.recipient.name
        info = domains.LIST + device + struct.pack(">Q", _SERIAL) + clear
        return signed(clear + keys.recipient.public_key.encrypt(plaintext, info))

    def plain(coded: bytes, length: int, version: int = 1) -> bytes:
        return _padded(struct.pack(">B3xII", version, len(coded), length) + coded)

    return [
        ("counted_list_under_another_serial", signed(source.body, _SERIAL + 1), "undecryptable"),
        ("counted_list_with_another_keep_until", signed(bytes(7) + b"\7" + source.body[8:]), "undecryptable"),
        ("counted_list_without_keep_until", signed(bytes(8) + source.body[8:]), "bad_field"),
        (
            "counted_list_of_another_recipient",
            signed(source.body[:8] + bytes(16) + source.body[24:]),
            "wrong_recipient",
        ),
        ("counted_list_without_ciphertext", signed(source.body[:24]), "truncated"),
        ("counted_list_that_says_another_keep_until", sealed(plain(_deflate(later), len(later))), "bad_content"),
        ("counted_list_member_missing", sealed(plain(_deflate(nameless), len(nameless))), "bad_content"),
        ("counted_list_not_json", sealed(plain(_deflate(b"{"), 1)), "bad_content"),
        ("counted_list_of_another_version", sealed(plain(coded, len(encoded), 2)), "unknown_version"),
        ("counted_list_longer_than_announced", sealed(plain(coded, len(encoded) - 1)), "bad_content"),
        ("counted_list_shorter_than_announced", sealed(plain(coded, len(encoded) + 1)), "bad_content"),
        ("counted_list_announces_too_much", sealed(plain(coded, 2 * 1024 * 1024 + 1)), "oversized"),
        ("counted_list_not_deflated", sealed(plain(encoded, len(encoded))), "bad_content"),
        ("counted_list_padded_with_ones", sealed(plain(coded, len(encoded))[:-1] + b"\1"), "bad_content"),
        ("counted_list_not_padded", sealed(plain(coded, len(encoded))[:-1]), "bad_content"),
        ("counted_list_ends_in_its_prefix", sealed(b"\1"), "truncated"),
    ]


def _as_json() -> dict[str, object]:
    first, second, third = _LIST.sections[0].entries
    return {
        "as_of": _TIME,
        "keep_until": _KEEP_UNTIL,
        "sections": [
            {
                "place": "590-17",
                "title": "Жатақхана № 3",
                "entries": [
                    {"name": first.name, "status": "counted", "birth_date": "1985-03-02", "channel": "online"},
                    {"name": second.name, "status": "missing", "room": "12"},
                    {"name": third.name, "status": "unlisted", "channel": "tablet", "counted_on": "2021-10-02"},
                ],
                "notices": ["4821-0937"],
            }
        ],
    }


def _sealed(content: bytes, keys: ListKeys) -> Envelope:
    return seal_envelope(
        content,
        recipient=keys.recipient.public_key,
        signer=keys.tablet,
        origin=device_name(keys.tablet.public_bytes),
        epoch=9,
        sequence=1,
        previous_id=NO_ID,
        kind=KIND_DEVICE_KEY,
    )


def _deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(body) + compressor.flush()


def _padded(plaintext: bytes) -> bytes:
    return plaintext + bytes(-len(plaintext) % 4096)
