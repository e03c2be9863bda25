"""One suite over both databases: an institution of 200 listed people, and what the coverage table says of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from central_broker.commands import main
from central_broker.configuration import parse_configuration
from central_broker.coverage.indexing import bring_up_to_date, entries_of, people_forms
from central_broker.coverage.inquiry import look, people_of
from central_broker.coverage.matching import Ground, match
from central_broker.coverage.people import Place
from central_broker.coverage.places import Institution, Places, Territory
from central_broker.coverage.report import By
from central_broker.coverage.rules import Timing
from central_broker.reprocessing import reprocess_form
from central_broker.storage.batch_records import Route
from central_broker.storage.contract import Storage
from tests.support.census_databases import storage, url
from tests.support.census_forms import CensusForms
from tests.support.institution import BIN, Someone, household, iin_of, institution_list, someone
from tests.support.small_center import small_center

__all__ = ["storage", "url"]

TERRITORIES = [
    Territory("59", "", ("Северо-Казахстанская область", "Солтүстік Қазақстан облысы")),
    Territory("593200", "59", ("Аккайынский район", "Аққайың ауданы")),
    Territory("593400", "59", ("Айыртауский район",)),
]
INSTITUTIONS = [Institution(BIN, "Дом-интернат", "593200", "2")]
Asked = Callable[..., Any]


@pytest.fixture
def census(storage: Storage) -> CensusForms:
    storage.replace_places(TERRITORIES, INSTITUTIONS)
    return CensusForms(storage)


@pytest.fixture
def ask(storage: Storage, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Run a command of `coverage` with --json, as an operator does."""
    parts = urlsplit(url)
    if parts.password is not None:  # never in the configuration
        monkeypatch.setenv("PGPASSWORD", parts.password)
    plain = parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", "@")).geturl()
    small_center(tmp_path / "center", {"database.url": url if parts.password is None else plain})

    def asked(*words: str, as_json: bool = True) -> Any:
        given = ["--center", str(tmp_path / "center"), "coverage", *words, *(["--json"] if as_json else [])]
        done = CliRunner().invoke(main, given, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if as_json else done.stdout

    return asked


def people(first: int, last: int) -> list[Someone]:
    return [someone(number) for number in range(first, last + 1)]


def name_of(one: Someone) -> str:
    return f"{one.surname} {one.given_name}"


def numbers(line: dict[str, Any]) -> dict[str, int]:
    return {name: value for name, value in line.items() if isinstance(value, int) and value}


def the_institution(ask: Asked) -> dict[str, int]:
    (line,) = ask("--by", "institution", "--within", BIN)
    assert line["institution_name"] == "Дом-интернат"
    return numbers(line)


def test_of_two_hundred_listed_people_the_table_is_right_to_the_last_person(census: CensusForms, ask: Asked) -> None:
    version = census.versions["census_household"]

    def asked_of(whom: Sequence[Someone], instance: str, **said: str) -> bytes:
        return household(version, whom, instance=instance, **said)

    census.commit(
        institution_list(census.versions["census_institution"], people(0, 149), instance="list-1"),
        institution_list(census.versions["census_institution"], people(150, 199), instance="list-2"),
    )
    listed = people(0, 199)
    # Online, each for themselves: 30 here, ten and four that are counted again below, and one at home.
    alone = [*range(120, 150), *range(180, 190)]
    census.commit(
        *(
            asked_of([listed[one]], f"online-{one}", channel="online", day="2021-09-20", interviewer="")
            for one in alone
        ),
        household(version, [listed[118]], instance="home", bin_=None, channel="online", day="2021-09-03"),
        route=Route.ONLINE,
    )
    # The administration answers for thirty, and for four that answer online themselves afterwards.
    by_proxy = [replace(one, proxy="admin") for one in people(150, 179)]
    census.commit(*(asked_of(by_proxy[first : first + 10], f"proxy-{first}") for first in (0, 10, 20)))
    census.commit(asked_of([replace(one, proxy="admin") for one in people(190, 193)], "proxy-late"))
    census.commit(
        *(asked_of([listed[one]], f"online-{one}", channel="online", day="2021-10-14") for one in range(190, 194)),
        route=Route.ONLINE,
    )
    # With tablets: all but 118 of the first 120, and once more those ten that are online already.
    for first in range(0, 120, 10):
        census.commit(asked_of([one for one in listed[first : first + 10] if one != listed[118]], f"visit-{first}"))
    census.commit(asked_of(listed[180:190], "visit-again"))
    # One without papers, whose name is written in other letters; the same questionnaire comes by another device, too.
    no_papers = replace(someone(3), surname=someone(3).surname.upper().replace("И", "І"), iin=None)
    census.commit(asked_of([replace(no_papers, given_name=no_papers.given_name.upper())], "without-papers"))
    census.commit(asked_of(listed[0:10], "visit-0"), route=Route.USB)
    # A wrong digit; a number that is another's, or nobody's; a late one; an edit that takes back one of two.
    wrong = listed[194].iin or ""
    census.commit(asked_of([replace(listed[194], iin=f"{wrong[:11]}{(int(wrong[11]) + 1) % 10}")], "wrong-iin"))
    born_195 = listed[195].born
    assert born_195 is not None
    census.commit(asked_of([replace(listed[195], iin=iin_of(born_195, 777))], "other-iin"))
    census.commit(asked_of([listed[196]], "late", day="2021-11-03"))
    census.commit(asked_of(listed[197:199], "before"))
    census.commit(asked_of([listed[197]], "after", replaces="before"))
    # Five that are on no list, and one elsewhere of the same name and birth date as one that is.
    census.commit(asked_of(people(300, 304), "strangers"))
    census.commit(
        household(
            version, [replace(listed[10], iin=None)], instance="elsewhere", bin_=None, district="Айыртауский район"
        )
    )

    before = {
        "listed": 200,
        "counted": 203,
        "interview": 128,  # 119, the wrong IIN, the late one, the edited one; the other IIN, and five strangers
        "online": 45,  # 30, ten counted again, four with a proxy before, and one at home
        "proxy": 30,
        "missing": 3,  # 195 as long as nobody has decided, 198, whom the edit took back, and 199
        "not_listed": 6,
        "twice": 15,  # ten and four, and the one whose questionnaire without papers is a second one
        "outside_window": 1,
        "to_decide": 2,
    }
    assert the_institution(ask) == before
    flagged = ask("flagged")
    assert [(one["instance"], one["timing"]) for one in flagged["questionnaires"]] == [("late", "late")]
    assert [(one["name"], one["flags"]) for one in flagged["people"]] == [
        (name_of(listed[194]), ["an IIN that cannot be one"])
    ]
    (pair,) = ask("pairs", "--waiting")
    assert len([one for one in ask("pairs") if not one["waits"]]) == before["twice"]
    assert pair["ground"] == "other_iin"
    assert {entry["kind"] for entry in pair["entries"]} == {"listed", "resident"}
    missing = ask("people", BIN, "--missing")
    assert {one["name"] for one in missing} == {name_of(listed[one]) for one in (195, 198, 199)}
    by_interviewer = {line["interviewer"]: numbers(line)["counted"] for line in ask("--by", "interviewer")}
    assert by_interviewer == {"": 40, "7": 164}  # of those online, 118 and four more named an interviewer

    decided_not = {name: value for name, value in before.items() if name != "to_decide"}
    ask("settle", pair["pair"], "same", "--reason", "one digit was read wrongly", as_json=False)
    assert the_institution(ask) == {**decided_not, "missing": 2, "not_listed": 5}
    (decided,) = ask("decisions")
    assert (decided["verdict"], decided["reason"]) == ("same", "one digit was read wrongly")
    ask("settle", pair["pair"], "different", "--reason", "two people after all", as_json=False)
    assert the_institution(ask) == decided_not

    district = numbers(ask("--by", "district", "--within", "593200")[0])
    assert district == decided_not
    everybody = numbers(ask()[0])
    assert everybody["counted"] == 204

    # Everything anew, from the questionnaires as they were received.
    reprocess_form(census.storage, "census_household", lambda _: None)
    assert census.storage.coverage_state().reached == 0
    assert the_institution(ask) == decided_not
    assert len(census.storage.coverage_people(Place(institution=BIN))) > 200


def test_what_comes_later_is_added_and_an_edit_takes_back_what_was_counted(census: CensusForms, ask: Asked) -> None:
    version = census.versions["census_household"]
    census.commit(institution_list(census.versions["census_institution"], people(0, 9), instance="list"))
    assert the_institution(ask) == {"listed": 10, "missing": 10}
    census.commit(household(version, people(0, 4), instance="first"))
    assert the_institution(ask) == {"listed": 10, "missing": 5, "counted": 5, "interview": 5}
    census.commit(household(version, people(0, 3), instance="second", replaces="first"))
    assert the_institution(ask) == {"listed": 10, "missing": 6, "counted": 4, "interview": 4}
    census.commit(household(version, people(0, 2), instance="third", replaces="second", day="2021-09-29"))
    census.commit(household(version, people(0, 3), instance="second", replaces="first"), route=Route.MESH)
    assert the_institution(ask) == {
        **{"listed": 10, "missing": 7, "counted": 3, "interview": 3},
        "outside_window": 3,
    }
    census.commit(
        institution_list(census.versions["census_institution"], people(0, 4), instance="list-2", replaces="list")
    )
    assert the_institution(ask) == {"listed": 5, "missing": 2, "counted": 3, "interview": 3, "outside_window": 3}


def test_two_that_index_at_once_index_everything_once(census: CensusForms) -> None:
    storage, rules = census.storage, parse_configuration("", Path("/center")).census.rules
    before = storage.coverage_state()
    for number in range(3):
        census.commit(household(census.versions["census_household"], [someone(number)], instance=f"{number}"))
    bring_up_to_date(storage, rules, lambda _: None)
    state = storage.coverage_state()
    given: dict[str, Any] = {"basis": state.basis, "after": 0, "upto": state.reached}
    assert not storage.store_coverage([], [], state=before, **given), "another was faster"
    census.commit(household(census.versions["census_household"], people(5, 6), instance="next"))
    bring_up_to_date(storage, rules, lambda _: None)
    assert len(storage.coverage_people(Place())) == 5


@pytest.mark.parametrize("begun", [True, False])
def test_what_changes_while_questionnaires_are_read_for_the_index_is_not_missed(
    census: CensusForms, begun: bool
) -> None:
    storage, rules = census.storage, parse_configuration("", Path("/center")).census.rules
    version = census.versions["census_household"]
    census.commit(household(version, people(0, 1), instance="first"))
    if begun:
        bring_up_to_date(storage, rules, lambda _: None)
        census.commit(household(version, people(2, 3), instance="second"))
    state = storage.coverage_state()
    upto = storage.coverage_next(state.reached, 10)
    form = next(one for one in people_forms(storage) if one.form == "census_household")
    rows = storage.coverage_rows(form, state.reached, upto)
    found = entries_of(form, *rows, rules, Places(TERRITORIES, INSTITUTIONS))
    given: dict[str, Any] = {"basis": state.basis, "after": state.reached, "upto": upto}
    for change in (
        lambda: storage.replace_places(TERRITORIES, [replace(INSTITUTIONS[0], district="593400")]),
        lambda: reprocess_form(storage, "census_household", lambda _: None),
    ):
        change()
        assert not storage.store_coverage([form], found, state=state, **given)
    bring_up_to_date(storage, rules, lambda _: None)
    assert {one.place.district for one in storage.coverage_people(Place())} == {"593400"}


def test_other_rules_or_places_sort_everybody_anew(census: CensusForms) -> None:
    storage = census.storage
    rules = parse_configuration("", Path("/center")).census.rules
    census.commit(household(census.versions["census_household"], people(0, 1), instance="first", day="2021-11-01"))
    bring_up_to_date(storage, rules, lambda _: None)
    assert [one.timing for one in storage.coverage_untimely()] == [Timing.LATE]
    longer = parse_configuration('census.interview_last = "2021-11-01"', Path("/center")).census.rules
    bring_up_to_date(storage, longer, lambda _: None)
    assert storage.coverage_untimely() == []
    storage.replace_places(TERRITORIES, [replace(INSTITUTIONS[0], district="593400")])
    bring_up_to_date(storage, longer, lambda _: None)
    assert {one.place for one in storage.coverage_people(Place())} == {Place("59", "593400", BIN)}


def test_a_center_that_was_given_no_places_knows_the_oblasts(storage: Storage, ask: Asked) -> None:
    census = CensusForms(storage)
    census.commit(household(census.versions["census_household"], [someone(1)], instance="first", bin_=None))
    (line,) = ask()
    assert (line["oblast"], line["oblast_name"]) == ("59", "Северо-Казахстанская область")
    (line,) = ask("--by", "district", "--within", "Солтүстік Қазақстан облысы")
    assert line["district_name"] == "Аккайынский"


def test_entries_of_which_nothing_is_shared_cost_no_look_and_are_counted_all_the_same(census: CensusForms) -> None:
    census.commit(household(census.versions["census_household"], people(0, 9), instance="first"))
    rules = parse_configuration("", Path("/center")).census.rules
    places = bring_up_to_date(census.storage, rules, lambda _: None)
    seen = look(census.storage, places)
    assert (len(seen.people), seen.table(By.OBLAST)["59",].counted) == (0, 10)
    assert len(people_of(census.storage, seen, Place("59", "593200", BIN))) == 10


def test_the_database_finds_exactly_those_who_share_what_matching_goes_by(census: CensusForms) -> None:
    randomness = Random(20211001)
    version = census.versions["census_household"]

    def anybody() -> Someone:
        one = someone(randomness.randrange(12))
        other = someone(randomness.randrange(12))
        return Someone(
            one.surname,
            one.given_name,
            randomness.choice([one.born, one.born, None]),
            randomness.choice([one.iin, other.iin, None, None]),
        )

    for number in range(40):
        where: dict[str, Any] = randomness.choice(
            [{"bin_": BIN}, {"bin_": None}, {"bin_": None, "district": "Айыртауский район"}, {"district": ""}]
        )
        census.commit(household(version, [anybody(), anybody()], instance=f"{number}", **where))
    bring_up_to_date(census.storage, parse_configuration("", Path("/center")).census.rules, lambda _: None)
    linked, everybody = census.storage.coverage_linked(), census.storage.coverage_people(Place())
    pairs = {(pair.couple, pair.ground) for pair in match(everybody, {}).pairs}
    assert {(pair.couple, pair.ground) for pair in match(linked, {}).pairs} == pairs
    assert {ground for _, ground in pairs} >= set(Ground) - {Ground.DECIDED}
    assert len(linked) < len(everybody) == 80
