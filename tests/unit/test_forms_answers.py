"""What becomes of answers: which values the tables get, and what is found to be the matter with the others."""

import math
from collections.abc import Callable
from datetime import date, datetime, time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from central_broker.forms import answers
from central_broker.forms.answers import FINDING_CHARACTERS_MAX, Finding, Tabulated, rows_of
from central_broker.forms.columns import FormTables
from central_broker.forms.definition import AnswerType, Question
from central_broker.forms.tables import ColumnType, TableKind
from central_broker.forms.values import CHOICE_CHARACTERS_MAX, Rule
from tests.support.xforms import asked, tables_with

KEPT = object()
"""The value itself is in the column as text."""


def read(kind: AnswerType, value: Any, *, choices: str = "") -> tuple[Any, list[str]]:
    """Return what the only column of a question holds, and the rules found."""
    tabulated = rows_of(tables_with(asked("q", kind, choices=choices)), {"q": value})
    assert all((one.path, one.position) == (("q",), 1) for one in tabulated.findings)
    return tabulated.rows[0][0][0], [one.rule.value for one in tabulated.findings]


BIG = 2**63


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        (AnswerType.TEXT, "abc", "abc"),
        (AnswerType.TEXT, 5, "5"),
        (AnswerType.TEXT, 5.0, "5"),
        (AnswerType.TEXT, 5.25, "5.25"),
        (AnswerType.TEXT, True, "true"),
        pytest.param(AnswerType.TEXT, 10**5000, "an integer of more than 4,000 digits", id="many digits"),
        (AnswerType.FILE, "1.jpg", "1.jpg"),
        (AnswerType.INTEGER, "42", 42),
        (AnswerType.INTEGER, "-42", -42),
        (AnswerType.INTEGER, "+7", 7),
        (AnswerType.INTEGER, "007", 7),
        (AnswerType.INTEGER, " 7 ", 7),
        (AnswerType.INTEGER, "7.0", 7),
        (AnswerType.INTEGER, "7e2", 700),
        (AnswerType.INTEGER, 7, 7),
        (AnswerType.INTEGER, 7.0, 7),
        (AnswerType.INTEGER, 1e16, 10**16),
        (AnswerType.INTEGER, BIG - 1, BIG - 1),
        (AnswerType.INTEGER, -BIG, -BIG),
        (AnswerType.INTEGER, str(-BIG), -BIG),
        (AnswerType.INTEGER, "0" * 30 + "1", 1),
        (AnswerType.DECIMAL, "1.5", 1.5),
        (AnswerType.DECIMAL, ".5", 0.5),
        (AnswerType.DECIMAL, "-1e3", -1000.0),
        (AnswerType.DECIMAL, 3, 3.0),
        (AnswerType.DECIMAL, 3.5, 3.5),
        (AnswerType.DECIMAL, "1e-400", 0.0),
        (AnswerType.DECIMAL, 5e-324, 0.0),
        (AnswerType.BOOLEAN, "true", True),
        (AnswerType.BOOLEAN, "0", False),
        (AnswerType.BOOLEAN, True, True),
        (AnswerType.BOOLEAN, 1, True),
        (AnswerType.BOOLEAN, 0, False),
        (AnswerType.BOOLEAN, False, False),
        (AnswerType.DATE, "2026-09-01", "2026-09-01"),
        (AnswerType.DATE, "0001-01-01", "0001-01-01"),
        (AnswerType.DATE, "2024-02-29", "2024-02-29"),
        (AnswerType.DATE, "2026-09-01Z", "2026-09-01"),
        (AnswerType.DATE, "2026-09-01+06:00", "2026-09-01"),
        (AnswerType.DATE, "2026-09-01T23:59:59.000-05:00", "2026-09-01"),
        (AnswerType.DATE, "2026-09-01 00:00:00", "2026-09-01"),
        (AnswerType.TIME, "08:30", "08:30:00"),
        (AnswerType.TIME, "08:30:15.5", "08:30:15.500000"),
        (AnswerType.TIME, "08:30:00.000+06:00", "08:30:00"),
        (AnswerType.TIME, "24:00:00", "00:00:00"),
        (AnswerType.DATETIME, "2026-10-01T08:30:00.000+05:00", "2026-10-01T03:30:00+00:00"),
        (AnswerType.DATETIME, "2026-10-01T08:30:00Z", "2026-10-01T08:30:00+00:00"),
        (AnswerType.DATETIME, "2026-10-01T08:30:00.123456789Z", "2026-10-01T08:30:00.123456+00:00"),
        (AnswerType.DATETIME, "2026-10-01 08:30+0530", "2026-10-01T03:00:00+00:00"),
        (AnswerType.DATETIME, "2026-10-01T08:30:00-03", "2026-10-01T11:30:00+00:00"),
        (AnswerType.DATETIME, "2026-12-31T24:00:00Z", "2027-01-01T00:00:00+00:00"),
        (AnswerType.SELECT_ONE, "yes", "yes"),
        (AnswerType.SELECT_ONE, " yes ", "yes"),
        (AnswerType.SELECT_ONE, 1, "1"),
        (AnswerType.SELECT_ONE, 1.0, "1"),
    ],
)
def test_a_value_that_fits_is_kept(kind: AnswerType, value: Any, stored: Any) -> None:
    found, rules = read(kind, value, choices="yes no 1")
    assert (found, type(found), rules) == (stored, type(stored), [])


@pytest.mark.parametrize("kind", [kind for kind in AnswerType if kind is not AnswerType.SELECT_MULTIPLE])
@pytest.mark.parametrize("blank", [None, "", " \n", [], {}, [None, ""], {"a": {"b": ""}}])
def test_a_blank_is_null_and_no_finding(kind: AnswerType, blank: Any) -> None:
    assert read(kind, blank, choices="yes") == (None, [])


@pytest.mark.parametrize(
    ("kind", "value", "rule", "stored"),
    [
        (AnswerType.INTEGER, "many", Rule.NOT_A_NUMBER, None),
        (AnswerType.INTEGER, "1_000", Rule.NOT_A_NUMBER, None),
        (AnswerType.INTEGER, "١٢", Rule.NOT_A_NUMBER, None),
        (AnswerType.INTEGER, "²", Rule.NOT_A_NUMBER, None),
        (AnswerType.INTEGER, "3,5", Rule.NOT_A_NUMBER, None),
        (AnswerType.INTEGER, "3.5", Rule.NOT_WHOLE, None),
        (AnswerType.INTEGER, 3.5, Rule.NOT_WHOLE, None),
        (AnswerType.INTEGER, "9007199254740993.5", Rule.NOT_WHOLE, None),
        (AnswerType.INTEGER, True, Rule.NOT_A_NUMBER, None),
        (AnswerType.INTEGER, BIG, Rule.OUT_OF_RANGE, None),
        (AnswerType.INTEGER, -BIG - 1, Rule.OUT_OF_RANGE, None),
        (AnswerType.INTEGER, "9" * 300, Rule.OUT_OF_RANGE, None),
        (AnswerType.INTEGER, "1e999999999999999999999", Rule.OUT_OF_RANGE, None),
        (AnswerType.INTEGER, "1" * 5_000, Rule.NOT_A_NUMBER, None),
        (AnswerType.INTEGER, math.nan, Rule.NOT_A_NUMBER, None),
        (AnswerType.DECIMAL, "3,5", Rule.NOT_A_NUMBER, None),
        (AnswerType.DECIMAL, "NaN", Rule.NOT_A_NUMBER, None),
        (AnswerType.DECIMAL, "1e400", Rule.OUT_OF_RANGE, None),
        (AnswerType.DECIMAL, False, Rule.NOT_A_NUMBER, None),
        (AnswerType.BOOLEAN, "yes", Rule.NOT_A_BOOLEAN, None),
        (AnswerType.BOOLEAN, 2, Rule.NOT_A_BOOLEAN, None),
        (AnswerType.DATE, "2026-02-30", Rule.NOT_A_DATE, None),
        (AnswerType.DATE, "2026", Rule.NOT_A_DATE, None),
        (AnswerType.DATE, "20260901", Rule.NOT_A_DATE, None),
        (AnswerType.DATE, "2026-W01-1", Rule.NOT_A_DATE, None),
        (AnswerType.DATE, "01.09.2026", Rule.NOT_A_DATE, None),
        (AnswerType.DATE, "0000-01-01", Rule.NOT_A_DATE, None),
        (AnswerType.DATE, "2026-09-01T99:00", Rule.NOT_A_DATE, None),
        (AnswerType.DATE, 20260901, Rule.NOT_A_DATE, None),
        (AnswerType.DATE, "12026-09-01", Rule.OUT_OF_RANGE, None),
        (AnswerType.TIME, "8:30", Rule.NOT_A_TIME, None),
        (AnswerType.TIME, "24:01", Rule.NOT_A_TIME, None),
        (AnswerType.TIME, "08:30:60", Rule.NOT_A_TIME, None),
        (AnswerType.DATETIME, "2026-10-01", Rule.NOT_A_DATETIME, None),
        (AnswerType.DATETIME, "2026-10-01T25:00:00Z", Rule.NOT_A_DATETIME, None),
        (AnswerType.DATETIME, "2026-02-30T05:00:00Z", Rule.NOT_A_DATETIME, None),
        (AnswerType.DATETIME, "2026-10-01T05:00:00+14:30", Rule.NOT_A_DATETIME, None),
        (AnswerType.DATETIME, "2026-10-01T05:00:00", Rule.NO_OFFSET, None),
        (AnswerType.DATETIME, "12026-10-01T05:00:00Z", Rule.OUT_OF_RANGE, None),
        (AnswerType.DATETIME, "0001-01-01T00:00:00+05:00", Rule.OUT_OF_RANGE, None),
        (AnswerType.DATETIME, "9999-12-31T24:00:00Z", Rule.OUT_OF_RANGE, None),
        (AnswerType.SELECT_ONE, "maybe", Rule.NOT_A_CHOICE, KEPT),
        (AnswerType.SELECT_ONE, 9, Rule.NOT_A_CHOICE, KEPT),
        (AnswerType.SELECT_ONE, True, Rule.NOT_A_CHOICE, "true"),
        (AnswerType.SELECT_ONE, "x" * (CHOICE_CHARACTERS_MAX + 1), Rule.TOO_LONG, None),
        (AnswerType.GEOPOINT, "52.1", Rule.NOT_A_GEOPOINT, None),
        (AnswerType.GEOPOINT, "52.1 x", Rule.NOT_A_GEOPOINT, None),
        (AnswerType.GEOPOINT, "1 2 3 4 5", Rule.NOT_A_GEOPOINT, None),
        (AnswerType.GEOPOINT, "91 2", Rule.OUT_OF_RANGE, None),
        (AnswerType.GEOPOINT, "2 181", Rule.OUT_OF_RANGE, None),
        *((kind, {"a": "b"}, Rule.UNEXPECTED_STRUCTURE, None) for kind in AnswerType if "multiple" not in kind),
    ],
)
def test_a_value_that_does_not_fit_is_found(kind: AnswerType, value: Any, rule: Rule, stored: Any) -> None:
    found, rules = read(kind, value, choices="yes no 1")
    assert (found, rules) == (str(value) if stored is KEPT else stored, [rule.value])


def test_a_select_whose_choices_nobody_knows_takes_any() -> None:
    assert read(AnswerType.SELECT_ONE, "whatever") == ("whatever", [])


def test_moments_in_utc_sort_as_texts() -> None:
    moments = [f"2026-10-01T08:30:0{more}Z" for more in ("0", "0.000001", "0.12", "0.123", "0.5", "1")]
    stored = [read(AnswerType.DATETIME, one)[0] for one in moments]
    assert stored == sorted(stored)


PLACE = tables_with(asked("where", AnswerType.GEOPOINT), asked("g/q"))


@pytest.mark.parametrize(
    ("value", "columns"),
    [
        ("52.1 71.5 340.5 4.2", (52.1, 71.5, 340.5, 4.2)),
        ("-90 180", (-90.0, 180.0, None, None)),
        ("1 2 3", (1.0, 2.0, 3.0, None)),
    ],
)
def test_a_place_has_four_columns(value: str, columns: tuple[float | None, ...]) -> None:
    tabulated = rows_of(PLACE, {"where": value})
    assert tabulated == Tabulated(([(*columns, None)],), [])


def test_of_an_answer_or_group_that_occurs_twice_the_first_that_is_not_blank_is_kept() -> None:
    tabulated = rows_of(PLACE, {"where": ["", "1 2", "3 4"], "g": ["", {"q": ["x", "y"]}, {"q": "z"}]})
    assert tabulated.rows == ([(1.0, 2.0, None, None, "x")],)
    assert tabulated.findings == [
        Finding(("where",), 1, Rule.OCCURS_TWICE, "3 4"),
        Finding(("g",), 1, Rule.OCCURS_TWICE, '{"q":"z"}'),
        Finding(("g", "q"), 1, Rule.OCCURS_TWICE, "y"),
    ]


LANGS = asked("g/langs", AnswerType.SELECT_MULTIPLE, choices="kk ru 1")


@pytest.mark.parametrize(
    ("value", "chosen", "rules"),
    [
        ("kk ru", ["kk", "ru"], []),
        (["kk", "ru"], ["kk", "ru"], []),
        (["kk ru", None, 1], ["kk", "ru", "1"], []),
        (1, ["1"], []),
        ("", [], []),
        (None, [], []),
        ([{}], [], []),
        ("kk de", ["kk", "de"], [Rule.NOT_A_CHOICE]),
        ("kk kk", ["kk"], [Rule.OCCURS_TWICE]),
        ("kk " + "x" * 501, ["kk"], [Rule.TOO_LONG]),
        (["kk", {"a": 1}], ["kk"], [Rule.UNEXPECTED_STRUCTURE]),
    ],
)
def test_each_choice_made_is_a_row(value: Any, chosen: list[str], rules: list[Rule]) -> None:
    tabulated = rows_of(tables_with(LANGS), {"g": {"langs": value}})
    assert tabulated.rows == ([()], [(1, one) for one in chosen])
    assert [one.rule for one in tabulated.findings] == rules


HOUSEHOLD = tables_with(
    asked("name"),
    asked("persons/age", AnswerType.INTEGER),
    asked("persons/langs", AnswerType.SELECT_MULTIPLE),
    asked("persons/jobs/title"),
    repeats=(("persons",), ("persons", "jobs")),
)


def test_rows_of_repeats_are_numbered_through_the_questionnaire_and_know_their_parents() -> None:
    content = {
        "name": "x",
        "persons": [
            {"age": "40", "jobs": {"title": "a"}, "langs": "kk ru"},
            {"age": "x", "jobs": [{"title": "b"}, {"title": "c"}]},
            "",
            {"age": "3", "langs": "ru"},
        ],
    }
    tabulated = rows_of(HOUSEHOLD, content)
    assert [table.name for table in HOUSEHOLD.tables] == [
        "form_f",
        "form_f__persons",
        "form_f__persons__jobs",
        "form_f__persons__langs",
    ]
    assert tabulated.rows == (
        [("x",)],
        [(1, 1, 40), (2, 1, None), (3, 1, None), (4, 1, 3)],
        [(1, 1, "a"), (2, 2, "b"), (3, 2, "c")],
        [(1, "kk"), (1, "ru"), (4, "ru")],
    )
    assert tabulated.findings == [Finding(("persons", "age"), 2, Rule.NOT_A_NUMBER, "x")]


@pytest.mark.parametrize(
    ("persons", "rows", "rules"),
    [
        ({"age": 5}, 1, []),
        ("", 1, []),
        ({}, 1, []),
        ([{}, {}], 2, []),
        ([], 0, []),
        (None, 0, []),
        ([None, {}], 1, []),
        ("five", 0, [Rule.UNEXPECTED_STRUCTURE]),
        (5, 0, [Rule.UNEXPECTED_STRUCTURE]),
        ([[{}]], 0, [Rule.UNEXPECTED_STRUCTURE]),
    ],
)
def test_an_occurrence_is_a_row_and_what_is_none_is_found(persons: Any, rows: int, rules: list[Rule]) -> None:
    tabulated = rows_of(HOUSEHOLD, {"persons": persons})
    assert len(tabulated.rows[1]) == rows and [one.rule for one in tabulated.findings] == rules


def test_what_the_form_does_not_ask_is_found_once_and_with_all_that_is_in_it() -> None:
    content = {"persons": [{}, {"weight": 80}], "more": {"a": [1, {"b": "ж"}]}, "note": "", "empty": {"note": ""}}
    assert rows_of(HOUSEHOLD, content).findings == [
        Finding(("persons", "weight"), 2, Rule.NOT_IN_FORM, "80"),
        Finding(("more",), 1, Rule.NOT_IN_FORM, '{"a":[1,{"b":"ж"}]}'),
    ]


def test_names_of_form_and_instance_are_no_answers() -> None:
    marks = {
        "@id": "f",
        "@version": "1",
        "@attachments": [{"name": "a.jpg", "bytes": 2}],
        "form": "f",
        "form_version": "1",
        "instance_id": "i",
        "instanceID": "i",
    }
    assert rows_of(HOUSEHOLD, marks | {"meta": {"instanceID": "i"}, "persons": {"meta": {"x": 1}}}).findings == []
    assert [one.path for one in rows_of(HOUSEHOLD, {"persons": {"form": "f"}}).findings] == [("persons", "form")]
    assert rows_of(tables_with(asked("form")), {"form": "answer"}).rows == ([("answer",)],)


def test_text_between_elements_and_answers_in_place_of_groups_are_found() -> None:
    tabulated = rows_of(PLACE, {"#text": "a", "g": "b"})
    assert tabulated.findings == [
        Finding((), 1, Rule.UNEXPECTED_STRUCTURE, "a"),
        Finding(("g",), 1, Rule.UNEXPECTED_STRUCTURE, "b"),
    ]


REQUIRED = tables_with(
    asked("a", AnswerType.INTEGER, required=True),
    asked("langs", AnswerType.SELECT_MULTIPLE, choices="kk", required=True),
    asked("where", AnswerType.GEOPOINT, required=True),
    asked("persons/b", required=True),
    repeats=(("persons",),),
)


def test_a_required_question_without_an_answer_is_found_in_every_row() -> None:
    tabulated = rows_of(REQUIRED, {"a": "", "persons": [{"b": "x"}, {}]})
    assert [(one.path, one.position, one.rule) for one in tabulated.findings] == [
        (("persons", "b"), 2, Rule.MISSING_REQUIRED),
        (("a",), 1, Rule.MISSING_REQUIRED),
        (("langs",), 1, Rule.MISSING_REQUIRED),
        (("where",), 1, Rule.MISSING_REQUIRED),
    ]


def test_a_required_question_whose_answer_does_not_fit_is_not_missing() -> None:
    tabulated = rows_of(REQUIRED, {"a": "x", "langs": "de", "where": "there"})
    assert [one.rule for one in tabulated.findings] == [Rule.NOT_A_NUMBER, Rule.NOT_A_CHOICE, Rule.NOT_A_GEOPOINT]


def test_long_values_of_findings_are_cut() -> None:
    (finding,) = rows_of(HOUSEHOLD, {"x" * 10_000: "y" * 10_000}).findings
    assert len(finding.value) == FINDING_CHARACTERS_MAX and len(finding.path[0]) == answers.NAME_CHARACTERS_MAX


def test_rows_and_findings_beyond_the_bounds_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "FINDINGS_MAX", 3)
    monkeypatch.setattr(answers, "CELLS_MAX", 100)
    tabulated = rows_of(HOUSEHOLD, {"persons": [{"age": "x"}] * 50})
    rows = len(tabulated.rows[1])
    assert 3 < rows < 20
    assert [(one.rule, one.value) for one in tabulated.findings[-2:]] == [
        (Rule.TOO_MANY_ROWS, str(50 - rows)),
        (Rule.TOO_MANY_FINDINGS, str(rows - 3)),
    ]
    assert len(tabulated.findings) == 5


def test_what_fills_a_whole_questionnaire_is_bounded() -> None:
    assert len(rows_of(HOUSEHOLD, {"persons": [{}] * 2_000_000}).rows[1]) < 1_200_000
    many = rows_of(tables_with(LANGS), {"g": {"langs": " ".join(map(str, range(200_000)))}})
    assert len(many.rows[1]) == answers.CHOICES_MAX and many.findings[-1].rule is Rule.TOO_LONG


def test_depth_that_no_decoder_lets_through_raises_nothing() -> None:
    deep: dict[str, Any] = {"x": 1}
    for _ in range(20_000):
        deep = {"x": deep}
    (finding,) = rows_of(HOUSEHOLD, deep).findings
    assert finding.rule is Rule.NOT_IN_FORM and finding.value


ALL_TYPES = tables_with(
    *(asked(str(kind), kind, choices="a b" if "select" in kind else "") for kind in AnswerType),
    *(asked(f"g/p/{kind}", kind, required=True) for kind in AnswerType),
    repeats=(("g", "p"),),
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.from_regex(r"\A[-+]?[0-9]{1,25}(\.[0-9]{0,3})?([eE]-?[0-9]{1,4})?\Z")
    | st.from_regex(r"\A[0-9]{4,5}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:?[0-9]{2})?)?\Z")
    | st.from_regex(r"\A[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?\Z")
    | st.from_regex(r"\A-?[0-9]{1,3}(\.[0-9])? -?[0-9]{1,3}( [0-9])*\Z")
    | st.sampled_from(["a", "a b", "true", "b a b", "24:00", " "])
)
KEYS = st.sampled_from([*AnswerType, "g", "p", "meta", "#text", "@id", "g/p"]) | st.text(max_size=3)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=30
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(KEYS, JSON, max_size=12) | st.fixed_dictionaries({"g": st.fixed_dictionaries({"p": JSON})}))
def test_any_object_becomes_rows_that_databases_take(content: dict[str, Any]) -> None:
    check_rows(ALL_TYPES, rows_of(ALL_TYPES, content))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(AnswerType), SCALARS)
def test_an_answer_is_in_its_column_or_found(kind: AnswerType, value: Any) -> None:
    tabulated = rows_of(tables_with(Question(("q",), kind, frozenset("ab"))), {"q": value})
    cells = [cell for rows in tabulated.rows for row in rows for cell in row]
    blank = value is None or (isinstance(value, str) and not value.strip())
    assert blank is (not tabulated.findings and all(cell is None for cell in cells))


def check_rows(tables: FormTables, tabulated: Tabulated) -> None:
    """Check that every row fits its table."""
    assert len(tabulated.rows) == len(tables.tables)
    for table, rows in zip(tables.tables, tabulated.rows, strict=True):
        keys = {TableKind.QUESTIONNAIRE: 0, TableKind.REPEAT: 2, TableKind.CHOICES: 1}[table.kind]
        assert len(rows) == 1 or keys
        for row in rows:
            assert len(row) == keys + len(table.columns) and all(type(key) is int for key in row[:keys])
            for column, value in zip(table.columns, row[keys:], strict=True):
                assert value is None or FITS[column.type](value), (column, value)
        if table.kind is TableKind.REPEAT:
            assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
        elif table.kind is TableKind.CHOICES:
            assert len(set(rows)) == len(rows)
    for finding in tabulated.findings:
        assert isinstance(finding.value, str) and isinstance(finding.rule, Rule) and finding.position >= 1


FITS: dict[ColumnType, Callable[[Any], bool]] = {
    ColumnType.TEXT: lambda value: type(value) is str and bool(value.strip()),
    ColumnType.INTEGER: lambda value: type(value) is int and -BIG <= value < BIG,
    ColumnType.REAL: lambda value: type(value) is float and math.isfinite(value),
    ColumnType.BOOLEAN: lambda value: type(value) is bool,
    ColumnType.DATE: lambda value: date.fromisoformat(value).isoformat() == value,
    ColumnType.TIME: lambda value: time.fromisoformat(value).isoformat() == value,
    ColumnType.TIMESTAMP: lambda value: datetime.fromisoformat(value).isoformat() == value and value.endswith("+00:00"),
}
