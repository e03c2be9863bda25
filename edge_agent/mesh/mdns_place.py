"""Discovery on one interface, for as long as it is there: opened again after trouble, asking ever more seldom."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final, Protocol

from edge_agent.mesh.interfaces import MeshInterface
from edge_agent.mesh.mdns_answers import Announcement, Goodbye, draw_name
from edge_agent.mesh.mdns_gate import Gate
from edge_agent.mesh.mdns_session import MdnsSession
from edge_agent.mesh.near_addresses import may_be_met
from edge_agent.mesh.neighbourhood import Change, Neighbourhood
from edge_agent.mesh.oddity import Oddity
from edge_agent.netlink import IpAddress

ASK_SECONDS_MIN: Final = 1.0
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 1.0, 60.0


class Listener(Protocol):
    """Who hears of one interface's neighbours."""

    def found(self, address: str, port: int, interface: MeshInterface) -> None:
        """A neighbour may be at this address."""

    def lost(self, address: str, port: int, interface: MeshInterface) -> None:
        """Nobody says any more that a neighbour is there."""

    def odd(self, oddity: Oddity, interface: MeshInterface) -> None:
        """Told once an interface."""


class MdnsPlace:
    """One interface by its index. `update` brings its new addresses, `leave` ends it."""

    def __init__(
        self,
        interface: MeshInterface,
        port: int,
        own_names: set[str],
        listener: Listener,
        *,
        ask_seconds_max: float,
        draw: Callable[[int], bytes],
        random: Random,
        group: asyncio.TaskGroup,
    ) -> None:
        self._interface = interface
        self._port = port
        self._own_names = own_names
        self._listener = listener
        self._ask_seconds_max = ask_seconds_max
        self._random = random
        self._instance, self._host = draw_name(draw), draw_name(draw)
        own_names.add(self._instance)
        self._neighbours = Neighbourhood(own_names.__contains__, self._may_be_met)
        self._told: set[Oddity] = set()
        self._loop = asyncio.get_running_loop()
        self._goodbye = True
        self._group = group
        self._task = group.create_task(self._run())

    @property
    def interface(self) -> MeshInterface:
        """As it was last updated."""
        return self._interface

    async def update(self, interface: MeshInterface) -> None:
        """Starts anew under the same name with other addresses, without a goodbye in between."""
        await self._stop(goodbye=False)
        self._interface = interface
        self._apply(self._neighbours.forget_unreachable())
        self._task = self._group.create_task(self._run())

    async def leave(self) -> None:
        """Says goodbye, as far as the interface still carries it, and forgets the neighbours. May be repeated."""
        await self._stop(goodbye=True)
        self._apply(self._neighbours.forget_all())
        self._own_names.discard(self._instance)

    async def _stop(self, *, goodbye: bool) -> None:
        self._goodbye = goodbye
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        retry_seconds = RETRY_SECONDS_MIN
        while True:
            gate = Gate(self._interface, self._own_names.__contains__, self._heard, self._tell, self._loop.time())
            session = MdnsSession(self._interface, self._port, instance=self._instance, host=self._host, gate=gate)
            try:
                try:
                    await session.open(lambda: self._tell(Oddity.FORBIDDEN))
                    await self._ask_on(session)
                finally:
                    # Not cut short by a second cancellation: sockets would stay open.
                    await asyncio.shield(self._close(session))
            except OSError:
                # Most often an address that is not usable yet: when it is, the kernel's notice brings an update.
                if retry_seconds > RETRY_SECONDS_MIN:
                    self._tell(Oddity.INTERFACE_FAILED)
            except Exception:  # noqa: BLE001  # whatever the library raises is this interface's trouble, and no other's
                self._tell(Oddity.INTERFACE_FAILED)
            await asyncio.sleep(retry_seconds)
            retry_seconds = min(RETRY_SECONDS_MAX, retry_seconds * 2)

    async def _close(self, session: MdnsSession) -> None:
        try:
            await session.close(goodbye=self._goodbye)
        except Exception:  # noqa: BLE001  # nothing may take the place of a cancellation that is under way
            self._tell(Oddity.INTERFACE_FAILED)

    async def _ask_on(self, session: MdnsSession) -> None:
        # RFC 6762 §5.2 lets the pauses double up to an hour. Ours stay below minutes: a tablet that is carried into
        # range on an ad-hoc network gives no notice, and its own first announcement may have been lost.
        pause_seconds = ASK_SECONDS_MIN
        first = True
        await asyncio.sleep(self._random.uniform(0.02, 0.12))  # devices on one access point start together
        while True:
            now_seconds = self._loop.time()
            self._apply(self._neighbours.expire(now_seconds))
            # The first time all shall answer: the interface may have other addresses than when they were heard.
            session.ask([] if first else self._neighbours.fresh(now_seconds), unicast=first)
            first = False
            await asyncio.sleep(pause_seconds * self._random.uniform(0.8, 1.2))
            pause_seconds = min(self._ask_seconds_max, pause_seconds * 3)

    def _may_be_met(self, address: IpAddress) -> bool:
        return may_be_met(address, self._interface)

    def _heard(self, said: Announcement | Goodbye, source: IpAddress) -> None:
        self._apply(self._neighbours.heard(said, source, self._loop.time()))

    def _apply(self, change: Change) -> None:
        for address, port in change.lost:
            self._listener.lost(str(address), port, self._interface)
        for address, port in change.found:
            self._listener.found(str(address), port, self._interface)
        if change.oddity is not None:
            self._tell(change.oddity)

    def _tell(self, oddity: Oddity) -> None:
        if oddity not in self._told:
            self._told.add(oddity)
            self._listener.odd(oddity, self._interface)
