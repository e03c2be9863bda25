"""One step: handle an event inside a transaction, commit, and only then let the effects out.

The asyncio runner and the simulator both drive this. Two orders hold here and nowhere else:

1. record first, release after: no effect leaves before the transaction that explains it is durable;
2. mirror before sends: no sequence leaves the device before the mirror that names it is on disk, so that a store
   rolled back behind what others have seen is noticed at the next start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from edge_agent.engine.effects import Effect, Level, Notice, Send
from edge_agent.engine.engine import Engine
from edge_agent.engine.events import TOUCHES_NO_LINK, Event
from edge_agent.engine.store import HeadMirror, Store, StoreFault, StoreTransaction

Answer = TypeVar("Answer")


class Stepper:
    """Owns nothing but the order of things; one thread at a time."""

    def __init__(self, engine: Engine, store: Store, mirror: HeadMirror) -> None:
        self._engine = engine
        self._store = store
        self._mirror = mirror

    def ask(self, question: Callable[[StoreTransaction], Answer]) -> Answer:
        """Look at the store between two steps; raises StoreFault."""
        with self._store.transaction() as transaction:
            return question(transaction)

    def step(self, event: Event, now: int) -> list[Effect]:
        """Handle one event and return what is to be done.

        Raises StoreFault when nothing of the event could be recorded, or when what would be sent must not leave for
        want of the mirror. Unless the event is one of those that touch no link (`TOUCHES_NO_LINK`), the engine has then
        forgotten every link: the caller closes them all, and they come up anew.
        """
        try:
            with self._store.transaction() as transaction:
                effects = self._engine.handle(event, transaction, now)
                position = transaction.position()
        except StoreFault:
            self._engine.forget_step(links=not isinstance(event, TOUCHES_NO_LINK))
            raise
        sends = any(isinstance(effect, Send) for effect in effects)
        try:
            self._mirror.note(position)
            if sends:
                self._mirror.settle()
        except StoreFault as fault:
            if sends:
                self._engine.forget_step(links=True)
                raise
            # What was accepted is durable without the mirror. Nothing leaves the device before it is written.
            return [*effects, Notice("mirror_fault", {"problem": str(fault)}, Level.ERROR)]
        return effects
