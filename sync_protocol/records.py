"""Enrolment records (SPEC.md §7): JSON files carried by hand between a device and the center."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from sync_protocol import domains
from sync_protocol.domains import NAME_BYTES
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.identity import Role, device_name
from sync_protocol.keys import Signer, VerifyingKey

RECORD_BYTES_MAX: Final = 256 * 1024
"""A provisioning file holds a handful of statements and certificates."""

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
        return bytes.fromhex(self.signing_key)

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
    """Make a request that proves the possession of the signing key."""
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
    try:
        role = Role[request.role.upper()]
        public_key = request.public_key
        signature = bytes.fromhex(request.signature)
    except (KeyError, ValueError):
        raise ProtocolError(Fault.BAD_FIELD, "role, signing_key or signature of the request cannot be read") from None
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
    """Read a 32-digit hexadecimal name of a device or key; raises ProtocolError (bad_field)."""
    try:
        name = bytes.fromhex(text)
    except ValueError:
        name = b""
    if len(name) != NAME_BYTES:
        raise ProtocolError(Fault.BAD_FIELD, f"{text[:40]!r} is not {2 * NAME_BYTES} hexadecimal digits")
    return name
