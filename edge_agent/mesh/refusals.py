"""Tells of neighbours and strangers that no link was made with: who refused whom, once for each of them and reason, and
never many.

| event | who did not want the link |
|---|---|
| neighbour_refused | this device |
| neighbour_refuses_us | the far end |
| neighbour_unreached | neither: nobody answers, the network does not let it through, or it broke |
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Final

from edge_agent.mesh.allowance import Allowance
from edge_agent.repetition import INTERVAL_SECONDS, Repetitions
from operations.journal import get_logger

log = get_logger()

LINES_PER_HOUR_MAX: Final = 120
"""A stranger can have any number of addresses; an operator reads few lines."""


class Refuser(Enum):
    """Who did not want a link, by the event that tells of it."""

    US = "neighbour_refused"
    IT = "neighbour_refuses_us"
    NOBODY = "neighbour_unreached"


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

    def tell(
        self, address: str, reason: str, *, by: Refuser, device: bytes | None = None, dialled: bool = False
    ) -> None:
        """Write a line, unless the same was told within the hour, or too much. A device whose name is proven is the
        same at all of its addresses.
        """
        now_seconds = asyncio.get_running_loop().time()
        if by is Refuser.US:
            self.refused += 1
            self.last = f"{address}: {reason}"
        whom = address if device is None else device.hex()
        repeated = self._repetitions.worth_telling(f"{by.value} {whom} {reason}", now_seconds)
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
        log.info(by.value, **fields)


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
