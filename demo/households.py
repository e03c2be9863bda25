"""Plausible households, made up from a seed: the demo's default input. Nobody's answers are in them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta

import msgspec

FORM = "household"
FORM_VERSION = "2026"

_CRITICAL_MOMENT = date(2021, 9, 1)
_SETTLEMENTS = ("Аксу", "Булак", "Жаркын", "Кызылжар", "Речное", "Талды", "Шоптыколь")
_STREETS = ("Абая", "Достык", "Мира", "Набережная", "Степная", "Тауелсиздик")
_FAMILIES = ("Ахмет", "Бек", "Волков", "Жуман", "Иван", "Ким", "Оспан", "Сериков", "Шмидт")
_GIVEN_MALE = ("Айдар", "Борис", "Данияр", "Марат", "Нурлан", "Пётр", "Тимур")
_GIVEN_FEMALE = ("Айгуль", "Вера", "Гульнара", "Дана", "Мария", "Сауле", "Юлия")
_RELATIONSHIPS = {"head": 1, "partner": 2, "child": 3, "parent": 4, "other": 9}


def households(seed: int, count: int) -> Iterator[bytes]:
    """Yield so many household questionnaires as JSON; the same seed gives the same households."""
    # Reproducible, and nothing secret about it.
    chance = random.Random(seed)
    for number in range(1, count + 1):
        yield msgspec.json.encode(_household(chance, seed, number))


def _household(chance: random.Random, seed: int, number: int) -> dict[str, object]:
    surname = chance.choice(_FAMILIES)
    persons = [_person(chance, surname, "head", chance.triangular(20, 85, 42))]
    if chance.random() < 0.65:
        persons.append(_person(chance, surname, "partner", max(18.0, persons[0][1] + chance.gauss(0, 4))))
    for _ in range(min(9, int(chance.expovariate(0.6)))):
        oldest_child = max(0.0, min(persons[0][1] - 18, 40.0))
        persons.append(_person(chance, surname, "child", chance.uniform(0, oldest_child)))
    if chance.random() < 0.12:
        persons.append(_person(chance, surname, "parent", min(99.0, persons[0][1] + chance.uniform(18, 35))))
    members = [{"line": line, **person} for line, (person, _) in enumerate(persons, start=1)]
    instance = random.Random(f"{seed}/{number}").getrandbits(128)
    return {
        "form": FORM,
        "form_version": FORM_VERSION,
        "meta": {"instanceID": f"uuid:{instance:032x}"},
        "questionnaire": {
            "region": 15,
            "district": chance.randint(1, 13),
            "settlement": chance.choice(_SETTLEMENTS),
            "street": chance.choice(_STREETS),
            "building": chance.randint(1, 140),
            "dwelling": chance.randint(1, 60),
            "household": 1,
        },
        "housing": {
            "type": chance.choices((1, 2, 3), (60, 35, 5))[0],
            "rooms": chance.randint(1, 6),
            "area": round(chance.triangular(18, 180, 55), 1),
            "tenure": chance.choices((1, 2, 3), (80, 15, 5))[0],
            "heating": chance.choices((1, 2, 3, 4), (45, 25, 20, 10))[0],
            "water": chance.choices((1, 2, 3), (70, 20, 10))[0],
            "internet": chance.random() < 0.8,
        },
        "persons": members,
    }


def _person(chance: random.Random, surname: str, relationship: str, age: float) -> tuple[dict[str, object], float]:
    sex = chance.choice((1, 2))
    given = chance.choice(_GIVEN_MALE if sex == 1 else _GIVEN_FEMALE)
    born = _CRITICAL_MOMENT - timedelta(days=int(age * 365.25))
    person: dict[str, object] = {
        "name": f"{surname} {given}",
        "relationship": _RELATIONSHIPS[relationship],
        "sex": sex,
        "birth_date": born.isoformat(),
        "age": int(age),
        "citizenship": 1 if chance.random() < 0.97 else 2,
        "language": chance.choices((1, 2, 3), (60, 33, 7))[0],
    }
    if age >= 15:
        person["marital_status"] = chance.choices((1, 2, 3, 4), (55, 28, 9, 8))[0]
        person["education"] = chance.randint(1, 7)
        person["employment"] = chance.choices((1, 2, 3), (62, 6, 32))[0]
    return person, age
