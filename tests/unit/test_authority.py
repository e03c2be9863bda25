"""The authority's keys: what is believed from the root on, and what rotation changes."""

from __future__ import annotations

import os

import msgspec
import pytest

from central_broker.authority import (
    AuthorityRecord,
    KeyKind,
    KeyState,
    NewSecret,
    create_authority,
    delegate_media,
    rotate_receipt_key,
    rotate_recipient_key,
    withdraw_media,
)
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.identity import Trust, read_recipient_key
from sync_protocol.keys import RecipientPrivateKey, SigningKey
from sync_protocol.receipt import sign_receipt
from sync_protocol.statement import MEDIUM_CERTIFICATE, Statement, parse_statement, sign_statement

ORIGIN = bytes(range(16))


def _key(secrets: list[NewSecret], kind: KeyKind | None) -> SigningKey:
    return SigningKey(next(secret.seed for secret in secrets if secret.kind is kind))


def _receipt(key: SigningKey) -> Statement:
    return sign_receipt(key, origin=ORIGIN, serial=1, watermark=0, spans=())


def _device_trust(record: AuthorityRecord) -> Trust:
    """What a device comes to believe that knows only the root and meets the statements."""
    trust = Trust(bytes.fromhex(record.root_key))
    for statement in record.statements():
        trust = trust.learn(statement) if statement.kind == 3 else trust
        trust.check(statement)
    return trust


def test_everything_follows_from_the_root() -> None:
    record, secrets = create_authority(os.urandom, 1)
    trust = _device_trust(record)
    trust.check(_receipt(_key(secrets, KeyKind.RECEIPT)))
    recipient = next(secret for secret in secrets if secret.kind is KeyKind.RECIPIENT)
    published = read_recipient_key(record.statements()[-1])
    assert published.name == RecipientPrivateKey(recipient.seed).name
    assert record.active(KeyKind.RECIPIENT).name == published.name.hex()


def test_the_issuing_key_cannot_sign_receipts() -> None:
    record, secrets = create_authority(os.urandom, 1)
    with pytest.raises(ProtocolError) as caught:
        record.trust().check(_receipt(_key(secrets, KeyKind.ISSUING)))
    assert caught.value.fault is Fault.UNTRUSTED_SIGNER


def test_a_rotated_receipt_key_takes_over_and_the_old_ones_receipts_stay_believed() -> None:
    record, secrets = create_authority(os.urandom, 1)
    rotated, new = rotate_receipt_key(record, _key(secrets, None), os.urandom(32), 2)
    trust = _device_trust(rotated)
    trust.check(_receipt(SigningKey(new.seed)))
    trust.check(_receipt(_key(secrets, KeyKind.RECEIPT)))
    assert rotated.active(KeyKind.RECEIPT).secret_name == new.name
    assert [key.state for key in rotated.of_kind(KeyKind.RECEIPT)] == [KeyState.ACTIVE, KeyState.RETIRED]
    assert rotated.active(KeyKind.RECEIPT).serial > record.active(KeyKind.RECEIPT).serial


def test_a_withdrawn_receipt_key_is_believed_no_more_even_by_who_knew_it_before() -> None:
    record, secrets = create_authority(os.urandom, 1)
    before = _device_trust(record)
    rotated, new = rotate_receipt_key(record, _key(secrets, None), os.urandom(32), 2, withdraw_old=True)
    for statement in rotated.statements():
        before = before.learn(statement) if statement.kind == 3 else before
    with pytest.raises(ProtocolError):
        before.check(_receipt(_key(secrets, KeyKind.RECEIPT)))
    before.check(_receipt(SigningKey(new.seed)))
    again, newest = rotate_receipt_key(rotated, _key(secrets, None), os.urandom(32), 3)
    assert again.active(KeyKind.RECEIPT).secret_name == newest.name
    serials = [key.serial for key in again.of_kind(KeyKind.RECEIPT)]
    assert len(set(serials)) == 3


def test_a_rotated_recipient_key_has_the_greater_serial_and_the_old_secret_keeps_its_name() -> None:
    record, secrets = create_authority(os.urandom, 1)
    rotated, new = rotate_recipient_key(record, _key(secrets, KeyKind.ISSUING), os.urandom(32), 2)
    newest, oldest = rotated.of_kind(KeyKind.RECIPIENT)
    assert (newest.secret_name, newest.state, oldest.state) == (new.name, KeyState.ACTIVE, KeyState.RETIRED)
    assert newest.serial > oldest.serial
    assert oldest.secret_name == record.active(KeyKind.RECIPIENT).secret_name


def test_a_delegated_collection_point_certifies_media_until_that_is_withdrawn_and_again_after() -> None:
    record, secrets = create_authority(os.urandom, 1)
    root, point = _key(secrets, None), SigningKey(os.urandom(32))
    keys = record.statements()

    def medium(serial: int) -> Statement:
        return sign_statement(point, kind=MEDIUM_CERTIFICATE, subject=ORIGIN, serial=serial, body=b"")

    record = delegate_media(record, root, point.public_bytes, 2)
    record.trust().check(medium(1))
    with pytest.raises(ProtocolError):
        record.trust().check(_receipt(point))
    # A device that learnt the delegation learns the withdrawal, too, in whatever order they come.
    early = _device_trust(record).learn(record.delegation_statements()[0])
    record = withdraw_media(record, root, point.public_bytes, 3)
    for trust in (record.trust(), early.learn(record.delegation_statements()[0])):
        with pytest.raises(ProtocolError):
            trust.check(medium(1))
    record = delegate_media(record, root, point.public_bytes, 4)
    record.trust().check(medium(1))
    assert [(one.state, one.serial) for one in record.delegations] == [(KeyState.ACTIVE, 3)]
    # Every receipt's bundle brings the keys: delegations are not among them.
    assert record.statements() == keys
    assert msgspec.json.decode(msgspec.json.encode(record), type=AuthorityRecord) == record


def test_a_record_of_the_release_before_has_no_delegations() -> None:
    record, _ = create_authority(os.urandom, 1)
    old = msgspec.json.decode(msgspec.json.encode(record))
    del old["delegations"]
    assert msgspec.json.decode(msgspec.json.encode(old), type=AuthorityRecord) == record


def test_delegating_needs_this_authoritys_root() -> None:
    record, _ = create_authority(os.urandom, 1)
    for change in (delegate_media, withdraw_media):
        with pytest.raises(ValueError, match="not the authority's root"):
            change(record, SigningKey(os.urandom(32)), bytes(range(32)), 2)


def test_keys_are_not_rotated_with_another_authoritys_root_or_issuing_key() -> None:
    record, _ = create_authority(os.urandom, 1)
    stranger = SigningKey(os.urandom(32))
    with pytest.raises(ValueError, match="not the authority's root"):
        rotate_receipt_key(record, stranger, os.urandom(32), 2)
    with pytest.raises(ValueError, match="not the authority's issuing"):
        rotate_recipient_key(record, stranger, os.urandom(32), 2)


def test_a_record_with_anothers_statement_is_not_believed() -> None:
    record, _ = create_authority(os.urandom, 1)
    other, _ = create_authority(os.urandom, 1)
    mixed = msgspec.structs.replace(record, keys=[*record.keys, *other.keys])
    with pytest.raises(ProtocolError):
        mixed.trust()


def test_a_record_survives_its_file_and_holds_no_secret() -> None:
    record, secrets = create_authority(os.urandom, 1)
    data = msgspec.json.encode(record)
    assert msgspec.json.decode(data, type=AuthorityRecord) == record
    for secret in secrets:
        assert secret.seed.hex().encode() not in data
        assert all(secret.seed not in parse_statement(key.statement).data for key in record.keys)
