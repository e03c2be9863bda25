"""The seam between the engine's runner and the links' adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from edge_agent.engine.effects import Accepted, Refused
from edge_agent.engine.links import Link
from edge_agent.engine.store import StoreTransaction
from sync_protocol.content import Questionnaire
from sync_protocol.mesh import Exchanged

Answer = TypeVar("Answer")


class Outlet(Protocol):
    """What an adapter offers for one link. Its calls return at once and never raise: trouble ends the link."""

    def send(self, token: int, data: bytes) -> None:
        """Carry a bundle; `LinkHost.settled` tells what became of it."""
        ...

    def follow(self, origins: frozenset[bytes], listed: frozenset[bytes]) -> None:
        """Ask for the receipts of `origins` and the counted lists of `listed` instead of those asked for before."""
        ...

    def say(self, message: Exchanged) -> None:
        """Tell the far end's engine something; only a link between two engines is asked to."""
        ...

    def close(self) -> None:
        """End the link; `LinkHost.link_down` follows."""
        ...


class LinkHost(Protocol):
    """What the runner offers to adapters; called from the event loop's thread only."""

    def link_up(self, link: Link, outlet: Outlet) -> None:
        """A link is ready."""
        ...

    def link_down(self, link_key: str) -> None:
        """A link is gone; its outlet is not used again."""
        ...

    async def bundle_arrived(self, link_key: str, data: bytes) -> tuple[bytes, ...]:
        """Hand over bytes that came in; returns when they are recorded, so that a slow store slows its links down.

        Returns the ids of the envelopes in it that there is no room for.
        """
        ...

    async def said(self, link_key: str, message: Exchanged) -> None:
        """Hand over what the far end's engine says; returns when it is handled."""
        ...

    def settled(self, link_key: str, token: int, *, taken: bool, declined: tuple[bytes, ...] = ()) -> None:
        """Tell what became of a bundle, and for which envelopes (ids) in it the far end had no room."""
        ...

    async def caught_up(self) -> None:
        """Return when everything that was told before is recorded, and what follows from it has left."""
        ...


class QueueDesk(Protocol):
    """What the runner offers to adapters that have to look at the queue."""

    async def ask(self, question: Callable[[StoreTransaction], Answer]) -> Answer:
        """Run something short between two steps, in a transaction of its own; raises StoreFault."""
        ...

    async def learn(self, data: bytes) -> None:
        """Hand over a statement that came by no link; returns when it is recorded, or refused and told so."""
        ...


class Acceptor(Protocol):
    """What the runner offers to the intake."""

    async def accept(self, submissions: Sequence[tuple[bytes, Questionnaire]]) -> Sequence[Accepted | Refused]:
        """Make questionnaires durable, each under its key (32 to 96 bytes), all of them or none; answers come in the
        same order.
        """
        ...
