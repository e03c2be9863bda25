"""Who among the neighbours is given which envelopes: the one table of the mesh's policy.

| this device | the neighbour | it is given | why |
|---|---|---|---|
| has a way to the center | anyone | nothing | what is here leaves by that way; its receipt frees everybody |
| tablet without a way | has a way to the center | everything | it can put it up at once |
| tablet without a way | collection point | everything | that is where a tablet's data are meant to go |
| collection point without a way | has a way to the center | everything | it can put it up at once |
| collection point without a way | collection point | a spray | either may be the first back in the office |
| any without a way | tablet | a spray | few copies, along the gradient |

**A spray** (binary spray and focus, after Spyropoulos, Psounis and Raghavendra): an envelope begins with a number of
copies to make. Whoever holds it with two or more of them gives half to the next neighbour, and keeps the rest. Whoever
holds it with one gives that on, to anybody who is not farther from the center, and then waits for a way to the center
or a collection point. So the number bounds how many copies walk at once. It does not bound how many devices hold the
envelope in the end: whoever has given its last copy on keeps the envelope until a receipt comes, since nobody's word
frees it. docs/mesh-delivery.md has what this delivers and costs, and what other rules would.

**The gradient**: the time since a device last heard the center itself. A spray never goes to a neighbour that has
been without the center for clearly longer than this device: it would lead away from the center. Where nobody has ever
heard the center, everybody is as near.

**After a silence** the origin, and nobody else, makes its copies anew: copies are lost with devices, or sit with
somebody who went the wrong way.

A neighbour that lies about any of this receives ciphertext, and delays nothing but its share of the copies: a handover
frees nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import Final

COPIES_MAX: Final = 16
"""More than anybody sets; a neighbour that says more is counted as saying this (SPEC.md §9)."""

_CLEARLY_LONGER: Final = 60 * 60 * 1_000_000
"""Microseconds. Two who left the office together are as near to it, whoever heard it last."""


class Share(Enum):
    """What a neighbour is given."""

    NOTHING = "nothing"
    SPRAY = "a spray"
    EVERYTHING = "everything"


class Station(Enum):
    """What a device is on the way to the center."""

    GATEWAY = "has a way to the center"
    COLLECTION_POINT = "collection point"
    TABLET = "tablet"


Shares = Mapping[tuple[Station, Station], Share]
"""By what this device is, and what the neighbour is."""

SPRAY_AND_FOCUS: Final[Shares] = {
    (Station.TABLET, Station.GATEWAY): Share.EVERYTHING,
    (Station.TABLET, Station.COLLECTION_POINT): Share.EVERYTHING,
    (Station.TABLET, Station.TABLET): Share.SPRAY,
    (Station.COLLECTION_POINT, Station.GATEWAY): Share.EVERYTHING,
    (Station.COLLECTION_POINT, Station.COLLECTION_POINT): Share.SPRAY,
    (Station.COLLECTION_POINT, Station.TABLET): Share.SPRAY,
}
"""The table above; what is not in it is given nothing."""

EPIDEMIC: Final[Shares] = dict.fromkeys(product(Station, Station), Share.EVERYTHING)
"""Everybody gets everything: the upper bound of what a policy can deliver, at the greatest cost. For comparison."""

DIRECT_ONLY: Final[Shares] = {
    (here, there): Share.EVERYTHING
    for here, there in product((Station.TABLET, Station.COLLECTION_POINT), (Station.GATEWAY, Station.COLLECTION_POINT))
    if here is not there
}
"""Nobody carries for a neighbour but who can put it up, and collection points: the lower bound. For comparison."""


@dataclass(frozen=True)
class Standing:
    """How one device stands toward the center; `contact_age` is since when it has not heard it, None when never."""

    station: Station
    contact_age: int | None

    @staticmethod
    def of(*, reaches_center: bool, is_collection_point: bool, contact_age: int | None) -> Standing:
        if reaches_center:
            return Standing(Station.GATEWAY, 0)
        return Standing(Station.COLLECTION_POINT if is_collection_point else Station.TABLET, contact_age)


def share_of(shares: Shares, here: Standing, there: Standing) -> Share:
    """Return what the neighbour is given."""
    share = shares.get((here.station, there.station), Share.NOTHING)
    if share is Share.SPRAY and _leads_away(here, there):
        return Share.NOTHING
    return share


def copies_given(share: Share, copies: int) -> int:
    """Return how many of the copies to make go with an envelope."""
    if share is Share.EVERYTHING:
        return copies // 2
    return max(1, copies // 2) if copies else 0


def _leads_away(here: Standing, there: Standing) -> bool:
    if here.contact_age is None:
        return False
    return there.contact_age is None or there.contact_age > here.contact_age + _CLEARLY_LONGER
