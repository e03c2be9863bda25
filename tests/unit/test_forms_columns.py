"""Which tables and columns a form gets, and that versions in any order agree on them."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from central_broker.forms.answers import rows_of
from central_broker.forms.columns import COLUMNS_MAX, Place, tables_of
from central_broker.forms.definition import AnswerType, FormDefinition, FormRefused, Path, Question
from central_broker.forms.names import KEY_COLUMNS, SYSTEM_COLUMNS, column_name, form_table_name
from central_broker.forms.tables import Column, ColumnType, Table, TableKind
from tests.support.xforms import asked, definition, tables_with

SAFE = re.compile(r"[a-z][a-z0-9_]{0,62}")
TYPES = {
    AnswerType.INTEGER: ColumnType.INTEGER,
    AnswerType.DECIMAL: ColumnType.REAL,
    AnswerType.BOOLEAN: ColumnType.BOOLEAN,
    AnswerType.DATE: ColumnType.DATE,
    AnswerType.TIME: ColumnType.TIME,
    AnswerType.DATETIME: ColumnType.TIMESTAMP,
    AnswerType.GEOPOINT: ColumnType.REAL,
}


def test_a_form_its_repeats_and_its_select_multiples_have_tables() -> None:
    tables = tables_with(
        asked("age", AnswerType.INTEGER),
        asked("housing/langs", AnswerType.SELECT_MULTIPLE),
        asked("persons/where", AnswerType.GEOPOINT),
        asked("persons/job/hours", AnswerType.DECIMAL),
        asked("persons/jobs/at", AnswerType.DATETIME),
        repeats=(("persons",), ("persons", "jobs")),
        form="household",
    )
    real = ColumnType.REAL
    assert tables.tables == (
        Table("form_household", TableKind.QUESTIONNAIRE, (Column("age", ColumnType.INTEGER),)),
        Table(
            "form_household__persons",
            TableKind.REPEAT,
            (
                *(Column(f"where___{name}", real) for name in ("latitude", "longitude", "altitude", "accuracy")),
                Column("job__hours", real),
            ),
        ),
        Table("form_household__persons__jobs", TableKind.REPEAT, (Column("at", ColumnType.TIMESTAMP),)),
        Table("form_household__housing__langs", TableKind.CHOICES, (Column("choice", ColumnType.TEXT),)),
    )
    assert tables.places[("persons", "job", "hours")] == Place("form_household__persons", ("job__hours",))
    assert tables.places[("housing", "langs")] == Place("form_household__housing__langs", ("choice",))
    assert tables.places[("persons",)] == Place("form_household__persons")
    assert tables.places[()] == Place("form_household")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Age", "age"),
        ("first-name.2", "first_name_2"),
        ("_id_", "id___answer"),
        ("a__b", "a_b"),
        ("g/a_b", "g__a_b"),
        ("order", "order"),
        ("position", "position___answer"),
        ("xmin", "xmin___answer"),
        ("_1a", "q1a"),
        ("возраст", "x___########"),
        ("g/жасы", "g___########"),
    ],
)
def test_columns_are_called_as_their_questions_as_far_as_databases_allow(path: str, name: str) -> None:
    found = column_name(tuple(path.split("/")), told_apart=False)
    assert re.sub("___[0-9a-f]{8}$", "___########", found) == name and SAFE.fullmatch(found)


def test_a_long_path_keeps_its_last_names() -> None:
    path = ("transport", "loop_over_transport_types_frequency", "boat_canoe", "frequency_to_referral_facility")
    name = column_name(path, told_apart=False)
    assert name.startswith("boat_canoe__frequency_to_referral_facility___") and len(name) <= 63


def test_questions_that_are_called_alike_are_told_apart() -> None:
    tables = tables_with(asked("Age"), asked("age"), asked("a_ge"), asked("persons-/x"), repeats=(("persons-",),))
    names = [column.name for column in tables.tables[0].columns]
    assert len(set(names)) == 3 and names[2] == "a_ge" and all(SAFE.fullmatch(name) for name in names)


@pytest.mark.parametrize("other", ["F", "f-", "f ", "", "f__persons", "форма", "f" * 60, "f" * 61, "f" * 250, "1", "_"])
def test_forms_never_share_a_table(other: str) -> None:
    names = {form_table_name("f"), "form_f__persons", form_table_name("f" * 59), form_table_name(other)}
    assert len(names) == 4 and all(SAFE.fullmatch(name) for name in names)


def test_a_version_adds_columns_and_keeps_all_others() -> None:
    first = tables_with(asked("a"), asked("b", AnswerType.INTEGER))
    second = tables_of(definition(asked("c"), asked("b", AnswerType.INTEGER)), first.tables)
    assert [column.name for column in second.tables[0].columns] == ["a", "b", "c"]
    assert second.places[("b",)] == first.places[("b",)]
    assert rows_of(second, {"b": 2, "c": "x"}).rows == ([(None, 2, "x")],)


def test_a_question_whose_type_changed_gets_another_column() -> None:
    first = tables_with(asked("a"), asked("b", AnswerType.SELECT_MULTIPLE))
    retyped = definition(asked("a", AnswerType.DATE), asked("b/x"), repeats=(("b",),))
    second = tables_of(retyped, first.tables)
    assert second.places[("a",)].columns == ("a___date",)
    assert second.places[("b",)] == Place("form_f__b___repeat")
    assert tables_of(first.definition, second.tables).places == first.places
    assert tables_of(retyped, second.tables).tables == second.tables


def test_more_columns_than_a_database_takes_go_on_in_a_further_table() -> None:
    many = tuple(asked(f"p/q{number}", AnswerType.INTEGER) for number in range(COLUMNS_MAX - 1))
    tables = tables_with(*many, asked("p/where", AnswerType.GEOPOINT), asked("p/last"), repeats=(("p",),))
    assert [(table.name, table.kind, len(table.columns)) for table in tables.tables] == [
        ("form_f", TableKind.QUESTIONNAIRE, 0),
        ("form_f__p", TableKind.REPEAT, COLUMNS_MAX - 1),
        ("form_f__p___2", TableKind.REPEAT, 5),
    ]
    assert tables.places[("p", "last")] == Place("form_f__p___2", ("last",))
    person = {"q0": "7", "where": "1 2 3 4", "last": "x"}
    rows = rows_of(tables, {"p": [{}, person]}).rows
    assert rows[1][1][:3] == (2, 1, 7) and rows[2] == [(1, 1, *[None] * 5), (2, 1, 1.0, 2.0, 3.0, 4.0, "x")]
    more = tables_of(definition(*many, asked("p/one_more"), repeats=(("p",),)), tables.tables)
    assert more.places[("p", "one_more")].table == "form_f__p___2"


@pytest.mark.parametrize(
    ("questions", "repeats"),
    [
        ((asked("a"), asked("a")), ()),
        ((asked("a"), asked("a/b")), ()),
        ((asked("a"),), (("a",),)),
        ((asked("a"),), (("a", "b"),)),
        ((asked("p/a"),), (("p",), ("p",))),
    ],
)
def test_two_things_at_one_path_are_refused(questions: tuple[Question, ...], repeats: tuple[Path, ...]) -> None:
    with pytest.raises(FormRefused, match="rename"):
        tables_with(*questions, repeats=repeats)


NAMES = st.sampled_from(["a", "A", "a_b", "b", "a__b", "id", "жасы", "1", "-", "latitude", "choices", "n" * 30])


@st.composite
def versions(draw: st.DrawFn) -> FormDefinition:
    """A version of a form in which few names meet often: groups, repeats and questions of any type."""
    paths = draw(st.lists(st.lists(NAMES, min_size=1, max_size=4).map(tuple), max_size=12, unique=True))
    inner = {path[:length] for path in paths for length in range(1, len(path))}
    repeats = tuple(sorted(path for path in inner if draw(st.booleans())))
    leaves = [path for path in paths if path not in inner]
    return definition(*(Question(path, draw(st.sampled_from(AnswerType))) for path in leaves), repeats=repeats)


@settings(max_examples=200, deadline=None)
@given(st.lists(versions(), min_size=2, max_size=3))
def test_versions_loaded_in_any_order_find_columns_of_the_right_type(forms: list[FormDefinition]) -> None:
    for order in itertools.permutations(forms):
        tables: tuple[Table, ...] = ()
        places = []
        for form in order:
            grown = tables_of(form, tables)
            now = {table.name: table for table in grown.tables}
            for table in tables:
                assert now[table.name].kind is table.kind
                assert now[table.name].columns[: len(table.columns)] == table.columns
            tables = grown.tables
            places.append(grown.places)
        _check_names(tables)
        for form, before in zip(order, places, strict=True):
            after = tables_of(form, tables)
            assert after.tables == tables and after.places == before
            _check_types(form, tables, before)


def _check_names(tables: tuple[Table, ...]) -> None:
    assert len({table.name for table in tables}) == len(tables)
    for table in tables:
        names = [column.name for column in table.columns]
        assert len(set(names)) == len(names) <= COLUMNS_MAX and not (KEY_COLUMNS | SYSTEM_COLUMNS) & set(names)
        assert all(SAFE.fullmatch(name) for name in (table.name, *names))


def _check_types(form: FormDefinition, tables: tuple[Table, ...], places: object) -> None:
    assert isinstance(places, dict)
    columns = {(table.name, column.name): column.type for table in tables for column in table.columns}
    kinds = {table.name: table.kind for table in tables}
    taken: list[tuple[str, str]] = []
    for question in form.questions:
        place = places[question.path]
        assert len(place.columns) == (4 if question.type is AnswerType.GEOPOINT else 1)
        taken += [(place.table, name) for name in place.columns]
        assert all(columns[place.table, one] is TYPES.get(question.type, ColumnType.TEXT) for one in place.columns)
        in_choices = kinds[place.table] is TableKind.CHOICES
        assert in_choices is (question.type is AnswerType.SELECT_MULTIPLE)
    assert len(set(taken)) == len(taken)
    for repeat in form.repeats:
        assert kinds[places[repeat.path].table] is TableKind.REPEAT
