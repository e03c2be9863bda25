"""A device among many neighbours, with nothing to say: what they cost it in memory, and how often it wakes up.

`python -m bench.mesh_crowd PORT QUEUES PROVISIONING...` is the crowd, as a process of its own: a whole device for each
provisioning folder, that dials the port. It says "ready" when all have met who listens there.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.center import BenchCenter
from bench.mesh_device import ADDRESS, mesh_device, say, told
from bench.process_figures import precise_cpu_seconds, private_bytes, resident_bytes, wakeups
from bench.ready_process import ReadyProcess
from demo.processes import free_port
from edge_agent import provisioning
from operations.journal import configure_logging

_CALM_SECONDS: Final = 4.0


@dataclass(frozen=True)
class Rest:
    """What a process was like while it had nothing to do; a second's wakeups and CPU seconds."""

    resident: int
    private: int
    wakeups: float
    cpu_seconds: float
    seconds: float


def measure_crowd(center: BenchCenter, folder: Path, *, peers: int, seconds: float) -> tuple[Rest, Rest]:
    """Return what a device is like alone, and with so many neighbours connected."""
    folder.mkdir(parents=True)
    center.enrol(folder / "device", "device")
    crowd = [folder / f"peer-{number}" for number in range(peers)]
    for one in crowd:
        center.enrol(one, one.name)
    port = str(free_port())
    words: list[str | Path] = ["stay", folder / "device", folder / "queue", port, "0", folder / "report"]
    with ExitStack() as ends:
        device = ends.enter_context(ReadyProcess("bench.mesh_device", words, folder / "device.log"))
        device.wait_for("ready")
        alone = _at_rest(device.pid, min(seconds, _CALM_SECONDS))
        others = ends.enter_context(ReadyProcess("bench.mesh_crowd", [port, folder, *crowd], folder / "crowd.log"))
        others.wait_for("ready")
        together = _at_rest(device.pid, seconds)
    return alone, together


def _at_rest(pid: int, seconds: float) -> Rest:
    time.sleep(min(seconds, _CALM_SECONDS))
    woken, spent, started = wakeups(pid), precise_cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - started
    a_second, cpu = (wakeups(pid) - woken) / passed, (precise_cpu_seconds(pid) - spent) / passed
    return Rest(resident_bytes(pid), private_bytes(pid), a_second, cpu, passed)


async def _gather(port: int, queues: Path, folders: list[Path]) -> None:
    async with AsyncExitStack() as ends:
        devices = []
        for folder in folders:
            queue = queues / f"queue-{folder.name}"
            devices.append(await ends.enter_async_context(mesh_device(provisioning.load(folder), queue, port=None)))
        for one in devices:
            one.neighbours.meet(ADDRESS, port)
        for one in devices:
            await one.has_met.wait()
        say("ready")
        await told()


def main() -> None:
    """Be the crowd."""
    configure_logging("bench-crowd", style="text", level="info", sentences={})
    asyncio.run(_gather(int(sys.argv[1]), Path(sys.argv[2]), [Path(word) for word in sys.argv[3:]]))


if __name__ == "__main__":
    main()
