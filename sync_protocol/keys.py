"""Signing and recipient keys: thin, typed wrappers over `cryptography`.

Other code sees only the four protocols below, so that a simulation may stand in cheaper keys with the same
interface. Nothing here stores a key.
"""

from __future__ import annotations

from hashlib import shake_256
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from sync_protocol import domains
from sync_protocol.errors import Fault, ProtocolError

SEED_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
SIGNING_PUBLIC_KEY_BYTES: Final = 32
RECIPIENT_PUBLIC_KEY_BYTES: Final = 1216
_MLKEM_PUBLIC_KEY_BYTES: Final = 1184
_MLKEM_SEED_BYTES: Final = 64

SEALING_OVERHEAD_BYTES: Final = 1120 + 16
"""enc of MLKEM768-X25519, and the AES-GCM tag."""

_FIELD_PRIME: Final = 2**255 - 19
_ORDER_EIGHT_Y: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER_Y: Final = frozenset(
    y.to_bytes(SIGNING_PUBLIC_KEY_BYTES, "little")
    for y in (0, 1, _ORDER_EIGHT_Y, _FIELD_PRIME - _ORDER_EIGHT_Y, _FIELD_PRIME - 1, _FIELD_PRIME, _FIELD_PRIME + 1)
)
"""The y coordinates of the eight points of small order on Curve25519's Edwards form, unreduced encodings included."""

_ANY_X25519_KEY: Final = X25519PrivateKey.from_private_bytes(bytes(range(32)))
"""Secret from nobody: an exchange with it fails exactly for the public keys of small order."""

_SUITE: Final = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class Signer(Protocol):
    """Makes signatures; `public_bytes` are the 32 bytes that verify them."""

    @property
    def public_bytes(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes: ...


class Verifier(Protocol):
    """Checks signatures."""

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise ProtocolError (bad_signature) unless the signature is good."""
        ...


class Recipient(Protocol):
    """Encrypts to the center; `name` is the recipient key's 16-byte name."""

    @property
    def name(self) -> bytes: ...

    def encrypt(self, plaintext: bytes, info: bytes) -> bytes: ...


class RecipientSecret(Protocol):
    """Decrypts what was encrypted to `name`."""

    @property
    def name(self) -> bytes: ...

    def decrypt(self, ciphertext: bytes, info: bytes) -> bytes:
        """Raise ProtocolError (undecryptable) unless ciphertext and info belong together and to this key."""
        ...


class SigningKey:
    """An Ed25519 private key, made from its 32-byte seed."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ProtocolError(Fault.BAD_FIELD, f"a signing key's seed has {SEED_BYTES} bytes, not {len(seed)}")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._public_bytes = self._key.public_key().public_bytes_raw()

    @property
    def public_bytes(self) -> bytes:
        return self._public_bytes

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


class VerifyingKey:
    """An Ed25519 public key of 32 bytes; raises ProtocolError (bad_field) for one that anybody could sign for."""

    def __init__(self, public_bytes: bytes) -> None:
        if len(public_bytes) != SIGNING_PUBLIC_KEY_BYTES:
            raise ProtocolError(Fault.BAD_FIELD, "a signing public key has 32 bytes")
        if public_bytes[:-1] + bytes((public_bytes[-1] & 0x7F,)) in _SMALL_ORDER_Y:
            raise ProtocolError(Fault.BAD_FIELD, "the signing public key is of small order: anybody could sign for it")
        self.public_bytes = public_bytes
        try:
            self._key = Ed25519PublicKey.from_public_bytes(public_bytes)
        except ValueError:
            raise ProtocolError(Fault.BAD_FIELD, "the signing public key is not a valid public key") from None

    def verify(self, signature: bytes, message: bytes) -> None:
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            raise ProtocolError(Fault.BAD_SIGNATURE, "the signature does not belong to these bytes and key") from None


class RecipientPublicKey:
    """An X-Wing public key of 1,216 bytes (SPEC.md §1)."""

    def __init__(self, public_bytes: bytes) -> None:
        if len(public_bytes) != RECIPIENT_PUBLIC_KEY_BYTES:
            raise ProtocolError(Fault.BAD_FIELD, f"a recipient key has {RECIPIENT_PUBLIC_KEY_BYTES} bytes")
        try:
            mlkem = MLKEM768PublicKey.from_public_bytes(public_bytes[:_MLKEM_PUBLIC_KEY_BYTES])
            x25519 = X25519PublicKey.from_public_bytes(public_bytes[_MLKEM_PUBLIC_KEY_BYTES:])
            # Tried here, because otherwise the first one to notice would be a tablet that cannot seal.
            _ANY_X25519_KEY.exchange(x25519)
            self._key = hpke.MLKEM768X25519PublicKey(mlkem, x25519)
        except ValueError:
            raise ProtocolError(Fault.BAD_FIELD, "the recipient key is not a valid public key") from None
        self.public_bytes = public_bytes
        self._name = domains.name_of(domains.RECIPIENT, public_bytes)

    @property
    def name(self) -> bytes:
        return self._name

    def encrypt(self, plaintext: bytes, info: bytes) -> bytes:
        """Return enc ‖ sealed bytes, SEALING_OVERHEAD_BYTES longer than the plaintext."""
        return _SUITE.encrypt(plaintext, self._key, info=info)


class RecipientPrivateKey:
    """An X-Wing private key, made from its 32-byte seed (SPEC.md §1)."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ProtocolError(Fault.BAD_FIELD, f"a recipient key's seed has {SEED_BYTES} bytes, not {len(seed)}")
        expanded = shake_256(seed).digest(_MLKEM_SEED_BYTES + 32)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_BYTES])
        x25519 = X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_BYTES:])
        self._key = hpke.MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public_key = RecipientPublicKey(
            mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        )

    @property
    def name(self) -> bytes:
        return self.public_key.name

    def decrypt(self, ciphertext: bytes, info: bytes) -> bytes:
        try:
            return _SUITE.decrypt(ciphertext, self._key, info=info)
        except (InvalidTag, ValueError):
            raise ProtocolError(Fault.UNDECRYPTABLE, "the ciphertext was not made for this key and header") from None
