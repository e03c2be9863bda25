"""The Department's authority and the center's keys, with everything an operator may have it sign."""

from __future__ import annotations

from dataclasses import dataclass, field

from sync_protocol.identity import (
    DeviceCertificate,
    Role,
    Standing,
    Trust,
    certify_device,
    certify_key,
    device_name,
    publish_recipient_key,
    read_device_certificate,
    read_recipient_key,
)
from sync_protocol.keys import Recipient, RecipientSecret, Signer
from sync_protocol.limits import DELEGATED_SERIAL_MAX
from sync_protocol.medium import certify_medium, write_medium_identity
from sync_protocol.statement import RECIPIENT_KEY, Statement, Usage
from tests.simulator.keys import Keys


@dataclass
class Authority:
    """Signs keys and devices; serials only grow."""

    keys: Keys
    issued: dict[bytes, Statement] = field(default_factory=dict)
    media: dict[bytes, Statement] = field(default_factory=dict)
    provisioned: dict[bytes, list[Statement]] = field(default_factory=dict)
    """The keys that a device was given when it was enrolled."""
    secrets: list[RecipientSecret] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = self.keys.signer("root")
        self.issuer = self.keys.signer("issuer")
        self.receipt_signer = self.keys.signer("receipts 1")
        self._receipt_keys = 1
        self._key_statements = [
            certify_key(self.root, public_key=self.issuer.public_bytes, usage=Usage.CERTIFICATES, serial=1),
            self._certify_receipt_key(self.receipt_signer),
        ]
        self.rotate_recipient_key()

    def _certify_receipt_key(self, signer: Signer) -> Statement:
        return certify_key(self.root, public_key=signer.public_bytes, usage=Usage.RECEIPTS, serial=1)

    def rotate_recipient_key(self) -> None:
        """Publish a new key to seal to; the old secrets stay with the consumers."""
        serial = len(self.secrets) + 1
        secret, public_bytes = self.keys.secret(f"center {serial}")
        self.secrets.append(secret)
        self._key_statements.append(publish_recipient_key(self.issuer, public_key=public_bytes, serial=serial))

    def rotate_receipt_key(self) -> None:
        """Certify a new receipt key. The old one stays good: what it signed is still on its way."""
        self._receipt_keys += 1
        self.receipt_signer = self.keys.signer(f"receipts {self._receipt_keys}")
        self._key_statements.append(self._certify_receipt_key(self.receipt_signer))

    def recipient(self) -> Recipient:
        """Return the newest key to seal to."""
        return read_recipient_key([one for one in self._key_statements if one.kind == RECIPIENT_KEY][-1])

    def key_statements(self) -> list[Statement]:
        """Everything that says which keys are good, certificates before what they certify."""
        return list(self._key_statements)

    def trust(self) -> Trust:
        trust = Trust(self.root.public_bytes)
        for statement in self._key_statements:
            if statement.signer == trust.root_name:
                trust = trust.learn(statement)
        return trust

    def certify(
        self, signer: Signer, name: str, *, standing: Standing = Standing.ACTIVE, role: Role = Role.TABLET
    ) -> Statement:
        """Certify a device, or say anew how it stands."""
        device = device_name(signer.public_bytes)
        before = self.issued.get(device)
        self.provisioned.setdefault(device, self.key_statements())
        self.issued[device] = certify_device(
            self.issuer,
            public_key=signer.public_bytes,
            role=role,
            standing=standing,
            issued_at=1 if before is None else before.serial + 1,
            name=name,
            serial=1 if before is None else before.serial + 1,
        )
        return self.issued[device]

    def certify_medium(self, medium: bytes, number: str, standing: Standing = Standing.ACTIVE) -> Statement:
        """Certify a medium, or say anew how it stands."""
        before = self.media.get(medium)
        serial = DELEGATED_SERIAL_MAX + 1 if before is None else before.serial + 1
        self.media[medium] = certify_medium(
            self.issuer,
            medium=medium,
            number=number,
            holder="an employee",
            standing=standing,
            issued_at=1,
            expires_at=0,
            serial=serial,
        )
        return self.media[medium]

    def medium_identity(self, medium: bytes, number: str) -> bytes:
        """Return the identity file of a medium that the authority has enrolled."""
        return write_medium_identity(self._key_statements[:1], self.certify_medium(medium, number))

    def certificate(self, device: bytes) -> DeviceCertificate:
        return read_device_certificate(self.issued[device])
