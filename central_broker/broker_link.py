"""One process's connection to the broker: paho-mqtt driven from our own loop, without threads.

Every connection is a paho client of its own. So a message can only be acknowledged on the connection that it came by:
its number means nothing on another. What was not acknowledged there, the broker delivers again; and where the broker
loses it, the edge sends it again.
"""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

QOS: Final = 1
RECONNECT_SECONDS_MAX: Final = 5.0
"""Short: these are a few processes beside the broker, and without them it can give tablets' bundles to nobody."""
_RECONNECT_SECONDS_FIRST: Final = 0.5

Jitter = Callable[[], float]
"""A random number in [0, 1)."""


def reconnect_seconds(failures: int, drawn: float) -> float:
    """Return the pause after so many failures before this one; `drawn` is random, in [0, 1).

    Full jitter: many consumers that lost the same broker do not come back all at once.
    """
    return min(RECONNECT_SECONDS_MAX, _RECONNECT_SECONDS_FIRST * 2.0 ** min(failures, 10)) * drawn


@dataclass(frozen=True)
class BrokerSettings:
    """Where the broker is and who we are there; `tls` None only for tests without certificates."""

    host: str
    port: int
    client_id: str
    tls: ssl.SSLContext | None
    keepalive_seconds: int = 60
    connect_timeout_seconds: float = 10.0


@dataclass(frozen=True)
class Subscription:
    """What to receive, how long the broker keeps our session, and how many unacknowledged messages it may send."""

    topic: str
    session_expiry_seconds: int
    receive_maximum: int


@dataclass(frozen=True)
class Received:
    """One message, not acknowledged yet."""

    topic: str
    payload: bytes
    _client: paho.Client
    _number: int


class BrokerLink:
    """Keeps one connection up; call `pump` often. Not thread-safe."""

    def __init__(self, settings: BrokerSettings, *, jitter: Jitter, subscription: Subscription | None = None) -> None:
        self._settings = settings
        self._subscription = subscription
        self._jitter = jitter
        self._log = structlog.get_logger("broker_link").bind(client_id=settings.client_id)
        self._client: paho.Client | None = None
        self._connected = False
        self._failures = 0
        self._next_attempt = 0.0
        self.received: deque[Received] = deque()
        self.published: dict[int, bool] = {}
        """Numbers of published messages that the broker has answered: True when it took them."""

    @property
    def connected(self) -> bool:
        return self._connected

    def pump(self, timeout_seconds: float) -> None:
        """Connect if it is time to, send and receive what there is; waits at most about `timeout_seconds`."""
        if self._client is None:
            wait = self._next_attempt - time.monotonic()
            if wait > timeout_seconds:
                time.sleep(timeout_seconds)
                return
            time.sleep(max(wait, 0))
            self._connect()
        client = self._client
        if client is not None and client.loop(timeout_seconds) != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._drop("the connection to the broker broke")

    def acknowledge(self, received: Received) -> bool:
        """Tell the broker that a message is done; False when the connection it came by is gone."""
        if not self._connected or received._client is not self._client:
            return False
        return received._client.ack(received._number, QOS) == MQTTErrorCode.MQTT_ERR_SUCCESS

    def publish(self, topic: str, payload: bytes) -> int | None:
        """Publish a retained message; return its number, answered in `published`; None without a connection."""
        if self._client is None or not self._connected:
            return None
        sent = self._client.publish(topic, payload, qos=QOS, retain=True)
        return sent.mid if sent.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def close(self) -> None:
        """Leave in good order; the session stays at the broker as long as it was asked to."""
        if self._client is not None and self._connected:
            self._client.disconnect()
            self._client.loop(0)
        self._abandon()

    def _connect(self) -> None:
        settings = self._settings
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=paho.MQTTv5,
            manual_ack=True,
        )
        client.connect_timeout = settings.connect_timeout_seconds
        if settings.tls is not None:
            client.tls_set_context(settings.tls)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        if self._subscription is not None:
            properties.SessionExpiryInterval = self._subscription.session_expiry_seconds
            properties.ReceiveMaximum = self._subscription.receive_maximum
        self._client = client
        try:
            client.connect(
                settings.host,
                settings.port,
                settings.keepalive_seconds,
                clean_start=self._subscription is None,
                properties=properties,
            )
        except (OSError, ValueError) as error:
            self._drop(f"the broker cannot be reached: {error}")

    def _on_connect(
        self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if client is not self._client:
            return
        if reason.is_failure:
            self._log.error("broker_refused", reason=str(reason))
            client.disconnect()
            return
        if self._subscription is not None:
            client.subscribe(self._subscription.topic, qos=QOS)
        self._connected = True
        self._failures = 0
        self._log.info("broker_connected")

    def _on_message(self, client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        self.received.append(Received(topic, bytes(message.payload), client, message.mid))

    def _on_publish(
        self, client: paho.Client, _data: Any, number: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        if client is self._client:
            self.published[number] = not reason.is_failure

    def _drop(self, why: str) -> None:
        self._abandon()
        delay = reconnect_seconds(self._failures, self._jitter())
        self._failures += 1
        self._next_attempt = time.monotonic() + delay
        self._log.warning("broker_lost", why=why, retry_seconds=round(delay, 2))

    def _abandon(self) -> None:
        client, self._client = self._client, None
        self._connected = False
        self.published.clear()
        if client is not None:
            client.on_message = None
            socket = client.socket()
            if socket is not None:
                socket.close()
