"""Bugs for planting into the center's receipts and backups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Final

from central_broker.receipts import Chain
from central_broker.storage import outbox
from central_broker.storage.issuing import Issue
from central_broker.storage.outbox import Outbox
from central_broker.storage.receipt_records import ChainRow, ReceiptGrant, Want
from sync_protocol.receipt import Span, SpanStatus
from tests.simulator.broker import BrokerTroubles
from tests.simulator.center import CenterTroubles
from tests.simulator.planted_bug import Bug, in_place_of

_TWINS: Final = {"images": 1.0, "tablet_rollbacks": 0.4, "questionnaires": 6}
_REVOKED: Final = {"revoked": 0.2, "tablets": 3}


# Receipts.


def _over_gaps(add: Callable[[Chain, ChainRow], None]) -> object:
    """Let a span go on behind a gap, as if what is missing had come with what follows."""

    def planted(self: Chain, row: ChainRow) -> None:
        before = self._spans[-1] if self._spans else None
        first = before.last + 1 if before is not None and before.epoch == row.epoch else 1
        for sequence in range(first, row.sequence):
            previous = self._spans[-1].id_at(self._spans[-1].last) if sequence > 1 and self._spans else row.previous_id
            filled = sha256(row.id + sequence.to_bytes(8, "big")).digest()
            add(self, replace(row, sequence=sequence, id=filled, previous_id=previous))
        last = self._spans[-1].id_at(self._spans[-1].last) if first < row.sequence else row.previous_id
        add(self, replace(row, previous_id=last))

    return planted


def _over_branches(add: Callable[[Chain, ChainRow], None]) -> object:
    """Let a span go on with whatever stands at the next place."""

    def planted(self: Chain, row: ChainRow) -> None:
        for span in self._spans:
            if (span.epoch, span.last) == (row.epoch, row.sequence - 1):
                row = replace(row, previous_id=span.id_at(span.last))
        add(self, row)

    return planted


def _passes_over_what_was_filled_in(extend: Callable[[Chain, ChainRow], bool]) -> object:
    def planted(self: Chain, row: ChainRow) -> bool:
        return (row.epoch, row.sequence) <= self._reached or extend(self, row)

    return planted


def _as_long_as_they_get(begin: Callable[..., None]) -> object:
    def planted(self: Chain, rows: Sequence[ChainRow] = (), newest_epoch: int = 0) -> None:
        begin(self)
        self.newest_epoch = max([newest_epoch, *(row.epoch for row in rows)])
        self._together_max = 1 << 62
        for row in rows:
            self._add(row)

    return planted


def _without_held(spans: Callable[..., list[Span]]) -> object:
    return lambda self, *run_ends: [span for span in spans(self, *run_ends) if span.status is SpanStatus.COMMITTED]


def _ends_nowhere_for_carriers(grant: Callable[..., ReceiptGrant]) -> object:
    return lambda self, origin, now: replace(grant(self, origin, now), run_ends=())


def _grants_the_next_number(grant: Callable[..., ReceiptGrant]) -> object:
    def planted(self: Issue, origin: bytes, now: int) -> ReceiptGrant:
        granted = grant(self, origin, now)
        rows = self._statements.execute("SELECT serial FROM receipt WHERE origin = %s", (origin,))
        return replace(granted, serial=rows[0][0] + 1, republishable=granted.last is not None)

    return planted


def _dates_by_now(chain: Callable[..., tuple[int, list[ChainRow]]]) -> object:
    def planted(self: Issue, origin: bytes) -> tuple[int, list[ChainRow]]:
        clock, rows = chain(self, origin)
        return clock, [replace(row, committed_at=clock + 1) for row in rows]

    return planted


def _forgets_what_it_takes(take: Callable[..., list[Want]]) -> object:
    def planted(self: Outbox, limit: int, now: int, lease_microseconds: int) -> list[Want]:
        wants = take(self, limit, now, lease_microseconds)
        self.finish_wants(wants)
        return wants

    return planted


# Backups.


def _reaches_until_now(record: Callable[..., int]) -> object:
    def planted(self: Outbox, _reached: int, now: int) -> int:
        """Take the time of day for what the backup has reached."""
        told = record(self, self.clock(), now)  # type: ignore[attr-defined]  # of the storage that this is part of
        with self.writing() as statements:
            statements.execute("UPDATE watermark SET at = %s", (now + 3_600_000_000,))
        return told

    return planted


RECEIPT_BUGS: Final = (
    Bug(
        "span over a gap receipted",
        "a receipt vouches for an envelope that never came, because a later one did",
        ("I4",),
        in_place_of(Chain, "_add", _over_gaps),
        50,
        {"broker": BrokerTroubles(forgets=0.3, late=0.2, sends_lost=0.8)},
    ),
    Bug(
        "span over a broken link receipted",
        "a receipt goes from one branch of a forked chain over to the other",
        ("I4", "I6"),
        in_place_of(Chain, "_add", _over_branches),
        20,
        _TWINS,
    ),
    Bug(
        "kept chain not built anew",
        "what closes a gap never shows in a receipt of the same publisher",
        ("I4", "I6"),
        in_place_of(Chain, "extend", _passes_over_what_was_filled_in),
        20,
        {"unknown_forms": 0.3, "broker": BrokerTroubles(forgets=0.3, sends_lost=0.8)},
    ),
    Bug(
        "epoch that is over receipted in one span",
        "a device put back to an older state cannot tell what of its former chain the center has",
        ("I4", "I6"),
        in_place_of(Chain, "__init__", _as_long_as_they_get),
        20,
        {"images": 1.0, "queue_rollbacks": 0.4, "questionnaires": 6},
    ),
    Bug(
        "no span ends for carriers",
        "a relay that has nothing of what followed never hears that the center has what it carries",
        ("I6",),
        in_place_of(Issue, "_grant", _ends_nowhere_for_carriers),
        20,
        {"laptops": 1, "meetings": 0.8, "linked": 0.5, "tablets": 3},
    ),
    Bug(
        "held not receipted",
        "a device never hears that the center holds what it sent",
        ("I4", "I6"),
        in_place_of(Chain, "spans", _without_held),
        5,
        _REVOKED,
    ),
    Bug(
        "receipt dated by its signing",
        "the sync mark is when the receipt was signed, not when the database committed",
        ("I4",),
        in_place_of(Issue, "chain", _dates_by_now),
        3,
    ),
    Bug(
        "receipt serial only counted up",
        "after a restore receipts are older than those that devices keep",
        ("I4", "I6"),
        in_place_of(Issue, "_grant", _grants_the_next_number),
        10,
        {"restores": 0.5},
    ),
    Bug(
        "want forgotten when it is taken",
        "a publisher that dies leaves origins without the receipt that they wait for",
        ("I6",),
        in_place_of(Outbox, "take_wants", _forgets_what_it_takes),
        30,
        {"center": CenterTroubles(publisher_dies=0.3), "backups": 1.0, "days": 3, "questionnaires": 1},
    ),
    Bug(
        "watermark at the newest commit",
        "receipts free devices of what is committed and in no backup",
        ("I2",),
        in_place_of(Issue, "watermark", lambda _: property(Issue._clock)),
        3,
    ),
    Bug(
        "watermark an hour ahead",
        "the time margin of a backup is added instead of taken off",
        ("I2",),
        in_place_of(outbox.Outbox, "record_watermark", _reaches_until_now),
        10,
        {"backups": 1.0, "questionnaires": 8},
    ),
)
