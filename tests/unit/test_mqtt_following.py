"""What the broker is asked to send follows what the engine wants, however fast that changes."""

from __future__ import annotations

import asyncio
from random import Random
from unittest.mock import create_autospec

import pytest
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.engine.ports import LinkHost
from edge_agent.mqtt.bound_client import BoundClient
from edge_agent.mqtt.outlet import MqttOutlet
from sync_protocol.topics import lists_topic, receipts_topic


class SlowBroker:
    """Carries out each request when it answers, and answers when it likes."""

    def __init__(self, seed: int) -> None:
        self._randomness = Random(seed)
        self.subscribed: set[str] = set()

    async def subscribe(self, topic: str, options: SubscribeOptions) -> list[int]:
        await self._answer()
        self.subscribed.add(topic)
        return [options.QoS]

    async def unsubscribe(self, topic: str) -> None:
        await self._answer()
        self.subscribed.discard(topic)

    async def _answer(self) -> None:
        for _ in range(self._randomness.randrange(4)):
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_wanted_last_is_what_the_broker_sends_in_the_end(seed: int) -> None:
    randomness, broker = Random(seed), SlowBroker(seed)
    origins = [bytes([number]) * 16 for number in range(5)]

    def some() -> frozenset[bytes]:
        return frozenset(one for one in origins if randomness.random() < 0.5)

    async def follow() -> None:
        client = create_autospec(BoundClient, instance=True)
        client.subscribe, client.unsubscribe = broker.subscribe, broker.unsubscribe
        async with asyncio.TaskGroup() as group:
            outlet = MqttOutlet(bytes(16), client, create_autospec(LinkHost), "mqtt-1", group)
            for _ in range(30):
                received, listed = some(), some()
                outlet.follow(received, listed)
                await broker._answer()
        wanted = {receipts_topic(one) for one in received} | {lists_topic(one) for one in listed}
        assert broker.subscribed == wanted

    asyncio.run(follow())
