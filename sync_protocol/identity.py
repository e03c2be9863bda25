"""Who is who (SPEC.md §1, §4): certificates, and the trust that follows from one root key."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final

from sync_protocol import domains, statement
from sync_protocol.domains import NAME_BYTES, name_of
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.keys import RecipientPublicKey, Signer, Verifier, VerifyingKey
from sync_protocol.layout import pack
from sync_protocol.limits import DEVICE_NAME_BYTES_MAX
from sync_protocol.statement import Statement, Usage, sign_statement

CENTER: Final = bytes(NAME_BYTES)
"""The center's name where a device's could stand."""

_KEY_CERTIFICATE: Final = struct.Struct(">B3s32s")
_DEVICE_PREFIX: Final = struct.Struct(">32sBB2sQB")
_EVERY_USAGE: Final = Usage.CERTIFICATES | Usage.RECEIPTS | Usage.CONTENT | Usage.MEDIA


class Role(IntEnum):
    """What a device is for."""

    TABLET = 1
    COLLECTION_POINT = 2
    ONLINE = 3
    """Takes in what was filled on the census web site, and signs notices of having been counted."""


class Standing(IntEnum):
    """What the authority says of a device or medium.

    Only an active device's data are committed without a look; only to an active medium do devices write.
    """

    ACTIVE = 1
    RETURNED = 2
    LOST = 3
    REVOKED = 4


@dataclass(frozen=True)
class DeviceCertificate:
    """What the authority certifies of a device; `issued_at` in microseconds."""

    device: bytes
    public_key: bytes
    role: Role
    standing: Standing
    issued_at: int
    name: str
    serial: int

    @property
    def verifier(self) -> VerifyingKey:
        return VerifyingKey(self.public_key)


@dataclass(frozen=True)
class CertifiedKey:
    """A signing key with what it may sign."""

    usage: Usage
    serial: int
    verifier: Verifier


def device_name(public_key: bytes) -> bytes:
    """Return the 16-byte name of a device from its Ed25519 public key."""
    return name_of(domains.DEVICE, public_key)


def check_device_name(name: str) -> None:
    """Raise ProtocolError (bad_field) unless people can read this name and a certificate can hold it."""
    check_printable("a device's name", name, DEVICE_NAME_BYTES_MAX)


def check_printable(what: str, text: str, bytes_max: int) -> None:
    """Raise ProtocolError (bad_field) unless the text is 1 to `bytes_max` bytes of printable UTF-8."""
    # Printable first: what is not may not even have an encoding (lone surrogates).
    if not text.isprintable() or not 1 <= len(text.encode()) <= bytes_max:
        raise ProtocolError(Fault.BAD_FIELD, f"{what} has 1 to {bytes_max} bytes of printable text")


def signer_name(public_key: bytes) -> bytes:
    """Return the 16-byte name of a signing key of the authority or the center."""
    return name_of(domains.SIGNER, public_key)


@dataclass(frozen=True)
class Trust:
    """What a holder of the root's public key believes: which keys may sign what. Immutable.

    Certified keys are learnt from key certificates, in any order of serials; the newest of each key counts;
    of two with one serial, which is a fault of the root, only what both grant.
    """

    root_public_key: bytes
    keys: Mapping[bytes, CertifiedKey] = field(default_factory=dict)

    @property
    def root_name(self) -> bytes:
        return signer_name(self.root_public_key)

    def check(self, source: Statement) -> None:
        """Raise ProtocolError (untrusted_signer, bad_signature) unless genuine, by a signer entitled to it."""
        if source.kind == statement.KEY_CERTIFICATE:
            if source.signer != self.root_name:
                raise ProtocolError(Fault.UNTRUSTED_SIGNER, "only the authority root certifies keys")
            source.verify(VerifyingKey(self.root_public_key))
            return
        key = self.keys.get(source.signer)
        if key is None or not source.may_be_signed_by(key.usage):
            raise ProtocolError(
                Fault.UNTRUSTED_SIGNER, f"signer {source.signer.hex()} is not certified for this kind of statement"
            )
        source.verify(key.verifier)

    def learn(self, source: Statement) -> Trust:
        """Return the trust that also knows this key certificate; raises ProtocolError when it is not genuine."""
        self.check(source)
        usage, public_key = _read_key_certificate(source)
        known = self.keys.get(source.subject)
        if known is not None:
            if known.serial == source.serial:
                usage &= known.usage
            if (known.serial, known.usage) == (source.serial, usage) or known.serial > source.serial:
                return self
        learnt = CertifiedKey(usage, source.serial, VerifyingKey(public_key))
        return replace(self, keys={**self.keys, source.subject: learnt})


def certify_key(root: Signer, *, public_key: bytes, usage: Usage, serial: int) -> Statement:
    """Certify a signing key; usage NONE withdraws it. Raises ProtocolError (bad_field) for an unfit key."""
    VerifyingKey(public_key)
    body = pack(_KEY_CERTIFICATE, usage, bytes(3), public_key)
    return sign_statement(
        root, kind=statement.KEY_CERTIFICATE, subject=signer_name(public_key), serial=serial, body=body
    )


def certified_usage(source: Statement) -> Usage:
    """Return what a key certificate grants, NONE when it withdraws; raises ProtocolError (unknown_kind, bad_field)."""
    return _read_key_certificate(source)[0]


def _read_key_certificate(source: Statement) -> tuple[Usage, bytes]:
    if source.kind != statement.KEY_CERTIFICATE:
        raise ProtocolError(Fault.UNKNOWN_KIND, f"statement kind {source.kind} is not a key certificate")
    if len(source.body) != _KEY_CERTIFICATE.size:
        raise ProtocolError(Fault.BAD_FIELD, "a key certificate's body has another length")
    usage, zeros, public_key = _KEY_CERTIFICATE.unpack(source.body)
    if any(zeros) or usage > _EVERY_USAGE:
        raise ProtocolError(Fault.BAD_FIELD, "the fields of the key certificate do not go together")
    if signer_name(public_key) != source.subject:
        raise ProtocolError(Fault.BAD_FIELD, "the key certificate's subject is another key")
    return Usage(usage), public_key


def certify_device(
    issuer: Signer, *, public_key: bytes, role: Role, standing: Standing, issued_at: int, name: str, serial: int
) -> Statement:
    """Certify a device, or say anew how it stands; raises ProtocolError (bad_field) for an unfit name, key or time."""
    check_device_name(name)
    VerifyingKey(public_key)
    encoded = name.encode()
    body = pack(_DEVICE_PREFIX, public_key, role, standing, bytes(2), issued_at, len(encoded)) + encoded
    return sign_statement(
        issuer, kind=statement.DEVICE_CERTIFICATE, subject=device_name(public_key), serial=serial, body=body
    )


def read_device_certificate(source: Statement) -> DeviceCertificate:
    """Read a device certificate; raises ProtocolError: unknown_kind, truncated, bad_field."""
    if source.kind != statement.DEVICE_CERTIFICATE:
        raise ProtocolError(Fault.UNKNOWN_KIND, f"statement kind {source.kind} is not a device certificate")
    if len(source.body) < _DEVICE_PREFIX.size:
        raise ProtocolError(Fault.TRUNCATED, "the device certificate ends within its fields")
    public_key, role, standing, zeros, issued_at, name_bytes = _DEVICE_PREFIX.unpack_from(source.body)
    encoded = source.body[_DEVICE_PREFIX.size :]
    try:
        name = encoded.decode()
        certificate = DeviceCertificate(
            source.subject, public_key, Role(role), Standing(standing), issued_at, name, source.serial
        )
    except ValueError:
        raise ProtocolError(
            Fault.BAD_FIELD, "role, standing or name of the device certificate is not known here"
        ) from None
    check_device_name(name)
    if any(zeros) or name_bytes != len(encoded):
        raise ProtocolError(Fault.BAD_FIELD, "the fields of the device certificate do not go together")
    if device_name(public_key) != source.subject:
        raise ProtocolError(Fault.BAD_FIELD, "the device certificate's subject is another key")
    VerifyingKey(public_key)  # here, so that no caller meets an unfit key later
    return certificate


def publish_recipient_key(issuer: Signer, *, public_key: bytes, serial: int) -> Statement:
    """Tell devices a key of the center that they may seal to."""
    subject = RecipientPublicKey(public_key).name
    return sign_statement(issuer, kind=statement.RECIPIENT_KEY, subject=subject, serial=serial, body=public_key)


def read_recipient_key(source: Statement) -> RecipientPublicKey:
    """Read a recipient key; raises ProtocolError: unknown_kind, bad_field."""
    if source.kind != statement.RECIPIENT_KEY:
        raise ProtocolError(Fault.UNKNOWN_KIND, f"statement kind {source.kind} is not a recipient key")
    key = RecipientPublicKey(source.body)
    if key.name != source.subject:
        raise ProtocolError(Fault.BAD_FIELD, "the recipient key's subject is another key")
    return key
