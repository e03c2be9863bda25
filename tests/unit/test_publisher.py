"""What the publisher tells of the broker's words; the rest of it is tested with a real broker."""

from __future__ import annotations

import asyncio
import io
from typing import cast

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.journal_sentences import SENTENCES
from edge_agent.mqtt.bound_client import BoundClient
from edge_agent.mqtt.outlet import subscribe
from operations.journal import configure_logging


class AnsweringClient:
    """mosquitto 2.0 grants every subscription and then sends nothing; brokers that refuse do it with such a code."""

    def __init__(self, code: int) -> None:
        self._answer = ReasonCode(PacketTypes.SUBACK, identifier=code)

    async def subscribe(self, _topic: str, options: SubscribeOptions) -> list[ReasonCode]:
        return [self._answer]


def told(code: int) -> str:
    stream = io.StringIO()
    configure_logging("test", style="text", sentences=SENTENCES, stream=stream)
    asyncio.run(subscribe(cast(BoundClient, AnsweringClient(code)), "census/1/statements"))
    return stream.getvalue()


def test_a_refused_subscription_is_told_of_because_no_receipt_would_ever_come() -> None:
    assert told(1) == ""
    assert "the broker refuses census/1/statements: Not authorized" in told(0x87)
