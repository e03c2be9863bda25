"""Bundles as devices make them, and putting them to the broker before anything is measured."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bench.center import BenchCenter, BenchDevice, center_tls
from bench.questionnaires import Questionnaires
from bench.sealing import SteppedDevice
from demo.processes import wait_until
from edge_agent.mqtt.bound_client import broker_tls_context
from sync_protocol.topics import consumer_subscription, up_topic

_RECORD: Final = struct.Struct(">16sI")
_SESSION_SECONDS: Final = 3600
_PUBLISH_SECONDS: Final = 120.0

SentBundle = tuple[bytes, bytes]
"""The device's name, and the bundle."""


def make_backlog(
    folder: Path, devices: Sequence[BenchDevice], questionnaires: Questionnaires, count: int
) -> list[SentBundle]:
    """What devices send that were away for a while: bundles as full as the engine makes them over a fast link."""
    sent: list[SentBundle] = []
    for number, device in enumerate(devices):
        share = len(range(number, count, len(devices)))
        with _stepped(folder, device) as stepped:
            stepped.submit(questionnaires.take(share))
            sent += [(device.name, data) for data in stepped.connect()]
    return sent


def make_trickle(
    folder: Path, devices: Sequence[BenchDevice], questionnaires: Questionnaires, count: int
) -> list[SentBundle]:
    """What devices send that are connected all evening: each envelope by itself; the devices take turns."""
    queues: list[list[SentBundle]] = []
    for number, device in enumerate(devices):
        with _stepped(folder, device) as stepped:
            sent = [(device.name, data) for data in stepped.connect()]
            for questionnaire in questionnaires.take(len(range(number, count, len(devices)))):
                stepped.submit([questionnaire])
                sent += [(device.name, data) for data in stepped.proceed()]
            queues.append(sent)
    longest = max(map(len, queues))
    return [queue[place] for place in range(longest) for queue in queues if place < len(queue)]


def _stepped(folder: Path, device: BenchDevice) -> SteppedDevice:
    return SteppedDevice(
        folder / f"queue-{device.name.hex()}", device.provisioned.identity, device.provisioned.statements
    )


def write_bundles(path: Path, sent: Sequence[SentBundle]) -> None:
    """Keep them in a file, for other processes."""
    path.write_bytes(b"".join(_RECORD.pack(name, len(data)) + data for name, data in sent))


def read_bundles(path: Path) -> Iterator[SentBundle]:
    """Read such a file."""
    data, offset = path.read_bytes(), 0
    while offset < len(data):
        name, length = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size
        yield name, data[offset : offset + length]
        offset += length


def reserve_sessions(center: BenchCenter, client_ids: Sequence[str]) -> None:
    """Let the broker know these consumers, so that it keeps for them what is published while they are away."""
    for client_id in client_ids:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        properties.SessionExpiryInterval = _SESSION_SECONDS
        with _Connection(
            center.files.configuration.broker.center_port, client_id, center_tls(center.files, "consumer"), properties
        ) as connection:
            connection.subscribe(consumer_subscription(center.files.configuration.consumer.group))


def publish_all(center: BenchCenter, devices: Sequence[BenchDevice], sent: Sequence[SentBundle]) -> None:
    """Publish every bundle with its device's own certificate; returns when the broker has them all."""
    connections: dict[bytes, _Connection] = {}
    try:
        for device in devices:
            material = device.provisioned
            tls = broker_tls_context(material.tls_authority, material.tls_certificate, material.tls_key)
            connections[device.name] = _Connection(center.port, device.name.hex(), tls)
        for name, data in sent:
            connections[name].publish(up_topic(name), data)
        for connection in connections.values():
            connection.settle()
    finally:
        for connection in connections.values():
            connection.close()


class _Connection:
    """One client driven by hand."""

    def __init__(self, port: int, client_id: str, tls: ssl.SSLContext, properties: Properties | None = None) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
        self._client.tls_set_context(tls)
        self._client.max_inflight_messages_set(100)
        self._subscribed = False
        self._open = 0
        self._client.on_subscribe = self._note_subscribed
        self._client.on_publish = self._note_published
        self._client.connect("127.0.0.1", port, clean_start=properties is None, properties=properties)
        self._until(self._client.is_connected, "the broker accepts the connection")

    def subscribe(self, topic: str) -> None:
        """Subscribe with QoS 1, and wait for the answer."""
        self._client.subscribe(topic, qos=1)
        self._until(lambda: self._subscribed, "the broker answers the subscription")

    def publish(self, topic: str, data: bytes) -> None:
        """Publish with QoS 1; answers are awaited by `settle`."""
        self._client.publish(topic, data, qos=1)
        self._open += 1
        self._client.loop(0)

    def settle(self) -> None:
        """Wait for every answer."""
        self._until(lambda: self._open == 0, "the broker has everything")

    def close(self) -> None:
        """Disconnect; a session with an expiry stays."""
        with suppress(OSError, ValueError):
            self._client.disconnect()
            self._client.loop(0.01)

    def _until(self, condition: object, what: str) -> None:
        def looped() -> bool:
            self._client.loop(0.01)
            return bool(condition()) if callable(condition) else False

        wait_until(looped, what, timeout_seconds=_PUBLISH_SECONDS)

    def _note_subscribed(self, *_: object) -> None:
        self._subscribed = True

    def _note_published(self, *_: object) -> None:
        self._open -= 1

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
