"""Discovery on an interface lives on, whatever the library beneath it raises."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from random import Random

import pytest

from edge_agent.mesh import mdns_place
from edge_agent.mesh.interfaces import MeshInterface
from edge_agent.mesh.mdns_place import MdnsPlace
from edge_agent.mesh.oddity import Oddity

PLACE = MeshInterface("eth0", 2, (ipaddress.ip_interface("192.0.2.4/24"),))


class Heard:
    def __init__(self) -> None:
        self.odd_ones: list[Oddity] = []

    def found(self, address: str, port: int, interface: MeshInterface) -> None: ...

    def lost(self, address: str, port: int, interface: MeshInterface) -> None: ...

    def odd(self, oddity: Oddity, interface: MeshInterface) -> None:
        self.odd_ones.append(oddity)


class FaultySession:
    """Raises what a library might, when it is opened or when it is closed."""

    opened = 0

    def __init__(self, *_: object, **__: object) -> None: ...

    async def open(self, forbidden: Callable[[], None]) -> None:
        type(self).opened += 1
        if type(self).opened % 2:
            raise AssertionError("inside of the library")

    def ask(self, *_: object, **__: object) -> None:
        raise KeyError("inside of the library")

    async def close(self, *, goodbye: bool) -> None:
        raise RuntimeError("inside of the library")


def test_faults_of_the_library_are_told_once_and_the_interface_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdns_place, "MdnsSession", FaultySession)
    monkeypatch.setattr(mdns_place, "RETRY_SECONDS_MIN", 0.01)
    monkeypatch.setattr(mdns_place, "RETRY_SECONDS_MAX", 0.01)
    heard = Heard()

    async def story() -> None:
        async with asyncio.TaskGroup() as group, asyncio.timeout(20):
            place = MdnsPlace(PLACE, 1, set(), heard, ask_seconds_max=1, draw=bytes, random=Random(1), group=group)
            while FaultySession.opened < 6:
                await asyncio.sleep(0.01)
            await place.leave()

    asyncio.run(story())
    assert heard.odd_ones == [Oddity.INTERFACE_FAILED]
