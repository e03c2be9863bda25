"""Finds neighbours by DNS-SD on every interface that the mesh uses. A hint, never trust: TLS says who somebody is.

Importing this file costs nothing; zeroconf is imported when `run` begins, so only where the mesh is on.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from edge_agent.mesh.interfaces import InterfaceWatch, MeshInterface
from edge_agent.mesh.oddity import Oddity

if TYPE_CHECKING:
    from edge_agent.mesh.mdns_place import MdnsPlace

ASK_SECONDS_MAX: Final = 120.0


@dataclass(frozen=True)
class Scope:
    """The interface by which an address was found; a connection to it must be bound to that interface."""

    interface: str
    index: int


@dataclass(frozen=True)
class _Tellers:
    on_found: Callable[[str, int, Scope], None]
    on_lost: Callable[[str, int, Scope], None]
    on_odd: Callable[[Oddity, str], None]

    def found(self, address: str, port: int, interface: MeshInterface) -> None:
        self.on_found(address, port, Scope(interface.name, interface.index))

    def lost(self, address: str, port: int, interface: MeshInterface) -> None:
        self.on_lost(address, port, Scope(interface.name, interface.index))

    def odd(self, oddity: Oddity, interface: MeshInterface) -> None:
        self.on_odd(oddity, interface.name)


class Discovery:
    """Announces `port` and finds others', on the interfaces of a started watch. Not responsible for who they are.

    `on_found(address, port, scope)` may come again for the same place: the neighbour there has started anew.
    `on_odd(oddity, interface)` comes once for each kind and interface. `draw` gives so many random bytes.
    """

    def __init__(
        self,
        watch: InterfaceWatch,
        port: int,
        *,
        on_found: Callable[[str, int, Scope], None],
        on_lost: Callable[[str, int, Scope], None],
        on_odd: Callable[[Oddity, str], None],
        draw: Callable[[int], bytes],
        random: Random,
        ask_seconds_max: float = ASK_SECONDS_MAX,
    ) -> None:
        self._watch = watch
        self._port = port
        self._tellers = _Tellers(on_found, on_lost, on_odd)
        self._draw = draw
        self._random = random
        self._ask_seconds_max = ask_seconds_max
        self._own_names: set[str] = set()
        self._places: dict[tuple[str, int], MdnsPlace] = {}

    async def run(self) -> None:
        """Until cancelled; then says goodbye everywhere, which takes up to two seconds.

        Raises ExceptionGroup of NetlinkError or OSError when the kernel does not tell the interfaces.
        """
        async with asyncio.TaskGroup() as group, contextlib.aclosing(self._watch.changes()) as changes:
            try:
                async for interfaces in changes:
                    await self._follow(interfaces, group)
            finally:
                await asyncio.gather(*(place.leave() for place in self._places.values()))
                self._places.clear()

    async def _follow(self, interfaces: tuple[MeshInterface, ...], group: asyncio.TaskGroup) -> None:
        from edge_agent.mesh.mdns_place import MdnsPlace

        current = {(interface.name, interface.index): interface for interface in interfaces}
        gone = [self._places.pop(key) for key in list(self._places) if key not in current]
        changed = [place for key, place in self._places.items() if place.interface != current[key]]
        for key, interface in current.items():
            if key not in self._places:
                self._places[key] = MdnsPlace(
                    interface,
                    self._port,
                    self._own_names,
                    self._tellers,
                    ask_seconds_max=self._ask_seconds_max,
                    draw=self._draw,
                    random=self._random,
                    group=group,
                )
        waiting = [place.leave() for place in gone]
        waiting += [place.update(current[place.interface.name, place.interface.index]) for place in changed]
        await asyncio.gather(*waiting)
