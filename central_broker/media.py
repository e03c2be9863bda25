"""Media of the Department: certifying them, saying anew how they stand, and the file that they carry (SPEC.md §8).

The caller holds `CenterFiles.only_one()`, so that numbers stay unique. Not responsible for writing onto media: see
`central_broker.medium_folder`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from central_broker.authority import AuthorityRecord, KeyKind, KeyState
from central_broker.enrolment import Refused
from central_broker.storage.batch_records import STORED_NUMBER_MAX, CertifiedMedium
from central_broker.storage.contract import Storage
from central_broker.storage.inquiry_records import MediumRecord
from sync_protocol.errors import ProtocolError
from sync_protocol.identity import Standing, Trust
from sync_protocol.keys import Signer
from sync_protocol.limits import DELEGATED_SERIAL_MAX
from sync_protocol.medium import MediumIdentity, certify_medium, read_medium_certificate, write_medium_identity
from sync_protocol.statement import Statement, parse_statement

FIRST_SERIAL: Final = DELEGATED_SERIAL_MAX + 1
"""Of a medium that the center itself enrols; its later words on any medium have greater ones."""


@dataclass(frozen=True)
class MediumWords:
    """What a certificate says of a medium; `expires_at` in microseconds, 0 is never."""

    number: str
    holder: str
    standing: Standing
    expires_at: int


def enrol_medium(
    medium: bytes, words: MediumWords, *, storage: Storage, signer: Signer, now: int
) -> MediumRecord | Refused:
    """Certify a medium under the name drawn for it, and record it."""
    for other in storage.media():
        if other.number == words.number and other.standing is Standing.ACTIVE:
            return Refused(
                f"the number {words.number!r} belongs to the active medium {other.medium.hex()}",
                f"to write its identity again: central-broker media write {other.medium.hex()} --out FOLDER; if it is"
                f" gone: central-broker media standing {other.medium.hex()} lost; else give this one another number",
            )
    return _certify(medium, words, FIRST_SERIAL, storage=storage, signer=signer, now=now)


def change_medium(
    record: MediumRecord, words: MediumWords, *, storage: Storage, signer: Signer, now: int
) -> MediumRecord | Refused:
    """Say anew what holds of a medium; the serial grows beyond all of delegates, and the publisher floods it."""
    serial = max(record.serial, FIRST_SERIAL) + 1
    return _certify(record.medium, words, serial, storage=storage, signer=signer, now=now)


def _certify(
    medium: bytes, words: MediumWords, serial: int, *, storage: Storage, signer: Signer, now: int
) -> MediumRecord | Refused:
    for what, text in (("number", words.number), ("holder", words.holder)):
        if text != text.strip():  # it would look like another one in every table
            return Refused(f"the {what} {text!r} has spaces around it", "leave them out")
    if words.standing is Standing.ACTIVE and 0 < words.expires_at <= now:
        return Refused("it would have expired already", "give a later day with --expires, or --expires never")
    try:
        statement = certify_medium(
            signer,
            medium=medium,
            number=words.number,
            holder=words.holder,
            standing=words.standing,
            issued_at=now,
            expires_at=words.expires_at,
            serial=serial,
        )
    except ProtocolError as error:
        return Refused(error.detail, "give --number and --holder as they shall stand in tables: one line, not too long")
    storage.store_media([CertifiedMedium(read_medium_certificate(statement), statement.data)], now)
    stored = storage.medium(medium)
    if stored is None or stored.certificate != statement.data:
        return Refused("a newer certificate of this medium has just come in", "try again")
    return stored


def record_medium(identity: MediumIdentity, *, trust: Trust, storage: Storage, now: int) -> MediumRecord | Refused:
    """Take into the register what a medium says of itself, if it is genuine; a newer word that is known stays."""
    certificate = identity.certificate
    try:
        identity.learn_keys(trust).check(certificate)
        found = CertifiedMedium(read_medium_certificate(certificate), certificate.data)
    except ProtocolError as error:
        return Refused(
            f"the medium's identity is not genuine: {error.detail}",
            "it is not the Department's, or its collection point's delegation was withdrawn: enrol it anew",
        )
    if certificate.serial > STORED_NUMBER_MAX:
        return Refused("the medium's serial is beyond what can be stored", "enrol it anew")
    storage.store_media([found], now)
    return storage.medium(certificate.subject) or Refused("the medium was not recorded", "try again")


def words_of(record: MediumRecord) -> MediumWords:
    """Return what holds of a medium now."""
    return MediumWords(record.number, record.holder, record.standing, record.expires_at)


def signer_of(record: MediumRecord) -> bytes:
    """Return the name of the key that signed the newest certificate."""
    return parse_statement(record.certificate).signer


def medium_identity(record: MediumRecord, authority: AuthorityRecord) -> bytes | Refused:
    """Return the content of the file that the medium carries."""
    key = _key_of(signer_of(record), authority)
    if key is None:
        return Refused(
            f"the key that certified the medium {record.number!r} is withdrawn or unknown",
            f"certify it anew: central-broker media renew {record.medium.hex()}",
        )
    return write_medium_identity([key], parse_statement(record.certificate))


def is_believed(record: MediumRecord, authority: AuthorityRecord) -> bool:
    """Tell whether anybody still believes the newest certificate."""
    return _key_of(signer_of(record), authority) is not None


def _key_of(signer: bytes, authority: AuthorityRecord) -> Statement | None:
    for key in (*authority.of_kind(KeyKind.ISSUING), *authority.delegations):
        if key.name == signer.hex() and key.state is not KeyState.WITHDRAWN:
            return parse_statement(key.statement)
    return None
