"""What comes in over any link: statements, heads, others' envelopes. Everything is verified before it is stored.

Not responsible for answering (the sessions) nor for where bytes came from (the links).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edge_agent.engine import lists
from edge_agent.engine.chain import begin_epoch
from edge_agent.engine.custody import Custody, answer_heads, kept_receipt
from edge_agent.engine.effects import Effect, Level, Notice
from edge_agent.engine.identity import Beliefs, DeviceIdentity, origin_certificate
from edge_agent.engine.receipts import apply_receipt, check_bounds
from edge_agent.engine.settings import EngineSettings
from edge_agent.engine.store import StoreTransaction
from sync_protocol import statement
from sync_protocol.bundle import Frame, FrameType
from sync_protocol.envelope import parse_envelope
from sync_protocol.errors import ProtocolError
from sync_protocol.head import parse_head
from sync_protocol.keys import VerifyingKey
from sync_protocol.receipt import read_receipt
from sync_protocol.statement import parse_statement
from sync_protocol.way import NO_WAY, Leg, read_way

_SEQUENCE_LIMIT = 1 << 63
"""SQLite's integers end here; a chain does not come near."""


@dataclass
class Arrived:
    """What a bundle brought: what is to be done and told, and the statements and heads that were new here."""

    effects: list[Effect] = field(default_factory=list)
    news: list[Frame] = field(default_factory=list)
    declined: tuple[bytes, ...] = ()
    """Ids of the envelopes that there was no room for."""


@dataclass(frozen=True)
class Source:
    """Where a bundle comes from: who brought it, over what kind of link, and how many copies are to be made of each
    envelope (id) in it. Without `takes_over`, others' envelopes are left where they are.
    """

    carrier: bytes
    takes_over: bool
    leg: Leg = Leg.NONE
    copies_of: Callable[[bytes], int] = lambda _: 0


class _Verifiers:
    """The keys of the origins in one bundle; a bundle has thousands of envelopes and few origins."""

    def __init__(self, transaction: StoreTransaction) -> None:
        self._transaction = transaction
        self._known: dict[bytes, VerifyingKey] = {}

    def of(self, origin: bytes) -> VerifyingKey:
        """Return an origin's key; raises ProtocolError (untrusted_signer) when no certificate of it is known."""
        if origin not in self._known:
            self._known[origin] = origin_certificate(self._transaction, origin).verifier
        return self._known[origin]

    def forget(self) -> None:
        """Read anew what a statement may change."""
        self._known.clear()


class _Refused:
    """What is wrong with a bundle, told once for each kind of frame and reason: it may have thousands of bad frames."""

    def __init__(self, carrier: bytes) -> None:
        self._carrier = carrier
        self._found: dict[tuple[str, str], list[str]] = {}

    def add(self, frame: Frame, error: ProtocolError) -> None:
        self._found.setdefault((frame.type.name.lower(), error.fault.value), []).append(error.detail)

    def notices(self) -> list[Effect]:
        return [
            Notice(
                "arrival_refused",
                {
                    "frame": frame,
                    "reason": reason,
                    "detail": details[0],
                    "frames": len(details),
                    "carrier": self._carrier,
                },
                Level.WARNING,
            )
            for (frame, reason), details in self._found.items()
        ]


class Arrivals:
    """Takes verified frames into the store."""

    def __init__(self, identity: DeviceIdentity, beliefs: Beliefs, settings: EngineSettings) -> None:
        self._identity = identity
        self._beliefs = beliefs
        self._settings = settings

    def take(self, frames: Sequence[Frame], source: Source, transaction: StoreTransaction, now: int) -> Arrived:
        """Take what is genuine and new; tell what was refused, and why."""
        arrived = Arrived()
        custody = None
        if source.takes_over:
            bytes_max = self._settings.foreign_bytes_max
            custody = Custody(transaction, carrier=source.carrier, bytes_max=bytes_max, now=now)
            custody.way, custody.copies_of = NO_WAY.further(source.leg), source.copies_of
        verifiers = _Verifiers(transaction)
        refused = _Refused(source.carrier)
        for frame in frames:
            new = False
            try:
                if frame.type is FrameType.STATEMENT:
                    verifiers.forget()
                    effects, new = self._take_statement(frame.payload, transaction, now)
                    arrived.effects += effects
                    if new and custody is not None:
                        custody.forget(parse_statement(frame.payload).subject)
                elif frame.type is FrameType.HEAD:
                    new = self._take_head(frame.payload, verifiers, transaction)
                elif frame.type is FrameType.WAY:
                    if custody is not None:
                        custody.way = NO_WAY.further(source.leg)  # of what follows a way that cannot be read
                        custody.way = read_way(frame.payload).further(source.leg)
                else:
                    arrived.effects += self._take_envelope(frame.payload, custody, verifiers, transaction, now)
            except ProtocolError as error:
                refused.add(frame, error)
            if new:
                arrived.news.append(frame)
        arrived.effects += refused.notices()
        if custody is not None:
            arrived.effects += custody.notices()
            arrived.declined = tuple(custody.declined)
        return arrived

    def take_statement(self, data: bytes, transaction: StoreTransaction, now: int) -> list[Effect]:
        """Take one statement; raises ProtocolError unless it is genuine."""
        return self._take_statement(data, transaction, now)[0]

    def _take_statement(self, data: bytes, transaction: StoreTransaction, now: int) -> tuple[list[Effect], bool]:
        source = parse_statement(data)
        known = transaction.statement(source.kind, source.subject)
        if known == data:
            return [], False
        self._beliefs.check(source)
        receipt = read_receipt(source) if source.kind == statement.RECEIPT else None
        if receipt is not None:
            check_bounds(receipt)
        if source.kind == statement.COUNTED_LIST:
            why_not = lists.why_not_kept(source, self._identity.device, transaction)
            if why_not is not None:
                fields = {"subject": source.subject, "serial": source.serial, "reason": why_not}
                return [Notice("list_passed_over", fields, Level.DEBUG)], False
        if source.serial >= _SEQUENCE_LIMIT or not transaction.put_statement(source):
            newest = 0 if known is None else parse_statement(known).serial
            fields = {"kind": source.kind, "subject": source.subject, "serial": source.serial, "newest_serial": newest}
            return [Notice("statement_stale", fields)], False
        if receipt is not None:
            return apply_receipt(receipt, transaction, self._identity, now), True
        if source.kind == statement.COUNTED_LIST:
            transaction.drop_lists_beyond(self._identity.device, bytes_max=self._settings.lists_bytes_max)
        own_certificate = (statement.DEVICE_CERTIFICATE, self._identity.device)
        if source.kind in (statement.KEY_CERTIFICATE, statement.RECIPIENT_KEY) or own_certificate == (
            source.kind,
            source.subject,
        ):
            self._beliefs.refresh(transaction)
        fields = {"kind": source.kind, "subject": source.subject, "serial": source.serial}
        return [Notice("statement_taken", fields)], True

    def _take_head(self, data: bytes, verifiers: _Verifiers, transaction: StoreTransaction) -> bool:
        head = parse_head(data)
        if head.origin == self._identity.device:
            return False
        head.verify(verifiers.of(head.origin))
        if head.sequence >= _SEQUENCE_LIMIT or head.receipt_serial >= _SEQUENCE_LIMIT or not transaction.put_head(head):
            return False
        receipt = kept_receipt(head.origin, transaction)
        if receipt is not None:
            answer_heads(receipt, transaction)
        return True

    def _take_envelope(
        self, data: bytes, custody: Custody | None, verifiers: _Verifiers, transaction: StoreTransaction, now: int
    ) -> list[Effect]:
        envelope = parse_envelope(data)
        if custody is None and envelope.origin != self._identity.device:
            return []
        envelope.verify(verifiers.of(envelope.origin))
        if envelope.sequence >= _SEQUENCE_LIMIT:
            return []
        if envelope.origin == self._identity.device:
            return self._recognise_own(envelope.epoch, envelope.sequence, envelope.id, transaction, now)
        return [] if custody is None else custody.take(envelope)

    def _recognise_own(
        self, epoch: int, sequence: int, envelope_id: bytes, transaction: StoreTransaction, now: int
    ) -> list[Effect]:
        """An envelope that this device signed comes back; if the store does not know it, the store is not what it
        was.
        """
        if transaction.envelope_id(self._identity.device, epoch, sequence) == envelope_id:
            return []
        if epoch < transaction.position().epoch:
            return []
        return begin_epoch(
            transaction, after=epoch, reason="an own envelope came back that the queue does not know", now=now
        )
