"""Where questionnaires are kept: the disk, the queue, the drop folder; and whether the center answers for them."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from edge_agent.commands.examination.finding import Finding, Subject, Verdict
from edge_agent.commands.status import moment
from edge_agent.configuration import Configuration
from edge_agent.engine.store import StoreFault
from edge_agent.queue.intake.drop_folder import REFUSED, TAKEN
from edge_agent.queue.store import QUEUE_FILE_NAME, QueueBusy, QueueStore

_AS_ROOT: Final = "run as root: sudo edge-agent doctor"
_FILES_FREE_MIN: Final = 1_000
_VOLATILE: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_WITHOUT_PROMISE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "vfat", "exfat", "msdos", "fuseblk"})
_CONTAINER: Final = frozenset({"overlay", "aufs"})
_OCTAL: Final = re.compile(r"\\(\d{3})")


def check_disk(subject: Subject) -> Iterator[Finding]:
    configuration = subject.configuration
    directory = configuration.device.state_directory
    if not directory.exists():
        remedy = f"as root: systemd-tmpfiles --create, or: install -d -o edge-agent -g edge-agent -m 0711 {directory}"
        yield Finding("disk", Verdict.PROBLEM, f"there is no {directory}", remedy)
        return
    yield _room(directory, configuration.storage.free_bytes_min)
    yield _file_system(directory)
    yield _writable(directory)


def _room(directory: Path, free_bytes_min: int) -> Finding:
    room = os.statvfs(directory)
    free_bytes = room.f_bavail * room.f_frsize
    found = f"{free_bytes / 1e6:,.0f} MB free, {free_bytes_min / 1e6:,.0f} MB must stay free"
    if free_bytes < free_bytes_min:
        remedy = "remove other files, or connect the tablet so that its queue drains: no questionnaire is accepted now"
        return Finding("disk", Verdict.PROBLEM, found, remedy)
    if free_bytes < 2 * free_bytes_min:
        return Finding("disk", Verdict.WARNING, found, "remove other files before it is too late")
    if room.f_files > 0 and room.f_favail < _FILES_FREE_MIN:
        return Finding("disk", Verdict.WARNING, f"room for {room.f_favail} more files only", "remove other files")
    return Finding("disk", Verdict.OK, found)


def _file_system(directory: Path) -> Finding:
    kind = file_system_of(directory, Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))
    if kind in _VOLATILE:
        remedy = "name a directory on the disk as device.state_directory"
        return Finding("disk", Verdict.PROBLEM, f"{directory} is in memory ({kind}): all is lost at shutdown", remedy)
    if kind in _WITHOUT_PROMISE:
        problem = f"{directory} is on {kind}, where accepted questionnaires may not survive a power cut"
        return Finding("disk", Verdict.PROBLEM, problem, "put the state directory on ext4, f2fs, xfs or btrfs")
    if kind in _CONTAINER:
        return Finding("disk", Verdict.NOTE, f"{directory} is on {kind}: in a container, mount a volume there")
    return Finding("disk", Verdict.OK, f"{directory} is on {kind}")


def file_system_of(directory: Path, mountinfo: str) -> str:
    """Return the type of the file system that holds a directory, by the text of /proc/self/mountinfo (proc(5))."""
    resolved = directory.resolve()
    best, kind = -1, "unknown"
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(_OCTAL.sub(lambda found: chr(int(found.group(1), 8)), before.split(" ")[4]))
        # Of several mounts on one point, the last one covers the others.
        if resolved.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split(" ")[0]
    return kind


def _writable(directory: Path) -> Finding:
    if os.geteuid() not in (0, directory.stat().st_uid):
        return Finding("disk", Verdict.NOTE, "not checked whether it can be written to", _AS_ROOT)
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"written by edge-agent doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        problem = f"{directory} cannot be written to: {error.strerror}"
        remedy = "see whether it is mounted read-only (findmnt), full, or worn out (dmesg)"
        return Finding("disk", Verdict.PROBLEM, problem, remedy)
    return Finding("disk", Verdict.OK, f"{directory} can be written to, down to the disk")


def check_queue(subject: Subject) -> Iterator[Finding]:
    """Of a running daemon's queue its status tells; without one the file itself is opened and read through."""
    directory = subject.configuration.device.state_directory
    path = directory / QUEUE_FILE_NAME
    if subject.status is not None and subject.running:
        yield Finding("queue", Verdict.OK, f"in use by the daemon; {_counts(subject.status['envelopes'])}")
        return
    if not os.access(directory, os.X_OK) and directory.exists():
        yield Finding("queue", Verdict.NOTE, f"not checked: this user may not look into {directory}", _AS_ROOT)
        return
    if not path.exists():
        yield Finding("queue", Verdict.NOTE, "there is none yet: the daemon makes it at its first start")
        return
    if not os.access(path, os.R_OK | os.W_OK):
        yield Finding("queue", Verdict.NOTE, "not checked: only root and the daemon's user may read it", _AS_ROOT)
        return
    try:
        with QueueStore(directory) as store:
            # Opening it has made sure that it is durable (WAL, synchronous=FULL) and of this release.
            faults = [str(row[0]) for row in store.connection.execute("PRAGMA quick_check(5)") if row[0] != "ok"]
    except QueueBusy as error:
        yield Finding("queue", Verdict.WARNING, str(error), "if the daemon does not answer: look at its journal")
        return
    except StoreFault as error:
        yield Finding("queue", Verdict.PROBLEM, str(error), _damaged(directory))
        return
    if faults:
        yield Finding("queue", Verdict.PROBLEM, f"{path} is damaged: {'; '.join(faults)}", _damaged(directory))
    else:
        yield Finding("queue", Verdict.OK, f"{path} is intact and durable (synchronous=FULL)")


def _damaged(directory: Path) -> str:
    return (
        f"do not start the daemon; copy all of {directory} to a safe place and call the center. Its envelopes may be "
        f"saved from the copy. Then move {QUEUE_FILE_NAME}* away, but not head.mirror: a new chain begins"
    )


def _counts(envelopes: Mapping[str, int]) -> str:
    waiting = envelopes["waiting"] + envelopes["sent"]
    done = envelopes["synchronised"] + envelopes["purged"]
    return f"{waiting} wait for their receipt, {done} are synchronised, {envelopes['held']} held"


def check_receipts(subject: Subject) -> Iterator[Finding]:
    status = subject.status
    if status is None:
        yield Finding("receipts", Verdict.NOTE, "not known: no daemon answers, and the queue cannot be read")
        return
    alarm_seconds = subject.configuration.sync.receipt_silence_alarm_seconds
    last = f"the last one came {moment(status['last_receipt_at'])}" if status["last_receipt_at"] else "none came yet"
    if status["receipt_silence_seconds"] >= alarm_seconds:
        hours = status["receipt_silence_seconds"] // 3600
        problem = f"questionnaires have waited {hours} h without any receipt; {last}"
        remedy = "connect the VPN, or have a collection point take them; if it is connected, call the center"
        yield Finding("receipts", Verdict.PROBLEM, problem, remedy)
    else:
        yield Finding("receipts", Verdict.OK, last)
    held = status["envelopes"]["held"]
    if held:
        found = f"the center holds {held} questionnaires that it could not use"
        yield Finding("receipts", Verdict.WARNING, found, "ask the center why: central-broker held list")


def status_of_queue(configuration: Configuration, now: int) -> dict[str, Any] | None:
    """Return what the queue itself tells when no daemon runs; None where it cannot be read."""
    import sqlite_utils

    from edge_agent.status_document import status_document

    directory = configuration.device.state_directory
    if not os.access(directory / QUEUE_FILE_NAME, os.R_OK | os.W_OK):
        return None
    try:
        with QueueStore(directory) as store:
            database = sqlite_utils.Database(store.connection)
            return status_document(
                lambda sql, parameters: database.query(sql, dict(parameters)),
                device=b"",
                link=None,
                silence_alarm=configuration.sync.receipt_silence_alarm_seconds * 1_000_000,
                now=now,
            )
    except (StoreFault, sqlite3.Error):
        return None


def check_drop_folder(subject: Subject) -> Iterator[Finding]:
    directory = subject.configuration.intake.drop_directory
    if directory is None:
        yield Finding("drop folder", Verdict.OK, "switched off (intake.drop_directory)")
        return
    if not directory.exists():
        yield Finding("drop folder", Verdict.NOTE, f"there is no {directory} yet: the daemon makes it")
        return
    if not os.access(directory, os.R_OK | os.X_OK):
        yield Finding("drop folder", Verdict.NOTE, f"not checked: this user may not look into {directory}", _AS_ROOT)
        return
    refused = _files_in(directory / REFUSED, without_suffix=".why.txt")
    taken = _files_in(directory / TAKEN)
    if refused:
        remedy = f"read the .why.txt files in {directory / REFUSED}; correct, submit again, and remove them"
        yield Finding("drop folder", Verdict.WARNING, f"{refused} files were refused", remedy)
    if taken and not subject.running:
        found = f"{taken} files are taken and not submitted yet: the daemon does so when it runs"
        yield Finding("drop folder", Verdict.NOTE, found)
    if not refused:
        yield Finding("drop folder", Verdict.OK, f"{directory}; nothing was refused")


def _files_in(directory: Path, *, without_suffix: str = "\0") -> int:
    if not directory.exists() or not os.access(directory, os.R_OK | os.X_OK):
        return 0
    return sum(1 for path in directory.iterdir() if path.is_file() and not path.name.endswith(without_suffix))
