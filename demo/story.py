"""What the demo shows while it runs: a line a tablet, the center, and what has just been done to them."""

from __future__ import annotations

import time
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from demo.field import Field

_READ_INTERVAL_SECONDS: Final = 0.5
_COLUMNS: Final = ("waiting", "sent", "synchronised", "purged", "held")


class Story:
    """A live table; rich asks it for itself several times a second."""

    def __init__(self, field: Field, total: int) -> None:
        self._field = field
        self._total = total
        self._began = time.monotonic()
        self._told: list[str] = []
        self._counts: dict[str, dict[str, Any]] = {}
        self._links: dict[str, str] = {}
        self._read_at = 0.0

    def tell(self, what: str) -> None:
        """Note something that happened."""
        self._told.append(f"{time.monotonic() - self._began:6.1f} s  {what}")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self._read()
        table = Table(title=f"{self._total} questionnaires on {len(self._field.devices)} tablets", title_justify="left")
        table.add_column("tablet")
        table.add_column("accepted", justify="right")
        for column in _COLUMNS:
            table.add_column(column, justify="right")
        table.add_column("link")
        for device in self._field.devices:
            counts = self._counts.get(device.name, {})
            numbers = (str(counts.get(column, "")) for column in _COLUMNS)
            table.add_row(device.name, str(device.accepted), *numbers, self._links.get(device.name, ""))
        yield table
        for line in self._told:
            yield Text(line)

    def _read(self) -> None:
        if time.monotonic() - self._read_at < _READ_INTERVAL_SECONDS:
            return
        self._read_at = time.monotonic()
        for device in self._field.devices:
            try:
                status = device.status()
            except OSError:
                self._links[device.name] = "no daemon"
                continue
            self._counts[device.name] = status["envelopes"]
            self._links[device.name] = "up" if status["link"]["connected"] else "down"
