"""What every device shall know besides its receipts: keys, which devices and media no longer stand as active, and which
devices take questionnaires in online.

One retained bundle on the statements topic. It is a shortcut, as all retained messages are: carriers pass statements
on, and a new provisioning holds the keys too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from central_broker.media import FIRST_SERIAL
from central_broker.storage.census_records import FormRecord
from central_broker.storage.inquiry_records import DeviceRecord, MediumRecord
from sync_protocol.bundle import Frame, FrameType, write_bundle
from sync_protocol.identity import Role, Standing, certified_usage
from sync_protocol.limits import BUNDLE_BYTES_MAX
from sync_protocol.statement import KEY_CERTIFICATE, Statement, Usage, parse_statement

_FRAME_OVERHEAD_BYTES: Final = 64
"""More than a frame and its share of the END frame take."""

_RANK_WITHDRAWN: Final = 0
_RANK_DELEGATED: Final = 2
"""After what is revoked: a collection point that is never told cannot enrol media, and that can wait."""
_RANK_LOST: Final = 3


def statement_bundle(
    keys: Sequence[Statement],
    devices: Iterable[DeviceRecord],
    media: Iterable[MediumRecord] = (),
    delegations: Iterable[Statement] = (),
) -> bytes:
    """Return one bundle: all keys, then delegations, and the certificates of devices and media that are not (or again)
    active, and of online devices.

    Within the size of a message: what takes trust away comes before what gives it, the newest word first.
    """
    told = [_Told(_device_rank(one), -one.issued_at, one.certificate) for one in devices if _is_device_news(one)]
    told += [_Told(_rank(one.standing), -one.issued_at, one.certificate) for one in media if _is_medium_news(one)]
    for delegation in delegations:
        # Those in force also come with every medium that they certified; those withdrawn come from here only.
        withdrawn = certified_usage(delegation) is Usage.NONE
        told.append(_Told(_RANK_WITHDRAWN if withdrawn else _RANK_DELEGATED, 0, delegation.data))
    told.sort(key=lambda one: (one.rank, one.order))
    room = BUNDLE_BYTES_MAX - _FRAME_OVERHEAD_BYTES * 2 - sum(_cost(one.data) for one in keys)
    chosen: list[_Told] = []
    for one in told:
        room -= _cost(one.data)
        if room < 0:
            break
        chosen.append(one)
    # Certificates come before what they certify.
    chosen.sort(key=lambda one: one.rank not in (_RANK_WITHDRAWN, _RANK_DELEGATED))
    statements = [*(one.data for one in keys), *(one.data for one in chosen)]
    return write_bundle([Frame(FrameType.STATEMENT, data) for data in statements])


def form_bundles(
    keys: Sequence[Statement], forms: Iterable[FormRecord], files: Iterable[tuple[str, str, bytes]]
) -> list[tuple[bytes, bytes]]:
    """Return a bundle for each file of forms, and then for each form, with its subject: what certifies its signer, and
    the statement.

    Each is retained on a topic of its own: together they may be larger than a message.
    """
    bundles: list[tuple[bytes, bytes]] = []
    given = [statement for _, _, statement in files]
    given += [form.statement for form in forms if form.statement is not None]
    for statement in given:
        source = parse_statement(statement)
        bundles.append((source.subject, vouched_bundle(keys, source)))
    return bundles


def vouched_bundle(keys: Sequence[Statement], source: Statement) -> bytes:
    """Return a bundle of one statement after what certifies its signer."""
    vouching = [key for key in keys if (key.kind, key.subject) == (KEY_CERTIFICATE, source.signer)]
    return write_bundle([Frame(FrameType.STATEMENT, one.data) for one in (*vouching, source)])


@dataclass(frozen=True, slots=True)
class _Told:
    rank: int
    order: int
    data: bytes


def _device_rank(record: DeviceRecord) -> int:
    """There are a handful of online devices, and thousands of returned ones must not crowd them out."""
    return min(_rank(record.standing), _RANK_LOST) if record.role is Role.ONLINE else _rank(record.standing)


def _rank(standing: Standing) -> int:
    return {Standing.REVOKED: 1, Standing.LOST: _RANK_LOST}.get(standing, 4)


def _is_device_news(record: DeviceRecord) -> bool:
    """Of an online device every tablet wants to know: it checks notices with the certificate."""
    if record.role is Role.ONLINE:
        return True
    return record.standing is not Standing.ACTIVE or record.serial > 1


def _is_medium_news(record: MediumRecord) -> bool:
    """An active medium brings its own first certificate along; the authority's second word has another serial."""
    return record.standing is not Standing.ACTIVE or record.serial > FIRST_SERIAL


def _cost(data: bytes) -> int:
    return len(data) + _FRAME_OVERHEAD_BYTES
