"""Enrolment from both ends: what a genuine request yields, and what each hostile one is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from central_broker.center_files import CenterFiles, IssuedCertificate
from central_broker.enrolment import Enrolled, Issuers, Refused, change_standing, enrol, revocation_list
from central_broker.storage import open_storage
from central_broker.storage.contract import Storage
from central_broker.storage.inquiry_records import DeviceRecord
from sync_protocol import domains
from sync_protocol.identity import Role, Standing, Trust, read_device_certificate, read_recipient_key
from sync_protocol.keys import SigningKey
from sync_protocol.records import EnrolmentRequest, Provisioning, decode_record, encode_record, sign_request
from sync_protocol.statement import parse_statement
from tests.support.enrolling_device import EnrollingDevice, make_tls_request, new_p256
from tests.support.small_center import issuers, small_center

NOW = 1_700_000_000_000_000


@dataclass
class Center:
    files: CenterFiles
    storage: Storage
    keys: Issuers

    def enrol(self, request: EnrolmentRequest, **options: Any) -> Enrolled:
        result = enrol(request, files=self.files, storage=self.storage, issuers=self.keys, now=NOW, **options)
        assert isinstance(result, Enrolled), result
        return result

    def refuse(self, request: EnrolmentRequest, **options: Any) -> Refused:
        devices = self.storage.devices()
        result = enrol(request, files=self.files, storage=self.storage, issuers=self.keys, now=NOW, **options)
        assert isinstance(result, Refused), result
        assert self.storage.devices() == devices, "a refusal must change nothing"
        assert result.remedy
        return result

    def stand(self, device: bytes, standing: Standing) -> None:
        change_standing(self.record(device), standing, storage=self.storage, signer=self.keys.signer, now=NOW)

    def record(self, device: bytes) -> DeviceRecord:
        record = self.storage.device(device)
        assert record is not None
        return record


@pytest.fixture
def center(tmp_path: Path) -> Iterator[Center]:
    files = small_center(tmp_path / "center")
    storage = open_storage(files.configuration.database.url)
    yield Center(files, storage, issuers(files))
    storage.close()


def _leaf(provisioning: Provisioning) -> x509.Certificate:
    return x509.load_pem_x509_certificate(provisioning.tls_certificate.encode())


def test_a_device_can_work_with_what_it_is_given_and_its_root_key_alone(center: Center) -> None:
    device = EnrollingDevice("tablet 17, Петропавл")
    carried = encode_record(center.enrol(device.request()).provisioning)
    provisioning = decode_record(carried, Provisioning)
    trust = Trust(bytes.fromhex(provisioning.root_key))
    statements = [parse_statement(data) for data in provisioning.statements]
    for statement in statements:  # in the order given: what certifies comes before what it certifies
        trust = trust.learn(statement) if statement.kind == 3 else trust
        trust.check(statement)
    own = read_device_certificate(statements[-1])
    assert (own.device, own.name, own.role, own.standing) == (device.device, device.name, Role.TABLET, Standing.ACTIVE)
    assert provisioning.device == device.device.hex()
    recipients = {read_recipient_key(one).name.hex() for one in statements if one.kind == 4}
    assert provisioning.recipient_key in recipients
    leaf, issuer = x509.load_pem_x509_certificates(provisioning.tls_certificate.encode())
    leaf.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(x509.load_pem_x509_certificate(provisioning.tls_authority.encode()))
    assert leaf.public_key() == device.tls_key.public_key()


def test_the_subject_that_a_request_asks_for_is_ignored(center: Center) -> None:
    device = EnrollingDevice("tablet")
    request = sign_request(
        device.signing_key,
        name="tablet",
        role=Role.TABLET,
        tls_request=make_tls_request(device.tls_key, "center-consumer"),
    )
    leaf = _leaf(center.enrol(request).provisioning)
    assert leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == device.device.hex()


def test_the_same_request_again_gives_the_same_and_renew_gives_new_certificates(center: Center) -> None:
    request = EnrollingDevice("tablet").request(Role.COLLECTION_POINT)
    first = center.enrol(request)
    again = center.enrol(request)
    assert (first.renewed, again.renewed) == (False, True)
    assert again.provisioning == first.provisioning
    renewed = center.enrol(request, renew=True)
    assert _leaf(renewed.provisioning).serial_number != _leaf(first.provisioning).serial_number
    assert center.record(first.device).serial == 2
    assert len(center.storage.devices()) == 1
    assert len(center.files.issued()) == 2


def test_a_device_with_a_new_tls_key_or_name_is_the_same_device(center: Center) -> None:
    device = EnrollingDevice("tablet")
    center.enrol(device.request())
    device.tls_key, device.name = new_p256(), "tablet renamed"
    provisioning = center.enrol(device.request()).provisioning
    assert _leaf(provisioning).public_key() == device.tls_key.public_key()
    assert (center.record(device.device).name, center.record(device.device).serial) == ("tablet renamed", 2)


def test_a_name_in_use_is_refused_until_the_old_device_is_named_as_replaced(center: Center) -> None:
    old, new = EnrollingDevice("tablet 17"), EnrollingDevice("tablet 17")
    center.enrol(old.request())
    refusal = center.refuse(new.request())
    assert old.device.hex() in refusal.remedy
    assert "--replaces" in refusal.remedy
    enrolled = center.enrol(new.request(), replaces=old.device)
    assert enrolled.replaced is not None
    assert center.record(old.device).standing is Standing.RETURNED
    assert center.record(old.device).serial == 2
    assert center.record(new.device).standing is Standing.ACTIVE


def test_the_name_of_a_returned_device_is_free(center: Center) -> None:
    old, new = EnrollingDevice("tablet 17"), EnrollingDevice("tablet 17")
    center.enrol(old.request())
    center.stand(old.device, Standing.RETURNED)
    assert center.enrol(new.request()).replaced is None


def test_unknown_and_selfish_replacements_are_refused(center: Center) -> None:
    device = EnrollingDevice("tablet")
    assert "no device" in center.refuse(device.request(), replaces=bytes(16)).problem
    assert "itself" in center.refuse(device.request(), replaces=device.device).problem


@pytest.mark.parametrize("standing", [Standing.RETURNED, Standing.LOST, Standing.REVOKED])
def test_a_device_that_is_not_active_is_not_enrolled_by_its_old_request(center: Center, standing: Standing) -> None:
    device = EnrollingDevice("tablet")
    center.enrol(device.request())
    center.stand(device.device, standing)
    assert standing.name.lower() in center.refuse(device.request()).problem
    center.stand(device.device, Standing.ACTIVE)
    center.enrol(device.request())
    assert center.record(device.device).standing is Standing.ACTIVE


def test_the_role_online_is_given_only_where_it_is_meant(center: Center) -> None:
    web, tablet = EnrollingDevice("web 1"), EnrollingDevice("tablet 17")
    assert "--online" in center.refuse(web.request(Role.ONLINE)).remedy
    assert "--role online" in center.refuse(tablet.request(), online=True).remedy
    center.enrol(web.request(Role.ONLINE), online=True)
    assert center.record(web.device).role is Role.ONLINE


def test_every_device_is_given_the_certificates_of_online_devices(center: Center) -> None:
    web, tablet = EnrollingDevice("web 1"), EnrollingDevice("tablet 17")
    own = center.enrol(web.request(Role.ONLINE), online=True).provisioning
    given = center.enrol(tablet.request()).provisioning
    certificate = center.record(web.device).certificate
    assert (own.statements.count(certificate), given.statements.count(certificate)) == (1, 1)


def _changed(field: str, value: str) -> EnrolmentRequest:
    return msgspec.structs.replace(EnrollingDevice("tablet").request(), **{field: value})


@pytest.mark.parametrize(
    "request_",
    [
        _changed("name", "another name"),
        _changed("role", "collection_point"),
        _changed("role", "root"),
        _changed("signing_key", "00" * 32),
        _changed("signing_key", EnrollingDevice("x").signing_key.public_bytes.hex()),
        _changed("signing_key", "zz"),
        _changed("signing_key", ""),
        _changed("signature", "00" * 64),
        _changed("signature", ""),
        _changed("signature", "é"),
        _changed("tls_request", make_tls_request(new_p256())),
        _changed("tls_request", "x" * 100_000),
    ],
)
def test_a_request_with_anything_exchanged_is_refused(center: Center, request_: EnrolmentRequest) -> None:
    center.refuse(request_)


@pytest.mark.parametrize("name", ["", "x" * 65, "ы" * 33, "two\nlines", "zero\0", " spaced", "\u202eevil"])
def test_an_unfit_name_is_refused_though_the_device_signed_it(center: Center, name: str) -> None:
    key, tls_request = SigningKey(bytes(32)), make_tls_request(new_p256())
    parts = (domains.ENROLMENT, name.encode(), b"\0tablet\0", key.public_bytes, tls_request.encode())
    request = EnrolmentRequest(
        name=name,
        role="tablet",
        signing_key=key.public_bytes.hex(),
        tls_request=tls_request,
        signature=key.sign(b"".join(parts)).hex(),
    )
    assert "name" in center.refuse(request).problem


def test_a_device_cannot_enrol_a_tls_key_that_it_does_not_hold(center: Center) -> None:
    victim, thief = EnrollingDevice("victim"), SigningKey(bytes(32))
    request = make_tls_request(victim.tls_key)
    body = request.replace("\n", "").removeprefix("-----BEGIN CERTIFICATE REQUEST-----")
    broken = request.replace(body[100:104], body[100:104].swapcase(), 1)
    assert broken != request
    center.refuse(sign_request(thief, name="thief", role=Role.TABLET, tls_request=broken))


def test_every_certificate_of_a_revoked_device_is_on_the_list_and_no_other(center: Center) -> None:
    revoked, lost, active = (EnrollingDevice(name) for name in ("revoked", "lost", "active"))
    serials = {
        _leaf(center.enrol(revoked.request(), renew=renew).provisioning).serial_number for renew in (False, True)
    }
    for device in (lost, active):
        center.enrol(device.request())
    center.stand(revoked.device, Standing.REVOKED)
    center.stand(lost.device, Standing.LOST)
    listed = x509.load_pem_x509_crl(revocation_list(center.files, center.storage, center.keys.tls))
    assert {entry.serial_number for entry in listed} == serials
    center.stand(revoked.device, Standing.ACTIVE)
    later = x509.load_pem_x509_crl(revocation_list(center.files, center.storage, center.keys.tls))
    assert not list(later)
    numbers = [one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for one in (listed, later)]
    assert numbers == [1, 2]


def test_a_torn_last_line_of_the_ledger_costs_nothing_before_or_after_it(center: Center) -> None:
    center.files.record_issued(IssuedCertificate("aa", "1", NOW))
    path = center.files.state / "issued.jsonl"
    path.write_bytes(path.read_bytes() + b'{"device":"bb","ser')
    assert [one.device for one in center.files.issued()] == ["aa"]
    center.files.record_issued(IssuedCertificate("cc", "2", NOW))
    assert [one.device for one in center.files.issued()] == ["aa", "cc"]


def test_a_changed_standing_is_a_genuine_statement_with_a_greater_serial(center: Center) -> None:
    device = EnrollingDevice("tablet")
    center.enrol(device.request())
    for serial, standing in enumerate((Standing.LOST, Standing.RETURNED, Standing.REVOKED), start=2):
        center.stand(device.device, standing)
        statement = parse_statement(center.record(device.device).certificate)
        center.files.trust().check(statement)
        assert (statement.serial, read_device_certificate(statement).standing) == (serial, standing)
