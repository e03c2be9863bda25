"""Media as `central-broker media` shows them, to people and to programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from central_broker.authority import AuthorityRecord
from central_broker.backup import as_time
from central_broker.media import is_believed, signer_of
from central_broker.storage.inquiry_records import DeviceRecord, MediumRecord
from sync_protocol.identity import signer_name

_LAST_TIME: Final = 253_402_214_400_000_000
"""The last day that a date can name, in microseconds: what is later is told as that day."""


def signers(authority: AuthorityRecord, devices: Iterable[DeviceRecord]) -> dict[bytes, str]:
    """Names for people of the keys that certify media."""
    delegated = {bytes.fromhex(one.name) for one in authority.delegations}
    names = {signer_name(one.public_key): one.name for one in devices}
    return {signer: names.get(signer, signer.hex()) for signer in delegated}


def signature(record: MediumRecord, authority: AuthorityRecord, signers: dict[bytes, str]) -> dict[str, object]:
    """Who certified a medium, and whether anybody still believes it."""
    by = signers.get(signer_of(record), "the center")
    return {"certified_by": by, "believed": is_believed(record, authority)}


def certified_by(record: MediumRecord, authority: AuthorityRecord, signers: dict[bytes, str]) -> str:
    """The same for people."""
    by = signers.get(signer_of(record), "the center")
    return by if is_believed(record, authority) else f"{by}, believed no more"


def last_day(expires_at: int) -> str | None:
    """The last day of use, None when there is none."""
    return None if expires_at == 0 else f"{as_time(min(expires_at, _LAST_TIME) - 1):%Y-%m-%d}"


def document(record: MediumRecord) -> dict[str, object]:
    """Everything that its certificate says, and since when it is known here."""
    return {
        "medium": record.medium,
        "number": record.number,
        "holder": record.holder,
        "standing": record.standing.name.lower(),
        "last_day": last_day(record.expires_at),
        "serial": record.serial,
        "issued_at": as_time(min(record.issued_at, _LAST_TIME)),
        "recorded_at": as_time(record.recorded_at),
    }
