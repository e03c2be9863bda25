"""What one connection to the broker is asked to send, and what is put up on it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Final

from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.engine.ports import LinkHost
from edge_agent.mqtt.bound_client import BoundClient
from operations.journal import get_logger
from sync_protocol import topics
from sync_protocol.mesh import Exchanged

log = get_logger()

ANSWER_TIMEOUT_SECONDS: Final = 120
"""A broker that takes longer over one bundle is as good as gone; keep-alive alone would not notice."""

_REFUSED_FROM: Final = 0x80
"""Reason codes of MQTT 5 from here on say that something was refused."""


async def subscribe(
    client: BoundClient, topic: str, retain_handling: int = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
) -> None:
    """Subscribe, and tell when the broker refuses: questionnaires would go up, and no receipt ever come down."""
    answers = await client.subscribe(topic, options=SubscribeOptions(qos=1, retainHandling=retain_handling))
    for answer in answers:
        code = answer if isinstance(answer, int) else answer.value
        if code >= _REFUSED_FROM:
            log.error("subscription_refused", topic=topic, reason=str(answer))


class MqttOutlet:
    """Turns the engine's sends into publishes; a failure of one ends the connection's task group, and so the
    connection.
    """

    def __init__(
        self, device: bytes, client: BoundClient, host: LinkHost, link_key: str, group: asyncio.TaskGroup
    ) -> None:
        self.link_key = link_key
        self._topic = topics.up_topic(device)
        self._client = client
        self._host = host
        self._group = group
        self.was_closed = False
        """Whether the connection was ended from this side, as what came could not be recorded."""
        self._ended = False
        self._wanted: frozenset[str] = frozenset()
        self._subscribed: set[str] = set()
        self._is_subscribing = False

    def send(self, token: int, data: bytes) -> None:
        self._spawn(self._publish(token, data))

    def follow(self, origins: frozenset[bytes], listed: frozenset[bytes]) -> None:
        self._wanted = frozenset((*map(topics.receipts_topic, origins), *map(topics.lists_topic, listed)))
        if not self._is_subscribing:
            self._is_subscribing = True
            self._spawn(self._subscribe())

    def say(self, message: Exchanged) -> None:
        """The center says what it has to say in statements."""

    def close(self) -> None:
        self.was_closed = True
        self._client.abandon()

    def end(self) -> None:
        """Take nothing more: the connection is over, and the engine is about to hear of it."""
        self._ended = True

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        if self._ended:
            work.close()
        else:
            self._group.create_task(work)

    async def _publish(self, token: int, data: bytes) -> None:
        taken = await self._client.hand_over(self._topic, data, ANSWER_TIMEOUT_SECONDS)
        self._host.settled(self.link_key, token, taken=taken)

    async def _subscribe(self) -> None:
        """Have the broker send what is wanted, one change after the other: two at once could end in either order."""
        while self._subscribed != self._wanted:
            topic = min(self._subscribed ^ self._wanted)
            if topic in self._wanted:
                await subscribe(self._client, topic)
                self._subscribed.add(topic)
            else:
                await self._client.unsubscribe(topic)
                self._subscribed.discard(topic)
        self._is_subscribing = False
