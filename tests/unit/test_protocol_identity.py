"""Certificates and the trust that follows from one root key; enrolment records; topics."""

from __future__ import annotations

from itertools import permutations

import msgspec
import pytest

from sync_protocol.domains import name_of
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.identity import (
    Role,
    Standing,
    Trust,
    certify_device,
    certify_key,
    device_name,
    publish_recipient_key,
    read_device_certificate,
    read_recipient_key,
    signer_name,
)
from sync_protocol.keys import SigningKey
from sync_protocol.limits import DEVICE_NAME_BYTES_MAX
from sync_protocol.receipt import sign_receipt
from sync_protocol.records import (
    EnrolmentRequest,
    Provisioning,
    check_request,
    decode_record,
    encode_record,
    parse_name,
    sign_request,
)
from sync_protocol.statement import Statement, Usage, sign_statement
from sync_protocol.topics import carrier_of, receipts_topic, up_topic
from tests.support import protocol_examples as examples


def _learn(*certificates: Statement) -> Trust:
    trust = Trust(examples.ROOT.public_bytes)
    for certificate in certificates:
        trust = trust.learn(certificate)
    return trust


def _receipt_by(signer: SigningKey) -> Statement:
    return sign_receipt(signer, origin=examples.ORIGIN, serial=1, watermark=0, spans=())


# --- trust ---


def test_keys_learnt_in_any_order_make_the_same_trust() -> None:
    certificates = [
        examples.key_certificate(examples.ISSUER, Usage.CERTIFICATES, 1),
        examples.key_certificate(examples.RECEIPTS, Usage.RECEIPTS, 1),
        examples.key_certificate(examples.RECEIPTS, Usage.NONE, 2),
        examples.key_certificate(examples.RECEIPTS, Usage.RECEIPTS | Usage.CONTENT, 3),
        # Two of one serial, which a sound root never signs: what both grant.
        examples.key_certificate(examples.RECEIPTS, Usage.RECEIPTS | Usage.CERTIFICATES, 3),
    ]
    outcomes = {
        tuple(sorted((name, key.usage, key.serial) for name, key in _learn(*order).keys.items()))
        for order in permutations(certificates)
    }
    assert len(outcomes) == 1
    usages = {name: usage for name, usage, _ in next(iter(outcomes))}
    assert usages[signer_name(examples.RECEIPTS.public_bytes)] == Usage.RECEIPTS


def test_older_certificate_is_ignored_and_learning_again_changes_nothing() -> None:
    new = examples.key_certificate(examples.RECEIPTS, Usage.RECEIPTS, 5)
    old = examples.key_certificate(examples.RECEIPTS, Usage.RECEIPTS | Usage.CERTIFICATES, 4)
    trust = _learn(new)
    assert trust.learn(old) is trust
    assert trust.learn(new) is trust


def test_withdrawn_key_signs_nothing_any_more_even_if_its_old_certificate_comes_late() -> None:
    granted = examples.key_certificate(examples.RECEIPTS, Usage.RECEIPTS, 1)
    withdrawn = examples.key_certificate(examples.RECEIPTS, Usage.NONE, 2)
    receipt = _receipt_by(examples.RECEIPTS)
    _learn(granted).check(receipt)
    for order in ((granted, withdrawn), (withdrawn, granted)):
        with pytest.raises(ProtocolError) as refusal:
            _learn(*order).check(receipt)
        assert refusal.value.fault is Fault.UNTRUSTED_SIGNER


@pytest.mark.parametrize("kind", range(1, 64))
def test_each_kind_needs_exactly_its_usage(kind: int) -> None:
    needed = Usage.RECEIPTS if kind == 1 else Usage.CERTIFICATES if kind <= 31 else Usage.CONTENT
    if kind == 5:
        needed |= Usage.MEDIA
    statement = sign_statement(examples.RECEIPTS, kind=kind, subject=examples.ORIGIN, serial=1, body=b"")
    for usage in map(Usage, range(16)):
        trust = _learn(examples.key_certificate(examples.RECEIPTS, usage))
        if needed & usage and kind != 3:
            trust.check(statement)
            continue
        with pytest.raises(ProtocolError) as refusal:
            trust.check(statement)
        assert refusal.value.fault is Fault.UNTRUSTED_SIGNER


def test_only_the_root_certifies_keys_and_the_root_signs_nothing_else() -> None:
    every = examples.key_certificate(examples.ISSUER, Usage(15))
    trust = _learn(every)
    by_issuer = certify_key(examples.ISSUER, public_key=examples.TABLET.public_bytes, usage=Usage.RECEIPTS, serial=1)
    for statement in (by_issuer, _receipt_by(examples.ROOT), _receipt_by(examples.TABLET)):
        with pytest.raises(ProtocolError) as refusal:
            trust.check(statement)
        assert refusal.value.fault is Fault.UNTRUSTED_SIGNER


def test_trust_of_another_root_believes_nothing() -> None:
    with pytest.raises(ProtocolError) as refusal:
        Trust(examples.TABLET.public_bytes).learn(examples.key_certificate())
    assert refusal.value.fault is Fault.UNTRUSTED_SIGNER


def test_claiming_the_roots_name_does_not_help() -> None:
    genuine = examples.key_certificate()
    forged = genuine.data[:-64] + examples.TABLET.sign(b"census-sync/1 statement\0" + genuine.data[:-64])
    with pytest.raises(ProtocolError) as refusal:
        _learn(Statement(forged, 3, genuine.signer, genuine.subject, 1, genuine.body))
    assert refusal.value.fault is Fault.BAD_SIGNATURE


def test_learning_another_kind_is_refused() -> None:
    with pytest.raises(ProtocolError) as refusal:
        examples.trust().learn(examples.receipt())
    assert refusal.value.fault is Fault.UNKNOWN_KIND


# --- certificates ---


def test_name_of_a_device_vouches_for_its_key() -> None:
    certificate = read_device_certificate(examples.device_certificate())
    assert certificate.device == device_name(certificate.public_key) == examples.ORIGIN
    examples.envelope().verify(certificate.verifier)
    assert device_name(examples.ISSUER.public_bytes) != signer_name(examples.ISSUER.public_bytes)
    statement = examples.device_certificate()
    stolen = sign_statement(
        examples.ISSUER, kind=2, subject=device_name(examples.ISSUER.public_bytes), serial=1, body=statement.body
    )
    with pytest.raises(ProtocolError) as refusal:
        read_device_certificate(stolen)
    assert refusal.value.fault is Fault.BAD_FIELD


@pytest.mark.parametrize(
    "name", ["a", "планшет № 17", "Әсем — үй", "平板", "\U0001f600" * 16, "x" * DEVICE_NAME_BYTES_MAX]
)
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("standing", Standing)
def test_device_certificate_comes_back_as_it_was_signed(name: str, role: Role, standing: Standing) -> None:
    for issued_at in (0, examples.TIME, (1 << 64) - 1):
        statement = certify_device(
            examples.ISSUER,
            public_key=examples.TABLET.public_bytes,
            role=role,
            standing=standing,
            issued_at=issued_at,
            name=name,
            serial=3,
        )
        read = read_device_certificate(statement)
        assert (read.role, read.standing, read.issued_at, read.name, read.serial) == (
            role,
            standing,
            issued_at,
            name,
            3,
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * (DEVICE_NAME_BYTES_MAX + 1)},
        {"name": "я" * (DEVICE_NAME_BYTES_MAX // 2 + 1)},
        {"name": "two\nlines"},
        {"name": "\ud800"},
        {"name": "\u202egnp.exe"},
        {"public_key": bytes(31)},
        {"public_key": bytes(32)},
        {"issued_at": -1},
        {"issued_at": 1 << 64},
        {"serial": 0},
        {"role": 256},
    ],
)
def test_device_that_no_reader_would_accept_is_not_certified(wrong: dict[str, object]) -> None:
    fields: dict[str, object] = {"public_key": examples.TABLET.public_bytes, "role": Role.TABLET, "name": "tablet"}
    fields |= {"standing": Standing.ACTIVE, "issued_at": 0, "serial": 1}
    with pytest.raises(ProtocolError) as refusal:
        certify_device(examples.ISSUER, **(fields | wrong))  # type: ignore[arg-type]  # a table of wrong arguments
    assert refusal.value.fault is Fault.BAD_FIELD


@pytest.mark.parametrize("public_key", [b"", bytes(31), bytes(33), bytes(32)])
def test_unfit_key_is_not_certified(public_key: bytes) -> None:
    with pytest.raises(ProtocolError):
        certify_key(examples.ROOT, public_key=public_key, usage=Usage.RECEIPTS, serial=1)


def test_recipient_key_comes_back_and_names_itself() -> None:
    public_key = examples.CENTER.public_key.public_bytes
    statement = publish_recipient_key(examples.ISSUER, public_key=public_key, serial=1)
    assert read_recipient_key(statement).public_bytes == public_key
    assert statement.subject == name_of(b"census-sync/1 recipient\0", public_key) == examples.CENTER.name


# --- enrolment records ---


def _request(name: str = "планшет 17") -> EnrolmentRequest:
    return sign_request(examples.TABLET, name=name, role=Role.TABLET, tls_request="-----BEGIN-----\n")


def test_request_is_read_back_and_proves_its_key() -> None:
    request = decode_record(encode_record(_request()), EnrolmentRequest)
    assert check_request(request) is Role.TABLET
    assert request.device == examples.ORIGIN
    assert "планшет 17" in encode_record(request).decode()


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "планшет 18"},
        {"role": "collection_point"},
        {"tls_request": "-----BEGIN-----"},
        {"signing_key": examples.ISSUER.public_bytes.hex()},
        {"signature": "00" * 64},
    ],
)
def test_request_with_any_member_changed_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(ProtocolError) as refusal:
        check_request(msgspec.structs.replace(_request(), **changed))
    assert refusal.value.fault is Fault.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"role": "Tablet"}, "tablet, collection_point"),
        ({"role": ""}, "tablet, collection_point"),
        ({"name": "a\0tablet"}, "printable"),
        ({"name": ""}, "1 to 64"),
        ({"name": "\ud800"}, "printable"),
        ({"signing_key": "zz"}, "signing_key"),
        ({"signing_key": "AB" * 32}, "small letters"),
        ({"signature": "0 " * 64}, "signature"),
        ({"tls_request": "a\0b"}, "tls_request"),
        ({"tls_request": "\ud800"}, "tls_request"),
    ],
)
def test_request_with_an_unfit_member_is_refused_and_the_member_named(changed: dict[str, str], told: str) -> None:
    with pytest.raises(ProtocolError) as refusal:
        check_request(msgspec.structs.replace(_request(), **changed))
    assert refusal.value.fault is Fault.BAD_FIELD
    assert told in refusal.value.detail


def test_key_of_a_request_that_is_none_is_a_protocol_error_too() -> None:
    with pytest.raises(ProtocolError):
        _ = msgspec.structs.replace(_request(), signing_key="not a key").device


def test_provisioning_is_read_back() -> None:
    record = Provisioning(
        device=examples.ORIGIN.hex(),
        root_key=examples.ROOT.public_bytes.hex(),
        statements=[examples.key_certificate().data, examples.device_certificate().data],
        recipient_key=examples.CENTER.name.hex(),
        tls_certificate="",
        tls_authority="",
    )
    assert decode_record(encode_record(record), Provisioning) == record


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "EnrolmentRequest"),
        (b"{}", "name"),
        (b"[]", "object"),
        (b'{"name":5}', "$.name"),
        (b'{"name":"a"', "EnrolmentRequest"),
        (b'{"name":"\xff"}', "utf-8"),
        (b"\x80\x81", "EnrolmentRequest"),
    ],
)
def test_malformed_record_is_refused_with_what_is_wrong_and_where(data: bytes, told: str) -> None:
    with pytest.raises(ProtocolError) as refusal:
        decode_record(data, EnrolmentRequest)
    assert refusal.value.fault is Fault.BAD_CONTENT
    assert told in refusal.value.detail


# --- names and topics ---


def test_topics_name_a_device_and_are_read_back() -> None:
    assert up_topic(examples.ORIGIN) == f"census/1/up/{examples.ORIGIN.hex()}"
    assert receipts_topic(examples.ORIGIN) == f"census/1/receipts/{examples.ORIGIN.hex()}"
    assert carrier_of(up_topic(examples.ORIGIN)) == examples.ORIGIN


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "census/1/up/",
        "census/1/up",
        "census/1/up/" + "AB" * 16,
        "census/1/up/" + "ab " * 16,
        "census/1/up/" + " ab" * 16,
        "census/1/up/" + "ab" * 15,
        "census/1/up/" + "ab" * 17,
        "census/1/up/" + "ab" * 16 + "/more",
        "census/1/up/" + "٣" * 32,
        "census/1/receipts/" + "ab" * 16,
        "other/census/1/up/" + "ab" * 16,
    ],
)
def test_topic_that_is_not_exactly_a_devices_is_refused(topic: str) -> None:
    with pytest.raises(ProtocolError) as refusal:
        carrier_of(topic)
    assert refusal.value.fault is Fault.BAD_FIELD


def test_refused_name_is_quoted_only_at_its_beginning() -> None:
    with pytest.raises(ProtocolError) as refusal:
        parse_name("x" * 100_000)
    assert len(refusal.value.detail) < 200
