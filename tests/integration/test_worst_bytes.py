"""What costs the most to read, at the largest that is taken, is read or refused in bounded memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.shared_data import PROJECT_FOLDER

MEGABYTES = 700
"""Of address space beside the interpreter's own: seventy times the largest questionnaire, at the center."""


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("a million repeats", "taken; 953250 rows, 0 findings"),
        ("a million levels", "refused; the questionnaire nests deeper than 64 levels"),
        ("a million lists, and a text that is mended", "taken; 1 rows, 10001 findings"),
        ("a form of a million elements", "a form of 1 tables"),
    ],
)
def test_the_worst_is_read_or_refused_in_bounded_memory(name: str, outcome: str) -> None:
    words = [sys.executable, "-m", "tests.support.worst_bytes", name, str(MEGABYTES)]
    ended = subprocess.run(words, cwd=PROJECT_FOLDER, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (0, outcome), ended.stderr[-2_000:]
