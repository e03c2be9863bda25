"""One suite over both databases: forms become tables, and questionnaires rows of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from central_broker.acceptance import decode_whole
from central_broker.forms.answers import Finding
from central_broker.forms.tables import Column, ColumnType, Table, TableKind
from central_broker.forms.values import Rule
from central_broker.storage.batch_records import Batch, OutcomeKind, PartContent, QuestionnaireContent, Unreadable
from central_broker.storage.census_records import FormRecord
from central_broker.storage.contract import Storage, StorageRefused
from tests.support.census_databases import rows, storage, url
from tests.support.census_rows import ANSWERS, FORM, HOUSEHOLD, TABLES, answered, known_by_name
from tests.support.center import LinkChain

__all__ = ["storage", "url"]


def test_answers_become_typed_rows_beside_the_exact_body(storage: Storage) -> None:
    storage.store_form(FORM, TABLES)
    chain = LinkChain("a")
    result = storage.commit(Batch([answered(chain, ages=[33, None])]), decode_whole, 1)
    assert result.envelopes[0].kind is OutcomeKind.STORED
    assert rows(storage, "SELECT village, rooms, area FROM form_household") == [("Аксу", 3, 41.5)]
    assert rows(storage, "SELECT count(*) FROM form_household WHERE owned AND visited < '2021-10-06'") == [(1,)]
    assert rows(storage, "SELECT position, parent_position, age FROM form_household_persons ORDER BY position") == [
        (1, 1, 33),
        (2, 1, None),
    ]
    speakers = "SELECT count(*) FROM form_household_persons_languages WHERE choice = 'kk'"
    assert rows(storage, speakers) == [(2,)]
    joined = "SELECT h.village, q.batch = h.batch FROM form_household h JOIN questionnaire q USING (origin, id)"
    assert [(village, bool(same)) for village, same in rows(storage, joined)] == [("Аксу", True)]


def test_a_questionnaire_that_comes_again_makes_no_rows_again(storage: Storage) -> None:
    storage.store_form(FORM, TABLES)
    envelope = answered(LinkChain("a"), ages=[1])
    for now in (1, 2):
        storage.commit(Batch([envelope, envelope]), decode_whole, now)
    assert rows(storage, "SELECT count(*) FROM form_household") == [(1,)]
    assert rows(storage, "SELECT count(*) FROM form_household_persons") == [(1,)]


def test_findings_stand_beside_the_row_that_is_kept(storage: Storage) -> None:
    storage.store_form(FORM, TABLES)
    found = [
        Finding(("persons", "age"), 2, Rule.NOT_A_NUMBER, "forty"),
        Finding(("rooms",), 1, Rule.OUT_OF_RANGE, "9" * 30),
    ]
    answers = ("Аксу", None, *ANSWERS[2:])
    storage.commit(Batch([answered(LinkChain("a"), answers, ages=[33, None], findings=found)]), decode_whole, 1)
    assert rows(storage, "SELECT rooms FROM form_household") == [(None,)]
    assert rows(storage, "SELECT path, position, value FROM finding ORDER BY path") == [
        ("persons/age", 2, "forty"),
        ("rooms", 1, "9" * 30),
    ]
    assert storage.finding_counts("household") == [("persons/age", "not_a_number", 1), ("rooms", "out_of_range", 1)]


def test_a_new_version_adds_columns_and_drops_none(storage: Storage) -> None:
    storage.store_form(FORM, TABLES)
    chain = LinkChain("a")
    storage.commit(Batch([answered(chain, ages=[1])]), decode_whole, 1)
    second = replace(HOUSEHOLD, columns=(HOUSEHOLD.columns[0], Column("wells", ColumnType.INTEGER)))
    pets = Table("form_household_pets", TableKind.REPEAT, (Column("kind", ColumnType.TEXT),))
    storage.store_form(replace(FORM, version="2"), (second, pets))
    tables = {table.name: table for table in storage.form_tables("household")}
    assert tables["form_household"].columns == (*HOUSEHOLD.columns, Column("wells", ColumnType.INTEGER))
    assert set(tables) == {*(table.name for table in TABLES), "form_household_pets"}
    assert storage.form_tables("household")[0].kind is TableKind.QUESTIONNAIRE
    assert rows(storage, "SELECT village, wells FROM form_household_current") == [("Аксу", None)]
    # Consumers that have not heard of it yet go on writing rows of the first.
    storage.commit(Batch([answered(chain, instance="uuid:2")]), decode_whole, 2)
    assert rows(storage, "SELECT count(*) FROM form_household") == [(2,)]


def test_storing_a_form_again_changes_nothing_but_what_it_says(storage: Storage) -> None:
    version = storage.directory_version()
    for title in ("Household", "Үй шаруашылығы"):
        storage.store_form(replace(FORM, title=title), TABLES)
    assert [(one.form, one.version, one.title, one.xform) for one in storage.form_records()] == [
        ("household", "1", "Үй шаруашылығы", b"<form/>")
    ]
    assert storage.directory_version() > version
    assert storage.forms() == [("household", "1")]


def test_a_column_never_changes_its_type(storage: Storage) -> None:
    storage.store_form(FORM, TABLES)
    with pytest.raises(StorageRefused, match="rooms"):
        storage.store_form(FORM, [replace(HOUSEHOLD, columns=(Column("rooms", ColumnType.TEXT),))])
    assert storage.form_tables("household")[0].columns == HOUSEHOLD.columns


@pytest.mark.parametrize("name", ["", "Form", 'a"b', "a; drop table envelope", "1a", "a" * 64, "тест"])
def test_a_name_that_is_none_reaches_no_statement(storage: Storage, name: str) -> None:
    with pytest.raises(StorageRefused, match="cannot be the name"):
        storage.store_form(FORM, [replace(HOUSEHOLD, name=name)])
    with pytest.raises(StorageRefused, match="cannot be the name"):
        storage.store_form(FORM, [replace(HOUSEHOLD, columns=(Column(name, ColumnType.TEXT),))])
    assert storage.forms() == []


def test_an_edit_takes_the_place_of_what_it_replaces_and_nothing_is_deleted(storage: Storage) -> None:
    storage.store_form(FORM, TABLES)
    one, other = LinkChain("a"), LinkChain("b")
    edits = [
        answered(one, ("first", *ANSWERS[1:]), instance="uuid:1"),
        answered(one, ("second", *ANSWERS[1:]), instance="uuid:2", replaces="uuid:1"),
        answered(other, ("third", *ANSWERS[1:]), instance="uuid:3", replaces="uuid:2"),
        answered(other, ("alone", *ANSWERS[1:]), instance="uuid:4", replaces="uuid:4"),
    ]
    for now, envelope in enumerate(edits, start=1):
        storage.commit(Batch([envelope]), decode_whole, now)
    assert rows(storage, "SELECT village FROM form_household_current ORDER BY village") == [("alone",), ("third",)]
    assert rows(storage, "SELECT count(*) FROM form_household") == [(4,)]


def test_of_several_with_one_instance_id_the_first_one_committed_counts(storage: Storage) -> None:
    storage.store_form(FORM, TABLES)
    for now, (name, chain) in enumerate((("first", LinkChain("z")), ("second", LinkChain("a"))), start=1):
        storage.commit(Batch([answered(chain, (name, *ANSWERS[1:]))]), decode_whole, now)
    assert rows(storage, "SELECT village FROM form_household_current") == [("first",)]


def test_what_the_database_refuses_is_held_and_costs_no_other(storage: Storage) -> None:
    storage.store_form(FORM, TABLES)
    chain = LinkChain("a")
    bad = answered(chain, ("Аксу", 1 << 70, *ANSWERS[2:]), instance="uuid:2")
    result = storage.commit(Batch([answered(chain), bad, answered(chain, instance="uuid:3")]), decode_whole, 1)
    kinds = [outcome.kind for outcome in result.envelopes]
    assert kinds == [OutcomeKind.STORED, OutcomeKind.HELD, OutcomeKind.STORED]
    assert rows(storage, "SELECT count(*) FROM form_household") == [(2,)]


def test_answers_are_replaced_with_rows_findings_and_content(storage: Storage) -> None:
    storage.store_form(FORM, TABLES)
    chain = LinkChain("a")
    found = [Finding(("rooms",), 1, Rule.NOT_A_NUMBER, "three")]
    first = answered(chain, ("Аксу", None, *ANSWERS[2:]), ages=[1, 2], findings=found)
    plain = known_by_name(chain)
    assert isinstance(plain.content, QuestionnaireContent)
    storage.commit(Batch([first, plain]), decode_whole, 1)
    stored = storage.questionnaires("household", (b"", b""), 10)
    assert {one.id for one in stored} == {first.link.id, plain.link.id}
    assert [one.body for one in stored if one.id == plain.link.id] == [plain.content.body]
    content = answered(LinkChain("x"), ages=[5]).content
    for _ in range(2):
        storage.replace_answers("household", [(one, content) for one in stored])  # type: ignore[misc]
    assert rows(storage, "SELECT rooms FROM form_household") == [(3,), (3,)]
    assert rows(storage, "SELECT age FROM form_household_persons") == [(5,), (5,)]
    assert storage.finding_counts("household") == []
    key = max((one.origin, one.id) for one in stored)
    assert storage.questionnaires("household", key, 10) == []
    assert len(storage.questionnaires("household", (b"", b""), 1)) == 1


def test_a_joined_questionnaire_becomes_rows_at_once_or_when_it_can_be_read(storage: Storage) -> None:
    storage.store_form(FORM, TABLES)
    content = answered(LinkChain("x"), ages=[5]).content
    assert isinstance(content, QuestionnaireContent)

    def readable(part: PartContent, body: bytes) -> QuestionnaireContent | Unreadable:
        return replace(content, instance_id=part.instance_id, body=body)

    storage.commit(Batch(LinkChain("a").parts(b"one, in parts", 2)), readable, 1)
    assert rows(storage, "SELECT village, batch > 0 FROM form_household") == [("Аксу", True)]
    storage.commit(Batch(LinkChain("b").parts(b"another, in parts", 2)), decode_whole, 2)
    assert rows(storage, "SELECT count(*) FROM form_household") == [(1,)]
    [record] = storage.held()
    assert storage.retry_wholes([record.id], readable) == 1
    assert rows(storage, "SELECT count(*) FROM form_household") == [(2,)]
    assert rows(storage, "SELECT age FROM form_household_persons") == [(5,), (5,)]
    joined = "SELECT count(*) FROM form_household h JOIN questionnaire q USING (origin, id) WHERE q.batch = h.batch"
    assert rows(storage, joined) == [(2,)]


def test_a_form_known_by_name_only_takes_questionnaires_without_rows(storage: Storage) -> None:
    storage.allow_form("household")
    envelope = known_by_name(LinkChain("a"))
    assert storage.commit(Batch([envelope]), decode_whole, 1).envelopes[0].kind is OutcomeKind.STORED
    assert storage.form_records() == [FormRecord("household", "")]
    assert storage.form_tables("household") == []
