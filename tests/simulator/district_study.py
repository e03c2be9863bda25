"""`python -m tests.simulator districts`: what the mesh delivers in a sparse, a normal and a dense district, policy by
policy on the same meetings; what the number of copies and the wait before new ones change; and each rule by itself.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Final
from unittest.mock import patch

from edge_agent.engine.routing import DIRECT_ONLY, EPIDEMIC, SPRAY_AND_FOCUS, Share, Shares, Standing, Station, share_of
from edge_agent.engine.settings import EngineSettings
from edge_agent.engine.store import OfferableEnvelope
from edge_agent.queue.transaction import QueueTransaction
from tests.simulator.clockwork import DAY, HOUR
from tests.simulator.district import DENSE, NORMAL, SPARSE, District, plan_district
from tests.simulator.district_life import Fate, Lived, live_district

SEEDS: Final = 5
SHARES: Final = (0.5, 0.9, 0.99)
NEVER: Final = 1000 * DAY
_ALL: Final = 1 << 20
DISTRICTS: Final = (SPARSE, NORMAL, DENSE)
LARGE: Final = replace(DENSE, name="large", tablets=40, villages=8, akimats=4, questionnaires=1)
"""Twice as dense a district, to see what grows with it; one questionnaire a day, for copies do not depend on that."""
LEAVING: Final = replace(NORMAL, name="normal, a third leaves", leaves=1 / 3)


class LastCopy(Enum):
    """To which tablet without a way the last copy that is to be made of an envelope is given."""

    TO_ANYBODY = "to anybody who has not been without the center for clearly longer"
    """As built."""
    TO_THE_NEARER = "to who has heard the center since, and clearly later"
    """As Spyropoulos, Psounis and Raghavendra have it."""
    WAITS = "to nobody"
    """Spray and wait."""


@dataclass(frozen=True)
class Variant:
    """One way to decide who is given what.

    Without the `gradient` a spray goes to anybody. With `uphill` who has heard the center since, and clearly later,
    is given everything, whatever copies are left.
    """

    name: str
    shares: Shares = field(default_factory=lambda: SPRAY_AND_FOCUS)
    settings: EngineSettings = field(default_factory=EngineSettings)
    gradient: bool = True
    last_copy: LastCopy = LastCopy.TO_ANYBODY
    uphill: bool = False


BUILT: Final = Variant("spray, as built")
POLICIES: Final = (
    Variant("direct only", DIRECT_ONLY),
    BUILT,
    Variant("epidemic", EPIDEMIC),
)


def _to_tablets(share: Share) -> Shares:
    return {**SPRAY_AND_FOCUS, (Station.COLLECTION_POINT, Station.TABLET): share}


COPIES: Final = tuple(
    Variant(f"{copies} copies, anew after 3 days", settings=EngineSettings(copies=copies)) for copies in (2, 4, 16)
)
WAITS: Final = (
    Variant("8 copies, anew after 1 day", settings=EngineSettings(respray_wait=DAY)),
    Variant("8 copies, anew after 7 days", settings=EngineSettings(respray_wait=7 * DAY)),
    Variant("8 copies, never anew", settings=EngineSettings(respray_wait=NEVER)),
)
NEARER: Final = Variant("the last copy only to who is clearly nearer", last_copy=LastCopy.TO_THE_NEARER)
WAITING: Final = Variant("the last copy waits", last_copy=LastCopy.WAITS)
WITHOUT_GRADIENT: Final = Variant("without the gradient", gradient=False)
UPHILL: Final = Variant("everything to who is clearly nearer", uphill=True)
UPHILL_WAITING: Final = Variant(
    "everything to who is clearly nearer; else the last copy waits", last_copy=LastCopy.WAITS, uphill=True
)
RULES: Final = (
    NEARER,
    UPHILL,
    UPHILL_WAITING,
    WAITING,
    WITHOUT_GRADIENT,
    Variant("collection point gives tablets nothing", _to_tablets(Share.NOTHING)),
    Variant("collection point gives tablets everything", _to_tablets(Share.EVERYTHING)),
)
DENSE_RULES: Final = (NEARER, UPHILL, UPHILL_WAITING, WAITING, WITHOUT_GRADIENT)
SPARSE_RULES: Final = (NEARER, UPHILL, UPHILL_WAITING, WAITING)
LEAVING_VARIANTS: Final = (BUILT, *WAITS, NEARER)
LARGE_VARIANTS: Final = (BUILT, NEARER, UPHILL_WAITING, WAITING, POLICIES[-1])
LARGE_SEEDS: Final = 3


@dataclass(frozen=True)
class Delay:
    """Within how many days a share got there; `more` when it is only known that it took longer."""

    days: float
    more: bool


@dataclass(frozen=True)
class Figures:
    """What one district, one seed and one variant came to."""

    district: str
    variant: str
    seed: int
    questionnaires: int
    delivered: float
    old_delivered: float
    committed: tuple[Delay, ...]
    marked: tuple[Delay, ...]
    transfers_each: float
    hops: float
    foreign_bytes_max: int
    bytes_each: float
    meetings: int
    heal_days: int
    events: int
    cpu_seconds: float


@dataclass(frozen=True)
class Play:
    """One thing to be played."""

    district: District
    variant: Variant
    seed: int

    @property
    def name(self) -> tuple[str, str, int]:
        return self.district.name, self.variant.name, self.seed


def plays(seeds: int = SEEDS) -> list[Play]:
    """Return everything that the page is made of; the large district is played with three seeds, for it takes long."""
    wanted: list[tuple[District, tuple[Variant, ...], int]] = [
        *((district, POLICIES, seeds) for district in DISTRICTS),
        (NORMAL, (*COPIES, *WAITS, *RULES), seeds),
        (DENSE, DENSE_RULES, seeds),
        (SPARSE, SPARSE_RULES, seeds),
        (LEAVING, LEAVING_VARIANTS, seeds),
        (LARGE, LARGE_VARIANTS, min(seeds, LARGE_SEEDS)),
    ]
    return [
        Play(district, variant, seed)
        for district, variants, last in wanted
        for variant in variants
        for seed in range(1, last + 1)
    ]


def play(one: Play) -> Figures:
    """Live one district and let it drain; raises Violation."""
    with ExitStack() as stack:
        if not one.variant.gradient:
            stack.enter_context(patch("edge_agent.engine.routing._leads_away", lambda _here, _there: False))
        if one.variant.last_copy is not LastCopy.TO_ANYBODY or one.variant.uphill:
            stack.enter_context(_ruled_by(one.variant))
        lived = live_district(plan_district(one.district, one.seed), one.variant.shares, settings=one.variant.settings)
    return Figures(
        *one.name,
        questionnaires=len(lived.fates),
        delivered=lived.delivered,
        old_delivered=lived.old_delivered,
        committed=_delays(lived, lambda fate: fate.committed_after),
        marked=_delays(lived, lambda fate: fate.marked_after),
        transfers_each=lived.transfers_each,
        hops=lived.hops,
        foreign_bytes_max=lived.foreign_bytes_max,
        bytes_each=lived.bytes_each,
        meetings=lived.passed.meetings,
        heal_days=lived.heal_days or 0,
        events=lived.events,
        cpu_seconds=lived.cpu_seconds,
    )


@contextmanager
def _ruled_by(variant: Variant) -> Iterator[None]:
    """Let other rules hold than those that are built."""
    rule = variant.last_copy
    inner = QueueTransaction.offerable
    is_nearer = False

    def share(shares: Shares, here: Standing, there: Standing) -> Share:
        nonlocal is_nearer
        age = float("inf") if here.contact_age is None else here.contact_age
        is_nearer = there.contact_age is not None and there.contact_age < age - HOUR
        found = share_of(shares, here, there)
        return Share.EVERYTHING if found is Share.SPRAY and is_nearer and variant.uphill else found

    def offerable(
        transaction: QueueTransaction, destination: bytes, now: int, *, spray: bool, count_max: int, after: int = 0
    ) -> Sequence[OfferableEnvelope]:
        # A session asks for the share of its neighbour, and then for what it can offer.
        if not spray or rule is LastCopy.TO_ANYBODY or (rule is LastCopy.TO_THE_NEARER and is_nearer):
            return inner(transaction, destination, now, spray=spray, count_max=count_max, after=after)
        found = inner(transaction, destination, now, spray=True, count_max=_ALL, after=after)
        return [one for one in found if one.copies > 1][:count_max]

    with (
        patch("edge_agent.engine.exchange.share_of", share),
        patch.object(QueueTransaction, "offerable", offerable),
    ):
        yield


def _delays(lived: Lived, of: Callable[[Fate], int | None]) -> tuple[Delay, ...]:
    return tuple(Delay(*lived.delay(share, of=of)) for share in SHARES)


def play_all(
    wanted: Sequence[Play], *, jobs: int, record: Path | None = None, done: Callable[[Figures], None] = lambda _: None
) -> list[Figures]:
    """Play everything, except what a record has already, and record it as it comes."""
    known = read_record(record) if record is not None and record.exists() else {}
    left = [one for one in wanted if one.name not in known]
    for name in [one.name for one in wanted if one.name in known]:
        done(known[name])
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for figures in pool.imap_unordered(play, left) if left else ():
            known[figures.district, figures.variant, figures.seed] = figures
            if record is not None:
                with record.open("a") as file:
                    file.write(json.dumps(asdict(figures)) + "\n")
            done(figures)
        pool.close()
        pool.join()
    return [known[one.name] for one in wanted]


def read_record(record: Path) -> dict[tuple[str, str, int], Figures]:
    """Return what was recorded, one JSON document a line."""
    found = {}
    for line in record.read_text().splitlines():
        fields = json.loads(line)
        for name in ("committed", "marked"):
            fields[name] = tuple(Delay(**one) for one in fields[name])
        figures = Figures(**fields)
        found[figures.district, figures.variant, figures.seed] = figures
    return found
