"""A household of one woman, answered question by question as the shipped form asks them, in one of its languages."""

from __future__ import annotations

from typing import Any, Final

from tests.browser.person import Step
from tests.support.xform_expressions import Value
from tests.support.xlsform_sheet import Sheet

LANGUAGES: Final = {"kk": "Қазақша (kk)", "ru": "Русский (ru)", "en": "English (en)"}

ANSWERS: Final[dict[str, str]] = {
    "channel": "interview",
    "interview_date": "2021-10-05",
    "interviewer_number": "0017",
    "region": "59",
    "district": "Есиль",
    "settlement": "Явленка",
    "settlement_type": "3",
    "place_kind": "1",
    "house_number": "12",
    "household_number": "1",
    "counted_online": "2",
    "total_area": "64.5",
    "living_area": "41",
    "rooms": "3",
    "devices": "computer",
    "persons_count": "1",
    "surname": "Ахметова",
    "given_name": "Айгүл",
    "proxy": "self",
    "residence_status": "1",
    "relationship": "1",
    "sex": "2",
    "birth_date_known": "1",
    "birth_date": "1985-03-14",
    "iin_known": "1",
    "iin": "850314410007",
    "birth_country": "KZ",
    "citizenship": "1",
    "ethnicity": "kaz",
    "mother_tongue": "kaz",
    "languages": "kaz rus",
    "children_born": "0",
    "literacy": "1",
    "always_here": "1",
    "worked": "1",
    "occupation": "учитель начальных классов",
    "weekly_hours": "36",
}
"""What matters here; to every other question that must be answered, the first choice is the answer."""

WRONG_IIN: Final = "850314410008"


def interview(sheet: Sheet, language: str) -> tuple[dict[str, str], list[Step]]:
    """Return the answers by question, and the steps that give them; questions are asked as the form says.

    In a Russian browser ODK Web Forms takes the comma only, and passes over a point: 64.5 would become 645.
    """
    label = f"label::{LANGUAGES[language]}"
    known: dict[str, Value] = {"age": 36.0, "person_number": 1.0}
    answers: dict[str, str] = {}
    steps: list[Step] = []
    for question in sheet.questions():
        name = question["name"]
        if not sheet.asks(name, known) or (name not in ANSWERS and question.get("required") != "yes"):
            continue
        kind, _, of_list = question["type"].partition(" ")
        choices = {row["name"]: row[label] for row in sheet.choices if row["list_name"] == of_list}
        answers[name] = known[name] = ANSWERS.get(name) or next(iter(choices))
        entered = _entered(kind, answers[name], choices)
        if kind == "decimal" and language == "ru":
            entered = entered.replace(".", ",")
        steps.append(["answer", question[label], entered])
    return answers, steps


def _entered(kind: str, answer: str, choices: dict[str, str]) -> Any:
    if kind == "date":
        return {"date": answer}
    if kind == "select_multiple":
        return [choices[code] for code in answer.split()]
    return choices.get(answer, answer)
