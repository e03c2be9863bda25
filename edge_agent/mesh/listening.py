"""Where neighbours can dial this device: at the addresses of the interfaces that the mesh uses, and nowhere else.

Every socket is bound to its interface, so that an address of the local network is not answered by the VPN either. What
cannot be listened on is told once and tried again; the other addresses do not depend on it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from edge_agent.mesh.bound_sockets import listening_socket
from edge_agent.mesh.interfaces import MeshInterface
from edge_agent.mesh.ways import Way
from edge_agent.repetition import Repetitions
from operations.journal import get_logger

log = get_logger()

AGAIN_SECONDS: Final = 30
"""Between two tries of an address that could not be listened on. Nothing wakes up while there is none."""

_OF_THE_MACHINE: Final = {
    errno.EADDRINUSE: "another program has taken the port: stop it, or choose another mesh port",
    errno.EPERM: "this kernel lets no ordinary process bind a socket to an interface: give the service CAP_NET_RAW, or "
    "use Linux 5.7 or later",
    errno.EACCES: "the port is one for privileged programs: choose a mesh port above 1023",
}
"""What every address of this machine has in common: one line is enough for all."""


@dataclass(frozen=True)
class Place:
    """One address of one interface."""

    way: Way
    host: str

    def __str__(self) -> str:
        return f"{self.host} on {self.way.interface}"


class Listeners:
    """The listening sockets. `open` is given each, which it takes over; `shut` is to close it.

    Not responsible for whether what listens accepts anybody.
    """

    def __init__(
        self, port: int, *, open: Callable[[socket.socket, Way], None], shut: Callable[[socket.socket], None]
    ) -> None:
        self._port = port
        self._open = open
        self._shut = shut
        self._listening: dict[Place, socket.socket] = {}
        self._wanted: tuple[Place, ...] = ()
        self._failed = asyncio.Event()
        self._repetitions = Repetitions()

    @property
    def told(self) -> tuple[str, ...]:
        """Where it listens, for people."""
        return tuple(f"{one.host} port {self._port} on {one.way.interface}" for one in self._listening)

    def follow(self, interfaces: Sequence[MeshInterface]) -> None:
        """Listen at the addresses of these interfaces, and no longer at any other. Never raises OSError."""
        self._wanted = tuple(
            Place(Way(interface.name, interface.index), str(address.ip))
            for interface in interfaces
            for address in interface.addresses
        )
        for place in self._listening.keys() - set(self._wanted):
            self._shut(self._listening.pop(place))
        self._listen()

    async def keep_trying(self) -> None:
        """Try again what could not be listened on, until cancelled."""
        while True:
            await self._failed.wait()
            await asyncio.sleep(AGAIN_SECONDS)
            self._listen()

    def close(self) -> None:
        """Listen nowhere."""
        self.follow(())

    def _listen(self) -> None:
        self._failed.clear()
        for place in self._wanted:
            if place in self._listening:
                continue
            try:
                made = listening_socket(place.way.interface, place.way.index, place.host, self._port)
            except OSError as error:
                self._failed.set()
                self._tell(place, error)
            else:
                self._listening[place] = made
                self._open(made, place.way)

    def _tell(self, place: Place, error: OSError) -> None:
        problem = _OF_THE_MACHINE.get(error.errno or 0)
        if problem is None:
            # Most often an address or an interface on its way out: the kernel's notice comes.
            log.debug("mesh_not_listening", place=str(place), port=self._port, problem=str(error.strerror))
        elif self._repetitions.worth_telling(problem, asyncio.get_running_loop().time()) is not None:
            log.warning("mesh_not_listening", place=str(place), port=self._port, problem=problem)
