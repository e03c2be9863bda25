"""How much is measured: the full run, a quick one, and one so small that only its working is tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Size:
    """Rounds are repetitions of every pair; the rest are numbers of questionnaires, and seconds."""

    rounds: int
    submit_rounds: int
    submits: int
    socket_submits: int
    backlog_envelopes: int
    trickle_envelopes: int
    floor_envelopes: int
    straightforward_envelopes: int
    devices: int
    wire_questionnaires: int
    wire_backlog: int
    idle_seconds: float
    broker_devices: int
    broker_connections: int
    broker_bundles: int
    broker_full_bundles: int
    receipt_rounds: int
    media_rounds: int
    media_envelopes: int
    mesh_rounds: int
    mesh_envelopes: tuple[int, ...]
    mesh_peers: int
    mesh_idle_seconds: float
    form_questionnaires: int
    soak_submits: int
    process_counts: tuple[int, ...] = (1, 2)
    slow_commits: bool = True
    start_rounds: int = 5


SIZES: Final = {
    "full": Size(
        rounds=3,
        submit_rounds=15,
        submits=150,
        socket_submits=150,
        backlog_envelopes=7_308,
        trickle_envelopes=2_000,
        floor_envelopes=4_872,
        straightforward_envelopes=1_000,
        devices=24,
        wire_questionnaires=30,
        wire_backlog=600,
        idle_seconds=24.0,
        broker_devices=64,
        broker_connections=1_000,
        broker_bundles=2_000,
        broker_full_bundles=8,
        receipt_rounds=20,
        media_rounds=3,
        media_envelopes=10_000,
        mesh_rounds=2,
        mesh_envelopes=(1_000, 10_000),
        mesh_peers=20,
        mesh_idle_seconds=66.0,
        form_questionnaires=2_000,
        soak_submits=400,
    ),
    "quick": Size(
        rounds=1,
        submit_rounds=3,
        submits=50,
        socket_submits=50,
        backlog_envelopes=1_200,
        trickle_envelopes=300,
        floor_envelopes=600,
        straightforward_envelopes=150,
        devices=4,
        wire_questionnaires=4,
        wire_backlog=60,
        idle_seconds=3.0,
        broker_devices=8,
        broker_connections=100,
        broker_bundles=200,
        broker_full_bundles=2,
        receipt_rounds=3,
        media_rounds=1,
        media_envelopes=1_000,
        mesh_rounds=1,
        mesh_envelopes=(1_000,),
        mesh_peers=20,
        mesh_idle_seconds=3.0,
        form_questionnaires=400,
        soak_submits=80,
        process_counts=(1,),
        slow_commits=False,
        start_rounds=1,
    ),
    "tiny": Size(
        rounds=1,
        submit_rounds=1,
        submits=5,
        socket_submits=5,
        backlog_envelopes=40,
        trickle_envelopes=10,
        floor_envelopes=10,
        straightforward_envelopes=10,
        devices=2,
        wire_questionnaires=2,
        wire_backlog=5,
        idle_seconds=0.5,
        broker_devices=2,
        broker_connections=5,
        broker_bundles=10,
        broker_full_bundles=1,
        receipt_rounds=1,
        media_rounds=1,
        media_envelopes=40,
        mesh_rounds=1,
        mesh_envelopes=(40,),
        mesh_peers=2,
        mesh_idle_seconds=0.5,
        form_questionnaires=20,
        soak_submits=10,
        process_counts=(1,),
        slow_commits=False,
        start_rounds=1,
    ),
}
