"""Writes docs/robustness.md from what swarms, the mutation gate, the lossy disk and the national month recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.simulator.balance import FORKED, LOST
from tests.simulator.device import LOSSY_STEP_FAULTS, STEP_FAULTS
from tests.simulator.faults import Fault
from tests.simulator.found import FOUND, OPEN, FoundBug
from tests.simulator.swarm import REAL_KEYS_EVERY, Tally, faults_never_reached, merged, read_tally

RECORDS: Final = ("planted", "cuts", "national", "speed")
_MEBIBYTE: Final = 1024 * 1024
_DEVICE_FAULTS: Final = (
    *dict.fromkeys((*STEP_FAULTS, *LOSSY_STEP_FAULTS)),
    Fault.CUT_WHEN_IDLE,
    Fault.KILL,
    Fault.DISK_FULL,
    Fault.CLOCK_JUMP,
    Fault.CLOCK_BACK,
    Fault.QUEUE_ROLLED_BACK,
    Fault.TABLET_ROLLED_BACK,
    Fault.TABLET_CLONED,
    Fault.TABLET_DESTROYED,
    Fault.TABLET_STOLEN,
    Fault.REVOKED,
    Fault.REPLACED,
    Fault.REINSTATED,
    Fault.RECEIPT_STALE,
    Fault.RECEIPT_FOREIGN,
    Fault.RECEIPT_FORGED,
    Fault.ENVELOPE_FORGED,
)
_STATES: Final = (
    "nothing waits",
    "envelopes wait",
    "bundles in flight",
    "connected",
    "marked, not purged",
    "some purged",
    "carries others'",
    "later epoch",
    "disk full",
    "clock wrong",
    "stick in it",
    "near a neighbour",
)


def robustness_report(records: Path, commit: str) -> str:
    """Return the report as Markdown; `records` is the folder with a JSON file for each of RECORDS, and any number
    of swarms: swarm.json, swarm-2.json, …
    """
    found = {name: json.loads((records / f"{name}.json").read_text()) for name in RECORDS}
    tally = merged(read_tally(json.loads(path.read_text())) for path in sorted(records.glob("swarm*.json")))
    sections = (
        _introduction(commit),
        _swarm(tally, found["speed"]),
        _troubles(tally),
        _faults(tally),
        _coverage(tally),
        _planted(found["planted"]),
        _cuts(found["cuts"]),
        _national(found["national"]),
        _bugs(),
    )
    return "\n".join(sections)


def _introduction(commit: str) -> str:
    return f"""# Robustness

Written by `python -m tests.simulator report` from runs at commit {commit}; do not edit by hand.

A simulated world has tablets and laptops with the real engine, stepper, SQLite queue and head mirror; sticks and
neighbours; a broker that acknowledges and forgets; consumers and a receipt publisher with the real acceptance, storage
and receipts on SQLite; an operator, thieves, backups and restores. Only clocks, randomness, links, disks and keys are
simulated. Everything that happens comes from a seed, and an oracle that knows everything checks after every event
that nothing accepted is lost, doubled or forgotten (its invariants, I1 to I8, are at the top of
`tests/simulator/oracle.py`). When the faults stop, everything must drain, and the accounts must balance.

    make swarm SEEDS=1000                            more lives, on all cores
    python -m tests.simulator seed 4711 --story      one life, told
    python -m tests.simulator shrink 4711            a failing one, with as few faults as still break the promise
"""


def _swarm(tally: Tally, speed: dict[str, float]) -> str:
    heal = sorted((int(days), times) for days, times in tally.heal_days.items())
    slowest = max(days for days, _ in heal)
    failures = [f"seed {one.seed}: {one.violation}" for one in tally.failures]
    rows = [
        (
            "seeds",
            f"{tally.seeds:,}, of which {tally.real_seeds:,} with real HPKE and signatures (one in {REAL_KEYS_EVERY})",
        ),
        ("violations", "0" if not failures else "; ".join(failures)),
        ("device-days", f"{tally.device_days:,.0f}"),
        ("events", f"{tally.events:,}"),
        ("questionnaires accepted", f"{tally.counts['accepted']:,}"),
        ("rows committed, after restores again", f"{tally.counts['committed']:,}"),
        ("purged", f"{tally.counts['purged']:,}"),
        ("lost because every carrier was destroyed", f"{tally.counts[LOST]:,}"),
        ("places of a chain with two envelopes, both kept and told", f"{tally.counts[FORKED]:,}"),
        ("faults that struck", f"{sum(tally.faults.values()):,}"),
        (
            "drained after the last fault within",
            f"{slowest} days (bound: 30); within one in {_share(heal)} of all lives",
        ),
        ("CPU", f"{tally.cpu_seconds:,.0f} s, {tally.wall_seconds:,.0f} s of wall time"),
        ("memory of a process", f"{tally.resident_bytes_max / _MEBIBYTE:,.0f} MB"),
    ]
    rates = [(name, f"{rate:,.0f}") for name, rate in speed.items()]
    return "\n".join(
        (
            "## Swarm\n",
            _table(("what", "figure"), rows),
            "",
            "Device-days in a CPU second of one core:\n",
            _table(("lives", "device-days"), rates),
            "",
            "The aim was 2,000 with stub keys. A device-day costs what happens in it: each questionnaire passes the",
            "real sealing, queue, acceptance, database and receipts, all of it Python and SQLite.",
            "",
        )
    )


def _share(heal: Sequence[tuple[int, int]]) -> str:
    total = sum(times for _, times in heal)
    within_one = sum(times for days, times in heal if days <= 1)
    return f"{100 * within_one / total:.1f} %"


def _troubles(tally: Tally) -> str:
    rows = [(group, f"{times:,}") for group, times in sorted(tally.groups.items())]
    return "\n".join(("## Troubles\n", _table(("kind of trouble", "lives that had it"), rows), ""))


def _faults(tally: Tally) -> str:
    rows = [(fault.value, f"{tally.faults[fault.value]:,}") for fault in Fault]
    never = faults_never_reached(tally)
    said = "Every kind was reached." if not never else "Never reached: " + ", ".join(never) + "."
    return "\n".join(("## Faults by kind\n", _table(("fault", "times"), rows), "", said, ""))


def _coverage(tally: Tally) -> str:
    rows = [(fault.value, *(_cell(tally.states[fault.value, state]) for state in _STATES)) for fault in _DEVICE_FAULTS]
    cells = [tally.states[fault.value, state] for fault in _DEVICE_FAULTS for state in _STATES]
    never = [
        f"{fault.value} / {state}"
        for fault in _DEVICE_FAULTS
        for state in _STATES
        if not tally.states[fault.value, state]
    ]
    said = f"{sum(map(bool, cells))} of {len(cells)} pairs of fault and state were reached."
    return "\n".join(
        (
            "## In which states faults found a device (I7)\n",
            _table(("fault", *_STATES), rows),
            "",
            said + (" Not reached: " + "; ".join(never) + "." if never else ""),
            "",
        )
    )


def _cell(times: int) -> str:
    return f"{times:,}" if times else "–"


def _planted(caught: list[dict[str, Any]]) -> str:
    rows = [
        (one["name"], one["breaks"], one["invariant"], f"{one['seeds_tried']:,}", f"{one['seeds_max']:,}")
        for one in caught
    ]
    head = ("planted bug", "what it breaks", "caught by", "after seeds", "limit")
    return "\n".join(("## Planted bugs\n", _table(head, rows), "", f"{len(caught)} planted, all caught.", ""))


def _cuts(cuts: dict[str, Any]) -> str:
    reached = ", ".join(f"{name} {times:,}" for name, times in sorted(cuts["reached"].items()))
    return f"""## SQLite and the head mirror on a disk that forgets

The queue's real schema and pragmas on a disk where any subset of the sectors, names and truncations that were not
synced survives a cut: {cuts["lives"]:,} lives, {cuts["cuts"]:,} power cuts, {cuts["disk_calls"]:,} calls to the disk,
no violation; {cuts["cuts"] / cuts["cpu_seconds"]:,.0f} cuts in a CPU second. Reached on the way: {reached}.
"""


def _national(month: dict[str, Any]) -> str:
    rows = [
        ("tablets, days", f"{month['tablets']:,}, {month['days']} and {month['heal_days']} to drain"),
        ("regions, each with a partition of the census database", f"{month['regions']}"),
        ("device-days", f"{month['device_days']:,.0f}"),
        ("questionnaires accepted / committed", f"{month['accepted']:,} / {month['committed']:,}"),
        ("purged behind the watermark", f"{month['purged']:,}"),
        ("lost", f"{month['lost']:,}"),
        ("power cuts, kills and other faults", f"{month['faults']:,}"),
        ("events", f"{month['events']:,}"),
        (
            "duration",
            f"{month['wall_seconds']:,.0f} s with {month['jobs']} process(es); {month['cpu_seconds']:,.0f} s of CPU",
        ),
        ("memory of the largest process", f"{month['resident_bytes_max'] / _MEBIBYTE:,.0f} MB"),
    ]
    return "\n".join(
        (
            "## One national month\n",
            _table(("what", "figure"), rows),
            "",
            "A real month has 9.5 questionnaires for each tablet and day; the speeds above say what they would cost.",
            "What the center's machines need when all tablets come back at once: [evening-peak.md](evening-peak.md).",
            "",
        )
    )


def _bugs() -> str:
    opened = ["## Open\n", *(_bug(number, bug, "its story") for number, bug in enumerate(OPEN, start=1))]
    mended = ["## Bugs found and mended\n", *(_bug(number, bug, "kept out by") for number, bug in enumerate(FOUND, 1))]
    return "\n".join([*(opened if OPEN else ()), *mended])


def _bug(number: int, bug: FoundBug, test: str) -> str:
    return (
        f"{number}. **{bug.title}.** {bug.story}\n   Seen with `{bug.seen_with}` at commit {bug.commit}; "
        f"{test}: {bug.kept_out_by}.\n"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines.extend("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join(lines)
