"""The evening peak on paper: how long each resource needs for all of it at the least, whoever comes when."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from tests.simulator.peak_costs import ServiceCosts
from tests.simulator.peak_scenario import Scenario


@dataclass(frozen=True)
class Floor:
    """One kind of work at one resource."""

    resource: str
    work: str
    count: int
    microseconds_each: float
    cores: int

    @property
    def seconds(self) -> float:
        """On one core."""
        return self.count * self.microseconds_each / 1e6

    @property
    def floor_seconds(self) -> float:
        """On the site's cores: nothing can be faster."""
        return self.seconds / self.cores


def floors(scenario: Scenario, costs: ServiceCosts) -> list[Floor]:
    """Every kind of work, then each resource's sum; one connection, and one receipt for each tablet."""
    tablets, habits, site = scenario.tablets, scenario.habits, scenario.site
    bundles_each = ceil(scenario.envelopes_a_tablet / habits.envelopes_a_bundle)
    bundles, envelopes = tablets * bundles_each, tablets * scenario.envelopes_a_tablet
    size = min(scenario.envelopes_a_tablet, habits.envelopes_a_bundle) * habits.envelope_bytes
    parts = [
        Floor("broker", f"{tablets:,} connections", tablets, costs.connection, 1),
        Floor("broker", f"{bundles:,} bundles of {size:,} bytes", bundles, costs.bundle(size), 1),
        Floor("broker", f"{tablets:,} receipts", tablets, costs.receipt_broker, 1),
        Floor("consumers", f"{bundles:,} bundles", bundles, costs.consumer_bundle, site.consumers),
        Floor("consumers", f"{envelopes:,} envelopes", envelopes, costs.consumer_envelope, site.consumers),
        Floor("database", f"{bundles:,} bundles", bundles, costs.database_bundle, site.database_cores),
        Floor("database", f"{envelopes:,} envelopes", envelopes, costs.database_envelope, site.database_cores),
        Floor("database", f"{tablets:,} receipts", tablets, costs.receipt_database, site.database_cores),
        Floor("publisher", f"{tablets:,} receipts", tablets, costs.receipt_publisher, 1),
    ]
    return [*parts, *_sums(parts)]


def _sums(parts: list[Floor]) -> list[Floor]:
    sums = []
    for resource in dict.fromkeys(part.resource for part in parts):
        own = [part for part in parts if part.resource == resource]
        seconds = sum(part.seconds for part in own)
        sums.append(Floor(f"**{resource}**", "all of it", 1, seconds * 1e6, own[0].cores))
    return sorted(sums, key=lambda one: one.floor_seconds, reverse=True)
