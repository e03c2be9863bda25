"""What the center knows of devices, media, lists and held data, and the counts that operators ask for."""

from __future__ import annotations

from dataclasses import dataclass

from central_broker.storage.batch_records import HeldReason, Route
from sync_protocol.identity import Role, Standing


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device that the center knows.

    `last_seen_at` and the rest tell of its last sign of life: anything that it brought itself, or an envelope of it
    that was new when another brought it; kept to about ten seconds.
    """

    device: bytes
    name: str
    role: Role
    standing: Standing
    public_key: bytes
    issued_at: int
    serial: int
    certificate: bytes
    enrolled_at: int
    last_seen_at: int | None
    last_route: Route | None
    last_carrier: bytes | None
    last_hops: int | None = None


@dataclass(frozen=True, slots=True)
class MediumRecord:
    """A medium that the center knows, by its newest certificate; `recorded_at` is when the first of it came here."""

    medium: bytes
    number: str
    holder: str
    standing: Standing
    issued_at: int
    expires_at: int
    serial: int
    certificate: bytes
    recorded_at: int


@dataclass(frozen=True, slots=True)
class CountedListRecord:
    """What a device was given last. `digest` is the SHA-256 of the list, `recipient` the name of the key that it was
    sealed to: with both the same there is nothing new to give.
    """

    serial: int
    recipient: bytes
    digest: bytes
    statement: bytes


@dataclass(frozen=True, slots=True)
class HeldRecord:
    """One held thing as operators list it; `data` only comes with `held_item`. `origin` and the rest may be claims."""

    id: bytes
    reason: HeldReason
    detail: str
    origin: bytes | None
    epoch: int | None
    sequence: int | None
    envelope_id: bytes | None
    carrier: bytes | None
    route: Route
    hops: int | None
    received_at: int
    data_bytes: int
    whole: bool = False
    """Joined parts of a questionnaire that cannot be read; its envelopes are committed."""


@dataclass(frozen=True, slots=True)
class Fork:
    """Several envelopes that an origin put at one place of its chain."""

    origin: bytes
    epoch: int
    sequence: int
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Completeness:
    """How complete one epoch of one origin is.

    `highest` is the highest sequence received; `sealed` the highest that the origin has signed, in its newest head or
    in an envelope, which may come by a carrier before any head. `missing` are inclusive runs of sequences up to
    `sealed` of which nothing is here, at most 100 runs; `missing_count` counts all.
    """

    origin: bytes
    epoch: int
    sealed: int
    highest: int
    committed: int
    held: int
    missing_count: int
    missing: tuple[tuple[int, int], ...]
    forks: int
    last_committed_at: int | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Whole-database counts for status and balance."""

    envelopes_committed: int
    envelopes_held: int
    held_items: int
    questionnaires: int
    questionnaires_unreadable: int
    parts_waiting: int
    outbox: int


@dataclass(frozen=True, slots=True)
class RouteCount:
    """How many envelopes came first by one route; `hops_mean` of those whose hops somebody said, None when nobody."""

    route: Route
    envelopes: int
    hops_mean: float | None
