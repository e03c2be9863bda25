"""The whole mesh of a device: interfaces, discovery, listeners, links, and when any of it is awake.

| state | what runs | left when | next state |
|---|---|---|---|
| asleep | a look at the clock and at the power each minute | the duty says awake | open |
| open | interfaces are followed, listened on, dialled by; neighbours are looked for | the power goes | asleep |
| open | | the interval's window is over | retiring |
| retiring | the links that are up; nobody comes in or is dialled | each has been quiet for 10 s | asleep |
| retiring | | the duty says awake | open |

Not responsible for what passes over the links (the engine), nor for starting anew what the kernel has taken away (app).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Final

from edge_agent.engine.ports import LinkHost, QueueDesk
from edge_agent.mesh.dialling import Address
from edge_agent.mesh.discovery import ASK_SECONDS_MAX, Discovery, Scope
from edge_agent.mesh.duty import Duty, Turn, turn_of
from edge_agent.mesh.interfaces import InterfaceRules, InterfaceWatch, MeshInterface
from edge_agent.mesh.listening import Listeners
from edge_agent.mesh.neighbours import MeshSettings, Neighbours, NeighbourState
from edge_agent.mesh.oddity import Oddity
from edge_agent.mesh.peer_tls import PeerTls
from edge_agent.mesh.power import POWER_SUPPLIES, Power
from edge_agent.mesh.refusals import Faults
from edge_agent.mesh.ways import Ways
from edge_agent.repetition import Repetitions
from operations.journal import get_logger
from sync_protocol.mesh import Hello

log = get_logger()

DISCOVERY_AGAIN_SECONDS: Final = 60
"""Before discovery is begun anew when it has ended by itself; links and configured neighbours go on meanwhile."""

_NOT_STARTED: Final = "it has not started yet"


@dataclass(frozen=True)
class MeshWatchSettings:
    """`rules` name VPN and excluded interfaces; `port` is TCP's; an `interval_minutes` counts for Duty.INTERVAL."""

    rules: InterfaceRules
    port: int = 8884
    discovery: bool = True
    ask_seconds_max: float = ASK_SECONDS_MAX
    static_peers: tuple[Address, ...] = ()
    duty: Duty = Duty.ALWAYS
    interval_minutes: int = 15
    power_supplies: Path = POWER_SUPPLIES
    links: MeshSettings = field(default_factory=MeshSettings)
    """How patient to be with neighbours; its static peers are passed over."""


@dataclass(frozen=True)
class MeshSituation:
    """How the mesh stands, for people; `asleep_because` is a sentence's end, None while awake."""

    awake: bool
    asleep_because: str | None
    interfaces: tuple[str, ...]
    listening: tuple[str, ...]
    refused: int
    last_refusal: str | None


class MeshWatch:
    """A device's mesh. `clock` gives microseconds since 1970, `draw` random bytes, `randomness` numbers from 0 to 1;
    `on_change` is called when what `states` or `situation` say may have changed.
    """

    def __init__(
        self,
        device: bytes,
        settings: MeshWatchSettings,
        *,
        tls: PeerTls,
        host: LinkHost,
        queue: QueueDesk,
        hello: Callable[[], Hello],
        randomness: Callable[[], float],
        draw: Callable[[int], bytes],
        clock: Callable[[], int],
        on_change: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._draw = draw
        self._clock = clock
        self._on_change = on_change
        self._power = Power(settings.power_supplies)
        self._ways = Ways()
        self._neighbours = Neighbours(
            device,
            replace(settings.links, static_peers=settings.static_peers),
            tls=tls,
            host=host,
            queue=queue,
            hello=hello,
            randomness=randomness,
            on_change=on_change,
            way_to=self._ways.to,
        )
        self._listeners = Listeners(settings.port, open=self._neighbours.listen, shut=self._neighbours.deafen)
        self._interfaces: tuple[MeshInterface, ...] = ()
        self._asleep_because: str | None = _NOT_STARTED
        self._oddities = Repetitions()
        self._faults = Faults()

    async def run(self) -> None:
        """Until cancelled. Raises OSError, or ExceptionGroup with NetlinkError, when the kernel does not tell the
        interfaces (any more): then it is to be run anew. What becomes of single interfaces, addresses, ports,
        neighbours and of discovery ends nothing.
        """
        try:
            while True:
                turn = self._turn()
                self._say(turn.asleep_because)
                if turn.awake:
                    self._power.forget()  # what was read may be a minute old, and what follows is dear
                    await self._be_awake()
                else:
                    await asyncio.sleep(turn.seconds or 0)
        finally:
            self._say(_NOT_STARTED)

    def states(self) -> Sequence[NeighbourState]:
        """Those that are connected."""
        return self._neighbours.states()

    def situation(self) -> MeshSituation:
        """How it stands now."""
        refusals = self._neighbours.refusals
        return MeshSituation(
            awake=self._asleep_because is None,
            asleep_because=self._asleep_because,
            interfaces=tuple(one.name for one in self._interfaces),
            listening=self._listeners.told,
            refused=refusals.refused,
            last_refusal=refusals.last,
        )

    def hello_changed(self) -> None:
        """Tell every neighbour how this device stands now."""
        self._neighbours.hello_changed()

    def _turn(self) -> Turn:
        duty = self._settings.duty
        on_mains = duty is Duty.ALWAYS or self._power.on_mains(asyncio.get_running_loop().time())
        return turn_of(duty, self._settings.interval_minutes, on_mains=on_mains, now=self._clock())

    def _say(self, asleep_because: str | None) -> None:
        if self._asleep_because == asleep_because:
            return
        before, self._asleep_because = self._asleep_because, asleep_because
        # By the interval this is a matter of minutes, and by the power one of hours.
        tell = log.info if self._settings.duty is Duty.MAINS else log.debug
        if asleep_because is None:
            tell("mesh_awake")
        elif before is None and asleep_because != _NOT_STARTED:
            tell("mesh_asleep", reason=asleep_because)
        self._on_change()

    async def _be_awake(self) -> None:
        """Return, with nothing left of it, when the duty says asleep and every link that may end gently has ended."""
        async with InterfaceWatch(self._settings.rules) as watch, asyncio.TaskGroup() as group:
            links = group.create_task(self._neighbours.run())
            while True:
                opened = group.create_task(self._be_open(watch))
                turn = await self._until_asleep()
                opened.cancel()
                await asyncio.wait({opened})
                if not turn.gently or await self._retire():
                    break
            links.cancel()

    async def _until_asleep(self) -> Turn:
        while (turn := self._turn()).awake:
            if turn.seconds is None:
                await asyncio.Event().wait()
            else:
                await asyncio.sleep(turn.seconds)
        return turn

    async def _retire(self) -> bool:
        """Let the links come to their end; False when the duty says awake before they have."""
        retiring = asyncio.create_task(self._neighbours.retire())
        try:
            while not retiring.done():
                turn = self._turn()
                if turn.awake:
                    return False
                await asyncio.wait({retiring}, timeout=turn.seconds)
            retiring.result()
            return True
        finally:
            retiring.cancel()
            await asyncio.wait({retiring})

    async def _be_open(self, watch: InterfaceWatch) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(watch))
                group.create_task(self._listeners.keep_trying())
                if self._settings.discovery:
                    group.create_task(self._discover(watch))
        finally:
            self._listeners.close()
            self._interfaces = ()
            self._on_change()

    async def _follow(self, watch: InterfaceWatch) -> None:
        async with contextlib.aclosing(watch.changes()) as changes:
            async for interfaces in changes:
                self._interfaces = interfaces
                self._ways.follow(interfaces)
                self._listeners.follow(interfaces)
                self._neighbours.ways_changed(self._ways.has)
                self._on_change()

    async def _discover(self, watch: InterfaceWatch) -> None:
        if importlib.util.find_spec("zeroconf") is None:
            log.error("mesh_discovery_missing", problem="the Python package zeroconf is not installed")
            return
        while True:
            # Not for secrets: by how much devices that started together ask at different times.
            random = Random(self._draw(8))  # noqa: S311
            discovery = Discovery(
                watch,
                self._settings.port,
                on_found=self._found,
                on_lost=self._lost,
                on_odd=self._odd,
                draw=self._draw,
                random=random,
                ask_seconds_max=self._settings.ask_seconds_max,
            )
            try:
                await discovery.run()
            except Exception as fault:  # noqa: BLE001  # the kernel's faults are `_follow`'s; what a library raises ends no link
                self._faults.report(fault)
            await asyncio.sleep(DISCOVERY_AGAIN_SECONDS)

    def _found(self, address: str, port: int, scope: Scope) -> None:
        self._neighbours.meet(address, port, scope.interface)

    def _lost(self, address: str, port: int, scope: Scope) -> None:
        self._neighbours.lose(address, port, scope.interface)

    def _odd(self, oddity: Oddity, interface: str) -> None:
        if self._oddities.worth_telling(f"{interface} {oddity.value}", asyncio.get_running_loop().time()) is not None:
            log.info("mesh_oddity", interface=interface, problem=str(oddity))
