"""Enrolment records (SPEC.md §7): JSON files carried by hand between a device and the center."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from sync_protocol import domains
from sync_protocol.domains import NAME_BYTES
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.identity import Role, check_device_name, device_name
from sync_protocol.keys import SIGNATURE_BYTES, SIGNING_PUBLIC_KEY_BYTES, Signer, VerifyingKey

RECORD_BYTES_MAX: Final = 256 * 1024
"""A provisioning file holds a handful of statements and certificates."""

_ROLES: Final = {role.name.lower(): role for role in Role}
_HEXADECIMAL_DIGITS: Final = frozenset("0123456789abcdef")

Record = TypeVar("Record", bound=msgspec.Struct)


class EnrolmentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a device asks to be certified; made on the device, private keys stay there."""

    name: str
    role: str
    signing_key: str
    tls_request: str
    signature: str

    @property
    def public_key(self) -> bytes:
        """Raise ProtocolError (bad_field) unless `signing_key` is 64 hexadecimal digits."""
        return _parse_hexadecimal("signing_key", self.signing_key, SIGNING_PUBLIC_KEY_BYTES)

    @property
    def device(self) -> bytes:
        return device_name(self.public_key)


class Provisioning(msgspec.Struct, frozen=True, kw_only=True):
    """What a device needs in order to work; holds no secret."""

    device: str
    root_key: str
    statements: list[bytes]
    recipient_key: str
    tls_certificate: str
    tls_authority: str


def sign_request(signer: Signer, *, name: str, role: Role, tls_request: str) -> EnrolmentRequest:
    """Make a request that proves possession of the signing key; raises ProtocolError (bad_field) for an unfit name."""
    check_device_name(name)
    role_name = role.name.lower()
    signature = signer.sign(_request_message(name, role_name, signer.public_bytes, tls_request))
    return EnrolmentRequest(
        name=name,
        role=role_name,
        signing_key=signer.public_bytes.hex(),
        tls_request=tls_request,
        signature=signature.hex(),
    )


def check_request(request: EnrolmentRequest) -> Role:
    """Return the role asked for; raises ProtocolError (bad_field, bad_signature) unless the request signed itself."""
    role = _ROLES.get(request.role)
    if role is None:
        raise ProtocolError(Fault.BAD_FIELD, f"the role of the request is none of {', '.join(_ROLES)}")
    check_device_name(request.name)
    if not request.tls_request.isascii() or "\0" in request.tls_request:
        raise ProtocolError(Fault.BAD_FIELD, "tls_request is not PEM")
    public_key = request.public_key
    signature = _parse_hexadecimal("signature", request.signature, SIGNATURE_BYTES)
    message = _request_message(request.name, request.role, public_key, request.tls_request)
    VerifyingKey(public_key).verify(signature, message)
    return role


def _request_message(name: str, role: str, public_key: bytes, tls_request: str) -> bytes:
    return b"".join((domains.ENROLMENT, name.encode(), b"\0", role.encode(), b"\0", public_key, tls_request.encode()))


def encode_record(record: msgspec.Struct) -> bytes:
    """Return the record as indented JSON, ended by a line break: people look into these files."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def decode_record(data: bytes, kind: type[Record]) -> Record:
    """Read a record; raises ProtocolError (oversized, bad_content) with what is wrong and where."""
    if len(data) > RECORD_BYTES_MAX:
        raise ProtocolError(Fault.OVERSIZED, f"a {kind.__name__} file has at most {RECORD_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(Fault.BAD_CONTENT, f"not a {kind.__name__} file: {error}") from None


def parse_name(text: str) -> bytes:
    """Read a 32-digit hexadecimal name of a device or key; raises ProtocolError (bad_field).

    Small letters only and no spaces, so that one name is one topic, one file name and one certificate subject.
    """
    return _parse_hexadecimal("the name", text, NAME_BYTES)


def _parse_hexadecimal(member: str, text: str, length: int) -> bytes:
    if len(text) != 2 * length or not _HEXADECIMAL_DIGITS.issuperset(text):
        raise ProtocolError(
            Fault.BAD_FIELD, f"{member} {text[:40]!r} is not {2 * length} hexadecimal digits in small letters"
        )
    return bytes.fromhex(text)
