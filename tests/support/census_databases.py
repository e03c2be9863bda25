"""A census database of each kind, empty, for suites that run over both; import the fixtures where they are used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from central_broker.storage import open_storage
from central_broker.storage.contract import Storage


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database that nobody has opened yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/census.sqlite"
    dsn: str = request.getfixturevalue("quick_postgresql_dsn")
    return dsn


@pytest.fixture
def storage(url: str) -> Iterator[Storage]:
    """The database at `url`, opened."""
    opened = open_storage(url)
    yield opened
    opened.close()


def rows(storage: Storage, sql: str) -> list[tuple[Any, ...]]:
    """What a statement gives."""
    found: list[tuple[Any, ...]] = storage.read(sql)  # type: ignore[attr-defined]  # reading is no part of the contract
    return found
