"""Enrolling media on a collection point that the authority has delegated: its own key certifies them (SPEC.md §4, §8).

Not responsible for the medium itself, nor for what becomes of the certificate: see `commands.media_enrol`.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.engine.identity import Beliefs, DeviceIdentity
from edge_agent.engine.receipts import SIGNED_TIME
from edge_agent.engine.store import StoreTransaction
from sync_protocol import statement
from sync_protocol.errors import ProtocolError
from sync_protocol.identity import Standing, certified_usage, signer_name
from sync_protocol.medium import certify_medium, read_medium_certificate, write_medium_identity
from sync_protocol.statement import Statement, Usage, parse_statement

_FIRST_SERIAL = 1
"""A delegate says one word on a medium; whatever is said later, the center says."""


@dataclass(frozen=True)
class MediumWords:
    """What is said of a new medium; `expires_at` in microseconds, 0 is never."""

    number: str
    holder: str
    expires_at: int


@dataclass(frozen=True)
class CertifiedIdentity:
    """`data` is the content of the medium's identity file. Nothing is recorded yet."""

    medium: bytes
    data: bytes


@dataclass(frozen=True)
class EnrolmentRefused:
    """Why not, and what to do."""

    problem: str
    remedy: str


def certify_new_medium(
    medium: bytes, words: MediumWords, transaction: StoreTransaction, identity: DeviceIdentity, now: int
) -> CertifiedIdentity | EnrolmentRefused:
    """Certify a medium under the name drawn for it (16 random bytes)."""
    delegation = _delegation(transaction, identity)
    if delegation is None:
        return EnrolmentRefused(
            "the authority has not delegated this device to enrol media",
            f"at the center: central-broker media delegate {identity.device.hex()}; this device learns of it by VPN, or"
            " from any medium that comes from there. The center can enrol the medium, too",
        )
    other = _active_with_number(words.number, transaction, identity)
    if other is not None:
        return EnrolmentRefused(
            f"the number {words.number!r} belongs to another medium, {other.hex()}",
            "take another number; if that one is gone, the center says so: central-broker media standing",
        )
    # A dead clock must not make a medium that was enrolled in 1970.
    issued_at = max(now, transaction.number(SIGNED_TIME) or 0)
    if 0 < words.expires_at <= issued_at:
        return EnrolmentRefused("it would have expired already", "give a later day with --expires, or leave it out")
    for what, text in (("number", words.number), ("holder", words.holder)):
        if text != text.strip():  # it would look like another one in every table
            return EnrolmentRefused(f"the {what} {text!r} has spaces around it", "leave them out")
    try:
        certificate = certify_medium(
            identity.signer,
            medium=medium,
            number=words.number,
            holder=words.holder,
            standing=Standing.ACTIVE,
            issued_at=issued_at,
            expires_at=words.expires_at,
            serial=_FIRST_SERIAL,
        )
    except ProtocolError as error:
        return EnrolmentRefused(error.detail, "give --number and --holder as they shall stand in tables: one line each")
    return CertifiedIdentity(medium, write_medium_identity([delegation], certificate))


def _delegation(transaction: StoreTransaction, identity: DeviceIdentity) -> Statement | None:
    data = transaction.statement(statement.KEY_CERTIFICATE, signer_name(identity.signer.public_bytes))
    if data is None:
        return None
    key = parse_statement(data)
    return key if Usage.MEDIA in certified_usage(key) else None


def _active_with_number(number: str, transaction: StoreTransaction, identity: DeviceIdentity) -> bytes | None:
    """Return another medium of this number, as far as this device knows; the center knows them all."""
    beliefs = Beliefs(identity)
    beliefs.refresh(transaction)
    for data in transaction.statements(statement.MEDIUM_CERTIFICATE):
        source = parse_statement(data)
        try:
            beliefs.check(source)
        except ProtocolError:
            continue  # its signer's delegation was withdrawn since
        certificate = read_medium_certificate(source)
        if certificate.number == number and certificate.standing is Standing.ACTIVE:
            return certificate.medium
    return None
