"""What this device can say of a notice of having been counted online, by nothing but the statements that it holds.

| what it is given | it says |
|---|---|
| a token that a certified online device signed | genuine |
| a token that verifies under no such certificate | forged |
| a token whose signer is lost or revoked | disavowed: the key may be in other hands |
| a token of a device of which there is no certificate here | unknown_signer: only the center can say |
| a number whose check digits fit | well_formed: whether it was given out, only the center can say |
| anything else | mistyped |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, Final

from edge_agent.queue.inspection import Query
from sync_protocol import statement
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.identity import DeviceCertificate, Standing, Trust, read_device_certificate
from sync_protocol.notice import Notice, is_number, read_number, read_token
from sync_protocol.statement import parse_statement

Statements = Callable[[int], Iterable[bytes]]
"""Returns the newest statements of a kind that are held."""

TEXT_CHARACTERS_MAX: Final = 2_000
"""More than a token with a space after every character."""


class NoticeVerdict(StrEnum):
    """What can be said of a notice; see above."""

    GENUINE = "genuine"
    FORGED = "forged"
    DISAVOWED = "disavowed"
    UNKNOWN_SIGNER = "unknown_signer"
    WELL_FORMED = "well_formed"
    MISTYPED = "mistyped"


def notice_document(query: Query, root_public_key: bytes, text: str) -> dict[str, Any]:
    """Return what the statements in the queue say of a notice; see `notice_by_statements`."""

    def statements(kind: int) -> list[bytes]:
        return [bytes(row["data"]) for row in query("SELECT data FROM statement WHERE kind = :kind", {"kind": kind})]

    return notice_by_statements(statements, root_public_key, text)


def notice_by_statements(statements: Statements, root_public_key: bytes, text: str) -> dict[str, Any]:
    """Return the verdict, why, and what the notice says; members are None where it says nothing that can be believed.

    `accepted_at` in microseconds; `signer` is the name of the online device.
    """
    try:
        if is_number(text):
            number = read_number(text)
            return _document(NoticeVerdict.WELL_FORMED, "nobody signs a number", number=number)
        notice = read_token(text[: TEXT_CHARACTERS_MAX + 1])
    except ProtocolError as error:
        return _document(NoticeVerdict.MISTYPED, error.detail)
    certificate = _certificate_of(notice.signer, statements, root_public_key)
    if certificate is None:
        return _document(NoticeVerdict.UNKNOWN_SIGNER, f"device {notice.signer.hex()} is not known here")
    try:
        notice.verify(certificate)
    except ProtocolError as error:
        why = "its signature does not fit" if error.fault is Fault.BAD_SIGNATURE else error.detail
        return _document(NoticeVerdict.FORGED, why)
    if certificate.standing not in (Standing.ACTIVE, Standing.RETURNED):
        why = f"the device that signed it, {certificate.name}, is {certificate.standing.name.lower()}"
        return _document(NoticeVerdict.DISAVOWED, why)
    return _genuine(notice, certificate)


def _genuine(notice: Notice, certificate: DeviceCertificate) -> dict[str, Any]:
    document = _document(NoticeVerdict.GENUINE, "a certified online device signed it", number=notice.number)
    return document | {"form": notice.form, "accepted_at": notice.accepted_at, "signer": certificate.name}


def _document(verdict: NoticeVerdict, why: str, *, number: str | None = None) -> dict[str, Any]:
    unsaid = {"form": None, "accepted_at": None, "signer": None}
    return {"verdict": verdict.value, "why": why, "number": number, **unsaid}


def _certificate_of(device: bytes, statements: Statements, root_public_key: bytes) -> DeviceCertificate | None:
    """Return the newest certificate of a device that verifies now; keys may have been withdrawn since it came."""
    trust = Trust(root_public_key)
    for data in statements(statement.KEY_CERTIFICATE):
        trust = trust.learn(parse_statement(data))
    found: DeviceCertificate | None = None
    for data in statements(statement.DEVICE_CERTIFICATE):
        source = parse_statement(data)
        if source.subject != device or (found is not None and found.serial > source.serial):
            continue
        try:
            trust.check(source)
            found = read_device_certificate(source)
        except ProtocolError:  # its signer was withdrawn, or a later release wrote it
            continue
    return found
