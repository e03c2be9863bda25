"""A device's way to the broker while its VPN is there: connects, and connects again with back-off."""

from __future__ import annotations

from random import Random

from edge_agent.backoff import Backoff, failures_after
from tests.simulator.broker import Broker, Connection
from tests.simulator.clockwork import SECOND
from tests.simulator.device import Device

_BACKOFF = Backoff(seconds_min=60, seconds_max=300)
"""The defaults of the edge's configuration."""


class Uplink:
    """Plays the part of the publisher's loop in `edge_agent.mqtt.publisher`."""

    def __init__(self, device: Device, broker: Broker, randomness: Random) -> None:
        self.device = device
        self.broker = broker
        self.is_available = False
        self.connection: Connection | None = None
        self._random = randomness
        self._failures = 0
        self._attempts = 0
        device.on_start = self.try_soon

    @property
    def is_connected(self) -> bool:
        return self.connection is not None and self.connection.is_up

    def open(self) -> None:
        """The VPN is there."""
        if not self.is_available:
            self.is_available = True
            self._failures = 0
            self._try_after(SECOND)

    def shut(self) -> None:
        """The VPN is gone, and the connection with it."""
        self.is_available = False
        if self.connection is not None:
            self.connection.cut()

    def try_soon(self) -> None:
        if self.is_available:
            self._try_after(SECOND)

    def _try_after(self, delay: int) -> None:
        self._attempts += 1
        attempt = self._attempts
        self.broker.clockwork.after(delay, self.device.name, "connect", lambda: self._try(attempt))

    def _try(self, attempt: int) -> None:
        if attempt != self._attempts or not self.is_available or not self.device.is_up:
            return
        if self.connection is not None and self.connection.is_up:
            return
        self.connection = self.broker.connect(self.device)
        if self.connection is None:
            self._failed()
        else:
            came_up_at = self.broker.clockwork.now
            self.connection.on_end = lambda: self._ended(came_up_at)
            if not self.connection.is_up:
                self._failed()

    def _ended(self, came_up_at: int) -> None:
        lasted_seconds = (self.broker.clockwork.now - came_up_at) / SECOND
        self._failures = failures_after(self._failures, came_up=True, lasted_seconds=lasted_seconds)
        self._pause()

    def _failed(self) -> None:
        self._failures = failures_after(self._failures, came_up=False, lasted_seconds=0)
        self._pause()

    def _pause(self) -> None:
        self._try_after(int(_BACKOFF.pause_seconds(self._failures, self._random.random()) * SECOND) + SECOND)
