"""Notices of having been counted online (SPEC.md §10): a number for people, and a token that a tablet can verify."""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from sync_protocol import domains
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.identity import DeviceCertificate, Role, check_printable
from sync_protocol.keys import SIGNATURE_BYTES, Signer
from sync_protocol.layout import pack
from sync_protocol.limits import NOTICE_FORM_BYTES_MAX

MAGIC: Final = b"CNSN"
VERSION: Final = 1
_PREFIX: Final = struct.Struct(">4sBB2s16sQQ")
_NUMBERS: Final = 10**18
_DIGITS: Final = 20
_CHECK_DIGITS: Final = 2
_GROUP_DIGITS: Final = 4
_MODULUS: Final = 97
_TOKEN_BYTES_MAX: Final = _PREFIX.size + NOTICE_FORM_BYTES_MAX + SIGNATURE_BYTES
TOKEN_CHARACTERS_MAX: Final = -(-_TOKEN_BYTES_MAX * 8 // 5)


@dataclass(frozen=True)
class Notice:
    """One parsed notice; `accepted_at` in microseconds, `data` its exact bytes. Parsed is not verified."""

    data: bytes
    signer: bytes
    number: str
    form: str
    accepted_at: int

    @property
    def token(self) -> str:
        """What a QR code holds: capital letters and digits only."""
        return base64.b32encode(self.data).decode().rstrip("=")

    def verify(self, certificate: DeviceCertificate) -> None:
        """Raise ProtocolError (untrusted_signer, bad_signature) unless this device, being an online device, signed it.

        The caller has verified the certificate, and judges the standing in it.
        """
        if certificate.device != self.signer:
            raise ProtocolError(Fault.UNTRUSTED_SIGNER, "the certificate is another device's")
        if certificate.role is not Role.ONLINE:
            raise ProtocolError(Fault.UNTRUSTED_SIGNER, "its signer is not certified as an online device")
        certificate.verifier.verify(self.data[-SIGNATURE_BYTES:], domains.NOTICE + self.data[:-SIGNATURE_BYTES])


def notice_number(form: str, instance_id: str) -> str:
    """Return the number of a questionnaire's notice: 20 digits in groups of four, the last two to check the others."""
    return _with_check_digits(_bare_number(form, instance_id))


def read_number(text: str) -> str:
    """Return a number as it is written; raises ProtocolError: truncated, oversized, bad_field (mistyped)."""
    digits = _plain(text)
    if not is_number(digits):
        raise ProtocolError(Fault.BAD_FIELD, "a number has nothing but digits, in groups or not")
    if len(digits) != _DIGITS:
        fault = Fault.TRUNCATED if len(digits) < _DIGITS else Fault.OVERSIZED
        raise ProtocolError(fault, f"it has {len(digits)} digits; a number has {_DIGITS}")
    number = _with_check_digits(int(digits[:-_CHECK_DIGITS]))
    if number != _grouped(digits):
        raise ProtocolError(Fault.BAD_FIELD, "its check digits do not fit: a digit is wrong, or two are exchanged")
    return number


def sign_notice(signer: Signer, *, device: bytes, form: str, instance_id: str, accepted_at: int) -> Notice:
    """Make the notice of a questionnaire; raises ProtocolError (bad_field) for a form's id that does not fit."""
    check_form(form)
    encoded = form.encode()
    number = _bare_number(form, instance_id)
    prefix = pack(_PREFIX, MAGIC, VERSION, len(encoded), bytes(2), device, number, max(0, accepted_at))
    unsigned = prefix + encoded
    return parse_notice(unsigned + signer.sign(domains.NOTICE + unsigned))


def check_form(form: str) -> None:
    """Raise ProtocolError (bad_field) unless a notice has room for this form's id."""
    check_printable("a form's id in a notice", form, NOTICE_FORM_BYTES_MAX)


def parse_notice(data: bytes) -> Notice:
    """Read a notice's bytes; raises ProtocolError: truncated, trailing_bytes, bad_magic, unknown_version, bad_field."""
    if len(data) < _PREFIX.size + SIGNATURE_BYTES:
        raise ProtocolError(Fault.TRUNCATED, f"{len(data)} bytes are too few for a notice")
    magic, version, form_bytes, zeros, signer, number, accepted_at = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise ProtocolError(Fault.BAD_MAGIC, "not a notice")
    if version != VERSION:
        raise ProtocolError(Fault.UNKNOWN_VERSION, f"notice version {version} is not known here")
    expected = _PREFIX.size + form_bytes + SIGNATURE_BYTES
    if len(data) != expected:
        fault = Fault.TRUNCATED if len(data) < expected else Fault.TRAILING_BYTES
        raise ProtocolError(fault, f"the notice announces {expected} bytes, there are {len(data)}")
    if any(zeros) or number >= _NUMBERS:
        raise ProtocolError(Fault.BAD_FIELD, "the fields of the notice do not go together")
    try:
        form = data[_PREFIX.size : -SIGNATURE_BYTES].decode()
    except UnicodeDecodeError:
        raise ProtocolError(Fault.BAD_FIELD, "the form's id is not UTF-8") from None
    check_form(form)
    return Notice(data, signer, _with_check_digits(number), form, accepted_at)


def read_token(text: str) -> Notice:
    """Read a token as somebody copied it; raises ProtocolError as `parse_notice` does, and oversized, bad_content."""
    token = _plain(text)
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise ProtocolError(Fault.OVERSIZED, f"a token has at most {TOKEN_CHARACTERS_MAX} characters")
    if not token.isascii():
        raise ProtocolError(Fault.BAD_CONTENT, "a token has letters A to Z and digits 2 to 7 only")
    capitals = token.upper()
    try:
        data = base64.b32decode(capitals + "=" * (-len(capitals) % 8))
    except binascii.Error:
        raise ProtocolError(Fault.BAD_CONTENT, "a token has letters A to Z and digits 2 to 7 only") from None
    notice = parse_notice(data)
    if notice.token != capitals:
        raise ProtocolError(Fault.BAD_CONTENT, "its last character is not the one that it was written with")
    return notice


def is_number(text: str) -> bool:
    """Tell whether somebody means a number, right or mistyped, and not a token."""
    plain = _plain(text)
    return plain.isascii() and plain.isdigit()


def _plain(text: str) -> str:
    """Return a number or token without what people put between its characters."""
    return "".join(text.split()).replace("-", "")


def _bare_number(form: str, instance_id: str) -> int:
    digest = sha256(domains.NOTICE_NUMBER + form.encode() + b"\0" + instance_id.encode()).digest()
    return int.from_bytes(digest[:16], "big") % _NUMBERS


def _with_check_digits(number: int) -> str:
    check = _MODULUS + 1 - number * 100 % _MODULUS
    return _grouped(f"{number:018}{check:02}")


def _grouped(digits: str) -> str:
    return "-".join(digits[start : start + _GROUP_DIGITS] for start in range(0, len(digits), _GROUP_DIGITS))
