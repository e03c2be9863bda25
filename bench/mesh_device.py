"""A device with its mesh, as the daemon puts it together: runner, engine, SQLite queue, links over real TLS.

`python -m bench.mesh_device ROLE PROVISIONING QUEUE PORT ENVELOPES REPORT` is one, as a process of its own. It says
"ready", and does something more at a line on its standard input:

| role | before | at the line |
|---|---|---|
| give | | dials the port; says "done" when the far end has answered for every envelope |
| take | listens; is a collection point | says "done" |
| take-unchecked | the same, but the check of a signature is replaced by none | the same |
| stay | listens | ends |

The first three leave in REPORT when they did what.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final
from unittest import mock

from bench.center import now
from edge_agent import provisioning
from edge_agent.backoff import Backoff
from edge_agent.engine.effects import Effect, Notice
from edge_agent.engine.engine import Engine
from edge_agent.engine.events import BundleArrived, Event, Started
from edge_agent.engine.settings import EngineSettings
from edge_agent.engine.stepper import Stepper
from edge_agent.mesh.neighbours import MeshSettings, Neighbours
from edge_agent.mesh.peer_tls import peer_tls
from edge_agent.provisioning import ProvisionedDevice
from edge_agent.queue.mirror import FileHeadMirror
from edge_agent.queue.store import QueueStore
from edge_agent.runner import Runner
from edge_agent.tls import TlsMaterial
from operations.journal import configure_logging
from sync_protocol.keys import VerifyingKey
from sync_protocol.mesh import Hello

ADDRESS: Final = "127.0.0.1"
PROFILE_VARIABLE: Final = "BENCH_PROFILE"
"""A folder for profiles of both threads, for whoever wants to know where the time goes."""
_SECONDS_MAX: Final = 300.0


@dataclass(frozen=True)
class Moment:
    """Seconds of the system's monotonic clock, and CPU seconds of this process."""

    at_seconds: float
    cpu_seconds: float

    @staticmethod
    def now() -> Moment:
        return Moment(time.monotonic(), time.process_time())


class WatchedStepper(Stepper):
    """Notes how much neighbours have answered for, and when the last bundle was on disk."""

    answered = 0
    recorded: Moment | None = None

    def step(self, event: Event, now: int) -> list[Effect]:
        effects = super().step(event, now)
        if isinstance(event, BundleArrived):
            self.recorded = Moment.now()
        for effect in effects:
            if isinstance(effect, Notice) and effect.event == "sent":
                self.answered += int(str(effect.fields["envelopes"]))
        return effects


@dataclass
class MeshDevice:
    """One that runs; `met` is when it and a neighbour had first said hello to each other."""

    name: bytes
    runner: Runner
    stepper: WatchedStepper
    neighbours: Neighbours
    met: Moment | None = None
    has_met: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def mesh_device(
    device: ProvisionedDevice, queue: Path, *, port: int | None, is_collection_point: bool = False
) -> AsyncIterator[MeshDevice]:
    """Run a device until the block ends; it listens on a port of the loopback interface if it is given one."""
    queue.mkdir(exist_ok=True)
    identity = device.identity
    settings = EngineSettings()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="store", initializer=_profile_thread) as thread:
        store = await asyncio.get_running_loop().run_in_executor(thread, QueueStore, queue)
        mirror = FileHeadMirror(queue)
        stepper = WatchedStepper(Engine(identity, settings, lambda: 0.5), store, mirror)
        runner = Runner(stepper, thread, now)
        await runner.start(Started(mirror.position(), device.statements))
        hello = Hello(False, None, settings.foreign_bytes_max, is_collection_point)
        neighbours = Neighbours(
            identity.device,
            MeshSettings(backoff=Backoff(1, 2)),
            tls=peer_tls(TlsMaterial(device.tls_authority, device.tls_certificate, device.tls_key)),
            host=runner,
            queue=runner,
            hello=lambda: hello,
            randomness=lambda: 0.5,
            on_change=lambda: _note_meeting(one),
        )
        one = MeshDevice(identity.device, runner, stepper, neighbours)
        if port is not None:
            neighbours.listen(socket.create_server((ADDRESS, port)))
        running = [asyncio.create_task(work) for work in (runner.run(), neighbours.run())]
        # It can be told of an address once it runs.
        await asyncio.sleep(0.01)
        try:
            yield one
        finally:
            for task in reversed(running):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await asyncio.get_running_loop().run_in_executor(thread, _close, store)
            mirror.close()


def _note_meeting(one: MeshDevice) -> None:
    if one.met is None:
        one.met = Moment.now()
        one.has_met.set()


def _close(store: QueueStore) -> None:
    store.close()
    profile = _profiles.pop("store", None)
    if profile is not None:
        profile.disable()
        profile.dump_stats(Path(os.environ[PROFILE_VARIABLE]) / f"{sys.argv[1]}-store.pstats")


_profiles: Final[dict[str, cProfile.Profile]] = {}


def _profile_thread() -> None:
    if PROFILE_VARIABLE in os.environ:
        _profiles["store"] = cProfile.Profile()
        _profiles["store"].enable()


async def told() -> None:
    """Wait for a line on the standard input."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.readline()


def say(word: str) -> None:
    """Say a word to whoever started this process."""
    print(word, flush=True)


async def _give(one: MeshDevice, port: int, envelopes: int) -> Moment:
    say("ready")
    await told()
    all_answered = asyncio.Event()
    one.runner.watch(lambda: all_answered.set() if one.stepper.answered >= envelopes else None)
    one.neighbours.meet(ADDRESS, port)
    await asyncio.wait_for(all_answered.wait(), _SECONDS_MAX)
    return Moment.now()


async def _wait(one: MeshDevice) -> Moment:
    say("ready")
    await told()
    return one.stepper.recorded or Moment.now()


async def _run(role: str, folder: Path, queue: Path, port: int, envelopes: int, report: Path) -> None:
    gives, takes = role == "give", role.startswith("take")
    device = provisioning.load(folder)
    async with mesh_device(device, queue, port=None if gives else port, is_collection_point=takes) as one:
        ended = await (_give(one, port, envelopes) if gives else _wait(one))
        if gives or takes:
            if one.met is None:
                raise RuntimeError("nobody was met")
            report.write_text(json.dumps({"met": asdict(one.met), "ended": asdict(ended)}))
            say("done")


def main() -> None:
    """Be one of them."""
    role, folder, queue, port, envelopes, report = sys.argv[1:7]
    configure_logging("bench-mesh", style="text", level="info", sentences={})
    work = _run(role, Path(folder), Path(queue), int(port), int(envelopes), Path(report))
    with ExitStack() as ends:
        if role == "take-unchecked":
            ends.enter_context(mock.patch.object(VerifyingKey, "verify", lambda *_: None))
        if PROFILE_VARIABLE in os.environ:
            profile = cProfile.Profile()
            profile.runcall(asyncio.run, work)
            profile.dump_stats(Path(os.environ[PROFILE_VARIABLE]) / f"{role}-loop.pstats")
        else:
            asyncio.run(work)


if __name__ == "__main__":
    main()
