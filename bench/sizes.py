"""How much is measured: the full run, a quick one, and one so small that only its working is tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Size:
    """Rounds are repetitions of every pair; the rest are numbers of questionnaires, and seconds."""

    rounds: int
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
    process_counts: tuple[int, ...] = (1, 2)
    databases: tuple[str, ...] = ("SQLite", "PostgreSQL")
    start_rounds: int = 5


SIZES: Final = {
    "full": Size(
        rounds=3,
        submits=600,
        socket_submits=600,
        backlog_envelopes=9_744,
        trickle_envelopes=2_500,
        floor_envelopes=4_872,
        straightforward_envelopes=1_500,
        devices=24,
        wire_questionnaires=60,
        wire_backlog=600,
        idle_seconds=24.0,
    ),
    "quick": Size(
        rounds=1,
        submits=200,
        socket_submits=200,
        backlog_envelopes=2_400,
        trickle_envelopes=600,
        floor_envelopes=1_200,
        straightforward_envelopes=300,
        devices=8,
        wire_questionnaires=10,
        wire_backlog=120,
        idle_seconds=5.0,
        start_rounds=1,
    ),
    "tiny": Size(
        rounds=1,
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
        process_counts=(1,),
        start_rounds=1,
    ),
}
