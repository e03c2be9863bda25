"""Statements and heads of others that a link has still to be given, the newest word on each subject only.

They leave in the order in which a reader needs them: keys before what they signed, certificates before heads. As a
newer word takes the older one's place, what waits is bounded by what the device knows, however long a link is slow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sync_protocol import statement
from sync_protocol.bundle import Frame, FrameType, frame_bytes
from sync_protocol.head import parse_head
from sync_protocol.statement import parse_statement

_RANKS: Final = {statement.KEY_CERTIFICATE: 0, statement.DEVICE_CERTIFICATE: 1}
_RANK_OF_OTHER_STATEMENTS: Final = 2
_RANK_OF_HEADS: Final = 3

STATEMENT_KINDS: Final = (
    statement.KEY_CERTIFICATE,
    statement.DEVICE_CERTIFICATE,
    *range(statement.RECIPIENT_KEY, statement.KIND_LAST + 1),
    statement.RECEIPT,
)
"""Every kind, in the order in which they are left; also those that this release does not know (SPEC.md §4)."""

_Subject = tuple[int, bytes]
_Order = tuple[int, int]


class PendingNews:
    """See the module."""

    def __init__(self) -> None:
        self._ranks: tuple[dict[_Subject, tuple[_Order, Frame]], ...] = ({}, {}, {}, {})

    def __bool__(self) -> bool:
        return any(self._ranks)

    def add(self, frames: Iterable[Frame]) -> None:
        """Let verified statements and heads wait; an older word on the same subject is dropped, whichever it is."""
        for frame in frames:
            rank, subject, order = _place_of(frame)
            waiting = self._ranks[rank].get(subject)
            if waiting is None or waiting[0] < order:
                self._ranks[rank][subject] = (order, frame)

    def take_statements(self, bytes_max: int) -> list[Frame]:
        """Take out the statements that come next and fit; one at least, whatever its size."""
        return _take(self._ranks[:_RANK_OF_HEADS], bytes_max, one_at_least=True)

    def take_heads(self, bytes_max: int) -> list[Frame]:
        """Take out the heads that come next and fit."""
        return _take(self._ranks[_RANK_OF_HEADS:], bytes_max, one_at_least=False)


def _take(ranks: Iterable[dict[_Subject, tuple[_Order, Frame]]], bytes_max: int, *, one_at_least: bool) -> list[Frame]:
    taken: list[Frame] = []
    for waiting in ranks:
        for subject in list(waiting):
            bytes_max -= frame_bytes(len(waiting[subject][1].payload))
            if bytes_max < 0 and (taken or not one_at_least):
                return taken
            taken.append(waiting.pop(subject)[1])
    return taken


def _place_of(frame: Frame) -> tuple[int, _Subject, _Order]:
    """Return rank, subject, and what tells the newer of two on one subject."""
    if frame.type is FrameType.HEAD:
        head = parse_head(frame.payload)
        return _RANK_OF_HEADS, (head.epoch, head.origin), head.order
    source = parse_statement(frame.payload)
    rank = _RANKS.get(source.kind, _RANK_OF_OTHER_STATEMENTS)
    return rank, (source.kind, source.subject), (source.serial, 0)
