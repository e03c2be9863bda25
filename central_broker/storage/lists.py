"""Keys that devices have made, and the lists sealed to them: one SQL text for both databases."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, LiteralString

from central_broker.storage.batch_records import ChainLink, DeviceKeyContent
from central_broker.storage.inquiry_records import CountedListRecord

if TYPE_CHECKING:
    from central_broker.storage.recording import Statements

_UPSERT_KEY: Final = (
    "INSERT INTO device_key (device, epoch, sequence, public_key) VALUES (%s, %s, %s, %s)"
    " ON CONFLICT (device) DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence,"
    " public_key = excluded.public_key"
    " WHERE (excluded.epoch, excluded.sequence) > (device_key.epoch, device_key.sequence)"
)
_PUT_LIST: Final = (
    "INSERT INTO counted_list (device, serial, recipient, digest, statement, turn)"
    " VALUES (%s, %s, %s, %s, %s, (SELECT coalesce(max(turn), 0) + 1 FROM counted_list))"
    " ON CONFLICT (device) DO UPDATE SET serial = excluded.serial, recipient = excluded.recipient,"
    " digest = excluded.digest, statement = excluded.statement, turn = excluded.turn"
    " WHERE excluded.serial > counted_list.serial RETURNING device"
)


def upsert_device_keys(statements: Statements, keys: Sequence[tuple[ChainLink, DeviceKeyContent]]) -> None:
    """Keep the newest key of each device, by its place in the chain."""
    for link, content in sorted(keys, key=lambda one: (one[0].origin, one[0].epoch, one[0].sequence)):
        statements.execute(_UPSERT_KEY, (link.origin, link.epoch, link.sequence, content.public_key))


class Lists:
    """The methods of `contract.Storage` about lists."""

    def writing(self) -> AbstractContextManager[Statements]:
        """Open a transaction that commits when the context ends well; raises StorageUnavailable, RowRefused."""
        raise NotImplementedError

    def read(self, sql: LiteralString, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one reading statement; raises StorageUnavailable."""
        raise NotImplementedError

    def device_key(self, device: bytes) -> bytes | None:
        rows = self.read("SELECT public_key FROM device_key WHERE device = %s", (device,))
        return bytes(rows[0][0]) if rows else None

    def put_counted_list(self, device: bytes, given: CountedListRecord) -> bool:
        with self.writing() as statements:
            # One after the other, so that turns become visible in their order.
            statements.execute("SELECT at FROM directory_version FOR UPDATE")
            parameters = (device, given.serial, given.recipient, given.digest, given.statement)
            return bool(statements.execute(_PUT_LIST, parameters))

    def counted_list(self, device: bytes) -> CountedListRecord | None:
        rows = self.read("SELECT serial, recipient, digest, statement FROM counted_list WHERE device = %s", (device,))
        if not rows:
            return None
        serial, recipient, digest, statement = rows[0]
        return CountedListRecord(serial, bytes(recipient), bytes(digest), bytes(statement))

    def counted_lists(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        rows = self.read(
            "SELECT turn, statement FROM counted_list WHERE turn > %s ORDER BY turn LIMIT %s", (after, limit)
        )
        return [(turn, bytes(statement)) for turn, statement in rows]
