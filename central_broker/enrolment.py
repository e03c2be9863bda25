"""Enrolment: from a device's own request to what it is provisioned with, and how devices stand afterwards.

The device keeps its private keys; the center sees public keys and proofs that the device holds the private ones. The
caller holds `CenterFiles.only_one()`, so that names stay unique.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509

from central_broker.authority import AuthorityRecord, KeyKind
from central_broker.center_files import CenterFiles, IssuedCertificate
from central_broker.storage.batch_records import CertifiedDevice
from central_broker.storage.contract import Storage
from central_broker.storage.inquiry_records import DeviceRecord
from central_broker.tls_authority import (
    TlsIssuer,
    issue_client_certificate,
    make_revocation_list,
    read_certificate_request,
    to_pem,
)
from sync_protocol.errors import ProtocolError
from sync_protocol.identity import Role, Standing, certify_device, read_device_certificate
from sync_protocol.keys import Signer
from sync_protocol.records import EnrolmentRequest, Provisioning, check_request
from sync_protocol.statement import Statement, parse_statement

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

TLS_REQUEST_CHARACTERS_MAX: Final = 16 * 1024
"""A P-256 request has about 500."""


@dataclass(frozen=True)
class Refused:
    """Why nothing was done, and what to do next."""

    problem: str
    remedy: str


@dataclass(frozen=True)
class CheckedRequest:
    """A request that proved that its device holds both private keys."""

    device: bytes
    public_key: bytes
    name: str
    role: Role
    tls_key: EllipticCurvePublicKey


@dataclass(frozen=True)
class Enrolled:
    """What the device is given. `renewed`: it was enrolled before. `replaced`: the device whose place it takes."""

    device: bytes
    provisioning: Provisioning
    renewed: bool
    replaced: DeviceRecord | None


@dataclass(frozen=True)
class Issuers:
    """The two keys that enrolment needs; no other is opened for it."""

    signer: Signer
    tls: TlsIssuer


def check_enrolment_request(request: EnrolmentRequest) -> CheckedRequest | Refused:
    """Verify everything that a request claims; it may be hostile."""
    again = "make the request on the device anew with `edge-agent enrol request` and bring that file"
    if len(request.tls_request) > TLS_REQUEST_CHARACTERS_MAX:
        return Refused("the request's TLS part is far too long", again)
    try:
        role = check_request(request)
        tls_key = read_certificate_request(request.tls_request)
    except ProtocolError as error:
        return Refused(f"the request is not genuine: {error.detail}", again)
    except ValueError as error:
        return Refused(f"the request is not genuine: {error}", again)
    name = request.name
    if name != name.strip():  # it would look like another device's name in every table
        return Refused(f"the device's name {name!r} has spaces around it", again)
    return CheckedRequest(request.device, request.public_key, name, role, tls_key)


def enrol(
    request: EnrolmentRequest,
    *,
    files: CenterFiles,
    storage: Storage,
    issuers: Issuers,
    now: int,
    replaces: bytes | None = None,
    standing_of_replaced: Standing = Standing.RETURNED,
    renew: bool = False,
    online: bool = False,
) -> Enrolled | Refused:
    """Certify a device. The same request again gives the same certificates, unless `renew` asks for new ones.

    The role online is given only where `online` says that it is meant: the request is the device's own word.
    """
    checked = check_enrolment_request(request)
    if isinstance(checked, Refused):
        return checked
    if online is not (checked.role is Role.ONLINE):
        return _other_role(checked)
    old = _replaced_device(storage, checked, replaces)
    if isinstance(old, Refused):
        return old
    known = storage.device(checked.device)
    if known is not None and known.standing is not Standing.ACTIVE:
        return Refused(
            f"this device is known as {known.name!r} and is {known.standing.name.lower()}",
            f"if it shall work again: central-broker devices standing {checked.device.hex()} active, then enrol",
        )
    if old is not None and old.standing is Standing.ACTIVE:
        change_standing(old, standing_of_replaced, storage=storage, signer=issuers.signer, now=now)
    certificate = _device_certificate(checked, known, issuers.signer, now, renew=renew)
    storage.store_devices([CertifiedDevice(read_device_certificate(certificate), certificate.data)], now)
    chain = _tls_chain(checked, files, issuers.tls, now, renew=renew)
    web_site = [one.certificate for one in storage.devices() if one.role is Role.ONLINE]
    provisioning = make_provisioning(files, files.authority(), certificate, chain, web_site)
    files.save_provisioning(checked.device, provisioning)
    return Enrolled(checked.device, provisioning, known is not None, old)


def _other_role(checked: CheckedRequest) -> Refused:
    if checked.role is Role.ONLINE:
        return Refused(
            "the request asks for the role online: what the device brings would count as filled on the web site",
            "if it is the machine of the web site: enrol it with --online; else make another request there",
        )
    return Refused(
        f"the request asks for the role {checked.role.name.lower()}, not online",
        "make the request with: edge-agent enrol request --role online",
    )


def _replaced_device(
    storage: Storage, checked: CheckedRequest, replaces: bytes | None
) -> DeviceRecord | Refused | None:
    if replaces == checked.device:
        return Refused("a device cannot replace itself", "leave out --replaces to enrol the same device again")
    old = None if replaces is None else storage.device(replaces)
    if replaces is not None and old is None:
        return Refused(f"no device {replaces.hex()} is known", "central-broker devices list shows them all")
    for other in storage.devices():
        taken = other.name == checked.name and other.standing is Standing.ACTIVE
        if taken and other.device not in (checked.device, replaces):
            return Refused(
                f"the name {checked.name!r} belongs to the active device {other.device.hex()}",
                f"if this one takes its place: --replaces {other.device.hex()}; else give the device another name",
            )
    return old


def _device_certificate(
    checked: CheckedRequest, known: DeviceRecord | None, signer: Signer, now: int, *, renew: bool
) -> Statement:
    unchanged = known is not None and (known.name, known.role) == (checked.name, checked.role)
    if known is not None and unchanged and not renew:
        return parse_statement(known.certificate)
    return certify_device(
        signer,
        public_key=checked.public_key,
        role=checked.role,
        standing=Standing.ACTIVE,
        issued_at=now,
        name=checked.name,
        serial=1 if known is None else known.serial + 1,
    )


def _tls_chain(checked: CheckedRequest, files: CenterFiles, tls: TlsIssuer, now: int, *, renew: bool) -> str:
    before = files.provisioning(checked.device)
    if before is not None and not renew:
        leaf = x509.load_pem_x509_certificate(before.tls_certificate.encode())
        if leaf.public_key() == checked.tls_key:
            return before.tls_certificate
    leaf = issue_client_certificate(tls, checked.tls_key, checked.device.hex())
    files.record_issued(IssuedCertificate(checked.device.hex(), f"{leaf.serial_number:x}", now))
    return to_pem(leaf, tls.certificate).decode()


def make_provisioning(
    files: CenterFiles, authority: AuthorityRecord, certificate: Statement, tls_chain: str, online: Sequence[bytes]
) -> Provisioning:
    """Put together what a device needs, with today's keys; it holds no secret.

    `online` are the certificates of online devices: with them it checks notices before it has ever had a link.
    """
    delegation = authority.delegation(read_device_certificate(certificate).public_key)
    own = [certificate.data] if delegation is None else [delegation.statement, certificate.data]
    others = [data for data in online if data != certificate.data]
    return Provisioning(
        device=certificate.subject.hex(),
        root_key=authority.root_key,
        statements=[*(statement.data for statement in authority.statements()), *own, *others],
        recipient_key=authority.active(KeyKind.RECIPIENT).name,
        tls_certificate=tls_chain,
        tls_authority=files.certificate("root").read_text(),
    )


def change_standing(
    device: DeviceRecord, standing: Standing, *, storage: Storage, signer: Signer, now: int
) -> Statement:
    """Say anew how a device stands; the statement's serial grows, and the publisher floods it."""
    statement = certify_device(
        signer,
        public_key=device.public_key,
        role=device.role,
        standing=standing,
        issued_at=now,
        name=device.name,
        serial=device.serial + 1,
    )
    storage.store_devices([CertifiedDevice(read_device_certificate(statement), statement.data)], now)
    return statement


def revocation_list(files: CenterFiles, storage: Storage, tls: TlsIssuer) -> bytes:
    """Return the list (PEM) of all certificates of revoked devices; a returned or lost device may still bring its data.

    A lost one's data are held whoever brings them; a revoked one is not let in at all.
    """
    revoked = {device.device.hex() for device in storage.devices() if device.standing is Standing.REVOKED}
    serials = [int(issued.serial, 16) for issued in files.issued() if issued.device in revoked]
    return to_pem(make_revocation_list(tls, serials, number=files.next_revocation_number()))
