"""What stands in the census database against what was handed over and what the tablets say, asked by SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from demo.field import Center, Device

NO_PREVIOUS = bytes(32)


def digests(bodies: Iterable[bytes]) -> Counter[str]:
    """How often each body occurs, by digest."""
    return Counter(sha256(body).hexdigest() for body in bodies)


def stored(center: Center, form: str = "") -> Counter[str]:
    """How often each body stands in the database: as it was submitted, byte by byte, if the digests are equal."""
    rows = center.query("SELECT form, body FROM questionnaire")
    return digests(bytes(row[1]) for row in rows if form in ("", row[0]))


@dataclass(frozen=True)
class CenterEnvelope:
    """One envelope as the database has it; `committed_at` in microseconds."""

    id: bytes
    origin: bytes
    epoch: int
    sequence: int
    previous_id: bytes
    status: str
    committed_at: int


def envelopes_at_center(center: Center) -> list[CenterEnvelope]:
    """Every envelope in the database, in the order of the chains."""
    rows = center.query(
        "SELECT e.id, e.origin, e.epoch, e.sequence, e.previous_id, e.status, b.committed_at"
        " FROM envelope e JOIN batch b ON b.id = e.batch ORDER BY e.origin, e.epoch, e.sequence"
    )
    return [CenterEnvelope(bytes(row[0]), bytes(row[1]), row[2], row[3], bytes(row[4]), *row[5:]) for row in rows]


def assert_marks_are_commit_times(device: Device, known: Sequence[CenterEnvelope]) -> int:
    """Every envelope of the tablet is committed, at exactly its sync mark; returns how many."""
    origin = bytes.fromhex(device.status()["device"])
    at_center = {(one.epoch, one.sequence, one.id.hex()): one for one in known if one.origin == origin}
    rows = [row for row in device.envelopes() if row["own"]]
    marks = {(row["epoch"], row["sequence"], row["id"]): row["committed_at"] for row in rows}
    assert marks == {place: one.committed_at for place, one in at_center.items() if place in marks}
    assert {at_center[place].status for place in marks} <= {"committed"}
    return len(marks)


def assert_gapless(known: Sequence[CenterEnvelope]) -> None:
    """Every chain begins at 1, has each sequence once, and each envelope names the one before."""
    last: dict[tuple[bytes, int], CenterEnvelope] = {}
    for one in known:
        before = last.get((one.origin, one.epoch))
        expected = (1, NO_PREVIOUS) if before is None else (before.sequence + 1, before.id)
        assert (one.sequence, one.previous_id) == expected
        last[one.origin, one.epoch] = one


def completeness(center: Center) -> dict[str, dict[str, Any]]:
    """What `central-broker completeness` says of each device, by name; of its newest epoch."""
    document = center.ask("completeness")
    return {row["name"]: row for row in sorted(document["devices"], key=lambda row: row["epoch"])}


def assert_complete(center: Center) -> None:
    """Every device has all it sealed committed; nothing is missing, held or forked."""
    for row in center.ask("completeness")["devices"]:
        assert (row["sealed"], row["missing"], row["held"], row["forks"]) == (row["committed"], 0, 0, 0), row
    assert center.ask("held", "list")["held"] == []
