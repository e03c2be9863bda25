"""What two neighbours know, compared when they meet: statements and heads that one of them lacks are sent, no others.

| event | what follows |
|---|---|
| the link comes up | our digests |
| the far end's digests | an inventory of those shards that have another one here; it lists none when there is no news |
| an inventory that answers our digests | what is missing there, or older, waits to be sent |
| a shard in it that was listed already | nothing: it is not given twice for one asking |

Not responsible for what becomes known while the link is up: sessions are told of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge_agent.engine.store import StoreTransaction
from sync_protocol.bundle import Frame, FrameType
from sync_protocol.limits import MESH_INVENTORY_ITEMS_MAX, MESH_SHARDS
from sync_protocol.mesh import HEAD_KIND, Digests, Inventory, Item, digests_of


@dataclass(frozen=True)
class Lacking:
    """What the far end lacks: others' heads and all statements as frames; own heads are stated by the session."""

    frames: tuple[Frame, ...]
    own_heads: bool


class Comparison:
    """One link's."""

    def __init__(self) -> None:
        self._asked: frozenset[int] = frozenset()
        self._awaited: dict[tuple[bytes, int, int], tuple[int, int]] = {}
        self.is_done = False
        """Whether the far end has begun to say what it lacks: before, nothing else need be said."""

    def digests(self, transaction: StoreTransaction, own_heads: Iterable[Item]) -> Digests:
        """Return what to say first."""
        self._asked = frozenset(range(MESH_SHARDS))
        return digests_of([*transaction.known(), *own_heads])

    def heard_digests(
        self, digests: Digests, transaction: StoreTransaction, own_heads: Iterable[Item]
    ) -> list[Inventory]:
        """Return the inventories that answer the far end's digests."""
        items = [*transaction.known(), *own_heads]
        pairs = enumerate(zip(digests_of(items).digests, digests.digests, strict=True))
        return _inventories(items, frozenset(shard for shard, (ours, theirs) in pairs if ours != theirs))

    def heard_inventory(
        self, inventory: Inventory, transaction: StoreTransaction, own_heads: Iterable[Item]
    ) -> Lacking:
        """Return what the far end lacks of the shards that it lists."""
        shards = inventory.shards & self._asked
        self._asked -= shards
        self.is_done = True
        theirs: dict[tuple[bytes, int, int], tuple[int, int]] = {}
        for item in inventory.items:
            theirs[item.place] = max(item.newness, theirs.get(item.place, item.newness))
        self._awaited |= {place: newness for place, newness in theirs.items() if Item.shard_of(place[0]) in shards}
        frames: list[Frame] = []
        for item in transaction.known():
            if item.shard in shards and theirs.get(item.place, (-1, 0)) < item.newness:
                frame = _frame_of(item, transaction)
                frames += [] if frame is None else [frame]
        own = any(item.shard in shards and theirs.get(item.place, (-1, 0)) < item.newness for item in own_heads)
        for item in own_heads:
            self._awaited.pop(item.place, None)
        return Lacking(tuple(frames), own)

    def awaits(self, transaction: StoreTransaction) -> bool:
        """Tell whether the far end knows better about anything, and has not sent it yet."""
        if self._awaited:
            for item in transaction.known():
                if item.newness >= self._awaited.get(item.place, item.newness):
                    self._awaited.pop(item.place, None)
        return bool(self._awaited)


def _inventories(items: Iterable[Item], shards: frozenset[int]) -> list[Inventory]:
    """Return all items of the shards in as few messages as hold whole shards."""
    by_shard: dict[int, list[Item]] = {shard: [] for shard in sorted(shards)}
    for item in items:
        if item.shard in by_shard:
            by_shard[item.shard].append(item)
    inventories: list[Inventory] = []
    for shard, listed in by_shard.items():
        if len(listed) > MESH_INVENTORY_ITEMS_MAX:
            continue
        last = inventories[-1] if inventories else None
        if last is None or len(last.items) + len(listed) > MESH_INVENTORY_ITEMS_MAX:
            inventories.append(Inventory(frozenset({shard}), tuple(listed)))
        else:
            inventories[-1] = Inventory(last.shards | {shard}, (*last.items, *listed))
    return inventories or [Inventory(frozenset(), ())]


def _frame_of(item: Item, transaction: StoreTransaction) -> Frame | None:
    if item.kind == HEAD_KIND:
        data, kind = transaction.head(item.subject, item.epoch), FrameType.HEAD
    else:
        data, kind = transaction.statement(item.kind, item.subject), FrameType.STATEMENT
    return None if data is None else Frame(kind, data)
