"""The store as the engine sees it: one open transaction.

The SQLite store in `edge_agent.queue` is its only implementation; the simulator runs on the same one. All times
are microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from edge_agent.engine.effects import Accepted
from edge_agent.engine.events import ChainPosition
from sync_protocol.envelope import Envelope
from sync_protocol.head import Head
from sync_protocol.mesh import Item
from sync_protocol.receipt import SpanStatus
from sync_protocol.statement import Statement
from sync_protocol.way import NO_WAY, Way


class StoreFault(Exception):
    """The store could not do what was asked; the transaction is rolled back and nothing of it remains."""


class StoreFull(StoreFault):
    """There is no room on the disk."""


@dataclass(frozen=True)
class StoredEnvelope:
    """An envelope as it lies in the store; `number` is its place in the order of arrival here."""

    number: int
    id: bytes
    origin: bytes
    attempts: int
    data: bytes
    way: Way = NO_WAY


@dataclass(frozen=True)
class OfferableEnvelope:
    """What a neighbour is told of an envelope before it is sent; `copies` are those that are to be made of it."""

    number: int
    id: bytes
    bytes: int
    copies: int


@dataclass(frozen=True)
class Openings:
    """What tells whether there may be more to offer than there was: the number of the newest envelope, and how often
    older ones may have become due again other than by time.
    """

    newest_number: int
    reopened: int


@dataclass(frozen=True)
class CarriedEnvelope:
    """Another's envelope that is kept here."""

    number: int
    id: bytes
    sequence: int
    data: bytes


class EnvelopeStanding(Enum):
    """What a store knows of one envelope."""

    UNKNOWN = "unknown"
    """It is not here, and may never have been."""
    OPEN = "open"
    """It is kept, and no receipt lists it."""
    LISTED = "listed"
    """The newest receipt lists it: an own one is marked, another's rests; its bytes may be purged."""


@dataclass(frozen=True)
class SequenceRange:
    """Sequences `first` to `last`, both included, of one origin and epoch."""

    origin: bytes
    epoch: int
    first: int
    last: int


class StoreTransaction(Protocol):
    """What the engine reads and writes while it handles one event."""

    # The device's own chain.
    def position(self) -> ChainPosition:
        """Return the current epoch and how far it reaches."""
        ...

    def start_epoch(self, epoch: int, *, reason: str, now: int) -> None:
        """Begin a new, empty chain; raises StoreFault unless `epoch` is greater than every one before."""
        ...

    def epochs(self) -> Sequence[ChainPosition]:
        """Return every epoch of the device with how far it reaches, oldest first."""
        ...

    def accepted_before(self, key: bytes) -> Accepted | None:
        """Return how the submission with this key was accepted, if it was; its request is 0."""
        ...

    def submission_keys(self, beginning: bytes) -> Sequence[bytes]:
        """Return the keys of accepted submissions that begin so."""
        ...

    def submitted_at(self, beginning: bytes) -> int | None:
        """Return when the first submission whose key begins so was accepted, in microseconds."""
        ...

    def remember_submission(self, key: bytes, accepted: Accepted, now: int) -> None:
        """Keep what `accepted_before` answers."""
        ...

    # Envelopes, own and others'.
    def add_envelope(
        self,
        envelope: Envelope,
        *,
        own: bool,
        carrier: bytes | None,
        now: int,
        rests_since: int | None = None,
        copies: int = 0,
        way: Way = NO_WAY,
    ) -> bool:
        """Store an envelope, at rest from the start if a time is given; False, and nothing changed, when its id is
        there already. `copies` are to be made of it, and `way` is how it came.
        """
        ...

    def envelope_id(self, origin: bytes, epoch: int, sequence: int) -> bytes | None:
        """Return the id of the envelope at this place, purged ones included; the first stored where a chain has
        forked.
        """
        ...

    def standing_of(self, envelope_id: bytes) -> EnvelopeStanding:
        """Return what is known here of an envelope."""
        ...

    def foreign_origins(self) -> frozenset[bytes]:
        """Return the origins of others' envelopes that are still kept."""
        ...

    def carries(self, origin: bytes) -> bool:
        """Say whether envelopes of another origin are still kept."""
        ...

    def foreign_bytes(self, origin: bytes | None = None) -> int:
        """Return how many bytes of others' envelopes are kept, of all or of one origin."""
        ...

    # What the center has.
    def mark(self, place: SequenceRange, status: SpanStatus, committed_at: int) -> int:
        """Give envelopes their sync mark; return how many had another one, or none, before."""
        ...

    def unmark(self, place: SequenceRange) -> int:
        """Take the sync mark from envelopes that the center no longer has; return how many still can be sent again."""
        ...

    def purged_count(self, place: SequenceRange) -> int:
        """Return how many envelopes of a range have been purged."""
        ...

    def purge_own(self, origin: bytes, *, watermark: int, now: int) -> int:
        """Drop the bytes of own envelopes committed at or before the watermark; return how many."""
        ...

    def carried(self, place: SequenceRange) -> Iterator[CarriedEnvelope]:
        """Yield others' envelopes that are kept of a range, the end of the chain first; read it before writing."""
        ...

    def drop_foreign(self, numbers: Iterable[int]) -> int:
        """Drop others' envelopes; return how many were there."""
        ...

    def rest(self, numbers: Iterable[int], now: int) -> None:
        """Keep others' envelopes without sending them, from now on, until `end_rest` or `end_rests`."""
        ...

    def resting(self, origin: bytes) -> frozenset[int]:
        """Return the numbers of an origin's envelopes that rest."""
        ...

    def end_rest(self, numbers: Iterable[int]) -> None:
        """Make envelopes that rest due to everyone."""
        ...

    def end_rests(self, now: int, *, longest: int) -> None:
        """Make due what has rested for `longest`, and what the clock says will only begin to: it has gone back."""
        ...

    # Statements and heads.
    def statement(self, kind: int, subject: bytes) -> bytes | None:
        """Return the newest statement of a kind on a subject."""
        ...

    def statements(self, kind: int) -> Sequence[bytes]:
        """Return the newest statements of a kind, one a subject."""
        ...

    def put_statement(self, statement: Statement) -> bool:
        """Keep a statement if it is newer than the one kept; say whether it was."""
        ...

    def put_head(self, head: Head) -> bool:
        """Keep another origin's head if it is newer than the one kept; say whether it was."""
        ...

    def heads(self) -> Sequence[bytes]:
        """Return the newest heads of other origins."""
        ...

    def head(self, origin: bytes, epoch: int) -> bytes | None:
        """Return the newest head of another origin's epoch."""
        ...

    def known(self) -> Sequence[Item]:
        """Return what statements, without counted lists, and heads of others are kept, as neighbours compare it."""
        ...

    # Counted lists, which are statements (`engine.lists`).
    def note_neighbour(self, device: bytes) -> None:
        """Record that a device was there itself."""
        ...

    def has_way_back(self, origin: bytes) -> bool:
        """Say whether an origin was ever there itself, or an envelope of it was taken over from somebody."""
        ...

    def ways_back(self) -> frozenset[bytes]:
        """Return the origins of which `has_way_back` says so."""
        ...

    def lists_for(self, neighbour: bytes, device: bytes) -> Sequence[bytes]:
        """Return the lists kept for others than `device` that are for the neighbour, or for an origin whose envelopes
        it has brought, without those that it was given.
        """
        ...

    def note_list_given(self, neighbour: bytes, subject: bytes, serial: int) -> None:
        """Record that a neighbour has taken a list."""
        ...

    def drop_lists_until(self, signed_time: int) -> int:
        """Drop the lists that are to be kept until then, or less long; return how many."""
        ...

    def drop_lists_beyond(self, device: bytes, *, bytes_max: int) -> int:
        """Drop lists for others than `device`, the oldest serials first, until the rest fits; return how many."""
        ...

    def answer_heads(self, origin: bytes, epoch: int, sequence: int) -> None:
        """Note that an origin can purge up to a sequence: a head that reaches no further asks for nothing."""
        ...

    def asking_origins(self) -> frozenset[bytes]:
        """Return the origins that have stated a head which no receipt answers yet."""
        ...

    # Sending.
    def due(self, destination: bytes, now: int, *, bytes_max: int) -> Sequence[StoredEnvelope]:
        """Return envelopes to send to a destination now: own ones first, oldest first, at least one if any, within
        `bytes_max`. What a far end other than the center sealed, or brought, is not for it.
        """
        ...

    def next_due_at(self, destination: bytes, *, after: int = 0) -> int | None:
        """Return when the first of the envelopes sent to a destination is due again, of those after a time; None when
        none is waiting.
        """
        ...

    def offerable(
        self, destination: bytes, now: int, *, spray: bool, count_max: int, after: int = 0
    ) -> Sequence[OfferableEnvelope]:
        """Return what `due` would, without the bytes, of the envelopes after a number; for a spray only those of which
        copies are to be made.
        """
        ...

    def openings(self) -> Openings:
        """Return what changes whenever there is more for `offerable` than time alone makes due."""
        ...

    def stored(self, numbers: Sequence[int], *, bytes_max: int) -> Sequence[StoredEnvelope]:
        """Return those of these envelopes that are to be sent to anybody yet, in this order, as `due` does."""
        ...

    def give_copies(self, given: Mapping[int, int]) -> None:
        """Take so many from the copies that are to be made of each envelope (by number)."""
        ...

    def renew_copies(self, copies: int, now: int, *, after: int) -> int:
        """Let so many copies be made anew of own envelopes that were first given, or renewed, so long ago; return of
        how many.
        """
        ...

    def note_offered(self, destination: bytes, numbers: Iterable[int], *, now: int, next_at: int) -> None:
        """Record that envelopes are offered; that is no attempt yet."""
        ...

    def note_sent(self, destination: bytes, numbers: Iterable[int], *, now: int, next_at: int) -> None:
        """Record an attempt that is under way."""
        ...

    def note_found(self, destination: bytes, ids: Iterable[bytes], *, now: int, next_at: int) -> None:
        """Record that a destination was found to have these envelopes; ids that are not kept here are passed over."""
        ...

    def note_answered(
        self, destination: bytes, numbers: Iterable[int], *, now: int, next_at: int, kept: bool = False
    ) -> None:
        """Record that an attempt is over, and when the envelopes are due again unless a receipt comes before. With
        `kept`, they are on the destination's disk: a handover.
        """
        ...

    def forget_attempts(self, now: int, destination: bytes | None = None) -> None:
        """Make due whatever is recorded as under way to a destination, or to anyone: nobody waits for it any more."""
        ...

    def forget_dispatches(self, destination: bytes) -> int:
        """Make everything that a destination took over, and the center has not confirmed, due again; return how
        many.
        """
        ...

    # What the device remembers of its own affairs.
    def number(self, name: str) -> int | None:
        """Return a remembered number."""
        ...

    def put_number(self, name: str, value: int) -> None:
        """Remember a number."""
        ...

    def left_on(self, medium: bytes) -> bytes | None:
        """Return what was noted of a medium when it was last left in order."""
        ...

    def note_left_on(self, medium: bytes, digest: bytes | None) -> None:
        """Note what this device leaves on a medium; None: nothing that could be relied on."""
        ...

    def oldest_open_at(self) -> int | None:
        """Return when the oldest own envelope that has no receipt was accepted."""
        ...


class Store(Protocol):
    """Gives transactions, one at a time."""

    def transaction(self) -> AbstractContextManager[StoreTransaction]:
        """Open a transaction that commits durably when left normally; raises StoreFault, with everything rolled
        back.
        """
        ...


class HeadMirror(Protocol):
    """The file beside the store that remembers how far the chain reached."""

    def note(self, position: ChainPosition) -> None:
        """Write the position; it need not be durable yet."""
        ...

    def settle(self) -> None:
        """Return only when what was noted is on disk."""
        ...
