"""Acceptance: what becomes of each frame that reaches the center. Sans-I/O: no clock, no logging, no storage.

    envelope ── malformed? ── origin known? ── signature? ── standing? ── open ── decode ── form known? ── accepted
                    │              │              │              │          │        │           │
                    ▼              ▼              ▼              ▼          ▼        ▼           ▼
                  held           held+          held           held+      held+    held+       held+

held+ is receipted as held and takes its place in the origin's chain. What is not proven to be the origin's, though its
key is known, or cannot be read at all, takes no place: it must neither show in a receipt nor block the true envelope.

Not responsible for duplicates, forks and joining: those are what the database already has (`storage`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, Final

import msgspec

from central_broker.content_decoding import Unparsable, content_of
from central_broker.directory import Directory
from central_broker.forms.answers import rows_of
from central_broker.forms.registry import FormRegistry
from central_broker.storage.batch_records import (
    STORED_NUMBER_MAX,
    AcceptedEnvelope,
    Arrival,
    ArrivedHead,
    CertifiedDevice,
    CertifiedMedium,
    ChainLink,
    DeviceKeyContent,
    HeldItem,
    HeldReason,
    PartContent,
    QuestionnaireContent,
    Route,
    Unreadable,
    WholeDecoder,
)
from central_broker.storage.census_records import Answers
from sync_protocol import statement
from sync_protocol.bundle import Frame, FrameType
from sync_protocol.content import Metadata, decode_content
from sync_protocol.device_key import decode_device_key
from sync_protocol.envelope import KIND_DEVICE_KEY, Envelope, parse_envelope
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.head import parse_head
from sync_protocol.identity import Role, Standing, read_device_certificate
from sync_protocol.medium import read_medium_certificate
from sync_protocol.statement import Statement, parse_statement
from sync_protocol.way import Leg, Way, read_way

_STANDING_REASONS: Final = {
    Standing.RETURNED: HeldReason.RETURNED_ORIGIN,
    Standing.LOST: HeldReason.LOST_ORIGIN,
    Standing.REVOKED: HeldReason.REVOKED_ORIGIN,
}

_FAULT_REASONS: Final = {
    Fault.UNKNOWN_VERSION: HeldReason.UNKNOWN_VERSION,
    Fault.UNKNOWN_KIND: HeldReason.UNKNOWN_VERSION,
    Fault.UNKNOWN_SUITE: HeldReason.UNKNOWN_SUITE,
    Fault.WRONG_RECIPIENT: HeldReason.WRONG_RECIPIENT,
    Fault.UNDECRYPTABLE: HeldReason.UNDECRYPTABLE,
}
"""Faults of opening and decoding that have a reason of their own; the others mean UNPARSABLE."""

_META: Final = "meta"
_DEPRECATED_ID: Final = "deprecatedID"
"""OpenRosa's name for the instance that an edited one replaces."""

_NO_FORMS: Final = FormRegistry()
_ROUTES: Final = {Leg.MESH: Route.MESH, Leg.USB: Route.USB}
_LEGS: Final = {route: leg for leg, route in _ROUTES.items()}


@dataclass(frozen=True, slots=True)
class Ignored:
    """A frame that is no questionnaire and cannot be used: a head or statement that does not verify, an odd way."""

    what: str
    fault: Fault
    detail: str


Accepted = AcceptedEnvelope | HeldItem | ArrivedHead | CertifiedDevice | CertifiedMedium | Way | Ignored | None
"""None: a statement that the center has no use for (its own receipts and keys, which every carrier passes on)."""


def arrival_of(
    carrier: bytes | None,
    origin: bytes | None,
    received_at: int,
    way: Way | None = None,
    *,
    role: Role | None = None,
) -> Arrival:
    """Tell how something came: by its own origin, or through another carrier and the way that it says.

    The origin's `role`, where it is known, tells what was filled online from what came over the VPN.

    The way can be verified nowhere. So it is for people and statistics only, and of no account where the origin itself
    stands at the broker.
    """
    if carrier is not None and carrier == origin:
        return Arrival(carrier, Route.ONLINE if role is Role.ONLINE else Route.VPN, received_at, 0)
    if way is None or way.leg is Leg.NONE:
        return Arrival(carrier, Route.RELAY, received_at)
    return Arrival(carrier, _ROUTES[way.leg], received_at, way.hops)


def way_of(route: Route, hops: int | None) -> Way | None:
    """Return the way that `arrival_of` makes this route and these hops of."""
    leg = _LEGS.get(route)
    return None if leg is None or hops is None else Way(leg, hops)


def accept(
    frame: Frame, *, carrier: bytes | None, received_at: int, directory: Directory, way: Way | None = None
) -> Accepted:
    """Return what the database shall record of one frame; never raises for what a frame contains.

    `way` is the one in force at this frame; what a way frame gives is in force for those after it.
    """
    if frame.type == FrameType.ENVELOPE:
        return accept_envelope(frame.payload, carrier=carrier, received_at=received_at, directory=directory, way=way)
    if frame.type == FrameType.HEAD:
        return accept_head(frame.payload, carrier=carrier, received_at=received_at, directory=directory)
    if frame.type == FrameType.WAY:
        return accept_way(frame.payload)
    return accept_statement(frame.payload, directory)


def accept_way(data: bytes) -> Way | Ignored:
    """Read what a carrier says of how the envelopes after this came to it."""
    try:
        return read_way(data)
    except ProtocolError as error:
        return Ignored("way", error.fault, error.detail)


def accept_envelope(
    data: bytes, *, carrier: bytes | None, received_at: int, directory: Directory, way: Way | None = None
) -> AcceptedEnvelope | HeldItem:
    """Verify, open and decode one envelope; its `way` changes nothing of what becomes of it."""
    try:
        envelope = parse_envelope(data)
    except ProtocolError as error:
        return hold(data, arrival_of(carrier, None, received_at, way), HeldReason.MALFORMED, str(error))
    known = directory.origin(envelope.origin)
    role = None if known is None else known.role
    arrival = arrival_of(carrier, envelope.origin, received_at, way, role=role)
    if envelope.sequence > STORED_NUMBER_MAX:
        return hold(data, arrival, HeldReason.MALFORMED, "the sequence is beyond what a chain can reach")
    link = ChainLink(envelope.origin, envelope.id, envelope.epoch, envelope.sequence, envelope.previous_id)
    if known is None:
        detail = f"device {envelope.origin.hex()} has no certificate here"
        return hold(data, arrival, HeldReason.UNKNOWN_ORIGIN, detail, link, receiptable=True)
    try:
        envelope.verify(known.verifier)
    except ProtocolError as error:
        return hold(data, arrival, HeldReason.BAD_SIGNATURE, error.detail, link)
    return _accept_verified(envelope, link, arrival, known.standing, directory)


def _accept_verified(
    envelope: Envelope, link: ChainLink, arrival: Arrival, standing: Standing, directory: Directory
) -> AcceptedEnvelope | HeldItem:
    if standing is not Standing.ACTIVE:
        detail = f"the origin's standing is {standing.name.lower()}"
        return hold(envelope.data, arrival, _STANDING_REASONS[standing], detail, link, receiptable=True)
    try:
        plaintext = envelope.open(directory.secret(envelope.recipient))
        if envelope.kind == KIND_DEVICE_KEY:
            key = DeviceKeyContent(decode_device_key(plaintext).public_bytes)
            return AcceptedEnvelope(link, arrival, envelope.data, key)
        metadata, body = decode_content(plaintext)
        content = _content(envelope, metadata, body, directory.registry)
    except ProtocolError as error:
        reason = _FAULT_REASONS.get(error.fault, HeldReason.UNPARSABLE)
        return hold(envelope.data, arrival, reason, str(error), link, receiptable=True)
    except Unparsable as error:
        return hold(envelope.data, arrival, HeldReason.UNPARSABLE, str(error), link, receiptable=True)
    if not directory.knows_form(metadata.form, metadata.form_version):
        detail = f"form {metadata.form!r} version {metadata.form_version!r} is not known; make it known, then retry"
        return hold(envelope.data, arrival, HeldReason.UNKNOWN_FORM, detail, link, receiptable=True)
    return AcceptedEnvelope(link, arrival, envelope.data, content)


def hold(
    data: bytes,
    arrival: Arrival,
    reason: HeldReason,
    detail: str,
    link: ChainLink | None = None,
    *,
    receiptable: bool = False,
) -> HeldItem:
    """Make a held item; its id is the SHA-256 of the exact bytes, so that a forgery never hides the true envelope."""
    return HeldItem(sha256(data).digest(), reason, detail, data, arrival, link, receiptable)


def _content(
    envelope: Envelope, metadata: Metadata, body: bytes, registry: FormRegistry
) -> QuestionnaireContent | PartContent:
    if metadata.parts == 1:
        if len(body) != metadata.whole_bytes or sha256(body).hexdigest() != metadata.whole_digest:
            raise Unparsable("the body is not the one that its metadata describes")
        content = content_of(metadata.media_type, body)
        return QuestionnaireContent(
            metadata.form,
            metadata.form_version,
            metadata.instance_id,
            metadata.media_type,
            metadata.created_at,
            body,
            content,
            read_answers(metadata.form, metadata.form_version, content, registry),
        )
    first = envelope.sequence - metadata.part + 1
    if first < 1:
        raise Unparsable("the part's number does not fit its place in the chain")
    return PartContent(
        metadata.form,
        metadata.form_version,
        metadata.instance_id,
        metadata.media_type,
        metadata.created_at,
        _whole(envelope, first, metadata),
        metadata.part,
        metadata.parts,
        metadata.whole_digest,
        body,
    )


def _whole(envelope: Envelope, first: int, metadata: Metadata) -> bytes:
    """Return what all parts of one questionnaire have in common, as 32 bytes."""
    common = (
        envelope.origin.hex(),
        envelope.epoch,
        first,
        metadata.form,
        metadata.form_version,
        metadata.instance_id,
        metadata.media_type,
        metadata.parts,
        metadata.whole_bytes,
        metadata.whole_digest,
    )
    return sha256(repr(common).encode()).digest()


def read_answers(form: str, version: str, content: str, registry: FormRegistry) -> Answers | None:
    """Return the rows that a questionnaire's content (of `content_of`) becomes; None of a form known by name only."""
    tables = registry.form_tables(form, version)
    if tables is None:
        return None
    said: dict[str, Any] = msgspec.json.decode(content)
    meta = said.get(_META)
    replaces = meta.get(_DEPRECATED_ID) if isinstance(meta, dict) else None
    tabulated = rows_of(tables, said)
    rows = tuple((table, found) for table, found in zip(tables.tables, tabulated.rows, strict=True) if found)
    return Answers(replaces if isinstance(replaces, str) and replaces else None, rows, tabulated.findings)


def whole_decoder(registry: FormRegistry) -> WholeDecoder:
    """Return what makes questionnaires of joined parts, by these forms."""
    return partial(decode_whole, registry=registry)


def decode_whole(
    part: PartContent, body: bytes, registry: FormRegistry = _NO_FORMS
) -> QuestionnaireContent | Unreadable:
    """Make a questionnaire of its joined parts (see `contract.WholeDecoder`)."""
    if sha256(body).hexdigest() != part.whole_digest:
        return Unreadable(HeldReason.UNPARSABLE, "the joined parts are not the questionnaire that was cut")
    try:
        content = content_of(part.media_type, body)
    except Unparsable as error:
        return Unreadable(HeldReason.UNPARSABLE, str(error))
    answers = read_answers(part.form, part.form_version, content, registry)
    return QuestionnaireContent(
        part.form, part.form_version, part.instance_id, part.media_type, part.created_at, body, content, answers
    )


def accept_head(data: bytes, *, carrier: bytes | None, received_at: int, directory: Directory) -> ArrivedHead | Ignored:
    """Verify a head. Of an unknown device, or one no longer active, it still counts if it verifies."""
    try:
        head = parse_head(data)
        if max(head.sequence, head.receipt_serial) >= STORED_NUMBER_MAX:
            return Ignored("head", Fault.BAD_FIELD, "the head's numbers are beyond what a chain can reach")
        known = directory.origin(head.origin)
        if known is None:
            return Ignored("head", Fault.UNTRUSTED_SIGNER, f"device {head.origin.hex()} has no certificate here")
        head.verify(known.verifier)
    except ProtocolError as error:
        return Ignored("head", error.fault, error.detail)
    return ArrivedHead(head, arrival_of(carrier, head.origin, received_at, role=known.role))


def accept_statement(data: bytes, directory: Directory) -> CertifiedDevice | CertifiedMedium | Ignored | None:
    """Verify a certificate of a device or medium; other statements are of no use to the center."""
    try:
        parsed = parse_statement(data)
        if parsed.kind not in (statement.DEVICE_CERTIFICATE, statement.MEDIUM_CERTIFICATE):
            return None
        directory.trust.check(parsed)
        if parsed.serial > STORED_NUMBER_MAX:
            return Ignored("statement", Fault.BAD_FIELD, "the certificate's serial is beyond what can be stored")
        if parsed.kind == statement.MEDIUM_CERTIFICATE:
            return CertifiedMedium(read_medium_certificate(parsed), data)
        return CertifiedDevice(read_device_certificate(parsed), data)
    except ProtocolError as error:
        return Ignored("statement", error.fault, error.detail)


def learn_keys(frames: tuple[Frame, ...], directory: Directory) -> Directory:
    """Return a directory that also trusts the key certificates among these frames: the root's word needs no other."""
    trust = directory.trust
    for frame in frames:
        if frame.type == FrameType.STATEMENT:
            try:
                parsed: Statement = parse_statement(frame.payload)
                if parsed.kind == statement.KEY_CERTIFICATE:
                    trust = trust.learn(parsed)
            except ProtocolError:
                continue  # accept() meets the same frame again and says what is wrong with it
    return directory if trust is directory.trust else directory.trusting(trust)
