"""What one transaction of the consumer records, and what became of it.

Times are microseconds since 1970 UTC. Ids of envelopes have 32 bytes, names of devices 16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from central_broker.storage.census_records import Answers
from sync_protocol.head import Head
from sync_protocol.identity import DeviceCertificate
from sync_protocol.medium import MediumCertificate

STORED_NUMBER_MAX: Final = (1 << 63) - 1
"""Databases count in signed 64 bits; greater sequences and serials are refused before they come here."""


class Route(StrEnum):
    """How an envelope reached the center. What lies between its origin and another carrier is that carrier's word."""

    VPN = "vpn"
    """Brought by its own origin, a device of the field."""
    ONLINE = "online"
    """Brought by its own origin, a device that is certified to take in what was filled on the census web site."""
    MESH = "mesh"
    """Brought by another carrier, and handed on over the mesh only."""
    USB = "usb"
    """Brought by another carrier, and handed on by a medium at least once."""
    RELAY = "relay"
    """Brought by another carrier that says nothing of its way: an edge of an earlier release."""

    @property
    def is_direct(self) -> bool:
        """Whether the origin itself stood at the broker: its sign of life, and no hops."""
        return self in (Route.VPN, Route.ONLINE)


class EnvelopeStatus(StrEnum):
    """What the center did with an envelope."""

    COMMITTED = "committed"
    HELD = "held"
    DISPROVED = "disproved"
    """Held while its origin was unknown; the origin is known now and did not sign it. In no receipt."""


class HeldReason(StrEnum):
    """Why data were kept aside instead of committed."""

    UNKNOWN_ORIGIN = "unknown_origin"
    BAD_SIGNATURE = "bad_signature"
    RETURNED_ORIGIN = "returned_origin"
    LOST_ORIGIN = "lost_origin"
    REVOKED_ORIGIN = "revoked_origin"
    WRONG_RECIPIENT = "wrong_recipient"
    UNKNOWN_VERSION = "unknown_version"
    UNKNOWN_SUITE = "unknown_suite"
    UNDECRYPTABLE = "undecryptable"
    UNPARSABLE = "unparsable"
    UNKNOWN_FORM = "unknown_form"
    MALFORMED = "malformed"
    DATABASE_REFUSED = "database_refused"


@dataclass(frozen=True, slots=True)
class Arrival:
    """How something came: `carrier` is the device that the broker vouches for; None when retried without one.

    `hops` is how often it was handed on before the carrier brought it, 255 for more: 0 from the origin itself, None
    where nobody said.
    """

    carrier: bytes | None
    route: Route
    received_at: int
    hops: int | None = None


@dataclass(frozen=True, slots=True)
class ChainLink:
    """An envelope's place: all that receipts, forks and completeness are made of."""

    origin: bytes
    id: bytes
    epoch: int
    sequence: int
    previous_id: bytes


@dataclass(frozen=True, slots=True)
class QuestionnaireContent:
    """A whole questionnaire. `body` is exact; `content` is JSON text that every database accepts (None: unreadable).

    `answers` is None as long as the center only knows the form by name.
    """

    form: str
    form_version: str
    instance_id: str
    media_type: str
    created_at: int
    body: bytes
    content: str | None
    answers: Answers | None = None


@dataclass(frozen=True, slots=True)
class PartContent:
    """One of several parts of a questionnaire. `whole` is the same 32 bytes for all parts of it, and for no others."""

    form: str
    form_version: str
    instance_id: str
    media_type: str
    created_at: int
    whole: bytes
    part: int
    parts: int
    whole_digest: str
    body: bytes


@dataclass(frozen=True, slots=True)
class DeviceKeyContent:
    """A recipient key (1,216 bytes, checked) that the envelope's origin has made for what is sealed to it."""

    public_key: bytes


@dataclass(frozen=True, slots=True)
class AcceptedEnvelope:
    """An envelope that is to be committed, with its exact bytes (kept only if the database refuses the content)."""

    link: ChainLink
    arrival: Arrival
    data: bytes
    content: QuestionnaireContent | PartContent | DeviceKeyContent


@dataclass(frozen=True, slots=True)
class HeldItem:
    """Bytes to be held. `id` is their SHA-256.

    `receiptable` (only with a link): the origin signed it, or the origin is unknown. Otherwise it takes no place in
    the chain that it claims.
    """

    id: bytes
    reason: HeldReason
    detail: str
    data: bytes
    arrival: Arrival
    link: ChainLink | None
    receiptable: bool


@dataclass(frozen=True, slots=True)
class CertifiedDevice:
    """A verified device certificate with its statement's exact bytes."""

    certificate: DeviceCertificate
    data: bytes


@dataclass(frozen=True, slots=True)
class CertifiedMedium:
    """A verified medium certificate with its statement's exact bytes."""

    certificate: MediumCertificate
    data: bytes


@dataclass(frozen=True, slots=True)
class ArrivedHead:
    """A verified head and who brought it."""

    head: Head
    arrival: Arrival


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Joined parts that are no questionnaire: the body is kept without content, and listed as held."""

    reason: HeldReason
    detail: str


WholeDecoder = Callable[[PartContent, bytes], QuestionnaireContent | Unreadable]
"""Makes a questionnaire of (any of its parts, the joined body)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction shall record. Everything in it was verified by acceptance."""

    envelopes: Sequence[AcceptedEnvelope] = ()
    held: Sequence[HeldItem] = ()
    heads: Sequence[ArrivedHead] = ()
    devices: Sequence[CertifiedDevice] = ()
    media: Sequence[CertifiedMedium] = ()


class OutcomeKind(StrEnum):
    """What became of one envelope or held item."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`fork`: another envelope stands at the same origin, epoch and sequence; both are kept. An alarm."""

    kind: OutcomeKind
    reason: HeldReason | None = None
    fork: bool = False


@dataclass(frozen=True, slots=True)
class BatchResult:
    """`committed_at` is None when nothing new was stored; outcomes in the order of Batch.envelopes and Batch.held."""

    committed_at: int | None
    envelopes: tuple[Outcome, ...]
    held: tuple[Outcome, ...]
    joined: int = 0
    """Questionnaires completed by their last part."""
