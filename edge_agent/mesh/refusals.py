"""Tells of neighbours and strangers that no link was made with: once for each address and reason, and never many."""

from __future__ import annotations

import asyncio
from typing import Final

from edge_agent.mesh.allowance import Allowance
from edge_agent.repetition import INTERVAL_SECONDS, Repetitions
from operations.journal import get_logger

log = get_logger()

LINES_PER_HOUR_MAX: Final = 120
"""A stranger can have any number of addresses; an operator reads few lines."""


class Refusals:
    """Keeps the journal readable whoever is on the network."""

    def __init__(self) -> None:
        self._repetitions = Repetitions()
        self._lines = Allowance(LINES_PER_HOUR_MAX, INTERVAL_SECONDS)
        self._untold = 0
        self.refused = 0
        """Connections that this device did not want, since the start."""
        self.last: str | None = None
        """The last of them, for people."""

    def tell(self, address: str, reason: str, *, device: bytes | None = None, dialled: bool = False) -> None:
        """Write a line, unless the same was told within the hour, or too much."""
        now_seconds = asyncio.get_running_loop().time()
        if not dialled or device is not None:
            self.refused += 1
            self.last = f"{address}: {reason}"
        repeated = self._repetitions.worth_telling(f"{address} {reason}", now_seconds)
        if repeated is None:
            return
        if not self._lines.take(1, now_seconds):
            self._untold += 1
            return
        fields: dict[str, object] = {"address": address, "reason": reason, "dialled": dialled}
        if device is not None:
            fields["device"] = device
        if repeated:
            fields["times_untold"] = repeated
        if self._untold:
            fields["others_untold"], self._untold = self._untold, 0
        log.info("neighbour_refused", **fields)


class Faults:
    """Reports what should not have happened to the event loop's handler, once an hour for each kind: whatever it is,
    a neighbour may know how to bring it about.
    """

    def __init__(self) -> None:
        self._repetitions = Repetitions()

    def report(self, fault: Exception) -> None:
        """Tell of it, unless the same was told within the hour."""
        loop = asyncio.get_running_loop()
        if self._repetitions.worth_telling(type(fault).__name__, loop.time()) is not None:
            loop.call_exception_handler({"message": "a fault in a link to a neighbour", "exception": fault})
