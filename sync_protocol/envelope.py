"""Envelopes (SPEC.md §2): seal, parse, verify, open.

Not responsible for what is inside (`content.py`, `device_key.py`) nor for choosing sequences (the edge's engine).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Final

from sync_protocol import domains
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.keys import SEALING_OVERHEAD_BYTES, SIGNATURE_BYTES, Recipient, RecipientSecret, Signer, Verifier
from sync_protocol.layout import pack
from sync_protocol.limits import ENVELOPE_BYTES_MAX

MAGIC: Final = b"CNSE"
VERSION: Final = 1
SUITE: Final = 1
KIND_QUESTIONNAIRE_PART: Final = 1
KIND_DEVICE_KEY: Final = 2
_KINDS: Final = (KIND_QUESTIONNAIRE_PART, KIND_DEVICE_KEY)
ID_BYTES: Final = 32
NO_ID: Final = bytes(ID_BYTES)
"""The previous id of a chain's first envelope."""

_HEADER: Final = struct.Struct(">4sBBBB16s16sIQ32sI8s")
HEADER_BYTES: Final = _HEADER.size


@dataclass(frozen=True)
class Envelope:
    """One parsed envelope; `data` are its exact bytes, the other fields are read from them.

    Parsed is not verified: origin and the rest are claims until `verify` has passed.
    """

    data: bytes
    version: int
    suite: int
    kind: int
    recipient: bytes
    origin: bytes
    epoch: int
    sequence: int
    previous_id: bytes

    @cached_property
    def id(self) -> bytes:
        """SHA-256 over domain, header and ciphertext: 32 bytes."""
        return sha256(self._signed).digest()

    @property
    def _signed(self) -> bytes:
        return domains.ENVELOPE + self.data[:-SIGNATURE_BYTES]

    def verify(self, key: Verifier) -> None:
        """Raise ProtocolError (bad_signature) unless the holder of `key` signed this envelope."""
        key.verify(self.data[-SIGNATURE_BYTES:], self._signed)

    def open(self, secret: RecipientSecret) -> bytes:
        """Return the content.

        Raises ProtocolError: unknown_version, unknown_suite, unknown_kind, bad_field, wrong_recipient, undecryptable.
        """
        if self.version != VERSION:
            raise ProtocolError(Fault.UNKNOWN_VERSION, f"envelope version {self.version} is not known here")
        if self.suite != SUITE:
            raise ProtocolError(Fault.UNKNOWN_SUITE, f"encryption suite {self.suite} is not known here")
        if self.kind not in _KINDS:
            raise ProtocolError(Fault.UNKNOWN_KIND, f"envelope kind {self.kind} is not known here")
        if self.data[7] or any(self.data[88:HEADER_BYTES]):
            raise ProtocolError(Fault.BAD_FIELD, "reserved bytes of the envelope are not zero")
        if self.recipient != secret.name:
            raise ProtocolError(Fault.WRONG_RECIPIENT, f"sealed to recipient key {self.recipient.hex()}")
        header = self.data[:HEADER_BYTES]
        return secret.decrypt(self.data[HEADER_BYTES:-SIGNATURE_BYTES], domains.ENVELOPE + header)


def parse_envelope(data: bytes) -> Envelope:
    """Read an envelope of any version.

    Raises ProtocolError: truncated, oversized, bad_magic, bad_field, trailing_bytes.
    """
    if len(data) > ENVELOPE_BYTES_MAX:
        raise ProtocolError(
            Fault.OVERSIZED, f"an envelope has at most {ENVELOPE_BYTES_MAX} bytes, this has {len(data)}"
        )
    if len(data) < HEADER_BYTES + SIGNATURE_BYTES:
        raise ProtocolError(Fault.TRUNCATED, f"{len(data)} bytes are too few for an envelope")
    magic, version, suite, kind, _, recipient, origin, epoch, sequence, previous_id, length, _ = _HEADER.unpack_from(
        data
    )
    if magic != MAGIC:
        raise ProtocolError(Fault.BAD_MAGIC, "not an envelope")
    expected = HEADER_BYTES + length + SIGNATURE_BYTES
    if len(data) < expected:
        raise ProtocolError(Fault.TRUNCATED, f"the header announces {expected} bytes, there are {len(data)}")
    if len(data) > expected:
        raise ProtocolError(Fault.TRAILING_BYTES, f"the header announces {expected} bytes, there are {len(data)}")
    if epoch < 1 or sequence < 1 or (sequence == 1) != (previous_id == NO_ID):
        raise ProtocolError(Fault.BAD_FIELD, "epoch, sequence and previous id do not make a link of a chain")
    return Envelope(data, version, suite, kind, recipient, origin, epoch, sequence, previous_id)


def seal_envelope(
    content: bytes,
    *,
    recipient: Recipient,
    signer: Signer,
    origin: bytes,
    epoch: int,
    sequence: int,
    previous_id: bytes,
    kind: int = KIND_QUESTIONNAIRE_PART,
) -> Envelope:
    """Encrypt `content` to the center and sign it as link `sequence` of the origin's chain.

    Raises ProtocolError (oversized, bad_field) when that would make no envelope.
    """
    length = len(content) + SEALING_OVERHEAD_BYTES
    header = pack(
        _HEADER,
        MAGIC,
        VERSION,
        SUITE,
        kind,
        0,
        recipient.name,
        origin,
        epoch,
        sequence,
        previous_id,
        length,
        bytes(8),
    )
    signed = header + recipient.encrypt(content, domains.ENVELOPE + header)
    return parse_envelope(signed + signer.sign(domains.ENVELOPE + signed))
