"""center.toml: defaults, the sample, and every mistake told at once with its line."""

from __future__ import annotations

import typing
from datetime import date, datetime
from pathlib import Path

import pytest

from central_broker.configuration import (
    Configuration,
    ConfigurationError,
    Mistake,
    Value,
    load_configuration,
    parse_configuration,
    sample_configuration,
)
from central_broker.configuration_kinds import (
    ANY_PATH,
    DATABASE,
    DAY,
    LISTENING_ADDRESS,
    MOMENT,
    NAMES,
    OPTIONAL_ANY_PATH,
    WORD,
)
from central_broker.configuration_schema import CENTER_DEFAULT, table_of
from operations.configuration import Kind
from tests.support.configuration_tables import assert_table_makes

CENTER = Path("/srv/center")


def _mistakes(text: str) -> tuple[Mistake, ...]:
    with pytest.raises(ConfigurationError) as caught:
        parse_configuration(text, CENTER)
    return caught.value.mistakes


def test_an_empty_file_is_a_whole_center_below_its_own_folder() -> None:
    configuration = parse_configuration("", CENTER)
    assert configuration.database.url == "sqlite:////srv/center/state/census.sqlite3"
    assert configuration.directories.secrets == Path("/srv/center/secrets")
    assert configuration.tls.consumer_key == Path("/srv/center/secrets/consumer/tls.key")


def test_an_installed_center_keeps_its_state_where_the_system_expects_it() -> None:
    assert parse_configuration("", CENTER_DEFAULT).directories.state == Path("/var/lib/census-center")


def test_the_table_and_the_dataclasses_name_the_same_keys_with_the_same_types() -> None:
    sections = typing.get_type_hints(Configuration)
    assert sections.pop("center") is Path
    # A path left empty gets its place when the file is read, but for the passphrase's, which then is asked for.
    own_types: dict[Kind, set[object]] = {
        WORD: {str},
        DATABASE: {str},
        LISTENING_ADDRESS: {str},
        ANY_PATH: {Path},
        OPTIONAL_ANY_PATH: {Path, Path | None},
        NAMES: {tuple[str, ...]},
        DAY: {date},
        MOMENT: {datetime},
    }
    assert_table_makes(sections, table_of(CENTER), own_types)


def test_the_sample_loads_as_it_stands_and_chosen_values_count() -> None:
    assert parse_configuration(sample_configuration(CENTER), CENTER) == parse_configuration("", CENTER)
    chosen: dict[str, Value] = {
        "broker.names": ("10.8.0.1", "broker.census.example"),
        "broker.port": 1,
        "broker.user": "root",
    }
    configuration = parse_configuration(sample_configuration(CENTER, chosen), CENTER)
    assert configuration.broker.names == ("10.8.0.1", "broker.census.example")
    assert (configuration.broker.port, configuration.broker.user) == (1, "root")


def test_every_mistake_is_told_at_once_each_with_its_line_and_remedy() -> None:
    mistakes = _mistakes(
        """[broker]
port = "8883"
names = ["not a name"]
listen_address = broker
colour = 1
[consumer]
processes = 0
group = "a b"
[databse]
[log]
level = "loud"
[directories]
state = "../elsewhere"
[database]
url = "mysql://x"
"""
    )
    assert [(one.line, one.key) for one in mistakes] == [
        (2, "broker.port"),
        (3, "broker.names"),
        (4, "broker.listen_address"),
        (5, "broker.colour"),
        (7, "consumer.processes"),
        (8, "consumer.group"),
        (9, "databse"),
        (11, "log.level"),
        (13, "directories.state"),
        (15, "database.url"),
    ]
    assert all(one.remedy and one.problem for one in mistakes)
    assert "[database]" in mistakes[6].remedy


def test_two_listeners_on_one_port_are_a_mistake() -> None:
    assert "both listeners" in _mistakes("[broker]\nport = 1000\ncenter_port = 1000")[0].problem


@pytest.mark.parametrize(
    "url",
    [
        '"postgresql://census:hunter2@db/census"',
        '"postgres://census:hunter2@db/census"',
        '"postgresql://db/census?user=census&password=hunter2"',
        '"host=db password=hunter2"',
        '["postgresql://census:hunter2@db/census"]',
        '"census/hunter2"',
    ],
)
def test_a_password_in_the_database_address_is_refused_and_not_repeated(url: str) -> None:
    (mistake,) = _mistakes(f"[database]\nurl = {url}")
    assert mistake.key == "database.url"
    assert "hunter2" not in str(mistake)


def test_a_password_in_the_database_address_is_told_where_it_belongs() -> None:
    (mistake,) = _mistakes('[database]\nurl = "postgresql://census:hunter2@db/census"')
    assert ".pgpass" in mistake.remedy


@pytest.mark.parametrize(
    ("text", "line", "key", "problem", "remedy"),
    [
        ("[consumer]\nport = 1\n", 2, "consumer.port", "no such key", "move it below [broker]"),
        ("port = 1\n", 1, "port", "outside of any section", "[broker]"),
        ("[broker]\nport = 0\n", 2, "broker.port", "less than 1", "from 1 to 65535"),
        ('[broker]\nport = "1"\n', 2, "broker.port", "text, not a number", "port = 1"),
        ('[broker]\nlisten_address = "b.example"\n', 2, "broker.listen_address", "host name", '"127.0.0.1"'),
        ('[broker]\nlisten_address = "1.2.3.4:1"\n', 2, "broker.listen_address", "a port", "key of its own"),
        ('[broker]\nnames = "10.8.0.1"\n', 2, "broker.names", "not a list", '["10.8.0.1"]'),
        ('[broker]\nnames = ["Broker"]\n', 2, "broker.names", "small letters", "broker.census.example"),
        ('[directories]\nstate = ""\n', 2, "directories.state", "empty", 'state = "state"'),
        ('[secrets]\npassphrase_file = "a/../b"\n', 2, "secrets.passphrase_file", "..", "that is meant"),
        ('[log]\nlevel = "inf"\n', 2, "log.level", "not one of the words", "did you mean 'info'?"),
        ('[log]\nlevel + "info"\n', 2, "log.level", "expected '='", 'level = "info"'),
        ("[consumer\n", 1, None, "expected ']'", "in brackets"),
    ],
)
def test_a_mistake_names_its_line_its_key_and_what_to_write(
    text: str, line: int, key: str | None, problem: str, remedy: str
) -> None:
    (mistake,) = _mistakes(text)
    assert (mistake.line, mistake.key) == (line, key)
    assert problem in mistake.problem
    assert remedy in mistake.remedy


def test_relative_paths_start_at_the_centers_folder_and_absolute_ones_stay() -> None:
    text = '[directories]\nstate = "data"\nbackup = "/mnt/backup"\n[tls]\nauthority = "root.pem"\n'
    configuration = parse_configuration(text, CENTER)
    assert configuration.directories.state == CENTER / "data"
    assert configuration.directories.backup == Path("/mnt/backup")
    assert configuration.tls.authority == CENTER / "root.pem"
    assert configuration.tls.consumer_certificate == CENTER / "data" / "tls" / "consumer.pem"


def test_a_group_that_would_mean_something_in_a_topic_is_refused() -> None:
    for group in ("+", "#", "a/b", ""):
        assert _mistakes(f'[consumer]\ngroup = "{group}"')[0].key == "consumer.group"


def test_a_missing_file_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="central-broker init"):
        load_configuration(tmp_path)


def test_no_text_ends_in_anything_but_the_one_error() -> None:
    for text in ("\0", "[", "a", "=", "[[broker]]", "broker = 1", "[broker]\nnames = [", '"', "[a.b.c]\nd=1"):
        assert _mistakes(text), text
