"""The device's side of its enrolment: keys made here and never leaving, the request, the center's answer put in place.

Used by commands only; the daemon loads what is there (`provisioning.py`), and does not carry what makes certificates.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_agent.provisioning import (
    PROVISIONING,
    REMEDY_ENROL,
    REQUEST,
    SIGNING_KEY,
    TLS_AUTHORITY,
    TLS_CERTIFICATE,
    TLS_KEY,
    ProvisioningError,
    check,
    read_secret,
    signing_key,
)
from operations.durable_files import write_durably
from sync_protocol.errors import ProtocolError
from sync_protocol.identity import Role, device_name
from sync_protocol.keys import SEED_BYTES
from sync_protocol.records import EnrolmentRequest, Provisioning, decode_record, encode_record, sign_request

FILES: Final = (SIGNING_KEY, TLS_KEY, REQUEST, PROVISIONING, TLS_CERTIFICATE, TLS_AUTHORITY)
_REMEDY_OWNER: Final = "look into the directory, then give it to the daemon's user with chown"


def make_request(directory: Path, *, name: str, role: Role) -> EnrolmentRequest:
    """Make the device's keys unless they are there, and write its enrolment request; raises ProvisioningError."""
    _make_directory(directory)
    if not (directory / SIGNING_KEY).exists():
        _write(directory / SIGNING_KEY, secrets.token_bytes(SEED_BYTES).hex().encode() + b"\n", mode=0o600)
    signer = signing_key(directory)
    tls_key = _tls_key(directory)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_name(signer.public_bytes).hex())])
    tls_request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(tls_key, hashes.SHA256())
    try:
        request = sign_request(
            signer, name=name, role=role, tls_request=tls_request.public_bytes(serialization.Encoding.PEM).decode()
        )
    except ProtocolError as error:
        raise ProvisioningError(error.detail, "choose another --name") from error
    _write(directory / REQUEST, encode_record(request), mode=0o644)
    return request


def install(directory: Path, data: bytes) -> Provisioning:
    """Check the center's answer against the device's keys and put it in place; raises ProvisioningError."""
    signer = signing_key(directory)
    if _is_request(data):
        problem = "this is a device's request, not the center's answer to one"
        raise ProvisioningError(problem, "take it to the center: central-broker enrol; install what that gives back")
    try:
        provisioning = decode_record(data, Provisioning)
        check(provisioning, signer)
    except ProtocolError as error:
        raise ProvisioningError(f"this provisioning cannot be used: {error.detail}", REMEDY_ENROL) from error
    _check_tls(provisioning, _tls_key(directory))
    _write(directory / TLS_CERTIFICATE, provisioning.tls_certificate.encode(), mode=0o644)
    _write(directory / TLS_AUTHORITY, provisioning.tls_authority.encode(), mode=0o644)
    # Last: its presence says that the rest is there.
    _write(directory / PROVISIONING, encode_record(provisioning), mode=0o644)
    return provisioning


def hand_over(directory: Path, user_id: int, group_id: int) -> None:
    """Give the directory and its files to the daemon's user; needs root. Raises ProvisioningError."""
    for path in (directory, *(directory / name for name in FILES)):
        try:
            # By descriptor, and never by a link: the user who gets the directory could have put one there before.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ProvisioningError(f"cannot hand over {path}: {error.strerror}", _REMEDY_OWNER) from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISDIR(status.st_mode) and not (stat.S_ISREG(status.st_mode) and status.st_nlink == 1):
                raise ProvisioningError(f"{path} is no plain file of its own", _REMEDY_OWNER)
            os.fchown(descriptor, user_id, group_id)
        except OSError as error:
            raise ProvisioningError(f"cannot hand over {path}: {error.strerror}", _REMEDY_OWNER) from error
        finally:
            os.close(descriptor)


def _is_request(data: bytes) -> bool:
    try:
        decode_record(data, EnrolmentRequest)
    except ProtocolError:
        return False
    return True


def _check_tls(provisioning: Provisioning, tls_key: ec.EllipticCurvePrivateKey) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(provisioning.tls_certificate.encode())
        x509.load_pem_x509_certificates(provisioning.tls_authority.encode())
    except ValueError:
        raise ProvisioningError("its certificates cannot be read", REMEDY_ENROL) from None
    if certificate.public_key() != tls_key.public_key():
        raise ProvisioningError("its TLS certificate belongs to another key", REMEDY_ENROL)


def _make_directory(directory: Path) -> None:
    """Make the directory for its owner alone; one that is there already keeps its mode, unless others may write."""
    try:
        directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        mode = directory.stat().st_mode
    except OSError as error:
        raise ProvisioningError(
            f"cannot make {directory}: {error.strerror}", "run as root: sudo edge-agent enrol request"
        ) from error
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ProvisioningError(f"others may write to {directory}", f"run: chmod 700 {directory}")


def _tls_key(directory: Path) -> ec.EllipticCurvePrivateKey:
    path = directory / TLS_KEY
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write(path, pem, mode=0o600)
    try:
        key = serialization.load_pem_private_key(read_secret(path), password=None)
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ProvisioningError(f"{path} is damaged", "remove it, then run edge-agent enrol request again")
    return key


def _write(path: Path, data: bytes, *, mode: int) -> None:
    try:
        write_durably(path, data, mode=mode)
    except OSError as error:
        raise ProvisioningError(
            f"cannot write {path}: {error.strerror}", "run as root; see whether the disk is full or read-only"
        ) from error
