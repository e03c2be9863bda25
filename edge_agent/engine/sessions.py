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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

from edge_agent.engine import lists
from edge_agent.engine.chain import receipt_serial, state_heads
from edge_agent.engine.effects import Effect, Follow, Level, Notice, Send
from edge_agent.engine.exchange import Company, Exchange
from edge_agent.engine.links import Link
from edge_agent.engine.news import STATEMENT_KINDS, PendingNews
from edge_agent.engine.pacing import Pacing, Randomness
from edge_agent.engine.policies import Policy
from edge_agent.engine.store import StoredEnvelope, StoreTransaction
from sync_protocol import statement
from sync_protocol.bundle import BUNDLE_OVERHEAD_BYTES, Frame, FrameType, frame_bytes, write_bundle
from sync_protocol.identity import Role
from sync_protocol.limits import DELEGATED_SERIAL_MAX
from sync_protocol.mesh import Exchanged, Inventory
from sync_protocol.statement import parse_statement
from sync_protocol.way import NO_WAY, write_way

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

    def told(self, news: Sequence[Frame], transaction: StoreTransaction) -> None: ...

    def proceed(self, transaction: StoreTransaction, now: int) -> list[Effect]: ...

    def stopped(self, transaction: StoreTransaction, now: int) -> list[Effect]: ...

    def next_wake(self, transaction: StoreTransaction, now: int) -> int | None: ...


@dataclass(frozen=True)
class _InFlight:
    envelopes: Mapping[int, bytes]
    """Their numbers, and ids."""
    attempts: int
    sent_at: int
    full: bool
    others: list[Frame]
    """Statements and others' heads, which go again if the bundle is refused."""


class OutboundSession:
    """Puts bundles up and waits for no answer but that they were taken; what comes in is `Arrivals`' business."""

    def __init__(
        self, link: Link, policy: Policy, company: Company, randomness: Randomness, tokens: count[int]
    ) -> None:
        self._link = link
        self._policy = policy
        self._identity = company.identity
        self._beliefs = company.beliefs
        self._settings = company.settings
        self._tokens = tokens
        self._pacing = Pacing(company.settings, randomness, link.bundle_bytes_max)
        self._exchange = Exchange(link, company) if policy.compares else None
        spoken_for = BUNDLE_OVERHEAD_BYTES + (_CERTIFICATE_BYTES_MAX if policy.leaves_statements else 0)
        self._beside_bytes_max = min(_BYTES_BESIDE_ENVELOPES_MAX, link.bundle_bytes_max) - spoken_for
        self._in_flight: dict[int, _InFlight] = {}
        self._following: Follow | None = None
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
        if self._exchange is not None:
            transaction.note_neighbour(self._link.far_end)
            # Until the far end has said what it lacks, it is taken to know our heads.
            self._stated, self._stated_at = _positions(transaction), now
            self._stated_serial = receipt_serial(transaction, self._identity)
            return [*effects, self._exchange.begin(transaction)]
        if self._policy.leaves_statements:
            for kind in STATEMENT_KINDS:
                self._news.add(lists.left_on_media(kind, self._identity.device, transaction))
        return effects + self.proceed(transaction, now)

    def said(self, message: Exchanged, transaction: StoreTransaction, now: int) -> list[Effect]:
        if self._exchange is None:
            return []
        wait = self._pacing.taken_wait(1, keeping=True)
        heard = self._exchange.heard(message, transaction, now, custody_wait=wait)
        self._news.add(heard.lacking)
        if isinstance(message, Inventory):
            # With it, or before, comes what certifies them; what the far end cannot verify would count as given.
            self._news.add(lists.frames_for(self._link.far_end, self._identity.device, transaction))
        if heard.lacks_own_heads:
            self._stated = frozenset()
        return heard.effects + self.proceed(transaction, now)

    def settled(
        self, token: int, *, taken: bool, declined: Sequence[bytes], transaction: StoreTransaction, now: int
    ) -> list[Effect]:
        flight = self._in_flight.pop(token, None)
        if flight is None:
            return []
        # Who has recorded nothing has declined nothing.
        without_room = [number for number, one in flight.envelopes.items() if taken and one in declined]
        numbers = [number for number in flight.envelopes if number not in without_room]
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
        if self._exchange is not None and taken:
            lists.note_given(self._link.far_end, flight.others, transaction)
            self._exchange.taken(numbers, without_room, transaction, now)
        elif self._exchange is not None:
            self._exchange.refused(numbers)
        fields = {"envelopes": len(numbers), "attempts": flight.attempts, "link": self._link.key}
        # Heads and statements alone are no news to an operator.
        quiet = Level.INFO if flight.envelopes else Level.DEBUG
        notice = Notice("sent", fields, quiet) if taken else Notice("send_refused", fields, Level.WARNING)
        return [notice, *(self.proceed(transaction, now) if taken else [])]

    def told(self, news: Sequence[Frame], transaction: StoreTransaction) -> None:
        """Hear of statements and heads that were new to the device and came over another link."""
        if self._exchange is not None:
            self._news.add(frame for frame in news if not lists.is_list(frame))
            if any(map(lists.is_list, news)):
                self._news.add(lists.frames_for(self._link.far_end, self._identity.device, transaction))
        elif self._policy.leaves_statements:
            own_list = transaction.statement(statement.COUNTED_LIST, self._identity.device)
            self._news.add(frame for frame in news if frame.payload != own_list)
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
        if self._exchange is not None and not self._pacing.resting(now):
            effects += self._exchange.offer(transaction, now)
        return effects

    def stopped(self, transaction: StoreTransaction, now: int) -> list[Effect]:
        numbers = [number for flight in self._in_flight.values() for number in flight.envelopes]
        self._in_flight.clear()
        if self._exchange is not None:
            numbers += self._exchange.stopped()
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
        due_at = transaction.next_due_at(self._link.far_end, after=0 if self._exchange is None else now)
        news_until = None if self._exchange is None else self._exchange.wakes_at(transaction, now)
        return min([*times, *(time for time in (due_at, news_until) if time is not None)])

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
        token = next(self._tokens)
        data = write_bundle(frames)
        full = len(data) * 2 >= self._pacing.bundle_bytes
        self._in_flight[token] = _InFlight(numbers, attempts, now, full, others)
        # Should the process die, the start makes attempts under way due again; so this time never comes to count.
        if self._exchange is not None and envelopes:
            self._exchange.sent([envelope.number for envelope in envelopes])
        transaction.note_sent(self._link.far_end, numbers, now=now, next_at=now + self._settings.receipt_wait_max)
        return Send(self._link.key, token, data)

    def _due(self, transaction: StoreTransaction, now: int, *, bytes_max: int) -> Sequence[StoredEnvelope]:
        if self._exchange is None:
            return transaction.due(self._link.far_end, now, bytes_max=bytes_max)
        return self._exchange.due(transaction, bytes_max=bytes_max)

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
        return self._policy.registers_media and self._beliefs.role is Role.COLLECTION_POINT

    def _follow(self, transaction: StoreTransaction) -> list[Effect]:
        if not self._policy.asks_for_receipts:
            return []
        # Who states a head that no receipt answers asks through us, also when nothing of it is carried here any more.
        origins = transaction.foreign_origins() | transaction.asking_origins() | {self._identity.device}
        following = Follow(self._link.key, origins, transaction.ways_back())
        if following == self._following:
            return []
        self._following = following
        return [following]

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
