"""What receipts are made of: chains, runs that carriers brought, and who waits for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from central_broker.storage.batch_records import EnvelopeStatus

RUN_ENDS_MAX: Final = 100
"""Spans that one receipt ends for carriers' sake, some 5 KB. Whoever is not among the newest brings its run again."""


@dataclass(frozen=True, slots=True)
class ChainRow:
    """One receiptable envelope, as receipts are built from it."""

    epoch: int
    sequence: int
    id: bytes
    previous_id: bytes
    status: EnvelopeStatus
    committed_at: int


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The last of a run of envelopes that a carrier brought: what a receipt must vouch for by its id.

    A carrier may have nothing else of that chain, so no later id leads it to these.
    """

    origin: bytes
    id: bytes
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Want:
    """An origin that waits for a receipt. `wanted` grows with every new reason; `fresh` asks for a new serial."""

    origin: bytes
    wanted: int
    fresh: bool


@dataclass(frozen=True, slots=True)
class ReceiptGrant:
    """What one origin's next receipt is made with; `last` are the bytes of the newest so far.

    `republishable`: `last` answers the origin's newest head, so that it may be sent again as it is.
    `newest_epoch` is the last one of which the origin has stated a head; 0 when none. `run_ends` are the newest that
    carriers brought of this origin, at most RUN_ENDS_MAX.
    """

    origin: bytes
    serial: int
    last: bytes | None
    republishable: bool
    newest_epoch: int
    run_ends: Sequence[RunEnd] = ()


class ReceiptIssue(Protocol):
    """An open transaction that holds the receipt locks of some origins; see `Storage.issue_receipts`."""

    @property
    def watermark(self) -> int: ...

    @property
    def grants(self) -> Sequence[ReceiptGrant]: ...

    def chain(self, origin: bytes) -> tuple[int, list[ChainRow]]:
        """Return (clock, all receiptable rows up to it by epoch, sequence, id)."""
        ...

    def changes(self, after: int, rows_max: int) -> tuple[int, list[tuple[bytes, ChainRow]]] | None:
        """Return (clock, rows of every origin with a commit time in (after, clock], by commit time and sequence).

        DISPROVED rows are among them. None when there are more than `rows_max`, or the clock is behind `after`.
        """
        ...

    def store(self, origin: bytes, serial: int, data: bytes) -> None:
        """Store a signed receipt; it is real once the transaction has committed."""
        ...
