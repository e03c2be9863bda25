"""Counted lists on their way: which of them are kept here, and whom they are passed on to (SPEC.md §4.3).

They are sealed, each to its device, and the device itself opens its own only to show it. For others a device keeps
those of its neighbours, and of origins whose envelopes it has once taken over (the origin's key was one); it gives them
to the origin, and to neighbours that have brought such envelopes. So lists go back the way that envelopes came, and
nowhere else. What neighbours compare would not do for that: it would give every list to everybody.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.engine.receipts import SIGNED_TIME
from edge_agent.engine.store import StoreTransaction
from sync_protocol import statement
from sync_protocol.bundle import Frame, FrameType
from sync_protocol.counted_list import read_sealed_list
from sync_protocol.statement import Statement, parse_statement


def why_not_kept(source: Statement, device: bytes, transaction: StoreTransaction) -> str | None:
    """Return why this device does not keep a genuine list; None when it does."""
    if source.subject != device and not transaction.has_way_back(source.subject):
        return "it is for a device that this one has never met or carried for"
    if read_sealed_list(source).keep_until <= (transaction.number(SIGNED_TIME) or 0):
        return "its time is over"
    return None


def drop_past(transaction: StoreTransaction) -> None:
    """Drop the lists whose time is over, this device's own included, by the newest time that the center has signed."""
    transaction.drop_lists_until(transaction.number(SIGNED_TIME) or 0)


def frames_for(neighbour: bytes, device: bytes, transaction: StoreTransaction) -> list[Frame]:
    """Return the lists that a neighbour is to be given and was not given yet."""
    return [Frame(FrameType.STATEMENT, data) for data in transaction.lists_for(neighbour, device)]


def left_on_media(kind: int, device: bytes, transaction: StoreTransaction) -> list[Frame]:
    """Return the statements of a kind as whoever finds a medium may need them: this device's own list is not one."""
    found = transaction.statements(kind)
    if kind == statement.COUNTED_LIST:
        found = [data for data in found if parse_statement(data).subject != device]
    return [Frame(FrameType.STATEMENT, data) for data in found]


def note_given(neighbour: bytes, frames: Sequence[Frame], transaction: StoreTransaction) -> None:
    """Note which lists are among the frames that a neighbour has taken."""
    for source in map(parse_statement, (frame.payload for frame in frames if frame.type is FrameType.STATEMENT)):
        if source.kind == statement.COUNTED_LIST:
            transaction.note_list_given(neighbour, source.subject, source.serial)


def is_list(frame: Frame) -> bool:
    """Tell whether a frame is a counted list."""
    return frame.type is FrameType.STATEMENT and parse_statement(frame.payload).kind == statement.COUNTED_LIST
