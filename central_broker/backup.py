"""Backups and the watermark that frees tablets of their copies.

A watermark may never promise more than a backup holds: tablets delete what lies before it. So it is only ever a
commit clock that was read *from the copy*, or read *before* a backup of the site's own began.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from central_broker.storage.contract import Storage
from operations.durable_files import sync_directory

TIME_MARGIN: Final = timedelta(minutes=10)
"""Taken off a time of day: a batch gets its commit time a little before it becomes visible to a backup, and the clock
of the machine that made the backup may be ahead."""

_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Backup:
    """A finished backup: its file (None for the site's own), what it reached, how many origins are told."""

    file: Path | None
    reached: int
    bytes: int
    receipts: int


@dataclass(frozen=True)
class CommandFailed:
    """The site's backup command ended with this status; nothing was recorded."""

    status: int


def copy_database(storage: Storage, directory: Path, now: int) -> Backup:
    """Write a verified copy under its final name, then move the watermark to what was read from it.

    Raises StorageRefused (PostgreSQL; a damaged copy), StorageUnavailable, OSError. A copy that was begun and not
    finished has the ending .part and counts for nothing.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = f"census-{as_time(now).strftime('%Y%m%dT%H%M%S%fZ')}.sqlite3"
    part, whole = directory / f"{name}.part", directory / name
    part.unlink(missing_ok=True)
    try:
        reached = storage.copy_to(part)
        part.chmod(0o600)
        size = part.stat().st_size
        part.replace(whole)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_directory(directory)
    return Backup(whole, reached, size, _record(storage, reached, now))


def wrap_command(storage: Storage, command: Sequence[str], now: int) -> Backup | CommandFailed:
    """Read the clock, run the site's own backup to its end, and record that clock when it ends with status 0."""
    reached = storage.clock()
    try:
        status = subprocess.run(command, check=False).returncode
    except OSError:
        status = 127
    if status != 0:
        return CommandFailed(status)
    return Backup(None, reached, 0, _record(storage, reached, now))


def _record(storage: Storage, reached: int, now: int) -> int:
    # Two backups may overlap; the one that ends later may have begun earlier. It proves nothing new then.
    return storage.record_watermark(reached, now) if reached > storage.watermark() else 0


def read_reached(text: str) -> int:
    """Read what `backup record` is told: a value of `backup mark`, or a time (ISO 8601) less TIME_MARGIN.

    Raises ValueError for anything else, and for a time without its zone.
    """
    if text.isdecimal():
        return int(text)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("the time does not say its zone: end it with Z (UTC) or an offset such as +05:00")
    return (moment - TIME_MARGIN - _EPOCH) // _MICROSECOND


def as_time(microseconds: int) -> datetime:
    """A time of the protocol as people read it."""
    return _EPOCH + timedelta(microseconds=microseconds)
