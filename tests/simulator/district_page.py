"""docs/mesh-delivery.md, made of what `district_study` has played."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import mean, stdev
from typing import Final

from tests.simulator.district import NORMAL, District, Plan, plan_district
from tests.simulator.district_study import (
    BUILT,
    COPIES,
    DENSE_RULES,
    DISTRICTS,
    LARGE,
    LARGE_VARIANTS,
    LEAVING,
    LEAVING_VARIANTS,
    POLICIES,
    RULES,
    SHARES,
    SPARSE_RULES,
    WAITS,
    Delay,
    Figures,
)
from tests.simulator.district_words import CHOICE, HEAD, LARGE_WORDS, LEAVING_WORDS, MEANING, MODEL, RULES_MEAN

_PERCENT: Final = " / ".join(f"{share:.0%}".replace("%", "") for share in SHARES) + " %"
_DELAYS: Final = ("accepted to committed, days: " + _PERCENT, "to the sync mark on its tablet, days: " + _PERCENT)
_SHARES: Final = ("delivered at day 14, %", "older than 3 days, %")
_COSTS: Final = (
    "copies sent a questionnaire",
    "hops",
    "most that a tablet held for others, MB",
    "over the air a questionnaire, KB",
)


class Played:
    """All figures, by district and variant."""

    def __init__(self, figures: Sequence[Figures]) -> None:
        self._by_name: dict[tuple[str, str], list[Figures]] = {}
        for one in sorted(figures, key=lambda one: one.seed):
            self._by_name.setdefault((one.district, one.variant), []).append(one)
        self.seeds = sorted({one.seed for one in figures})
        self.events = sum(one.events for one in figures)
        self.runs = len(figures)
        self.questionnaires = sum(one.questionnaires for one in figures)
        self.heal_days_max = max(one.heal_days for one in figures)
        self.cpu_seconds = sum(one.cpu_seconds for one in figures)

    def of(self, district: str, variant: str) -> list[Figures]:
        """Return the seeds' figures, in order."""
        return self._by_name[district, variant]


def page(figures: Sequence[Figures], commit: str) -> str:
    """Return the page as Markdown."""
    return "\n".join(_page(Played(figures), commit)) + "\n"


def _page(played: Played, commit: str) -> Iterator[str]:
    words = _words(played)
    yield HEAD.format(commit=commit, **words)
    yield MEANING.format(**words)
    yield "## The districts"
    yield from _districts(played)
    yield MODEL
    yield "## Three policies on the same meetings"
    rows = [(one.name, variant.name) for one in DISTRICTS for variant in POLICIES]
    yield from _table(
        ("district", "policy", *_SHARES, *_DELAYS),
        [(*row, *_share_cells(played.of(*row)), *_delay_cells(played.of(*row))) for row in rows],
    )
    yield "What it costs:"
    yield from _table(("district", "policy", *_COSTS), [(*row, *_cost_cells(played.of(*row))) for row in rows])
    yield "## Eight copies, and new ones after three days?"
    yield "The normal district, the same meetings:"
    names = [BUILT.name, *(one.name for one in (*COPIES, *WAITS))]
    yield from _variants(played, [(NORMAL, name) for name in names])
    yield LEAVING_WORDS
    yield from _variants(played, [(LEAVING, one.name) for one in LEAVING_VARIANTS])
    yield CHOICE.format(**words)
    yield "## Each rule by itself"
    yield "One rule of `edge_agent/engine/routing.py` changed at a time:"
    tried = zip(DISTRICTS, (SPARSE_RULES, RULES, DENSE_RULES), strict=True)
    pairs = [(one, variant.name) for one, rules in tried for variant in (BUILT, *rules, POLICIES[-1])]
    yield from _variants(played, pairs)
    yield LARGE_WORDS.format(**words)
    yield from _variants(played, [(LARGE, one.name) for one in LARGE_VARIANTS])
    yield RULES_MEAN.format(**words)


def _words(played: Played) -> dict[str, str]:
    """Return the figures that the sentences have, by the names that these have for them."""
    found = {
        "seeds": f"{len(played.seeds)}",
        "runs": f"{played.runs}",
        "questionnaires": f"{played.questionnaires:,}",
        "events": f"{played.events:,}",
        "days": "a day" if played.heal_days_max == 1 else f"{played.heal_days_max} days",
        "minutes": f"{played.cpu_seconds / 60:.0f}",
    }
    short = dict(zip((one.name for one in POLICIES), ("direct", "spray", "epidemic"), strict=True))
    for district in DISTRICTS:
        for policy in POLICIES:
            name, figures = f"{district.name}_{short[policy.name]}", played.of(district.name, policy.name)
            found[f"{name}_old"] = f"{100 * mean(one.old_delivered for one in figures):.0f}"
            found[f"{name}_copies"] = f"{mean(one.transfers_each for one in figures):.1f}"
            found[f"{name}_committed"] = _days([one.committed[0] for one in figures])
            found[f"{name}_marked"] = _days([one.marked[0] for one in figures])
    return found


def _days(delays: Sequence[Delay]) -> str:
    more = "more than " if any(one.more for one in delays) else ""
    return f"{more}{mean(one.days for one in delays):.1f} days"


def _districts(played: Played) -> Iterator[str]:
    plans = {one.name: [plan_district(one, seed) for seed in played.seeds] for one in DISTRICTS}

    def measured(name: str, of: Callable[[Plan], float], decimals: int = 1) -> str:
        return _spread([of(plan) for plan in plans[name]], decimals)

    rows: list[tuple[str, ...]] = [
        ("tablets", *(f"{one.tablets}" for one in DISTRICTS)),
        ("villages", *(f"{one.villages}" for one in DISTRICTS)),
        ("laptops: at akimats, in the district center", *(f"{one.akimats}, 1" for one in DISTRICTS)),
        ("at noon, and again at dusk: goes to the shared place of its village", *_rates("gathers")),
        ("a day: works in another village than its own", *_rates("elsewhere")),
        ("a day: stops at the akimat", *_rates("akimat")),
        ("tablets that go to the district center at all", *_rates("travellers")),
        ("of these, a day: goes there", *_rates("trips")),
        ("a laptop of an akimat, a day: has a VPN for three hours", *_rates("akimat_vpn")),
        ("the laptop in the center, a day: has a VPN all day", *_rates("office_vpn")),
        ("a tablet in the center: has a VPN of its own there", *_rates("coverage")),
        (
            "**so**: meetings a day a tablet",
            *(measured(one.name, lambda plan: plan.meetings_a_day) for one in DISTRICTS),
        ),
        (
            "days between visits to a gateway, mean of all tablets",
            *(measured(one.name, lambda plan: plan.days_between_gateways) for one in DISTRICTS),
        ),
        (
            "tablets that never meet a gateway in 14 days, %",
            *(measured(one.name, lambda plan: 100 * plan.without_gateway, 0) for one in DISTRICTS),
        ),
        (
            "questionnaires",
            *(f"{mean(len(plan.questionnaires) for plan in plans[one.name]):,.0f}" for one in DISTRICTS),
        ),
    ]
    yield from _table(("", *(one.name for one in DISTRICTS)), rows, words=1)


def _rates(name: str) -> tuple[str, ...]:
    return tuple(f"{100 * getattr(one, name):.0f} %" for one in DISTRICTS)


def _variants(played: Played, pairs: Sequence[tuple[District, str]]) -> Iterator[str]:
    rows = [
        (district.name, name, *_share_cells(found), *_delay_cells(found), *_cost_cells(found))
        for district, name in pairs
        for found in [played.of(district.name, name)]
    ]
    yield from _table(("district", "variant", *_SHARES, *_DELAYS, *_COSTS), rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 2) -> Iterator[str]:
    yield ""
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * words + "--:|" * (len(heads) - words)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _share_cells(found: Sequence[Figures]) -> tuple[str, ...]:
    return _spread([100 * one.delivered for one in found]), _spread([100 * one.old_delivered for one in found])


def _delay_cells(found: Sequence[Figures]) -> tuple[str, ...]:
    committed = zip(*(one.committed for one in found), strict=True)
    marked = zip(*(one.marked for one in found), strict=True)
    return tuple(" / ".join(_delay(one) for one in shares) for shares in (committed, marked))


def _delay(found: Sequence[Delay]) -> str:
    """More than so many days, where some seed did not get there in the time that it was watched."""
    days = [one.days for one in found]
    if all(one.more for one in found):
        return f"> {days[0]:.0f}"
    return (">\N{NO-BREAK SPACE}" if any(one.more for one in found) else "") + _spread(days)


def _cost_cells(found: Sequence[Figures]) -> tuple[str, ...]:
    return (
        _spread([one.transfers_each for one in found]),
        _spread([one.hops for one in found]),
        _spread([one.foreign_bytes_max / 1e6 for one in found]),
        _spread([one.bytes_each / 1e3 for one in found]),
    )


def _spread(values: Sequence[float], decimals: int = 1) -> str:
    """Return the mean, and the standard deviation between seeds."""
    deviation = stdev(values) if len(values) > 1 else 0.0
    return f"{mean(values):.{decimals}f}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{deviation:.{decimals}f}"
