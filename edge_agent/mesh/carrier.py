"""What is known of a link beside what it says: its interface, when something last passed over it, its end."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from edge_agent.mesh.dialling import Try
from edge_agent.mesh.peer_link import Passed
from edge_agent.mesh.ways import Way

QUIET_BYTES: Final = 512
"""Fewer between two looks at a quiet link are pings; the smallest bundle is larger."""
_TCP_OCTETS: Final = struct.Struct("=QQ")
_TCP_OCTETS_OFFSET: Final = 120
_TCP_INFO_BYTES: Final = 136
"""linux/tcp.h: tcpi_bytes_acked and tcpi_bytes_received, since 4.1."""


@dataclass
class Carrier:
    """What carries a link, and when something last passed over it. Pings and hellos are too small to count."""

    way: Way | None
    writer: asyncio.StreamWriter
    passed_at: float
    ended: asyncio.Future[Try]
    """What became of it, once it is over and nothing of it is left."""
    bundles: int = 0
    octets: int = 0
    refused: bool = False
    """Whether this device did not want it."""
    hello_is_old: bool = False
    """Whether this device stands otherwise than it said when it dialled."""

    def quiet_seconds(self, passed: Passed, now_seconds: float) -> float:
        """For how long nothing has passed, as far as it was looked at."""
        bundles, octets = passed.bundles_in + passed.bundles_out, self._octets()
        if bundles != self.bundles or octets >= self.octets + QUIET_BYTES:
            self.bundles, self.octets, self.passed_at = bundles, octets, now_seconds
        return now_seconds - self.passed_at

    def _octets(self) -> int:
        # What the far end has acknowledged, and what has come: a bundle may take minutes on a slow link.
        plain = self.writer.get_extra_info("socket")
        with suppress(OSError, AttributeError, struct.error):
            information = plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            acknowledged, received = _TCP_OCTETS.unpack_from(information, _TCP_OCTETS_OFFSET)
            return int(acknowledged + received)
        return self.octets
