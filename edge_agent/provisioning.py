"""The device's identity on disk, as the daemon loads it. `enrolment.py` makes it.

| file in the provisioning directory | what | who writes it |
|---|---|---|
| `signing.key` | Ed25519 seed, hexadecimal | `enrolment.make_request`, once |
| `tls.key` | P-256 private key, PEM | `enrolment.make_request`, once |
| `request.json` | enrolment request, for the center | `enrolment.make_request` |
| `provisioning.json` | the center's answer | `enrolment.install` |
| `tls.crt`, `authority.crt` | certificates from it, as OpenSSL reads them | `enrolment.install` |

The directory (0700) and the files in it belong to the daemon's user; the keys are 0600.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.engine.identity import DeviceIdentity
from sync_protocol import statement
from sync_protocol.errors import ProtocolError
from sync_protocol.identity import Trust, device_name
from sync_protocol.keys import SEED_BYTES, SigningKey
from sync_protocol.records import Provisioning, decode_record, parse_name
from sync_protocol.statement import parse_statement

SIGNING_KEY: Final = "signing.key"
TLS_KEY: Final = "tls.key"
REQUEST: Final = "request.json"
PROVISIONING: Final = "provisioning.json"
TLS_CERTIFICATE: Final = "tls.crt"
TLS_AUTHORITY: Final = "authority.crt"
REMEDY_ENROL: Final = "take this device's request.json to the center and install the answer to that request"
_REMEDY_INSTALL: Final = "install the provisioning file once more: edge-agent enrol install FILE"


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
    signer = signing_key(directory)
    try:
        check(provisioning, signer)
    except ProtocolError as error:
        raise ProvisioningError(f"{path} is not this device's: {error.detail}", _REMEDY_INSTALL) from error
    return ProvisionedDevice(
        identity=DeviceIdentity(device_name(signer.public_bytes), signer, bytes.fromhex(provisioning.root_key)),
        statements=tuple(provisioning.statements),
        tls_certificate=directory / TLS_CERTIFICATE,
        tls_key=directory / TLS_KEY,
        tls_authority=directory / TLS_AUTHORITY,
    )


def check(provisioning: Provisioning, signer: SigningKey) -> None:
    """Raise ProtocolError unless every statement follows from the root key and one certifies this device."""
    device = device_name(signer.public_bytes)
    named = parse_name(provisioning.device)
    if named != device:
        problem = f"it is for device {provisioning.device}, this is {device.hex()}"
        raise ProvisioningError(problem, REMEDY_ENROL)
    trust = Trust(_root_key(provisioning))
    statements = [parse_statement(data) for data in provisioning.statements]
    for source in statements:
        if source.kind == statement.KEY_CERTIFICATE:
            trust = trust.learn(source)
    for source in statements:
        trust.check(source)
    subjects = {(source.kind, source.subject) for source in statements}
    if (statement.DEVICE_CERTIFICATE, device) not in subjects:
        raise ProvisioningError("it does not certify this device", REMEDY_ENROL)
    if (statement.RECIPIENT_KEY, parse_name(provisioning.recipient_key)) not in subjects:
        raise ProvisioningError("it does not bring the center's key", REMEDY_ENROL)


def _root_key(provisioning: Provisioning) -> bytes:
    try:
        return bytes.fromhex(provisioning.root_key)
    except ValueError:
        raise ProvisioningError("its root key is not hexadecimal", REMEDY_ENROL) from None


def signing_key(directory: Path) -> SigningKey:
    """Return the device's signing key; raises ProvisioningError."""
    path = directory / SIGNING_KEY
    text = read_secret(path)
    try:
        seed = bytes.fromhex(text.decode())
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise ProvisioningError(f"{path} is damaged", "restore it from where it was kept, or enrol the device anew")
    return SigningKey(seed)


def read_secret(path: Path) -> bytes:
    """Return a private file's bytes; raises ProvisioningError, also when others may read it."""
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
