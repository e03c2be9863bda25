"""Who is connected: at most one link a device, never this one itself, none that the authority has called in.

If two devices dial each other at once, the connection that the device with the smaller name dialled stays. Who dials
says hello only on a connection that it means to keep, so a hello on a second one says that the first is over for the
far end: it takes the first one's place, or has it probed. Not responsible for where neighbours may be (discovery), nor
for what they are given (the engine).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from edge_agent.backoff import Backoff
from edge_agent.engine.ports import LinkHost, QueueDesk
from edge_agent.engine.standing import barred_devices
from edge_agent.engine.store import StoreFault
from edge_agent.mesh.connection import NoNeighbourError, PeerConnection, dial, receive
from edge_agent.mesh.dialling import DIALS_AT_ONCE_MAX, Address, Dialling, Ending, Try
from edge_agent.mesh.door import Door
from edge_agent.mesh.peer_link import CLOSED, PROGRESS_SECONDS, Passed, PeerLink
from edge_agent.mesh.peer_tls import PeerTls
from edge_agent.mesh.refusals import Refusals
from operations.journal import get_logger
from sync_protocol.mesh import Hello

log = get_logger()

PEERS_MAX: Final = 24
"""More than meet on one access point in a district office. Each may hold a megabyte while bundles are under way."""

_OURSELVES: Final = "it is this device itself"
_CONNECTED: Final = "it is connected already"


@dataclass(frozen=True)
class MeshSettings:
    """Where neighbours are known to be, and how patient to be with them."""

    static_peers: tuple[Address, ...] = ()
    backoff: Backoff = field(default=Backoff(seconds_min=5, seconds_max=600))
    handshake_seconds: float = 10
    progress_seconds: float = PROGRESS_SECONDS
    standing_check_seconds: float = 60
    peers_max: int = PEERS_MAX


@dataclass(frozen=True)
class NeighbourState:
    """What `states` tells of a neighbour that is connected."""

    device: bytes
    address: str
    dialled: bool
    connected_seconds: float
    hello: Hello | None
    passed: Passed


class Neighbours:
    """Every link to a neighbour."""

    def __init__(
        self,
        device: bytes,
        settings: MeshSettings,
        *,
        tls: PeerTls,
        host: LinkHost,
        queue: QueueDesk,
        hello: Callable[[], Hello],
        randomness: Callable[[], float],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """`hello` says how this device stands; `on_change` is called when a neighbour comes or goes."""
        self._device = device
        self._settings = settings
        self._tls = tls
        self._host = host
        self._queue = queue
        self._hello = hello
        self._on_change = on_change
        self._keys = count(1)
        self._links: dict[bytes, PeerLink] = {}
        self._leads_to: dict[Address, bytes] = {}
        self._refusals = Refusals()
        self._dials = asyncio.Semaphore(DIALS_AT_ONCE_MAX)
        self._door = Door(self._receive, lambda address: self._refusals.tell(address, "too many come from it at once"))
        self._arriving: dict[PeerLink, Callable[[], None]] = {}
        self._dialling = Dialling(
            settings.static_peers, backoff=settings.backoff, randomness=randomness, attempt=self._attempt
        )

    async def run(self, listeners: Sequence[socket.socket]) -> None:
        """Accept on these sockets, and dial, until cancelled. The sockets listen already, and stay the caller's."""
        for listener in listeners:
            listener.setblocking(False)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._door.run(listeners))
            group.create_task(self._dialling.run())
            group.create_task(self._watch_standings())

    def meet(self, address: str, port: int) -> None:
        """Hear of an address where a neighbour may be; a hint, to be heard as often as it is seen."""
        self._dialling.meet(Address(address, port))

    def hello_changed(self) -> None:
        """Tell every neighbour how this device stands now."""
        for link in self._up():
            link.say(self._hello())

    def states(self) -> Sequence[NeighbourState]:
        """Return those that are connected."""
        now = asyncio.get_running_loop().time()
        return [
            NeighbourState(link.device, link.address, link.dialled, now - since_seconds, link.hello, link.passed)
            for link in self._up()
            if (since_seconds := link.since_seconds) is not None
        ]

    def _up(self) -> list[PeerLink]:
        return [link for link in self._links.values() if link.is_up]

    # What a link asks (peer_link.Admission).

    async def greeted(self, link: PeerLink) -> str | None:
        refusal = await self._standing_refusal(link.device)
        if refusal is not None:
            return refusal
        if not link.dialled and self._links.get(link.device) is not link:
            refusal = self._prefer(link)
            if refusal is None and link in self._arriving:
                self._arriving[link]()
        return refusal

    def hello(self) -> Hello:
        return self._hello()

    def next_key(self) -> str:
        return f"mesh-{next(self._keys)}"

    def _prefer(self, link: PeerLink) -> str | None:
        """Let a link that the far end has dialled in, in the place of another one if there is; or say why not."""
        before = self._links.get(link.device)
        if link.is_over:  # while the queue was asked: it must not take the place of one that stands
            return CLOSED
        if before is not None:
            if before.dialled and self._device < link.device:
                before.probe()
                return _CONNECTED
            before.part("the neighbour has connected anew")
        elif len(self._links) >= self._settings.peers_max:
            return "there are too many neighbours"
        self._links[link.device] = link
        return None

    # Connections.

    async def _receive(self, accepted: socket.socket, address: str, come_through: Callable[[], None]) -> None:
        try:
            connection = await receive(accepted, address, self._tls, self._settings.handshake_seconds)
            if connection.device == self._device:
                await connection.close()
                raise NoNeighbourError(_OURSELVES)  # noqa: TRY301  # it is told like every other refusal
        except NoNeighbourError as error:
            self._refusals.tell(address, str(error))
            return
        link = self._link(connection)
        self._arriving[link] = come_through
        try:
            await self._talk(link)
        finally:
            del self._arriving[link]

    async def _attempt(self, address: Address) -> Try:
        """Dial once, unless a link with whoever was there before is up: then wait for its end."""
        known = self._links.get(self._leads_to.get(address, b""))
        if known is not None:
            return await self._end_of(known)
        try:
            async with self._dials:
                connection = await dial(address.host, address.port, self._tls, self._settings.handshake_seconds)
        except NoNeighbourError as error:
            self._refusals.tell(address.host, str(error), dialled=True)
            return Try(Ending.FAILED)
        if connection.device == self._device:
            await connection.close()
            self._refusals.tell(address.host, _OURSELVES, dialled=True)
            return Try(Ending.OURSELVES)
        self._leads_to = {one: who for one, who in self._leads_to.items() if one in self._dialling.addresses}
        self._leads_to[address] = connection.device
        return await self._keep(connection)

    async def _keep(self, connection: PeerConnection) -> Try:
        """Talk on a connection that was dialled, if it is to be kept."""
        refusal = await self._standing_refusal(connection.device)
        before = self._links.get(connection.device)
        if refusal is None and before is None and len(self._links) >= self._settings.peers_max:
            refusal = "there are too many neighbours"
        if refusal is not None:
            await connection.close()
            self._refusals.tell(connection.address, refusal, device=connection.device, dialled=True)
            return Try(Ending.FAILED)
        if before is not None:
            await connection.close()
            return await self._end_of(before)
        link = self._link(connection)
        self._links[link.device] = link
        return await self._talk(link)

    async def _end_of(self, link: PeerLink) -> Try:
        await link.ended()
        return self._outcome(link)

    def _outcome(self, link: PeerLink) -> Try:
        if link.up_seconds is None:
            return Try(Ending.FAILED)
        return Try(Ending.IDLE if link.ended_idle else Ending.ENDED, link.up_seconds)

    def _link(self, connection: PeerConnection) -> PeerLink:
        progress_seconds = self._settings.progress_seconds
        return PeerLink(
            connection,
            host=self._host,
            admission=self,
            progress_seconds=progress_seconds,
            on_up=self._came_up,
        )

    def _came_up(self, link: PeerLink) -> None:
        log.info("neighbour_connected", device=link.device, address=link.address, dialled=link.dialled)
        self._on_change()

    async def _talk(self, link: PeerLink) -> Try:
        reason = "the mesh is switched off"
        try:
            reason = await link.run()
        finally:
            if self._links.get(link.device) is link:
                del self._links[link.device]
            if link.hello is None and reason == CLOSED:
                # It has another connection with us, and means to keep that one.
                log.debug("neighbour_connection_spare", device=link.device, address=link.address)
            elif link.up_seconds is None:
                self._refusals.tell(link.address, reason, device=link.device, dialled=link.dialled)
            else:
                fields = {"device": link.device, "address": link.address, "seconds": round(link.up_seconds)}
                log.info("neighbour_left", **fields, reason=reason)
                self._on_change()
        return self._outcome(link)

    # Standings.

    async def _watch_standings(self) -> None:
        """Part from neighbours that are called in while they are connected."""
        while True:
            await asyncio.sleep(self._settings.standing_check_seconds)
            if not self._links:
                continue
            with suppress(StoreFault):  # the runner tells of it, and closes the links that it concerns
                for device, refusal in (await self._refused(tuple(self._links))).items():
                    link = self._links.get(device)
                    if link is not None:
                        link.part(refusal)

    async def _standing_refusal(self, device: bytes) -> str | None:
        try:
            return (await self._refused((device,))).get(device)
        except StoreFault:
            return "the queue cannot be asked whether it was called in"

    async def _refused(self, devices: Iterable[bytes]) -> dict[bytes, str]:
        """Return why some of the devices are not to be spoken to; raises StoreFault."""
        barred = await self._queue.ask(lambda transaction: barred_devices(devices, transaction))
        return {device: f"the authority says that it is {standing.name.lower()}" for device, standing in barred.items()}
