"""What every device shall know besides its receipts: keys, and which devices no longer stand as active.

One retained bundle on the statements topic. It is a shortcut, as all retained messages are: carriers pass statements
on, and a new provisioning holds the keys too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from central_broker.storage.contract import DeviceRecord
from sync_protocol.bundle import Frame, FrameType, write_bundle
from sync_protocol.identity import Standing
from sync_protocol.limits import BUNDLE_BYTES_MAX
from sync_protocol.statement import Statement, parse_statement

_FRAME_OVERHEAD_BYTES: Final = 64
"""More than a frame and its share of the END frame take."""


def statement_bundle(keys: Sequence[Statement], devices: Iterable[DeviceRecord]) -> bytes:
    """Return one bundle: all keys, then the certificates of devices that are not (or again) active.

    Within the size of a message: revoked devices come before lost and returned ones, the newest word first.
    """
    told = [one for one in devices if one.standing is not Standing.ACTIVE or one.serial > 1]
    told.sort(key=lambda one: (one.standing is not Standing.REVOKED, one.standing is not Standing.LOST, -one.issued_at))
    statements = [*keys]
    room = BUNDLE_BYTES_MAX - _FRAME_OVERHEAD_BYTES * 2 - sum(_cost(one.data) for one in keys)
    for record in told:
        room -= _cost(record.certificate)
        if room < 0:
            break
        statements.append(parse_statement(record.certificate))
    return write_bundle([Frame(FrameType.STATEMENT, one.data) for one in statements])


def _cost(data: bytes) -> int:
    return len(data) + _FRAME_OVERHEAD_BYTES
