"""Bugs for planting into the device's engine: receipts, custody, sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from edge_agent.engine import arrival, custody, media, receipts, sessions
from edge_agent.engine.effects import Effect
from edge_agent.engine.identity import Beliefs, DeviceIdentity
from edge_agent.engine.offers import Offers
from edge_agent.engine.pacing import Pacing
from edge_agent.engine.sessions import OutboundSession
from edge_agent.engine.store import SequenceRange, StoreTransaction
from edge_agent.queue.transaction import QueueTransaction
from sync_protocol.identity import CENTER
from sync_protocol.mesh import Verdict, Verdicts
from sync_protocol.receipt import Receipt, Span, SpanStatus
from sync_protocol.statement import Statement
from tests.simulator.broker import BrokerTroubles
from tests.simulator.planted_bug import Bug, in_place_of

_FORGETFUL: Final = {"broker": BrokerTroubles(forgets=0.5), "backups": 1.0}


# Receipts.


def _put_any_statement(self: QueueTransaction, statement: Statement) -> bool:
    self._connection.execute(
        "INSERT INTO statement VALUES (?, ?, ?, ?) ON CONFLICT (kind, subject) DO UPDATE "
        "SET serial = excluded.serial, data = excluded.data",
        (statement.kind, statement.subject, statement.serial, statement.data),
    )
    return True


def _takes_any_for_its_own(apply: Callable[..., list[Effect]]) -> object:
    def planted(receipt: Receipt, transaction: StoreTransaction, identity: DeviceIdentity, now: int) -> list[Effect]:
        return apply(replace(receipt, origin=identity.device), transaction, identity, now)

    return planted


def _judges_by_place(receipt: Receipt, transaction: StoreTransaction, now: int) -> tuple[list[Span], list[Effect]]:
    known = {position.epoch: position.sequence for position in transaction.epochs()}
    return [span for span in receipt.spans if span.last <= known.get(span.epoch, 0)], []


def _takes_held_for_committed(mark: Callable[..., Iterator[Effect]]) -> object:
    def planted(origin: bytes, spans: Iterable[Span], transaction: StoreTransaction) -> Iterator[Effect]:
        return mark(origin, [replace(span, status=SpanStatus.COMMITTED) for span in spans], transaction)

    return planted


def _when_taken(act: Callable[[QueueTransaction, Sequence[int], int], None], *, by_center: bool = False) -> Any:
    """Do something to the envelopes of a bundle as soon as it was acknowledged."""

    def made_of(settled: Callable[..., list[Effect]]) -> object:
        def planted(
            self: OutboundSession,
            token: int,
            *,
            taken: bool,
            declined: Sequence[bytes],
            transaction: QueueTransaction,
            now: int,
        ) -> list[Effect]:
            flight = self._in_flight.get(token)
            effects = settled(self, token, taken=taken, declined=declined, transaction=transaction, now=now)
            if flight is not None and taken and (not by_center or self.link.far_end == CENTER):
                act(transaction, list(flight.envelopes), now)
            return effects

        return planted

    return made_of


def _purge_now(transaction: QueueTransaction, numbers: Sequence[int], now: int) -> None:
    transaction._connection.executemany(
        "UPDATE envelope SET data = NULL, purged_at = ? WHERE number = ? AND own = 1", [(now, n) for n in numbers]
    )


def _mark_now(transaction: QueueTransaction, numbers: Sequence[int], now: int) -> None:
    transaction._connection.executemany(
        "UPDATE envelope SET status = 1, committed_at = ? WHERE number = ? AND own = 1", [(now, n) for n in numbers]
    )


def _drop_now(transaction: QueueTransaction, numbers: Sequence[int], _now: int) -> None:
    transaction.drop_foreign(numbers)


def _when_held(act: Callable[[QueueTransaction, Sequence[int], int], None]) -> Any:
    """Do something to the envelopes that a neighbour says it holds."""

    def made_of(heard: Callable[..., dict[Verdict, int]]) -> object:
        def planted(
            self: Offers, verdicts: Verdicts, transaction: QueueTransaction, now: int, custody_wait: int
        ) -> dict[Verdict, int]:
            offered = () if self._open is None else self._open[1]
            counts = heard(self, verdicts, transaction, now, custody_wait)
            pairs = zip(offered, verdicts.verdicts, strict=False)
            act(transaction, [number for number, verdict in pairs if verdict is Verdict.HELD], now)
            return counts

        return planted

    return made_of


# Custody and chain.


def _judges_every_branch(
    self: custody._Judged, receipt: Receipt, span: Span, certain: tuple[int, bytes], transaction: StoreTransaction
) -> None:
    place = SequenceRange(receipt.origin, span.epoch, span.first, certain[0])
    for carried in transaction.carried(place):
        backed = custody._Backed(receipt.watermark, span).holds(carried.sequence)
        (self.backed if backed else self.listed).add(carried.number)


_CALLS_IT_LONG: Final = 400 * 24 * 3_600_000_000


ENGINE_BUGS: Final = (
    Bug(
        "held taken for committed",
        "a sync mark is given to what the center could only hold",
        ("I4",),
        in_place_of(receipts, "_mark", _takes_held_for_committed),
        5,
        {"unknown_forms": 0.3},
    ),
    Bug(
        "marks never taken back",
        "what a restored center has lost again is not sent again",
        ("I2", "I4", "I6"),
        in_place_of(receipts, "_unmark", lambda _: lambda *_: iter(())),
        10,
        {"restores": 0.5},
    ),
    Bug(
        "receipt of another origin taken for the own one",
        "others' receipts decide over own envelopes",
        ("I3", "I4", "I6"),
        in_place_of(arrival, "apply_receipt", _takes_any_for_its_own),
        10,
        {"hostile": 2.0, "meetings": 0.8, "days": 2, "questionnaires": 1},
    ),
    Bug(
        "stale receipt applied",
        "an old receipt takes the place of a newer one",
        ("I3",),
        in_place_of(QueueTransaction, "put_statement", lambda _: _put_any_statement),
        10,
        {"hostile": 2.0},
    ),
    Bug(
        "receipt not verified",
        "a receipt that nobody of the center signed frees a tablet of its copies",
        ("I4",),
        in_place_of(Beliefs, "check", lambda _: lambda *_: None),
        15,
        {"hostile": 2.0},
    ),
    Bug(
        "span applied without its id",
        "a tablet put back to an image takes the receipts of its former life for those of its new envelopes",
        ("I4",),
        in_place_of(receipts, "_judge_spans", lambda _: _judges_by_place),
        10,
        {"images": 1.0, "tablet_rollbacks": 0.4},
    ),
    Bug(
        "no new epoch though the center knows more",
        "a tablet put back to an image goes on in a chain of which it was told that it has gone on elsewhere",
        ("I4",),
        in_place_of(receipts, "begin_epoch", lambda _: lambda *_args, **_keywords: []),
        10,
        {"images": 1.0, "tablet_rollbacks": 0.4},
    ),
    Bug(
        "purged on PUBACK",
        "the broker's word frees a tablet of its copy",
        ("I2",),
        in_place_of(sessions.OutboundSession, "settled", _when_taken(_purge_now)),
        3,
    ),
    Bug(
        "marked on PUBACK",
        "the broker's word passes for a commit",
        ("I4",),
        in_place_of(sessions.OutboundSession, "settled", _when_taken(_mark_now)),
        3,
    ),
    Bug(
        "relay drops on PUBACK",
        "the broker's word frees a relay of what it carries for another",
        ("I2",),
        in_place_of(sessions.OutboundSession, "settled", _when_taken(_drop_now, by_center=True)),
        20,
        {**_FORGETFUL, "laptops": 1, "meetings": 0.8, "linked": 0.3, "tablets": 3},
    ),
    Bug(
        "relay drops every branch of a fork",
        "a receipt for one branch of a forked chain frees a relay of the other one",
        ("I2",),
        in_place_of(custody._Judged, "follow", lambda _: _judges_every_branch),
        60,
        {"images": 1.0, "tablet_rollbacks": 0.5, "laptops": 1, "meetings": 0.8, "linked": 0.5, "tablets": 3},
    ),
    Bug(
        "purged on a neighbour's word",
        "a neighbour that holds an envelope frees its origin of it",
        ("I2",),
        in_place_of(Offers, "heard_verdicts", _when_held(_purge_now)),
        60,
        {"laptops": 1, "meetings": 1.0, "linked": 0.2, "tablets": 4},
    ),
    Bug(
        "relay drops on a neighbour's word",
        "of two relays that hold an envelope each leaves it to the other",
        ("I2",),
        in_place_of(Offers, "heard_verdicts", _when_held(_drop_now)),
        60,
        {"laptops": 1, "meetings": 1.0, "linked": 0.2, "tablets": 4},
    ),
    Bug(
        "relay lets go at the commit",
        "an old receipt frees a relay of what a restored center no longer has",
        ("I2",),
        in_place_of(custody._Backed, "holds", lambda _: lambda *_: True),
        60,
        {"restores": 0.5, "destroyed": 0.3, "laptops": 1, "meetings": 0.8, "linked": 0.5, "tablets": 3},
    ),
    Bug(
        "stick cleared of what was sent once",
        "a device takes its files from a stick although no receipt lists what is in them",
        ("I1",),
        in_place_of(custody, "released", lambda _: lambda places, _queue: frozenset(one.id for one in places)),
        60,
        {"sticks": 1, "trips": 1.0, "laptops": 1, "linked": 0.2, "tablets": 3, "queue_rollbacks": 0.3, "images": 0.5},
    ),
    Bug(
        "stick believed about itself",
        "a device writes to a stick that it knows to be called in, because the stick says that it is good",
        ("I8",),
        in_place_of(media, "certificate_in_force", lambda real: lambda own, _known, trust: real(own, None, trust)),
        20,
        {"sticks": 1, "trips": 1.0, "laptops": 1, "linked": 1.0, "tablets": 3, "sticks_called_in": 0.5},
    ),
    Bug(
        "rest without end",
        "a relay keeps for ever what a receipt lists, and a restored center never hears of it",
        ("I6",),
        in_place_of(QueueTransaction, "end_rests", lambda _: lambda *_args, **_keywords: None),
        60,
        {"restores": 0.5, "destroyed": 0.3, "laptops": 1, "meetings": 0.8, "linked": 0.5, "tablets": 3},
    ),
    Bug(
        "resends never come due",
        "what the broker acknowledged and forgot is never sent again",
        ("I6",),
        in_place_of(Pacing, "taken_wait", lambda _: lambda *_args, **_keywords: _CALLS_IT_LONG),
        5,
        _FORGETFUL,
    ),
)
