"""The process fixture: what it says when a process does not do what is awaited, and that it ends what it starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.processes import DeadlineError, RunningProcess, wait_until


def test_a_killed_process_reports_the_signal(tmp_path: Path) -> None:
    with RunningProcess(["sleep", "60"], log=tmp_path / "log") as process:
        assert process.is_alive
        process.kill9()
        assert process.exit_status == -9


def test_a_process_that_ignores_sigterm_is_killed_when_its_test_ends(tmp_path: Path) -> None:
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    with RunningProcess([sys.executable, "-c", script], log=tmp_path / "log") as process:
        process.wait_for_log("ready")
        with pytest.raises(DeadlineError, match=r"did not end in 0\.2 seconds"):
            process.terminate(timeout_seconds=0.2)
        assert not process.is_alive


def test_waiting_on_a_process_that_ended_fails_at_once_with_its_log(tmp_path: Path) -> None:
    with RunningProcess(["sh", "-c", "echo no such setting; exit 3"], log=tmp_path / "log") as process:
        with pytest.raises(DeadlineError) as caught:
            process.wait_for_log("listening", timeout_seconds=60)
        assert "ended with status 3" in str(caught.value)
        assert "no such setting" in str(caught.value)


def test_an_awaited_condition_that_does_not_come_is_named() -> None:
    with pytest.raises(DeadlineError, match=r"not within 0\.1 seconds: seven receipts; last value 0\nthree held"):
        wait_until(lambda: 0, "seven receipts", timeout_seconds=0.1, evidence=lambda: "three held")
