"""Known keys and small examples of everything that travels, for tests of the protocol."""

from __future__ import annotations

from hashlib import sha256

from sync_protocol.content import Questionnaire, cut, encode_content
from sync_protocol.envelope import NO_ID, Envelope, seal_envelope
from sync_protocol.head import Head, sign_head
from sync_protocol.identity import Role, Standing, Trust, certify_device, certify_key, device_name
from sync_protocol.keys import RecipientPrivateKey, SigningKey, VerifyingKey
from sync_protocol.medium import certify_medium, write_medium_identity
from sync_protocol.receipt import Mark, Span, SpanStatus, sign_receipt
from sync_protocol.statement import Statement, Usage

TIME = 1_633_000_000_000_000


def signing_key(name: str) -> SigningKey:
    return SigningKey(sha256(b"example " + name.encode()).digest())


ROOT, ISSUER, RECEIPTS, TABLET = (signing_key(name) for name in ("root", "issuer", "receipts", "tablet"))
CENTER = RecipientPrivateKey(sha256(b"example center").digest())
ORIGIN = device_name(TABLET.public_bytes)
MEDIUM = sha256(b"example medium").digest()[:16]
TABLET_VERIFIER = VerifyingKey(TABLET.public_bytes)


def questionnaire(body: bytes = b'{"persons":[{"age":41},{"age":9}]}', instance_id: str = "uuid:1") -> Questionnaire:
    return Questionnaire("household", "3", instance_id, "application/json", TIME, body)


def content(body: bytes = b'{"persons":[{"age":41},{"age":9}]}') -> bytes:
    """Return the plaintext of a questionnaire of one part."""
    ((metadata, part),) = cut(questionnaire(body))
    return encode_content(metadata, part)


def envelope(plaintext: bytes | None = None, sequence: int = 1, previous_id: bytes = NO_ID) -> Envelope:
    return seal_envelope(
        content() if plaintext is None else plaintext,
        recipient=CENTER.public_key,
        signer=TABLET,
        origin=ORIGIN,
        epoch=1,
        sequence=sequence,
        previous_id=previous_id,
    )


def head(sequence: int = 3) -> Head:
    last_id = sha256(b"last").digest() if sequence else NO_ID
    return sign_head(
        TABLET, origin=ORIGIN, epoch=1, sequence=sequence, last_id=last_id, receipt_serial=2, stated_at=TIME
    )


def spans() -> tuple[Span, ...]:
    return (
        Span(1, 1, sha256(b"3").digest(), SpanStatus.COMMITTED, (Mark(1, TIME), Mark(2, TIME + 1))),
        Span(1, 5, sha256(b"5").digest(), SpanStatus.HELD, (Mark(1, TIME),)),
        Span(2, 1, sha256(b"epoch 2").digest(), SpanStatus.COMMITTED, (Mark(7, TIME),)),
    )


def receipt() -> Statement:
    return sign_receipt(RECEIPTS, origin=ORIGIN, serial=4, watermark=TIME, spans=spans())


def device_certificate(name: str = "планшет 17") -> Statement:
    return certify_device(
        ISSUER,
        public_key=TABLET.public_bytes,
        role=Role.TABLET,
        standing=Standing.ACTIVE,
        issued_at=TIME,
        name=name,
        serial=1,
    )


def key_certificate(key: SigningKey = ISSUER, usage: Usage = Usage.CERTIFICATES, serial: int = 1) -> Statement:
    return certify_key(ROOT, public_key=key.public_bytes, usage=usage, serial=serial)


def medium_certificate(
    signer: SigningKey = ISSUER,
    *,
    serial: int = 1 << 32,
    standing: Standing = Standing.ACTIVE,
    medium: bytes = MEDIUM,
    expires_at: int = 0,
) -> Statement:
    return certify_medium(
        signer,
        medium=medium,
        number="СКО-0017",
        holder="Ахметова А. С.",
        standing=standing,
        issued_at=TIME,
        expires_at=expires_at,
        serial=serial,
    )


def medium_identity() -> bytes:
    return write_medium_identity([key_certificate()], medium_certificate())


def trust() -> Trust:
    """Return a trust that knows the issuer and the receipt key."""
    start = Trust(ROOT.public_bytes).learn(key_certificate())
    return start.learn(key_certificate(RECEIPTS, Usage.RECEIPTS))
