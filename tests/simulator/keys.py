"""The keys of a simulated world: stubs with the interface and the sizes of the real ones, at a hundredth of the price.

A stub keeps what the system relies on among honest parties and clumsy faults: a changed byte, a wrong key or a spliced
header is found, and sealing the same twice gives different bytes. It keeps no secret from anybody who computes one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Final, Protocol
from unittest.mock import patch

from sync_protocol import domains
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.keys import (
    RECIPIENT_PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    SIGNING_PUBLIC_KEY_BYTES,
    Recipient,
    RecipientPrivateKey,
    RecipientSecret,
    Signer,
    SigningKey,
)

_ENCAPSULATED_BYTES: Final = 1120
_TAG_BYTES: Final = 16
_REPEATS: Final = _ENCAPSULATED_BYTES // 32


def seed_of(name: str) -> bytes:
    """32 bytes that are the same for the same name."""
    return sha256(name.encode()).digest()


class Keys(Protocol):
    """Makes the keys of one world; a key of the same name is the same key."""

    def signer(self, name: str) -> Signer: ...

    def secret(self, name: str) -> tuple[RecipientSecret, bytes]:
        """Return a recipient secret and its public bytes."""
        ...


class RealKeys:
    """The keys of the field."""

    def signer(self, name: str) -> Signer:
        return SigningKey(seed_of(name))

    def secret(self, name: str) -> tuple[RecipientSecret, bytes]:
        secret = RecipientPrivateKey(seed_of(name))
        return secret, secret.public_key.public_bytes


@dataclass(frozen=True)
class StubSigner:
    """Signs with a keyed hash that its public bytes verify."""

    public_bytes: bytes

    def sign(self, message: bytes) -> bytes:
        return blake2b(message, digest_size=SIGNATURE_BYTES, key=self.public_bytes).digest()


class StubVerifyingKey:
    """Stands in for `sync_protocol.keys.VerifyingKey`."""

    def __init__(self, public_bytes: bytes) -> None:
        if len(public_bytes) != SIGNING_PUBLIC_KEY_BYTES:
            raise ProtocolError(Fault.BAD_FIELD, "a signing public key has 32 bytes")
        self.public_bytes = public_bytes

    def verify(self, signature: bytes, message: bytes) -> None:
        if signature != blake2b(message, digest_size=SIGNATURE_BYTES, key=self.public_bytes).digest():
            raise ProtocolError(Fault.BAD_SIGNATURE, "the signature does not belong to these bytes and key")


class StubRecipientSecret:
    """Stands in for `sync_protocol.keys.RecipientPrivateKey`."""

    def __init__(self, public_bytes: bytes) -> None:
        self._public_bytes = public_bytes

    @property
    def name(self) -> bytes:
        return domains.name_of(domains.RECIPIENT, self._public_bytes)

    def decrypt(self, ciphertext: bytes, info: bytes) -> bytes:
        encapsulated, plaintext, tag = (
            ciphertext[:_ENCAPSULATED_BYTES],
            ciphertext[_ENCAPSULATED_BYTES:-_TAG_BYTES],
            ciphertext[-_TAG_BYTES:],
        )
        if tag != _tag(self._public_bytes, info, encapsulated, plaintext):
            raise ProtocolError(Fault.UNDECRYPTABLE, "the ciphertext was not made for this key and header")
        return plaintext


def _tag(public_bytes: bytes, info: bytes, encapsulated: bytes, plaintext: bytes) -> bytes:
    return blake2b(public_bytes[:32] + info + encapsulated + plaintext, digest_size=_TAG_BYTES).digest()


class StubKeys:
    """The stubs of one world. What HPKE draws at random is here how often this very header has been sealed under."""

    def __init__(self) -> None:
        self._sealed: Counter[bytes] = Counter()

    def signer(self, name: str) -> Signer:
        return StubSigner(seed_of(name))

    def secret(self, name: str) -> tuple[RecipientSecret, bytes]:
        public_bytes = seed_of(name) * (RECIPIENT_PUBLIC_KEY_BYTES // 32)
        return StubRecipientSecret(public_bytes), public_bytes

    def recipient(self, public_bytes: bytes) -> Recipient:
        """Stands in for the class `sync_protocol.keys.RecipientPublicKey`."""
        if len(public_bytes) != RECIPIENT_PUBLIC_KEY_BYTES:
            raise ProtocolError(Fault.BAD_FIELD, f"a recipient key has {RECIPIENT_PUBLIC_KEY_BYTES} bytes")
        return _StubRecipient(public_bytes, self._sealed)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the protocol make these keys wherever it makes one from public bytes."""
        with (
            patch("sync_protocol.identity.VerifyingKey", StubVerifyingKey),
            patch("sync_protocol.identity.RecipientPublicKey", self.recipient),
            patch("sync_protocol.device_key.RecipientPublicKey", self.recipient),
            patch("edge_agent.engine.chain.RecipientPublicKey", self.recipient),
            patch("central_broker.directory.VerifyingKey", StubVerifyingKey),
        ):
            yield


class _StubRecipient:
    def __init__(self, public_bytes: bytes, sealed: Counter[bytes]) -> None:
        self.public_bytes = public_bytes
        self._sealed = sealed

    @property
    def name(self) -> bytes:
        return domains.name_of(domains.RECIPIENT, self.public_bytes)

    def encrypt(self, plaintext: bytes, info: bytes) -> bytes:
        self._sealed[info] += 1
        drawn = sha256(info + plaintext + self._sealed[info].to_bytes(4, "big")).digest()
        encapsulated = drawn * _REPEATS
        return encapsulated + plaintext + _tag(self.public_bytes, info, encapsulated, plaintext)
