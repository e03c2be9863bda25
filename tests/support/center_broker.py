"""A plain MQTT 5 client with which to try a broker on the files that the center writes."""

from __future__ import annotations

import queue
import ssl
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

WAIT_SECONDS = 15.0


def strict_context(authority: Path, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """A client's TLS as Python 3.13 and later have it by default: RFC 5280 to the letter."""
    context = ssl.create_default_context(cafile=str(authority))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if certificate is not None and key is not None:
        context.load_cert_chain(certificate, key)
    return context


class TryingClient:
    """One MQTT 5 client; every method waits for the broker's answer and returns it."""

    def __init__(self, context: ssl.SSLContext, client_id: str = "") -> None:
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._answers: queue.Queue[tuple[str, object]] = queue.Queue()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.tls_set_context(context)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self.assigned_id = ""

    def connect(self, port: int) -> str:
        """The broker's word: "Success" or why not. Raises OSError (ssl.SSLError) when TLS fails at once."""
        self._client.connect("127.0.0.1", port, keepalive=30)
        self._client.loop_start()
        return str(self._answer("connect", "disconnect"))

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> str:
        self._client.publish(topic, payload, qos=1, retain=retain)
        return str(self._answer("publish", "disconnect"))

    def subscribe(self, topic: str) -> str:
        self._client.subscribe(topic, qos=1)
        return str(self._answer("subscribe", "disconnect"))

    def wait_disconnected(self) -> str:
        return str(self._answer("disconnect"))

    def next_message(self) -> tuple[str, bytes]:
        return self.messages.get(timeout=WAIT_SECONDS)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _answer(self, *kinds: str) -> object:
        while True:
            kind, value = self._answers.get(timeout=WAIT_SECONDS)
            if kind in kinds:
                return value

    def _on_connect(
        self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self.assigned_id = str(getattr(properties, "AssignedClientIdentifier", ""))
        self._answers.put(("connect", reason))

    def _on_disconnect(
        self, client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._answers.put(("disconnect", reason))
        client.disconnect()  # no second try: what was said is what the test looks at

    def _on_subscribe(
        self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        self._answers.put(("subscribe", reasons[0]))

    def _on_publish(
        self, _client: Client, _data: Any, _mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._answers.put(("publish", reason))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self.messages.put((message.topic, bytes(message.payload)))
