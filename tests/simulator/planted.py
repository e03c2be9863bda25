"""The mutation gate: bugs that break the promise are planted one at a time, and the oracle must catch each of them
within a stated number of seeds.

A seed counts only if the very same life keeps the promise without the bug. Faults that are planted under SQLite, on
the lossy disk, are of the gate, too; they live and die in `lossy_life`.

python -m tests.simulator planted
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.simulator.planted_at_center import CENTER_BUGS
from tests.simulator.planted_bug import Bug
from tests.simulator.planted_in_engine import ENGINE_BUGS
from tests.simulator.planted_in_receipts import RECEIPT_BUGS
from tests.simulator.planted_in_steps import STEP_BUGS

BUGS: Final[tuple[Bug, ...]] = (*STEP_BUGS, *ENGINE_BUGS, *CENTER_BUGS, *RECEIPT_BUGS)
LOSSY_DISK: Final = "lossy disk: "


@dataclass(frozen=True)
class Caught:
    """How a planted bug was caught, or that it was not: then there is no seed and no violation.

    `invariant` is one of `oracle`, or "ledger" on the lossy disk (`lossy_ledger`).
    """

    name: str
    breaks: str
    invariant: str
    seed: int | None
    seeds_tried: int
    seeds_max: int
    violation: str

    @property
    def in_time(self) -> bool:
        return self.seed is not None and self.seeds_tried <= self.seeds_max

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class NotTheBug(Exception):
    """A life in which a bug was planted breaks the promise without it, too."""


def catch(bug: Bug, seeds: Iterable[int] | None = None) -> Caught:
    """Live seeds with a bug until the oracle catches it; raises NotTheBug when the life fails without it."""
    tried = 0
    for seed in range(bug.seeds_max) if seeds is None else seeds:
        tried += 1
        violation = bug.live(seed, planted=True)
        if violation is not None:
            without = bug.live(seed, planted=False)
            if without is not None:
                raise NotTheBug(f"seed {seed} of {bug.name!r} fails without it: {without}")
            invariant = violation.split(":")[0]
            return Caught(bug.name, bug.breaks, invariant, seed, tried, bug.seeds_max, violation)
    return Caught(bug.name, bug.breaks, "", None, tried, bug.seeds_max, "")


def catch_on_lossy_disk(fault: str) -> Caught:
    """Let devices live on a lossy disk with a planted fault until one of them notices; a seed is a life."""
    # Here, because the table stands in the tests of the lossy disk, which need pytest.
    from tests.simulator.lossy_ledger import Violation
    from tests.simulator.test_lossy_disk import CUTS_A_LIFE, CUTS_TO_CATCH_MAX, PLANTED, live

    breaks = f"a power cut takes what was promised; at most {CUTS_TO_CATCH_MAX} cuts, {CUTS_A_LIFE} a seed"
    seeds_max = CUTS_TO_CATCH_MAX // CUTS_A_LIFE
    for seed in range(seeds_max):
        try:
            live(seed, CUTS_A_LIFE, PLANTED[fault])
        except Violation as violation:
            return Caught(LOSSY_DISK + fault, breaks, "ledger", seed, seed + 1, seeds_max, str(violation))
    return Caught(LOSSY_DISK + fault, breaks, "", None, seeds_max, seeds_max, "")


def names() -> list[str]:
    """Return the names of all bugs of the gate."""
    from tests.simulator.test_lossy_disk import PLANTED

    return [*(bug.name for bug in BUGS), *(LOSSY_DISK + fault for fault in PLANTED)]


def catch_by_name(name: str) -> Caught:
    """Catch one bug of `names()`."""
    if name.startswith(LOSSY_DISK):
        return catch_on_lossy_disk(name.removeprefix(LOSSY_DISK))
    return catch(next(bug for bug in BUGS if bug.name == name))


def catch_all(chosen: Iterable[str], *, jobs: int) -> Iterator[Caught]:
    """Catch bugs in so many processes; yields in the order given."""
    if jobs == 1:
        yield from map(catch_by_name, chosen)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(catch_by_name, chosen)
        pool.close()
        pool.join()
