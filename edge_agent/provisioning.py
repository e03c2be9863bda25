"""The device's identity on disk: its keys, made here and never leaving, and what the center sent to go with them.

| file in the provisioning directory | what | who writes it |
|---|---|---|
| `signing.key` | Ed25519 seed, hexadecimal | `make_request`, once |
| `tls.key` | P-256 private key, PEM | `make_request`, once |
| `request.json` | enrolment request, for the center | `make_request` |
| `provisioning.json` | the center's answer | `install` |
| `tls.crt`, `authority.crt` | certificates from it, as OpenSSL reads them | `install` |

The directory (0700) and the files in it belong to the daemon's user; the keys are 0600. `hand_over` sees to that when
root enrols the device.
"""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_agent.engine.identity import DeviceIdentity
from sync_protocol import statement
from sync_protocol.errors import ProtocolError
from sync_protocol.identity import Role, Trust, device_name
from sync_protocol.keys import SEED_BYTES, SigningKey
from sync_protocol.records import (
    EnrolmentRequest,
    Provisioning,
    decode_record,
    encode_record,
    parse_name,
    sign_request,
)
from sync_protocol.statement import parse_statement

SIGNING_KEY: Final = "signing.key"
TLS_KEY: Final = "tls.key"
REQUEST: Final = "request.json"
PROVISIONING: Final = "provisioning.json"
TLS_CERTIFICATE: Final = "tls.crt"
TLS_AUTHORITY: Final = "authority.crt"
FILES: Final = (SIGNING_KEY, TLS_KEY, REQUEST, PROVISIONING, TLS_CERTIFICATE, TLS_AUTHORITY)


class ProvisioningError(Exception):
    """The device's identity cannot be used; `remedy` says what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


@dataclass(frozen=True)
class ProvisionedDevice:
    """Everything that the daemon needs to know of itself."""

    identity: DeviceIdentity
    statements: tuple[bytes, ...]
    tls_certificate: Path
    tls_key: Path
    tls_authority: Path


def make_request(directory: Path, *, name: str, role: Role) -> EnrolmentRequest:
    """Make the device's keys unless they are there, and write its enrolment request; raises ProvisioningError."""
    _make_directory(directory)
    signer = SigningKey(_signing_seed(directory, make=True))
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
    signer = SigningKey(_signing_seed(directory, make=False))
    if _is_request(data):
        problem = "this is a device's request, not the center's answer to one"
        raise ProvisioningError(problem, "take it to the center: central-broker enrol; install what that gives back")
    try:
        provisioning = decode_record(data, Provisioning)
        _check(provisioning, signer)
    except ProtocolError as error:
        raise ProvisioningError(f"this provisioning cannot be used: {error.detail}", _REMEDY_ENROL) from error
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


def load(directory: Path) -> ProvisionedDevice:
    """Load what `install` put in place; raises ProvisioningError."""
    path = directory / PROVISIONING
    try:
        provisioning = decode_record(path.read_bytes(), Provisioning)
    except FileNotFoundError:
        remedy = "run edge-agent enrol request, have the center enrol the device, then edge-agent enrol install"
        raise ProvisioningError(f"the device is not enrolled: there is no {path}", remedy) from None
    except OSError as error:
        raise ProvisioningError(
            f"cannot read {path}: {error.strerror}", "run as the daemon's user or as root"
        ) from error
    except ProtocolError as error:
        raise ProvisioningError(f"{path} is damaged: {error.detail}", _REMEDY_INSTALL) from error
    signer = SigningKey(_signing_seed(directory, make=False))
    try:
        _check(provisioning, signer)
    except ProtocolError as error:
        raise ProvisioningError(f"{path} is not this device's: {error.detail}", _REMEDY_INSTALL) from error
    return ProvisionedDevice(
        identity=DeviceIdentity(device_name(signer.public_bytes), signer, bytes.fromhex(provisioning.root_key)),
        statements=tuple(provisioning.statements),
        tls_certificate=directory / TLS_CERTIFICATE,
        tls_key=directory / TLS_KEY,
        tls_authority=directory / TLS_AUTHORITY,
    )


_REMEDY_ENROL: Final = "take this device's request.json to the center and install the answer to that request"
_REMEDY_OWNER: Final = "look into the directory, then give it to the daemon's user with chown"
_REMEDY_INSTALL: Final = "install the provisioning file once more: edge-agent enrol install FILE"


def _check(provisioning: Provisioning, signer: SigningKey) -> None:
    """Raise ProtocolError unless every statement follows from the root key and one certifies this device."""
    device = device_name(signer.public_bytes)
    named = parse_name(provisioning.device)
    if named != device:
        problem = f"it is for device {provisioning.device}, this is {device.hex()}"
        raise ProvisioningError(problem, _REMEDY_ENROL)
    trust = Trust(_root_key(provisioning))
    statements = [parse_statement(data) for data in provisioning.statements]
    for source in statements:
        if source.kind == statement.KEY_CERTIFICATE:
            trust = trust.learn(source)
    for source in statements:
        trust.check(source)
    subjects = {(source.kind, source.subject) for source in statements}
    if (statement.DEVICE_CERTIFICATE, device) not in subjects:
        raise ProvisioningError("it does not certify this device", _REMEDY_ENROL)
    if (statement.RECIPIENT_KEY, parse_name(provisioning.recipient_key)) not in subjects:
        raise ProvisioningError("it does not bring the center's key", _REMEDY_ENROL)


def _is_request(data: bytes) -> bool:
    try:
        decode_record(data, EnrolmentRequest)
    except ProtocolError:
        return False
    return True


def _root_key(provisioning: Provisioning) -> bytes:
    try:
        return bytes.fromhex(provisioning.root_key)
    except ValueError:
        raise ProvisioningError("its root key is not hexadecimal", _REMEDY_ENROL) from None


def _check_tls(provisioning: Provisioning, tls_key: ec.EllipticCurvePrivateKey) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(provisioning.tls_certificate.encode())
        x509.load_pem_x509_certificates(provisioning.tls_authority.encode())
    except ValueError:
        raise ProvisioningError("its certificates cannot be read", _REMEDY_ENROL) from None
    if certificate.public_key() != tls_key.public_key():
        raise ProvisioningError("its TLS certificate belongs to another key", _REMEDY_ENROL)


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


def _signing_seed(directory: Path, *, make: bool) -> bytes:
    path = directory / SIGNING_KEY
    if make and not path.exists():
        _write(path, secrets.token_bytes(SEED_BYTES).hex().encode() + b"\n", mode=0o600)
    text = _read_secret(path)
    try:
        seed = bytes.fromhex(text.decode())
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise ProvisioningError(f"{path} is damaged", "restore it from where it was kept, or enrol the device anew")
    return seed


def _tls_key(directory: Path) -> ec.EllipticCurvePrivateKey:
    path = directory / TLS_KEY
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write(path, pem, mode=0o600)
    try:
        key = serialization.load_pem_private_key(_read_secret(path), password=None)
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ProvisioningError(f"{path} is damaged", "remove it, then run edge-agent enrol request again")
    return key


def _read_secret(path: Path) -> bytes:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ProvisioningError(f"{path} can be read by others", f"run: chmod 600 {path}")
        return path.read_bytes()
    except FileNotFoundError:
        raise ProvisioningError(f"there is no {path}", "run edge-agent enrol request first") from None
    except OSError as error:
        raise ProvisioningError(
            f"cannot read {path}: {error.strerror}", "run as the daemon's user or as root"
        ) from error


def _write(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file so that after a power cut it is there whole, or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.rename(path)
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fsync(parent)
        os.close(parent)
    except OSError as error:
        raise ProvisioningError(
            f"cannot write {path}: {error.strerror}", "run as root; see whether the disk is full or read-only"
        ) from error
