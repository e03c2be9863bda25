"""Watches the receipts that come by the broker, as a device would, and tells when they cover everything."""

from __future__ import annotations

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from bench.center import BenchCenter, BenchDevice
from demo.processes import wait_until
from edge_agent.mqtt.bound_client import broker_tls_context
from sync_protocol.bundle import FrameType, read_bundle
from sync_protocol.receipt import read_receipt
from sync_protocol.statement import RECEIPT, parse_statement
from sync_protocol.topics import RECEIPTS_PREFIX


class ReceiptWatch:
    """A subscriber to every origin's receipts, with one device's certificate; a context manager."""

    def __init__(self, center: BenchCenter, device: BenchDevice) -> None:
        material = device.provisioned
        self._newest: dict[str, bytes] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=device.name.hex(), protocol=paho.MQTTv5)
        self._client.tls_set_context(
            broker_tls_context(material.tls_authority, material.tls_certificate, material.tls_key)
        )
        self._subscribed = False
        self._client.on_message = self._note
        self._client.on_subscribe = self._note_subscribed
        self._client.connect("127.0.0.1", center.port)

    def wait_until_receipted(self, count: int, timeout_seconds: float) -> None:
        """Wait until the newest receipts together say of so many envelopes what became of them; raises when any of
        them is held.
        """
        wait_until(
            lambda: self.receipted() >= count,
            f"{count} receipted",
            timeout_seconds=timeout_seconds,
            evidence=lambda: f"{self.receipted()} are",
        )

    def receipted(self) -> int:
        """How many envelopes the newest receipts cover."""
        return sum(_count(bundle) for bundle in list(self._newest.values()))

    def _note(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        self._newest[message.topic] = bytes(message.payload)

    def _note_subscribed(self, *_: object) -> None:
        self._subscribed = True

    def __enter__(self) -> ReceiptWatch:
        self._client.loop_start()
        wait_until(self._client.is_connected, "the broker accepts the watcher")
        self._client.subscribe(f"{RECEIPTS_PREFIX}#", qos=1)
        wait_until(lambda: self._subscribed, "the broker lets the watcher subscribe")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def _count(bundle: bytes) -> int:
    statements = [parse_statement(f.payload) for f in read_bundle(bundle).frames if f.type == FrameType.STATEMENT]
    spans = [span for one in statements if one.kind == RECEIPT for span in read_receipt(one).spans]
    return sum(mark.count for span in spans for mark in span.marks)
