"""Who is connected: at most one link a device, never this one itself, none that the authority has called in.

If two devices dial each other at once, the connection that the device with the smaller name dialled stays. Who dials
says hello only on a connection that it means to keep, so a hello on a second one says that the first is over for the
far end: it takes the first one's place, or has it probed. Not responsible for where neighbours may be (discovery), nor
for what they are given (the engine).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from edge_agent.backoff import Backoff
from edge_agent.engine.ports import LinkHost, QueueDesk
from edge_agent.mesh import conversation
from edge_agent.mesh.allowance import Allowances
from edge_agent.mesh.carrier import Carrier
from edge_agent.mesh.connection import NoNeighbourError, PeerConnection, dial, receive, told_address
from edge_agent.mesh.dialling import DIALS_AT_ONCE_MAX, Address, Dialling, Ending, Try
from edge_agent.mesh.door import Door, Stranger
from edge_agent.mesh.link_endings import ANEW, CONNECTED, FAULT, SLEEPING, STOPPED, LinkEndings
from edge_agent.mesh.peer_link import CLOSED, PROGRESS_SECONDS, Passed, PeerLink
from edge_agent.mesh.peer_tls import PeerTls
from edge_agent.mesh.refusals import Faults, Refusals, Refuser
from edge_agent.mesh.standings import Standings
from edge_agent.mesh.ways import NoWay, Way
from sync_protocol.mesh import Hello

PEERS_MAX: Final = 24
"""More than meet on one access point in a district office. Each may hold a megabyte while bundles are under way."""

COMINGS_PER_MINUTE_MAX: Final = 12
"""Of one device, counting those that dial here: each costs lines in the journal, and a commit. An honest one pauses
before it dials again."""
COMERS_MAX: Final = 256

QUIET_SECONDS: Final = 10
"""A link over which nothing has passed for so long is ended when the device is about to sleep."""
QUIET_LOOK_SECONDS: Final = 1
RETIRING_SECONDS_MAX: Final = 1800
"""A tablet's whole month passes within it, and nobody can keep the device awake for longer."""

_OURSELVES: Final = "it is this device itself"
_TOO_MANY: Final = "there are too many neighbours"


@dataclass(frozen=True)
class MeshSettings:
    """Where neighbours are known to be, and how patient to be with them."""

    static_peers: tuple[Address, ...] = ()
    backoff: Backoff = field(default=Backoff(seconds_min=5, seconds_max=600))
    connect_seconds: float = 4
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
        way_to: Callable[[Address], Way | NoWay | None] = lambda _: None,
    ) -> None:
        """`hello` says how this device stands; `on_change` is called when a neighbour comes or goes; `way_to` decides
        how an address is dialled, None leaves it to the kernel.
        """
        self._device = device
        self._settings = settings
        self._tls = tls
        self._host = host
        self._standings = Standings(queue)
        self._hello = hello
        self._on_change = on_change
        self._keys = count(1)
        self._links: dict[bytes, PeerLink] = {}
        self._leads_to: dict[Address, bytes] = {}
        self._way_to = way_to
        self._comings = Allowances(COMINGS_PER_MINUTE_MAX, 60, keys_max=COMERS_MAX)
        self._carriers: dict[PeerLink, Carrier] = {}
        self._retiring = False
        self._faults = Faults()
        self.refusals = Refusals()
        self._dials = asyncio.Semaphore(DIALS_AT_ONCE_MAX)
        self._endings = LinkEndings(self.refusals)
        self._door = Door(self._receive, self._turn_away)
        self._arriving: dict[PeerLink, Callable[[], None]] = {}
        self._dialling = Dialling(
            settings.static_peers,
            backoff=settings.backoff,
            randomness=randomness,
            attempt=self._attempt,
            on_fault=self._faults.report,
        )

    async def run(self) -> None:
        """Accept and dial until cancelled; may be run again."""
        self._retiring = False
        async with asyncio.TaskGroup() as group:
            group.create_task(self._door.run())
            group.create_task(self._dialling.run())
            group.create_task(self._watch_links())

    def listen(self, listener: socket.socket, way: Way | None = None) -> None:
        """Accept on a socket that listens, while `run` runs; the socket is taken over."""
        listener.setblocking(False)
        self._door.open(listener, way)

    def deafen(self, listener: socket.socket) -> None:
        """Accept there no more, and close the socket; who came in by it stays."""
        self._door.shut(listener)

    def meet(self, address: str, port: int, interface: str | None = None) -> None:
        """Hear of an address where a neighbour may be; a hint, to be heard as often as it is seen."""
        self._dialling.meet(Address(address, port, interface))

    def lose(self, address: str, port: int, interface: str | None = None) -> None:
        """Hear that nobody says any more that a neighbour is there; a link stays."""
        lost = Address(address, port, interface)
        self._leads_to.pop(lost, None)  # who comes there next may be somebody else
        self._dialling.lose(lost)

    def ways_changed(self, has: Callable[[Way], bool]) -> None:
        """Hear that the interfaces changed: part from whoever was reached by one that is gone, and dial anew."""
        for link, carrier in list(self._carriers.items()):
            if carrier.way is not None and not has(carrier.way):
                link.part(f"{carrier.way.interface} is gone, or has no carrier")
        self._leads_to.clear()
        self._dialling.ways_changed()

    async def retire(self) -> None:
        """Dial nobody any more, and return when every link has been quiet for some seconds, and so is ended."""
        self._retiring = True
        began_seconds = asyncio.get_running_loop().time()
        try:
            while self._carriers:
                await asyncio.sleep(QUIET_LOOK_SECONDS)
                now_seconds = asyncio.get_running_loop().time()
                late = now_seconds >= began_seconds + RETIRING_SECONDS_MAX
                for link, carrier in list(self._carriers.items()):
                    if late or carrier.quiet_seconds(link.passed, now_seconds) >= QUIET_SECONDS:
                        link.part(SLEEPING)
        except asyncio.CancelledError:
            self._retiring = False
            raise

    def hello_changed(self) -> None:
        """Tell every neighbour how this device stands now."""
        for link, carrier in self._carriers.items():
            if link.is_up:
                link.say(self._hello())
            elif link.dialled:  # it has said hello already, and was not answered yet
                carrier.hello_is_old = True

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
        refusal = await self._standings.refusal(link.device)
        if refusal is None and not link.dialled and self._links.get(link.device) is not link:
            refusal = self._prefer(link)
            if refusal is None and link in self._arriving:
                self._arriving[link]()
        self._carriers[link].refused = refusal is not None
        return refusal

    def hello(self) -> Hello:
        return self._hello()

    def next_key(self) -> str:
        return f"mesh-{next(self._keys)}"

    def _prefer(self, link: PeerLink) -> str | None:
        """Let a link that the far end has dialled in, in the place of another one if there is; or say why not."""
        before = self._current(link.device)
        if link.is_over:  # while the queue was asked: it must not take the place of one that stands
            return CLOSED
        if before is not None:
            if before.dialled and self._device < link.device:
                before.probe()
                return CONNECTED
            before.part(ANEW)
        elif len(self._links) >= self._settings.peers_max:
            return _TOO_MANY
        self._links[link.device] = link
        return None

    def _current(self, device: bytes) -> PeerLink | None:
        """Return the link with a device; one that is over, and only takes leave, is none."""
        link = self._links.get(device)
        return None if link is None or link.is_over else link

    # Connections.

    def _turn_away(self, address: str) -> None:
        self.refusals.tell(address, "too many come from it at once", by=Refuser.US)

    async def _receive(self, accepted: socket.socket, stranger: Stranger, come_through: Callable[[], None]) -> None:
        address = stranger.address
        try:
            connection = await receive(accepted, address, self._tls, self._settings.handshake_seconds)
            if connection.device == self._device:
                await connection.close()
                raise NoNeighbourError(_OURSELVES, Refuser.NOBODY)  # noqa: TRY301  # it is told like every other refusal
            if not self._comings.take(connection.device, asyncio.get_running_loop().time()):
                await connection.close()
                raise NoNeighbourError("it comes and goes too often", Refuser.US)  # noqa: TRY301  # the same
        except NoNeighbourError as error:
            self.refusals.tell(address, str(error), by=error.by)
            return
        link = self._link(connection, stranger.way)
        self._arriving[link] = come_through
        try:
            await self._talk(link)
        except Exception as fault:  # noqa: BLE001  # it is this link's; told by the hour, not by the connection
            self._faults.report(fault)
        finally:
            del self._arriving[link]

    async def _attempt(self, address: Address) -> Try:
        """Dial once, unless a link with whoever was there before is up: then wait for its end."""
        known = self._current(self._leads_to.get(address, b""))
        if known is not None:
            return await self._end_of(known)
        if address.interface is not None and len(self._links) >= self._settings.peers_max:
            return Try(Ending.FAILED)
        told = told_address(address.host, address.interface)
        way = self._way_to(address)
        if isinstance(way, NoWay):
            self.refusals.tell(told, way.reason, by=Refuser.NOBODY, dialled=True)
            return Try(Ending.NO_WAY)
        try:
            async with self._dials:
                if self._retiring:
                    return Try(Ending.NO_WAY)
                connection = await dial(
                    address,
                    way,
                    self._tls,
                    connect_seconds=self._settings.connect_seconds,
                    handshake_seconds=self._settings.handshake_seconds,
                )
        except NoNeighbourError as error:
            self.refusals.tell(told, str(error), by=error.by, dialled=True)
            return Try(Ending.FAILED)
        if connection.device == self._device:
            await connection.close()
            self.refusals.tell(told, _OURSELVES, by=Refuser.NOBODY, dialled=True)
            return Try(Ending.OURSELVES)
        self._leads_to = {one: who for one, who in self._leads_to.items() if one in self._dialling.addresses}
        self._leads_to[address] = connection.device
        try:
            return await self._keep(connection, way)
        except BaseException:
            connection.writer.transport.abort()  # whatever happens: nobody else would ever close it
            raise

    async def _keep(self, connection: PeerConnection, way: Way | None) -> Try:
        """Talk on a connection that was dialled, if it is to be kept."""
        refusal = await self._standings.refusal(connection.device)
        before = self._current(connection.device)
        if refusal is None and before is None and len(self._links) >= self._settings.peers_max:
            refusal = _TOO_MANY
        if refusal is not None:
            await connection.close()
            device, told = connection.device, connection.address
            self.refusals.tell(told, refusal, by=Refuser.US, device=device, dialled=True)
            return Try(Ending.FAILED)
        if before is not None:
            end = self._end_of(before)  # taken now: it may be over, and forgotten, before this connection is closed
            await connection.close()
            return await end
        link = self._link(connection, way)
        self._links[link.device] = link
        return await self._talk(link)

    def _end_of(self, link: PeerLink) -> asyncio.Future[Try]:
        """Return what tells how a link that is not over has ended; who waits for it may be cancelled."""
        return asyncio.shield(self._carriers[link].ended)

    def _outcome(self, link: PeerLink, carrier: Carrier, reason: str) -> Try:
        if link.up_seconds is None:
            return Try(Ending.FAILED)
        if link.ended_idle:
            return Try(Ending.IDLE, link.up_seconds)
        # Both come to their rest at about the same time, and only one of them is the first to say so.
        quiet_seconds = asyncio.get_running_loop().time() - carrier.passed_at
        almost_seconds = conversation.IDLE_SECONDS - 2 * self._settings.standing_check_seconds
        is_quiet = reason == CLOSED and quiet_seconds >= almost_seconds
        return Try(Ending.QUIET if is_quiet else Ending.ENDED, link.up_seconds)

    def _link(self, connection: PeerConnection, way: Way | None) -> PeerLink:
        progress_seconds = self._settings.progress_seconds
        link = PeerLink(
            connection,
            host=self._host,
            admission=self,
            progress_seconds=progress_seconds,
            on_up=self._came_up,
        )
        loop = asyncio.get_running_loop()
        self._carriers[link] = Carrier(way, connection.writer, loop.time(), loop.create_future())
        return link

    def _came_up(self, link: PeerLink) -> None:
        self._endings.came_up(link)
        if self._carriers[link].hello_is_old:
            link.say(self._hello())
        self._on_change()

    async def _talk(self, link: PeerLink) -> Try:
        carrier = self._carriers[link]
        reason = STOPPED
        try:
            reason = await link.run()
        except Exception:
            reason = FAULT
            raise
        finally:
            del self._carriers[link]
            if self._links.get(link.device) is link:
                del self._links[link.device]
            tried = self._outcome(link, carrier, reason)
            carrier.ended.set_result(tried)
            has_another = any(other.device == link.device for other in self._carriers)
            self._endings.over(link, reason, refused=carrier.refused, has_another=has_another)
            if link.up_seconds is not None:
                self._on_change()
        return tried

    async def _watch_links(self) -> None:
        """Look when something last passed, and part from neighbours that are called in while they are connected."""
        while True:
            await asyncio.sleep(self._settings.standing_check_seconds)
            for link, carrier in self._carriers.items():
                carrier.quiet_seconds(link.passed, asyncio.get_running_loop().time())
            if not self._links:
                continue
            for device, refusal in (await self._standings.called_in(tuple(self._links))).items():
                if (concerned := self._links.get(device)) is not None:
                    concerned.part(refusal)
