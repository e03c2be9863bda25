"""`python -m bench` measures everything that it promises and says so; how fast anything was is not looked at."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.census_forms import MISSING
from tests.simulator.peak_costs import read_costs
from tests.support.postgresql import find_postgresql_programs
from tests.support.shared_data import PROJECT_FOLDER

pytestmark = [
    pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(300),
]


@functools.cache
def run_bench(*parts: str) -> dict[str, Any]:
    """Run the smallest benchmark of these parts once, and return its document."""
    words = [sys.executable, "-m", "bench", "--size", "tiny", "--json"]
    for part in parts:
        words += ["--only", part]
    ended = subprocess.run(words, cwd=PROJECT_FOLDER, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-4_000:]
    document: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return document


DEVICES = ("submits", "wire", "idle")


def test_every_figure_about_devices_comes_with_its_limit_and_is_judged() -> None:
    rows = run_bench(*DEVICES)["rows"]
    assert set(rows) == set(DEVICES)
    judged = [row for part in rows.values() for row in part if row["aim"] is not None]
    assert len(judged) == 4
    assert all(row["peer_figure"] is not None and row["met"] in (True, False) for row in judged)
    assert all(row["figure"] > 0 for row in (*rows["submits"], *rows["wire"]))


def test_media_are_measured_against_cp_of_the_same_files_with_the_signature_checks_aside_and_shown() -> None:
    rows = run_bench("media")["rows"]["media"]
    copies = [row for row in rows if row["peer"]]
    assert all(row["figure"] > 0 and row["ratio"] > 0 and "cp" in row["cpu_microseconds"] for row in copies)
    for what in ("until unmounted", "until safe to remove", "signature checks aside"):
        judged = [row for row in copies if what in row["what"] and row["aim"] == "ratio ≥ 0.8"]
        assert judged and all(row["met"] in (True, False) for row in judged)
    assert any("every signature checked" in row["what"] for row in copies)
    (checking,) = [row for row in rows if row["what"] == "checking one envelope's signature"]
    assert checking["figure"] > 0
    days = [row for row in rows if "a day's 30 questionnaires" in row["what"]]
    assert days and all(row["figure"] > 0 for row in days)
    assert {row["aim"] for row in days if "memory" not in row["what"]} == {"< 2"}


def test_neighbours_are_measured_against_a_plain_socket_and_where_it_is_installed_syncthing() -> None:
    rows = run_bench("mesh")["rows"]["mesh"]
    limited = [row for row in rows if row["aim"] == "ratio ≥ 0.5"]
    assert len(limited) == 2 and all(row["figure"] > 0 and row["ratio"] > 0 for row in limited)
    peers = [row for row in rows if row["peer"].startswith("Syncthing")]
    if shutil.which("syncthing") is None:
        assert [row["peer"] for row in peers] == ["Syncthing: not installed"]
    else:
        assert len(peers) == 2 and all(row["aim"] == "ratio ≥ 5" and row["ratio"] > 0 for row in peers)
    (meeting,) = [row for row in rows if row["what"].startswith("a meeting without news")]
    assert meeting["aim"] == "≤ 4096" and meeting["figure"] > 0
    assert any(row["what"].startswith("memory with") and row["figure"] > 0 for row in rows)
    assert any(row["what"].startswith("wakeups with") for row in rows)


@pytest.mark.skipif(find_postgresql_programs() is None, reason="PostgreSQL is not installed")
def test_the_center_is_measured_on_both_databases_against_floor_and_peer() -> None:
    rows = run_bench("center")["rows"]["center"]
    for database in ("SQLite", "PostgreSQL"):
        judged = [row for row in rows if row["what"].startswith(database) and row["aim"] is not None]
        assert {row["aim"] for row in judged} == {"ratio ≥ 0.5", "ratio ≥ 8"}
        assert all(row["figure"] > 0 and row["ratio"] > 0 for row in judged)


@pytest.mark.skipif(find_postgresql_programs() is None, reason="PostgreSQL is not installed")
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_forms_are_measured_against_a_bare_parse_and_raw_copies_and_the_endpoint_at_rest_and_under_load() -> None:
    rows = run_bench("forms")["rows"]["forms"]
    peers = [row["peer"].split(" of ")[0] for row in rows]
    assert peers[:4] == ["bare ElementTree parse", "bare msgspec parse", "executemany", "COPY"]
    assert all(row["figure"] > 0 and row["ratio"] > 0 for row in rows)
    assert sum("memory" in row["what"] for row in rows) == 2
    (soak,) = [row for row in rows if row["aim"] is not None]
    assert soak["aim"] == "≥ 50" and soak["met"] in (True, False)


@pytest.mark.skipif(find_postgresql_programs() is None, reason="PostgreSQL is not installed")
def test_every_operation_of_an_evening_peak_has_its_cost_and_the_simulation_takes_it(tmp_path: Path) -> None:
    document = run_bench("broker")
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(document))
    costs = read_costs(path)
    assert costs.connection > costs.hello > 0
    assert costs.bundle_full > 0 and costs.consumer_envelope > 0 and costs.receipt_publisher > 0


def test_what_is_written_names_no_folder_of_the_machine() -> None:
    machine = run_bench(*DEVICES)["machine"]
    assert not any("/" in value for value in machine.values())
