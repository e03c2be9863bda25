"""What the engine does with a link while it is up: one kind of session for each shape.

A session lives in memory only, and everything in it can be lost: what was sent and not settled is due again when
the link goes down.

| event | what an outbound session does |
|---|---|
| started | makes due what a session before left unanswered, or all if the far end forgot us; asks for receipts; states
the heads; fills its window |
| settled, taken | lets those envelopes rest for the receipt wait; sizes the next bundle; fills its window |
| settled, not taken | lets everything that was in it rest for the refusal wait |
| arrived, submitted, time passed | fills its window with what has become due |
| stopped | makes what was not settled due at once |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

from edge_agent.engine.chain import state_heads
from edge_agent.engine.effects import Effect, Follow, Level, Notice, Send
from edge_agent.engine.identity import DeviceIdentity
from edge_agent.engine.links import Link, LinkShape
from edge_agent.engine.settings import EngineSettings
from edge_agent.engine.store import StoredEnvelope, StoreTransaction
from sync_protocol import statement
from sync_protocol.bundle import BUNDLE_OVERHEAD_BYTES, Frame, FrameType, frame_bytes, write_bundle

_BYTES_BESIDE_ENVELOPES_MAX: Final = 48 * 1024
"""Heads and statements of one bundle; the largest envelope still fits beside them."""

Randomness = Callable[[], float]
"""Returns a number from 0 (included) to 1 (excluded)."""


class Session(Protocol):
    """What the engine asks of a session; every call happens inside the event's transaction."""

    @property
    def link(self) -> Link: ...

    def started(self, transaction: StoreTransaction, now: int) -> list[Effect]: ...

    def settled(self, token: int, *, taken: bool, transaction: StoreTransaction, now: int) -> list[Effect]: ...

    def proceed(self, transaction: StoreTransaction, now: int) -> list[Effect]: ...

    def stopped(self, transaction: StoreTransaction, now: int) -> list[Effect]: ...

    def next_wake(self, transaction: StoreTransaction, now: int) -> int | None: ...


@dataclass(frozen=True)
class OutboundPolicy:
    """What sets one-way shapes apart: whether statements are left for whoever reads them, and others' heads passed
    on.
    """

    leaves_statements: bool


OUTBOUND_POLICIES: Mapping[LinkShape, OutboundPolicy] = {
    # The center knows its own statements.
    LinkShape.MAILBOX: OutboundPolicy(leaves_statements=False),
    # Whoever finds the medium may be from another district, so it carries what everybody should know.
    LinkShape.DEAD_DROP: OutboundPolicy(leaves_statements=True),
}


@dataclass(frozen=True)
class _InFlight:
    numbers: tuple[int, ...]
    attempts: int
    sent_at: int
    full: bool
    others: list[Frame]
    """Statements and others' heads, which go again if the bundle is refused."""


class OutboundSession:
    """Puts bundles up and waits for no answer but that they were taken: mailboxes and dead drops."""

    def __init__(
        self,
        link: Link,
        *,
        policy: OutboundPolicy,
        identity: DeviceIdentity,
        settings: EngineSettings,
        randomness: Randomness,
        tokens: count[int],
    ) -> None:
        self._link = link
        self._policy = policy
        self._identity = identity
        self._settings = settings
        self._randomness = randomness
        self._tokens = tokens
        self._in_flight: dict[int, _InFlight] = {}
        self._bundle_bytes = min(settings.bundle_bytes_first, link.bundle_bytes_max)
        self._followed: frozenset[bytes] = frozenset()
        self._own_heads: deque[list[Frame]] = deque()
        self._pending: deque[list[Frame]] = deque()
        self._refused_at: int | None = None
        self._refusals = 0
        self._rest_for = 0
        self._stated: frozenset[tuple[int, int]] = frozenset()
        self._stated_at: int | None = None

    @property
    def link(self) -> Link:
        return self._link

    def started(self, transaction: StoreTransaction, now: int) -> list[Effect]:
        effects: list[Effect] = []
        # The session before may have been dropped without a word, when the store failed.
        transaction.forget_attempts(now, self._link.far_end)
        if not self._link.remembered:
            again = transaction.forget_dispatches(self._link.far_end)
            if again:
                effects.append(Notice("resending", {"envelopes": again, "reason": "the far end has forgotten us"}))
        if self._policy.leaves_statements:
            self._pending.extend(self._batches(self._statements_to_leave(transaction)))
        return effects + self.proceed(transaction, now)

    def settled(self, token: int, *, taken: bool, transaction: StoreTransaction, now: int) -> list[Effect]:
        flight = self._in_flight.pop(token, None)
        if flight is None:
            return []
        if taken:
            self._size_bundles(flight, now)
            self._refusals, self._refused_at = 0, None
            next_at = now + self._receipt_wait(flight.attempts)
            transaction.note_answered(self._link.far_end, flight.numbers, now=now, next_at=next_at)
        else:
            next_at = now + self._refusal_wait(flight.attempts)
            transaction.note_answered(self._link.far_end, flight.numbers, now=now, next_at=next_at)
            if flight.others:
                self._pending.appendleft(flight.others)
            # Own heads may have been in it; they are stated anew.
            self._stated, self._refused_at = frozenset(), now
            self._refusals += 1
            self._rest_for = self._refusal_wait(self._refusals)
        fields = {"envelopes": len(flight.numbers), "attempts": flight.attempts, "link": self._link.key}
        # Heads and statements alone are no news to an operator.
        quiet = Level.INFO if flight.numbers else Level.DEBUG
        notice = Notice("sent", fields, quiet) if taken else Notice("send_refused", fields, Level.WARNING)
        return [notice, *(self.proceed(transaction, now) if taken else [])]

    def proceed(self, transaction: StoreTransaction, now: int) -> list[Effect]:
        """Fill the window with what is due; heads go with the first bundle after they changed."""
        effects = self._follow(transaction)
        while len(self._in_flight) < self._link.bundles_in_flight_max:
            frames, others = self._frames_beside(transaction, now)
            spoken_for = BUNDLE_OVERHEAD_BYTES + sum(frame_bytes(len(frame.payload)) for frame in frames)
            envelopes: Sequence[StoredEnvelope] = ()
            if spoken_for <= _BYTES_BESIDE_ENVELOPES_MAX:
                envelopes = transaction.due(self._link.far_end, now, bytes_max=self._bundle_bytes - spoken_for)
                size = spoken_for + sum(frame_bytes(len(envelope.data)) for envelope in envelopes)
                if frames and size > self._link.bundle_bytes_max:
                    # The first envelope comes whatever its size. It gets the next bundle for itself.
                    envelopes = ()
            with_heads = any(frame.type is FrameType.HEAD for frame in frames)
            if any(envelope.attempts for envelope in envelopes) and not with_heads:
                # What is sent again was lost, and a head may have been lost with it: the next bundle has them.
                self._stated = frozenset()
            frames = frames + [Frame(FrameType.ENVELOPE, envelope.data) for envelope in envelopes]
            if not frames:
                break
            effects.append(self._send(frames, others, envelopes, transaction, now))
        return effects

    def stopped(self, transaction: StoreTransaction, now: int) -> list[Effect]:
        numbers = [number for flight in self._in_flight.values() for number in flight.numbers]
        self._in_flight.clear()
        transaction.note_answered(self._link.far_end, numbers, now=now, next_at=now)
        return []

    def next_wake(self, transaction: StoreTransaction, now: int) -> int | None:
        if len(self._in_flight) >= self._link.bundles_in_flight_max:
            return None
        times = [(now if self._stated_at is None else self._stated_at) + self._settings.head_interval]
        if self._refused_at is not None and (self._resting(now) or self._pending or not self._stated):
            times.append(self._refused_at + self._rest_for)
        due_at = transaction.next_due_at(self._link.far_end)
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
        numbers = tuple(envelope.number for envelope in envelopes)
        attempts = max((envelope.attempts for envelope in envelopes), default=0) + 1
        token = next(self._tokens)
        data = write_bundle(frames)
        full = len(data) * 2 >= self._bundle_bytes
        self._in_flight[token] = _InFlight(numbers, attempts, now, full, others)
        # Should the process die, the start makes attempts under way due again; so this time never comes to count.
        transaction.note_sent(self._link.far_end, numbers, now=now, next_at=now + self._settings.receipt_wait_max)
        return Send(self._link.key, token, data)

    def _frames_beside(self, transaction: StoreTransaction, now: int) -> tuple[list[Frame], list[Frame]]:
        """Return heads and statements for the next bundle, and which of them to keep in case that it is refused.

        None while a far end that refused is left in peace. Own heads are not kept: they are stated anew.
        """
        if self._resting(now):
            return [], []
        self._state_heads(transaction, now)
        if self._own_heads:
            return self._own_heads.popleft(), []
        others = self._pending.popleft() if self._pending else []
        return others, others

    def _resting(self, now: int) -> bool:
        return self._refused_at is not None and 0 <= now - self._refused_at < self._rest_for

    def _state_heads(self, transaction: StoreTransaction, now: int) -> None:
        """Queue own heads when they have changed, and all heads at every interval."""
        positions = frozenset((position.epoch, position.sequence) for position in transaction.epochs())
        all_again = self._stated_at is None or not 0 <= now - self._stated_at < self._settings.head_interval
        if all_again:
            self._stated_at = now
            self._pending = deque(batch for batch in self._pending if batch[0].type is not FrameType.HEAD)
            self._pending.extend(self._batches(Frame(FrameType.HEAD, data) for data in transaction.heads()))
        if all_again or positions != self._stated:
            self._stated = positions
            heads = state_heads(transaction, self._identity, now)
            self._own_heads = deque(self._batches(Frame(FrameType.HEAD, head.data) for head in heads))

    def _follow(self, transaction: StoreTransaction) -> list[Effect]:
        origins = transaction.foreign_origins() | {self._identity.device}
        if origins == self._followed:
            return []
        self._followed = origins
        return [Follow(self._link.key, origins)]

    def _statements_to_leave(self, transaction: StoreTransaction) -> list[Frame]:
        kinds = (statement.KEY_CERTIFICATE, statement.DEVICE_CERTIFICATE, statement.RECIPIENT_KEY, statement.RECEIPT)
        return [Frame(FrameType.STATEMENT, data) for kind in kinds for data in transaction.statements(kind)]

    def _batches(self, frames: Iterable[Frame]) -> list[list[Frame]]:
        """Divide frames that carry no envelopes into batches that a bundle of this link has room for."""
        bytes_max = min(_BYTES_BESIDE_ENVELOPES_MAX, self._link.bundle_bytes_max) - BUNDLE_OVERHEAD_BYTES
        batches: list[list[Frame]] = []
        room = 0
        for frame in frames:
            room -= frame_bytes(len(frame.payload))
            if not batches or room < 0:
                batches.append([])
                room = bytes_max - frame_bytes(len(frame.payload))
            batches[-1].append(frame)
        return batches

    def _size_bundles(self, flight: _InFlight, now: int) -> None:
        """Grow bundles while the link takes full ones quickly, shrink them when it is slow: a cut then costs little."""
        taken_in = now - flight.sent_at
        if taken_in > self._settings.settle_time_bad:
            self._bundle_bytes = max(self._settings.bundle_bytes_min, self._bundle_bytes // 2)
        elif flight.full and 0 <= taken_in < self._settings.settle_time_good:
            self._bundle_bytes = min(self._link.bundle_bytes_max, self._bundle_bytes * 2)

    def _receipt_wait(self, attempts: int) -> int:
        return self._growing(self._settings.receipt_wait, self._settings.receipt_wait_max, attempts)

    def _refusal_wait(self, attempts: int) -> int:
        return self._growing(self._settings.refusal_wait, self._settings.receipt_wait, attempts)

    def _growing(self, first: int, longest: int, attempts: int) -> int:
        """Double with each attempt, up to the longest, give or take a quarter, so that devices do not fall into
        step.
        """
        return int(min(first << min(attempts - 1, 16), longest) * (0.75 + 0.5 * self._randomness()))
