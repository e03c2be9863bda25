"""A device's runner and intake on asyncio, over the real queue; and, as a program, one with a drop folder to be killed.

Arguments of the program: the folder of the queue, the drop folder, and the name of the step before which it kills
itself: `accept`, `unlink` or `nothing`.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge_agent.engine.effects import Accepted, Refused
from edge_agent.engine.events import Started
from edge_agent.queue.intake.drop_folder import DropFolder
from edge_agent.queue.intake.intake import Intake, IntakeSettings
from edge_agent.runner import Runner
from sync_protocol.content import Questionnaire
from tests.support.device import Authority, Device

BYTES_MAX = 2_000_000


@dataclass
class Living:
    """What is running; with `refusing` set, its acceptor refuses for a while."""

    device: Device
    runner: Runner
    intake: Intake
    refusing: bool = False

    async def accept(self, submissions: Sequence[tuple[bytes, Questionnaire]]) -> Sequence[Accepted | Refused]:
        if self.refusing:
            return [Refused(0, "the disk is full", "free some space", again=True)] * len(submissions)
        return await self.runner.accept(submissions)

    def instances(self) -> int:
        """Return how many own envelopes there are."""
        return len(self.device.rows("number"))


@asynccontextmanager
async def living(folder: Path, name: str = "tablet-1") -> AsyncIterator[Living]:
    """Run a device until the block ends; one of the same name is the same device."""
    device = Device(folder, Authority(), name=name).start()
    with ThreadPoolExecutor(max_workers=1) as thread:
        runner = Runner(device.stepper, thread, lambda: device.now)
        await runner.start(Started(None, ()))
        running = asyncio.create_task(runner.run())
        settings = IntakeSettings(folder, "household", BYTES_MAX, 0)
        one = Living(device, runner, Intake(settings, runner, lambda: device.now))
        one.intake = Intake(settings, one, lambda: device.now)
        try:
            yield one
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
    device.stop()


def kill_before(step: str) -> None:
    """Arrange that this process is killed when it is about to take the step."""

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    if step == "accept":
        Runner.accept = die  # type: ignore[method-assign,assignment] # that is the point
    elif step == "unlink":
        Path.unlink = die  # type: ignore[method-assign] # that is the point


async def main(folder: Path, drop: Path) -> None:
    async with living(folder) as one:
        await DropFolder(drop, one.intake, lambda: time.time_ns() // 1000).run()


if __name__ == "__main__":
    kill_before(sys.argv[3])
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
