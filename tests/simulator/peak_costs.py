"""What each operation of an evening peak costs, in CPU microseconds, and where the figures come from."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from bench.broker_costs import CONNECTION, FULL_BUNDLE, HELLO, MEMORY, RESUMED, SMALL_BUNDLE, TOUCH
from bench.consumer_costs import BUNDLE, ENVELOPE, RECEIPT

_SMALL_BYTES: Final = 2_608
_FULL_BYTES: Final = 260_000


@dataclass(frozen=True)
class ServiceCosts:
    """CPU microseconds an operation. The defaults are from `docs/benchmarks.md`, "What an evening peak is made of"."""

    accept: float = 44
    hello: float = 321
    """Accept included: what a tablet that gave up meanwhile has cost at the least."""
    connection: float = 1_966
    """All of it: accept, handshake, CONNECT, both subscriptions, and the end of the connection."""
    resumed: float = 769
    bundle_small: float = 26
    bundle_full: float = 367
    receipt_broker: float = 49
    receipt_publisher: float = 235
    receipt_database: float = 109
    consumer_bundle: float = 166
    consumer_envelope: float = 244
    database_bundle: float = 25
    database_envelope: float = 100
    connection_kilobytes: float = 33
    source: str = "docs/benchmarks.md: 2 × AMD EPYC, mosquitto 2.0.11, OpenSSL 3.0.19, PostgreSQL 15.18"

    @property
    def subscribe(self) -> float:
        """Not measured apart: one small packet each way, as for a small bundle."""
        return self.bundle_small

    @property
    def finish(self) -> float:
        """The second half of a handshake (the device's certificate is checked) with CONNECT."""
        return self.connection - self.hello - 2 * self.subscribe

    def with_slower_broker(self, times: int) -> ServiceCosts:
        """Return the same with a broker that needs so many times as long for everything."""
        names = ("accept", "hello", "connection", "resumed", "bundle_small", "bundle_full", "receipt_broker")
        return replace(self, **{name: getattr(self, name) * times for name in names})

    def bundle(self, size_bytes: int) -> float:
        """Return the broker's cost of a bundle of this size, through to its consumer: a part grows with the bytes."""
        by_byte = (self.bundle_full - self.bundle_small) / (_FULL_BYTES - _SMALL_BYTES)
        return self.bundle_small + max(0, size_bytes - _SMALL_BYTES) * by_byte


_FIELDS: Final = {
    "accept": (TOUCH, "broker"),
    "hello": (HELLO, "broker"),
    "connection": (CONNECTION, "broker"),
    "resumed": (RESUMED, "broker"),
    "bundle_small": (SMALL_BUNDLE, "broker"),
    "bundle_full": (FULL_BUNDLE, "broker"),
    "receipt_broker": (RECEIPT, "broker"),
    "receipt_publisher": (RECEIPT, "publisher"),
    "receipt_database": (RECEIPT, "database"),
    "consumer_bundle": (BUNDLE, "consumer"),
    "consumer_envelope": (ENVELOPE, "consumer"),
    "database_bundle": (BUNDLE, "database"),
    "database_envelope": (ENVELOPE, "database"),
}


def read_costs(path: Path) -> ServiceCosts:
    """Read what `python -m bench --only broker --json` has written; raises ValueError when a row is missing."""
    document: dict[str, Any] = json.loads(path.read_text().splitlines()[-1])
    rows = {row["what"]: row for row in document["rows"].get("broker", ())}
    if not {MEMORY, *(what for what, _ in _FIELDS.values())} <= rows.keys():
        raise ValueError(f"{path} is no document of `python -m bench --only broker --json`")
    figures = {name: float(rows[what]["cpu_microseconds"][who]) for name, (what, who) in _FIELDS.items()}
    kilobytes, source = float(rows[MEMORY]["figure"]), _source(document, path)
    return ServiceCosts(**figures, connection_kilobytes=kilobytes, source=source)


def _source(document: dict[str, Any], path: Path) -> str:
    machine = document["machine"]
    return f"{path.name}: {machine['date']}, {machine['processor']}, mosquitto {machine['mosquitto']}"
