"""Domain separation strings (SPEC.md, first table) and the short names made with them."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

ENVELOPE: Final = b"census-sync/1 envelope\0"
HEAD: Final = b"census-sync/1 head\0"
STATEMENT: Final = b"census-sync/1 statement\0"
DEVICE: Final = b"census-sync/1 device\0"
SIGNER: Final = b"census-sync/1 signer\0"
RECIPIENT: Final = b"census-sync/1 recipient\0"
ENROLMENT: Final = b"census-sync/1 enrolment\0"
BUNDLE: Final = b"census-sync/1 bundle\0"
ATTACHMENTS: Final = b"census-sync/1 attachments\0"
FORM: Final = b"census-sync/1 form\0"
FORM_FILE: Final = b"census-sync/1 form file\0"
LIST: Final = b"census-sync/1 list\0"
NOTICE: Final = b"census-sync/1 notice\0"
NOTICE_NUMBER: Final = b"census-sync/1 notice number\0"

NAME_BYTES: Final = 16
"""Length of the name of a device, signer or recipient key."""


def name_of(domain: bytes, public_key: bytes) -> bytes:
    """Return the 16-byte name of a public key within a domain."""
    return sha256(domain + public_key).digest()[:NAME_BYTES]
