"""A district on paper: who is where and when, drawn from a seed before anything is lived, so that every policy meets
exactly the same people at the same minutes.

| who | a day |
|---|---|
| a tablet | questionnaires from 9:00 to 19:00 in its own village, or now and then in another one |
| | often an hour at the shared place of that village (the school, the shop with an access point), at noon or at dusk |
| | now and then, in the morning, a stop at the akimat of its rural district, where a laptop stands |
| | of some tablets only: now and then a trip to the district center, some hours around noon |
| a laptop at an akimat | there from 9:00 to 18:00; on few days it has a VPN for some hours |
| the laptop of the Department | in the district center, likewise; on most days it has a VPN all day |

Two who are at one place at the same time meet. A tablet in the district center has a VPN of its own there on some
trips; in the villages none has. Not responsible for what devices do when they meet (`district_life`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from random import Random
from typing import Final

from tests.simulator.clockwork import DAY, HOUR, MINUTE, Chance

QUESTIONNAIRES_A_DAY: Final = 9.5
DAYS: Final = 14
OFFICE: Final = "laptop-center"
_MEETING_MIN: Final = 2 * MINUTE
_WORK: Final = (9 * HOUR, 19 * HOUR)
_OPEN: Final = (9 * HOUR, 18 * HOUR)


@dataclass(frozen=True)
class District:
    """How many there are, and how often they go where; all rates are probabilities for one tablet, or laptop, and
    day.
    """

    name: str
    tablets: int
    villages: int
    akimats: int
    """Each with a laptop; villages belong to them in turn."""
    gathers: float
    """Goes to the shared place of the village where it works: drawn for noon and for dusk."""
    elsewhere: float
    """Works in another village than its own."""
    akimat: float
    """Stops at the akimat."""
    travellers: float
    """The share of tablets that go to the district center at all."""
    trips: float
    """Of these: goes there."""
    coverage: float = 0.5
    """A tablet in the district center has a VPN of its own."""
    akimat_vpn: float = 0.1
    office_vpn: float = 0.9
    leaves: float = 0
    """The share of tablets that go away on some day, with all that they carry, and meet nobody any more."""
    days: int = DAYS
    questionnaires: float = QUESTIONNAIRES_A_DAY


SPARSE: Final = District(
    "sparse", tablets=16, villages=9, akimats=3, gathers=0.4, elsewhere=0.2, akimat=0.1, travellers=0.25, trips=0.25,
    akimat_vpn=0.05,
)  # fmt: skip
NORMAL: Final = District(
    "normal", tablets=16, villages=5, akimats=2, gathers=0.55, elsewhere=0.2, akimat=0.12, travellers=0.3, trips=0.25
)
DENSE: Final = District(
    "dense", tablets=20, villages=4, akimats=2, gathers=0.7, elsewhere=0.2, akimat=0.2, travellers=0.4, trips=0.35,
    akimat_vpn=0.2,
)  # fmt: skip


@dataclass(frozen=True, order=True)
class Stay:
    """Somebody at a place; microseconds from the district's first midnight."""

    begins: int
    ends: int
    who: str
    place: str


@dataclass(frozen=True, order=True)
class Encounter:
    """Two at one place for a time."""

    begins: int
    ends: int
    one: str
    other: str


@dataclass(frozen=True, order=True)
class Tunnel:
    """A device's VPN."""

    begins: int
    ends: int
    who: str


@dataclass(frozen=True)
class Plan:
    """Everything that people do in a district; lists are in the order of time."""

    district: District
    seed: int
    tablets: tuple[str, ...]
    laptops: tuple[str, ...]
    questionnaires: tuple[tuple[int, str], ...]
    encounters: tuple[Encounter, ...]
    tunnels: tuple[Tunnel, ...]

    @property
    def meetings_a_day(self) -> float:
        """Return how many meetings a tablet has a day, with tablets and laptops."""
        sides = sum(who in self.tablets for one in self.encounters for who in (one.one, one.other))
        return sides / len(self.tablets) / self.district.days

    @property
    def days_between_gateways(self) -> float:
        """Return how many days a tablet goes, in the mean of all, until it meets whoever has a way to the center, or
        has one itself; infinite when none ever does.
        """
        visits = sum(len(days) for days in self._gateway_days.values())
        return len(self.tablets) * self.district.days / visits if visits else float("inf")

    @property
    def without_gateway(self) -> float:
        """Return the share of tablets that never do."""
        return 1 - len(self._gateway_days) / len(self.tablets)

    @property
    def _gateway_days(self) -> dict[str, set[int]]:
        """Return the days on which a tablet meets a gateway, or is one."""
        tunnels: dict[str, list[Tunnel]] = defaultdict(list)
        for tunnel in self.tunnels:
            tunnels[tunnel.who].append(tunnel)
        days: dict[str, set[int]] = defaultdict(set)
        for tunnel in self.tunnels:
            if tunnel.who in self.tablets:
                days[tunnel.who].add(tunnel.begins // DAY)
        for met in self.encounters:
            for who, other in ((met.one, met.other), (met.other, met.one)):
                if who in self.tablets and any(one.begins <= met.begins < one.ends for one in tunnels[other]):
                    days[who].add(met.begins // DAY)
        return days


@dataclass
class _Drawn:
    stays: list[Stay] = field(default_factory=list)
    tunnels: list[Tunnel] = field(default_factory=list)
    questionnaires: list[tuple[int, str]] = field(default_factory=list)


def plan_district(district: District, seed: int) -> Plan:
    """Draw all days of a district."""
    tablets = tuple(f"tablet-{number}" for number in range(1, district.tablets + 1))
    akimats = tuple(f"laptop-{number}" for number in range(1, district.akimats + 1))
    chance = Chance(seed)
    drawn = _Drawn()
    for number, name in enumerate(tablets):
        random = chance.stream("district", district.name, name)
        _draw_tablet(district, number, name, random, chance.stream("leaves", name), drawn)
    for number, name in enumerate((*akimats, OFFICE)):
        place = "center" if name == OFFICE else f"akimat-{number}"
        rate = district.office_vpn if name == OFFICE else district.akimat_vpn
        _draw_laptop(district, name, place, rate, chance.stream("district", district.name, name), drawn)
    return Plan(
        district=district,
        seed=seed,
        tablets=tablets,
        laptops=(*akimats, OFFICE),
        questionnaires=tuple(sorted(drawn.questionnaires)),
        encounters=tuple(sorted(_encounters(drawn.stays))),
        tunnels=tuple(sorted(drawn.tunnels)),
    )


def _draw_tablet(district: District, number: int, name: str, random: Random, leaving: Random, drawn: _Drawn) -> None:
    home = number % district.villages
    # Every n-th: chance must not decide whether a small district has anybody who travels.
    days = _days_there(district, number, leaving)
    travels = round((number + 1) * district.travellers) > round(number * district.travellers)
    for day in range(days):
        midnight = day * DAY
        at, pause = midnight + _WORK[0], (_WORK[1] - _WORK[0]) / district.questionnaires
        while (at := at + int(random.expovariate(1 / pause))) < midnight + _WORK[1]:
            drawn.questionnaires.append((at, name))
        village = random.randrange(district.villages) if random.random() < district.elsewhere else home
        on_trip = travels and random.random() < district.trips
        if on_trip:
            arrives = midnight + int((10.5 + 2 * random.random()) * HOUR)
            leaves = arrives + int((0.5 + random.random()) * HOUR)
            drawn.stays.append(Stay(arrives, leaves, name, "center"))
            if random.random() < district.coverage:
                drawn.tunnels.append(Tunnel(arrives - 5 * MINUTE, leaves, name))
        elif random.random() < district.akimat:
            arrives = midnight + int((9 + random.random()) * HOUR)
            akimat = f"akimat-{village % district.akimats}"
            drawn.stays.append(Stay(arrives, arrives + 20 * MINUTE, name, akimat))
        for hour in (12.5,) * (not on_trip) + (17.5,):
            if random.random() < district.gathers:
                arrives = midnight + int((hour + random.random()) * HOUR)
                leaves = arrives + int((0.3 + 0.7 * random.random()) * HOUR)
                drawn.stays.append(Stay(arrives, leaves, name, f"village-{village}"))


def _days_there(district: District, number: int, random: Random) -> int:
    """Return how many days a tablet is there; those that leave are every n-th, beginning with the first."""
    leaves = round((number + 1) * district.leaves + 0.5) > round(number * district.leaves + 0.5)
    return 1 + random.randrange(district.days - 1) if leaves and district.leaves else district.days


def _draw_laptop(district: District, name: str, place: str, vpn: float, random: Random, drawn: _Drawn) -> None:
    for day in range(district.days):
        midnight = day * DAY
        begins, ends = midnight + _OPEN[0], midnight + _OPEN[1]
        drawn.stays.append(Stay(begins, ends, name, place))
        if random.random() < vpn:
            if name != OFFICE:
                begins += int(random.random() * 4 * HOUR)
                ends = begins + 3 * HOUR
            drawn.tunnels.append(Tunnel(begins, ends, name))


def _encounters(stays: list[Stay]) -> Iterator[Encounter]:
    """Yield who is at one place with whom."""
    by_place: dict[tuple[str, int], list[Stay]] = defaultdict(list)
    for stay in sorted(stays):
        by_place[stay.place, stay.begins // DAY].append(stay)
    for there in by_place.values():
        for one, other in combinations(there, 2):
            begins, ends = max(one.begins, other.begins), min(one.ends, other.ends)
            if one.who != other.who and ends - begins >= _MEETING_MIN:
                yield Encounter(begins, ends, *sorted((one.who, other.who)))
