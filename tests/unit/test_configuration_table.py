"""What every program's configuration has in common: texts as TOML writes them, rules between keys, told mistakes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operations.configuration import (
    TEXT,
    WHOLE_NUMBER,
    AtMost,
    ConfigurationError,
    Different,
    Key,
    Mistake,
    Required,
    Table,
    check_document,
    read_configuration_text,
    sample_text,
)
from operations.configuration.table import Value, toml_value

TABLE = Table(
    heading=("A sample.",),
    sample_place="the sample",
    sections={"door": "The door.", "window": "The window."},
    keys=(
        Key("door", "width", WHOLE_NUMBER, 80, "How wide.", 1, 200),
        Key("door", "height", WHOLE_NUMBER, 200, "How high.", 1, 300),
        Key("door", "name", TEXT, Required.REQUIRED, "What is on it.", 0, 10, example='"exit"'),
        Key("window", "name", TEXT, "glass", "What is on it.", 0, 10),
    ),
    rules=(
        AtMost("door.width", "door.height"),
        Different("door.name", "window.name", "door and window have one name", "give each its own"),
    ),
)
NAMED = '[door]\nname = "exit"\n'


def _only_mistake(text: str) -> Mistake:
    (mistake,) = check_document(text, TABLE)[1]
    return mistake


def test_a_right_text_gives_its_values_and_the_defaults_of_the_rest() -> None:
    values, mistakes = check_document(NAMED + "width = 90\n", TABLE)
    assert mistakes == ()
    assert values == {"door": {"width": 90, "height": 200, "name": "exit"}, "window": {"name": "glass"}}


def test_a_value_with_a_mistake_is_left_out_and_the_others_are_there() -> None:
    values, mistakes = check_document(NAMED + "width = 0\n", TABLE)
    assert len(mistakes) == 1
    assert values["door"] == {"height": 200, "name": "exit"}


def test_a_first_number_above_its_second_is_told_at_the_line_that_is_there() -> None:
    mistake = _only_mistake(NAMED + "height = 70\n")
    assert (mistake.line, mistake.key) == (3, "door.width")
    assert mistake.problem == "80 is more than door.height, which is 70"


def test_two_values_that_must_differ_are_told_at_the_second() -> None:
    mistake = _only_mistake(NAMED + '[window]\nname = "exit"\n')
    assert mistake == Mistake(4, "window.name", "door and window have one name", "give each its own")


def test_a_rule_says_nothing_of_a_value_that_is_a_mistake_already() -> None:
    assert _only_mistake(NAMED + "height = 301\n").problem == "301 is more than 300"


def test_a_line_that_no_remedy_fits_is_to_be_compared_with_the_sample() -> None:
    assert _only_mistake(NAMED + 'other = "\\uD800"\n').remedy == "compare the line with the sample"


def test_the_sample_shows_defaults_sets_what_is_chosen_and_marks_what_is_missing() -> None:
    sample = sample_text(TABLE, {"door.height": 210})
    assert sample.splitlines()[0] == "# A sample."
    assert 'name = "exit"  # must be set' in sample
    assert "#width = 80" in sample
    assert check_document(sample, TABLE)[0]["door"] == {"width": 80, "height": 210, "name": "exit"}


def test_other_defaults_change_only_what_they_name() -> None:
    other = TABLE.with_defaults({"window.name": "pane"})
    assert check_document(NAMED, other)[0]["window"] == {"name": "pane"}
    assert check_document(NAMED, TABLE)[0]["window"] == {"name": "glass"}


values = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(st.characters(codec="utf-8")))


@given(st.one_of(values, st.lists(values).map(tuple)))
def test_a_value_written_as_toml_reads_as_it_was(value: Value) -> None:
    read = tomllib.loads(f"value = {toml_value(value)}\n")["value"]
    assert (tuple(read) if isinstance(value, tuple) else read) == value


def test_a_file_that_is_not_there_gets_the_programs_own_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_configuration_text(tmp_path / "absent.toml", absent_remedy="make one")
    assert caught.value.mistakes == (Mistake(None, None, "there is no such file", "make one"),)
    assert str(caught.value).startswith(f"{tmp_path / 'absent.toml'}: 1 mistake\n")
