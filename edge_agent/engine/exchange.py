"""The duplex half of a session: what two neighbours say to each other about what they know, have and want.

| the far end says | what follows |
|---|---|
| digests | inventories of what differs |
| an inventory | what it lacks waits to be sent; offers may begin once its own news has come, or some seconds later |
| an offer | verdicts |
| verdicts | the envelopes that it wants wait for bundles |

Offers wait for the far end's news, because a receipt among it may spare both of them an envelope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from edge_agent.engine.chain import receipt_serial
from edge_agent.engine.comparison import Comparison
from edge_agent.engine.contact import contact_age
from edge_agent.engine.effects import Effect, Level, Notice, Say
from edge_agent.engine.identity import Beliefs, DeviceIdentity
from edge_agent.engine.links import Link
from edge_agent.engine.offers import Expected, Offers, Promises
from edge_agent.engine.routing import Share, Standing, share_of
from edge_agent.engine.settings import SECOND, EngineSettings
from edge_agent.engine.store import StoredEnvelope, StoreTransaction
from sync_protocol.bundle import Frame
from sync_protocol.identity import Role
from sync_protocol.mesh import HEAD_KIND, Digests, Exchanged, Inventory, Item, Offer, Verdict, Verdicts

_NEWS_WAIT: Final = 10 * SECOND
"""For what the far end knows better: it may be refused here, or never come."""


@dataclass(frozen=True)
class Company:
    """What all exchanges of a device share."""

    identity: DeviceIdentity
    beliefs: Beliefs
    settings: EngineSettings
    has_way: Callable[[], bool]
    """Whether this device has a way to the center now."""
    expected: Expected = field(default_factory=Expected)
    promises: Promises = field(default_factory=Promises)


@dataclass
class Heard:
    """What follows from what the far end said."""

    effects: list[Effect] = field(default_factory=list)
    lacking: tuple[Frame, ...] = ()
    """Statements and others' heads that it lacks."""
    lacks_own_heads: bool = False


class Exchange:
    """One link's."""

    def __init__(self, link: Link, company: Company) -> None:
        self._link = link
        self._company = company
        self._comparison = Comparison()
        self._offers = Offers(link.key, link.far_end, company.settings, company.expected, company.promises)
        self._news_until: int | None = None

    def begin(self, transaction: StoreTransaction) -> Say:
        """Return what is said first."""
        return Say(self._link.key, self._comparison.digests(transaction, self._own_heads(transaction)))

    def heard(self, message: Exchanged, transaction: StoreTransaction, now: int, *, custody_wait: int) -> Heard:
        """Answer; `custody_wait` is how long an envelope rests that the far end holds already."""
        key, own_heads = self._link.key, self._own_heads(transaction)
        match message:
            case Digests():
                answers = self._comparison.heard_digests(message, transaction, own_heads)
                return Heard([Say(key, answer) for answer in answers])
            case Inventory():
                lacking = self._comparison.heard_inventory(message, transaction, own_heads)
                self._news_until = now + _NEWS_WAIT
                return Heard(lacking=lacking.frames, lacks_own_heads=lacking.own_heads)
            case Offer():
                return Heard([Say(key, self._offers.judge(message, transaction, now))])
            case Verdicts():
                counts = self._offers.heard_verdicts(message, transaction, now, custody_wait=custody_wait)
                if not counts.get(Verdict.NO_ROOM):
                    return Heard()
                fields = {"envelopes": counts[Verdict.NO_ROOM], "carrier": self._link.far_end}
                return Heard([Notice("offer_declined", fields, Level.WARNING)])

    def offer(self, transaction: StoreTransaction, now: int) -> list[Effect]:
        """Offer what comes next, if it is time for that."""
        if self.wakes_at(transaction, now) is not None or not self._comparison.is_done:
            return []
        offer = self._offers.next_offer(self._share(transaction, now), transaction, now)
        return [] if offer is None else [Say(self._link.key, offer)]

    def wakes_at(self, transaction: StoreTransaction, now: int) -> int | None:
        """Return until when the far end's news is waited for; None when it is not."""
        until = self._news_until
        if until is not None and (not now < until <= now + _NEWS_WAIT or not self._comparison.awaits(transaction)):
            self._news_until = None
        return self._news_until

    def due(self, transaction: StoreTransaction, *, bytes_max: int) -> Sequence[StoredEnvelope]:
        """Return what the far end wants, as `StoreTransaction.due` does."""
        return self._offers.due(transaction, bytes_max=bytes_max)

    def sent(self, numbers: Sequence[int]) -> None:
        """Note that these have left, in the order in which they were wanted."""
        self._offers.sent(numbers)

    def taken(self, taken: Iterable[int], declined: Sequence[int], transaction: StoreTransaction, now: int) -> None:
        """Note what became of the envelopes of a bundle."""
        self._offers.taken(taken, transaction)
        self._offers.declined(declined, transaction, now)

    def refused(self, numbers: Iterable[int]) -> None:
        """Note that a bundle with these envelopes was not recorded there; they are offered again in their time."""
        self._offers.refused(numbers)

    def stopped(self) -> list[int]:
        """Forget everything; return what was offered, or wanted, and has not left."""
        return self._offers.stopped()

    def _share(self, transaction: StoreTransaction, now: int) -> Share:
        company, link = self._company, self._link
        here = Standing.of(
            reaches_center=company.has_way(),
            is_collection_point=company.beliefs.role is Role.COLLECTION_POINT,
            contact_age=contact_age(transaction, now),
        )
        there = Standing.of(
            reaches_center=link.reaches_center, is_collection_point=link.collects, contact_age=link.contact_age
        )
        return share_of(company.settings.shares, here, there)

    def _own_heads(self, transaction: StoreTransaction) -> list[Item]:
        serial, device = receipt_serial(transaction, self._company.identity), self._company.identity.device
        return [
            Item(device, HEAD_KIND, position.epoch, (position.sequence, serial)) for position in transaction.epochs()
        ]
