"""What befalls the devices of a mesh, after a schedule that a seed decides: cables cut, daemons killed, the VPN gone.

Everything ends well: at the end of `run` every cable is joined, the VPN is up, and every daemon is started.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.support.mesh_census import MeshCensus, MeshDevice
from tests.support.mesh_ground import Cable

_CUT_SECONDS: Final = (0.4, 3.0)
_DEAD_SECONDS: Final = (0.1, 2.0)
_VPN_DOWN_SECONDS: Final = (0.5, 3.0)

Happening = tuple[float, str, Callable[[], None]]
"""When (seconds from the start), what, and how."""


@dataclass(frozen=True)
class Courier:
    """A device that walks between networks by this cable, without end."""

    cable: Cable
    networks: Sequence[str]


@dataclass
class Weather:
    """`cables` are those that are cut and joined again where they were; `how_often` counts per kind of happening."""

    seed: int
    census: MeshCensus
    cables: Sequence[Cable]
    courier: Courier
    how_often: Mapping[str, int]
    seconds: float
    happened: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """Return when everything is over, and well again."""
        began_seconds = time.monotonic()
        for at_seconds, what, happen in sorted(self._plan(), key=lambda one: one[0]):
            time.sleep(max(0.0, began_seconds + at_seconds - time.monotonic()))
            happen()
            self.happened[what] += 1
        for cable in self.cables:
            self._join(cable)
        self.census.vpn("up")
        for device in self.census.devices.values():
            self._revive(device)

    def _plan(self) -> Iterator[Happening]:
        # Reproducible, and nothing secret about it.
        chance = random.Random(f"{self.seed}/weather")

        def moment() -> float:
            return chance.uniform(0, self.seconds)

        for _ in range(self.how_often["cut"]):
            at, cable = moment(), chance.choice(self.cables)
            yield at, "cut", lambda cable=cable: self.census.ground.cut(cable)  # type: ignore[misc]  # mypy and lambda defaults
            yield at + chance.uniform(*_CUT_SECONDS), "joined", lambda cable=cable: self._join(cable)  # type: ignore[misc]  # the same
        devices = list(self.census.devices.values())
        for _ in range(self.how_often["killed"]):
            at, device = moment(), chance.choice(devices)
            yield at, "killed", lambda device=device: self._kill(device)  # type: ignore[misc]  # the same
            yield at + chance.uniform(*_DEAD_SECONDS), "started", lambda device=device: self._revive(device)  # type: ignore[misc]  # the same
        for _ in range(self.how_often["VPN down"]):
            at = moment()
            yield at, "VPN down", lambda: self.census.vpn("down")
            yield at + chance.uniform(*_VPN_DOWN_SECONDS), "VPN up", lambda: self.census.vpn("up")
        for number in range(self.how_often["walked"]):
            network = self.courier.networks[number % len(self.courier.networks)]
            yield moment(), "walked", lambda network=network: self._walk(network)  # type: ignore[misc]  # the same

    def _join(self, cable: Cable) -> None:
        self.census.ground.join(cable, cable.network)

    def _walk(self, network: str) -> None:
        self.census.ground.cut(self.courier.cable)
        self.census.ground.join(self.courier.cable, network)

    @staticmethod
    def _kill(device: MeshDevice) -> None:
        if device.process is not None:
            device.process.kill9()

    @staticmethod
    def _revive(device: MeshDevice) -> None:
        if device.process is None or not device.process.is_alive:
            device.launch()
