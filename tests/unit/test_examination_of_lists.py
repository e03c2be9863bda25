"""What the doctor says of lists of who is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_agent.commands.examination.finding import Finding, Subject, Verdict
from edge_agent.commands.examination.lists import check_lists
from edge_agent.configuration import parse_configuration
from edge_agent.own_list import LIST_KEY_FILE_NAME, read_or_make_list_key

OPENED = {"as_of": 5, "problem": None, "remedy": None}
SEALED = {"as_of": None, "problem": "sealed to another key", "remedy": "wait"}


def finding(folder: Path, *, on: bool = True, running: bool = True, known: dict[str, Any] | None = None) -> Finding:
    text = f'[device]\nstate_directory = "{folder}"\ncounted_lists = {str(on).lower()}\n[broker]\naddress = "10.8.0.1"'
    status = {"running": running, "counted_list": known}
    (found,) = check_lists(Subject(parse_configuration(text), True, status, 0))
    return found


@pytest.mark.parametrize(
    ("known", "verdict", "said"),
    [
        (None, Verdict.OK, "has come yet"),
        (OPENED, Verdict.OK, "edge-agent counted"),
        (SEALED, Verdict.WARNING, "sealed to another key"),
    ],
)
def test_what_a_running_daemon_has_is_told(
    tmp_path: Path, known: dict[str, Any] | None, verdict: Verdict, said: str
) -> None:
    read_or_make_list_key(tmp_path, bytes(range(32)))
    found = finding(tmp_path, known=known)
    assert found.verdict is verdict
    assert said in found.found
    assert "key that lists are sealed to is there" in finding(tmp_path, running=False, known=known).found


def test_a_key_that_others_can_read_or_that_is_none_is_a_problem(tmp_path: Path) -> None:
    assert finding(tmp_path, on=False).verdict is Verdict.OK
    assert finding(tmp_path).verdict is Verdict.NOTE
    read_or_make_list_key(tmp_path, bytes(range(32)))
    path = tmp_path / LIST_KEY_FILE_NAME
    path.chmod(0o640)
    assert (finding(tmp_path).verdict, f"chmod 600 {path}" in finding(tmp_path).remedy) == (Verdict.PROBLEM, True)
    path.chmod(0o600)
    path.write_bytes(b"\xff" * 65)
    assert (finding(tmp_path).verdict, "damaged" in finding(tmp_path).found) == (Verdict.PROBLEM, True)
