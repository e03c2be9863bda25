"""docs/mesh-delivery.md, made of what `district_study` has played."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from re import sub
from statistics import mean, stdev
from textwrap import fill
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
    NEARER,
    POLICIES,
    RULES,
    SHARES,
    SPARSE_RULES,
    UPHILL,
    UPHILL_WAITING,
    WAITS,
    WITHOUT_GRADIENT,
    Delay,
    Figures,
)
from tests.simulator.district_words import CHOICE, HEAD, LARGE_WORDS, LEAVING_WORDS, MEANING, MODEL, RULES_MEAN

_PERCENT: Final = " / ".join(f"{share:.0%}".replace("%", "") for share in SHARES) + " %"
_DELAYS: Final = ("accepted to committed, days: " + _PERCENT, "to the sync mark on its tablet, days: " + _PERCENT)
_SHARES: Final = ("delivered at day 14, %", "older than 3 days, %")
_GAIN: Final = "points more than as built on the same meetings: mean (least to most)"
_COSTS: Final = (
    "copies sent a questionnaire",
    "hops",
    "most that a tablet held for others, MB",
    "over the air a questionnaire, KB",
)
_TOLD_COSTS: Final = (0, 2, 3)
"""Of a variant; how often its envelopes are handed on tells little."""


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

    def gains(self, district: str, variant: str) -> list[float]:
        """Return by how many points more of the older questionnaires are delivered than as built, seed by seed."""
        return [
            100 * (one.old_delivered - built.old_delivered)
            for one, built in zip(self.of(district, variant), self.of(district, BUILT.name), strict=True)
        ]

    def copies_more(self, district: str, variant: str) -> float:
        """Return how many per cent more copies are sent than as built."""
        sent, built = (mean(one.transfers_each for one in self.of(district, name)) for name in (variant, BUILT.name))
        return 100 * (sent / built - 1)


def page(figures: Sequence[Figures], commit: str) -> str:
    """Return the page as Markdown."""
    text = "\n".join(_page(Played(figures), commit))
    return sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _page(played: Played, commit: str) -> Iterator[str]:
    words = _words(played)
    yield _wrapped(HEAD.format(commit=commit, **words))
    yield _wrapped(MEANING.format(**words))
    yield "## The districts"
    yield from _districts(played)
    yield _wrapped(MODEL)
    yield "## Three policies on the same meetings"
    rows = [(one.name, variant.name) for one in DISTRICTS for variant in POLICIES]
    yield from _table(
        ("district", "policy", *_SHARES, *_DELAYS),
        [(*row, *_share_cells(played.of(*row)), *_delay_cells(played.of(*row))) for row in rows],
    )
    yield "What it costs:"
    yield from _table(("district", "policy", *_COSTS), [(*row, *_cost_cells(played.of(*row))) for row in rows])
    yield "## Eight copies, and new ones after three days?\n"
    yield "The normal district, the same meetings:"
    names = [BUILT.name, *(one.name for one in (*COPIES, *WAITS))]
    yield from _variants(played, [(NORMAL, name) for name in names])
    yield _wrapped(LEAVING_WORDS)
    yield from _variants(played, [(LEAVING, one.name) for one in LEAVING_VARIANTS])
    yield _wrapped(CHOICE.format(**words))
    yield "## Each rule by itself\n"
    yield "One rule of `edge_agent/engine/routing.py` changed at a time, on the same meetings:"
    tried = zip(DISTRICTS, (SPARSE_RULES, RULES, DENSE_RULES), strict=True)
    pairs = [(one, variant.name) for one, rules in tried for variant in (BUILT, *rules, POLICIES[-1])]
    yield from _variants(played, pairs)
    yield _wrapped(RULES_MEAN.format(**words))
    yield _wrapped(LARGE_WORDS.format(**words))
    yield from _variants(played, [(LARGE, one.name) for one in LARGE_VARIANTS])


def _wrapped(text: str) -> str:
    """Fill the lines of every paragraph anew, once figures are in it."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))
    filled = [
        fill(one, 120, subsequent_indent="  " if one.startswith("- ") else "", break_on_hyphens=False)
        for one in paragraphs
    ]
    return "\n\n".join(filled) + "\n"


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
    return found | _comparison(played)


def _comparison(played: Played) -> dict[str, str]:
    """Return what other rules gain and cost, by the names that the sentences have for them."""
    two, _, sixteen = COPIES
    sooner, _, never = WAITS
    rules = {"nearer": NEARER, "uphill": UPHILL, "both": UPHILL_WAITING}
    flat = {"flat": WITHOUT_GRADIENT, "flood": POLICIES[-1]}
    keeps, gives = RULES[-2:]
    of_normal = {"two": two, "sixteen": sixteen, "sooner": sooner, "never": never, "keeps": keeps, "gives": gives}
    tried = {"sparse": rules, "normal": rules | flat | of_normal, "dense": rules | flat}
    found = {}
    for district, variants in tried.items():
        for name, variant in variants.items():
            gain = mean(played.gains(district, variant.name))
            copies = played.copies_more(district, variant.name)
            found[f"{district}_{name}"] = f"{_signed(gain, 1)} points for {_signed(copies, 0)} % copies"
    return found


def _signed(value: float, decimals: int) -> str:
    text = f"{value:+.{decimals}f}"
    # Nothing has no sign, however it was rounded to it.
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else text[1:]


def _gain_cell(gains: Sequence[float]) -> str:
    return f"{_signed(mean(gains), 1)} ({_signed(min(gains), 1)} to {_signed(max(gains), 1)})"


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
        (
            district.name,
            name,
            _share_cells(found)[1],
            _gain_cell(played.gains(district.name, name)),
            _delay_cells(found)[0],
            *(_cost_cells(found)[column] for column in _TOLD_COSTS),
        )
        for district, name in pairs
        for found in [played.of(district.name, name)]
    ]
    costs = (_COSTS[column] for column in _TOLD_COSTS)
    yield from _table(("district", "variant", _SHARES[1], _GAIN, _DELAYS[0], *costs), rows)


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
