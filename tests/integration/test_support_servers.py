"""The private servers: a crash is a crash, and what they promised durable is there after it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
import pytest

from tests.support.mosquitto import Mosquitto, find_mosquitto
from tests.support.postgresql import PostgresqlCluster
from tests.support.processes import DeadlineError, accepts_connections


def test_postgresql_killed_keeps_the_committed_row_and_drops_the_uncommitted(
    running_postgresql: PostgresqlCluster, postgresql_dsn: str
) -> None:
    with psycopg.connect(postgresql_dsn) as connection:
        connection.execute("CREATE TABLE questionnaire (sequence integer PRIMARY KEY)")
        connection.execute("INSERT INTO questionnaire VALUES (1)")
        connection.commit()
        connection.execute("INSERT INTO questionnaire VALUES (2)")
        running_postgresql.kill9()
        assert not running_postgresql.is_running
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    running_postgresql.restart()
    with psycopg.connect(postgresql_dsn) as connection:
        assert connection.execute("SELECT sequence FROM questionnaire").fetchall() == [(1,)]


def test_each_database_is_fresh_and_waits_for_the_disk_unless_told_otherwise(
    postgresql_dsn: str, quick_postgresql_dsn: str
) -> None:
    assert postgresql_dsn != quick_postgresql_dsn
    for dsn, synchronous_commit in ((postgresql_dsn, "on"), (quick_postgresql_dsn, "off")):
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            assert connection.execute("SHOW synchronous_commit").fetchone() == (synchronous_commit,)
            tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
            assert connection.execute(tables).fetchone() == (0,)


def test_postgresql_refuses_a_connection_without_its_password(running_postgresql: PostgresqlCluster) -> None:
    without_password = f"postgresql://census_tests@127.0.0.1:{running_postgresql.port}/postgres"
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(without_password, passfile="/dev/null")


def _publish_retained(broker: Mosquitto, text: str) -> None:
    where = ["-h", "127.0.0.1", "-p", str(broker.port), "-t", "census"]
    subprocess.run(["mosquitto_pub", *where, "-q", "1", "-r", "-m", text], check=True, timeout=20)


def _retained(broker: Mosquitto) -> str:
    where = ["-h", "127.0.0.1", "-p", str(broker.port), "-t", "census"]
    words = ["mosquitto_sub", *where, "-C", "1", "-W", "2"]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=20).stdout.strip()


def test_mosquitto_killed_forgets_everything_and_serves_again_on_the_same_port(mosquitto: Mosquitto) -> None:
    _publish_retained(mosquitto, "before")
    assert _retained(mosquitto) == "before"
    mosquitto.kill9()
    assert not accepts_connections(mosquitto.port)
    mosquitto.restart()
    assert _retained(mosquitto) == ""


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_mosquitto_runs_from_a_given_configuration_and_keeps_what_it_persists_in_good_order(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, persistence=True) as first:
        _publish_retained(first, "kept")
        configuration, port = first.configuration, first.port
    (tmp_path / "second").mkdir()
    with Mosquitto(tmp_path / "second", configuration=configuration, port=port) as second:
        assert _retained(second) == "kept"


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_mosquitto_with_a_wrong_setting_fails_with_its_own_words(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path, options=["no_such_setting yes"])
    with pytest.raises(DeadlineError, match="no_such_setting"):
        broker.start()
    assert not broker.process.is_alive
