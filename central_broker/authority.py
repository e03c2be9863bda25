"""The Department's authority: the root certifies the issuing and receipt keys, the issuing key certifies the rest.

Bytes and values only; where they are kept is `central_broker.center_files`' matter. Serials of receipt keys and of
recipient keys grow over all keys of the kind: among two keys the one with the greater serial is the newer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from sync_protocol.identity import Trust, certify_key, publish_recipient_key, signer_name
from sync_protocol.keys import SEED_BYTES, RecipientPrivateKey, Signer, SigningKey
from sync_protocol.statement import Statement, Usage, parse_statement

ROOT: Final = "root"
ISSUING: Final = "issuing"


class KeyKind(StrEnum):
    """What a key of the authority is for."""

    ISSUING = "issuing"
    RECEIPT = "receipt"
    RECIPIENT = "recipient"
    MEDIA = "media"
    """A collection point's own key, delegated to certify media; its secret never leaves it."""


class KeyState(StrEnum):
    """Where a key is in its life."""

    ACTIVE = "active"
    """The one in use."""
    RETIRED = "retired"
    """Replaced, still believed: old receipts verify with it, old envelopes open with it."""
    WITHDRAWN = "withdrawn"
    """Nobody shall believe it any more."""


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One key and the newest statement about it. `name` in hexadecimal, `created_at` in microseconds."""

    kind: KeyKind
    name: str
    serial: int
    state: KeyState
    created_at: int
    statement: bytes

    @property
    def secret_name(self) -> str:
        """What its secret is kept under."""
        return ISSUING if self.kind is KeyKind.ISSUING else f"{self.kind.value}-{self.name}"


class AuthorityRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything public about the authority: its file may be read by anyone and must be changed by nobody else."""

    root_key: str
    keys: list[KeyRecord]
    delegations: list[KeyRecord] = []
    """Apart from the keys: only what enrols media needs them, and there may be hundreds."""

    def trust(self) -> Trust:
        """What follows from the root; raises ProtocolError when a statement is not genuine."""
        trust = Trust(bytes.fromhex(self.root_key))
        for key in self.keys:
            if key.kind is not KeyKind.RECIPIENT:
                trust = trust.learn(parse_statement(key.statement))
        for delegation in self.delegation_statements():
            trust = trust.learn(delegation)
        return trust

    def statements(self) -> list[Statement]:
        """Everything devices shall know of the center's keys: certificates first, then what they certify."""
        ordered = sorted(self.keys, key=lambda key: key.kind is KeyKind.RECIPIENT)
        return [parse_statement(key.statement) for key in ordered]

    def delegation_statements(self) -> list[Statement]:
        """The newest word on every collection point that was ever delegated to certify media."""
        return [parse_statement(one.statement) for one in self.delegations]

    def delegation(self, public_key: bytes) -> KeyRecord | None:
        """The newest word on this collection point's key, or None when it never was delegated."""
        name = signer_name(public_key).hex()
        return next((one for one in self.delegations if one.name == name), None)

    def active(self, kind: KeyKind) -> KeyRecord:
        """The key in use; every record has one of each kind."""
        return max(self.of_kind(kind), key=lambda key: (key.state is KeyState.ACTIVE, key.serial))

    def of_kind(self, kind: KeyKind) -> list[KeyRecord]:
        """All keys of a kind, the newest first."""
        return sorted((key for key in self.keys if key.kind is kind), key=lambda key: -key.serial)


@dataclass(frozen=True)
class NewSecret:
    """A seed to be kept under its name."""

    kind: KeyKind | None  # None: the root
    name: str
    seed: bytes


def create_authority(random: Callable[[int], bytes], now: int) -> tuple[AuthorityRecord, list[NewSecret]]:
    """Make root, issuing, receipt and recipient keys; the root is needed again only to rotate what it certified."""
    root_seed, issuing_seed = random(SEED_BYTES), random(SEED_BYTES)
    root, issuing = SigningKey(root_seed), SigningKey(issuing_seed)
    statement = certify_key(root, public_key=issuing.public_bytes, usage=Usage.CERTIFICATES | Usage.CONTENT, serial=1)
    issuing_record = _record(KeyKind.ISSUING, statement, now)
    record = AuthorityRecord(root_key=root.public_bytes.hex(), keys=[issuing_record])
    record, receipt = rotate_receipt_key(record, root, random(SEED_BYTES), now)
    record, recipient = rotate_recipient_key(record, issuing, random(SEED_BYTES), now)
    secrets = [NewSecret(None, ROOT, root_seed), NewSecret(KeyKind.ISSUING, ISSUING, issuing_seed), receipt, recipient]
    return record, secrets


def rotate_receipt_key(
    record: AuthorityRecord, root: Signer, seed: bytes, now: int, *, withdraw_old: bool = False
) -> tuple[AuthorityRecord, NewSecret]:
    """Certify a new receipt key; with `withdraw_old`, for a stolen key, no receipt of the old ones is believed."""
    _check_root(record, root)
    keys = [_replaced(key, root, withdraw=withdraw_old) if key.kind is KeyKind.RECEIPT else key for key in record.keys]
    serial = _next_serial(keys, KeyKind.RECEIPT)
    new = certify_key(root, public_key=SigningKey(seed).public_bytes, usage=Usage.RECEIPTS, serial=serial)
    added = _record(KeyKind.RECEIPT, new, now)
    return _with_keys(record, [*keys, added]), NewSecret(KeyKind.RECEIPT, added.secret_name, seed)


def rotate_recipient_key(
    record: AuthorityRecord, issuer: Signer, seed: bytes, now: int
) -> tuple[AuthorityRecord, NewSecret]:
    """Publish a new recipient key. The old seed must be kept: tablets seal to it until the statement reaches them."""
    if signer_name(issuer.public_bytes).hex() != record.active(KeyKind.ISSUING).name:
        raise ValueError("this is not the authority's issuing key")
    serial = _next_serial(record.keys, KeyKind.RECIPIENT)
    new = publish_recipient_key(issuer, public_key=RecipientPrivateKey(seed).public_key.public_bytes, serial=serial)
    keys = [_replaced(key) if key.kind is KeyKind.RECIPIENT else key for key in record.keys]
    added = _record(KeyKind.RECIPIENT, new, now)
    return _with_keys(record, [*keys, added]), NewSecret(KeyKind.RECIPIENT, added.secret_name, seed)


def delegate_media(record: AuthorityRecord, root: Signer, public_key: bytes, now: int) -> AuthorityRecord:
    """Let a collection point certify media with its own key, or let it again."""
    return _delegated(record, root, public_key, usage=Usage.MEDIA, now=now)


def withdraw_media(record: AuthorityRecord, root: Signer, public_key: bytes, now: int) -> AuthorityRecord:
    """Have nobody believe that key any more, nor any certificate of a medium that it signed."""
    return _delegated(record, root, public_key, usage=Usage.NONE, now=now)


def _delegated(record: AuthorityRecord, root: Signer, public_key: bytes, *, usage: Usage, now: int) -> AuthorityRecord:
    _check_root(record, root)
    known = record.delegation(public_key)
    serial = 1 if known is None else known.serial + 1
    statement = certify_key(root, public_key=public_key, usage=usage, serial=serial)
    added = _record(KeyKind.MEDIA, statement, now)
    if usage is Usage.NONE:
        added = msgspec.structs.replace(added, state=KeyState.WITHDRAWN)
    others = [one for one in record.delegations if one.name != added.name]
    return msgspec.structs.replace(record, delegations=[*others, added])


def _check_root(record: AuthorityRecord, root: Signer) -> None:
    if root.public_bytes.hex() != record.root_key:
        raise ValueError("this is not the authority's root key")


def _next_serial(keys: list[KeyRecord], kind: KeyKind) -> int:
    return 1 + max((key.serial for key in keys if key.kind is kind), default=0)


def _replaced(key: KeyRecord, root: Signer | None = None, *, withdraw: bool = False) -> KeyRecord:
    if key.state is KeyState.WITHDRAWN:
        return key
    if root is None or not withdraw:
        return msgspec.structs.replace(key, state=KeyState.RETIRED)
    public_key = parse_statement(key.statement).body[-32:]
    withdrawal = certify_key(root, public_key=public_key, usage=Usage.NONE, serial=key.serial + 1)
    return msgspec.structs.replace(key, state=KeyState.WITHDRAWN, serial=withdrawal.serial, statement=withdrawal.data)


def _record(kind: KeyKind, statement: Statement, now: int) -> KeyRecord:
    return KeyRecord(
        kind=kind,
        name=statement.subject.hex(),
        serial=statement.serial,
        state=KeyState.ACTIVE,
        created_at=now,
        statement=statement.data,
    )


def _with_keys(record: AuthorityRecord, keys: list[KeyRecord]) -> AuthorityRecord:
    return msgspec.structs.replace(record, keys=keys)
