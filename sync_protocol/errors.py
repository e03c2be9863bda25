"""The one error that parsing and verifying raise."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """Why bytes were refused; the value is what logs, tables and the `held` command show."""

    TRUNCATED = "truncated"
    OVERSIZED = "oversized"
    BAD_MAGIC = "bad_magic"
    UNKNOWN_VERSION = "unknown_version"
    UNKNOWN_SUITE = "unknown_suite"
    UNKNOWN_KIND = "unknown_kind"
    BAD_FIELD = "bad_field"
    TRAILING_BYTES = "trailing_bytes"
    BAD_SIGNATURE = "bad_signature"
    UNTRUSTED_SIGNER = "untrusted_signer"
    WRONG_RECIPIENT = "wrong_recipient"
    UNDECRYPTABLE = "undecryptable"
    BAD_CONTENT = "bad_content"
    UNKNOWN_DICTIONARY = "unknown_dictionary"


class ProtocolError(ValueError):
    """Bytes that do not follow SPEC.md, or that do not verify.

    `fault` is for programs, `detail` for people; `detail` never quotes content.
    """

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(f"{fault.value}: {detail}")
        self.fault = fault
        self.detail = detail
