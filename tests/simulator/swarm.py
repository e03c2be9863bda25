"""Lives many seeds on all cores, and makes the shortest story of one that breaks the promise.

python -m tests.simulator swarm --seeds 10000
python -m tests.simulator seed 4711 --story
python -m tests.simulator shrink 4711
"""

from __future__ import annotations

import multiprocessing
import resource
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from tests.simulator.faults import Fault
from tests.simulator.run import Outcome, live

REAL_KEYS_EVERY: Final = 25
"""One seed in so many is lived with real HPKE and signatures."""
_SEEDS_AT_ONCE: Final = 4
_SUPPRESSED_TRIES_MAX: Final = 400


@dataclass(frozen=True)
class Failure:
    """A seed that broke the promise (`violation`) or the simulator itself."""

    seed: int
    real_keys: bool
    violation: str


@dataclass
class Tally:
    """What many seeds came to."""

    seeds: int = 0
    real_seeds: int = 0
    events: int = 0
    device_days: float = 0
    cpu_seconds: float = 0
    stub_device_days: float = 0
    stub_cpu_seconds: float = 0
    heal_days: Counter[int] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    """By fault."""
    states: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By fault and state."""
    counts: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    resident_bytes_max: int = 0
    wall_seconds: float = 0

    def add(self, outcome: Outcome, *, real_keys: bool) -> None:
        self.seeds += 1
        self.events += outcome.events
        self.device_days += outcome.device_days
        self.cpu_seconds += outcome.cpu_seconds
        if real_keys:
            self.real_seeds += 1
        else:
            self.stub_device_days += outcome.device_days
            self.stub_cpu_seconds += outcome.cpu_seconds
        self.heal_days[outcome.heal_days] += 1
        self.groups.update(group.value for group in outcome.mix.groups)
        for (fault, state), times in outcome.states.items():
            if state == "at all":
                self.faults[fault.value] += times
            else:
                self.states[fault.value, state] += times
        self.counts.update(outcome.counts)
        self.notices.update(outcome.notices)
        if outcome.violation is not None:
            self.failures.append(Failure(outcome.seed, real_keys, outcome.violation))

    def as_json(self) -> dict[str, Any]:
        """Return everything in a form that JSON can hold; `read_tally` reads it."""
        return {
            **{name: getattr(self, name) for name in _NUMBERS},
            **{name: dict(getattr(self, name)) for name in _COUNTERS},
            "states": [[fault, state, times] for (fault, state), times in sorted(self.states.items())],
            "failures": [[one.seed, one.real_keys, one.violation] for one in self.failures],
        }


_NUMBERS: Final = (
    "seeds",
    "real_seeds",
    "events",
    "device_days",
    "cpu_seconds",
    "stub_device_days",
    "stub_cpu_seconds",
    "resident_bytes_max",
    "wall_seconds",
)
_COUNTERS: Final = ("heal_days", "groups", "faults", "counts", "notices")


def read_tally(data: dict[str, Any]) -> Tally:
    """Read what `Tally.as_json` wrote."""
    tally = Tally()
    for name in _NUMBERS:
        setattr(tally, name, data[name])
    for name in _COUNTERS:
        setattr(tally, name, Counter(data[name]))
    # JSON has no other names than text.
    tally.heal_days = Counter({int(days): times for days, times in data["heal_days"].items()})
    tally.states = Counter({(fault, state): times for fault, state, times in data["states"]})
    tally.failures = [Failure(*one) for one in data["failures"]]
    return tally


def merged(tallies: Iterable[Tally]) -> Tally:
    """Return what several swarms came to together."""
    whole = Tally()
    for tally in tallies:
        for name in _NUMBERS:
            joined = max if name == "resident_bytes_max" else sum
            setattr(whole, name, joined((getattr(whole, name), getattr(tally, name))))
        for name in (*_COUNTERS, "states"):
            getattr(whole, name).update(getattr(tally, name))
        whole.failures.extend(tally.failures)
    return whole


def uses_real_keys(seed: int) -> bool:
    """Say whether a swarm lives this seed with real cryptography."""
    return seed % REAL_KEYS_EVERY == REAL_KEYS_EVERY - 1


def swarm(seeds: range, *, jobs: int, done: Callable[[Tally], None] = lambda _tally: None) -> Tally:
    """Live these seeds in so many processes; `done` is called after each."""
    tally = Tally()
    began = time.monotonic()
    for outcome in _lives(seeds, jobs):
        if isinstance(outcome, Failure):
            tally.seeds += 1
            tally.failures.append(outcome)
        else:
            tally.add(outcome, real_keys=uses_real_keys(outcome.seed))
        done(tally)
    tally.wall_seconds = time.monotonic() - began
    # The greatest of the processes that have ended; each lives its seeds one after the other.
    tally.resident_bytes_max = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return tally


def _lives(seeds: range, jobs: int) -> Iterator[Outcome | Failure]:
    if jobs == 1:
        yield from map(_live_safely, seeds)
        return
    # Each process begins clean: nothing of one seed may depend on what another process inherited.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_live_safely, seeds, chunksize=_SEEDS_AT_ONCE)
        pool.close()
        pool.join()


def _live_safely(seed: int) -> Outcome | Failure:
    real_keys = uses_real_keys(seed)
    try:
        return live(seed, real_keys=real_keys)
    except Exception:
        return Failure(seed, real_keys, "the life broke off: " + traceback.format_exc(limit=-3))


def shrink(seed: int, *, tried: Callable[[int], None] = lambda _struck: None) -> Outcome | None:
    """Live a failing seed again with fewer and fewer faults; return the life with the fewest that still fails.

    Delta debugging (Zeller) over the faults that struck, then the same life with its story. None when the seed keeps
    the promise. Each try is a whole life, so there is a limit to them.
    """
    attempt = partial(live, seed, real_keys=uses_real_keys(seed))
    first = attempt()
    if first.violation is None:
        return None
    invariant = first.violation.split(":")[0]
    kept, suppressed = list(first.struck), set[str]()
    parts, tries = 2, 0
    while len(kept) >= 1 and parts <= len(kept) * 2 and tries < _SUPPRESSED_TRIES_MAX:
        size = max(1, len(kept) // parts)
        for start in range(0, len(kept), size):
            without = suppressed | set(kept[start : start + size])
            tries += 1
            outcome = attempt(suppressed=without)
            if outcome.violation is not None and outcome.violation.startswith(invariant):
                kept, suppressed = list(outcome.struck), without
                tried(len(kept))
                parts = max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts *= 2
    return attempt(suppressed=suppressed, storied=True)


def faults_never_reached(tally: Tally) -> list[Fault]:
    """Return the kinds of fault that no seed has met."""
    return [fault for fault in Fault if not tally.faults[fault.value]]
