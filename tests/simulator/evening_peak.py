"""`python -m tests.simulator.evening_peak`: 21,000 tablets come back after an outage, on paper and in simulation.

The back-off is the daemon's own, the times are the configuration's defaults, the costs were measured (peak_costs).
Assumed, and said so: links of 1 Mbit/s up with 40 to 200 ms to the center and back, none of them failing by itself; one
core for each process of the center; a VPN and a network that carry it all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.markdown import Markdown

from edge_agent.backoff import Backoff
from tests.simulator.peak_costs import ServiceCosts, read_costs
from tests.simulator.peak_machinery import SECOND
from tests.simulator.peak_paper import Floor, floors
from tests.simulator.peak_scenario import (
    OUTAGES,
    TABLETS,
    FixedPause,
    Habits,
    Outage,
    OutageKind,
    RetryPolicy,
    Scenario,
    Site,
    WithoutJitter,
    default_backoff,
)
from tests.simulator.peak_world import PeakResult, play

POLICIES: Final[dict[str, RetryPolicy]] = {
    "full jitter, as built": default_backoff(),
    "without jitter": WithoutJitter(default_backoff()),
    "always 1 s": FixedPause(),
}
SITES: Final[dict[str, Site]] = {
    "1 consumer, the default": Site(consumers=1),
    "2 consumers": Site(consumers=2),
    "4 consumers": Site(consumers=4),
    "1 consumer, its queue 50,000 bundles and 2 GB": Site(
        consumers=1, queue_messages_max=50_000, queue_bytes_max=2 << 30
    ),
    "4 consumers, a listener that lets 65,535 wait": Site(consumers=4, listen_backlog=65_535),
}
LIMITS: Final[dict[OutageKind, tuple[Backoff, ...]]] = {
    OutageKind.RESTART: tuple(Backoff(seconds, 300) for seconds in (2, 10, 30, 60)),
    OutageKind.OUTAGE: tuple(Backoff(60, seconds) for seconds in (60, 120, 300, 600)),
}
"""What the configuration's limits could be: the first one tells after a restart, the longest after a long outage."""
SLOWER: Final = 3
COLLAPSE_SECONDS: Final = 300
_RATES: Final = ("tablets: attempts", "tablets: handshakes", "bundles", "envelopes", "receipts")


@dataclass(frozen=True)
class Played:
    """Everything that a report is made of."""

    policies: dict[tuple[Outage, str], PeakResult]
    limits: dict[tuple[Outage, str], PeakResult]
    sites: dict[tuple[Outage, str], PeakResult]
    collapse: dict[tuple[Outage, str], PeakResult]


def play_policies(
    costs: ServiceCosts, *, tablets: int = TABLETS, seed: int = 1
) -> dict[tuple[Outage, str], PeakResult]:
    """Play every outage with every way of trying again."""
    return {
        (outage, name): play(Scenario(outage, Habits(policy), tablets=tablets, seed=seed), costs)
        for outage in OUTAGES
        for name, policy in POLICIES.items()
    }


def play_sites(costs: ServiceCosts, *, tablets: int = TABLETS, seed: int = 1) -> dict[tuple[Outage, str], PeakResult]:
    """Play what ends for all at once, with the back-off as built, at several sites."""
    habits = Habits(default_backoff())
    return {
        (outage, name): play(Scenario(outage, habits, site=site, tablets=tablets, seed=seed), costs)
        for outage in OUTAGES
        if outage.kind in LIMITS
        for name, site in SITES.items()
    }


def play_limits(costs: ServiceCosts, *, tablets: int = TABLETS, seed: int = 1) -> dict[tuple[Outage, str], PeakResult]:
    """Play full jitter with other limits than the configuration's defaults, beside these."""
    return {
        (outage, f"{backoff.seconds_min} to {backoff.seconds_max} s"): play(
            Scenario(outage, Habits(backoff), tablets=tablets, seed=seed), costs
        )
        for outage in OUTAGES
        for backoff in LIMITS.get(outage.kind, ())
    }


def play_collapse(
    costs: ServiceCosts, *, tablets: int = TABLETS, seed: int = 1
) -> dict[tuple[Outage, str], PeakResult]:
    """Play a restart of a broker that is too slow for its tablets' patience, with a short and a long line before it."""
    slow = costs.with_slower_broker(SLOWER)
    return {
        (outage, f"{name}; {backlog:,} may wait"): play(
            Scenario(
                outage,
                Habits(POLICIES[name]),
                site=Site(listen_backlog=backlog),
                tablets=tablets,
                seed=seed,
                seconds_max=COLLAPSE_SECONDS,
            ),
            slow,
        )
        for outage in OUTAGES
        if outage.kind is OutageKind.RESTART
        for backlog in (Site.listen_backlog, 65_535)
        for name in ("full jitter, as built", "always 1 s")
    }


def evening_peak_report(costs: ServiceCosts, *, tablets: int = TABLETS, seed: int = 1) -> str:
    """Return all tables as Markdown: the floor on paper, back-off by outage, its limits, and what the site changes."""
    played = Played(
        play_policies(costs, tablets=tablets, seed=seed),
        play_limits(costs, tablets=tablets, seed=seed),
        play_sites(costs, tablets=tablets, seed=seed),
        play_collapse(costs, tablets=tablets, seed=seed),
    )
    return "\n".join(_report(costs, played))


def _report(costs: ServiceCosts, played: Played) -> Iterator[str]:
    scenario = next(iter(played.policies.values())).scenario
    envelopes = scenario.tablets * scenario.envelopes_a_tablet
    yield f"**On paper**: {scenario.tablets:,} tablets, {envelopes:,} envelopes; costs: {costs.source}."
    yield from _table(
        ("resource", "work", "CPU µs each", "seconds of one core", "cores at the site", "floor, seconds"),
        [_floor_cells(floor) for floor in floors(scenario, costs)],
    )
    yield ""
    site = scenario.site
    yield f"**In simulation**, {site.cores} cores: broker 1, publisher 1, consumers {site.consumers}, database 2."
    heads = (
        "outage",
        "trying again",
        "drained 50 / 95 / 100 %, seconds",
        "tries while it was away",
        "tries since",
        "of these failed",
    )
    rates = tuple(f"{name.removeprefix('tablets: ')} a second, peak / mean" for name in _RATES)
    yield from _table(
        (*heads, *rates),
        [
            (outage.kind.value, name, *_cells(result), *_rates(result))
            for (outage, name), result in played.policies.items()
        ],
    )
    yield ""
    yield "Queues at their longest, and what was refused, lost and wasted:"
    queues = (
        "SYN found no room", "packets at the broker", "MB for consumers", "receipts to sign", "bundles refused",
        "dropped", "sent again", "broker busy, s", "of that wasted, s",
    )  # fmt: skip
    yield from _table(
        ("outage", "trying again", *queues),
        [(outage.kind.value, name, *_queues(result)) for (outage, name), result in played.policies.items()],
    )
    yield ""
    yield "**The limits of full jitter**: the first tells after a restart, the longest after a long outage."
    yield from _table(
        (*heads, rates[0], *queues),
        [
            (outage.kind.value, name, *_cells(result), _rates(result)[0], *_queues(result))
            for (outage, name), result in played.limits.items()
        ],
    )
    yield ""
    yield "**The site**, full jitter as built:"
    yield from _table(
        ("outage", "site", *heads[2:], *queues),
        [
            (outage.kind.value, name, *_cells(result), *_queues(result))
            for (outage, name), result in played.sites.items()
        ],
    )
    yield ""
    yield f"**A broker {SLOWER} times slower**, its first {COLLAPSE_SECONDS} s: how a herd collapses, or not"
    yield from _table(
        (*heads, *queues),
        [
            (outage.kind.value, name, *_cells(result), *_queues(result))
            for (outage, name), result in played.collapse.items()
        ],
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield ""
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * 2 + "--:|" * (len(heads) - 2)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _floor_cells(floor: Floor) -> tuple[str, ...]:
    each = f"{floor.microseconds_each:,.0f}"
    return floor.resource, floor.work, each, f"{floor.seconds:.1f}", f"{floor.cores}", f"{floor.floor_seconds:.1f}"


def _cells(result: PeakResult) -> tuple[str, ...]:
    shares = [result.drained_seconds(share) for share in (0.5, 0.95, 1.0)]
    drained = " / ".join("–" if seconds is None else f"{seconds:,.0f}" for seconds in shares)
    figures = result.figures
    tries = (result.tries_while_away, figures.total("tablets: attempts"), figures.total("tablets: failed"))
    return drained, *(f"{count:,}" for count in tries)


def _rates(result: PeakResult) -> tuple[str, ...]:
    seconds = max(1.0, result.ended_at / SECOND)
    return tuple(f"{result.figures.peak(name):,} / {result.figures.total(name) / seconds:,.0f}" for name in _RATES)


def _queues(result: PeakResult) -> tuple[str, ...]:
    figures = result.figures
    return (
        f"{figures.total('tablets: SYN without room'):,}",
        f"{result.broker_line_max:,}",
        f"{figures.longest['bytes waiting for consumers'] / 1e6:,.0f}",
        f"{figures.longest['receipts waiting to be signed']:,}",
        f"{figures.total('bundles refused'):,}",
        f"{figures.total('bundles dropped'):,}",
        f"{figures.total('bundles sent again'):,}",
        f"{result.broker_busy / SECOND:.1f}",
        f"{result.broker_wasted / SECOND:.1f}",
    )


def document(costs: ServiceCosts, *, tablets: int, seed: int) -> dict[str, Any]:
    """The same for programs."""
    options: dict[str, Any] = {"tablets": tablets, "seed": seed}
    parts = {
        "policies": play_policies(costs, **options),
        "limits": play_limits(costs, **options),
        "sites": play_sites(costs, **options),
        "collapse": play_collapse(costs, **options),
    }
    return {
        "costs": costs.source,
        **options,
        **{
            part: [
                {"outage": outage.kind.value, "name": name, **_record(one)} for (outage, name), one in played.items()
            ]
            for part, played in parts.items()
        },
    }


def _record(result: PeakResult) -> dict[str, Any]:
    figures = result.figures
    return {
        "drained_seconds": {str(share): result.drained_seconds(share) for share in (0.5, 0.95, 1.0)},
        "tries_while_away": result.tries_while_away,
        "totals": {name: figures.total(name) for name in sorted(figures.by_second)},
        "peaks_a_second": {name: figures.peak(name) for name in sorted(figures.by_second)},
        "longest": dict(sorted(figures.longest.items())),
        "broker_busy_seconds": result.broker_busy / SECOND,
        "broker_wasted_seconds": result.broker_wasted / SECOND,
        "broker_line_max": result.broker_line_max,
        "consumers_busy_seconds": result.consumers_busy / SECOND,
        "publisher_busy_seconds": result.publisher_busy / SECOND,
        "database_busy_seconds": result.database_busy / SECOND,
    }


@click.command()
@click.option("--costs", "costs_file", default="defaults", help="What `python -m bench --only broker --json` wrote.")
@click.option("--tablets", type=click.IntRange(min=1), default=TABLETS, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
def main(costs_file: str, tablets: int, seed: int, as_json: bool) -> None:
    """Play the evening peak and print its tables: some minutes with 21,000 tablets."""
    try:
        costs = ServiceCosts() if costs_file == "defaults" else read_costs(Path(costs_file))
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        sys.stdout.write(json.dumps(document(costs, tablets=tablets, seed=seed)) + "\n")
        return
    text = evening_peak_report(costs, tablets=tablets, seed=seed)
    if sys.stdout.isatty():
        Console().print(Markdown(text))
    else:
        sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
