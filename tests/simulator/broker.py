"""The broker and the network before it: MQTT as it behaves, and as it was measured to misbehave.

It acknowledges and forgets, loses sessions, delivers twice or a month later, and refuses while nobody consumes. It
keeps nothing over a crash (decision 14). Each connection carries bytes in order; nothing else is in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from edge_agent.engine.links import center_mailbox
from sync_protocol import topics
from sync_protocol.limits import BUNDLE_BYTES_MAX
from sync_protocol.mesh import Exchanged
from tests.simulator.clockwork import DAY, HOUR, SECOND, Clockwork
from tests.simulator.device import Device
from tests.simulator.faults import Fault, Faults

BUNDLES_IN_FLIGHT_MAX = 20
CONNECT_AGAIN = 20 * SECOND


@dataclass(frozen=True)
class BrokerTroubles:
    """How often what goes wrong: probabilities for each bundle, connection or receipt."""

    forgets: float = 0
    refuses: float = 0
    duplicates: float = 0
    late: float = 0
    slow: float = 0
    sends_lost: float = 0.5
    receipts_lost: float = 0


class Subscriber(Protocol):
    """A consumer's side of the shared subscription."""

    @property
    def is_connected(self) -> bool: ...

    def receive(self, topic: str, payload: bytes) -> None: ...


class Broker:
    """One broker. `nodes` draw from their own streams; the broker's serves what is nobody's."""

    def __init__(self, clockwork: Clockwork, faults: Faults, randomness: Callable[[str], Random]) -> None:
        self.clockwork = clockwork
        self.faults = faults
        self.troubles = BrokerTroubles()
        self.is_up = True
        self.connections: dict[bytes, Connection] = {}
        self.retained: dict[str, bytes] = {}
        self.subscribers: list[Subscriber] = []
        self.delivered: list[tuple[str, bytes]] = []
        """Receipts and statements published lately, for whoever plays old ones back."""
        self.taken: deque[tuple[str, bytes]] = deque(maxlen=20)
        """Bundles of devices that arrived lately, likewise."""
        self.on_up: Callable[[], None] = lambda: None
        self._sessions: set[bytes] = set()
        self._randomness = randomness
        self._random = randomness("broker")

    def crash(self, down_for: int) -> None:
        """Die, and come back with nothing."""
        self.is_up = False
        self._sessions.clear()
        self.retained.clear()
        for connection in list(self.connections.values()):
            connection.cut()
        self.clockwork.after(down_for, "broker", "start", self.start)

    def start(self) -> None:
        self.is_up = True
        self.on_up()

    def forget_session(self, device: bytes) -> None:
        self._sessions.discard(device)

    def connect(self, device: Device) -> Connection | None:
        """Let a device connect; None while the broker is down."""
        if not self.is_up or not device.is_up:
            return None
        before = self.connections.get(device.id)
        if before is not None:
            # Another connection by the same name takes over, as MQTT says: a clone does it, too.
            before.cut()
        remembered = device.id in self._sessions
        self._sessions.add(device.id)
        connection = Connection(self, device, self._randomness(f"connection of {device.name}"))
        self.connections[device.id] = connection
        key = connection.key
        connection.subscribe(topics.STATEMENTS)
        device.link_up(
            center_mailbox(
                key,
                bundles_in_flight_max=BUNDLES_IN_FLIGHT_MAX,
                bundle_bytes_max=BUNDLE_BYTES_MAX,
                remembered=remembered,
            ),
            connection,
        )
        return connection

    def publish_up(self, node: str, topic: str, payload: bytes) -> bool:
        """Take a device's bundle; return what the acknowledgement says."""
        troubles, strikes = self.troubles, self.faults.strikes
        self.taken.append((topic, payload))
        ready = [one for one in self.subscribers if one.is_connected]
        if not ready or strikes(node, Fault.BROKER_REFUSES, troubles.refuses):
            return False
        if strikes(node, Fault.BROKER_FORGETS, troubles.forgets):
            return True
        self._deliver(topic, payload, SECOND // 50)
        if strikes(node, Fault.DUPLICATE, troubles.duplicates):
            self._deliver(topic, payload, SECOND // 10)
        if strikes(node, Fault.LATE, troubles.late):
            self._deliver(topic, payload, int(self._random.random() * 30 * DAY))
        return True

    def redeliver(self, topic: str, payload: bytes) -> None:
        """Give a message that a dead consumer had not acknowledged to whoever is there."""
        self._deliver(topic, payload, SECOND)

    def _deliver(self, topic: str, payload: bytes, delay: int) -> None:
        def arrive() -> None:
            ready = [one for one in self.subscribers if one.is_connected]
            if ready and self.is_up:
                self._random.choice(ready).receive(topic, payload)

        self.clockwork.after(delay, "broker", "deliver", arrive)

    def publish_down(self, topic: str, payload: bytes) -> None:
        """Keep a retained message and give it to everyone who has asked for it."""
        self.retained[topic] = payload
        self.delivered.append((topic, payload))
        del self.delivered[:-200]
        for connection in list(self.connections.values()):
            connection.offer(topic, payload)


class Connection:
    """One device's connection; its outlet in the sense of `device.Outlet`."""

    def __init__(self, broker: Broker, device: Device, randomness: Random) -> None:
        self._broker = broker
        self._device = device
        self._random = randomness
        self._topics: set[str] = set()
        self._followed: frozenset[bytes] = frozenset()
        self._up_at = self._down_at = 0
        self.key = device.link_key("mqtt")
        self.is_up = True
        self.in_flight = 0
        self.on_end: Callable[[], None] = lambda: None

    # What the device's engine asks for.

    def send(self, token: int, data: bytes) -> None:
        self.in_flight += 1
        self._up_at = max(self._up_at, self._broker.clockwork.now + self._latency())
        self._broker.clockwork.at(self._up_at, self._device.name, "bundle up", lambda: self._arrive(token, data))

    def follow(self, origins: frozenset[bytes], listed: frozenset[bytes]) -> None:
        for origin in sorted(self._followed - origins):
            self._topics.discard(topics.receipts_topic(origin))
        for origin in sorted(origins - self._followed):
            self.subscribe(topics.receipts_topic(origin))
        self._followed = origins

    def say(self, message: Exchanged) -> None:
        """A broker hears nothing."""

    def close(self) -> None:
        self.cut()

    def dropped(self) -> None:
        self._end()

    # What happens to it.

    def cut(self) -> None:
        """End here; the device notices, and what was in flight may have arrived or not."""
        if self.is_up:
            if self.in_flight:
                self._broker.faults.note(self._device.name, Fault.LINK_CUT)
            self._end()
            self._broker.clockwork.after(
                SECOND, self._device.name, "connection lost", lambda: self._device.link_down(self.key)
            )

    def _end(self) -> None:
        if self.is_up:
            self.is_up = False
            if self._broker.connections.get(self._device.id) is self:
                del self._broker.connections[self._device.id]
            self.on_end()

    def subscribe(self, topic: str) -> None:
        self._topics.add(topic)
        payload = self._broker.retained.get(topic)
        if payload is not None:
            self.offer(topic, payload)

    def offer(self, topic: str, payload: bytes) -> None:
        if topic not in self._topics or not self.is_up:
            return
        broker = self._broker
        if broker.faults.strikes(self._device.name, Fault.RECEIPT_LOST, broker.troubles.receipts_lost):
            return
        delay = self._latency()
        broker.clockwork.after(delay, self._device.name, "bundle down", lambda: self._down(payload))

    def _down(self, payload: bytes) -> None:
        if self.is_up:
            self._device.bundle_arrived(self.key, payload)

    def _arrive(self, token: int, data: bytes) -> None:
        broker, node = self._broker, self._device.name
        self.in_flight -= 1
        if not self.is_up and broker.faults.strikes(node, Fault.SEND_LOST, broker.troubles.sends_lost):
            return
        if not broker.is_up:
            return
        taken = broker.publish_up(node, topics.up_topic(self._device.id), data)
        if self.is_up:
            self._down_at = max(self._down_at, broker.clockwork.now + self._latency())
            broker.clockwork.at(self._down_at, node, "acknowledgement", lambda: self._settle(token, taken=taken))

    def _settle(self, token: int, *, taken: bool) -> None:
        if self.is_up:
            self._device.settled(self.key, token, taken=taken)

    def _latency(self) -> int:
        delay = SECOND // 20 + int(self._random.random() * SECOND)
        if self._broker.faults.strikes(self._device.name, Fault.SLOW, self._broker.troubles.slow):
            delay += int(self._random.random() * 3 * HOUR)
        return delay
