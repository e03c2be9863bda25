"""What an envelope of kind 2 holds: a recipient key of its origin (SPEC.md §2.3)."""

from __future__ import annotations

from typing import Final

from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.keys import RECIPIENT_PUBLIC_KEY_BYTES, RecipientPublicKey
from sync_protocol.limits import DEVICE_KEY_CONTENT_BYTES

_PREFIX: Final = b"\1\0\0\0"
"""Version 1, and zeros."""


def encode_device_key(key: RecipientPublicKey) -> bytes:
    """Return the plaintext of the envelope."""
    return (_PREFIX + key.public_bytes).ljust(DEVICE_KEY_CONTENT_BYTES, b"\0")


def decode_device_key(content: bytes) -> RecipientPublicKey:
    """Read the key; raises ProtocolError: truncated, unknown_version, bad_content, bad_field."""
    if len(content) < len(_PREFIX):
        raise ProtocolError(Fault.TRUNCATED, "the content ends within its prefix")
    if content[0] != _PREFIX[0]:
        raise ProtocolError(Fault.UNKNOWN_VERSION, f"content version {content[0]} is not known here")
    end = len(_PREFIX) + RECIPIENT_PUBLIC_KEY_BYTES
    if content[: len(_PREFIX)] != _PREFIX or len(content) != DEVICE_KEY_CONTENT_BYTES or any(content[end:]):
        raise ProtocolError(Fault.BAD_CONTENT, "the device key is not padded with zeros as it should be")
    return RecipientPublicKey(content[len(_PREFIX) : end])
