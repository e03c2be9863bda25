"""Bugs for planting into the device's steps and its queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakKeyDictionary

from edge_agent.engine import chain
from edge_agent.engine.effects import Accepted, Effect
from edge_agent.engine.engine import Engine
from edge_agent.engine.events import ChainPosition, Event, Submitted, TimePassed
from edge_agent.engine.stepper import Stepper
from edge_agent.engine.store import HeadMirror, Store, StoreFault
from edge_agent.queue import transaction as queue_transaction
from edge_agent.queue.store import QueueStore
from edge_agent.queue.transaction import QueueTransaction
from tests.simulator.broker import BrokerTroubles
from tests.simulator.faults import Fault
from tests.simulator.planted_bug import Bug, in_place_of

_POWER: Final = {"step_faults": 0.04, "kills": 0.3, "power_cuts": 0.3}
_ROLLBACKS: Final = {"images": 1.0, "queue_rollbacks": 0.3}


# Stepper.


def _commits_late(is_late: Callable[[], bool]) -> Callable[[Any], object]:
    """Leave a transaction open until the next one begins."""

    @contextmanager
    def transaction(self: QueueStore) -> Iterator[QueueTransaction]:
        connection = self.connection
        if connection.in_transaction:
            connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield QueueTransaction(connection)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        if not is_late():
            connection.execute("COMMIT")

    return lambda _: transaction


@contextmanager
def _sends_before_the_commit() -> Iterator[None]:
    """Send what was filled in at once, commit it with the next step, and acknowledge it only after that."""
    under_way: list[Event] = []
    waiting: WeakKeyDictionary[Stepper, list[Effect]] = WeakKeyDictionary()

    def step(self: Stepper, event: Event, now: int) -> list[Effect]:
        under_way[:] = [event]
        with self._store.transaction() as transaction:
            effects = self._engine.handle(event, transaction, now)
            if isinstance(event, Submitted):
                effects += self._engine.handle(TimePassed(), transaction, now)
        kept = waiting.setdefault(self, [])
        released: list[Effect] = [effect for effect in effects if not isinstance(effect, Accepted)]
        if not isinstance(event, Submitted):
            released, kept[:] = [*kept, *released], []
        kept.extend(effect for effect in effects if isinstance(effect, Accepted))
        return released

    late = _commits_late(lambda: isinstance(under_way[0], Submitted))
    with in_place_of(QueueStore, "transaction", late)(), in_place_of(Stepper, "step", lambda _: step)():
        yield


def _accepts_in_spite_of_a_fault(step: Callable[[Stepper, Event, int], list[Effect]]) -> object:
    def planted(self: Stepper, event: Event, now: int) -> list[Effect]:
        effects: list[Effect] = []
        try:
            with self._store.transaction() as transaction:
                effects = self._engine.handle(event, transaction, now)
                self._mirror.note(transaction.position())
        except StoreFault:
            if not isinstance(event, Submitted) or not effects:
                self._engine.forget_step(links=not isinstance(event, Submitted))
                raise
        else:
            self._mirror.settle()
        return effects

    return planted


class _LooseMirror:
    """A mirror that is written and not synced, or not even written."""

    def __init__(self, mirror: HeadMirror, *, notes: bool) -> None:
        self._mirror = mirror
        self._notes = notes

    def note(self, position: ChainPosition) -> None:
        if self._notes:
            self._mirror.note(position)

    def settle(self) -> None:
        """Left out."""


def _with_loose_mirror(*, notes: bool) -> Callable[[Any], object]:
    def made_of(begin: Callable[[Stepper, Engine, Store, HeadMirror], None]) -> object:
        def planted(self: Stepper, engine: Engine, store: Store, mirror: HeadMirror) -> None:
            begin(self, engine, store, _LooseMirror(mirror, notes=notes))

        return planted

    return made_of


# Queue.

_NO_CLOCK_GOES_BACK: Final = "(dispatch.envelope IS NULL OR dispatch.next_at <= :now)"


def _purge(condition: str) -> object:
    def planted(self: QueueTransaction, origin: bytes, *, watermark: int, now: int) -> int:
        purged = self._connection.execute(
            f"UPDATE envelope SET data = NULL, purged_at = :now WHERE origin = :origin AND own = 1 AND {condition} "
            "AND data IS NOT NULL",
            {"now": now, "origin": origin, "watermark": watermark},
        )
        return purged.rowcount

    return planted


def _opens_without_mirror(open_chain: Callable[..., list[Effect]]) -> object:
    return lambda transaction, _mirror, now: open_chain(transaction, None, now)


STEP_BUGS: Final = (
    Bug(
        "acknowledged before the commit",
        "the form program hears of an envelope that a power cut still takes away",
        ("I1",),
        in_place_of(QueueStore, "transaction", _commits_late(lambda: True)),
        5,
        _POWER,
    ),
    Bug(
        "sent before the commit",
        "an envelope that a power cut takes away has left; it is filled in again and counted twice",
        ("I1", "I3"),
        _sends_before_the_commit,
        30,
        {"step_faults": 0.2, "questionnaires": 8},
        (Fault.CUT_AMONG_EFFECTS,),
    ),
    Bug(
        "accepted though the commit failed",
        "an error of the disk at the commit is passed over",
        ("I1", "I6"),
        in_place_of(Stepper, "step", _accepts_in_spite_of_a_fault),
        15,
        {"step_faults": 0.1, "questionnaires": 6, "kills": 0.9},
    ),
    Bug(
        "mirror not synced before what it names is sent",
        "after a power cut the mirror does not notice that the queue is older than what has left",
        ("I3",),
        in_place_of(Stepper, "__init__", _with_loose_mirror(notes=True)),
        60,
        {"power_cuts": 1.0, "images": 1.0, "queue_rollbacks": 0.6, "days": 8, "questionnaires": 6, "tablets": 3},
    ),
    Bug(
        "mirror not written",
        "a queue put back to a copy gives the same places of its chain again",
        ("I3",),
        in_place_of(Stepper, "__init__", _with_loose_mirror(notes=False)),
        5,
        _ROLLBACKS,
    ),
    Bug(
        "mirror not read at the start",
        "a sequence is used again after the queue was restored",
        ("I3",),
        in_place_of(chain, "open_chain", _opens_without_mirror),
        5,
        _ROLLBACKS,
    ),
    Bug(
        "submission not remembered",
        "a form program that asks again after a power cut has its questionnaire counted twice",
        ("I1",),
        in_place_of(QueueTransaction, "remember_submission", lambda _: lambda *_: None),
        15,
        _POWER,
    ),
    Bug(
        "a clock that went back is not noticed",
        "what was sent in 2037 by the device's clock is never sent again",
        ("I6",),
        in_place_of(queue_transaction, "_DUE", lambda _: _NO_CLOCK_GOES_BACK),
        30,
        {"broker": BrokerTroubles(forgets=0.5, receipts_lost=0.5), "clock_jumps": 0.9, "questionnaires": 6},
    ),
    Bug(
        "purged before the watermark",
        "an envelope is purged as soon as it is committed, before any backup has it",
        ("I2",),
        in_place_of(QueueTransaction, "purge_own", lambda _: _purge("status = 1")),
        3,
    ),
    Bug(
        "held envelopes purged",
        "what the center could only hold is purged like what it committed",
        ("I2",),
        in_place_of(QueueTransaction, "purge_own", lambda _: _purge("committed_at <= :watermark")),
        5,
        {"unknown_forms": 0.3, "backups": 1.0},
    ),
)
