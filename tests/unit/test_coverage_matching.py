"""Who is who: the table of grounds line by line, what is put together, and what decisions change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from central_broker.coverage.matching import (
    Couple,
    Ground,
    Matched,
    Verdict,
    couple_of,
    ground_of,
    match,
    pair_key,
)
from central_broker.coverage.people import Kind, Person, Place
from central_broker.coverage.report import By, Line, standings, table
from central_broker.coverage.rules import Channel, Timing

HERE = Place("59", "593200", "institution")
NEAR = Place("59", "593200")
ELSEWHERE = Place("59", "593400", "other")
IIN, OTHER_IIN = "900517300018", "900517300029"


def entry(number: int, **said: object) -> Person:
    known: dict[str, object] = {
        "kind": Kind.RESIDENT,
        "place": HERE,
        "name": "Ахметов Ерлан",
        "name_key": "ахметов ерлан",
        "birth_date": "1990-05-17",
        "iin": None,
        "channel": Channel.INTERVIEW,
        "timing": Timing.INSIDE,
        "interviewer": "7",
        "committed_at": number,
    }
    return Person(reference=(b"o", bytes([number]), 1), **(known | said))  # type: ignore[arg-type]  # each test gives what fits


@pytest.mark.parametrize(
    ("said", "ground"),
    [
        ([{"iin": IIN}, {"iin": IIN}], Ground.SAME_IIN),
        ([{"iin": IIN}, {"iin": IIN, "name_key": "иной", "place": ELSEWHERE}], Ground.SAME_IIN),
        ([{"iin": IIN}, {"iin": IIN, "birth_date": None, "place": ELSEWHERE}], Ground.SAME_IIN),
        ([{"iin": IIN}, {"iin": IIN, "name_key": "иной", "birth_date": "1950-01-01"}], Ground.ONLY_IIN),
        ([{"iin": IIN}, {"iin": IIN, "name_key": "", "birth_date": None}], Ground.ONLY_IIN),
        ([{"iin": IIN}, {"iin": OTHER_IIN}], Ground.OTHER_IIN),
        ([{"iin": IIN}, {"iin": OTHER_IIN, "place": NEAR}], None),
        ([{"iin": IIN}, {}], Ground.NAME_AND_BIRTH_DATE),
        ([{}, {}], Ground.NAME_AND_BIRTH_DATE),
        ([{}, {"kind": Kind.LISTED}], Ground.NAME_AND_BIRTH_DATE),
        ([{}, {"birth_date": None}], Ground.ONLY_NAME),
        ([{"birth_date": None}, {"birth_date": None}], Ground.ONLY_NAME),
        ([{"birth_date": None, "iin": IIN}, {"iin": OTHER_IIN}], None),
        ([{}, {"birth_date": "1990-05-18"}], None),
        ([{}, {"name_key": "иной"}], None),
        ([{"name_key": ""}, {"name_key": ""}], None),
        ([{}, {"place": NEAR}], Ground.NEAR_BY),
        ([{"place": NEAR}, {"place": NEAR}], Ground.NEAR_BY),
        ([{"place": NEAR}, {"kind": Kind.LISTED}], None),
        ([{}, {"place": ELSEWHERE}], None),
        ([{"place": Place()}, {"place": Place()}], None),
    ],
)
def test_the_ground_on_which_two_entries_are_one_person(said: list[dict[str, object]], ground: Ground | None) -> None:
    one, other = entry(1, **said[0]), entry(2, **said[1])
    assert ground_of(one, other) is ground
    assert ground_of(other, one) is ground


def together(matched: Matched) -> set[frozenset[int]]:
    return {frozenset(one.reference[1][0] for one in entries) for entries in matched.people}


def test_what_certain_pairs_link_is_one_person_and_doubtful_ones_wait() -> None:
    entries = [
        entry(1, iin=IIN),
        entry(2, iin=IIN, place=ELSEWHERE, name_key="иной"),
        entry(3),
        entry(4, iin=OTHER_IIN, place=NEAR),
    ]
    for order in permutations(entries):
        matched = match(order, {})
        assert together(matched) == {frozenset({1, 2, 3}), frozenset({4})}
        assert [(pair.ground, pair.waits) for pair in matched.pairs if not pair.is_one_person] == [
            (Ground.NEAR_BY, True)
        ]
        assert {one[1][0] for one in matched.waiting} == {3, 4}


def decide(entries: Sequence[Person], verdict: Verdict) -> dict[Couple, Verdict]:
    one, other = entries
    return {couple_of(other.reference, one.reference): verdict}


def test_a_decision_counts_for_more_than_any_ground() -> None:
    same, near = [entry(1), entry(2)], [entry(1), entry(2, place=NEAR)]
    assert together(match(same, decide(same, Verdict.DIFFERENT))) == {frozenset({1}), frozenset({2})}
    joined = match(near, decide(near, Verdict.SAME))
    assert together(joined) == {frozenset({1, 2})}
    assert not joined.waiting
    apart = [entry(1), entry(2, name_key="иной", place=ELSEWHERE)]
    (pair,) = match(apart, decide(apart, Verdict.SAME)).pairs
    assert (pair.ground, pair.is_one_person) == (Ground.DECIDED, True)
    assert not match(apart, decide(apart, Verdict.DIFFERENT)).pairs
    assert not match(apart[:1], decide(apart, Verdict.SAME)).pairs, "of an entry that counts no more"


def test_a_number_that_thousands_give_costs_no_square_of_them() -> None:
    entries = [replace(entry(1, iin=IIN), reference=(b"o", number.to_bytes(4), 1)) for number in range(3_000)]
    matched = match(entries, {})
    assert len(matched.people) == 1
    assert len(matched.pairs) == 2_999


def test_a_pairs_name_is_the_same_whichever_entry_comes_first() -> None:
    one, other = entry(1), entry(2)
    (pair,) = match([one, other], {}).pairs
    (turned,) = match([other, one], {}).pairs
    assert pair.key == turned.key == pair_key(couple_of(other.reference, one.reference))


people = st.lists(
    st.builds(
        lambda kind, place, name, born, iin, channel, timing: {
            "kind": kind,
            "place": place,
            "name_key": name,
            "birth_date": born,
            "iin": iin,
            "channel": channel,
            "timing": timing,
        },
        st.sampled_from(Kind),
        st.sampled_from([HERE, NEAR, ELSEWHERE, Place()]),
        st.sampled_from(["а", "б", ""]),
        st.sampled_from(["1990-05-17", "1950-01-01", None]),
        st.sampled_from([IIN, OTHER_IIN, None]),
        st.sampled_from(Channel),
        st.sampled_from(Timing),
    ),
    max_size=12,
)


@given(said=people, by=st.sampled_from([By.OBLAST, By.DISTRICT, By.INSTITUTION]), verdicts=st.data())
def test_the_lines_always_balance_and_nobody_is_in_two(
    said: list[dict[str, object]], by: By, verdicts: st.DataObject
) -> None:
    entries = [entry(number, **one) for number, one in enumerate(said, start=1)]
    chosen = (
        verdicts.draw(
            st.dictionaries(
                st.sampled_from(list(permutations(range(len(entries)), 2)) or [(0, 0)]),
                st.sampled_from(Verdict),
                max_size=3,
            )
        )
        if len(entries) > 1
        else {}
    )
    decided = {
        couple_of(entries[one].reference, entries[other].reference): verdict for (one, other), verdict in chosen.items()
    }
    matched = match(entries, decided)
    assert sorted(one.reference for person in matched.people for one in person) == sorted(
        one.reference for one in entries
    )
    lines = table({}, standings(matched), by).values()
    for line in lines:
        assert line.counted == line.listed - line.missing + line.not_listed + line.in_households
    assert sum(line.counted + line.missing for line in lines) == len(matched.people)


def test_the_persons_own_words_go_before_a_proxys_and_the_first_before_later_ones() -> None:
    entries = [
        entry(1, channel=Channel.PROXY, iin=IIN),
        entry(2, channel=Channel.ONLINE, iin=IIN, timing=Timing.LATE),
        entry(3, channel=Channel.INTERVIEW, iin=IIN),
    ]
    (line,) = table({}, standings(match(entries, {})), By.OBLAST).values()
    assert line == Line(online=1, not_listed=1, twice=1, outside_window=1)


def test_at_home_and_on_a_stay_elsewhere_is_not_twice() -> None:
    at_home = [entry(1, iin=IIN), entry(2, iin=IIN, kind=Kind.TEMPORARY, place=ELSEWHERE)]
    (line,) = table({}, standings(match(at_home, {})), By.OBLAST).values()
    assert (line.counted, line.twice) == (1, 0)
    again = [*at_home, entry(3, iin=IIN, kind=Kind.TEMPORARY)]
    (line,) = table({}, standings(match(again, {})), By.OBLAST).values()
    assert (line.counted, line.twice) == (1, 1)
