"""Writes the golden vectors. Run by hand, and only when SPEC.md changes: `python -m tests.vectors.generate`.

Sealing is random, so every run makes other envelopes; the files are frozen so that a change of the code
cannot change what it is checked against. `python -m tests.vectors.generate signed` writes only keys, certificates,
media, mesh messages, notices and forms, which come out the same in every run, and leaves all other files as they
are; with `lists`, only device keys and counted lists are made anew.
"""

from __future__ import annotations

import json
import shutil
import struct
import sys
import zlib
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from sync_protocol import dictionary, domains
from sync_protocol.bundle import Frame, FrameType, write_bundle
from sync_protocol.content import Questionnaire, cut, decode_content, encode_content
from sync_protocol.domains import name_of
from sync_protocol.envelope import HEADER_BYTES, NO_ID, Envelope, parse_envelope, seal_envelope
from sync_protocol.head import Head, sign_head
from sync_protocol.identity import (
    Role,
    Standing,
    certify_device,
    certify_key,
    device_name,
    publish_recipient_key,
    signer_name,
)
from sync_protocol.keys import SEALING_OVERHEAD_BYTES, RecipientPrivateKey, SigningKey
from sync_protocol.medium import certify_medium, write_medium_identity
from sync_protocol.receipt import Mark, Span, SpanStatus, sign_receipt
from sync_protocol.records import Provisioning, encode_record, sign_request
from sync_protocol.statement import Statement, Usage, sign_statement
from tests.vectors.forms import write_forms
from tests.vectors.lists import ListKeys, write_lists
from tests.vectors.mesh import write_mesh
from tests.vectors.notices import notice_numbers, write_notices

HERE = Path(__file__).parent
TIME = 1_633_000_000_000_000

Expected = dict[str, Any]


def _seed(name: str) -> bytes:
    return sha256(b"golden vector key " + name.encode()).digest()


SIGNERS = ("tablet", "point", "online", "root", "issuer", "receipts", "content", "media")
TABLET, POINT, ONLINE, ROOT, ISSUER, RECEIPTS, CONTENT, MEDIA = (SigningKey(_seed(name)) for name in SIGNERS)
CENTER = RecipientPrivateKey(_seed("center"))
ORIGIN = device_name(TABLET.public_bytes)
MEDIUM = sha256(b"golden vector medium").digest()[:16]

HOUSEHOLD = (
    b'{"questionnaire":{"region":3,"district":12,"household":7},"housing":{"h01_type":1,"h05_rooms":3},'
    b'"persons":[{"line":1,"sex":2,"age":41},{"line":2,"sex":1,"age":44},{"line":3,"sex":1,"age":9}]}'
)
XFORM = ('<?xml version="1.0"?><data id="household" version="3"><name>Әсем Қалиева</name><age>36</age></data>').encode()
PATTERNLESS = b"".join(sha256(bytes((number,))).digest() for number in range(10))
LONG = b'{"photograph":"' + b"".join(b"%07d," % (number % 500) for number in range(23_100)) + b'"}'


class Writer:
    """Collects vectors: one file each, and the index."""

    def __init__(self, *, anew: bool = True) -> None:
        self.valid: dict[str, Expected] = {}
        self.malformed: dict[str, Expected] = {}
        if not anew:
            index = json.loads((HERE / "index.json").read_text(encoding="utf-8"))
            self.valid = {one["name"]: one for one in index["valid"]}
            self.malformed = {one["name"]: one for one in index["malformed"]}
            return
        for folder in ("valid", "malformed"):
            shutil.rmtree(HERE / folder, ignore_errors=True)
            (HERE / folder).mkdir()

    def accept(self, name: str, reader: str, data: bytes, **expected: object) -> None:
        self.valid[name] = self._write("valid", name, reader, data) | {"expect": expected}

    def refuse(self, name: str, reader: str, data: bytes, fault: str) -> None:
        self.malformed[name] = self._write("malformed", name, reader, data) | {"fault": fault}

    def salvage(self, name: str, data: bytes, **expected: object) -> None:
        self.malformed[name] = self._write("malformed", name, "bundle", data) | {"expect": expected}

    @staticmethod
    def _write(folder: str, name: str, reader: str, data: bytes) -> Expected:
        path = f"{folder}/{name}.bin"
        (HERE / path).write_bytes(data)
        return {"name": name, "file": path, "reader": reader}

    def close(self) -> None:
        signers = {
            name: {"seed": _seed(name).hex(), "public_key": SigningKey(_seed(name)).public_bytes.hex()}
            for name in SIGNERS
        }
        for name, key in signers.items():
            naming = device_name if name in {"tablet", "point", "online"} else signer_name
            key["name"] = naming(bytes.fromhex(key["public_key"])).hex()
        center = {
            "seed": _seed("center").hex(),
            "public_key": CENTER.public_key.public_bytes.hex(),
            "name": CENTER.name.hex(),
        }
        index = {
            "dictionary": "dictionary.bin",
            "signers": signers,
            "recipient": center,
            "valid": list(self.valid.values()),
            "malformed": list(self.malformed.values()),
            "notice_numbers": notice_numbers(),
        }
        (HERE / "dictionary.bin").write_bytes(dictionary.CURRENT)
        text = json.dumps(index, indent=1, ensure_ascii=False)
        (HERE / "index.json").write_text(text + "\n", encoding="utf-8")


def _questionnaire(body: bytes, media_type: str = "application/json", instance_id: str = "uuid:1") -> Questionnaire:
    return Questionnaire("household", "3", instance_id, media_type, TIME, body)


def _only_part(body: bytes, **changes: str) -> bytes:
    ((metadata, part),) = cut(_questionnaire(body, **changes))
    return encode_content(metadata, part)


def _seal(content: bytes, sequence: int, previous_id: bytes, epoch: int = 1) -> Envelope:
    return seal_envelope(
        content,
        recipient=CENTER.public_key,
        signer=TABLET,
        origin=ORIGIN,
        epoch=epoch,
        sequence=sequence,
        previous_id=previous_id,
    )


def _content(
    body: bytes = HOUSEHOLD,
    *,
    coded: bytes | None = None,
    coding: int = 0,
    version: int = 1,
    named: bytes = bytes(8),
    body_bytes: int | None = None,
    metadata: bytes | None = None,
    pad: bytes | None = None,
    **members: object,
) -> bytes:
    """Lay out content by hand, so that every field can be wrong."""
    coded = body if coded is None else coded
    if metadata is None:
        described = {
            "form": "household",
            "form_version": "3",
            "instance_id": "uuid:1",
            "media_type": "application/json",
            "created_at": TIME,
            "part": 1,
            "parts": 1,
            "whole_bytes": len(body),
            "whole_digest": sha256(body).hexdigest(),
        }
        metadata = json.dumps(described | members).encode()
    length = len(body) if body_bytes is None else body_bytes
    content = struct.pack(">BBHII8s", version, coding, len(metadata), len(coded), length, named) + metadata + coded
    return content + (bytes(-len(content) % 1024) if pad is None else pad)


def _deflate(body: bytes, preset: bytes = b"") -> bytes:
    compressor = (
        zlib.compressobj(9, zlib.DEFLATED, -15, zdict=preset) if preset else zlib.compressobj(9, zlib.DEFLATED, -15)
    )
    return compressor.compress(body) + compressor.flush()


def _resigned(envelope: Envelope, changes: dict[int, bytes], *, sealed_anew: bool = True) -> bytes:
    """Change header bytes by offset, seal to the changed header unless told otherwise, and sign."""
    header = bytearray(envelope.data[:HEADER_BYTES])
    for offset, value in changes.items():
        header[offset : offset + len(value)] = value
    ciphertext = envelope.data[HEADER_BYTES:-64]
    if sealed_anew:
        ciphertext = CENTER.public_key.encrypt(envelope.open(CENTER), domains.ENVELOPE + bytes(header))
    unsigned = bytes(header) + ciphertext
    return unsigned + TABLET.sign(domains.ENVELOPE + unsigned)


def _envelope_fields(envelope: Envelope) -> Expected:
    return {
        "id": envelope.id.hex(),
        "version": envelope.version,
        "suite": envelope.suite,
        "kind": envelope.kind,
        "recipient": envelope.recipient.hex(),
        "origin": envelope.origin.hex(),
        "epoch": envelope.epoch,
        "sequence": envelope.sequence,
        "previous_id": envelope.previous_id.hex(),
    }


def _opened(envelope: Envelope) -> Expected:
    content = envelope.open(CENTER)
    metadata, body = decode_content(content)
    return _envelope_fields(envelope) | {
        "coding": content[1],
        "content_bytes": len(content),
        "metadata": msgspec.to_builtins(metadata),
        "body_bytes": len(body),
        "body_sha256": sha256(body).hexdigest(),
    }


def write_envelopes(writer: Writer) -> list[Envelope]:
    """Write one chain with every coding, and its neighbours that are refused; return the chain."""
    parts = [encode_content(metadata, part) for metadata, part in cut(_questionnaire(LONG, instance_id="uuid:2"))]
    contents = {
        "envelope_first_link_dictionary": _only_part(HOUSEHOLD),
        "envelope_second_link_as_is": _only_part(PATTERNLESS),
        "envelope_deflate_without_dictionary": _content(coded=_deflate(HOUSEHOLD), coding=1),
        "envelope_xml_not_ascii": _only_part(XFORM, media_type="text/xml", instance_id="uuid:Үй-7"),
        "envelope_empty_body": _only_part(b""),
        "envelope_part_1_of_2": parts[0],
        "envelope_part_2_of_2": parts[1],
    }
    chain: list[Envelope] = []
    for name, content in contents.items():
        chain.append(_seal(content, len(chain) + 1, chain[-1].id if chain else NO_ID))
        writer.accept(name, "envelope", chain[-1].data, **_opened(chain[-1]))
    other = _seal(_only_part(HOUSEHOLD), 1, NO_ID, epoch=2)
    writer.accept("envelope_first_of_epoch_2", "envelope", other.data, **_opened(other))
    for name, changes, fault in (
        ("envelope_of_version_2", {4: b"\2"}, "unknown_version"),
        ("envelope_of_suite_9", {5: b"\x09"}, "unknown_suite"),
        ("envelope_of_kind_7", {6: b"\7"}, "unknown_kind"),
        ("envelope_of_version_2_using_reserved_bytes", {4: b"\2", 7: b"\xff", 88: b"reserved"}, "unknown_version"),
    ):
        data = _resigned(chain[1], changes)
        writer.accept(name, "envelope_unopenable", data, fault=fault, **_envelope_fields(parse_envelope(data)))
    return chain


def refuse_envelopes(writer: Writer, chain: list[Envelope]) -> None:
    first, second = chain[0], chain[1]
    whole = second.data
    for name, data, fault in (
        ("envelope_empty", b"", "truncated"),
        ("envelope_cut_in_header", whole[:95], "truncated"),
        ("envelope_without_signature", whole[:-64], "truncated"),
        ("envelope_cut_by_one_byte", whole[:-1], "truncated"),
        ("envelope_with_trailing_byte", whole + b"\0", "trailing_bytes"),
        ("envelope_bad_magic", b"CNSF" + whole[4:], "bad_magic"),
        ("envelope_length_lies_high", whole[:84] + b"\xff\xff\xff\xff" + whole[88:], "truncated"),
        ("envelope_length_lies_low", whole[:84] + bytes(4) + whole[88:], "trailing_bytes"),
        ("envelope_epoch_0", _resigned(second, {40: bytes(4)}), "bad_field"),
        ("envelope_sequence_0", _resigned(second, {44: bytes(8)}), "bad_field"),
        ("envelope_sequence_1_with_previous", _resigned(second, {44: bytes(7) + b"\1"}), "bad_field"),
        ("envelope_sequence_2_without_previous", _resigned(second, {52: bytes(32)}), "bad_field"),
        ("envelope_reserved_byte_7", _resigned(second, {7: b"\1"}), "bad_field"),
        ("envelope_reserved_bytes_88", _resigned(second, {95: b"\1"}), "bad_field"),
        ("envelope_to_another_recipient", _resigned(second, {8: bytes(16)}), "wrong_recipient"),
        ("envelope_signed_by_another", whole[:-64] + POINT.sign(domains.ENVELOPE + whole[:-64]), "bad_signature"),
        ("envelope_signed_in_head_domain", whole[:-64] + TABLET.sign(domains.HEAD + whole[:-64]), "bad_signature"),
        ("envelope_spliced_sequence", _resigned(second, {44: bytes(7) + b"\3"}, sealed_anew=False), "undecryptable"),
        ("envelope_spliced_previous", _resigned(second, {52: b"\1"}, sealed_anew=False), "undecryptable"),
        ("envelope_spliced_epoch", _resigned(second, {43: b"\2"}, sealed_anew=False), "undecryptable"),
        ("envelope_spliced_origin", _resigned(first, {24: bytes(16)}, sealed_anew=False), "undecryptable"),
    ):
        writer.refuse(name, "envelope", data, fault)
    short = struct.pack(">4sBBBB16s16sIQ32sI8s", b"CNSE", 1, 1, 1, 0, CENTER.name, ORIGIN, 1, 1, NO_ID, 5, bytes(8))
    short += b"short"
    assert len(b"short") < SEALING_OVERHEAD_BYTES
    writer.refuse(
        "envelope_ciphertext_too_short", "envelope", short + TABLET.sign(domains.ENVELOPE + short), "undecryptable"
    )


def refuse_contents(writer: Writer) -> None:
    preset, named = dictionary.CURRENT, dictionary.CURRENT_ID
    bomb, good = _deflate(bytes(5_000_000)), _deflate(HOUSEHOLD)
    deep = b'{"x":' + b"[" * 1500 + b"]" * 1500 + b"}"
    for name, content, fault in (
        ("content_empty", b"", "truncated"),
        ("content_cut_in_prefix", _content()[:19], "truncated"),
        ("content_version_2", _content(version=2), "unknown_version"),
        ("content_coding_3", _content(coding=3), "bad_field"),
        ("content_cut_by_a_bucket", _content(bytes(2000))[:-1024], "truncated"),
        ("content_metadata_too_large", _content(metadata=b" " * 4097), "oversized"),
        ("content_body_too_large", _content(coded=good, coding=1, body_bytes=184_321), "oversized"),
        ("content_padding_not_zero", _content()[:-1] + b"\1", "bad_content"),
        ("content_without_padding", _content(pad=b""), "bad_content"),
        ("content_with_a_bucket_too_many", _content() + bytes(1024), "bad_content"),
        ("content_bomb_declared_small", _content(coded=bomb, coding=1), "bad_content"),
        ("content_bomb_in_dictionary_declared_small", _content(coded=bomb, coding=2, named=named), "bad_content"),
        (
            "content_bomb_declared_largest",
            _content(bytes(184_320), coded=bomb, coding=1),
            "bad_content",
        ),
        ("content_body_longer_than_announced", _content(HOUSEHOLD[:-1], coded=good, coding=1), "bad_content"),
        ("content_body_shorter_than_announced", _content(HOUSEHOLD + b" ", coded=good, coding=1), "bad_content"),
        ("content_deflate_cut", _content(coded=good[:-1], coding=1), "bad_content"),
        ("content_deflate_then_bytes", _content(coded=good + b"\1", coding=1), "bad_content"),
        ("content_deflate_broken", _content(coded=b"\xff" * 20, coding=1), "bad_content"),
        (
            "content_dictionary_unknown",
            _content(coded=_deflate(HOUSEHOLD, preset), coding=2, named=b"nothing!"),
            "unknown_dictionary",
        ),
        ("content_dictionary_named_but_not_used", _content(coded=good, coding=1, named=named), "bad_field"),
        ("content_as_is_shorter_than_announced", _content(HOUSEHOLD, coded=HOUSEHOLD[:-1]), "bad_content"),
        ("content_metadata_not_json", _content(metadata=b"{"), "bad_content"),
        ("content_metadata_not_utf8", _content(form="X").replace(b'"X"', b'"\xff"'), "bad_content"),
        ("content_metadata_lone_surrogate", _content(form="\ud800"), "bad_content"),
        ("content_metadata_deep", _content(metadata=deep), "bad_content"),
        ("content_metadata_not_a_number", _content(created_at=float("nan")), "bad_content"),
        ("content_metadata_huge_number", _content(created_at=10**1000), "bad_field"),
        ("content_metadata_member_missing", _content(metadata=b'{"form":"x"}'), "bad_content"),
        ("content_created_before_1970", _content(created_at=-1), "bad_field"),
        ("content_instance_id_empty", _content(instance_id=""), "bad_field"),
        ("content_form_too_long", _content(form="x" * 251), "bad_field"),
        ("content_form_not_printable", _content(form="a\nb"), "bad_field"),
        ("content_media_type_unknown", _content(media_type="text/html"), "bad_field"),
        ("content_part_0", _content(part=0), "bad_field"),
        ("content_part_after_parts", _content(part=2), "bad_field"),
        ("content_parts_too_many", _content(parts=58), "bad_field"),
        ("content_parts_do_not_fit_whole_bytes", _content(parts=2), "bad_field"),
        ("content_whole_bytes_not_the_body", _content(whole_bytes=len(HOUSEHOLD) + 1), "bad_content"),
        ("content_whole_bytes_negative", _content(whole_bytes=-1), "bad_field"),
        ("content_digest_of_other_bytes", _content(whole_digest=sha256(b"").hexdigest()), "bad_content"),
        ("content_digest_in_capitals", _content(whole_digest=sha256(HOUSEHOLD).hexdigest().upper()), "bad_field"),
    ):
        writer.refuse(name, "content", content, fault)


def write_heads(writer: Writer, chain: list[Envelope]) -> list[Head]:
    last = chain[-1]
    heads = {
        "head_of_an_empty_chain": sign_head(
            TABLET, origin=ORIGIN, epoch=3, sequence=0, last_id=NO_ID, receipt_serial=0, stated_at=0
        ),
        "head": sign_head(
            TABLET, origin=ORIGIN, epoch=1, sequence=last.sequence, last_id=last.id, receipt_serial=12, stated_at=TIME
        ),
    }
    for name, head in heads.items():
        expected = {key: value for key, value in asdict(head).items() if key != "data"}
        expected |= {"origin": head.origin.hex(), "last_id": head.last_id.hex()}
        writer.accept(name, "head", head.data, **expected)
    whole = heads["head"].data

    def changed(offset: int, value: bytes) -> bytes:
        unsigned = whole[:offset] + value + whole[offset + len(value) : -64]
        return unsigned + TABLET.sign(domains.HEAD + unsigned)

    for name, data, fault in (
        ("head_cut", whole[:-1], "truncated"),
        ("head_with_trailing_byte", whole + b"\0", "trailing_bytes"),
        ("head_bad_magic", changed(0, b"CNSE"), "bad_magic"),
        ("head_version_2", changed(4, b"\2"), "unknown_version"),
        ("head_reserved_byte", changed(7, b"\1"), "bad_field"),
        ("head_epoch_0", changed(24, bytes(4)), "bad_field"),
        ("head_sequence_without_id", changed(36, bytes(32)), "bad_field"),
        ("head_id_without_sequence", changed(28, bytes(8)), "bad_field"),
        ("head_signed_by_another", whole[:-64] + POINT.sign(domains.HEAD + whole[:-64]), "bad_signature"),
        ("head_signed_as_statement", whole[:-64] + TABLET.sign(domains.STATEMENT + whole[:-64]), "bad_signature"),
    ):
        writer.refuse(name, "head", data, fault)
    return list(heads.values())


def _statement_fields(statement: Statement) -> Expected:
    return {
        "kind": statement.kind,
        "signer": statement.signer.hex(),
        "subject": statement.subject.hex(),
        "serial": statement.serial,
        "body_sha256": sha256(statement.body).hexdigest(),
    }


def write_identity(writer: Writer) -> list[Statement]:
    """Write one statement of each kind but receipts; return those that make a trust, in order."""
    trust = [
        certify_key(ROOT, public_key=key.public_bytes, usage=usage, serial=1)
        for key, usage in (
            (ISSUER, Usage.CERTIFICATES),
            (RECEIPTS, Usage.RECEIPTS),
            (CONTENT, Usage.CONTENT | Usage.RECEIPTS),
        )
    ]
    for name, statement, usage in zip(("certificates", "receipts", "content"), trust, (1, 2, 6), strict=True):
        writer.accept(f"key_for_{name}", "key_certificate", statement.data, usage=usage, **_statement_fields(statement))
    withdrawn = certify_key(ROOT, public_key=CONTENT.public_bytes, usage=Usage.NONE, serial=2)
    writer.accept("key_withdrawn", "key_certificate", withdrawn.data, usage=0, **_statement_fields(withdrawn))
    recipient = publish_recipient_key(ISSUER, public_key=CENTER.public_key.public_bytes, serial=1)
    writer.accept("recipient_key", "recipient_key", recipient.data, **_statement_fields(recipient))
    devices: list[Statement] = []
    for key, role, standing, name, serial in (
        (TABLET, Role.TABLET, Standing.ACTIVE, "tablet 17", 1),
        (POINT, Role.COLLECTION_POINT, Standing.REVOKED, "Петропавл — ноутбук № 3", 4),
        (ONLINE, Role.ONLINE, Standing.ACTIVE, "sanaq web 1", 1),
    ):
        device = certify_device(
            ISSUER,
            public_key=key.public_bytes,
            role=role,
            standing=standing,
            issued_at=TIME,
            name=name,
            serial=serial,
        )
        if role is not Role.ONLINE:  # the frozen provisioning and bundles are older
            devices.append(device)
        writer.accept(
            f"device_{role.name.lower()}",
            "device_certificate",
            device.data,
            public_key=key.public_bytes.hex(),
            role=role.value,
            standing=standing.value,
            issued_at=TIME,
            device_name=name,
            **_statement_fields(device),
        )
    for kind, signer in ((17, ISSUER), (40, CONTENT)):
        reserved = sign_statement(signer, kind=kind, subject=bytes(range(16)), serial=9, body=b"of a later version")
        writer.accept(f"statement_of_reserved_kind_{kind}", "statement", reserved.data, **_statement_fields(reserved))
    return [*trust, recipient, *devices]


def _raw_statement(signer: SigningKey, kind: int, subject: bytes, body: bytes, **wrong: bytes | int) -> bytes:
    unsigned = (
        struct.pack(
            ">4sBB2s16s16sQI",
            wrong.get("magic", b"CNSS"),
            wrong.get("version", 1),
            kind,
            wrong.get("zeros", bytes(2)),
            signer_name(signer.public_bytes),
            subject,
            wrong.get("serial", 1),
            wrong.get("length", len(body)),
        )
        + body
    )
    domain = wrong.get("domain", domains.STATEMENT)
    assert isinstance(domain, bytes)
    return unsigned + signer.sign(domain + unsigned)


def refuse_identity(writer: Writer) -> None:
    issuer, tablet = signer_name(ISSUER.public_bytes), TABLET.public_bytes
    good = struct.pack(">B3s32s", 1, bytes(3), ISSUER.public_bytes)
    device = struct.pack(">32sBB2sQB", tablet, 1, 1, bytes(2), TIME, 2)
    weak = bytes((1, *bytes(31)))
    for name, data, fault in (
        ("statement_cut_in_prefix", _raw_statement(ROOT, 3, issuer, good)[:115], "truncated"),
        ("statement_cut_by_one_byte", _raw_statement(ROOT, 3, issuer, good)[:-1], "truncated"),
        ("statement_with_trailing_byte", _raw_statement(ROOT, 3, issuer, good) + b"\0", "trailing_bytes"),
        ("statement_length_lies", _raw_statement(ROOT, 3, issuer, good, length=0xFFFFFFFF), "oversized"),
        ("statement_bad_magic", _raw_statement(ROOT, 3, issuer, good, magic=b"CNSH"), "bad_magic"),
        ("statement_version_2", _raw_statement(ROOT, 3, issuer, good, version=2), "unknown_version"),
        ("statement_kind_0", _raw_statement(ROOT, 0, issuer, good), "unknown_kind"),
        ("statement_kind_64", _raw_statement(ROOT, 64, issuer, good), "unknown_kind"),
        ("statement_reserved_bytes", _raw_statement(ROOT, 3, issuer, good, zeros=b"\0\1"), "bad_field"),
        ("statement_serial_0", _raw_statement(ROOT, 3, issuer, good, serial=0), "bad_field"),
        ("key_by_issuer", _raw_statement(ISSUER, 3, issuer, good), "untrusted_signer"),
        ("key_in_head_domain", _raw_statement(ROOT, 3, issuer, good, domain=domains.HEAD), "bad_signature"),
        ("key_subject_is_another", _raw_statement(ROOT, 3, bytes(16), good), "bad_field"),
        ("key_usage_unknown", _raw_statement(ROOT, 3, issuer, b"\x10" + good[1:]), "bad_field"),
        ("key_reserved_bytes", _raw_statement(ROOT, 3, issuer, b"\1\0\0\1" + good[4:]), "bad_field"),
        ("key_body_too_long", _raw_statement(ROOT, 3, issuer, good + b"\0"), "bad_field"),
        (
            "key_of_small_order",
            _raw_statement(ROOT, 3, name_of(domains.SIGNER, weak), struct.pack(">B3s32s", 1, bytes(3), weak)),
            "bad_field",
        ),
    ):
        writer.refuse(name, "key_certificate", data, fault)
    for name, body, fault in (
        ("device_cut", device[:-1], "truncated"),
        ("device_name_missing", device, "bad_field"),
        ("device_name_longer_than_announced", device + b"abc", "bad_field"),
        ("device_name_not_utf8", device + b"\xff\xff", "bad_field"),
        ("device_name_not_printable", device + b"a\n", "bad_field"),
        ("device_name_empty", device[:-1] + b"\0", "bad_field"),
        ("device_role_unknown", device[:32] + b"\4" + device[33:] + b"ab", "bad_field"),
        ("device_standing_unknown", device[:33] + b"\0" + device[34:] + b"ab", "bad_field"),
        ("device_reserved_bytes", device[:34] + b"\1" + device[35:] + b"ab", "bad_field"),
        ("device_key_is_another", POINT.public_bytes + device[32:] + b"ab", "bad_field"),
    ):
        writer.refuse(name, "device_certificate", _raw_statement(ISSUER, 2, ORIGIN, body), fault)
    writer.refuse(
        "device_key_of_small_order",
        "device_certificate",
        _raw_statement(ISSUER, 2, device_name(weak), weak + device[32:] + b"ab"),
        "bad_field",
    )
    writer.refuse(
        "device_by_receipt_key",
        "device_certificate",
        _raw_statement(RECEIPTS, 2, ORIGIN, device + b"ab"),
        "untrusted_signer",
    )
    public = CENTER.public_key.public_bytes
    for name, body in (
        ("recipient_key_cut", public[:-1]),
        ("recipient_key_of_another_subject", RecipientPrivateKey(bytes(32)).public_key.public_bytes),
        ("recipient_key_lattice_coefficients_too_large", b"\xff" * 1184 + public[1184:]),
        ("recipient_key_curve_point_of_small_order", public[:1184] + bytes(32)),
    ):
        subject = CENTER.name if "subject" in name else name_of(domains.RECIPIENT, body)
        writer.refuse(name, "recipient_key", _raw_statement(ISSUER, 4, subject, body), "bad_field")


def write_media(writer: Writer) -> None:
    """Write certificates of media by the authority and by a collection point, and the files that bring them."""
    delegation = certify_key(ROOT, public_key=MEDIA.public_bytes, usage=Usage.MEDIA, serial=1)
    writer.accept("key_for_media", "key_certificate", delegation.data, usage=8, **_statement_fields(delegation))
    issuer = certify_key(ROOT, public_key=ISSUER.public_bytes, usage=Usage.CERTIFICATES, serial=1)
    certificates: dict[str, Statement] = {}
    for name, signer, number, holder, standing, expires_at, serial in (
        ("medium", ISSUER, "СКО-0017", "Ахметова А. С.", Standing.ACTIVE, 0, 1 << 32),
        ("medium_lost", ISSUER, "x" * 64, "y" * 64, Standing.LOST, TIME + 1, (1 << 64) - 1),
        ("medium_by_collection_point", MEDIA, "7", "Иванов", Standing.ACTIVE, (1 << 64) - 1, (1 << 32) - 1),
    ):
        certificate = certify_medium(
            signer,
            medium=MEDIUM,
            number=number,
            holder=holder,
            standing=standing,
            issued_at=TIME,
            expires_at=expires_at,
            serial=serial,
        )
        certificates[name] = certificate
        writer.accept(
            name,
            "medium_certificate",
            certificate.data,
            number=number,
            holder=holder,
            standing=standing.value,
            issued_at=TIME,
            expires_at=expires_at,
            **_statement_fields(certificate),
        )
    whole = write_medium_identity([issuer], certificates["medium"])
    delegated = write_medium_identity([delegation], certificates["medium_by_collection_point"])
    beside = write_bundle(
        Frame(kind, data)
        for kind, data in (
            (FrameType.HEAD, b"of another reader"),
            (FrameType.STATEMENT, delegation.data),
            (FrameType.STATEMENT, b"damaged"),
            (FrameType.STATEMENT, certificates["medium_by_collection_point"].data),
        )
    )
    for name, data, key, certificate in (
        ("medium_identity", whole, issuer, certificates["medium"]),
        ("medium_identity_by_collection_point", delegated, delegation, certificates["medium_by_collection_point"]),
        ("medium_identity_with_more", beside, delegation, certificates["medium_by_collection_point"]),
        ("medium_identity_without_end", whole[:-1], issuer, certificates["medium"]),
    ):
        named = sha256(certificate.data).hexdigest()
        writer.accept(name, "medium_identity", data, keys=[sha256(key.data).hexdigest()], certificate=named)
    two = [Frame(FrameType.STATEMENT, certificates[name].data) for name in ("medium", "medium_lost")]
    for name, data, fault in (
        ("medium_identity_empty", b"", "bad_content"),
        ("medium_identity_without_certificate", write_bundle([Frame(FrameType.STATEMENT, issuer.data)]), "bad_content"),
        ("medium_identity_with_two_certificates", write_bundle(two), "bad_content"),
        ("medium_identity_too_large", whole + bytes(65_537 - len(whole)), "oversized"),
    ):
        writer.refuse(name, "medium_identity", data, fault)


def refuse_media(writer: Writer) -> None:
    prefix = struct.pack(">B3sQQ", 1, bytes(3), TIME, 0)
    good = prefix + b"\x01n\x01h"
    for name, body, fault in (
        ("medium_cut_in_prefix", prefix[:-1], "truncated"),
        ("medium_without_texts", prefix, "truncated"),
        ("medium_cut_in_number", prefix + b"\x02n", "truncated"),
        ("medium_without_holder", prefix + b"\x01n", "truncated"),
        ("medium_cut_in_holder", good[:-1], "truncated"),
        ("medium_with_trailing_byte", good + b"\0", "trailing_bytes"),
        ("medium_standing_0", b"\0" + good[1:], "bad_field"),
        ("medium_standing_5", b"\5" + good[1:], "bad_field"),
        ("medium_reserved_bytes", good[:3] + b"\1" + good[4:], "bad_field"),
        ("medium_number_empty", prefix + b"\x00\x01h", "bad_field"),
        ("medium_holder_empty", prefix + b"\x01n\x00", "bad_field"),
        ("medium_number_too_long", prefix + b"\x41" + b"n" * 65 + b"\x01h", "bad_field"),
        ("medium_holder_too_long", prefix + b"\x01n\x41" + b"h" * 65, "bad_field"),
        ("medium_number_not_utf8", prefix + b"\x01\xff\x01h", "bad_field"),
        ("medium_holder_not_printable", prefix + b"\x01n\x02h\n", "bad_field"),
        ("medium_holder_turns_direction", prefix + b"\x01n\x03" + "\u202e".encode(), "bad_field"),
    ):
        writer.refuse(name, "medium_certificate", _raw_statement(ISSUER, 5, MEDIUM, body), fault)
    for name, data, fault in (
        ("medium_without_name", _raw_statement(ISSUER, 5, bytes(16), good), "bad_field"),
        ("medium_by_receipt_key", _raw_statement(RECEIPTS, 5, MEDIUM, good), "untrusted_signer"),
        ("medium_by_root", _raw_statement(ROOT, 5, MEDIUM, good), "untrusted_signer"),
        (
            "medium_by_collection_point_with_serial_of_authority",
            _raw_statement(MEDIA, 5, MEDIUM, good, serial=1 << 32),
            "untrusted_signer",
        ),
    ):
        writer.refuse(name, "medium_certificate", data, fault)
    device = struct.pack(">32sBB2sQB", TABLET.public_bytes, 1, 1, bytes(2), TIME, 2) + b"ab"
    writer.refuse(
        "device_by_media_key", "device_certificate", _raw_statement(MEDIA, 2, ORIGIN, device), "untrusted_signer"
    )


def write_receipts(writer: Writer, chain: list[Envelope]) -> list[Statement]:
    spans = (
        Span(1, 1, chain[2].id, SpanStatus.COMMITTED, (Mark(1, TIME), Mark(2, TIME + 5_000_000))),
        Span(1, 4, chain[3].id, SpanStatus.HELD, (Mark(1, TIME + 6_000_000),)),
        Span(1, 6, chain[6].id, SpanStatus.COMMITTED, (Mark(2, TIME + 7_000_000),)),
        Span(2, 1, sha256(b"of epoch 2").digest(), SpanStatus.COMMITTED, (Mark(1_000_000, 0), Mark(1, (1 << 64) - 1))),
    )
    receipts = {
        "receipt_of_nothing": sign_receipt(RECEIPTS, origin=ORIGIN, serial=1, watermark=0, spans=()),
        "receipt": sign_receipt(RECEIPTS, origin=ORIGIN, serial=12, watermark=TIME + 1, spans=spans),
    }
    for (name, receipt), named in zip(receipts.items(), ((), spans), strict=True):
        writer.accept(
            name,
            "receipt",
            receipt.data,
            watermark=TIME + 1 if named else 0,
            spans=[
                {
                    "epoch": span.epoch,
                    "first": span.first,
                    "last": span.last,
                    "last_id": span.last_id.hex(),
                    "status": span.status.value,
                    "marks": [[mark.count, mark.committed_at] for mark in span.marks],
                }
                for span in named
            ],
            **_statement_fields(receipt),
        )
    span, mark = struct.Struct(">IQ32sBH"), struct.Struct(">IQ")
    last_id, one = bytes(range(32)), mark.pack(1, TIME)

    def body(*parts: bytes, spans: int = 1) -> bytes:
        return struct.pack(">QH", 0, spans) + b"".join(parts)

    good = span.pack(1, 1, last_id, 1, 1) + one
    for name, data, fault in (
        ("receipt_cut_in_prefix", bytes(9), "truncated"),
        ("receipt_cut_in_span", body(good[:46]), "truncated"),
        ("receipt_cut_in_marks", body(good[:-1]), "truncated"),
        ("receipt_with_trailing_byte", body(good, b"\0"), "trailing_bytes"),
        ("receipt_spans_lie_low", body(good, good), "trailing_bytes"),
        ("receipt_spans_lie_high", body(good, spans=2), "truncated"),
        ("receipt_too_many_spans", body(good, spans=2001), "oversized"),
        ("receipt_epoch_0", body(span.pack(0, 1, last_id, 1, 1), one), "bad_field"),
        ("receipt_first_0", body(span.pack(1, 0, last_id, 1, 1), one), "bad_field"),
        ("receipt_status_0", body(span.pack(1, 1, last_id, 0, 1), one), "bad_field"),
        ("receipt_status_3", body(span.pack(1, 1, last_id, 3, 1), one), "bad_field"),
        ("receipt_span_without_mark", body(span.pack(1, 1, last_id, 1, 0)), "bad_field"),
        ("receipt_mark_of_none", body(span.pack(1, 1, last_id, 1, 1), mark.pack(0, TIME)), "bad_field"),
        (
            "receipt_beyond_last_sequence",
            body(span.pack(1, (1 << 64) - 1, last_id, 1, 1), mark.pack(2, 0)),
            "bad_field",
        ),
        ("receipt_out_of_order", body(span.pack(1, 5, last_id, 1, 1), one, good, spans=2), "bad_field"),
    ):
        writer.refuse(name, "receipt", _raw_statement(RECEIPTS, 1, ORIGIN, data), fault)
    writer.refuse("receipt_by_issuer", "receipt", _raw_statement(ISSUER, 1, ORIGIN, body(good)), "untrusted_signer")
    writer.refuse("receipt_by_a_stranger", "receipt", _raw_statement(POINT, 1, ORIGIN, body(good)), "untrusted_signer")
    writer.refuse(
        "receipt_as_envelope_domain",
        "receipt",
        _raw_statement(RECEIPTS, 1, ORIGIN, body(good), domain=domains.ENVELOPE),
        "bad_signature",
    )
    return list(receipts.values())


def _frame(kind: int, payload: bytes, zeros: bytes = bytes(3)) -> bytes:
    head = struct.pack(">4sB3sI", b"\xc5\x9a\x46\x0d", kind, zeros, len(payload))
    digest = sha256(bytes((kind,)) + payload).digest()[:16]
    return head + struct.pack(">I", zlib.crc32(head)) + payload + digest


def write_bundles(writer: Writer, statements: list[Statement], heads: list[Head], chain: list[Envelope]) -> None:
    frames = [
        *(Frame(FrameType.STATEMENT, statement.data) for statement in statements),
        *(Frame(FrameType.HEAD, head.data) for head in heads),
        *(Frame(FrameType.ENVELOPE, envelope.data) for envelope in chain[:3]),
    ]

    def listed(*some: Frame) -> list[list[object]]:
        return [[frame.type.value, sha256(frame.payload).hexdigest()] for frame in some]

    writer.accept("bundle", "bundle", write_bundle(frames), frames=listed(*frames))
    writer.accept("bundle_of_nothing", "bundle", write_bundle(()), frames=[])
    few = [Frame(FrameType.HEAD, head.data) for head in heads]
    whole = write_bundle(few)
    first, second = (_frame(2, frame.payload) for frame in few)
    header, end = whole[:8], whole[8 + len(first) + len(second) :]
    both = listed(*few)
    unknown = _frame(9, b"of a later version")
    flipped = bytearray(first)
    flipped[40] ^= 1
    in_middle = len(header) + len(first)
    at_end = in_middle + len(second)
    passed_end = [at_end, len(end)]
    twice = [passed_end, [len(whole), 8], [len(whole) + at_end, len(end)]]
    for name, data, found, skipped, complete in (
        ("bundle_empty", b"", [], [[0, 0]], False),
        ("bundle_header_damaged", b"CNSX" + whole[4:], both, [[0, 8]], True),
        ("bundle_header_missing", whole[8:], both, [[0, 0]], True),
        ("bundle_end_missing", whole[: -len(end)], both, [], False),
        ("bundle_end_cut", whole[:-1], both, [[at_end, len(end) - 1]], False),
        (
            "bundle_first_frame_damaged",
            header + bytes(flipped) + second + end,
            both[1:],
            [[8, len(first)], passed_end],
            False,
        ),
        ("bundle_first_frame_missing", header + second + end, both[1:], [[in_middle, len(end)]], False),
        ("bundle_frames_exchanged", header + second + first + end, both[::-1], [passed_end], False),
        ("bundle_bytes_after_end", whole + b"more", both, [[len(whole), 4]], True),
        ("bundle_frame_after_end", whole + first, [*both, both[0]], [passed_end], False),
        ("bundle_twice_in_one_file", whole + whole, both + both, twice, False),
        ("bundle_frame_of_unknown_type", header + unknown + first, both[:1], [[8, len(unknown)]], False),
        ("bundle_frame_with_bits_in_zeros", header + _frame(2, b"x", b"\0\0\1"), [], [[8, 33]], False),
        ("bundle_bytes_between_frames", header + first + b"noise" + second + end, both, [[in_middle, 5]], True),
    ):
        writer.salvage(name, data, frames=found, skipped=skipped, complete=complete)


def write_records(writer: Writer, statements: list[Statement]) -> None:
    request = sign_request(
        TABLET,
        name="планшет 17",
        role=Role.TABLET,
        tls_request="-----BEGIN CERTIFICATE REQUEST-----\nnot read here\n-----END CERTIFICATE REQUEST-----\n",
    )
    data = encode_record(request)
    writer.accept("enrolment_request", "enrolment_request", data, device=ORIGIN.hex(), role=1, device_name="планшет 17")
    provisioning = Provisioning(
        device=ORIGIN.hex(),
        root_key=ROOT.public_bytes.hex(),
        statements=[statement.data for statement in statements],
        recipient_key=CENTER.name.hex(),
        tls_certificate="-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        tls_authority="-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    )
    writer.accept(
        "provisioning",
        "provisioning",
        encode_record(provisioning),
        device=ORIGIN.hex(),
        root_key=ROOT.public_bytes.hex(),
        recipient_key=CENTER.name.hex(),
        statements=[sha256(statement.data).hexdigest() for statement in statements],
    )

    def with_members(**members: str) -> bytes:
        return encode_record(msgspec.structs.replace(request, **members))

    for name, changed, fault in (
        ("request_not_json", data[:-3], "bad_content"),
        ("request_not_utf8", data.replace("планшет".encode(), b"\xff"), "bad_content"),
        ("request_member_missing", data.replace(b'"role"', b'"rule"'), "bad_content"),
        ("request_role_unknown", with_members(role="center"), "bad_field"),
        ("request_role_in_capitals", with_members(role="TABLET"), "bad_field"),
        ("request_name_with_zero_byte", with_members(name="a\0tablet\0"), "bad_field"),
        ("request_key_with_space", with_members(signing_key=request.signing_key[:-2] + " 0"), "bad_field"),
        ("request_key_of_small_order", with_members(signing_key="01" + "00" * 31), "bad_field"),
        ("request_signature_cut", with_members(signature=request.signature[:-2]), "bad_field"),
        ("request_of_another_name", with_members(name="планшет 18"), "bad_signature"),
        ("request_of_another_role", with_members(role="collection_point"), "bad_signature"),
        ("request_with_another_tls_request", with_members(tls_request="x"), "bad_signature"),
    ):
        writer.refuse(name, "enrolment_request", changed, fault)
    writer.refuse(
        "provisioning_statement_not_base64",
        "provisioning",
        encode_record(provisioning).replace(b'"statements": [\n    "', b'"statements": [\n    "*'),
        "bad_content",
    )
    writer.refuse("provisioning_is_a_list", "provisioning", b"[]", "bad_content")


def main() -> None:
    anew = sys.argv[1:] not in (["signed"], ["lists"])
    writer = Writer(anew=anew)
    if sys.argv[1:] != ["signed"]:
        write_lists(writer, ListKeys(TABLET, CONTENT, CENTER))
    if sys.argv[1:] == ["lists"]:
        writer.close()
        return
    if anew:
        chain = write_envelopes(writer)
        refuse_envelopes(writer, chain)
        refuse_contents(writer)
        heads = write_heads(writer, chain)
    statements = write_identity(writer)
    refuse_identity(writer)
    write_media(writer)
    refuse_media(writer)
    write_mesh(writer)
    write_notices(writer, ONLINE, TABLET)
    write_forms(writer, CONTENT)
    if anew:
        receipts = write_receipts(writer, chain)
        write_bundles(writer, [*statements, *receipts], heads, chain)
        write_records(writer, statements)
    writer.close()


if __name__ == "__main__":
    main()
