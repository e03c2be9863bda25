"""The mutation gate: every planted bug is caught within its stated number of seeds, by the invariant that it breaks.

The faults under SQLite are tested in `test_lossy_disk`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.simulator.__main__ import main
from tests.simulator.planted import BUGS, NotTheBug, catch, names
from tests.simulator.planted_bug import Bug


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught_within_its_seeds(bug: Bug, record_property: Callable[[str, object], None]) -> None:
    caught = catch(bug)
    record_property("seeds tried", caught.seeds_tried)
    record_property("violation", caught.violation)
    assert caught.in_time, f"{bug.name!r} passed {caught.seeds_tried} seeds"
    assert caught.invariant in bug.invariants, caught.violation


def test_bugs_have_names_of_their_own() -> None:
    assert len(set(names())) == len(names())


def test_what_breaks_nothing_is_not_caught() -> None:
    harmless = Bug("nothing", "nothing", (), nullcontext, seeds_max=2)
    caught = catch(harmless)
    assert not caught.in_time
    assert caught.seeds_tried == 2


def test_a_life_that_fails_without_the_bug_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = BUGS[0]
    monkeypatch.setattr(Bug, "live", lambda *_, **__: "I1: always")
    with pytest.raises(NotTheBug, match="fails without it"):
        catch(broken)


def test_the_command_records_what_it_caught(tmp_path: Path) -> None:
    report = tmp_path / "planted.json"
    told = CliRunner().invoke(main, ["planted", "--only", "purged on PUBACK", "--jobs", "1", "--record", str(report)])
    assert told.exit_code == 0
    assert '"invariant": "I2"' in report.read_text()


def test_the_command_refuses_a_bug_that_there_is_not() -> None:
    told = CliRunner().invoke(main, ["planted", "--only", "no such bug"])
    assert told.exit_code == 2
    assert "there is no bug" in told.output
