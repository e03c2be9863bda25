"""Forms and questionnaires that nobody here wrote: totals are right, what does not fit is known to the last value."""

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from central_broker.content_decoding import content_of
from central_broker.forms.answers import Finding, rows_of
from central_broker.forms.columns import FormTables, tables_of
from central_broker.forms.definition import AnswerType, FormDefinition
from central_broker.forms.values import Rule
from central_broker.forms.xform import read_xform
from central_broker.forms.xlsform import convert
from sync_protocol.content import MEDIA_TYPE_XML

pytestmark = pytest.mark.shared_data

TRANSPORT = "form_transportation_2011_07_25"
TYPES_OF_TRANSPORT = "available_transportation_types_to_referral_facility"


def as_xml_has_it(value: Any) -> Any:
    """Return JSON as `content_of` makes it of XForm XML with the same answers."""
    if isinstance(value, dict):
        return {name: as_xml_has_it(member) for name, member in value.items()}
    if isinstance(value, list):
        return as_xml_has_it(value[0]) if len(value) == 1 else [as_xml_has_it(one) for one in value]
    return str(value)


@pytest.mark.parametrize("as_xml", [False, True], ids=["json", "xml"])
def test_every_popstan_household_is_tabulated(popstan_folder: Path, as_xml: bool) -> None:
    tables = tables_of(read_xform(convert(popstan_folder / "household-form.md").xform))
    assert [table.name for table in tables.tables] == ["form_popstan_household", "form_popstan_household__persons"]
    household, person = ([column.name for column in table.columns] for table in tables.tables)
    households: list[dict[str, Any]] = []
    persons: list[dict[str, Any]] = []
    found: Counter[tuple[str, ...]] = Counter()
    with gzip.open(popstan_folder / "households.jsonl.gz", "rt") as lines:
        for line in lines:
            document = json.loads(line)
            content = document["questionnaire"] | {"housing": document["housing"], "persons": document["persons"]}
            tabulated = rows_of(tables, as_xml_has_it(content) if as_xml else content)
            households += [dict(zip(household, row, strict=True)) for row in tabulated.rows[0]]
            persons += [dict(zip(("position", "parent", *person), row, strict=True)) for row in tabulated.rows[1]]
            found.update((one.rule.value, *one.path) for one in tabulated.findings)
            answers = sum(len(part) for part in (document["questionnaire"], document["housing"], *document["persons"]))
            kept = [value for row in (tabulated.rows[0][0], *(row[2:] for row in tabulated.rows[1])) for value in row]
            assert sum(value is not None for value in kept) == answers
    totals = json.loads((popstan_folder / "totals.json").read_text())
    assert len(households) == totals["households"] and len(persons) == totals["persons"]
    assert Counter(str(one["province"]) for one in households) == totals["province"]
    assert Counter(one["p03_sex"] for one in persons) == totals["sex"]
    assert sum(one["p04_age"] for one in persons) == totals["sum_age"]
    # The form lists a classification of industries of two digits; most persons were coded by another one.
    assert found == {("not_a_choice", "persons", "p16_ind"): 8313}


@pytest.fixture(scope="module")
def transportation(openrosa_folder: Path) -> FormDefinition:
    """The definition of the form as its XML has it."""
    return read_xform((openrosa_folder / "transportation" / "form.xml").read_bytes())


def test_the_transportation_form_is_read(transportation: FormDefinition) -> None:
    assert (transportation.form, transportation.version) == ("transportation_2011_07_25", "201411120717")
    by_path = {question.path: question for question in transportation.questions}
    assert by_path[("transport", TYPES_OF_TRANSPORT)].type is AnswerType.SELECT_MULTIPLE
    assert "keke_pepe" in (by_path[("transport", TYPES_OF_TRANSPORT)].choices or ())
    assert by_path[("image1",)].type is AnswerType.FILE
    kinds = Counter(question.type.value for question in transportation.questions)
    assert kinds == {"select_one": 10, "select_multiple": 1, "file": 1, "text": 2} and transportation.repeats == ()


def test_the_xlsform_of_it_asks_the_same(openrosa_folder: Path, transportation: FormDefinition) -> None:
    earlier = read_xform(convert(openrosa_folder / "transportation" / "form.xlsx").xform)
    assert (earlier.form, earlier.version) == (transportation.form, "2014111")
    differences = set(earlier.questions) ^ set(transportation.questions)
    assert {question.path for question in differences} == {("formhub", "uuid")}
    before = tables_of(earlier)
    after = tables_of(transportation, before.tables)
    added = {column.name for column in after.tables[0].columns} - {column.name for column in before.tables[0].columns}
    assert added == {"formhub__uuid"} and before.places.items() <= after.places.items()


def test_all_submissions_of_the_transportation_form_are_tabulated(
    openrosa_folder: Path, transportation: FormDefinition
) -> None:
    tables = tables_of(transportation)
    numbers = {table.name: number for number, table in enumerate(tables.tables)}
    chosen: Counter[object] = Counter()
    images: Counter[object] = Counter()
    found: list[Finding] = []
    submissions = sorted((openrosa_folder / "transportation").glob("instances*.xml"))
    assert len(submissions) == 12
    for path in submissions:
        content = json.loads(content_of(MEDIA_TYPE_XML, path.read_bytes()))
        tabulated = rows_of(tables, content)
        choices = tables.places[("transport", TYPES_OF_TRANSPORT)].table
        chosen.update(row[1] for row in tabulated.rows[numbers[choices]])
        at = [column.name for column in tables.tables[0].columns].index("image1")
        images.update(row[at] for row in tabulated.rows[numbers[TRANSPORT]] if row[at])
        found += tabulated.findings
    assert chosen == {"ambulance": 6, "bicycle": 5, "none": 4, "taxi": 1, "other": 1}
    assert images == {"1335783522563.jpg": 3, "ona_png_image.png": 1}
    rules = Counter((one.rule, one.path[-1], one.value) for one in found)
    assert rules == {
        (Rule.NOT_A_CHOICE, TYPES_OF_TRANSPORT, "none"): 4,
        (Rule.NOT_A_CHOICE, "frequency_to_referral_facility", "monthly"): 1,
    }


def test_a_questionnaire_of_250_questions_is_tabulated(openrosa_folder: Path) -> None:
    folder = openrosa_folder / "250q"
    tables: FormTables = tables_of(read_xform((folder / "form.xml").read_bytes()))
    counter = iter(range(1000))
    template = (folder / "submission.template.xml").read_text()
    body = re.sub(r"\{\{\w+\}\}", lambda _: str(next(counter)), template).encode()
    tabulated = rows_of(tables, json.loads(content_of(MEDIA_TYPE_XML, body)))
    assert tabulated.rows == ([tuple(str(number) for number in range(1, 251))],) and tabulated.findings == []
