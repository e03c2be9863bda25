"""A center for tests of the device: takes bundles from the broker, remembers envelopes, and answers with receipts.

It commits what it is told to and signs what it is told to, true or not. Not the product's center.
"""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from itertools import groupby
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from sync_protocol import topics
from sync_protocol.bundle import Frame, FrameType, read_bundle, write_bundle
from sync_protocol.envelope import Envelope, parse_envelope
from sync_protocol.keys import Signer
from sync_protocol.receipt import Mark, Span, SpanStatus, sign_receipt
from sync_protocol.statement import Statement
from tests.support.certificates import Material
from tests.support.protocol_examples import RECEIPTS


class ReceivingCenter:
    """Listens at a broker on the loopback interface, and goes on when that is started anew."""

    def __init__(self, port: int, material: Material) -> None:
        self.envelopes: dict[bytes, Envelope] = {}
        self.arrivals: Counter[bytes] = Counter()
        """How often each envelope came, by its id."""
        self.heads = 0
        self._listening = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "center", protocol=paho.MQTTv5)
        context = ssl.create_default_context(cafile=str(material.authority))
        context.load_cert_chain(material.certificate, material.key)
        self._client.tls_set_context(context)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._listening.set()
        self._client.on_disconnect = lambda *_: self._listening.clear()
        self._client.on_message = self._take
        self._client.reconnect_delay_set(0.1, 0.2)  # type: ignore[arg-type]  # paho says int and takes any number
        self._port = port

    def _connected(self, client: paho.Client, *_: object) -> None:
        client.subscribe(topics.UP_PREFIX + "+", qos=1)

    def _take(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        for frame in read_bundle(bytes(message.payload)).frames:
            if frame.type is FrameType.ENVELOPE:
                envelope = parse_envelope(frame.payload)
                self.envelopes[envelope.id] = envelope
                self.arrivals[envelope.id] += 1
            else:
                self.heads += frame.type is FrameType.HEAD

    def wait_until_listening(self) -> None:
        if not self._listening.wait(20):
            raise AssertionError("the center's subscription did not come up")

    def receipt(
        self,
        origin: bytes,
        *,
        serial: int,
        committed_at: int,
        watermark: int = 0,
        status: SpanStatus = SpanStatus.COMMITTED,
        signer: Signer = RECEIPTS,
    ) -> Statement:
        """A receipt for everything that came from the origin, as one span an epoch; it must have come without gaps."""
        mine = sorted(
            (envelope for envelope in self.envelopes.values() if envelope.origin == origin),
            key=lambda envelope: (envelope.epoch, envelope.sequence),
        )
        spans = []
        for epoch, group in groupby(mine, key=lambda envelope: envelope.epoch):
            chain = list(group)
            marks = (Mark(len(chain), committed_at),)
            spans.append(Span(epoch, chain[0].sequence, chain[-1].id, status, marks))
        return sign_receipt(signer, origin=origin, serial=serial, watermark=watermark, spans=spans)

    def publish(self, origin: bytes, *statements: Statement) -> None:
        """Give statements to the broker for the origin; returns when the broker has taken them."""
        bundle = write_bundle(Frame(FrameType.STATEMENT, statement.data) for statement in statements)
        self._client.publish(topics.receipts_topic(origin), bundle, qos=1).wait_for_publish(20)

    def __enter__(self) -> Self:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        self._client.connect("127.0.0.1", self._port, properties=properties)
        self._client.loop_start()
        self.wait_until_listening()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
