"""How it stands with neighbours as plain values, for the status, commands and other programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edge_agent.mesh.mesh_watch import MeshSituation
from edge_agent.mesh.neighbours import NeighbourState


def mesh_document(
    duty: str, situation: MeshSituation | None, neighbours: Iterable[NeighbourState], *, now: int
) -> dict[str, Any]:
    """Return one record with a list of the neighbours, longest connected first; times in microseconds.

    `situation` is None when the mesh is switched off.
    """
    awake = situation is not None and situation.awake
    why = "it is switched off (mesh.duty)" if situation is None else situation.asleep_because
    return {
        "duty": duty,
        "awake": awake,
        "asleep_because": None if awake else why,
        "interfaces": [] if situation is None else list(situation.interfaces),
        "listening": [] if situation is None else list(situation.listening),
        "refused": 0 if situation is None else situation.refused,
        "last_refusal": None if situation is None else situation.last_refusal,
        "neighbours": sorted((_record(one, now) for one in neighbours), key=lambda record: record["connected_at"]),
    }


def _record(state: NeighbourState, now: int) -> dict[str, Any]:
    hello = state.hello
    return {
        "device": state.device.hex(),
        "address": state.address,
        "dialled": state.dialled,
        "connected_at": now - int(state.connected_seconds * 1_000_000),
        "reaches_center": None if hello is None else hello.reaches_center,
        "last_contact_seconds": None if hello is None else hello.last_contact_seconds,
        "room_bytes": None if hello is None else hello.room_bytes,
        "bundles_in": state.passed.bundles_in,
        "bundles_out": state.passed.bundles_out,
        "bytes_in": state.passed.bytes_in,
    }
