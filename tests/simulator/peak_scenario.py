"""What an evening peak is played with: the tablets' habits, the outage, the center's site. Durations in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from central_broker.configuration_schema import CENTER_DEFAULT, table_of
from edge_agent.backoff import Backoff
from edge_agent.configuration_schema import TABLE
from edge_agent.engine.settings import SECOND, EngineSettings
from operations.configuration import Table

TABLETS: Final = 21_000
INTERVIEWS: Final = 552_000
"""Of the busiest day, most of which are sent in the evening hour."""


def default_of(table: Table, section: str, name: str) -> int:
    """The default of a number in a configuration: what a site has that sets nothing."""
    for key in table.keys:
        if (key.section, key.name) == (section, name) and isinstance(key.default, int):
            return key.default
    raise ValueError(f"no number {section}.{name}")


class RetryPolicy(Protocol):
    """How long a tablet pauses after so many failures in a row."""

    def pause_seconds(self, failures: int, drawn: float) -> float:
        """Return the pause; `drawn` is random, in [0, 1)."""
        ...


@dataclass(frozen=True)
class WithoutJitter:
    """The same limits, each of them waited for in full: what "exponential back-off" alone means."""

    backoff: Backoff

    def pause_seconds(self, failures: int, drawn: float) -> float:  # it draws nothing
        """See RetryPolicy."""
        return self.backoff.limit_seconds(failures)


@dataclass(frozen=True)
class FixedPause:
    """Always the same: what a simple client does."""

    seconds: float = 1.0

    def pause_seconds(self, failures: int, drawn: float) -> float:  # it draws nothing
        """See RetryPolicy."""
        return self.seconds


@dataclass(frozen=True)
class Habits:
    """What tablets do; the defaults are those of the edge's configuration and engine."""

    retry: RetryPolicy
    connect_timeout_seconds: int = default_of(TABLE, "broker", "connect_timeout_seconds")
    answer_timeout_seconds: int = 120
    receipt_wait_seconds: int = EngineSettings.receipt_wait // SECOND
    receipt_wait_seconds_max: int = EngineSettings.receipt_wait_max // SECOND
    refusal_wait_seconds: int = EngineSettings.refusal_wait // SECOND
    envelopes_a_bundle: int = 13
    """With 32 KB a bundle, which is what a link begins with: the whole window of 20 goes at that size."""
    envelope_bytes: int = 2356
    """In a bundle, with its frame: 30,652 bytes are 13 of them."""


def default_backoff() -> Backoff:
    """What tablets have that set nothing."""
    return Backoff(
        default_of(TABLE, "broker", "backoff_seconds_min"), default_of(TABLE, "broker", "backoff_seconds_max")
    )


class OutageKind(Enum):
    """What was away, and how it comes back."""

    RESTART = "broker restarted (away 1 s)"
    OUTAGE = "broker away 10 min, back at once for all"
    MINUTE = "VPN links return within a minute"
    HOUR = "VPN links return within an hour"


@dataclass(frozen=True)
class Outage:
    """The broker was away for so long while links stood; or the links themselves return, spread over a time.

    A tablet tries at once when its link returns: only a broker that does not answer makes it pause.
    """

    kind: OutageKind
    away_seconds: float = 0
    spread_seconds: float = 0


OUTAGES: Final = (
    Outage(OutageKind.RESTART, away_seconds=1),
    Outage(OutageKind.OUTAGE, away_seconds=600),
    Outage(OutageKind.MINUTE, spread_seconds=60),
    Outage(OutageKind.HOUR, spread_seconds=3600),
)

_CENTER: Final = table_of(CENTER_DEFAULT)


@dataclass(frozen=True)
class Site:
    """The center: every process has a core of its own (broker, publisher, each consumer), the database its own."""

    consumers: int = 4
    database_cores: int = 2
    listen_backlog: int = 100
    """What mosquitto 2.0.11 asks the kernel for, and nothing sets otherwise."""
    queue_messages_max: int = default_of(_CENTER, "broker", "queue_messages_max")
    queue_bytes_max: int = default_of(_CENTER, "broker", "queue_bytes_max")
    batch_envelopes_max: int = default_of(_CENTER, "consumer", "batch_envelopes_max")
    batch_wait_milliseconds: int = default_of(_CENTER, "consumer", "batch_wait_milliseconds")
    receipts_interval_milliseconds: int = default_of(_CENTER, "receipts", "interval_milliseconds")
    batch_origins_max: int = default_of(_CENTER, "receipts", "batch_origins_max")
    connect_timeout_seconds: int = 10

    @property
    def cores(self) -> int:
        """How many cores it has in all."""
        return 2 + self.consumers + self.database_cores


@dataclass(frozen=True)
class Links:
    """The tablets' ways to the center: a round trip lies somewhere between the two, the upload is each tablet's own."""

    round_trip_seconds_min: float = 0.04
    round_trip_seconds_max: float = 0.2
    upload_bits_a_second: int = 1_000_000
    syn_retry_seconds: tuple[float, ...] = (1, 3, 7, 15)
    """When the kernel of a tablet repeats a connection attempt that the broker's did not answer."""


@dataclass(frozen=True)
class Scenario:
    """One evening."""

    outage: Outage
    habits: Habits
    site: Site = field(default_factory=Site)
    links: Links = field(default_factory=Links)
    tablets: int = TABLETS
    envelopes_a_tablet: int = round(INTERVIEWS / TABLETS)
    seed: int = 1
    seconds_max: float = 3 * 3600
