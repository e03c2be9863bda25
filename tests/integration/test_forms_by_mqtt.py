"""Forms over MQTT: each of them reaches the device, and none at every connection, with a real mosquitto."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.engine.links import Link
from edge_agent.engine.ports import LinkHost, Outlet
from edge_agent.mqtt import publisher
from edge_agent.mqtt.bound_client import broker_tls_context
from edge_agent.mqtt.publisher import MqttPublisher, PublisherSettings, PublisherState
from edge_agent.mqtt.vpn_guard import Permitted, Refusal, Refused, VpnGuard, VpnVerdict
from sync_protocol import topics
from tests.support.certificates import Material, TestAuthority
from tests.support.mosquitto import Mosquitto, why_no_mosquitto

ADDRESS = "127.0.0.1"
TABLET = bytes(range(16))

REASON = why_no_mosquitto()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@dataclass
class Tunnel:
    """Stands in for the VPN guard: `break_off` is how the tunnel goes, and is there again."""

    _broken: asyncio.Event = field(default_factory=asyncio.Event)

    def verdict(self) -> VpnVerdict:
        return Permitted("lo", 1, None)

    async def wait_until_permitted(self) -> VpnVerdict:
        return self.verdict()

    async def wait_until_refused_or_changed(self, _held: Permitted) -> VpnVerdict:
        await self._broken.wait()
        self._broken.clear()
        return Refused(Refusal.NO_ROUTE)

    def break_off(self) -> None:
        self._broken.set()


@dataclass
class Host:
    """Keeps what arrives, by connection."""

    arrived: list[list[bytes]] = field(default_factory=list)
    outlet: Outlet | None = None
    is_slow: bool = False

    def link_up(self, _link: Link, outlet: Outlet) -> None:
        self.arrived.append([])
        self.outlet = outlet

    def link_down(self, _link_key: str) -> None:
        self.outlet = None

    async def bundle_arrived(self, _link_key: str, data: bytes) -> tuple[bytes, ...]:
        self.arrived[-1].append(data)
        while self.is_slow:
            await asyncio.sleep(0.01)
        return ()


class Center:
    """Publishes forms, retained."""

    def __init__(self, port: int, material: Material) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.tls_set_context(broker_tls_context(material.authority, material.certificate, material.key))
        self._client.connect(ADDRESS, port)
        self._client.loop_start()

    def publish(self, form: str, content: bytes) -> None:
        self._client.publish(topics.FORMS_PREFIX + form, content, qos=1, retain=True).wait_for_publish(10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@dataclass
class Scene:
    broker: Mosquitto
    authority: TestAuthority
    tunnel: Tunnel = field(default_factory=Tunnel)
    host: Host = field(default_factory=Host)

    def publish(self, form: str, content: bytes) -> None:
        center = Center(self.broker.port, self.authority.issue("center"))
        center.publish(form, content)
        center.close()

    async def until_connection(self, number: int, *contents: bytes) -> None:
        """Wait until a connection has brought these, and then a little for what should not come."""
        async with asyncio.timeout(20):
            while len(self.host.arrived) < number or not set(contents) <= set(self.host.arrived[number - 1]):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)

    @asynccontextmanager
    async def device(self) -> AsyncIterator[None]:
        """The publisher of one tablet."""
        tablet = self.authority.issue("tablet")
        running = asyncio.create_task(
            MqttPublisher(
                TABLET,
                PublisherSettings(ADDRESS, self.broker.port, 60, 3600, 10, 1, 1, 20, 262_144),
                guard=cast(VpnGuard, self.tunnel),
                tls_context=broker_tls_context(tablet.authority, tablet.certificate, tablet.key),
                host=cast(LinkHost, self.host),
                randomness=lambda: 0.0,
                clock=lambda: 0,
                state=PublisherState(),
                on_change=lambda: None,
            ).run()
        )
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait({running})


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    authority = TestAuthority(tmp_path / "authority")
    with Mosquitto(tmp_path / "broker", tls=authority.issue("broker", address=ADDRESS)) as broker:
        made = Scene(broker, authority)
        made.publish("household", b"household 1")
        yield made


def test_a_connection_that_breaks_brings_what_is_new_and_not_all_forms_again(scene: Scene) -> None:
    async def run() -> None:
        async with scene.device():
            await scene.until_connection(1, b"household 1")
            scene.tunnel.break_off()
            await asyncio.to_thread(scene.publish, "temporary", b"temporary 1")
            await scene.until_connection(2, b"temporary 1")
            await asyncio.to_thread(scene.publish, "household", b"household 2")
            await scene.until_connection(2, b"household 2")
            scene.tunnel.break_off()
            await scene.until_connection(3)

    asyncio.run(run())
    brought = [connection.count(b"household 1") for connection in scene.host.arrived]
    assert brought == [1, 0, 0]
    assert scene.host.arrived[2] == []


def test_a_broker_that_lost_its_sessions_sends_all_forms_again(scene: Scene) -> None:
    async def run() -> None:
        async with scene.device():
            await scene.until_connection(1, b"household 1")
            await asyncio.to_thread(scene.broker.restart)
            await asyncio.to_thread(scene.publish, "household", b"household 1")
            await scene.until_connection(2, b"household 1")

    asyncio.run(run())


def test_after_what_could_not_be_recorded_all_forms_are_asked_for_again(scene: Scene) -> None:
    async def run() -> None:
        async with scene.device():
            await scene.until_connection(1, b"household 1")
            assert scene.host.outlet is not None
            scene.host.outlet.close()
            await scene.until_connection(2, b"household 1")

    asyncio.run(run())


def test_forms_that_were_acknowledged_and_not_looked_at_when_the_tunnel_went_are_asked_for_again(scene: Scene) -> None:
    async def run() -> None:
        scene.publish("temporary", b"temporary 1")
        scene.host.is_slow = True
        async with scene.device():
            await scene.until_connection(1)
            assert len(scene.host.arrived[0]) == 1, "the other one waits"
            scene.tunnel.break_off()
            await asyncio.sleep(0.1)
            scene.host.is_slow = False
            await scene.until_connection(2, b"household 1", b"temporary 1")

    asyncio.run(run())


def test_all_forms_are_asked_for_once_a_day(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with scene.device():
            await scene.until_connection(1, b"household 1")
            monkeypatch.setattr(publisher, "FORMS_ANEW_SECONDS", 0)
            scene.tunnel.break_off()
            await scene.until_connection(2, b"household 1")

    asyncio.run(run())
