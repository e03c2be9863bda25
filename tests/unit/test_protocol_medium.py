"""Media: certificates of them, who may sign one, and the file on a medium that brings it along."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from sync_protocol import medium
from sync_protocol.bundle import Frame, FrameType, read_bundle, write_bundle
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.identity import Role, Standing, Trust, certify_device, certify_key, publish_recipient_key
from sync_protocol.keys import SigningKey
from sync_protocol.limits import DELEGATED_SERIAL_MAX, MEDIUM_IDENTITY_BYTES_MAX, MEDIUM_TEXT_BYTES_MAX
from sync_protocol.medium import (
    MediumCertificate,
    MediumIdentity,
    certificate_in_force,
    certify_medium,
    read_medium_certificate,
    read_medium_identity,
    write_medium_identity,
)
from sync_protocol.receipt import sign_receipt
from sync_protocol.statement import MEDIUM_CERTIFICATE, Statement, Usage, parse_statement, sign_statement
from tests.support import protocol_examples as examples
from tests.support.device import Authority, Device, memory_folder

POINT = examples.signing_key("collection point")
DELEGATION = examples.key_certificate(POINT, Usage.MEDIA)
WITHDRAWAL = examples.key_certificate(POINT, Usage.NONE, 2)


def _by_point(serial: int = 1, standing: Standing = Standing.ACTIVE) -> Statement:
    return examples.medium_certificate(POINT, serial=serial, standing=standing)


def _identity(*statements: Statement) -> MediumIdentity:
    return read_medium_identity(write_bundle([Frame(FrameType.STATEMENT, one.data) for one in statements]))


# --- the certificate ---


@pytest.mark.parametrize("standing", Standing)
@pytest.mark.parametrize("number", ["1", "СКО-0017", "№" * 21, "x" * MEDIUM_TEXT_BYTES_MAX])
def test_medium_certificate_comes_back_as_it_was_signed(number: str, standing: Standing) -> None:
    for time in (0, examples.TIME, (1 << 64) - 1):
        certificate = MediumCertificate(examples.MEDIUM, number, "Әсем Қалиева", standing, time, time, 1 << 32)
        statement = certify_medium(
            examples.ISSUER,
            medium=examples.MEDIUM,
            number=number,
            holder="Әсем Қалиева",
            standing=standing,
            issued_at=time,
            expires_at=time,
            serial=1 << 32,
        )
        examples.trust().check(statement)
        assert read_medium_certificate(statement) == certificate


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": ""},
        {"number": "x" * (MEDIUM_TEXT_BYTES_MAX + 1)},
        {"number": "я" * (MEDIUM_TEXT_BYTES_MAX // 2 + 1)},
        {"number": "1\n2"},
        {"holder": ""},
        {"holder": "x" * (MEDIUM_TEXT_BYTES_MAX + 1)},
        {"holder": "two\nlines"},
        {"holder": "\x1b[2J"},
        {"holder": "\u202egnp.exe"},
        {"holder": "\ud800"},
        {"medium": bytes(16)},
        {"medium": bytes(15)},
        {"issued_at": -1},
        {"expires_at": 1 << 64},
        {"standing": 256},
        {"serial": 0},
    ],
)
def test_medium_that_no_reader_would_accept_is_not_certified(wrong: dict[str, object]) -> None:
    fields: dict[str, object] = {"medium": examples.MEDIUM, "number": "1", "holder": "h", "standing": Standing.ACTIVE}
    fields |= {"issued_at": 0, "expires_at": 0, "serial": 1}
    with pytest.raises(ProtocolError) as refusal:
        certify_medium(examples.ISSUER, **(fields | wrong))  # type: ignore[arg-type]  # a table of wrong arguments
    assert refusal.value.fault is Fault.BAD_FIELD


def test_medium_expires_by_the_centers_time_alone() -> None:
    never = read_medium_certificate(examples.medium_certificate())
    later = read_medium_certificate(examples.medium_certificate(expires_at=examples.TIME))
    assert not never.has_expired((1 << 64) - 1)
    assert [later.has_expired(examples.TIME + shift) for shift in (-1, 0, 1)] == [False, True, True]


# --- who may sign ---


def test_delegated_collection_point_signs_media_and_nothing_else() -> None:
    trust = Trust(examples.ROOT.public_bytes).learn(DELEGATION)
    trust.check(_by_point())
    trust.check(_by_point(DELEGATED_SERIAL_MAX))
    device = certify_device(
        POINT,
        public_key=POINT.public_bytes,
        role=Role.COLLECTION_POINT,
        standing=Standing.ACTIVE,
        issued_at=1,
        name="me",
        serial=9,
    )
    others = [sign_statement(POINT, kind=kind, subject=examples.ORIGIN, serial=1, body=b"") for kind in range(6, 64)]
    others += [
        device,
        sign_receipt(POINT, origin=examples.ORIGIN, serial=1, watermark=0, spans=()),
        certify_key(POINT, public_key=examples.TABLET.public_bytes, usage=Usage.MEDIA, serial=1),
        publish_recipient_key(POINT, public_key=examples.CENTER.public_key.public_bytes, serial=1),
    ]
    for statement in others:
        with pytest.raises(ProtocolError) as refusal:
            trust.check(statement)
        assert refusal.value.fault is Fault.UNTRUSTED_SIGNER


def test_what_the_authority_said_of_a_medium_no_collection_point_takes_back() -> None:
    trust = examples.trust().learn(DELEGATION)
    revoked = examples.medium_certificate(serial=DELEGATED_SERIAL_MAX + 1, standing=Standing.REVOKED)
    for serial in (DELEGATED_SERIAL_MAX + 1, DELEGATED_SERIAL_MAX + 2, (1 << 64) - 1):
        with pytest.raises(ProtocolError) as refusal:
            trust.check(_by_point(serial))
        assert refusal.value.fault is Fault.UNTRUSTED_SIGNER
        assert certificate_in_force(_identity(_by_point(serial)), revoked, trust).standing is Standing.REVOKED
    in_force = certificate_in_force(_identity(_by_point(DELEGATED_SERIAL_MAX)), revoked, trust)
    assert in_force.standing is Standing.REVOKED


def test_authority_signs_media_of_any_serial() -> None:
    for serial in (1, DELEGATED_SERIAL_MAX, DELEGATED_SERIAL_MAX + 1, (1 << 64) - 1):
        examples.trust().check(examples.medium_certificate(serial=serial))


def test_withdrawn_collection_points_media_are_believed_no_more() -> None:
    identity = _identity(DELEGATION, _by_point())
    for trust in (examples.trust().learn(WITHDRAWAL), examples.trust().learn(DELEGATION).learn(WITHDRAWAL)):
        with pytest.raises(ProtocolError) as refusal:
            certificate_in_force(identity, None, trust)
        assert refusal.value.fault is Fault.UNTRUSTED_SIGNER
        # The file may not talk the reader out of it, nor may what was stored before the withdrawal.
        with pytest.raises(ProtocolError):
            certificate_in_force(identity, _by_point(5), trust)
        adopted = examples.medium_certificate(serial=1 << 32)
        assert certificate_in_force(identity, adopted, trust).serial == 1 << 32


# --- which word counts ---


@pytest.mark.parametrize(
    ("on_medium", "elsewhere"),
    list(permutations([(1 << 32, Standing.ACTIVE), ((1 << 32) + 1, Standing.LOST)])),
)
def test_newest_word_counts_wherever_it_comes_from(
    on_medium: tuple[int, Standing], elsewhere: tuple[int, Standing]
) -> None:
    identity = _identity(
        examples.key_certificate(), examples.medium_certificate(serial=on_medium[0], standing=on_medium[1])
    )
    known = examples.medium_certificate(serial=elsewhere[0], standing=elsewhere[1])
    assert certificate_in_force(identity, known, examples.trust()).standing is Standing.LOST


@pytest.mark.parametrize(("first", "second"), list(permutations([Standing.ACTIVE, Standing.REVOKED])))
def test_of_two_words_with_one_serial_the_less_favourable_counts(first: Standing, second: Standing) -> None:
    identity = _identity(examples.medium_certificate(standing=first))
    known = examples.medium_certificate(standing=second)
    assert certificate_in_force(identity, known, examples.trust()).standing is Standing.REVOKED


def test_words_on_another_medium_and_forged_ones_count_for_nothing() -> None:
    identity = _identity(examples.medium_certificate())
    forged = examples.medium_certificate(examples.TABLET, serial=1 << 40, standing=Standing.REVOKED)
    other = examples.medium_certificate(medium=b"\1" * 16, serial=1 << 40, standing=Standing.REVOKED)
    for known in (None, forged, other):
        assert certificate_in_force(identity, known, examples.trust()).standing is Standing.ACTIVE
    lost = examples.medium_certificate(serial=1 << 33, standing=Standing.LOST)
    assert certificate_in_force(_identity(forged), lost, examples.trust()).standing is Standing.LOST
    with pytest.raises(ProtocolError):
        certificate_in_force(_identity(forged), None, examples.trust())


# --- the file ---


def test_file_is_verified_by_the_root_key_alone() -> None:
    for keys, certificate in (
        ([examples.key_certificate()], examples.medium_certificate()),
        ([DELEGATION], _by_point()),
    ):
        data = write_medium_identity(keys, certificate)
        assert read_bundle(data).intact
        assert len(data) < 1000
        identity = read_medium_identity(data)
        assert identity == MediumIdentity(tuple(keys), certificate)
        found = certificate_in_force(identity, None, Trust(examples.ROOT.public_bytes))
        assert (found.medium, found.number) == (examples.MEDIUM, "СКО-0017")


def test_foreign_keys_and_whatever_else_is_in_the_file_do_not_matter() -> None:
    foreign = certify_key(examples.TABLET, public_key=examples.ISSUER.public_bytes, usage=Usage(15), serial=9)
    frames = [
        Frame(FrameType.STATEMENT, foreign.data),
        Frame(FrameType.HEAD, examples.head().data),
        Frame(FrameType.STATEMENT, b"\xff" * 200),
        Frame(FrameType.STATEMENT, examples.device_certificate().data),
        Frame(FrameType.STATEMENT, examples.key_certificate().data),
        Frame(FrameType.ENVELOPE, b""),
        Frame(FrameType.STATEMENT, examples.medium_certificate().data),
    ]
    torn = b"noise" + write_bundle(frames)[:-20]
    found = certificate_in_force(read_medium_identity(torn), None, Trust(examples.ROOT.public_bytes))
    assert found.standing is Standing.ACTIVE


def test_file_with_no_medium_or_two_names_none() -> None:
    for statements in ([], [examples.key_certificate()], [_by_point(1), _by_point(2)], [_by_point(1)] * 2):
        with pytest.raises(ProtocolError) as refusal:
            _identity(*statements)
        assert refusal.value.fault is Fault.BAD_CONTENT


def test_what_no_reader_takes_is_not_written() -> None:
    with pytest.raises(ProtocolError):
        write_medium_identity([examples.device_certificate()], examples.medium_certificate())
    with pytest.raises(ProtocolError):
        write_medium_identity([], examples.key_certificate())
    with pytest.raises(ProtocolError) as refusal:
        write_medium_identity([examples.key_certificate()] * 400, examples.medium_certificate())
    assert refusal.value.fault is Fault.OVERSIZED
    assert MEDIUM_IDENTITY_BYTES_MAX == 65_536
    assert Path(medium.MEDIUM_FOLDER, medium.MEDIUM_FILE) == Path("CENSUS/MEDIUM.CNS")


# --- on a device ---


def test_device_keeps_the_newest_word_on_a_medium_and_nothing_of_a_stranger() -> None:
    authority = Authority()

    def word(signer: SigningKey, serial: int, standing: Standing = Standing.ACTIVE) -> Statement:
        return examples.medium_certificate(signer, serial=serial, standing=standing)

    delegation = certify_key(authority.root, public_key=POINT.public_bytes, usage=Usage.MEDIA, serial=1)
    with memory_folder() as folder:
        device = Device(folder, authority).start()
        device.link_up()
        device.receive(word(POINT, 1))
        assert _media_known_to(device) == []
        device.receive(delegation, word(POINT, 2), word(POINT, 1))
        assert [one.serial for one in _media_known_to(device)] == [2]
        device.receive(word(authority.issuer, 1 << 32, Standing.LOST), word(POINT, 1 << 33), word(POINT, 3))
        assert [(one.serial, one.standing) for one in _media_known_to(device)] == [(1 << 32, Standing.LOST)]
        device.stop()


def _media_known_to(device: Device) -> list[MediumCertificate]:
    assert device.store is not None
    with device.store.transaction() as transaction:
        return [read_medium_certificate(parse_statement(one)) for one in transaction.statements(MEDIUM_CERTIFICATE)]
