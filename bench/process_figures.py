"""What /proc tells of processes: CPU time, memory, wakeups."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """The process and everything it has started, as far as it still runs."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def cpu_seconds(pid: int, *, with_descendants: bool = False) -> float:
    """User and system time of a process, of ended threads too; to 10 ms. Of descendants, what still runs or was
    waited for.
    """
    total = 0
    for one in descendants(pid) if with_descendants else [pid]:
        fields = _stat(one)
        total += sum(map(int, fields[11:15] if with_descendants else fields[11:13]))
    return total / _TICKS_A_SECOND


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 20


def precise_cpu_seconds(pid: int) -> float:
    """Time on a CPU of all threads that still live, to the nanosecond."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def resident_bytes(pid: int) -> int:
    """Resident memory (VmRSS), shared pages of libraries included."""
    return _status_kibibytes(pid, "VmRSS") * 1024


def peak_resident_bytes(pid: int) -> int:
    """The most resident memory that it ever had (VmHWM)."""
    return _status_kibibytes(pid, "VmHWM") * 1024


def private_bytes(pid: int) -> int:
    """What would be freed if the process ended: the part of its memory that nobody shares."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))


def wakeups(pid: int) -> int:
    """How often its threads have gone to sleep by themselves so far; each is one later wakeup."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def thread_count(pid: int) -> int:
    """How many threads it has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def _status_kibibytes(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise ValueError(f"/proc/{pid}/status has no {name}")
