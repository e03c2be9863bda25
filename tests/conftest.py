"""Fixtures over tests/support: private servers, crashable at will, and the sample data. A missing program skips."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mosquitto import Mosquitto, find_mosquitto
from tests.support.postgresql import PostgresqlCluster, find_postgresql_programs
from tests.support.shared_data import reason_missing, shared_data_folder


@pytest.fixture(scope="session")
def postgresql_cluster() -> Iterator[PostgresqlCluster]:
    """One cluster per worker of pytest-xdist, durable (fsync on); tests may crash it: the next one finds it running."""
    if find_postgresql_programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with PostgresqlCluster() as cluster:
        yield cluster


@pytest.fixture
def running_postgresql(postgresql_cluster: PostgresqlCluster) -> PostgresqlCluster:
    """The worker's cluster, running, whatever the test before did to it."""
    if not postgresql_cluster.is_running:
        postgresql_cluster.start()
    return postgresql_cluster


def _fresh_database(cluster: PostgresqlCluster, *, durable: bool) -> Iterator[str]:
    dsn = cluster.create_database(durable=durable)
    yield dsn
    if not cluster.is_running:
        cluster.start()
    cluster.drop_database(dsn)


@pytest.fixture
def postgresql_dsn(running_postgresql: PostgresqlCluster) -> Iterator[str]:
    """The connection string of a fresh, empty database whose commits are on disk when they return."""
    yield from _fresh_database(running_postgresql, durable=True)


@pytest.fixture
def quick_postgresql_dsn(running_postgresql: PostgresqlCluster) -> Iterator[str]:
    """The same without waiting for the disk at each commit, for contract tests that crash nothing."""
    yield from _fresh_database(running_postgresql, durable=False)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running broker without TLS and without persistence, open to everyone on its loopback port."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    with Mosquitto(tmp_path) as broker:
        yield broker


def _shared(*parts: str) -> Path:
    reason = reason_missing(*parts)
    if reason:
        pytest.skip(reason)
    return shared_data_folder().joinpath(*parts)


@pytest.fixture(scope="session")
def popstan_folder() -> Path:
    """Folder with households.jsonl.gz (4,872 households), household-form.md and totals.json (what must come out)."""
    return _shared("popstan")


@pytest.fixture(scope="session")
def openrosa_folder() -> Path:
    """Folder with `transportation` (a form and submissions of ODK Collect) and `250q` (a template)."""
    return _shared("openrosa")


@pytest.fixture(autouse=True)
def umask_of_the_tests() -> Iterator[None]:
    """The center's commands set a umask; run within this process, they would change the files of every later test."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)
