"""Identity numbers, names, places and windows: what people write, made comparable."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from central_broker.coverage.identity_number import birth_date_of, identity_number, organisation_number
from central_broker.coverage.names import name_key, place_key
from central_broker.coverage.people import Place
from central_broker.coverage.places import (
    Institution,
    Places,
    PlacesRefused,
    Territory,
    read_institutions,
    read_territories,
)
from central_broker.coverage.rules import CensusRules, Channel, Timing, Window
from tests.support.institution import BIN, check_digit, iin_of

NUR_SULTAN = timezone(timedelta(hours=6))
RULES = CensusRules(
    datetime(2021, 9, 1, tzinfo=NUR_SULTAN),
    online=Window(date(2021, 9, 1), date(2021, 10, 15)),
    interview=Window(date(2021, 10, 1), date(2021, 10, 30)),
)
PLACES = Places(
    [
        Territory("59", "", ("Северо-Казахстанская область", "Солтүстік Қазақстан облысы")),
        Territory("593200", "59", ("Аккайынский район", "Аққайың ауданы")),
        Territory("11", "", ("Акмолинская область",)),
        Territory("113200", "11", ("Аккайынский район",)),
    ],
    [Institution(BIN, "Дом-интернат", "593200", "2")],
)


@given(born=st.dates(date(1896, 9, 1), date(2021, 8, 31)), serial=st.integers(0, 4999), place=st.integers(0, 11))
def test_a_wrong_digit_in_an_iin_is_noticed_unless_it_makes_another_one(born: date, serial: int, place: int) -> None:
    iin = iin_of(born, serial)
    assert identity_number(f" {iin[:6]} {iin[6:]} ") == iin
    assert birth_date_of(iin) == born
    changed = [f"{iin[:place]}{digit}{iin[place + 1 :]}" for digit in "0123456789" if digit != iin[place]]
    # The first pass tells all digits of a place apart, but for the eleventh, whose weight is 11; the second pass may
    # give one of them the same check digit.
    assert sum(identity_number(one) is not None for one in changed) <= (9 if place == 10 else 1)


@pytest.mark.parametrize(
    "wrong", ["", "12345", "000000000000", "abcdefghijkl", "٠١٢٣٤٥٦٧٨٩٠١", iin_of(date(1990, 5, 17), 1)[:11] + "x"]
)
def test_what_is_no_identity_number_is_not_taken_for_one(wrong: str) -> None:
    assert identity_number(wrong) is None
    assert organisation_number(wrong) is None


def test_a_number_whose_day_was_never_is_none() -> None:
    eleven = next(f"9002305{serial:04}" for serial in range(99) if check_digit(f"9002305{serial:04}") is not None)
    assert identity_number(f"{eleven}{check_digit(eleven)}") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Королёв", "Пётр"), ("КОРОЛЕВ", "Петр")),
        (("Сәдуақасов", "Әйгерім"), ("Садуакасов", "Айгерим")),
        (("Ахметов", "Ерлан"), ("Ерлан", "Ахметов")),
        (("Бөкейханов-Тұрар", "Ә."), ("бокейханов турар", "а")),
        (("Соловьев", "Наталья"), ("Соловев", "Наталя")),
        (("Андрей", None), ("АНДРЕЙ", "")),
    ],
)
def test_a_name_is_the_same_in_the_letters_and_order_that_people_write(
    one: tuple[str | None, ...], other: tuple[str | None, ...]
) -> None:
    assert name_key(*one) == name_key(*other) != ""


def test_other_names_are_others_and_no_name_is_none() -> None:
    assert name_key("Ахметов", "Ерлан") != name_key("Ахметова", "Ерлан")
    assert name_key(None, "", "-", "—") == ""


def test_a_place_is_known_by_its_code_and_by_its_name_in_any_language() -> None:
    for district in ("593200", "Аккайынский район", "аққайың ауданы", "Аккайынский"):
        assert PLACES.place_of("59", district, "") == Place("59", "593200")
    assert PLACES.place_of("Солтүстік Қазақстан облысы", "Аққайың", "") == Place("59", "593200")
    assert PLACES.place_of("11", "Аккайынский район", "") == Place("11", "113200"), "each oblast has its own"


def test_the_tables_district_of_an_institution_counts_whatever_was_written() -> None:
    assert PLACES.place_of("11", "elsewhere", f"{BIN[:6]} {BIN[6:]}") == Place("59", "593200", BIN)


def test_what_the_tables_do_not_know_is_kept_as_written_and_told_apart_by_what_is_above() -> None:
    place = PLACES.place_of("59", "Новый район", "Приют")
    assert (place.region, place.district.startswith("?"), place.institution.startswith("?")) == ("59", True, True)
    assert place != PLACES.place_of("11", "Новый район", "Приют")
    assert PLACES.name_of(place.district) == "Новый"
    assert PLACES.place_of("59", "новый  аудан", "Приют") == place
    assert PLACES.place_of("", "", "") == Place()


def test_people_may_name_a_place_by_code_bin_or_an_unambiguous_name() -> None:
    assert PLACES.meant(BIN) == Place("59", "593200", BIN)
    assert PLACES.meant("дом интернат") == Place("59", "593200", BIN)
    assert PLACES.meant("59") == Place("59")
    assert PLACES.meant("акмолинская") == Place("11")
    assert PLACES.meant("Аккайынский район") is None, "there are two"
    assert PLACES.meant("nowhere") is None


def test_place_files_are_read_with_either_separator_and_names_in_further_languages() -> None:
    lines = "\ufeffcode;parent;name;name_kk\n59;;Северо-Казахстанская область;СҚО\n593200;59;Аккайынский район;\n"
    territories = read_territories(lines.encode())
    assert territories == [
        Territory("59", "", ("Северо-Казахстанская область", "СҚО")),
        Territory("593200", "59", ("Аккайынский район",)),
    ]
    institutions = read_institutions(f"bin,name,district,type\n{BIN},Дом,593200,2\n".encode(), territories)
    assert institutions == [Institution(BIN, "Дом", "593200", "2")]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("code,name\n", "parent"),
        ("code,parent,name\n59,,\n", "line 2: 59 has no name"),
        ("code,parent,name\n59,,A\n59,,B\n", "line 3: 59 is there twice"),
        ("code,parent,name\n593200,59,A\n", "the parent of 593200"),
        ("code,parent,name\n1,,A\n2,1,B\n3,2,C\n", "the parent of 3"),
        ("code,parent,name\n1;2,,A\n", "is no code"),
        ("code,parent,name\n1,,A,B,C\n", "more values"),
        ('code,parent,name\n1,,"A\n', "line"),
        ("\xff", "not UTF-8"),
        ("", "the first line"),
    ],
)
def test_a_territory_file_that_cannot_be_taken_says_where_it_is_wrong(lines: str, said: str) -> None:
    with pytest.raises(PlacesRefused, match=said):
        read_territories(lines.encode("latin-1"))


@pytest.mark.parametrize(
    ("row", "said"),
    [("123,A,593200", "no BIN"), (f"{BIN},A,59320", "no code of the territory"), (f"{BIN},A,59\n{BIN},A,59", "twice")],
)
def test_an_institution_file_that_cannot_be_taken_says_where_it_is_wrong(row: str, said: str) -> None:
    with pytest.raises(PlacesRefused, match=said):
        read_institutions(f"bin,name,district\n{row}\n".encode(), PLACES.territories.values())


@pytest.mark.parametrize(
    ("channel", "day", "timing"),
    [
        (Channel.INTERVIEW, date(2021, 9, 30), Timing.EARLY),
        (Channel.INTERVIEW, date(2021, 10, 1), Timing.INSIDE),
        (Channel.PROXY, date(2021, 10, 30), Timing.INSIDE),
        (Channel.PROXY, date(2021, 10, 31), Timing.LATE),
        (Channel.ONLINE, date(2021, 9, 1), Timing.INSIDE),
        (Channel.ONLINE, date(2021, 10, 16), Timing.LATE),
        (Channel.ONLINE, None, Timing.UNKNOWN),
    ],
)
def test_each_channel_has_its_window_with_both_its_days(channel: Channel, day: date | None, timing: Timing) -> None:
    assert RULES.timing_of(channel, day) is timing


def test_who_is_born_at_the_critical_moment_or_later_is_after_it() -> None:
    assert not RULES.is_born_after(date(2021, 8, 31))
    assert RULES.is_born_after(date(2021, 9, 1))
    assert not RULES.is_born_after(None)
    noon = CensusRules(datetime(2021, 9, 1, 12, tzinfo=NUR_SULTAN), RULES.online, RULES.interview)
    assert not noon.is_born_after(date(2021, 9, 1)), "who knows the hour"


def test_kinds_of_places_alone_are_names_after_all() -> None:
    assert place_key("Город") == "город"
