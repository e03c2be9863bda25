"""One evening: tablets with a day's backlog come back to the broker. The same scenario has the same result.

What the tablets do is the engine's and the publisher's way, told in short: all that is due goes at once (a day fits
into the window), a bundle nobody took rests for the refusal wait, one that was taken for the receipt wait, and then
goes again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from central_broker.broker_link import reconnect_seconds
from tests.simulator.peak_center import Listener, SimulatedBundle, SimulatedConsumer, SimulatedPublisher
from tests.simulator.peak_connections import Attempt, Caller, Connections
from tests.simulator.peak_costs import ServiceCosts
from tests.simulator.peak_machinery import SECOND, Clock, Figures, Server
from tests.simulator.peak_scenario import OutageKind, Scenario

TABLET = "tablets"
CENTER = "center"
_ROUND_TRIP_IN_THE_CENTER = 1_000


@dataclass(eq=False)
class SimulatedTablet:
    """One tablet: its caller, and what it has to bring."""

    number: int
    caller: Caller
    bundles: list[SimulatedBundle]
    upload_free_at: int = 0
    subscribed: bool = False
    retained: list[SimulatedBundle] | None = None
    drained: bool = False


@dataclass(frozen=True)
class PeakResult:
    """What came out; times in microseconds."""

    scenario: Scenario
    figures: Figures
    tries_while_away: int
    """How often tablets tried while there was no broker."""
    drained_at: list[int]
    ended_at: int
    broker_busy: float
    broker_wasted: float
    broker_line_max: int
    consumers_busy: float
    publisher_busy: float
    database_busy: float

    def drained_seconds(self, share: float) -> float | None:
        """When this share of the tablets had a receipt for everything; None when it did not come to that."""
        needed = max(1, round(share * self.scenario.tablets))
        return self.drained_at[needed - 1] / SECOND if len(self.drained_at) >= needed else None


class World:
    """See the module."""

    def __init__(self, scenario: Scenario, costs: ServiceCosts) -> None:
        self._scenario = scenario
        self._costs = costs
        self._clock = Clock()
        self._figures = Figures()
        self._broker = Server(self._clock)
        self._database = Server(self._clock, scenario.site.database_cores)
        self._connections = Connections(
            self._clock, self._broker, costs, scenario.links.syn_retry_seconds, self._figures
        )
        self._up: list[SimulatedConsumer] = []
        self._turn = 0
        self._consumers = [
            SimulatedConsumer(self._clock, scenario.site, costs, self._database, self._committed)
            for _ in range(scenario.site.consumers)
        ]
        self._publisher = SimulatedPublisher(self._clock, scenario.site, costs, self._database, self._publish)
        listener = Listener(self._broker, scenario.site.listen_backlog, costs.accept, self._figures)
        self._tablets = [self._tablet(number, listener) for number in range(scenario.tablets)]
        self._drained_at: list[int] = []

    def run(self) -> PeakResult:
        """Play it until every tablet has receipts for everything, or the scenario's time is over."""
        self._start_center()
        outage = self._scenario.outage
        for tablet in self._tablets:
            if outage.spread_seconds:
                at = int(tablet.caller.random.random() * outage.spread_seconds * SECOND)
            else:
                at = tablet.caller.lose(int(outage.away_seconds * SECOND))
            self._clock.at(at, self._connections.begin, tablet.caller)
        self._clock.run(int(self._scenario.seconds_max * SECOND), lambda: len(self._drained_at) == len(self._tablets))
        return PeakResult(
            scenario=self._scenario,
            figures=self._figures,
            tries_while_away=sum(tablet.caller.tries_while_away for tablet in self._tablets),
            drained_at=self._drained_at,
            ended_at=self._clock.now,
            broker_busy=self._broker.busy_microseconds,
            broker_wasted=self._connections.wasted_microseconds,
            broker_line_max=self._broker.line_max,
            consumers_busy=sum(consumer.busy_microseconds for consumer in self._consumers),
            publisher_busy=self._publisher.busy_microseconds,
            database_busy=self._database.busy_microseconds,
        )

    def _tablet(self, number: int, listener: Listener) -> SimulatedTablet:
        scenario, habits = self._scenario, self._scenario.habits
        random = Random(f"{scenario.seed}/tablet/{number}")
        links = scenario.links
        span = links.round_trip_seconds_max - links.round_trip_seconds_min
        caller = Caller(
            TABLET,
            random,
            habits.retry.pause_seconds,
            habits.connect_timeout_seconds,
            int((links.round_trip_seconds_min + span * random.random()) * SECOND),
            listener,
            lambda attempt: self._tablet_up(tablet, attempt),
        )
        bundles, left = [], scenario.envelopes_a_tablet
        while left:
            envelopes = min(left, habits.envelopes_a_bundle)
            bundles.append(SimulatedBundle(number, envelopes, envelopes * habits.envelope_bytes))
            left -= envelopes
        tablet = SimulatedTablet(number, caller, bundles)
        return tablet

    def _start_center(self) -> None:
        site, outage = self._scenario.site, self._scenario.outage
        listener = Listener(self._broker, site.listen_backlog, self._costs.accept, self._figures)
        for number in range(site.consumers + 1):
            caller = Caller(
                CENTER,
                Random(f"{self._scenario.seed}/center/{number}"),
                reconnect_seconds,
                site.connect_timeout_seconds,
                _ROUND_TRIP_IN_THE_CENTER,
                listener,
                lambda _attempt, number=number: self._center_up(number),  # type: ignore[misc]  # mypy infers no type of a lambda with a default
            )
            if outage.kind in (OutageKind.RESTART, OutageKind.OUTAGE):
                at = caller.lose(int(outage.away_seconds * SECOND))
                self._clock.at(at, self._connections.begin, caller)
            else:
                self._center_up(number)

    def _center_up(self, number: int) -> None:
        self._figures.note("center: processes back", self._clock.now)
        if number < len(self._consumers):
            self._up.append(self._consumers[number])
        else:
            self._publisher.start()

    def _tablet_up(self, tablet: SimulatedTablet, attempt: Attempt) -> None:
        self._figures.note("tablets: up", self._clock.now)
        tablet.subscribed = False
        tablet.upload_free_at = 0
        self._clock.after(attempt.caller.round_trip, self._subscribe, (tablet, attempt))
        for bundle in tablet.bundles:
            if not bundle.receipted and not bundle.acknowledged:
                self._send(tablet, attempt, bundle)

    def _subscribe(self, who: tuple[SimulatedTablet, Attempt]) -> None:
        if who[0].caller.attempt is who[1]:
            self._broker.submit(self._costs.subscribe, self._subscribed, who)

    def _subscribed(self, who: tuple[SimulatedTablet, Attempt]) -> None:
        tablet, attempt = who
        if tablet.caller.attempt is attempt:
            tablet.subscribed = True
            retained, tablet.retained = tablet.retained, None
            if retained is not None:
                self._clock.after(tablet.caller.round_trip / 2, self._receipted, (tablet, retained))

    def _send(self, tablet: SimulatedTablet, attempt: Attempt, bundle: SimulatedBundle) -> None:
        bundle.attempts += 1
        if bundle.attempts > 1:
            self._figures.note("bundles sent again", self._clock.now)
        bits = bundle.size_bytes * 8
        begun = max(self._clock.now + tablet.caller.round_trip // 2, tablet.upload_free_at)
        tablet.upload_free_at = begun + bits * SECOND // self._scenario.links.upload_bits_a_second
        sent = (tablet, attempt, bundle, bundle.attempts)
        self._clock.at(tablet.upload_free_at + tablet.caller.round_trip // 2, self._bundle_arrives, sent)
        self._clock.after(self._scenario.habits.answer_timeout_seconds * SECOND, self._answer_due, sent)

    def _bundle_arrives(self, sent: tuple[SimulatedTablet, Attempt, SimulatedBundle, int]) -> None:
        tablet, attempt, bundle, _ = sent
        if tablet.caller.attempt is attempt:
            self._broker.submit(self._costs.bundle(bundle.size_bytes), self._bundle_taken, sent)

    def _bundle_taken(self, sent: tuple[SimulatedTablet, Attempt, SimulatedBundle, int]) -> None:
        tablet, _, bundle, _ = sent
        self._figures.note("bundles", self._clock.now)
        if not self._up:
            self._figures.note("bundles refused", self._clock.now)
            self._clock.after(tablet.caller.round_trip / 2, self._refused, sent)
            return
        self._turn += 1
        if not self._up[self._turn % len(self._up)].offer(bundle):
            self._figures.note("bundles dropped", self._clock.now)
        self._figures.length("bytes waiting for consumers", sum(one.waiting_bytes for one in self._up))
        self._figures.length("bundles waiting for consumers", sum(one.waiting_messages for one in self._up))
        self._clock.after(tablet.caller.round_trip / 2, self._taken, sent)

    def _refused(self, sent: tuple[SimulatedTablet, Attempt, SimulatedBundle, int]) -> None:
        habits = self._scenario.habits
        self._rest(sent, habits.refusal_wait_seconds, habits.receipt_wait_seconds)

    def _taken(self, sent: tuple[SimulatedTablet, Attempt, SimulatedBundle, int]) -> None:
        habits = self._scenario.habits
        self._rest(sent, habits.receipt_wait_seconds, habits.receipt_wait_seconds_max)

    def _rest(
        self, sent: tuple[SimulatedTablet, Attempt, SimulatedBundle, int], first_seconds: int, longest_seconds: int
    ) -> None:
        """Let a bundle rest as the engine does: doubling with each attempt, give or take a quarter."""
        tablet, attempt, bundle, attempts = sent
        if tablet.caller.attempt is attempt and bundle.attempts == attempts:
            bundle.acknowledged = True
            limit = min(first_seconds << min(attempts - 1, 16), longest_seconds)
            rest = limit * (0.75 + 0.5 * tablet.caller.random.random())
            self._clock.after(rest * SECOND, self._due, sent)

    def _due(self, sent: tuple[SimulatedTablet, Attempt, SimulatedBundle, int]) -> None:
        tablet, _, bundle, attempts = sent
        if bundle.receipted or bundle.attempts != attempts:
            return
        bundle.acknowledged = False
        attempt = tablet.caller.attempt
        if attempt is not None and attempt.up_at:
            self._send(tablet, attempt, bundle)

    def _answer_due(self, sent: tuple[SimulatedTablet, Attempt, SimulatedBundle, int]) -> None:
        tablet, attempt, bundle, attempts = sent
        if tablet.caller.attempt is attempt and bundle.attempts == attempts and not bundle.acknowledged:
            self._figures.note("tablets: lost for want of an answer", self._clock.now)
            self._connections.lost(attempt)

    def _committed(self, bundles: Iterable[SimulatedBundle]) -> None:
        for bundle in bundles:
            if bundle.committed:
                self._figures.note("envelopes that were there", self._clock.now, bundle.envelopes)
            else:
                bundle.committed = True
                self._figures.note("envelopes", self._clock.now, bundle.envelopes)
            self._publisher.want(bundle.origin)
        self._figures.length("receipts waiting to be signed", self._publisher.longest)

    def _publish(self, origin: int) -> None:
        tablet = self._tablets[origin]
        covered = [bundle for bundle in tablet.bundles if bundle.committed]
        self._broker.submit(self._costs.receipt_broker, self._receipt_out, (tablet, covered))

    def _receipt_out(self, issued: tuple[SimulatedTablet, list[SimulatedBundle]]) -> None:
        tablet, covered = issued
        self._figures.note("receipts", self._clock.now)
        if tablet.caller.attempt is not None and tablet.subscribed:
            self._clock.after(tablet.caller.round_trip / 2, self._receipted, issued)
        else:
            tablet.retained = covered

    def _receipted(self, issued: tuple[SimulatedTablet, list[SimulatedBundle]]) -> None:
        tablet, covered = issued
        for bundle in covered:
            bundle.receipted = True
        if not tablet.drained and all(bundle.receipted for bundle in tablet.bundles):
            tablet.drained = True
            self._drained_at.append(self._clock.now)


def play(scenario: Scenario, costs: ServiceCosts) -> PeakResult:
    """Play one evening."""
    return World(scenario, costs).run()
