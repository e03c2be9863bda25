"""Whether a medium is one of ours, by the authority's word and what the device has heard of it since."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edge_agent.engine.identity import Beliefs, DeviceIdentity
from edge_agent.engine.receipts import SIGNED_TIME
from edge_agent.engine.store import StoreTransaction
from sync_protocol import statement
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.identity import Role, Standing
from sync_protocol.medium import certificate_in_force, read_medium_certificate, read_medium_identity
from sync_protocol.statement import Statement, parse_statement


class LeftAlone(Enum):
    """Why a medium is not touched; the value is a sentence's end for a log."""

    UNKNOWN = "it is not enrolled"
    DAMAGED = "its identity cannot be read"
    FOREIGN = "nobody whom the authority certified has enrolled it"
    NOT_ACTIVE = "it was called in"
    EXPIRED = "its time is over"


@dataclass(frozen=True)
class Enrolled:
    """One of ours. `number` is what is written on it, `holder` who answers for it."""

    medium: bytes
    number: str
    holder: str


def judge_medium(data: bytes, transaction: StoreTransaction, identity: DeviceIdentity) -> Enrolled | LeftAlone:
    """Judge a medium by the bytes of its identity file (SPEC.md §8)."""
    beliefs = Beliefs(identity)
    beliefs.refresh(transaction)
    try:
        claimed = read_medium_identity(data)
        known = transaction.statement(statement.MEDIUM_CERTIFICATE, claimed.certificate.subject)
        certificate = certificate_in_force(claimed, None if known is None else parse_statement(known), beliefs.trust)
    except ProtocolError as error:
        foreign = error.fault in (Fault.UNTRUSTED_SIGNER, Fault.BAD_SIGNATURE)
        return LeftAlone.FOREIGN if foreign else LeftAlone.DAMAGED
    if certificate.standing is not Standing.ACTIVE:
        return LeftAlone.NOT_ACTIVE
    if certificate.has_expired(transaction.number(SIGNED_TIME) or 0):
        return LeftAlone.EXPIRED
    return Enrolled(certificate.medium, certificate.number, certificate.holder)


def news_of_medium(data: bytes, transaction: StoreTransaction, identity: DeviceIdentity) -> list[bytes]:
    """Return what a collection point learns from an identity file: the certificate, after the keys that lead to it.

    Another collection point may have enrolled the medium and never have reached the center: whoever meets the medium
    can tell. Tablets have nobody to tell it to.
    """
    beliefs = Beliefs(identity)
    beliefs.refresh(transaction)
    if beliefs.role is not Role.COLLECTION_POINT:
        return []
    try:
        claimed = read_medium_identity(data)
        claimed.learn_keys(beliefs.trust).check(claimed.certificate)
        read_medium_certificate(claimed.certificate)
    except ProtocolError:
        return []
    if not _is_news(claimed.certificate, transaction):
        return []
    keys = [key for key in claimed.keys if key.subject == claimed.certificate.signer]
    return [one.data for one in (*keys, claimed.certificate) if _is_news(one, transaction)]


def _is_news(source: Statement, transaction: StoreTransaction) -> bool:
    known = transaction.statement(source.kind, source.subject)
    return known is None or parse_statement(known).serial < source.serial
