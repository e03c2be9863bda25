"""What must balance in a simulated world once everything has been given time to drain (I1, I4, I5, I6 of `oracle`)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from central_broker.storage.inquiry_records import Completeness
from sync_protocol.receipt import SpanStatus
from tests.simulator.oracle import AcceptedQuestionnaire, Oracle, Place, QueueTruth, Violation, name_of

LOST = "lost with every carrier, declared"
FORKED = "forked places"
_UNKNOWN = "of these envelopes, unknown to the center"
_UNACKNOWLEDGED = "arrived though never acknowledged"
_STATUSES = {"committed": SpanStatus.COMMITTED, "held": SpanStatus.HELD}


def balance(
    truth: Oracle,
    *,
    forks: Mapping[Place, tuple[bytes, ...]],
    completeness: Sequence[Completeness],
    active: set[bytes],
) -> None:
    """Raise Violation unless the accounts balance.

    `forks` and `completeness` are what the center tells; `active` are the origins in good standing.
    """
    for name in (LOST, _UNKNOWN, _UNACKNOWLEDGED, FORKED):
        truth.counts.pop(name, None)
    doubled: Counter[tuple[bytes, str, bytes]] = Counter()
    for one in truth.questionnaires.values():
        doubled[one.origin, one.instance_id, one.digest] += 1
    for accepted in truth.accepted.values():
        _judge_accepted(truth, accepted, doubled, active)
    for (origin, instance_id, _), times in doubled.items():
        if origin in truth.rolled_back | truth.twins:
            continue
        if times > 1:
            raise Violation("I1", f"{instance_id} is in the database {times} times")
        if (origin, instance_id) not in truth.accepted:
            truth.counts[_UNACKNOWLEDGED] += 1
    _judge_forks(truth, forks)
    _judge_claims(truth, completeness)
    _judge_losses(truth, {(one.origin, one.epoch): one for one in completeness})
    for device, queue in truth.queues.items():
        _judge_queue(truth, device, queue, active)


def _judge_accepted(
    truth: Oracle, accepted: AcceptedQuestionnaire, doubled: Counter[tuple[bytes, str, bytes]], active: set[bytes]
) -> None:
    missing = [i for i in accepted.ids if i not in truth.database]
    if any(i not in truth.excused for i in missing):
        raise Violation("I6", f"{accepted.instance_id} was accepted and never reached the database")
    if missing:
        truth.counts[LOST] += 1
        return
    held = any(truth.database[i].status != "committed" for i in accepted.ids)
    if held and accepted.origin in active:
        raise Violation("I6", f"{accepted.instance_id} is still held, though its origin is in good standing")
    if not held and not doubled[accepted.origin, accepted.instance_id, accepted.digest]:
        raise Violation("I1", f"{accepted.instance_id} is in the database with other content, or not whole")


def _judge_claims(truth: Oracle, known: Iterable[Completeness]) -> None:
    """The center may believe a chain to reach only as far as its origin has sealed it."""
    reached: dict[tuple[bytes, int], int] = defaultdict(int)
    for (origin, epoch, sequence), ids in truth.places.items():
        if ids:
            reached[origin, epoch] = max(reached[origin, epoch], sequence)
    for one in known:
        if one.sealed > reached[one.origin, one.epoch]:
            raise Violation("I1", f"the center believes {one.origin.hex()[:8]} to have sealed more than it has")


def _judge_losses(truth: Oracle, known: Mapping[tuple[bytes, int], Completeness]) -> None:
    """What was lost with every carrier must be listed by its place, as soon as the center knows of a later one."""
    lost = {i for accepted in truth.accepted.values() for i in accepted.ids} - truth.database.keys()
    for (origin, epoch, sequence), ids in truth.places.items():
        if not ids & lost or any(i in truth.database for i in ids):
            continue
        one = known.get((origin, epoch))
        if one is None or one.sealed < sequence:
            truth.counts[_UNKNOWN] += 1
        elif not any(first <= sequence <= last for first, last in one.missing):
            raise Violation("I1", f"{epoch}/{sequence} of {origin.hex()[:8]} is lost, and the center lists no gap")


def _judge_forks(truth: Oracle, told: Mapping[Place, tuple[bytes, ...]]) -> None:
    in_database: dict[Place, set[bytes]] = defaultdict(set)
    for one in truth.database.values():
        if one.status != "disproved":
            in_database[one.origin, one.epoch, one.sequence].add(one.id)
    for place, ids in in_database.items():
        if len(ids) > 1:
            truth.counts[FORKED] += 1
            if set(told.get(place, ())) != ids:
                raise Violation("I5", "two envelopes stand at one place, and the center does not list both")
            if place not in truth.told_forks:
                raise Violation("I5", "two envelopes came to stand at one place without an alarm")


def _judge_queue(truth: Oracle, device: str, queue: QueueTruth, active: set[bytes]) -> None:
    for row in queue.rows.values():
        stored = truth.database.get(row.id)
        if not row.own and row.has_data:
            raise Violation("I6", f"{device} still carries another's {name_of(row)}")
        if not row.own:
            continue
        if stored is None and row.id in truth.excused:
            continue
        if stored is None:
            raise Violation("I6", f"{device}'s {name_of(row)} never reached the database")
        if (row.status, row.committed_at) != (_STATUSES[stored.status], stored.committed_at):
            raise Violation("I4", f"{device}'s {name_of(row)} has another sync mark than its commit, in the end")
        if row.has_data and row.origin in active:
            raise Violation("I6", f"{device} never purged {name_of(row)}")
