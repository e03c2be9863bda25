"""The register of media, for both databases: one SQL text, with %s for parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from central_broker.storage.batch_records import STORED_NUMBER_MAX, CertifiedMedium
from central_broker.storage.inquiry_records import MediumRecord
from sync_protocol.identity import Standing

if TYPE_CHECKING:
    from central_broker.storage.recording import Statements

_UPSERT: Final = (
    "INSERT INTO medium (medium, number, holder, standing, issued_at, expires_at, serial, certificate, recorded_at)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (medium) DO UPDATE SET number = excluded.number,"
    " holder = excluded.holder, standing = excluded.standing, issued_at = excluded.issued_at,"
    " expires_at = excluded.expires_at, serial = excluded.serial, certificate = excluded.certificate"
    " WHERE excluded.serial > medium.serial RETURNING medium"
)
MEDIA_SQL: Final = (
    "SELECT medium, number, holder, standing, issued_at, expires_at, serial, certificate, recorded_at FROM medium"
    " WHERE medium = %s OR %s = 0 ORDER BY number, medium"
)


def upsert_media(statements: Statements, media: Sequence[CertifiedMedium], now: int) -> int:
    """Keep the newest certificate of each medium; return how many were new (see `contract.Storage.store_media`)."""
    changed = 0
    # Locked first here, and last by devices: so two transactions with both never wait for each other.
    statements.execute("SELECT at FROM directory_version FOR UPDATE")
    for certified in sorted(media, key=lambda one: (one.certificate.medium, one.certificate.serial)):
        one = certified.certificate
        times = (min(one.issued_at, STORED_NUMBER_MAX), min(one.expires_at, STORED_NUMBER_MAX))
        parameters = (one.medium, one.number, one.holder, int(one.standing), *times, one.serial, certified.data, now)
        changed += len(statements.execute(_UPSERT, parameters))
    if changed:
        statements.execute("UPDATE directory_version SET at = at + 1")
    return changed


def medium_record(row: Sequence[Any]) -> MediumRecord:
    """Read one row of MEDIA_SQL."""
    medium, number, holder, standing, issued_at, expires_at, serial, certificate, recorded_at = row
    return MediumRecord(
        medium=bytes(medium),
        number=number,
        holder=holder,
        standing=Standing(standing),
        issued_at=issued_at,
        expires_at=expires_at,
        serial=serial,
        certificate=bytes(certificate),
        recorded_at=recorded_at,
    )
