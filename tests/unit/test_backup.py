"""The watermark never promises more than a backup holds."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from central_broker.backup import Backup, CommandFailed, as_time, copy_database, read_reached, wrap_command
from central_broker.storage import open_storage
from central_broker.storage.batch_records import (
    AcceptedEnvelope,
    Arrival,
    Batch,
    HeldReason,
    QuestionnaireContent,
    Route,
    Unreadable,
)
from central_broker.storage.contract import Storage
from tests.support.center import LinkChain

NOW = 1_790_000_000_000_000


def _commit(storage: Storage, number: int, now: int) -> int:
    content = QuestionnaireContent("household", "1", f"uuid:{number}", "application/json", 1, b"{}", "{}")
    link = LinkChain(f"device {number}").link()
    envelope = AcceptedEnvelope(link, Arrival(link.origin, Route.VPN, now), b"", content)
    result = storage.commit(Batch([envelope]), lambda *_: Unreadable(HeldReason.UNPARSABLE, ""), now)
    assert result.committed_at is not None
    return result.committed_at


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    storage = open_storage(f"sqlite:///{tmp_path / 'census.sqlite3'}")
    yield storage
    storage.close()


def test_a_copy_is_whole_and_the_watermark_is_what_is_in_it(storage: Storage, tmp_path: Path) -> None:
    reached = _commit(storage, 1, NOW)
    done = copy_database(storage, tmp_path / "backup", NOW + 1)
    assert (done.reached, storage.watermark()) == (reached, reached)
    assert done.file is not None
    assert [path.name for path in (tmp_path / "backup").iterdir()] == [done.file.name]
    copy = sqlite3.connect(done.file)
    assert copy.execute("SELECT at FROM commit_clock").fetchone() == (reached,)
    copy.close()


def test_a_copy_that_fails_moves_nothing_and_leaves_nothing(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _commit(storage, 1, NOW)

    def broken(target: Path) -> int:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "copy_to", broken)
    with pytest.raises(OSError, match="No space"):
        copy_database(storage, tmp_path / "backup", NOW)
    assert storage.watermark() == 0
    assert not list((tmp_path / "backup").iterdir())


def test_two_backups_without_a_commit_between_are_both_good(storage: Storage, tmp_path: Path) -> None:
    _commit(storage, 1, NOW)
    copy_database(storage, tmp_path / "backup", NOW)
    copy_database(storage, tmp_path / "backup", NOW + 1)
    assert len(list((tmp_path / "backup").iterdir())) == 2


def test_what_is_committed_while_the_sites_backup_runs_is_not_promised(storage: Storage, tmp_path: Path) -> None:
    before = _commit(storage, 1, NOW)
    script = (
        "from central_broker.storage import open_storage;"
        "from tests.unit.test_backup import _commit;"
        f"_commit(open_storage('sqlite:///{tmp_path / 'census.sqlite3'}'), 2, {NOW + 5})"
    )

    done = wrap_command(storage, [sys.executable, "-c", script], NOW + 9)
    assert isinstance(done, Backup)
    assert storage.clock() > before
    assert storage.watermark() == before


def test_a_backup_command_that_fails_or_is_not_there_promises_nothing(storage: Storage) -> None:
    _commit(storage, 1, NOW)
    assert wrap_command(storage, ["sh", "-c", "exit 7"], NOW) == CommandFailed(7)
    assert wrap_command(storage, ["no-such-command-here"], NOW) == CommandFailed(127)
    assert storage.watermark() == 0


def test_marks_and_times_are_read_and_a_time_is_taken_ten_minutes_early() -> None:
    assert read_reached(str(NOW)) == NOW
    assert as_time(read_reached("2026-10-03T02:10:00+05:00")).isoformat() == "2026-10-02T21:00:00+00:00"
    for text in ("yesterday", "2026-10-03T02:00:00", "-5", ""):
        with pytest.raises(ValueError):
            read_reached(text)
