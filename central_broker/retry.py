"""Held things, accepted again: after an origin was enrolled, a form made known, a key or a program added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from central_broker.acceptance import accept_envelope, way_of, whole_decoder
from central_broker.directory import Directory
from central_broker.storage.batch_records import AcceptedEnvelope, Batch, HeldItem, OutcomeKind
from central_broker.storage.contract import Storage

_BATCH_ITEMS: Final = 200


@dataclass(frozen=True)
class RetryResult:
    """What became of held things: committed now, committed already, or held still (perhaps for another reason)."""

    committed: int
    duplicates: int
    held: int


def retry_held(storage: Storage, directory: Directory, held_ids: Sequence[bytes], now: int) -> RetryResult:
    """Accept held things again; each batch of them in one transaction. Unknown ids are passed over.

    Raises StorageUnavailable; what was done until then stays done.
    """
    committed = duplicates = held = 0
    source = iter(held_ids)
    decode = whole_decoder(directory.registry)
    while run := list(islice(source, _BATCH_ITEMS)):
        accepted: list[AcceptedEnvelope] = []
        still: list[HeldItem] = []
        wholes: list[bytes] = []
        for held_id in run:
            found = storage.held_item(held_id)
            if found is None:
                continue
            record, data = found
            if record.whole:
                wholes.append(held_id)
                continue
            outcome = accept_envelope(
                data,
                carrier=record.carrier,
                received_at=record.received_at,
                directory=directory,
                way=way_of(record.route, record.hops),
            )
            (accepted if isinstance(outcome, AcceptedEnvelope) else still).append(outcome)  # type: ignore[arg-type]  # the list is chosen by the type
        result = storage.commit(Batch(accepted, still), decode, now)
        readable = storage.retry_wholes(wholes, decode) if wholes else 0
        kinds = [outcome.kind for outcome in result.envelopes]
        committed += kinds.count(OutcomeKind.STORED) + readable
        duplicates += kinds.count(OutcomeKind.DUPLICATE)
        held += kinds.count(OutcomeKind.HELD) + len(still) + len(wholes) - readable
    return RetryResult(committed, duplicates, held)
