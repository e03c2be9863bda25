"""Connections to the broker in every stage of being made, for telling what each stage costs it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from bench.center import BenchDevice
from demo.processes import wait_until
from edge_agent.mqtt.bound_client import broker_tls_context
from sync_protocol.topics import STATEMENTS, receipts_topic

_HOST: Final = "127.0.0.1"
_WAIT_SECONDS: Final = 60.0
_READ_BYTES: Final = 16 * 1024


def device_tls(device: BenchDevice) -> ssl.SSLContext:
    """The TLS of a tablet."""
    material = device.provisioned
    return broker_tls_context(material.tls_authority, material.tls_certificate, material.tls_key)


def touch(port: int) -> None:
    """Connect by TCP, and leave."""
    _connected(port).close()


def hello(port: int, tls: ssl.SSLContext) -> None:
    """Have the broker answer a TLS hello, which costs it key exchange and signature, and leave."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = tls.wrap_bio(incoming, outgoing, server_hostname=_HOST)
    with suppress(ssl.SSLWantReadError):
        handshake.do_handshake()
    with _connected(port) as plain:
        plain.sendall(outgoing.read())
        plain.recv(_READ_BYTES)


def handshake(port: int, tls: ssl.SSLContext, session: ssl.SSLSession | None = None) -> tuple[ssl.SSLSession, bool]:
    """Shake hands and leave; return the session, and whether the broker took up the one that was given.

    Raises OSError when the broker ends the connection.
    """
    with tls.wrap_socket(_connected(port), server_hostname=_HOST, session=session) as secured:
        # Tickets come, and the broker checks the client's certificate, after the client's part is over: a ping before
        # CONNECT is against the protocol, and so answered by the end of the connection.
        secured.sendall(b"\xc0\x00")
        secured.recv(1)
        if secured.session is None:
            raise OSError("the broker gives no session")
        return secured.session, bool(secured.session_reused)


def _connected(port: int) -> socket.socket:
    made = socket.create_connection((_HOST, port), timeout=_WAIT_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


class Client:
    """One MQTT client on a thread of its own, which acknowledges whatever comes; a context manager."""

    def __init__(self, port: int, client_id: str, tls: ssl.SSLContext) -> None:
        self._changed = threading.Condition()
        self._subscribed = self._granted = self._published = self._answered = self._arrived = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
        self._client.tls_set_context(tls)
        self._client.max_inflight_messages_set(20)
        self._client.on_subscribe = lambda *_: self._count("_granted")
        self._client.on_publish = lambda *_: self._count("_answered")
        self._client.on_message = lambda *_: self._count("_arrived")
        self._client.connect(_HOST, port, clean_start=True)
        self._client.loop_start()
        wait_until(self._client.is_connected, "the broker accepts the connection", timeout_seconds=_WAIT_SECONDS)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe with QoS 1, and wait for each answer."""
        for topic in topics:
            self._client.subscribe(topic, qos=1)
            self._subscribed += 1
            self._until(lambda: self._granted >= self._subscribed, "the subscription is answered")

    def publish_all(self, topic: str, payloads: Sequence[bytes]) -> None:
        """Publish with QoS 1, and wait for every answer."""
        for payload in payloads:
            self._client.publish(topic, payload, qos=1)
        self._published += len(payloads)
        self._until(lambda: self._answered >= self._published, "everything is answered")

    @property
    def arrived(self) -> int:
        """How many messages have come."""
        return self._arrived

    def wait_for(self, count: int) -> None:
        """Wait until so many messages have come, since the beginning."""
        self._until(lambda: self._arrived >= count, f"{count} messages")

    def _count(self, name: str) -> None:
        with self._changed:
            setattr(self, name, getattr(self, name) + 1)
            self._changed.notify_all()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, _WAIT_SECONDS):
                raise RuntimeError(f"not within {_WAIT_SECONDS:g} seconds: {what}")

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def connect_as_tablet(port: int, device: BenchDevice, tls: ssl.SSLContext) -> Client:
    """Connect and subscribe as a tablet does: what the center says to all, then its own receipts."""
    client = Client(port, device.name.hex(), tls)
    try:
        client.subscribe([STATEMENTS, receipts_topic(device.name)])
    except BaseException:
        client.close()
        raise
    return client
