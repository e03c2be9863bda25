"""The shipped census forms: they convert, speak three languages, and ask and refuse what a census form must."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from datetime import date
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyxform.xls2xform import convert

from central_broker.forms.census import FORM_IDS, shipped_forms
from tests.support.xform_expressions import Value, evaluate
from tests.support.xlsform_sheet import Sheet, names_in, read_sheet

LANGUAGES = ("Қазақша (kk)", "Русский (ru)", "English (en)")
SHEETS = {form: read_sheet(path) for form, path in shipped_forms().items()}
HOUSEHOLD, TEMPORARY, INSTITUTION = (SHEETS[form] for form in FORM_IDS)

# Words that Kazakh and Russian share.
SAME_IN_KAZAKH_AND_RUSSIAN = frozenset(
    {
        "Армения",
        "Беларусь",
        "Эстония",
        "Грузия",
        "Германия",
        "Иран",
        "Израиль",
        "Латвия",
        "Литва",
        "Молдова",
        "Польша",
        "Украина",
        "Ислам",
        "Иудаизм",
        "Буддизм",
        "Колледж",
        "Магистратура, докторантура, резидентура",
    }
)

# What a text in the wrong column would show.
KAZAKH_LETTERS = re.compile("[әғқңөұүһі]", re.IGNORECASE)
RUSSIAN_ONLY_WORDS = re.compile(r"\b(?:и|или|для|по|из|года|где|какой|лет)\b", re.IGNORECASE)


def texts(sheet: Sheet) -> list[tuple[str, tuple[str, ...]]]:
    """Every text that a person reads, as (where, its wording by language)."""
    found = []
    for place, rows in (("survey", sheet.survey), ("choices", sheet.choices)):
        for row in rows:
            kinds = {column.split("::")[0] for column in row if "::" in column and not column.startswith("bind")}
            where = f"{place} {row.get('list_name', '')} {row.get('name', '')}"
            found += [
                (f"{where} {kind}", tuple(row.get(f"{kind}::{language}", "") for language in LANGUAGES))
                for kind in sorted(kinds)
            ]
    return found


def control_digit(eleven: str) -> int:
    """The last digit of an IIN or BIN by its two passes of weights; 10 where no number may be given out."""
    digits = [int(digit) for digit in eleven]
    first = sum(digit * weight for weight, digit in enumerate(digits, start=1)) % 11
    if first != 10:
        return first
    return sum(digit * ((place + 2) % 11 + 1) for place, digit in enumerate(digits)) % 11


@pytest.mark.parametrize("form", FORM_IDS)
def test_converts_to_an_xform_without_a_warning(form: str) -> None:
    warnings: list[str] = []
    result = convert(shipped_forms()[form], warnings=warnings)
    assert warnings == []
    assert f'id="{form}"' in result.xform
    assert 'version="2021070102"' in result.xform


@pytest.mark.skipif(shutil.which("java") is None, reason="ODK Validate, which pyxform brings, needs Java")
@pytest.mark.parametrize("form", FORM_IDS)
def test_odk_validate_accepts_the_form(form: str) -> None:
    convert(shipped_forms()[form], validate=True)


@pytest.mark.parametrize("form", FORM_IDS)
def test_every_text_is_there_in_three_languages(form: str) -> None:
    assert [where for where, wordings in texts(SHEETS[form]) if not all(wordings)] == []


@pytest.mark.parametrize("form", FORM_IDS)
def test_everything_that_is_shown_has_a_label_and_every_refusal_a_message(form: str) -> None:
    label, message = f"label::{LANGUAGES[0]}", f"constraint_message::{LANGUAGES[0]}"
    hidden = {"start", "end", "calculate", "end_group", "end_repeat"}
    assert [row["name"] for row in SHEETS[form].survey if row["type"] not in hidden and label not in row] == []
    assert [row["name"] for row in SHEETS[form].survey if ("constraint" in row) != (message in row)] == []
    needed = f"required_message::{LANGUAGES[0]}"
    assert [row["name"] for row in SHEETS[form].survey if ("required" in row) != (needed in row)] == []


@pytest.mark.parametrize("form", FORM_IDS)
def test_no_text_stands_under_two_languages(form: str) -> None:
    same = {
        (where, left)
        for where, wordings in texts(SHEETS[form])
        for left, right in combinations(wordings, 2)
        if left == right and left not in SAME_IN_KAZAKH_AND_RUSSIAN
    }
    assert same == set()


@pytest.mark.parametrize("form", FORM_IDS)
def test_each_text_is_written_in_its_own_letters(form: str) -> None:
    for where, (kazakh, russian, english) in texts(SHEETS[form]):
        assert not KAZAKH_LETTERS.search(russian), where
        assert not re.search("[а-яё]", english, re.IGNORECASE), where
        assert not RUSSIAN_ONLY_WORDS.search(kazakh), where
        for cyrillic in (kazakh, russian):
            mixed = re.search("[a-z](?=[а-яёәғқңөұүһі])|[а-яёәғқңөұүһі](?=[a-z])", cyrillic, re.IGNORECASE)
            assert mixed is None, f"{where}: Latin and Cyrillic letters in one word"


@pytest.mark.parametrize("form", FORM_IDS)
def test_names_are_unique_and_safe(form: str) -> None:
    names = [row["name"] for row in SHEETS[form].survey if not row["type"].startswith("end_")]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert [name for name in names if not re.fullmatch("[a-z][a-z0-9_]{0,39}", name)] == []


@pytest.mark.parametrize("form", FORM_IDS)
def test_choice_codes_are_short_and_unique_in_their_list(form: str) -> None:
    codes = [(row["list_name"], row["name"]) for row in SHEETS[form].choices]
    assert [code for code, count in Counter(codes).items() if count > 1] == []
    assert [name for _, name in codes if not re.fullmatch("[A-Za-z0-9]{1,9}", name)] == []


@pytest.mark.parametrize("form", FORM_IDS)
def test_no_two_choices_of_a_list_read_alike(form: str) -> None:
    for language in LANGUAGES:
        read = Counter((row["list_name"], row[f"label::{language}"]) for row in SHEETS[form].choices)
        assert [label for label, count in read.items() if count > 1] == []


@pytest.mark.parametrize("form", FORM_IDS)
def test_expressions_refer_to_questions_asked_before(form: str) -> None:
    known: set[str] = set()
    for row in SHEETS[form].survey:
        for column in ("relevant", "constraint", "calculation", "repeat_count"):
            assert names_in(row.get(column, "")) <= known, f"{row.get('name')} {column}"
        known.add(row.get("name", ""))


@pytest.mark.parametrize("form", FORM_IDS)
def test_expressions_compare_with_codes_that_exist(form: str) -> None:
    sheet = SHEETS[form]
    lists: dict[str, set[str]] = {}
    for choice in sheet.choices:
        lists.setdefault(choice["list_name"], set()).add(choice["name"])
    for row in sheet.survey:
        expressions = " ".join(row.get(column, "") for column in ("relevant", "constraint", "calculation"))
        compared = re.findall(r"\$\{(\w+)\} !?= '([^']+)'|selected\(\$\{(\w+)\}, '([^']+)'\)", expressions)
        for name, code, selected_name, selected_code in compared:
            kind = sheet.row(name or selected_name)["type"].split()
            assert kind[0].startswith("select_"), row["name"]
            assert (code or selected_code) in lists[kind[1]], row["name"]


@pytest.mark.parametrize("form", FORM_IDS)
def test_every_expression_is_well_formed(form: str) -> None:
    for row in SHEETS[form].survey:
        for column in ("relevant", "constraint", "calculation"):
            if column in row and "position(" not in row[column]:
                evaluate(row[column], {}, "")


def test_the_household_form_asks_22_questions_on_housing_and_69_on_each_person() -> None:
    housing = HOUSEHOLD.questions("dwelling") + HOUSEHOLD.questions("composition")
    assert len(housing) == 22
    assert len(HOUSEHOLD.questions("persons")) == 69


def test_the_other_forms_are_short() -> None:
    assert len(TEMPORARY.questions("persons")) == 23
    assert len(INSTITUTION.questions("people")) == 12


def test_the_list_names_the_institution_types_of_the_order() -> None:
    stems = (
        "торговли людьми",
        "социального обслуживания",
        "Детский дом",
        "для одаренных детей",
        "одаренных в спорте",
        "детей-сирот",
        "инвалидов и (или) детей-инвалидов",
        "стационарную помощь",
        "Дом ребенка",
        "ночного пребывания",
        "бытового насилия",
        "противотуберкулезная",
        "Психоневрологическая",
        "наркологическую",
        "санитарно-эпидемиологического",
        "акимата",
    )
    for sheet in SHEETS.values():
        types = [row["label::Русский (ru)"] for row in sheet.choices if row["list_name"] == "institution_type"]
        assert len(types) == len(stems)
        assert all(stem in kind for stem, kind in zip(stems, types, strict=True))


def test_the_critical_moment_is_named_in_every_form() -> None:
    for sheet, note in ((HOUSEHOLD, "census_moment"), (TEMPORARY, "census_moment"), (INSTITUTION, "list_moment")):
        kazakh, russian, english = (sheet.row(note)[f"label::{language}"] for language in LANGUAGES)
        assert "2021 жылғы 1 қыркүйек сағат 00:00" in kazakh
        assert "00:00 часов 1 сентября 2021 года" in russian
        assert "00:00 on 1 September 2021" in english


@pytest.mark.parametrize("sheet", SHEETS.values(), ids=FORM_IDS)
@given(body=st.from_regex(r"\A[0-9]{2}(0[1-9]|1[0-2])[0-2][0-9][0-6][0-9]{4}\Z"), last=st.integers(0, 9))
def test_an_iin_is_accepted_exactly_if_its_last_digit_is_right(sheet: Sheet, body: str, last: int) -> None:
    body = body.translate({ord(digit): str(value) for value, digit in enumerate("0123456789")})
    assert sheet.accepts("iin", f"{body}{last}") == (control_digit(body) == last)


def test_an_iin_of_the_second_pass_is_accepted_and_one_that_both_passes_exclude_is_not() -> None:
    numbers = [f"900101300{serial:02}" for serial in range(100)]
    first = {body: sum(int(digit) * weight for weight, digit in enumerate(body, start=1)) % 11 for body in numbers}
    second_pass = [body for body in numbers if first[body] == 10]
    excluded = [body for body in second_pass if control_digit(body) == 10]
    assert second_pass
    assert excluded
    for body in second_pass:
        accepted = [last for last in range(10) if HOUSEHOLD.accepts("iin", f"{body}{last}")]
        assert accepted == ([] if body in excluded else [control_digit(body)])


@pytest.mark.parametrize("wrong", ["", "90010130000", "9001013000011", "90010130000a", "901301300001", "900101700001"])
def test_what_is_not_shaped_like_an_iin_is_refused(wrong: str) -> None:
    assert not HOUSEHOLD.accepts("iin", wrong)


def test_the_weights_of_both_passes_stand_in_every_form() -> None:
    for sheet in SHEETS.values():
        for name in ("iin", "institution_bin"):
            weights = [int(weight) for weight in re.findall(r"(\d+) \* substr", sheet.row(name)["constraint"])]
            first = list(range(1, 12))
            assert weights == [*first, *range(3, 12), 1, 2, *first]


@pytest.mark.parametrize(
    ("born", "age"),
    [
        (date(2021, 8, 31), 0),
        (date(2020, 9, 1), 1),
        (date(2020, 9, 2), 0),
        (date(2006, 9, 1), 15),
        (date(2006, 9, 2), 14),
        (date(1960, 2, 29), 61),
    ],
)
def test_age_is_counted_in_completed_years_at_the_critical_moment(born: date, age: int) -> None:
    for sheet in (HOUSEHOLD, TEMPORARY):
        assert evaluate(sheet.row("age")["calculation"], {"birth_date": born, "age_stated": ""}) == age


def test_without_a_date_of_birth_the_stated_age_counts() -> None:
    assert evaluate(HOUSEHOLD.row("age")["calculation"], {"age_stated": 40.0}) == 40


def test_only_people_born_before_the_critical_moment_are_counted() -> None:
    for sheet in (HOUSEHOLD, TEMPORARY):
        assert sheet.accepts("birth_date", date(2021, 8, 31))
        assert not sheet.accepts("birth_date", date(2021, 9, 1))
        assert not sheet.accepts("birth_date", date(1896, 8, 31))
    assert INSTITUTION.accepts("birth_date", date(2021, 7, 1))
    assert not INSTITUTION.accepts("birth_date", date(2021, 7, 2))


@pytest.mark.parametrize(
    ("channel", "day", "late"),
    [
        ("interview", date(2021, 9, 30), True),
        ("interview", date(2021, 10, 1), False),
        ("interview", date(2021, 10, 30), False),
        ("interview", date(2021, 10, 31), True),
        ("online", date(2021, 9, 1), False),
        ("online", date(2021, 10, 15), False),
        ("online", date(2021, 10, 16), True),
    ],
)
def test_a_date_outside_the_window_of_its_channel_is_pointed_out_and_accepted(
    channel: str, day: date, late: bool
) -> None:
    for sheet in (HOUSEHOLD, TEMPORARY):
        assert sheet.accepts("interview_date", day)
        assert sheet.asks("outside_window", {"channel": channel, "interview_date": day}) == late


def test_the_date_of_a_clock_gone_wrong_is_refused() -> None:
    assert not HOUSEHOLD.accepts("interview_date", date(1970, 1, 1))
    assert not HOUSEHOLD.accepts("interview_date", date(2037, 10, 5))


ADULT: dict[str, Value] = {"place_kind": "1", "age": 40.0, "sex": "1"}


@pytest.mark.parametrize(
    ("answers", "asked", "not_asked"),
    [
        ({"age": 4.0}, {"attendance"}, {"languages", "seeing", "literacy", "marital_status", "worked"}),
        ({"age": 5.0}, {"languages", "seeing", "five_years_ago"}, {"education"}),
        ({"age": 14.0}, {"literacy", "education"}, {"marital_status", "worked", "children_born"}),
        ({"age": 15.0, "sex": "2"}, {"marital_status", "worked", "children_born"}, {"children_living"}),
        ({"age": 40.0, "sex": "1"}, {"marital_status"}, {"children_born", "last_birth_date"}),
        ({"sex": "2", "children_born": 2.0}, {"children_living", "last_birth_date"}, set()),
        ({"sex": "2", "children_born": 2.0, "age": 50.0}, {"children_living"}, {"last_birth_date"}),
        ({"worked": "1"}, {"occupation", "industry", "weekly_hours"}, {"job_absence", "sought_work"}),
        ({"worked": "2", "job_absence": "1"}, {"occupation"}, {"sought_work", "own_production"}),
        ({"worked": "2", "job_absence": "2"}, {"sought_work", "available", "own_production"}, {"occupation"}),
        ({"sought_work": "2"}, {"not_seeking_reason"}, set()),
        ({"birth_country": "KZ"}, {"birth_region"}, {"kazakhstan_year"}),
        ({"birth_country": "RU"}, {"kazakhstan_year"}, {"birth_region", "country_other"}),
        ({"birth_country": "ZZ"}, {"country_other"}, set()),
        ({"always_here": "1"}, set(), {"arrival_year", "arrival_from", "arrival_reason"}),
        ({"always_here": "2", "arrival_from": "3"}, {"arrival_country", "arrival_reason"}, {"arrival_region"}),
        ({"languages": "kaz eng"}, {"kazakh_level", "english_level"}, {"russian_level"}),
        ({"proxy": "admin"}, {"proxy_reason"}, set()),
        ({"proxy": "member"}, set(), {"proxy_reason"}),
        ({"place_kind": "2"}, {"institution_bin", "worked"}, {"dwelling_type", "relationship", "counted_online"}),
        ({"place_kind": "3"}, {"relationship"}, {"dwelling_type", "house_number", "institution_bin"}),
        ({"channel": "interview"}, {"counted_online", "dwelling_type"}, {"notification_number", "institution_bin"}),
        (
            {"channel": "interview", "counted_online": "1"},
            {"notification_number"},
            {"dwelling_type", "surname", "persons_count"},
        ),
        ({"education": "40"}, {"study_field"}, set()),
        ({"education": "30"}, set(), {"study_field"}),
    ],
)
def test_skips(answers: dict[str, Value], asked: set[str], not_asked: set[str]) -> None:
    given_answers = ADULT | answers
    assert {name for name in asked if not HOUSEHOLD.asks(name, given_answers)} == set()
    assert {name for name in not_asked if HOUSEHOLD.asks(name, given_answers)} == set()


@pytest.mark.parametrize("sheet", [HOUSEHOLD, TEMPORARY], ids=["household", "temporary"])
def test_the_administration_answers_only_for_people_in_institutions(sheet: Sheet) -> None:
    assert sheet.accepts("proxy", "admin", {"place_kind": "2"})
    assert not sheet.accepts("proxy", "admin", {"place_kind": "1"})
    assert sheet.accepts("proxy", "self", {"place_kind": "1"})


@pytest.mark.parametrize(
    ("name", "value", "answers", "accepted"),
    [
        ("relationship", "1", {"person_number": 1.0}, True),
        ("relationship", "2", {"person_number": 1.0}, False),
        ("relationship", "1", {"person_number": 2.0}, False),
        ("relationship", "13", {"person_number": 2.0}, True),
        ("living_area", 40.0, {"total_area": 39.5}, False),
        ("children_living", 3.0, {"children_born": 2.0}, False),
        ("last_birth_date", date(1970, 1, 1), {"birth_date": date(1980, 1, 1)}, False),
        ("last_birth_date", date(2010, 1, 1), {"birth_date": ""}, True),
        ("always_here", "1", {"birth_country": "RU"}, False),
        ("arrival_year", 2000.0, {"age": 20.0}, True),
        ("arrival_year", 1999.0, {"age": 20.0}, False),
        ("arrival_year", 2022.0, {"age": 20.0}, False),
        ("education", "61", {"literacy": "2"}, False),
        ("citizenship_country", "KZ", {}, False),
        ("devices", "none tv", {}, False),
        ("devices", "tv mobile", {}, True),
        ("livelihood_main", "pens", {"livelihood_sources": "work fami"}, False),
        ("surname", "Әбішева-Ким", {}, True),
        ("surname", "Иванов2", {}, False),
    ],
)
def test_answers_that_contradict_others_are_refused(
    name: str, value: Value, answers: dict[str, Value], accepted: bool
) -> None:
    assert HOUSEHOLD.accepts(name, value, answers) == accepted


@pytest.mark.parametrize(
    ("answers", "differs"),
    [
        ({"iin": "900101300017", "birth_date": date(1990, 1, 1), "sex": "1"}, False),
        ({"iin": "900101300017", "birth_date": date(1990, 1, 2), "sex": "1"}, True),
        ({"iin": "900101300017", "birth_date": date(1990, 1, 1), "sex": "2"}, True),
        ({"iin": "900101000017", "birth_date": date(1990, 1, 1), "sex": "2"}, False),
        ({"birth_date": date(1990, 1, 1), "sex": "2"}, False),
    ],
)
def test_an_iin_that_disagrees_with_birth_or_sex_is_pointed_out(answers: dict[str, Value], differs: bool) -> None:
    assert HOUSEHOLD.asks("iin_differs", answers) == differs


def test_religion_may_be_left_unanswered() -> None:
    assert "required" not in HOUSEHOLD.row("religion")
