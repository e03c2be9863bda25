"""What the engine does with a link while it is up: one kind of session for each shape.

A session lives in memory only, and everything in it can be lost: what was sent and not settled is due again when
the link goes down.

| event | what a session does |
|---|---|
| started | makes due what a session before left unanswered, or all if the far end forgot us, or all that it was
found not to hold; asks for receipts
(mailbox), lets all statements wait to be left (dead drop), or compares what both know (duplex); states the heads;
fills its window |
| said (duplex) | answers; lets what the far end lacks wait to be left; sends the envelopes that it wants |
| settled, taken | lets those envelopes rest for the receipt wait, or for the custody wait where taking is keeping;
sizes the next bundle; fills its window |
| settled, not taken | lets everything that was in it rest for the refusal wait |
| told of news from another link | lets it wait to be left (dead drop, duplex); of a medium that a collection point
enrolled, to be put up (mailbox of a collection point) |
| arrived, submitted, time passed | fills its window with what has become due, and with what waits |
| stopped | makes what was not settled due at once |

In a duplex link envelopes are offered before they are sent (offers.py), to whom routing.py says.

Carriers may never have met. So statements leave first, keys before what they signed, and every bundle brings the
certificates of the envelopes and own heads in it: whoever reads it needs no other bundle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

from edge_agent.engine.chain import receipt_serial, state_heads
from edge_agent.engine.comparison import Comparison
from edge_agent.engine.contact import contact_age
from edge_agent.engine.effects import Effect, Follow, Level, Notice, Say, Send
from edge_agent.engine.identity import Beliefs, DeviceIdentity
from edge_agent.engine.links import Link, LinkShape
from edge_agent.engine.news import STATEMENT_KINDS, PendingNews
from edge_agent.engine.offers import Expected, Offers, Promises
from edge_agent.engine.pacing import Pacing, Randomness
from edge_agent.engine.routing import Share, Standing, share_of
from edge_agent.engine.settings import EngineSettings
from edge_agent.engine.store import StoredEnvelope, StoreTransaction
from sync_protocol import statement
from sync_protocol.bundle import BUNDLE_OVERHEAD_BYTES, Frame, FrameType, frame_bytes, write_bundle
from sync_protocol.identity import Role
from sync_protocol.limits import DELEGATED_SERIAL_MAX
from sync_protocol.mesh import (
    HEAD_KIND,
    Digests,
    Exchanged,
    Inventory,
    Item,
    Offer,
    Verdict,
    Verdicts,
)
from sync_protocol.statement import parse_statement
from sync_protocol.way import NO_WAY, Leg, write_way

_BYTES_BESIDE_ENVELOPES_MAX: Final = 48 * 1024
"""Heads and statements of one bundle; the largest envelope still fits beside them."""
_WAY_BYTES: Final = frame_bytes(len(write_way(NO_WAY)))
_CERTIFICATE_BYTES_MAX: Final = 300
"""A device certificate with the longest name, as a frame."""


class Session(Protocol):
    """What the engine asks of a session; every call happens inside the event's transaction."""

    @property
    def link(self) -> Link: ...

    def started(self, transaction: StoreTransaction, now: int) -> list[Effect]: ...

    def settled(
        self, token: int, *, taken: bool, declined: Sequence[bytes], transaction: StoreTransaction, now: int
    ) -> list[Effect]: ...

    def said(self, message: Exchanged, transaction: StoreTransaction, now: int) -> list[Effect]: ...

    def told(self, news: Sequence[Frame]) -> None: ...

    def proceed(self, transaction: StoreTransaction, now: int) -> list[Effect]: ...

    def stopped(self, transaction: StoreTransaction, now: int) -> list[Effect]: ...

    def next_wake(self, transaction: StoreTransaction, now: int) -> int | None: ...


@dataclass(frozen=True)
class Policy:
    """What sets the shapes apart."""

    asks_for_receipts: bool
    """The far end is asked for the receipts of certain origins; otherwise it gives what it has."""
    leaves_statements: bool
    """Statements, and others' heads as they come, are for whoever is there; bundles vouch for what is in them."""
    compares: bool
    """The far end says what it knows and wants, so that nothing else is sent; otherwise it is given everything."""
    taking_is_keeping: bool
    """What was taken is on the far end's disk, so there is little reason to say it again to the same one."""
    registers_media: bool
    """The far end keeps the register of media, and hears of those that collection points have enrolled."""
    tablets_take_over: bool
    """Others' envelopes that come in are taken over by everybody; otherwise by collection points only."""
    leg: Leg
    """What an envelope that comes in has come by."""


POLICIES: Mapping[LinkShape, Policy] = {
    # The center knows its own statements, and a broker's word is no custody.
    LinkShape.MAILBOX: Policy(
        asks_for_receipts=True,
        leaves_statements=False,
        compares=False,
        taking_is_keeping=False,
        registers_media=True,
        tablets_take_over=True,
        leg=Leg.NONE,
    ),
    # Whoever finds the medium may be from another district, so it carries what everybody should know.
    # A medium passes through many tablets, and a collection point is where it goes.
    LinkShape.DEAD_DROP: Policy(
        asks_for_receipts=False,
        leaves_statements=True,
        compares=False,
        taking_is_keeping=True,
        registers_media=False,
        tablets_take_over=False,
        leg=Leg.USB,
    ),
    # The other end runs a session of its own: what it has for us comes as bundles that arrive.
    LinkShape.DUPLEX: Policy(
        asks_for_receipts=False,
        leaves_statements=True,
        compares=True,
        taking_is_keeping=True,
        registers_media=False,
        tablets_take_over=True,
        leg=Leg.MESH,
    ),
}


@dataclass(frozen=True)
class _InFlight:
    envelopes: Mapping[int, bytes]
    """Their numbers, and ids."""
    attempts: int
    sent_at: int
    full: bool
    others: list[Frame]
    """Statements and others' heads, which go again if the bundle is refused."""


@dataclass(frozen=True)
class Household:
    """What all sessions of a device share."""

    identity: DeviceIdentity
    beliefs: Beliefs
    settings: EngineSettings
    randomness: Randomness
    tokens: count[int]
    expected: Expected
    promises: Promises
    has_way: Callable[[], bool]
    """Whether this device has a way to the center now."""


class OutboundSession:
    """Puts bundles up and waits for no answer but that they were taken; what comes in is `Arrivals`' business."""

    def __init__(self, link: Link, policy: Policy, household: Household) -> None:
        self._link = link
        self._policy = policy
        self._household = household
        self._identity = household.identity
        self._settings = settings = household.settings
        self._pacing = Pacing(settings, household.randomness, link.bundle_bytes_max)
        self._comparison = Comparison() if policy.compares else None
        self._offers: Offers | None = None
        if policy.compares:
            self._offers = Offers(link.key, link.far_end, settings, household.expected, household.promises)
        spoken_for = BUNDLE_OVERHEAD_BYTES + (_CERTIFICATE_BYTES_MAX if policy.leaves_statements else 0)
        self._beside_bytes_max = min(_BYTES_BESIDE_ENVELOPES_MAX, link.bundle_bytes_max) - spoken_for
        self._in_flight: dict[int, _InFlight] = {}
        self._followed: frozenset[bytes] = frozenset()
        self._own_heads: deque[list[Frame]] = deque()
        self._news = PendingNews()
        self._stated: frozenset[tuple[int, int]] = frozenset()
        self._stated_serial = 0
        self._stated_at: int | None = None

    @property
    def link(self) -> Link:
        return self._link

    def started(self, transaction: StoreTransaction, now: int) -> list[Effect]:
        effects: list[Effect] = []
        # The session before may have been dropped without a word, when the store failed.
        transaction.forget_attempts(now, self._link.far_end)
        if self._link.holds is not None:
            transaction.forget_dispatches(self._link.far_end)
            wait = self._pacing.taken_wait(1, keeping=True)
            transaction.note_found(self._link.far_end, self._link.holds, now=now, next_at=now + wait)
        elif not self._link.remembered:
            again = transaction.forget_dispatches(self._link.far_end)
            if again:
                effects.append(Notice("resending", {"envelopes": again, "reason": "the far end has forgotten us"}))
        if self._comparison is not None:
            # Until the far end has said what it lacks, it is taken to know our heads.
            self._stated, self._stated_at = _positions(transaction), now
            self._stated_serial = receipt_serial(transaction, self._identity)
            digests = self._comparison.digests(transaction, self._own_items(transaction))
            return [*effects, Say(self._link.key, digests)]
        if self._policy.leaves_statements:
            for kind in STATEMENT_KINDS:
                self._news.add(Frame(FrameType.STATEMENT, data) for data in transaction.statements(kind))
        return effects + self.proceed(transaction, now)

    def said(self, message: Exchanged, transaction: StoreTransaction, now: int) -> list[Effect]:
        comparison, offers = self._comparison, self._offers
        if comparison is None or offers is None:
            return []
        effects: list[Effect] = []
        match message:
            case Digests():
                answers = comparison.heard_digests(message, transaction, self._own_items(transaction))
                effects += [Say(self._link.key, answer) for answer in answers]
            case Inventory():
                lacking = comparison.heard_inventory(message, transaction, self._own_items(transaction))
                self._news.add(lacking.frames)
                if lacking.own_heads:
                    self._stated = frozenset()
            case Offer():
                effects.append(Say(self._link.key, offers.judge(message, transaction, now)))
            case Verdicts():
                wait = self._pacing.taken_wait(1, keeping=True)
                counts = offers.heard_verdicts(message, transaction, now, custody_wait=wait)
                if counts.get(Verdict.NO_ROOM):
                    fields = {"envelopes": counts[Verdict.NO_ROOM], "link": self._link.key}
                    effects.append(Notice("offer_declined", fields, Level.WARNING))
        return effects + self.proceed(transaction, now)

    def settled(
        self, token: int, *, taken: bool, declined: Sequence[bytes], transaction: StoreTransaction, now: int
    ) -> list[Effect]:
        flight = self._in_flight.pop(token, None)
        if flight is None:
            return []
        numbers = [number for number, one in flight.envelopes.items() if one not in declined]
        if taken:
            self._pacing.taken(sent_at=flight.sent_at, full=flight.full, now=now)
            wait = self._pacing.taken_wait(flight.attempts, keeping=self._policy.taking_is_keeping)
        else:
            wait = self._pacing.refusal_wait(flight.attempts)
            self._news.add(flight.others)
            # Own heads may have been in it; they are stated anew.
            self._stated = frozenset()
            self._pacing.refused(now)
        kept = taken and self._policy.taking_is_keeping
        transaction.note_answered(self._link.far_end, numbers, now=now, next_at=now + wait, kept=kept)
        if self._offers is not None and taken:
            self._offers.taken(numbers, transaction)
            without_room = [number for number, one in flight.envelopes.items() if one in declined]
            self._offers.declined(without_room, transaction, now)
        fields = {"envelopes": len(numbers), "attempts": flight.attempts, "link": self._link.key}
        # Heads and statements alone are no news to an operator.
        quiet = Level.INFO if flight.envelopes else Level.DEBUG
        notice = Notice("sent", fields, quiet) if taken else Notice("send_refused", fields, Level.WARNING)
        return [notice, *(self.proceed(transaction, now) if taken else [])]

    def told(self, news: Sequence[Frame]) -> None:
        """Hear of statements and heads that were new to the device and came over another link."""
        if self._policy.leaves_statements:
            self._news.add(news)
        elif self._registers_media:
            self._news.add(frame for frame in news if frame.type is FrameType.STATEMENT and _is_delegated(frame))

    def proceed(self, transaction: StoreTransaction, now: int) -> list[Effect]:
        """Fill the window with what is due; heads go with the first bundle after they changed."""
        effects = self._follow(transaction)
        while len(self._in_flight) < self._link.bundles_in_flight_max:
            beside, others = self._frames_beside(transaction, now)
            vouchers, envelopes = self._choose(beside, transaction, now)
            with_heads = any(frame.type is FrameType.HEAD for frame in beside)
            again = any(envelope.attempts for envelope in envelopes) and not self._policy.taking_is_keeping
            if again and not with_heads:
                # What is sent again was lost, and a head may have been lost with it: the next bundle has them.
                self._stated = frozenset()
            frames = vouchers + beside + _with_ways(envelopes)
            if not frames:
                break
            effects.append(self._send(frames, others, envelopes, transaction, now))
        return effects + self._offer(transaction, now)

    def stopped(self, transaction: StoreTransaction, now: int) -> list[Effect]:
        numbers = [number for flight in self._in_flight.values() for number in flight.envelopes]
        self._in_flight.clear()
        if self._offers is not None:
            numbers += self._offers.stopped()
        transaction.note_answered(self._link.far_end, numbers, now=now, next_at=now)
        return []

    def next_wake(self, transaction: StoreTransaction, now: int) -> int | None:
        if len(self._in_flight) >= self._link.bundles_in_flight_max:
            return None
        times = [(now if self._stated_at is None else self._stated_at) + self._settings.head_interval]
        rested_at = self._pacing.rested_at
        if rested_at is not None and self._pacing.resting(now):
            # Heads that are overdue rest, too: their time is past, and to wake for them would be to wake without end.
            times = [rested_at]
        elif rested_at is not None and (self._news or not self._stated):
            times.append(rested_at)
        # What is due to a neighbour now is on offer, or not for it: only what becomes due later is worth waking for.
        due_at = transaction.next_due_at(self._link.far_end, after=0 if self._offers is None else now)
        if due_at is not None:
            times.append(due_at)
        return min(times)

    def _send(
        self,
        frames: list[Frame],
        others: list[Frame],
        envelopes: Sequence[StoredEnvelope],
        transaction: StoreTransaction,
        now: int,
    ) -> Send:
        numbers = {envelope.number: envelope.id for envelope in envelopes}
        attempts = max((envelope.attempts for envelope in envelopes), default=0) + 1
        token = next(self._household.tokens)
        data = write_bundle(frames)
        full = len(data) * 2 >= self._pacing.bundle_bytes
        self._in_flight[token] = _InFlight(numbers, attempts, now, full, others)
        # Should the process die, the start makes attempts under way due again; so this time never comes to count.
        if self._offers is not None and envelopes:
            self._offers.sent(tuple(numbers))
        transaction.note_sent(self._link.far_end, numbers, now=now, next_at=now + self._settings.receipt_wait_max)
        return Send(self._link.key, token, data)

    def _offer(self, transaction: StoreTransaction, now: int) -> list[Effect]:
        """Offer what comes next, once it is clear what the far end lacks: a receipt may spare it an envelope."""
        if self._offers is None or self._comparison is None or not self._comparison.is_done:
            return []
        if self._pacing.resting(now):
            return []
        offer = self._offers.next_offer(self._share(transaction, now), transaction, now)
        return [] if offer is None else [Say(self._link.key, offer)]

    def _share(self, transaction: StoreTransaction, now: int) -> Share:
        beliefs, link = self._household.beliefs, self._link
        here = Standing.of(
            reaches_center=self._household.has_way(),
            is_collection_point=beliefs.role is Role.COLLECTION_POINT,
            contact_age=contact_age(transaction, now),
        )
        there = Standing.of(
            reaches_center=link.reaches_center,
            is_collection_point=link.collects,
            contact_age=link.contact_age,
        )
        return share_of(self._settings.shares, here, there)

    def _own_items(self, transaction: StoreTransaction) -> list[Item]:
        serial, device = receipt_serial(transaction, self._identity), self._identity.device
        return [
            Item(device, HEAD_KIND, position.epoch, (position.sequence, serial)) for position in transaction.epochs()
        ]

    def _due(self, transaction: StoreTransaction, now: int, *, bytes_max: int) -> Sequence[StoredEnvelope]:
        if self._offers is None:
            return transaction.due(self._link.far_end, now, bytes_max=bytes_max)
        return self._offers.due(transaction, bytes_max=bytes_max)

    def _frames_beside(self, transaction: StoreTransaction, now: int) -> tuple[list[Frame], list[Frame]]:
        """Return statements and heads for the next bundle, and which of them to keep in case that it is refused.

        None while a far end that refused is left in peace. Own heads are not kept: they are stated anew.
        """
        if self._pacing.resting(now):
            return [], []
        self._state_heads(transaction, now)
        statements = self._news.take_statements(self._beside_bytes_max)
        room = self._beside_bytes_max - _size(statements)
        own: list[Frame] = []
        if self._own_heads and (not statements or _size(self._own_heads[0]) <= room):
            own = self._own_heads.popleft()
        heads = self._news.take_heads(room - _size(own))
        return statements + own + heads, statements + heads

    def _choose(
        self, beside: list[Frame], transaction: StoreTransaction, now: int
    ) -> tuple[list[Frame], list[StoredEnvelope]]:
        """Return envelopes for the bundle that brings these frames, and the certificates that it still lacks."""
        vouchers: list[Frame] = []
        if any(frame.type is FrameType.HEAD for frame in beside):
            vouchers = self._certificates(self._identity.device, transaction, beside)
        size = BUNDLE_OVERHEAD_BYTES + _size(beside) + _size(vouchers)
        chosen: list[StoredEnvelope] = []
        if size > _BYTES_BESIDE_ENVELOPES_MAX:
            return vouchers, chosen
        bundle_bytes = self._pacing.bundle_bytes
        origin: bytes | None = None
        for envelope in self._due(transaction, now, bytes_max=bundle_bytes - size):
            # One after the other is of the same origin, most often.
            more = (
                [] if envelope.origin == origin else self._certificates(envelope.origin, transaction, beside + vouchers)
            )
            origin = envelope.origin
            size += frame_bytes(len(envelope.data)) + _size(more) + _WAY_BYTES
            # The first envelope comes whatever its size. If need be, it gets the next bundle for itself.
            if (chosen or beside) and size > (bundle_bytes if chosen else self._link.bundle_bytes_max):
                break
            vouchers += more
            chosen.append(envelope)
        return vouchers, chosen

    def _certificates(self, origin: bytes, transaction: StoreTransaction, given: Sequence[Frame] = ()) -> list[Frame]:
        """Return the certificate of an origin, unless the reader is given it, or knows every origin."""
        if not self._policy.leaves_statements:
            return []
        data = transaction.statement(statement.DEVICE_CERTIFICATE, origin)
        frames = [] if data is None else [Frame(FrameType.STATEMENT, data)]
        return [frame for frame in frames if frame not in given]

    def _state_heads(self, transaction: StoreTransaction, now: int) -> None:
        """Queue own heads when they have changed, and all heads at every interval unless the far end keeps them."""
        positions = _positions(transaction)
        again = False
        if self._stated_at is None or not 0 <= now - self._stated_at < self._settings.head_interval:
            serial = receipt_serial(transaction, self._identity)
            everything = self._stated_at is None or not self._policy.taking_is_keeping
            again = everything or serial != self._stated_serial
            self._stated_at, self._stated_serial = now, serial
            if everything:
                self._news.add(Frame(FrameType.HEAD, data) for data in transaction.heads())
                if self._registers_media:
                    media = transaction.statements(statement.MEDIUM_CERTIFICATE)
                    frames = (Frame(FrameType.STATEMENT, data) for data in media)
                    self._news.add(frame for frame in frames if _is_delegated(frame))
        if again or positions != self._stated:
            self._stated = positions
            heads = state_heads(transaction, self._identity, now)
            self._own_heads = deque(self._batches(Frame(FrameType.HEAD, head.data) for head in heads))

    @property
    def _registers_media(self) -> bool:
        """Collection points do, for all of them: there are few, and tablets would say the same thousands of times."""
        return self._policy.registers_media and self._household.beliefs.role is Role.COLLECTION_POINT

    def _follow(self, transaction: StoreTransaction) -> list[Effect]:
        if not self._policy.asks_for_receipts:
            return []
        # Who states a head that no receipt answers asks through us, also when nothing of it is carried here any more.
        origins = transaction.foreign_origins() | transaction.asking_origins() | {self._identity.device}
        if origins == self._followed:
            return []
        self._followed = origins
        return [Follow(self._link.key, origins)]

    def _batches(self, frames: Iterable[Frame]) -> list[list[Frame]]:
        """Divide own heads into batches that a bundle of this link has room for."""
        batches: list[list[Frame]] = []
        room = 0
        for frame in frames:
            room -= _size([frame])
            if not batches or room < 0:
                batches.append([])
                room = self._beside_bytes_max - _size([frame])
            batches[-1].append(frame)
        return batches


def _positions(transaction: StoreTransaction) -> frozenset[tuple[int, int]]:
    """Return how far every epoch of the device reaches."""
    return frozenset((position.epoch, position.sequence) for position in transaction.epochs())


def _with_ways(envelopes: Iterable[StoredEnvelope]) -> list[Frame]:
    """Return the envelopes as frames, each after the way that it has come, where that is not the one before's."""
    frames: list[Frame] = []
    way = NO_WAY
    for envelope in envelopes:
        if envelope.way != way:
            way = envelope.way
            frames.append(Frame(FrameType.WAY, write_way(way)))
        frames.append(Frame(FrameType.ENVELOPE, envelope.data))
    return frames


def _is_delegated(frame: Frame) -> bool:
    """Tell whether a statement is of a medium that a collection point enrolled: its serial says so (SPEC.md §4)."""
    source = parse_statement(frame.payload)
    return source.kind == statement.MEDIUM_CERTIFICATE and source.serial <= DELEGATED_SERIAL_MAX


def _size(frames: Iterable[Frame]) -> int:
    return sum(frame_bytes(len(frame.payload)) for frame in frames)
