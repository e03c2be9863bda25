"""A real form program, ODK Web Forms, in a real browser: from the form list to the census tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from central_broker.forms.census import shipped_forms
from demo.field import Center, Field
from sync_protocol.attachments import read_attachments
from tests.browser.conftest import HOUSEHOLD, PAGES
from tests.browser.household import ANSWERS, LANGUAGES, WRONG_IIN, interview
from tests.browser.person import PageServer, Person, Step
from tests.support.processes import wait_until
from tests.support.xlsform_sheet import read_sheet

TAKEN: Final = {
    "en-GB": "201: The questionnaire is accepted and safe on this device.",
    "ru-RU": "201: Анкета принята и надёжно сохранена на этом устройстве.",
    "kk-KZ": "201: Сауалнама қабылданды және осы құрылғыда сенімді сақталды.",
}
SUBMITTED: Final = [("HEAD", "submission", 204), ("POST", "submission", 201)]
SHEET: Final = read_sheet(shipped_forms()[HOUSEHOLD])
WAIT_SECONDS: Final = 60.0


def committed(center: Center, table: str, count: int) -> None:
    wait_until(
        lambda: center.query(f"SELECT count(*) FROM {table}") == [(count,)],
        f"{count} rows in {table}",
        timeout_seconds=WAIT_SECONDS,
    )


def visit(photograph: Path, pictures: Path) -> list[Step]:
    """A visit to a house with two people, whose rooms are mistyped first."""
    return [
        ["opened"],
        ["language", "English (en)"],
        ["answer", "Village", 'Аксу <1> & "2"'],
        ["answer", "District", "Есиль"],
        ["answer", "Date of the visit", {"date": "2021-10-05"}],
        ["answer", "Number of rooms", "99"],
        ["refused", "Number of rooms"],
        ["picture", str(pictures / "refused.png")],
        ["answer", "Number of rooms", "3"],
        ["answer", "Heating", "Stove"],
        ["answer", "What is there in the house?", ["Radio", "Car"]],
        ["answer", "Photograph of the house", {"file": str(photograph)}],
        ["answer", "Given name", "Айгүл"],
        ["answer", "Completed years of age", "33"],
        ["add", "Person"],
        ["answer", "Given name", "Иван", 2],
        ["answer", "Completed years of age", "4", 2],
        ["picture", str(pictures / "filled.png")],
        ["send"],
        ["said"],
        ["picture", str(pictures / "sent.png")],
    ]


def test_a_visit_that_is_filled_in_by_hand_is_found_in_the_tables_with_its_photograph(
    field: Field, interviewer: Person, photograph: Path, tmp_path: Path
) -> None:
    center = field.center
    seen = interviewer.opens("visit", visit(photograph, tmp_path))
    assert (seen.said, seen.problems) == ([TAKEN["ru-RU"]], [])
    assert seen.texts == ["Enter a number from 1 to 50."]
    assert seen.requests == [
        ("GET", "formList", 200),
        ("GET", "forms/visit/form.xml", 200),
        ("GET", "forms/visit/manifest", 200),
        ("GET", "forms/visit/media/districts.csv", 200),
        *SUBMITTED,
    ]
    committed(center, "form_visit", 1)
    assert center.query("SELECT village, district, visited_on, rooms, heating FROM form_visit") == [
        ('Аксу <1> & "2"', "esil", "2021-10-05", 3, "1")
    ]
    assert center.query("SELECT choice FROM form_visit__devices ORDER BY choice") == [("car",), ("radio",)]
    people = center.query("SELECT position, given_name, age FROM form_visit__persons ORDER BY position")
    assert people == [(1, "Айгүл", 33), (2, "Иван", 4)]
    ((body, front),) = center.query(
        "SELECT body, front FROM questionnaire JOIN form_visit_current USING (origin, id) WHERE form = 'visit'"
    )
    _, (attached,) = read_attachments(bytes(body))
    assert (attached.name, attached.media_type, attached.data) == (front, "image/png", photograph.read_bytes())
    assert center.query("SELECT count(*) FROM finding") == [(0,)]


@pytest.mark.parametrize(("language", "locale"), [("kk", "kk-KZ"), ("ru", "ru-RU"), ("en", "en-GB")])
def test_the_shipped_household_form_is_answered_in_each_of_its_languages(
    field: Field, interviewer: Person, language: str, locale: str, tmp_path: Path
) -> None:
    center = field.center
    ((before,),) = center.query(f"SELECT count(*) FROM form_{HOUSEHOLD}")
    answers, steps = interview(SHEET, language)
    label, refused = f"label::{LANGUAGES[language]}", f"constraint_message::{LANGUAGES[language]}"
    iin = SHEET.row("iin")
    at = steps.index(["answer", iin[label], ANSWERS["iin"]])
    mistyped = [
        ["answer", iin[label], WRONG_IIN],
        ["refused", iin[label]],
        ["picture", str(tmp_path / "refused.png"), iin[label]],
    ]
    seen = replace(interviewer, locale=locale).opens(
        HOUSEHOLD,
        [
            ["opened"],
            ["language", LANGUAGES[language]],
            ["picture", str(tmp_path / "opened.png")],
            *steps[:at],
            *mistyped,
            *steps[at:],
            ["picture", str(tmp_path / "filled.png")],
            ["send"],
            ["said"],
        ],
    )
    assert (seen.said, seen.problems, seen.texts) == ([TAKEN[locale]], [], [iin[refused]])
    assert len(answers) > 70
    committed(center, f"form_{HOUSEHOLD}", before + 1)
    ((household,),) = center.query(f"SELECT max(batch) FROM form_{HOUSEHOLD}")
    rows = center.query(
        "SELECT address__settlement, dwelling__total_area, identity__surname, identity__iin, identity__birth_date, "
        "identity__age, work__occupation, functioning__communicating "
        f"FROM form_{HOUSEHOLD}_current JOIN form_{HOUSEHOLD}__persons USING (origin, id) WHERE batch = {household}"
    )
    assert rows == [
        (
            *(ANSWERS["settlement"], float(ANSWERS["total_area"]), ANSWERS["surname"], ANSWERS["iin"]),
            *(ANSWERS["birth_date"], 36, ANSWERS["occupation"], answers["communicating"]),
        )
    ]
    assert center.query(f"SELECT count(*) FROM finding WHERE form = '{HOUSEHOLD}'") == [(0,)]


def test_a_page_of_an_origin_that_is_not_listed_reads_nothing(interviewer: Person) -> None:
    with PageServer(PAGES) as other:
        seen = replace(interviewer, origin=other.origin).opens("visit", [["alarmed"]])
    assert "Failed to fetch" in seen.texts[0]
    assert any("blocked by CORS policy" in problem for problem in seen.problems)
