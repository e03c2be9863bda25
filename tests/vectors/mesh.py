"""The vectors of mesh links (SPEC.md §9): streams of messages as one side sends them."""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sync_protocol.bundle import write_bundle
from sync_protocol.mesh import (
    BundleMessage,
    Hello,
    Inventory,
    Item,
    Message,
    Offer,
    Offered,
    Ping,
    Pong,
    Taken,
    Verdict,
    Verdicts,
    digests_of,
)
from sync_protocol.mesh_stream import write_message

if TYPE_CHECKING:
    from tests.vectors.generate import Writer

_READER = "mesh_messages"
_IDS = tuple(sha256(b"golden vector envelope " + name).digest() for name in (b"1", b"2"))

_ITEMS = (
    Item(_IDS[0][:15] + b"\x21", 1, 0, (7, 0)),
    Item(_IDS[0][:15] + b"\x21", 2, 0, ((1 << 32) + 1, 0)),
    Item(_IDS[1][:15] + b"\x21", 0, 2, (40, 7)),
    Item(_IDS[1][:15] + b"\xff", 0, 1, (41, 0)),
)
_DIGESTS = digests_of(_ITEMS)


def _shown(item: Item) -> dict[str, Any]:
    return {"kind": item.kind, "epoch": item.epoch, "subject": item.subject.hex(), "numbers": list(item.newness)}


HELLO = Hello(False, None, 0)
MESSAGES: dict[str, tuple[Message, dict[str, Any]]] = {
    "hello_of_one_that_never_reached_the_center": (
        HELLO,
        {"type": 1, "reaches_center": False, "collects": False, "last_contact_seconds": None, "room_bytes": 0},
    ),
    "hello_of_a_gateway": (
        Hello(True, 0, 1 << 40),
        {"type": 1, "reaches_center": True, "collects": False, "last_contact_seconds": 0, "room_bytes": 1 << 40},
    ),
    "hello_of_a_collection_point": (
        Hello(False, 7_200, 1 << 20, is_collection_point=True),
        {"type": 1, "reaches_center": False, "collects": True, "last_contact_seconds": 7_200, "room_bytes": 1 << 20},
    ),
    "bundle_message": (
        BundleMessage(7, write_bundle([])),
        {"type": 2, "number": 7, "bundle_sha256": sha256(write_bundle([])).hexdigest()},
    ),
    "taken": (Taken(7, True), {"type": 3, "number": 7, "recorded": True, "declined": []}),
    "taken_but_for_two": (
        Taken((1 << 64) - 1, True, _IDS),
        {"type": 3, "number": (1 << 64) - 1, "recorded": True, "declined": [one.hex() for one in _IDS]},
    ),
    "not_taken": (Taken(8, False), {"type": 3, "number": 8, "recorded": False, "declined": []}),
    "ping": (Ping(b"anybody?"), {"type": 4, "data": b"anybody?".hex()}),
    "pong": (Pong(b"anybody?"), {"type": 5, "data": b"anybody?".hex()}),
    "digests_of_four_items": (_DIGESTS, {"type": 6, "digests": [one.hex() for one in _DIGESTS.digests]}),
    "digests_of_nothing": (digests_of([]), {"type": 6, "digests": [sha256(b"").hexdigest()[:16]] * 16}),
    "inventory": (
        Inventory(frozenset({1, 15, 0}), _ITEMS),
        {"type": 7, "shards": [0, 1, 15], "items": [_shown(item) for item in _ITEMS]},
    ),
    "inventory_of_nothing": (Inventory(frozenset({2}), ()), {"type": 7, "shards": [2], "items": []}),
    "offer": (
        Offer(3, (Offered(_IDS[0], 2_345, 8), Offered(_IDS[1], 190 * 1024, 0))),
        {
            "type": 8,
            "number": 3,
            "envelopes": [
                {"id": _IDS[0].hex(), "bytes": 2_345, "copies": 8},
                {"id": _IDS[1].hex(), "bytes": 190 * 1024, "copies": 0},
            ],
        },
    ),
    "verdicts": (
        Verdicts(3, (Verdict.WANTED, Verdict.HELD, Verdict.NO_ROOM, Verdict.LATER)),
        {"type": 9, "number": 3, "verdicts": [0, 1, 2, 3]},
    ),
}


def _raw(message_type: int, payload: bytes, *, length: int | None = None) -> bytes:
    return struct.pack(">B3sI", message_type, bytes(3), len(payload) if length is None else length) + payload


def write_mesh(writer: Writer) -> None:
    """Write each message alone, all in one stream, and what later releases may send."""
    for name, (message, expected) in MESSAGES.items():
        writer.accept(f"mesh_{name}", _READER, write_message(message), messages=[expected])
    everything = b"".join(write_message(message) for message, _ in MESSAGES.values())
    writer.accept("mesh_stream", _READER, everything, messages=[expected for _, expected in MESSAGES.values()])
    hello, ping = write_message(HELLO), MESSAGES["ping"]
    later = hello[:1] + b"\1\2\3" + hello[4:8] + b"\xfc\1\2\3" + hello[12:]
    writer.accept(
        "mesh_of_a_later_release",
        _READER,
        later + _raw(64, b"of a later release") + _raw(255, b"") + write_message(ping[0]),
        messages=[MESSAGES["hello_of_one_that_never_reached_the_center"][1], ping[1]],
    )
    taken = struct.Struct(">QB3sI")
    for name, data, fault in (
        ("too_long", _raw(2, b"", length=262_401), "oversized"),
        ("of_unknown_type_too_long", _raw(99, b"", length=262_401), "oversized"),
        ("bundle_too_long", _raw(2, b"", length=8 + 262_145), "oversized"),
        ("bundle_without_number", _raw(2, bytes(7)), "truncated"),
        ("hello_too_short", _raw(1, bytes(19)), "bad_field"),
        ("hello_too_long", _raw(1, bytes(21)), "bad_field"),
        ("ping_too_long", _raw(4, bytes(9)), "bad_field"),
        ("pong_empty", _raw(5, b""), "bad_field"),
        ("taken_cut", _raw(3, bytes(15)), "truncated"),
        ("taken_outcome_2", _raw(3, taken.pack(1, 2, bytes(3), 0)), "bad_field"),
        ("taken_ids_lie_high", _raw(3, taken.pack(1, 0, bytes(3), 2) + _IDS[0]), "bad_field"),
        ("taken_ids_lie_low", _raw(3, taken.pack(1, 0, bytes(3), 0) + _IDS[0]), "bad_field"),
        ("digests_too_few", _raw(6, bytes(120)), "bad_field"),
        ("inventory_cut", _raw(7, bytes(3)), "truncated"),
        ("inventory_item_cut", _raw(7, bytes(4 + 39)), "bad_field"),
        ("inventory_too_long", _raw(7, b"", length=4 + 40 * 6_001), "oversized"),
        ("inventory_of_another_shard", _raw(7, b"\0\1\0\0" + bytes(23) + b"\1" + bytes(16)), "bad_field"),
        ("offer_cut", _raw(8, bytes(7)), "truncated"),
        ("offer_entry_cut", _raw(8, bytes(8 + 39)), "bad_field"),
        ("offer_too_long", _raw(8, b"", length=8 + 40 * 1_025), "oversized"),
        ("verdicts_cut", _raw(9, bytes(7)), "truncated"),
        ("verdicts_too_long", _raw(9, b"", length=8 + 1_025), "oversized"),
        ("verdict_4", _raw(9, bytes(8) + b"\4"), "bad_field"),
        ("taken_id_cut", _raw(3, taken.pack(1, 0, bytes(3), 1) + _IDS[0][:31]), "bad_field"),
    ):
        writer.refuse(f"mesh_{name}", _READER, data, fault)
