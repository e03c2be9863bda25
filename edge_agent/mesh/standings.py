"""Whether the authority has called a neighbour in, by what the queue knows of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edge_agent.engine.ports import QueueDesk
from edge_agent.engine.standing import barred_devices
from edge_agent.engine.store import StoreFault


class Standings:
    """Says why somebody is not to be spoken to. Not responsible for parting from whom it concerns."""

    def __init__(self, queue: QueueDesk) -> None:
        self._queue = queue

    async def refusal(self, device: bytes) -> str | None:
        """Return why a device that comes is to be refused, as a sentence's end; None when it is not."""
        try:
            return (await self._refused((device,))).get(device)
        except StoreFault:
            return "the queue cannot be asked whether it was called in"

    async def called_in(self, devices: Iterable[bytes]) -> Mapping[bytes, str]:
        """Return which of the connected devices are to be parted from, and why."""
        try:
            return await self._refused(devices)
        except StoreFault:  # the runner tells of it, and closes the links that it concerns
            return {}

    async def _refused(self, devices: Iterable[bytes]) -> Mapping[bytes, str]:
        barred = await self._queue.ask(lambda transaction: barred_devices(devices, transaction))
        return {device: f"the authority says that it is {standing.name.lower()}" for device, standing in barred.items()}
