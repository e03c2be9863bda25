"""One suite over both databases: census tables as CSV, JSON Lines and Parquet say the same."""

from __future__ import annotations

import csv
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from central_broker import export as export_module
from central_broker.acceptance import decode_whole
from central_broker.export import ExportRefused, Format, export_table
from central_broker.storage.batch_records import Batch
from central_broker.storage.contract import Storage
from tests.support.census_databases import storage, url
from tests.support.census_rows import ANSWERS, FORM, HOUSEHOLD, PERSONS, TABLES, answered
from tests.support.center import LinkChain

__all__ = ["storage", "url"]


@pytest.fixture(autouse=True)
def form(storage: Storage) -> None:
    storage.store_form(FORM, TABLES)


def exported(storage: Storage, folder: Path, kind: Format, *, everything: bool = True) -> list[list[dict[str, Any]]]:
    """The rows of the three tables as a program reads them from their files."""
    folder.mkdir(exist_ok=True)
    found: list[list[dict[str, Any]]] = []
    for table in TABLES:
        path, count = export_table(
            storage, table, folder, kind, counting=None if everything else HOUSEHOLD, on_rows=lambda _: None
        )
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        if kind is Format.CSV:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows: list[dict[str, Any]] = list(csv.DictReader(file))
        elif kind is Format.JSON_LINES:
            rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        else:
            rows = parquet.read_table(path).to_pylist()
        assert len(rows) == count
        found.append(rows)
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{table.name}.{kind.value}" for table in TABLES)
    return found


@pytest.mark.parametrize("kind", list(Format))
def test_every_row_is_exported_with_its_types(storage: Storage, tmp_path: Path, kind: Format) -> None:
    chain = LinkChain("a")
    blank = answered(chain, [None] * len(ANSWERS), instance="uuid:2")
    storage.commit(Batch([answered(chain, ages=[33, None]), blank]), decode_whole, 1)
    wholes, persons, languages = exported(storage, tmp_path / "out", kind)
    one, other = sorted(wholes, key=lambda row: str(row["instance_id"]))
    assert one["origin"] == chain.origin.hex() and one["village"] == "Аксу"
    assert [str(one[name]) for name in ("rooms", "area", "visited", "begun")] == ["3", "41.5", "2021-10-05", "09:30:00"]
    assert str(one["owned"]).lower() == "true"
    assert str(one["ended"]).replace(" ", "T") == "2021-10-05T03:55:00+00:00"
    assert {other[column.name] for column in HOUSEHOLD.columns} == {"" if kind is Format.CSV else None}
    assert [(str(row["position"]), str(row["age"] or "")) for row in persons] == [("1", "33"), ("2", "")]
    assert [row["choice"] for row in languages] == ["kk", "ru"] * 2


@pytest.mark.parametrize("everything", [True, False])
def test_what_was_replaced_or_doubled_is_left_out_unless_everything_is_asked_for(
    storage: Storage, tmp_path: Path, everything: bool
) -> None:
    chain = LinkChain("a")
    given = [
        answered(chain, ("old", *ANSWERS[1:]), ages=[1]),
        answered(chain, ("new", *ANSWERS[1:]), ages=[2], instance="uuid:2", replaces="uuid:1"),
        answered(LinkChain("b"), ("twin", *ANSWERS[1:]), ages=[3], instance="uuid:2"),
    ]
    for now, envelope in enumerate(given, start=1):
        storage.commit(Batch([envelope]), decode_whole, now)
    wholes, persons, _ = exported(storage, tmp_path / "out", Format.JSON_LINES, everything=everything)
    assert {row["village"] for row in wholes} == ({"old", "new", "twin"} if everything else {"new"})
    assert {row["age"] for row in persons} == ({1, 2, 3} if everything else {2})


def test_many_pages_give_every_row_once(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "PAGE_ROWS", 2)
    chains = [LinkChain(name) for name in "abc"]
    envelopes = [answered(chain, ages=range(3), instance=f"uuid:{chain.origin.hex()}") for chain in chains]
    storage.commit(Batch(envelopes), decode_whole, 1)
    wholes, persons, languages = exported(storage, tmp_path / "out", Format.JSON_LINES)
    assert (len(wholes), len(persons), len(languages)) == (3, 9, 18)
    assert len({(row["origin"], row["position"], row["choice"]) for row in languages}) == 18


def test_a_spreadsheet_runs_nothing_of_what_somebody_typed(storage: Storage, tmp_path: Path) -> None:
    texts = ["=1+1", "+7 701", "-5", "@x", "плюс +", 'a"b\r\nc']
    chain = LinkChain("a")
    given = [answered(chain, (text, *ANSWERS[1:]), instance=f"uuid:{text}") for text in texts]
    storage.commit(Batch(given), decode_whole, 1)
    wholes, _, _ = exported(storage, tmp_path / "out", Format.CSV)
    assert {row["village"] for row in wholes} == {"'=1+1", "'+7 701", "'-5", "'@x", "плюс +", 'a"b\r\nc'}


def test_a_file_that_is_there_is_kept_and_one_that_fails_leaves_nothing(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{HOUSEHOLD.name}.csv").write_text("mine")
    with pytest.raises(ExportRefused, match="exists already"):
        export_table(storage, HOUSEHOLD, tmp_path, Format.CSV, counting=None, on_rows=lambda _: None)
    assert (tmp_path / f"{HOUSEHOLD.name}.csv").read_text() == "mine"
    storage.commit(Batch([answered(LinkChain("a"), ages=[1])]), decode_whole, 1)

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "new"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        export_table(storage, PERSONS, folder, Format.JSON_LINES, counting=None, on_rows=interrupted)
    assert list(folder.iterdir()) == []
