"""The sync engine: handles one event at a time inside one store transaction and says what is to be done.

It does no input or output, reads no clock, and keeps nothing in memory that may not be lost: which links are up,
and what of the store it has read.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from edge_agent.engine import chain, lists
from edge_agent.engine.arrival import Arrivals, Source
from edge_agent.engine.contact import note_contact
from edge_agent.engine.effects import Declined, Effect, Level, Notice, Wake
from edge_agent.engine.events import (
    BundleArrived,
    Event,
    LinkDown,
    LinkUp,
    RecipientKeyMade,
    Said,
    Settled,
    Started,
    StatementLearnt,
    Submitted,
    TimePassed,
)
from edge_agent.engine.exchange import Company
from edge_agent.engine.identity import Beliefs, DeviceIdentity
from edge_agent.engine.links import Link, LinkShape
from edge_agent.engine.pacing import Randomness
from edge_agent.engine.policies import POLICIES
from edge_agent.engine.receipts import LAST_RECEIPT_AT, SIGNED_TIME
from edge_agent.engine.sessions import OutboundSession, Session
from edge_agent.engine.settings import EngineSettings
from edge_agent.engine.store import StoreTransaction
from sync_protocol.bundle import Frame, FrameType, read_bundle
from sync_protocol.errors import ProtocolError
from sync_protocol.identity import CENTER, Role
from sync_protocol.limits import MEDIUM_BUNDLE_BYTES_MAX


class Engine:
    """One device's engine; see `Stepper` for how it is driven."""

    def __init__(self, identity: DeviceIdentity, settings: EngineSettings, randomness: Randomness) -> None:
        self._identity = identity
        self._settings = settings
        self._beliefs = Beliefs(identity)
        self._arrivals = Arrivals(identity, self._beliefs, settings)
        self._sessions: dict[str, Session] = {}
        self._randomness = randomness
        self._tokens = count(1)
        self._company = Company(identity, self._beliefs, settings, self._has_way)
        self._silent = self._silent_before = False
        self._beliefs_lost = False

    def handle(self, event: Event, transaction: StoreTransaction, now: int) -> list[Effect]:
        """Handle one event; `now` is microseconds since 1970 by the device's clock."""
        self._silent_before = self._silent
        if self._beliefs_lost:
            self._beliefs.refresh(transaction)
            self._beliefs_lost = False
        match event:
            case Started():
                effects = self._start(event, transaction, now)
            case Submitted(submissions):
                # Sending is left to the wake, so that a refused commit leaves no session ahead of the store.
                effects = [
                    effect
                    for submission in submissions
                    for effect in chain.submit(
                        submission, transaction, self._identity, self._beliefs, now, copies=self._settings.copies
                    )
                ]
                return [*effects, Wake(now)]
            case LinkUp(link):
                effects = self._link_up(link, transaction, now)
            case LinkDown(link_key):
                session = self._sessions.pop(link_key, None)
                effects = [] if session is None else session.stopped(transaction, now)
            case BundleArrived(link_key, data):
                effects = self._bundle_arrived(link_key, data, transaction, now)
            case Settled():
                effects = self._settled(event, transaction, now)
            case Said(link_key, message):
                asked = self._sessions.get(link_key)
                effects = [] if asked is None else asked.said(message, transaction, now)
            case StatementLearnt(data):
                source = Source(self._identity.device, takes_over=False)
                arrived = self._arrivals.take((Frame(FrameType.STATEMENT, data),), source, transaction, now)
                effects = arrived.effects + self._pass_on(arrived.news, None, transaction, now)
            case RecipientKeyMade(public_key):
                effects = chain.announce_key(
                    public_key, transaction, self._identity, self._beliefs, now, copies=self._settings.copies
                )
                return [*effects, Wake(now)]
            case TimePassed():
                effects = self._proceed(transaction, now)
        return [*effects, *self._watch_silence(transaction, now), Wake(self._next_wake(transaction, now))]

    def forget_step(self, *, links: bool) -> None:
        """Forget what the last step drew from a transaction that is rolled back.

        With `links`, drop every session, too: the store did not record what they did. Their links must be closed.
        """
        self._silent = self._silent_before
        self._beliefs_lost = True
        if links:
            self._sessions.clear()
            self._company.promises.clear()
            self._company.expected.clear()

    def _start(self, event: Started, transaction: StoreTransaction, now: int) -> list[Effect]:
        effects = chain.open_chain(transaction, event.mirror, now)
        transaction.forget_attempts(now)
        self._beliefs.refresh(transaction)
        for data in event.statements:
            try:
                effects.extend(self._arrivals.take_statement(data, transaction, now))
            except ProtocolError as error:
                fields = {"reason": error.fault.value, "detail": error.detail}
                effects.append(Notice("provisioning_refused", fields, Level.ERROR))
        return effects

    def _link_up(self, link: Link, transaction: StoreTransaction, now: int) -> list[Effect]:
        session = OutboundSession(link, POLICIES[link.shape], self._company, self._randomness, self._tokens)
        self._sessions[link.key] = session
        lists.drop_past(transaction)
        transaction.end_rests(now, longest=self._settings.custody_wait)
        renewed = transaction.renew_copies(self._settings.copies, now, after=self._settings.respray_wait)
        fields = {"envelopes": renewed, "reason": "no receipt has come for long"}
        effects: list[Effect] = [Notice("copies_renewed", fields, Level.DEBUG)] if renewed else []
        return effects + session.started(transaction, now)

    def _settled(self, event: Settled, transaction: StoreTransaction, now: int) -> list[Effect]:
        session = self._sessions.get(event.link_key)
        if session is None:
            return []
        if event.taken and _leads_to_center(session.link):
            note_contact(transaction, now)
        return session.settled(
            event.token, taken=event.taken, declined=event.declined, transaction=transaction, now=now
        )

    def _has_way(self) -> bool:
        return any(_leads_to_center(session.link) for session in self._sessions.values())

    def _bundle_arrived(self, link_key: str, data: bytes, transaction: StoreTransaction, now: int) -> list[Effect]:
        session = self._sessions.get(link_key)
        if session is None:
            return []
        carrier = session.link.far_end
        try:
            contents = read_bundle(data, MEDIUM_BUNDLE_BYTES_MAX)
        except ProtocolError as error:
            return [Notice("arrival_refused", {"reason": error.fault.value, "carrier": carrier}, Level.WARNING)]
        if _leads_to_center(session.link):
            note_contact(transaction, now)
        policy = POLICIES[session.link.shape]
        source = Source(
            carrier,
            takes_over=policy.tablets_take_over or self._beliefs.role is Role.COLLECTION_POINT,
            leg=policy.leg,
            copies_of=lambda envelope_id: self._company.expected.take(envelope_id, link_key, now),
        )
        arrived = self._arrivals.take(contents.frames, source, transaction, now)
        effects = arrived.effects
        if arrived.declined:
            effects.append(Declined(arrived.declined))
        if not contents.intact:
            lost = sum(skipped.length for skipped in contents.skipped)
            fields = {"carrier": carrier, "bytes": lost, "frames": len(contents.frames)}
            effects.append(Notice("bundle_damaged", fields, Level.WARNING))
        return effects + self._pass_on(arrived.news, session, transaction, now)

    def _pass_on(
        self, news: Sequence[Frame], source: Session | None, transaction: StoreTransaction, now: int
    ) -> list[Effect]:
        for session in self._sessions.values():
            if session is not source:
                session.told(news, transaction)
        return self._proceed(transaction, now)

    def _proceed(self, transaction: StoreTransaction, now: int) -> list[Effect]:
        transaction.end_rests(now, longest=self._settings.custody_wait)
        return [effect for session in self._sessions.values() for effect in session.proceed(transaction, now)]

    def _watch_silence(self, transaction: StoreTransaction, now: int) -> list[Effect]:
        """Tell once when the center has been silent for too long, and once when it speaks again."""
        silence = receipt_silence(transaction, now)
        silent = silence is not None and silence >= self._settings.receipt_silence_alarm
        if silent == self._silent:
            return []
        self._silent = silent
        if not silent:
            return [Notice("receipt_silence_ended")]
        return [Notice("receipt_silence", {"silence_seconds": (silence or 0) // 1_000_000}, Level.ERROR)]

    def _next_wake(self, transaction: StoreTransaction, now: int) -> int:
        times = [now + self._settings.receipt_silence_check_interval]
        for session in self._sessions.values():
            wake = session.next_wake(transaction, now)
            if wake is not None:
                times.append(wake)
        return max(now, min(times))


def _leads_to_center(link: Link) -> bool:
    """Tell whether the center itself is at the far end. That a neighbour has a way to it is only what it says."""
    return link.shape is LinkShape.MAILBOX and link.far_end == CENTER


def receipt_silence(transaction: StoreTransaction, now: int) -> int | None:
    """Return for how long envelopes have waited without any receipt (microseconds); None while nothing waits.

    Times after `now` were taken before the clock went back and tell nothing. The newest time that the center signed
    keeps a clock that was at 1970 when it mattered from making half a century of a day.
    """
    oldest = transaction.oldest_open_at()
    if oldest is None:
        return None
    times = (oldest, transaction.number(LAST_RECEIPT_AT), transaction.number(SIGNED_TIME))
    return now - max((time for time in times if time is not None and time <= now), default=now)
