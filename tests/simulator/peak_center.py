"""The center in the simulation: broker, consumers with their database, receipt publisher, as queues with costs.

The broker is one thread: whatever comes to it, it takes up in turn (mosquitto's epoll loop). Its listeners are of it:
connections wait in the kernel's short line until their turn comes, and then all that wait are accepted together.
What a connection has sent is worked on even when its sender has given up meanwhile: that is the waste.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulator.peak_costs import ServiceCosts
from tests.simulator.peak_machinery import Clock, Figures, Server
from tests.simulator.peak_scenario import Site


@dataclass(eq=False)
class SimulatedBundle:
    """One bundle of one tablet; each attempt to send it carries the same envelopes."""

    origin: int
    envelopes: int
    size_bytes: int
    attempts: int = 0
    acknowledged: bool = False
    committed: bool = False
    receipted: bool = False


class Listener:
    """The kernel's line of connections that wait to be accepted, and its turn at the broker."""

    def __init__(self, broker: Server, backlog: int, accept_cost: float, figures: Figures) -> None:
        self._broker = broker
        self._backlog = backlog
        self._accept_cost = accept_cost
        self._figures = figures
        self._waiting: list[tuple[Callable[[Any], None], Any]] = []
        self._taken: list[tuple[Callable[[Any], None], Any]] = []

    def arrive(self, accepted: Callable[[Any], None], argument: Any) -> bool:
        """Take a connection into the line, and call `accepted` in its turn; False when there is no room."""
        if len(self._waiting) > self._backlog:  # Linux lets in one more
            return False
        self._waiting.append((accepted, argument))
        self._figures.length("connections waiting to be accepted", len(self._waiting))
        if len(self._waiting) == 1:
            self._broker.submit(self._begin, self._accepted)
        return True

    def _begin(self) -> float:
        self._taken, self._waiting = self._waiting, []
        return self._accept_cost * len(self._taken)

    def _accepted(self, _: object) -> None:
        for accepted, argument in self._taken:
            accepted(argument)


@dataclass
class _Batch:
    bundles: list[SimulatedBundle]
    envelopes: int


@dataclass(eq=False)
class SimulatedConsumer:
    """One consumer process: accepts one batch while the one before is being committed."""

    clock: Clock
    site: Site
    costs: ServiceCosts
    database: Server
    committed: Callable[[list[SimulatedBundle]], None]
    waiting: deque[SimulatedBundle] = field(default_factory=deque)
    waiting_bytes: int = 0
    waiting_messages: int = 0
    """At the broker for this consumer, until it acknowledges."""
    envelopes_waiting: int = 0
    busy_microseconds: float = 0
    _accepting: bool = False
    _collecting: bool = False
    _committing: bool = False
    _ready: _Batch | None = None
    _batches: int = 0

    def offer(self, bundle: SimulatedBundle) -> bool:
        """Queue a bundle at the broker for this consumer; False when its queue is full, and the bundle dropped."""
        full = (
            self.waiting_messages >= self.site.queue_messages_max
            or self.waiting_bytes + bundle.size_bytes > self.site.queue_bytes_max
        )
        if full:
            return False
        self.waiting.append(bundle)
        self.waiting_messages += 1
        self.waiting_bytes += bundle.size_bytes
        self.envelopes_waiting += bundle.envelopes
        if self._collecting:
            if self.envelopes_waiting >= self.site.batch_envelopes_max:
                self._accept()
        elif not self._accepting and self._ready is None:
            self._collect()
        return True

    def _collect(self) -> None:
        if self.envelopes_waiting >= self.site.batch_envelopes_max:
            self._accept()
        elif self.waiting:
            self._collecting = True
            self._batches += 1
            self.clock.after(self.site.batch_wait_milliseconds * 1000, self._waited, self._batches)

    def _waited(self, batch_number: int) -> None:
        if self._collecting and batch_number == self._batches:
            self._accept()

    def _accept(self) -> None:
        self._collecting = False
        batch = _Batch([], 0)
        while self.waiting and batch.envelopes < self.site.batch_envelopes_max:
            bundle = self.waiting.popleft()
            batch.bundles.append(bundle)
            batch.envelopes += bundle.envelopes
        self.envelopes_waiting -= batch.envelopes
        self._accepting = True
        spent = len(batch.bundles) * self.costs.consumer_bundle + batch.envelopes * self.costs.consumer_envelope
        self.busy_microseconds += spent
        self.clock.after(spent, self._accepted, batch)

    def _accepted(self, batch: _Batch) -> None:
        self._accepting = False
        if self._committing:
            self._ready = batch
        else:
            self._commit(batch)

    def _commit(self, batch: _Batch) -> None:
        self._committing = True
        spent = len(batch.bundles) * self.costs.database_bundle + batch.envelopes * self.costs.database_envelope
        self.database.submit(spent, self._done, batch)
        self._collect()

    def _done(self, batch: _Batch) -> None:
        self._committing = False
        for bundle in batch.bundles:
            self.waiting_messages -= 1
            self.waiting_bytes -= bundle.size_bytes
        self.committed(batch.bundles)
        ready, self._ready = self._ready, None
        if ready is not None:
            self._commit(ready)


class SimulatedPublisher:
    """The outbox and one receipt publisher."""

    def __init__(
        self, clock: Clock, site: Site, costs: ServiceCosts, database: Server, publish: Callable[[int], None]
    ) -> None:
        self._clock = clock
        self._site = site
        self._costs = costs
        self._database = database
        self._publish = publish
        self._wanted: dict[int, None] = {}
        self.busy_microseconds = 0.0
        self.longest = 0

    def want(self, origin: int) -> None:
        """Put an origin into the outbox, unless it is there."""
        self._wanted[origin] = None
        self.longest = max(self.longest, len(self._wanted))

    def start(self) -> None:
        """Begin to look, as soon as the broker has let it in."""
        self._look(None)

    def _look(self, _: object) -> None:
        if not self._wanted:
            self._clock.after(self._site.receipts_interval_milliseconds * 1000, self._look)
            return
        origins = list(self._wanted)[: self._site.batch_origins_max]
        for origin in origins:
            del self._wanted[origin]
        self._database.submit(len(origins) * self._costs.receipt_database, self._sign, origins)

    def _sign(self, origins: list[int]) -> None:
        spent = len(origins) * self._costs.receipt_publisher
        self.busy_microseconds += spent
        self._clock.after(spent, self._signed, origins)

    def _signed(self, origins: list[int]) -> None:
        for origin in origins:
            self._publish(origin)
        self._look(None)
