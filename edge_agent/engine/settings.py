"""What of the configuration the engine needs. Durations are microseconds, sizes bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from edge_agent.engine.routing import SPRAY_AND_FOCUS, Shares

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR


@dataclass(frozen=True)
class EngineSettings:
    """How the engine paces itself.

    `receipt_wait` is how long an envelope that was taken over rests before it is sent again without a receipt; it
    doubles with each attempt up to `receipt_wait_max`. `refusal_wait` is the pause after a far end declined a bundle;
    it doubles up to `receipt_wait`. `custody_wait` is how long an
    envelope rests when the far end keeps what it takes (a peer's store, a medium), before the same one gets it
    again; it doubles up to `custody_wait_max`. As long rests what is carried for another and listed by a receipt,
    unless the next receipt comes before. `lists_bytes_max` bounds the counted lists that are kept for others.
    `decline_wait` is how long an envelope rests that a neighbour had no room for, `later_wait` one that another is
    about to bring it. `copies` is how many more devices an own envelope may be passed to where nobody has a way to the
    center; after `respray_wait` without a receipt it may be passed to as many anew.
    """

    receipt_wait: int = 10 * MINUTE
    receipt_wait_max: int = 6 * HOUR
    custody_wait: int = DAY
    custody_wait_max: int = 8 * DAY
    refusal_wait: int = 3 * SECOND
    head_interval: int = HOUR
    bundle_bytes_min: int = 8 * 1024
    bundle_bytes_first: int = 32 * 1024
    settle_time_good: int = 2 * SECOND
    settle_time_bad: int = 15 * SECOND
    receipt_silence_alarm: int = 3 * DAY
    receipt_silence_check_interval: int = HOUR
    foreign_bytes_max: int = 256 * 1024 * 1024
    lists_bytes_max: int = 8 * 1024 * 1024
    decline_wait: int = HOUR
    later_wait: int = 30 * SECOND
    copies: int = 8
    respray_wait: int = 3 * DAY
    shares: Shares = field(default_factory=lambda: SPRAY_AND_FOCUS)
