"""center.toml: defaults, the sample, and every mistake told at once with its line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from central_broker.configuration import (
    Configuration,
    ConfigurationError,
    load_configuration,
    parse_configuration,
    sample_configuration,
)
from central_broker.configuration_check import Mistake
from central_broker.configuration_schema import CENTER_DEFAULT, KEYS, Value

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


def test_the_table_and_the_dataclasses_name_the_same_keys() -> None:
    configuration = parse_configuration("", CENTER)
    sections = [field.name for field in dataclasses.fields(Configuration) if field.name != "center"]
    named = {f"{one}.{field.name}" for one in sections for field in dataclasses.fields(getattr(configuration, one))}
    assert named == {key.path for key in KEYS}


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
        (4, None),
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


def test_a_password_in_the_database_address_is_refused_and_not_repeated() -> None:
    (mistake,) = _mistakes('[database]\nurl = "postgresql://census:hunter2@db/census"')
    assert "hunter2" not in str(mistake)
    assert ".pgpass" in mistake.remedy


def test_a_group_that_would_mean_something_in_a_topic_is_refused() -> None:
    for group in ("+", "#", "a/b", ""):
        assert _mistakes(f'[consumer]\ngroup = "{group}"')[0].key == "consumer.group"


def test_a_missing_file_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="central-broker init"):
        load_configuration(tmp_path)


def test_no_text_ends_in_anything_but_the_one_error() -> None:
    for text in ("\0", "[", "a", "=", "[[broker]]", "broker = 1", "[broker]\nnames = [", '"', "[a.b.c]\nd=1"):
        assert _mistakes(text), text
