"""What two neighbours say to each other (SPEC.md §9), as values, and the digests by which they compare what they know.

Not responsible for their bytes in a stream (mesh_stream.py), nor for which message may come when: that is the
conversation's business.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

from sync_protocol.layout import pack
from sync_protocol.limits import MESH_SHARDS

ITEM_LAYOUT: Final = struct.Struct(">B3sI16sQQ")
DIGEST_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Hello:
    """How a device stands. `last_contact_seconds` is the time since it last heard the center itself, None when it never
    did; `room_bytes` is what it can still keep of others' envelopes.
    """

    reaches_center: bool
    last_contact_seconds: int | None
    room_bytes: int
    is_collection_point: bool = False


@dataclass(frozen=True, slots=True)
class BundleMessage:
    """A bundle under a number of its sender's; it is not looked into here."""

    number: int
    bundle: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer to a bundle: whether what is genuine in it is on disk, but for the declined envelopes (ids)."""

    number: int
    recorded: bool
    declined: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Ping:
    """A question whether anybody is there; 8 bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping: its 8 bytes."""

    data: bytes


HEAD_KIND: Final = 0
"""In the place of a statement's kind: no statement has it."""


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """One thing that a device knows: a statement (`kind`, epoch 0, `subject`, its serial and 0), or a head (kind 0, its
    epoch, its origin, its sequence and receipt serial). Among items on one subject the greater is the newer.
    """

    subject: bytes
    kind: int
    epoch: int
    newness: tuple[int, int]

    @property
    def place(self) -> tuple[bytes, int, int]:
        """What it is about."""
        return (self.subject, self.kind, self.epoch)

    @property
    def data(self) -> bytes:
        """The item as it is written and digested; raises ProtocolError (bad_field) for numbers without a place."""
        return pack(ITEM_LAYOUT, self.kind, bytes(3), self.epoch, self.subject, *self.newness)

    @property
    def shard(self) -> int:
        """Which part of what a device knows it belongs to."""
        return Item.shard_of(self.subject)

    @staticmethod
    def shard_of(subject: bytes) -> int:
        """Return the shard of everything on a subject."""
        return subject[-1] % MESH_SHARDS


@dataclass(frozen=True, slots=True)
class Digests:
    """What a device knows, in short: one digest (8 bytes) a shard."""

    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Inventory:
    """All that a device knows in these shards; what it does not list there, or lists older, it lacks."""

    shards: frozenset[int]
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Offered:
    """An envelope that is offered: its id, its size, and with how many copies to make it comes (0 to 255)."""

    id: bytes
    size_bytes: int
    copies: int


@dataclass(frozen=True, slots=True)
class Offer:
    """Envelopes that the far end may have, under a number of the sender's."""

    number: int
    envelopes: tuple[Offered, ...]


class Verdict(IntEnum):
    """What a device says to one envelope that it is offered."""

    WANTED = 0
    HELD = 1
    """It is on its disk, or was until the center had it."""
    NO_ROOM = 2
    LATER = 3
    """Another neighbour is about to bring it."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The answer to an offer: a verdict for each of its envelopes, in its order."""

    number: int
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A message of a type that is not known here has begun; its payload is thrown away as it comes."""

    type: int
    payload_bytes: int


Exchanged = Digests | Inventory | Offer | Verdicts
"""What two engines say to each other about what they have."""
Message = Hello | BundleMessage | Taken | Ping | Pong | Exchanged
Arrived = Message | PassedOver


def digests_of(items: Iterable[Item]) -> Digests:
    """Return the digest of every shard: what two devices know is the same when these are."""
    shards: list[list[Item]] = [[] for _ in range(MESH_SHARDS)]
    for item in items:
        shards[item.shard].append(item)
    return Digests(tuple(sha256(b"".join(item.data for item in sorted(one))).digest()[:DIGEST_BYTES] for one in shards))
