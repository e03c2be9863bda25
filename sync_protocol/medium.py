"""Media (SPEC.md §4, §8): the certificate of a medium, and the file on the medium that brings it along.

Not responsible for mounting, nor for what else a medium carries: bundles on it are verified by what is in them.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sync_protocol import statement
from sync_protocol.bundle import Frame, FrameType, read_bundle, write_bundle
from sync_protocol.domains import NAME_BYTES
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.identity import Standing, Trust, check_printable
from sync_protocol.keys import Signer
from sync_protocol.layout import pack
from sync_protocol.limits import MEDIUM_IDENTITY_BYTES_MAX, MEDIUM_TEXT_BYTES_MAX
from sync_protocol.statement import Statement, parse_statement, sign_statement

MEDIUM_FOLDER: Final = "CENSUS"
"""In the medium's root; everything of ours on a medium is in it."""

MEDIUM_FILE: Final = "MEDIUM.CNS"
"""In MEDIUM_FOLDER: the medium's identity."""

_NO_NAME: Final = bytes(NAME_BYTES)
_PREFIX: Final = struct.Struct(">B3sQQ")


@dataclass(frozen=True)
class MediumCertificate:
    """What the authority, or a collection point that it delegated, certifies of a medium.

    Times in microseconds; `expires_at` 0 is never.
    """

    medium: bytes
    number: str
    holder: str
    standing: Standing
    issued_at: int
    expires_at: int
    serial: int

    def has_expired(self, center_time: int) -> bool:
        """Tell whether it is over at `center_time`: the newest time that the center signed, never a device's clock."""
        return 0 < self.expires_at <= center_time


@dataclass(frozen=True)
class MediumIdentity:
    """What a medium says of itself: key certificates and the medium's certificate. Parsed is not verified."""

    keys: tuple[Statement, ...]
    certificate: Statement

    def learn_keys(self, trust: Trust) -> Trust:
        """Return the trust that also knows the keys of the file, as far as they are genuine."""
        for key in self.keys:
            try:
                trust = trust.learn(key)
            except ProtocolError:
                continue  # another authority's, or damaged: it vouches for nothing
        return trust


def certify_medium(
    issuer: Signer,
    *,
    medium: bytes,
    number: str,
    holder: str,
    standing: Standing,
    issued_at: int,
    expires_at: int,
    serial: int,
) -> Statement:
    """Certify a medium, or say anew how it stands; raises ProtocolError (bad_field) for unfit fields.

    Serials of an issuer that is certified for media only are at most DELEGATED_SERIAL_MAX, all others greater.
    """
    _check_fields(medium, number, holder)
    body = pack(_PREFIX, standing, bytes(3), issued_at, expires_at)
    for text in (number.encode(), holder.encode()):
        body += bytes((len(text),)) + text
    return sign_statement(issuer, kind=statement.MEDIUM_CERTIFICATE, subject=medium, serial=serial, body=body)


def read_medium_certificate(source: Statement) -> MediumCertificate:
    """Read a medium certificate; raises ProtocolError: unknown_kind, truncated, trailing_bytes, bad_field."""
    if source.kind != statement.MEDIUM_CERTIFICATE:
        raise ProtocolError(Fault.UNKNOWN_KIND, f"statement kind {source.kind} is not a medium certificate")
    if len(source.body) < _PREFIX.size:
        raise ProtocolError(Fault.TRUNCATED, "the medium certificate ends within its fields")
    standing, zeros, issued_at, expires_at = _PREFIX.unpack_from(source.body)
    number_bytes, offset = _take_text(source.body, _PREFIX.size)
    holder_bytes, offset = _take_text(source.body, offset)
    if offset != len(source.body):
        raise ProtocolError(Fault.TRAILING_BYTES, "bytes follow the fields of the medium certificate")
    if any(zeros):
        raise ProtocolError(Fault.BAD_FIELD, "the fields of the medium certificate do not go together")
    try:
        certificate = MediumCertificate(
            medium=source.subject,
            number=number_bytes.decode(),
            holder=holder_bytes.decode(),
            standing=Standing(standing),
            issued_at=issued_at,
            expires_at=expires_at,
            serial=source.serial,
        )
    except ValueError:
        raise ProtocolError(
            Fault.BAD_FIELD, "standing, number or holder of the medium certificate is not known here"
        ) from None
    _check_fields(certificate.medium, certificate.number, certificate.holder)
    return certificate


def _take_text(body: bytes, offset: int) -> tuple[bytes, int]:
    """Return the text that begins at `offset` with its length, and where it ends."""
    if offset >= len(body):
        raise ProtocolError(Fault.TRUNCATED, "the medium certificate ends within its fields")
    end = offset + 1 + body[offset]
    if end > len(body):
        raise ProtocolError(Fault.TRUNCATED, "the medium certificate ends within a text")
    return body[offset + 1 : end], end


def _check_fields(medium: bytes, number: str, holder: str) -> None:
    if medium == _NO_NAME:
        raise ProtocolError(Fault.BAD_FIELD, "a medium's name is drawn at random; zeros name the center")
    check_printable("a medium's number", number, MEDIUM_TEXT_BYTES_MAX)
    check_printable("a medium's holder", holder, MEDIUM_TEXT_BYTES_MAX)


def write_medium_identity(keys: Sequence[Statement], certificate: Statement) -> bytes:
    """Return the content of MEDIUM_FILE: key certificates from the root to the signer, then the medium's certificate.

    Raises ProtocolError (unknown_kind, oversized) for what no reader would take.
    """
    if any(key.kind != statement.KEY_CERTIFICATE for key in keys):
        raise ProtocolError(Fault.UNKNOWN_KIND, "what leads to a medium's signer are key certificates")
    read_medium_certificate(certificate)
    data = write_bundle([Frame(FrameType.STATEMENT, one.data) for one in (*keys, certificate)])
    if len(data) > MEDIUM_IDENTITY_BYTES_MAX:
        raise ProtocolError(Fault.OVERSIZED, f"a medium's identity has at most {MEDIUM_IDENTITY_BYTES_MAX} bytes")
    return data


def read_medium_identity(data: bytes) -> MediumIdentity:
    """Read the content of MEDIUM_FILE; what else is in it, damage included, is passed over.

    Raises ProtocolError: oversized, bad_content unless it has exactly one medium certificate. Nothing is verified yet.
    """
    keys: list[Statement] = []
    certificates: list[Statement] = []
    for frame in read_bundle(data, MEDIUM_IDENTITY_BYTES_MAX).frames:
        if frame.type is not FrameType.STATEMENT:
            continue
        try:
            source = parse_statement(frame.payload)
        except ProtocolError:
            continue
        if source.kind == statement.KEY_CERTIFICATE:
            keys.append(source)
        elif source.kind == statement.MEDIUM_CERTIFICATE:
            certificates.append(source)
    if len(certificates) != 1:
        raise ProtocolError(
            Fault.BAD_CONTENT, f"a medium's identity has one medium certificate, this has {len(certificates)}"
        )
    return MediumIdentity(tuple(keys), certificates[0])


def certificate_in_force(identity: MediumIdentity, known: Statement | None, trust: Trust) -> MediumCertificate:
    """Return what counts for the medium at hand: the newest word on it, of its own file and what the reader `known`.

    Raises ProtocolError, with what is wrong with the file's, when neither is genuine by this trust and the keys of the
    file. A known one of another medium, or whose signer is believed no more, counts for nothing.
    """
    trust = identity.learn_keys(trust)
    other: MediumCertificate | None = None
    if known is not None and known.subject == identity.certificate.subject:
        with contextlib.suppress(ProtocolError):
            other = _verified(known, trust)
    try:
        own = _verified(identity.certificate, trust)
    except ProtocolError:
        if other is None:
            raise
        return other
    return own if other is None else max(own, other, key=lambda one: (one.serial, one.standing))


def _verified(source: Statement, trust: Trust) -> MediumCertificate:
    trust.check(source)
    return read_medium_certificate(source)
