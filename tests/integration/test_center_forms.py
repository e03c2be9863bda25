"""`central-broker forms` and `reprocess`, as an operator types them."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from central_broker.acceptance import decode_whole
from central_broker.storage import open_storage
from central_broker.storage.batch_records import Batch
from sync_protocol.form_file import read_file
from sync_protocol.statement import parse_statement
from tests.support.center import LinkChain
from tests.support.center_commands import CenterCommands
from tests.support.processes import free_port

FORM = """\
| survey | | | | |
| | type | name | label | required |
| | text | village | Village | yes |
| | integer | rooms | Rooms | |
| | begin_repeat | persons | Persons | |
| | integer | age | Age | yes |
| | select_multiple tongue | languages | Languages | |
| | end_repeat | | | |
| choices | | | |
| | list_name | name | label |
| | tongue | kk | Kazakh |
| | tongue | ru | Russian |
| settings | | | |
| | form_id | version | form_title |
| | household | {version} | Household |
"""
FAULTY = FORM.replace("select_multiple tongue", "select_multiple nowhere")


@pytest.fixture
def commands(tmp_path: Path) -> CenterCommands:
    made = CenterCommands(tmp_path / "center")
    made.make_small(free_port(), free_port())
    return made


def written(folder: Path, text: str, name: str = "household.md") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def database(commands: CenterCommands) -> Path:
    (path,) = (commands.folder / "state").glob("*.sqlite3")
    return path


def test_an_xlsform_becomes_tables_that_are_listed_and_shown(commands: CenterCommands, tmp_path: Path) -> None:
    said = commands.run("forms", "add", written(tmp_path, FORM.format(version=1)))
    assert "household is accepted in version 1: Household" in said
    assert "form_household__persons" in said and "choices" in said
    assert "reprocess" not in said and "held" not in said
    (listed,) = commands.json("forms", "list")
    assert (listed["form"], listed["version"], listed["title"], listed["tables"]) == ("household", "1", "Household", 3)
    shown = commands.json("forms", "show", "household")
    assert shown["findings"] == []
    assert {one["table"]: [column["column"] for column in one["columns"]] for one in shown["tables"]} == {
        "form_household": ["village", "rooms"],
        "form_household__persons": ["age"],
        "form_household__persons__languages": ["choice"],
    }
    assert "form_household__persons" in commands.run("forms", "show", "household")


def test_the_forms_of_the_census_are_added_by_their_ids(commands: CenterCommands) -> None:
    for form in ("census_household", "census_temporary", "census_institution"):
        added = commands.json("forms", "add", form)
        assert (added["form"], added["warnings"]) == (form, [])
        assert {one["kind"] for one in added["tables"]} >= {"questionnaire", "repeat"}


def test_a_changed_form_needs_a_new_version_which_adds_columns(commands: CenterCommands, tmp_path: Path) -> None:
    commands.run("forms", "add", written(tmp_path, FORM.format(version=1)))
    changed = FORM.replace("| | integer | rooms", "| | integer | wells | Wells | |\n| | integer | rooms")
    said = commands.refuse("forms", "add", written(tmp_path, changed.format(version=1)))
    assert "another form household of version '1'" in said and "--replace" in said
    added = commands.json("forms", "add", written(tmp_path, changed.format(version=2)))
    assert {one["table"]: one["new"] for one in added["tables"]}["form_household"] == 1
    again = commands.json("forms", "add", written(tmp_path, changed.format(version=2)))
    assert not any(one["new"] for one in again["tables"])
    assert [one["version"] for one in commands.json("forms", "list")] == ["1", "2"]
    commands.run("forms", "add", written(tmp_path, changed.format(version=1)), "--replace")


def test_files_that_are_no_forms_are_refused_with_what_is_wrong(commands: CenterCommands, tmp_path: Path) -> None:
    assert "nowhere" in commands.refuse("forms", "add", written(tmp_path, FAULTY.format(version=1)))
    assert "no Excel workbook" in commands.refuse("forms", "add", written(tmp_path, "text", "a.xlsx"))
    commands.refuse("forms", "add", written(tmp_path, "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "a.xml"))
    commands.refuse("forms", "add", written(tmp_path, "<a/>", "a.xml"))
    assert "cannot be read" in commands.refuse("forms", "add", tmp_path / "absent.xlsx")
    assert "leave --version out" in commands.refuse("forms", "add", tmp_path / "a.xml", "--version", "1")
    assert "not known" in commands.refuse("forms", "show", "household")
    assert commands.json("forms", "list") == []


def test_questionnaires_that_came_before_their_form_become_rows_by_reprocess(
    commands: CenterCommands, tmp_path: Path
) -> None:
    commands.run("forms", "add", "household")
    assert "only the id is known" in commands.refuse("reprocess", "household")
    chain = LinkChain("a")
    body = '{"village":"Аксу","rooms":"three","persons":[{"age":33,"languages":"kk ru"},{"languages":"xx"}]}'
    with closing(open_storage(f"sqlite:///{database(commands)}")) as storage:
        storage.commit(Batch([chain.accepted(content=body)]), decode_whole, 1)
    with closing(sqlite3.connect(database(commands))) as connection, connection:
        connection.execute("UPDATE questionnaire SET form = 'household'")
    said = commands.run("forms", "add", written(tmp_path, FORM.format(version=1)))
    assert "central-broker reprocess household" in said
    assert "1 questionnaires made into rows" in commands.run("reprocess", "household")
    assert commands.json("reprocess", "household") == {
        "made": 1,
        "without_definition": 0,
        "unreadable": 0,
        "findings": 3,
    }
    with closing(sqlite3.connect(database(commands))) as connection:
        assert connection.execute("SELECT village, rooms FROM form_household").fetchall() == [("Аксу", None)]
        assert connection.execute("SELECT age FROM form_household__persons ORDER BY position").fetchall() == [
            (33,),
            (None,),
        ]
        choices = "SELECT position, choice FROM form_household__persons__languages ORDER BY 1, 2"
        assert connection.execute(choices).fetchall() == [(1, "kk"), (1, "ru"), (2, "xx")]
    found = {(one["path"], one["rule"]) for one in commands.json("forms", "show", "household")["findings"]}
    assert found == {
        ("rooms", "not_a_number"),
        ("persons/languages", "not_a_choice"),
        ("persons/age", "missing_required"),
    }


def with_picture(version: int, picture: str) -> str:
    image = f"| | note | plan | Plan | | {picture} |\n| | text | village"
    head = FORM.replace("| label | required |", "| label | required | media::image |", 1)
    return head.replace("| | text | village", image, 1).format(version=version)


def test_files_go_with_the_form_that_names_them_and_are_taken_back_with_it(
    commands: CenterCommands, tmp_path: Path
) -> None:
    commands.run("forms", "add", written(tmp_path, with_picture(1, "plan.png")))
    assert "plan.png" in commands.refuse("forms", "publish", "household")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    noise = random.Random(7).randbytes(250 * 1024)
    (pictures / "plan.png").write_bytes(noise)
    said = commands.refuse("forms", "publish", "household", "--files", pictures)
    assert "plan.png has 256,000 bytes" in said and "make the picture smaller" in said
    assert not any(one["published"] for one in commands.json("forms", "list"))
    (pictures / "plan.png").write_bytes(noise[: 150 * 1024])
    assert commands.json("forms", "publish", "household", "--files", pictures)["files_bytes"] > 150 * 1024
    commands.run("forms", "add", written(tmp_path, with_picture(2, "map.png")))
    (pictures / "map.png").write_bytes(b"map")
    said = commands.run("forms", "publish", "household", "--files", pictures)
    assert "warning: plan.png is not given to devices" in said
    with closing(open_storage(f"sqlite:///{database(commands)}")) as storage:
        given = {name: read_file(parse_statement(data)).content for _, name, data in storage.form_files()}
    assert given == {"map.png": b"map", "plan.png": b""}
    assert "stop offering household" in commands.run("forms", "withdraw", "household")
    assert "nothing to withdraw" in commands.run("forms", "withdraw", "household")
    assert "withdrawn" in commands.run("forms", "list")
