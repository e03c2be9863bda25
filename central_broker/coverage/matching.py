"""Whether two entries name one person, and which entries are one person's. Pure.

The rule, as a table; the first line that fits decides. `iin` differs when both have one and not the same; names and
birth dates agree or not, and one that is not known neither agrees nor differs.

    iin      names    birth date   and                     they are
    same     agree or the birth dates do                   one person          SAME_IIN
    same     differ   not the same                         perhaps one person  ONLY_IIN
    differs  agree    agree        in one institution      perhaps one person  OTHER_IIN
    -        agree    agree        in one institution      one person          NAME_AND_BIRTH_DATE
    -        agree    unknown      in one institution      perhaps one person  ONLY_NAME
    -        agree    agree        counted in one district perhaps one person NEAR_BY

Whatever is only perhaps so changes no count until somebody has decided; a decision counts for more than the table.
A wrong digit in an IIN mostly fails its check, and the number is then treated as not known; one that passes shows as
OTHER_IIN, or as ONLY_IIN with whoever's number it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from itertools import combinations
from typing import Final

from central_broker.coverage.people import Kind, Person, Reference

_PAIR_DIGITS: Final = 10
_GROUP_MAX: Final = 400
"""People with one key who are compared each with each; of more (a number that thousands give), each with the first."""


class Ground(StrEnum):
    """What two entries have in common; see the module's table."""

    SAME_IIN = "same_iin"
    ONLY_IIN = "only_iin"
    OTHER_IIN = "other_iin"
    NAME_AND_BIRTH_DATE = "name_and_birth_date"
    ONLY_NAME = "only_name"
    NEAR_BY = "near_by"
    DECIDED = "decided"
    """Nothing of the table, but somebody said that they are one person."""

    @property
    def is_certain(self) -> bool:
        return self in (Ground.SAME_IIN, Ground.NAME_AND_BIRTH_DATE, Ground.DECIDED)


class Verdict(StrEnum):
    """What somebody decided of two entries."""

    SAME = "same"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two entries that are, or may be, one person, and what was decided of them."""

    one: Person
    other: Person
    ground: Ground
    verdict: Verdict | None = None

    @property
    def couple(self) -> Couple:
        return couple_of(self.one.reference, self.other.reference)

    @property
    def key(self) -> str:
        """What people call it by."""
        return pair_key(self.couple)

    @property
    def is_one_person(self) -> bool:
        """Whether they count as one."""
        return self.ground.is_certain if self.verdict is None else self.verdict is Verdict.SAME

    @property
    def is_twice(self) -> bool:
        """Whether one person was counted twice, if they are one: at home and on a stay elsewhere is not."""
        return self.one.kind is self.other.kind and self.one.kind is not Kind.LISTED

    @property
    def waits(self) -> bool:
        """Whether somebody has to look."""
        return self.verdict is None and not self.ground.is_certain


Couple = tuple[Reference, Reference]
"""Two entries, the smaller reference first."""


def couple_of(one: Reference, other: Reference) -> Couple:
    """Return two references as a couple."""
    return (one, other) if one < other else (other, one)


def pair_key(couple: Couple) -> str:
    """Return what people call a pair by."""
    return sha256(repr(couple).encode()).hexdigest()[:_PAIR_DIGITS]


def ground_of(one: Person, other: Person) -> Ground | None:
    """Return on what ground two entries are, or may be, one person; None when on none."""
    names_agree = bool(one.name_key) and one.name_key == other.name_key
    births_known = one.birth_date is not None and other.birth_date is not None
    births_agree = births_known and one.birth_date == other.birth_date
    if one.iin is not None and one.iin == other.iin:
        return Ground.SAME_IIN if names_agree or births_agree else Ground.ONLY_IIN
    if not names_agree or (births_known and not births_agree):
        return None
    iin_differs = one.iin is not None and other.iin is not None
    if one.place.institution and one.place.institution == other.place.institution:
        if not births_agree:
            return None if iin_differs else Ground.ONLY_NAME
        return Ground.OTHER_IIN if iin_differs else Ground.NAME_AND_BIRTH_DATE
    is_near = one.place.district != "" and one.place.district == other.place.district
    if births_agree and not iin_differs and is_near and Kind.LISTED not in (one.kind, other.kind):
        return Ground.NEAR_BY
    return None


@dataclass(frozen=True, slots=True)
class Matched:
    """People, each with all entries that name it; and the pairs that made or may unmake it."""

    people: Sequence[Sequence[Person]]
    pairs: Sequence[Pair]
    waiting: frozenset[Reference]
    """Entries in pairs that wait for a decision."""


def match(entries: Iterable[Person], decided: Mapping[Couple, Verdict]) -> Matched:
    """Put entries together, given what was decided.

    A decision that two entries differ parts them, but what other certain pairs link stays one person.
    """
    known = list(entries)
    pairs = _pairs(known, decided)
    leader = {one.reference: one.reference for one in known}

    def leader_of(reference: Reference) -> Reference:
        while leader[reference] != reference:
            leader[reference] = leader[leader[reference]]
            reference = leader[reference]
        return reference

    for pair in pairs:
        if pair.is_one_person:
            leader[leader_of(pair.one.reference)] = leader_of(pair.other.reference)
    people: defaultdict[Reference, list[Person]] = defaultdict(list)
    for one in known:
        people[leader_of(one.reference)].append(one)
    waiting = frozenset(one.reference for pair in pairs if pair.waits for one in (pair.one, pair.other))
    return Matched(list(people.values()), pairs, waiting)


def _pairs(entries: Sequence[Person], decided: Mapping[Couple, Verdict]) -> list[Pair]:
    """Return every pair with a ground, or with a decision that they are one person."""
    groups: defaultdict[tuple[str, ...], list[Person]] = defaultdict(list)
    for one in entries:
        if one.iin is not None:
            groups["iin", one.iin].append(one)
        if one.name_key and one.place.institution:
            groups["institution", one.place.institution, one.name_key].append(one)
        if one.name_key and one.birth_date is not None and one.place.district:
            groups["district", one.place.district, one.name_key, one.birth_date].append(one)
    found: dict[Couple, Pair] = {}
    for group in groups.values():
        for one, other in _couples(sorted(group, key=_first_committed)):
            couple = couple_of(one.reference, other.reference)
            ground = None if couple in found else ground_of(one, other)
            if ground is not None:
                found[couple] = Pair(one, other, ground, decided.get(couple))
    by_reference = {one.reference: one for one in entries}
    for couple, verdict in decided.items():
        one_entry, other_entry = (by_reference.get(reference) for reference in couple)
        if verdict is Verdict.SAME and couple not in found and one_entry is not None and other_entry is not None:
            found[couple] = Pair(one_entry, other_entry, Ground.DECIDED, verdict)
    return list(found.values())


def _first_committed(one: Person) -> tuple[int, Reference]:
    return one.committed_at, one.reference


def _couples(group: Sequence[Person]) -> Iterable[tuple[Person, Person]]:
    if len(group) <= _GROUP_MAX:
        return combinations(group, 2)
    return ((group[0], other) for other in group[1:])
