"""Where the center's files are: the authority's public record, its sealed keys, TLS certificates, what was issued.

state/authority.json          every public key and its statement (read by consumer and publisher)
state/tls/*.pem               root, issuing, center, consumer, receipts: certificates
state/devices/DEVICE.json     the newest provisioning of each device, so that enrolling again gives the same
state/issued.jsonl            one line for every TLS certificate that was handed to a device, written before it was
state/revocation.number       the number of the newest revocation list
secrets/authority/*.sealed    root, issuing, tls-root, tls-issuing, tls-center
secrets/consumer/*            recipient-NAME.sealed, tls.key
secrets/receipts/*            receipt-NAME.sealed, tls.key

Each folder of secrets can belong to the user of its own service. Root, tls-root and tls-center are not needed from
day to day and may be moved offline.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from central_broker.authority import AuthorityRecord, KeyKind, KeyRecord, KeyState, NewSecret, create_authority
from central_broker.configuration import Configuration
from central_broker.seed_protection import (
    SCRYPT_COST_LOG2,
    PassphraseSources,
    Protection,
    SecretDirectory,
    SecretError,
    make_private_directory,
)
from central_broker.tls_authority import (
    CONSUMER_NAME,
    PUBLISHER_NAME,
    TlsAuthority,
    TlsIssuer,
    create_tls_authority,
    issue_client_certificate,
    issuer_from,
    key_to_der,
    key_to_pem,
    new_tls_key,
    to_pem,
)
from operations.durable_files import only_one, sync_directory, write_durably
from sync_protocol.errors import ProtocolError
from sync_protocol.identity import Trust
from sync_protocol.keys import RecipientPrivateKey, SigningKey
from sync_protocol.records import Provisioning, decode_record, encode_record

TLS_ROOT: Final = "tls-root"
TLS_ISSUING: Final = "tls-issuing"
TLS_CENTER: Final = "tls-center"


class IssuedCertificate(msgspec.Struct, frozen=True):
    """One line of the ledger: a TLS certificate (serial in hexadecimal) of a device; time in microseconds."""

    device: str
    serial: str
    issued_at: int


class CenterFilesError(Exception):
    """A file of the center is missing or damaged; `remedy` says what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True)
class CenterFiles:
    """The files of one center. Secrets are opened only when asked for, each from its own file."""

    configuration: Configuration
    sources: PassphraseSources
    scrypt_cost_log2: int = SCRYPT_COST_LOG2

    @property
    def state(self) -> Path:
        return self.configuration.directories.state

    @property
    def authority_path(self) -> Path:
        return self.state / "authority.json"

    @property
    def authority_secrets(self) -> SecretDirectory:
        return self._secrets("authority")

    @property
    def consumer_secrets(self) -> SecretDirectory:
        return self._secrets("consumer")

    @property
    def receipt_secrets(self) -> SecretDirectory:
        return self._secrets("receipts")

    def _secrets(self, purpose: str) -> SecretDirectory:
        return SecretDirectory(
            self.configuration.directories.secrets / purpose,
            self.sources,
            protection=Protection(self.configuration.secrets.protection),
            cost_log2=self.scrypt_cost_log2,
        )

    def only_one(self) -> AbstractContextManager[None]:
        """Hold while the authority's files are read and changed."""
        return only_one(self.state / "lock")

    # The authority

    def authority(self) -> AuthorityRecord:
        """The public record, verified from its root on; raises CenterFilesError."""
        try:
            record = msgspec.json.decode(self.authority_path.read_bytes(), type=AuthorityRecord)
            record.trust()
        except FileNotFoundError:
            raise CenterFilesError(
                f"there is no authority yet ({self.authority_path})", "run `central-broker init` first"
            ) from None
        except (msgspec.DecodeError, ProtocolError, ValueError) as error:
            raise CenterFilesError(
                f"{self.authority_path} is damaged: {error}", "restore the file from its backup"
            ) from None
        return record

    def save_authority(self, record: AuthorityRecord) -> None:
        """Replace the public record. Secrets that it names must be written before."""
        write_durably(self.authority_path, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")

    def keep(self, secret: NewSecret) -> Path:
        """Seal a new key where its purpose needs it."""
        if secret.kind is KeyKind.RECEIPT:
            return self.receipt_secrets.write(secret.name, secret.seed)
        if secret.kind is KeyKind.RECIPIENT:
            return self.consumer_secrets.write(secret.name, secret.seed)
        return self.authority_secrets.write(secret.name, secret.seed)

    def root_key(self, path: Path | None = None) -> SigningKey:
        """The root, perhaps from an offline medium; raises SecretError."""
        return SigningKey(self.authority_secrets.read("root", path=path))

    def issuing_key(self) -> SigningKey:
        """The key that certifies devices and recipient keys; raises SecretError."""
        return SigningKey(self.authority_secrets.read("issuing"))

    def receipt_key(self) -> SigningKey:
        """The receipt key in use; raises SecretError, CenterFilesError."""
        return SigningKey(self.receipt_secrets.read(self.authority().active(KeyKind.RECEIPT).secret_name))

    def recipient_keys(self) -> list[RecipientPrivateKey]:
        """Every recipient key that envelopes may still come for, the newest first; raises SecretError."""
        secrets = self.consumer_secrets  # one object, so that a passphrase is asked for once
        return [RecipientPrivateKey(secrets.read(key.secret_name)) for key in self._openable_keys()]

    def _openable_keys(self) -> list[KeyRecord]:
        return [key for key in self.authority().of_kind(KeyKind.RECIPIENT) if key.state is not KeyState.WITHDRAWN]

    def trust(self) -> Trust:
        """What the center itself believes."""
        return self.authority().trust()

    # TLS

    def certificate(self, name: str) -> Path:
        """The PEM file of one of: root, issuing, center, consumer, receipts."""
        return self.state / "tls" / f"{name}.pem"

    def tls_issuing(self) -> TlsIssuer:
        """The authority of devices and the broker; raises SecretError, CenterFilesError."""
        return self._tls_issuer("issuing", TLS_ISSUING)

    def _tls_issuer(self, certificate: str, secret: str) -> TlsIssuer:
        key = self.authority_secrets.read(secret)
        try:
            return issuer_from(self.certificate(certificate).read_bytes(), key)
        except (OSError, ValueError) as error:
            raise CenterFilesError(
                f"{self.certificate(certificate)} cannot be used: {error}", "restore it from its backup"
            ) from None

    # Devices

    def issued(self) -> list[IssuedCertificate]:
        """Every TLS certificate handed to a device. A torn last line is one that was never handed out."""
        path = self.state / "issued.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [msgspec.json.decode(line, type=IssuedCertificate) for line in lines]

    def record_issued(self, issued: IssuedCertificate) -> None:
        """Add to the ledger, durably: a certificate that is not in it could never be revoked."""
        path = self.state / "issued.jsonl"
        kept = path.read_bytes() if path.exists() else b""
        whole = kept[: kept.rfind(b"\n") + 1]
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.ftruncate(descriptor, len(whole))
            os.pwrite(descriptor, msgspec.json.encode(issued) + b"\n", len(whole))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(path.parent)

    def provisioning(self, device: bytes) -> Provisioning | None:
        """What the device was given last."""
        path = self.state / "devices" / f"{device.hex()}.json"
        return decode_record(path.read_bytes(), Provisioning) if path.exists() else None

    def save_provisioning(self, device: bytes, provisioning: Provisioning) -> None:
        """Keep what the device is given."""
        (self.state / "devices").mkdir(exist_ok=True)
        write_durably(self.state / "devices" / f"{device.hex()}.json", encode_record(provisioning))

    def next_revocation_number(self) -> int:
        """Count revocation lists, durably."""
        path = self.state / "revocation.number"
        number = 1 + (int(path.read_text()) if path.exists() else 0)
        write_durably(path, f"{number}\n".encode())
        return number


def create_center(files: CenterFiles, now: int) -> AuthorityRecord:
    """Make the authority and everything it needs; raises SecretError and leaves an existing one alone.

    The public record is written last: a center is there when it is.
    """
    if files.authority_path.exists():
        raise SecretError(
            f"this center has an authority already ({files.authority_path})",
            "use it, or name another folder with --center; a second root would make every tablet's certificate void",
        )
    # Below it lies the SQLite database, with people's answers: open to the services' group, and to nobody else.
    files.state.mkdir(mode=0o750, parents=True, exist_ok=True)
    (files.state / "tls").mkdir(exist_ok=True)
    # An installation may have made it, for the services to pass through; the folders below it are private in any case.
    if not files.configuration.directories.secrets.exists():
        make_private_directory(files.configuration.directories.secrets)
    record, secrets = create_authority(os.urandom, now)
    for secret in secrets:
        files.keep(secret)
    _create_tls(files, create_tls_authority())
    files.save_authority(record)
    return record


def _create_tls(files: CenterFiles, tls: TlsAuthority) -> None:
    issuers: Mapping[str, TlsIssuer] = {TLS_ROOT: tls.root, TLS_ISSUING: tls.issuing, TLS_CENTER: tls.center}
    for name, issuer in issuers.items():
        files.authority_secrets.write(name, key_to_der(issuer.key))
        write_durably(files.certificate(name.removeprefix("tls-")), to_pem(issuer.certificate))
    for purpose, common_name in (("consumer", CONSUMER_NAME), ("receipts", PUBLISHER_NAME)):
        key = new_tls_key()
        certificate = issue_client_certificate(tls.center, key.public_key(), common_name)
        place = files.configuration.directories.secrets / purpose / "tls.key"
        write_durably(place, key_to_pem(key), mode=0o600, for_folder_owner=True)
        write_durably(files.certificate(purpose), to_pem(certificate))
