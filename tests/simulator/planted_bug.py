"""A planted bug: what it breaks, what is to catch it, and in what kind of life.

A bug is planted into the real code by replacing one function or one text of it. The lives that look for it have only
the troubles that the bug needs, so that a few seeds are enough: `CALM` with a focus on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Final
from unittest.mock import patch

from tests.simulator.broker import BrokerTroubles
from tests.simulator.center import CenterTroubles
from tests.simulator.clockwork import HOUR
from tests.simulator.device import STEP_FAULTS
from tests.simulator.faults import Fault
from tests.simulator.mixes import Mix
from tests.simulator.run import live
from tests.simulator.sticks import MediumTroubles

CALM: Final = Mix(
    groups=frozenset(),
    tablets=2,
    laptops=0,
    sticks=0,
    days=5,
    questionnaires=3,
    linked=1.0,
    parts=0,
    step_faults=0,
    kills=0,
    power_cuts=0,
    disk_full=0,
    clock_jumps=0,
    broker=BrokerTroubles(),
    broker_crashes=0,
    center=CenterTroubles(),
    database_down=0,
    center_clock_back=0,
    backups=0.5,
    backups_unrecorded=0,
    restores=0,
    images=0,
    queue_rollbacks=0,
    tablet_rollbacks=0,
    clones=0,
    destroyed=0,
    stolen=0,
    revoked=0,
    replaced=0,
    unknown_forms=0,
    key_rotations=0,
    hostile=0,
    trips=0,
    medium=MediumTroubles(),
    pulled=0,
    twins=0,
    sticks_lost=0,
    meetings=0,
    head_interval=HOUR,
    lossy_disks=False,
    sticks_called_in=0,
)
"""Two tablets for five days, and nothing ever fails."""

Plant = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Bug:
    """One bug. `invariants` are those of `oracle` that may catch it, within `seeds_max` lives by `focus`."""

    name: str
    breaks: str
    invariants: Sequence[str]
    plant: Plant
    seeds_max: int
    focus: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Mix` that are not as in CALM."""
    step_faults: Sequence[Fault] = STEP_FAULTS
    """What may strike a step, if the focus lets anything strike it."""

    def live(self, seed: int, *, planted: bool) -> str | None:
        """Live a seed by the focus, with the bug or without it; return the violation, None when the promise is kept."""
        with patch("tests.simulator.world.STEP_FAULTS", self.step_faults), self.plant() if planted else nullcontext():
            return live(seed, mix=replace(CALM, **self.focus)).violation


def in_place_of(owner: object, name: str, make: Callable[[Any], object]) -> Plant:
    """Replace one attribute by what `make` makes of it, for as long as the bug is planted."""

    @contextmanager
    def planted() -> Iterator[None]:
        with patch.object(owner, name, make(getattr(owner, name))):
            yield

    return planted
