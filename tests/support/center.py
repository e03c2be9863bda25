"""Devices, chains and records for tests of the center: real keys, real envelopes, no configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from central_broker.directory import Directory
from central_broker.storage.batch_records import (
    AcceptedEnvelope,
    Arrival,
    ArrivedHead,
    CertifiedDevice,
    CertifiedMedium,
    ChainLink,
    PartContent,
    QuestionnaireContent,
    Route,
)
from central_broker.storage.inquiry_records import DeviceRecord
from sync_protocol.bundle import Frame, FrameType, write_bundle
from sync_protocol.content import Questionnaire, cut, encode_content
from sync_protocol.envelope import KIND_QUESTIONNAIRE_PART, NO_ID, Envelope, seal_envelope
from sync_protocol.head import Head, sign_head
from sync_protocol.identity import (
    Role,
    Standing,
    Trust,
    certify_device,
    certify_key,
    device_name,
    read_device_certificate,
)
from sync_protocol.keys import RecipientPrivateKey, SigningKey
from sync_protocol.medium import certify_medium, read_medium_certificate
from sync_protocol.statement import Statement, Usage

FORM = "household"


def seed(text: str) -> bytes:
    """32 bytes that are always the same for the same text."""
    return sha256(text.encode()).digest()


@dataclass
class Center:
    """A root, an issuing key, a receipt key and a recipient key."""

    root: SigningKey = field(default_factory=lambda: SigningKey(seed("root")))
    issuer: SigningKey = field(default_factory=lambda: SigningKey(seed("issuer")))
    receipt_signer: SigningKey = field(default_factory=lambda: SigningKey(seed("receipts")))
    recipient: RecipientPrivateKey = field(default_factory=lambda: RecipientPrivateKey(seed("recipient")))

    def key_certificates(self) -> list[Statement]:
        return [
            certify_key(self.root, public_key=self.issuer.public_bytes, usage=Usage.CERTIFICATES, serial=1),
            certify_key(self.root, public_key=self.receipt_signer.public_bytes, usage=Usage.RECEIPTS, serial=1),
        ]

    def trust(self) -> Trust:
        trust = Trust(self.root.public_bytes)
        for certificate in self.key_certificates():
            trust = trust.learn(certificate)
        return trust

    def certify(
        self, device: SealingDevice, *, standing: Standing = Standing.ACTIVE, serial: int = 1, role: Role = Role.TABLET
    ) -> CertifiedDevice:
        statement = certify_device(
            self.issuer,
            public_key=device.key.public_bytes,
            role=role,
            standing=standing,
            issued_at=1,
            name=device.name,
            serial=serial,
        )
        return CertifiedDevice(read_device_certificate(statement), statement.data)

    def certify_medium(
        self,
        number: str,
        *,
        standing: Standing = Standing.ACTIVE,
        serial: int = 1,
        expires_at: int = 0,
        signer: SigningKey | None = None,
    ) -> CertifiedMedium:
        statement = certify_medium(
            self.issuer if signer is None else signer,
            medium=seed(f"medium {number}")[:16],
            number=number,
            holder="Әсем",
            standing=standing,
            issued_at=1,
            expires_at=expires_at,
            serial=serial,
        )
        return CertifiedMedium(read_medium_certificate(statement), statement.data)

    def directory(
        self,
        devices: Iterable[SealingDevice] = (),
        *,
        standing: Standing = Standing.ACTIVE,
        role: Role = Role.TABLET,
        forms: Iterable[tuple[str, str]] = ((FORM, ""),),
        secrets: Iterable[RecipientPrivateKey] | None = None,
    ) -> Directory:
        records = [device_record(self.certify(device, standing=standing, role=role)) for device in devices]
        return Directory(trust=self.trust(), secrets=secrets or [self.recipient], devices=records, forms=forms)


def device_record(certified: CertifiedDevice) -> DeviceRecord:
    """The record that the database would give of a certificate."""
    one = certified.certificate
    return DeviceRecord(
        one.device,
        one.name,
        one.role,
        one.standing,
        one.public_key,
        one.issued_at,
        one.serial,
        certified.data,
        1,
        None,
        None,
        None,
    )


class SealingDevice:
    """A device that seals questionnaires into its chain."""

    def __init__(self, name: str, center: Center) -> None:
        self.name = name
        self.center = center
        self.key = SigningKey(seed("device " + name))
        self.id = device_name(self.key.public_bytes)
        self.epoch = 1
        self.sealed: list[Envelope] = []

    def questionnaire(self, body: bytes, **changes: str) -> Questionnaire:
        number = len(self.sealed) + 1
        values = {"form": FORM, "form_version": "1", "instance_id": f"uuid:{self.name}-{number}"}
        values |= {"media_type": "application/json"} | changes
        return Questionnaire(created_at=1_630_000_000_000_000, body=body, **values)

    def seal(self, body: bytes, recipient: RecipientPrivateKey | None = None, /, **changes: str) -> list[Envelope]:
        """Seal a questionnaire as the next envelopes of the chain (several when it is large)."""
        return [
            self.seal_content(encode_content(metadata, part), recipient)
            for metadata, part in cut(self.questionnaire(body, **changes))
        ]

    def seal_content(
        self, content: bytes, recipient: RecipientPrivateKey | None = None, *, kind: int = KIND_QUESTIONNAIRE_PART
    ) -> Envelope:
        """Seal any plaintext as the next envelope of the chain."""
        envelope = seal_envelope(
            content,
            recipient=(recipient or self.center.recipient).public_key,
            signer=self.key,
            origin=self.id,
            epoch=self.epoch,
            sequence=len(self.sealed) + 1,
            previous_id=self.sealed[-1].id if self.sealed else NO_ID,
            kind=kind,
        )
        self.sealed.append(envelope)
        return envelope

    def head(self, receipt_serial: int = 0) -> Head:
        return sign_head(
            self.key,
            origin=self.id,
            epoch=self.epoch,
            sequence=len(self.sealed),
            last_id=self.sealed[-1].id if self.sealed else NO_ID,
            receipt_serial=receipt_serial,
            stated_at=1,
        )

    def bundle(self, envelopes: Iterable[Envelope], head: Head | None = None) -> bytes:
        frames = [Frame(FrameType.HEAD, head.data)] if head else []
        return write_bundle([*frames, *(Frame(FrameType.ENVELOPE, one.data) for one in envelopes)])


def body_of(number: int) -> bytes:
    """A small household as JSON."""
    return b'{"household":%d,"persons":[{"line":1,"age":%d},{"line":2,"age":7}]}' % (number, number % 90)


class LinkChain:
    """Accepted envelopes without any cryptography, for tests of storage and receipts."""

    def __init__(self, name: str, epoch: int = 1) -> None:
        self.origin = seed("origin " + name)[:16]
        self.epoch = epoch
        self.last_id = NO_ID
        self.sequence = 0

    def link(self, salt: str = "") -> ChainLink:
        """The next link of the chain."""
        self.sequence += 1
        envelope_id = seed(f"{self.origin.hex()}{self.epoch}/{self.sequence}{salt}")
        link = ChainLink(self.origin, envelope_id, self.epoch, self.sequence, self.last_id)
        self.last_id = envelope_id
        return link

    def arrival(self, received_at: int = 5) -> Arrival:
        return Arrival(self.origin, Route.VPN, received_at)

    def accepted(self, *, content: str | None = None, salt: str = "", received_at: int = 5) -> AcceptedEnvelope:
        """The next envelope, with a whole questionnaire."""
        link = self.link(salt)
        text = body_of(link.sequence).decode() if content is None else content
        questionnaire = QuestionnaireContent(
            FORM, "1", f"uuid:{link.sequence}", "application/json", 1, text.encode("utf-8", "replace"), text
        )
        return AcceptedEnvelope(link, self.arrival(received_at), b"data " + link.id, questionnaire)

    def parts(self, body: bytes, count: int) -> list[AcceptedEnvelope]:
        """The next envelopes, with the parts of one questionnaire."""
        size = -(-len(body) // count)
        whole = seed(f"whole {self.origin.hex()} {self.sequence} {body[:20].hex()}")
        digest = sha256(body).hexdigest()
        found = []
        for part in range(1, count + 1):
            piece = body[(part - 1) * size : part * size]
            link = self.link()
            content = PartContent(FORM, "1", "uuid:large", "application/json", 1, whole, part, count, digest, piece)
            found.append(AcceptedEnvelope(link, self.arrival(), b"data " + link.id, content))
        return found


def arrived(device: SealingDevice, head: Head) -> ArrivedHead:
    """A head as its own device brings it."""
    return ArrivedHead(head, Arrival(device.id, Route.VPN, 5))
