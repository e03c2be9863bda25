"""One row of the table: a figure, its limit or peer of the same run, and whether the aim is met."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from statistics import median
from typing import Any


class Judged(Enum):
    """What an aim is about."""

    RATIO_AT_LEAST = "ratio ≥"
    FIGURE_AT_LEAST = "≥"
    FIGURE_AT_MOST = "≤"
    FIGURE_BELOW = "<"


@dataclass(frozen=True)
class Aim:
    """What the figure or its ratio should reach."""

    judged: Judged
    value: float

    def text(self) -> str:
        """As the table shows it."""
        return f"{self.judged.value} {self.value:g}"


@dataclass(frozen=True)
class Row:
    """`ratio` is figure / peer, the median over rounds that measured both in turn; CPU in µs an item, by spender."""

    what: str
    figure: float
    unit: str
    peer: str = ""
    peer_figure: float | None = None
    ratio: float | None = None
    aim: Aim | None = None
    cpu_microseconds: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None when there is none."""
        if self.aim is None:
            return None
        match self.aim.judged:
            case Judged.RATIO_AT_LEAST:
                return self.ratio is not None and self.ratio >= self.aim.value
            case Judged.FIGURE_AT_LEAST:
                return self.figure >= self.aim.value
            case Judged.FIGURE_AT_MOST:
                return self.figure <= self.aim.value
            case Judged.FIGURE_BELOW:
                return self.figure < self.aim.value

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "aim": None if self.aim is None else self.aim.text(), "met": self.met}


@dataclass(frozen=True)
class Sample:
    """One measurement: items a second, and CPU µs an item by who spent it."""

    rate: float
    cpu_microseconds: Mapping[str, float] = field(default_factory=dict)


Measure = Callable[[], Sample]


def take_turns(measures: Mapping[str, Measure], rounds: int) -> dict[str, list[Sample]]:
    """Measure each in turn, so many rounds: what disturbs the machine for a while disturbs all of them."""
    taken: dict[str, list[Sample]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            taken[name].append(measure())
    return taken


def middle_rate(samples: Sequence[Sample]) -> float:
    """The median rate."""
    return median(sample.rate for sample in samples)


def middle_ratio(samples: Sequence[Sample], peers: Sequence[Sample]) -> float:
    """The median of the rounds' own ratios."""
    return median(sample.rate / peer.rate for sample, peer in zip(samples, peers, strict=True))


def middle_cpu(samples: Sequence[Sample]) -> dict[str, float]:
    """The median CPU µs an item of each who spent any."""
    return {name: median(sample.cpu_microseconds[name] for sample in samples) for name in samples[0].cpu_microseconds}
