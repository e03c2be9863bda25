"""The simulated evening: the same every time, nothing lost or counted twice, and back-off shows.

A few hundred tablets at a broker that is so much slower behave as 21,000 do at a real one.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.broker_costs import CONNECTION, FULL_BUNDLE, HELLO, MEMORY, RESUMED, SMALL_BUNDLE, TOUCH
from bench.consumer_costs import BUNDLE, ENVELOPE, RECEIPT
from edge_agent.backoff import Backoff
from tests.simulator.evening_peak import evening_peak_report, main, play_collapse
from tests.simulator.peak_costs import ServiceCosts, read_costs
from tests.simulator.peak_paper import floors
from tests.simulator.peak_scenario import (
    OUTAGES,
    FixedPause,
    Habits,
    Outage,
    OutageKind,
    Scenario,
    Site,
    WithoutJitter,
    default_backoff,
)
from tests.simulator.peak_world import PeakResult, play

TABLETS = 300
SLOWER = 70
COSTS = ServiceCosts(accept=37 * SLOWER, hello=310 * SLOWER, connection=1_717 * SLOWER, receipt_broker=44 * SLOWER)
BY_KIND = {outage.kind: outage for outage in OUTAGES}
JITTER, NO_JITTER, FIXED = default_backoff(), WithoutJitter(default_backoff()), FixedPause()


Retry = Backoff | WithoutJitter | FixedPause


@cache
def played(outage: Outage, retry: Retry, seed: int = 1, site: Site = Site(listen_backlog=4)) -> PeakResult:  # noqa: B008  # a constant
    return play(Scenario(outage, Habits(retry), site=site, tablets=TABLETS, seed=seed), COSTS)


def told(result: PeakResult) -> object:
    """Everything of a result that a difference could show in."""
    seconds = {name: sorted(counts.items()) for name, counts in result.figures.by_second.items()}
    return seconds, dict(result.figures.longest), result.drained_at, result.broker_busy, result.broker_wasted


@pytest.mark.parametrize("kind", OutageKind)
def test_the_same_seed_has_the_same_evening_and_another_seed_another(kind: OutageKind) -> None:
    first = played(BY_KIND[kind], JITTER)
    again = play(first.scenario, COSTS)
    assert told(again) == told(first)
    assert told(played(BY_KIND[kind], JITTER, seed=2)) != told(first)


@pytest.mark.parametrize("retry", [JITTER, NO_JITTER, FIXED], ids=["jitter", "no jitter", "fixed"])
@pytest.mark.parametrize("kind", OutageKind)
def test_every_tablet_drains_and_every_envelope_is_counted_once(kind: OutageKind, retry: Retry) -> None:
    result = played(BY_KIND[kind], retry)
    assert len(result.drained_at) == TABLETS
    assert result.drained_at == sorted(result.drained_at)
    assert result.figures.total("envelopes") == TABLETS * result.scenario.envelopes_a_tablet
    assert result.figures.total("tablets: up") >= TABLETS
    # No faster than paper says.
    assert result.ended_at / 1e6 >= max(floor.floor_seconds for floor in floors(result.scenario, COSTS)[-4:]) * 0.5


def test_jitter_spreads_what_would_come_in_the_same_second() -> None:
    outage = BY_KIND[OutageKind.OUTAGE]
    spread, together = played(outage, JITTER), played(outage, NO_JITTER)
    assert spread.figures.peak("tablets: attempts") * 10 < together.figures.peak("tablets: attempts")
    assert spread.figures.total("tablets: failed") < together.figures.total("tablets: failed")
    assert spread.ended_at < together.ended_at


def test_what_a_full_queue_drops_is_sent_again_until_it_is_there() -> None:
    site = Site(consumers=1, queue_messages_max=5, listen_backlog=4)
    slow = replace(COSTS, consumer_envelope=40_000)
    scenario = Scenario(BY_KIND[OutageKind.MINUTE], Habits(JITTER), site=site, tablets=50)
    result = play(scenario, slow)
    assert result.figures.total("bundles dropped") > 0
    assert result.figures.total("bundles sent again") >= result.figures.total("bundles dropped")
    assert result.figures.total("envelopes") == 50 * scenario.envelopes_a_tablet
    assert len(result.drained_at) == 50


def test_a_long_line_at_the_listener_wastes_handshakes_that_a_short_one_turns_away() -> None:
    restart = BY_KIND[OutageKind.RESTART]
    short = played(restart, FIXED)
    long = played(restart, FIXED, site=Site(listen_backlog=65_535))
    assert short.figures.total("tablets: SYN without room") > 0
    assert long.figures.total("tablets: SYN without room") == 0
    assert long.broker_wasted > short.broker_wasted


def test_a_slow_broker_with_a_long_line_and_no_back_off_does_nothing_but_waste() -> None:
    collapse = {name: result for (_, name), result in play_collapse(COSTS, tablets=TABLETS).items()}
    worst, best = collapse["always 1 s; 65,535 may wait"], collapse["full jitter, as built; 100 may wait"]
    assert len(worst.drained_at) < TABLETS / 10 < len(best.drained_at)
    assert worst.broker_wasted > worst.broker_busy * 0.9


def test_a_tablet_alone_pauses_as_the_daemon_does() -> None:
    """The first try after a loss is at the broker that is back: nobody is in its way."""
    result = play(Scenario(BY_KIND[OutageKind.RESTART], Habits(Backoff(2, 300)), tablets=1), ServiceCosts())
    assert result.figures.total("tablets: failed") == 0
    assert result.figures.total("tablets: attempts") == 1


def test_the_report_shows_every_outage_with_every_policy() -> None:
    report = evening_peak_report(COSTS, tablets=40)
    for outage in OUTAGES:
        assert report.count(f"| {outage.kind.value} | full jitter, as built |") == 2  # rates, and queues
    assert "**broker**" in report and "**consumers**" in report


def test_the_command_prints_a_document_for_programs() -> None:
    ended = CliRunner().invoke(main, ["--tablets", "20", "--json"])
    assert ended.exit_code == 0, ended.output
    document = json.loads(ended.output)
    assert len(document["policies"]) == 12
    parts = ("policies", "limits", "sites", "collapse")
    assert all(one["totals"]["envelopes"] == 20 * 26 for part in parts for one in document[part])


def test_costs_come_from_what_the_benchmark_wrote(tmp_path: Path) -> None:
    everything = (TOUCH, HELLO, CONNECTION, RESUMED, SMALL_BUNDLE, FULL_BUNDLE, MEMORY, ENVELOPE, BUNDLE, RECEIPT)
    spenders = ("broker", "consumer", "publisher", "database")
    rows = [
        {"what": what, "figure": number, "cpu_microseconds": {who: number * 10 + n for n, who in enumerate(spenders)}}
        for number, what in enumerate(everything)
    ]
    machine = {"date": "2021-10-01", "processor": "4 × some", "mosquitto": "2.0.11"}
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({"machine": machine, "rows": {"broker": rows}}))
    costs = read_costs(path)
    assert (costs.accept, costs.hello, costs.connection, costs.connection_kilobytes) == (0, 10, 20, 6)
    assert (costs.receipt_broker, costs.receipt_publisher, costs.receipt_database) == (90, 92, 93)
    path.write_text(json.dumps({"machine": machine, "rows": {"broker": rows[1:]}}))
    with pytest.raises(ValueError, match="no document of"):
        read_costs(path)
