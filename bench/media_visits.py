"""One visit of a device to a medium: the product's own watch, runner and queue, and when it had come how far."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, cast
from unittest import mock

from bench.center import BenchDevice, now
from bench.media_places import Place
from edge_agent.engine.engine import Engine
from edge_agent.engine.events import Started
from edge_agent.engine.settings import EngineSettings
from edge_agent.engine.stepper import Stepper
from edge_agent.queue.mirror import FileHeadMirror
from edge_agent.queue.store import QueueStore
from edge_agent.runner import Runner
from edge_agent.usb_watch.actions import Outcome, Stage
from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.file_calls import SYSTEM_CALLS, FileCalls
from edge_agent.usb_watch.media_watch import MediaWatch
from edge_agent.usb_watch.mounting import Cleared, Mounted, Mounting, MountRefused, PoweredOff, PowerOffRefused
from edge_agent.usb_watch.visiting import Surroundings, VisitSettings
from edge_agent.usb_watch.volume import Volume

_VISIT_SECONDS_MAX: Final = 600.0
_NONCE: Final = "00112233445566aa"


@dataclass(frozen=True)
class Moment:
    """Since the medium was plugged in: seconds, of them in calls on the medium, and CPU seconds of this process."""

    seconds: float
    medium_seconds: float
    cpu_seconds: float

    @property
    def own_seconds(self) -> float:
        """All but the calls on the medium: reading, writing, syncing, mounting."""
        return self.seconds - self.medium_seconds


@dataclass(frozen=True)
class Visited:
    """`stages` is when each stage was first told of."""

    outcome: Outcome
    stages: dict[Stage, Moment]
    ended: Moment


class MediumTime:
    """How long calls on the medium took; they never overlap, because a visit has one thread."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what happens inside."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started


class _TimedCalls:
    """File calls that are counted."""

    def __init__(self, medium_time: MediumTime) -> None:
        self._time = medium_time

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(SYSTEM_CALLS, name)

        def timed(*arguments: object, **named: object) -> Any:
            with self._time.counted():
                return call(*arguments, **named)

        return timed


@dataclass(frozen=True)
class _TimedMounting:
    """Mounting that is counted; see `mounting.Mounting`."""

    mounting: Mounting
    time: MediumTime

    def why_unavailable(self) -> str | None:
        return self.mounting.why_unavailable()

    def clear_leftovers(self) -> Cleared:
        return self.mounting.clear_leftovers()

    def mount(self, device: BlockDevice, *, writable: bool) -> Mounted | MountRefused:
        with self.time.counted():
            mounted = self.mounting.mount(device, writable=writable)
        if isinstance(mounted, MountRefused):
            return mounted
        return Mounted(mounted.path, mounted.is_read_only, lambda: self._unmount(mounted))

    def _unmount(self, mounted: Mounted) -> Any:
        with self.time.counted():
            return mounted.unmount()

    def power_off(self, device: BlockDevice) -> PoweredOff | PowerOffRefused:
        with self.time.counted():
            return self.mounting.power_off(device)


@dataclass
class _Plug:
    """The hand at the bus: what hotplug would tell the watch."""

    added: Callable[[BlockDevice], None]
    here: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        self.here.set()
        await asyncio.Event().wait()


def visit(queue: Path, device: BenchDevice, place: Place) -> Visited:
    """Let a device that has this queue meet a medium, as its daemon would; the queue is open before the clock starts.

    Raises RuntimeError unless the visit ends well.
    """
    medium_time = MediumTime()
    calls = cast(FileCalls, _TimedCalls(medium_time))
    with mock.patch("edge_agent.usb_watch.visiting.Volume", partial(Volume, calls=calls)):
        return asyncio.run(_visit(queue, device, place, medium_time))


async def _visit(queue: Path, device: BenchDevice, place: Place, medium_time: MediumTime) -> Visited:
    queue.mkdir(exist_ok=True)
    identity = device.provisioned.identity
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="store") as thread:
        store = await asyncio.get_running_loop().run_in_executor(thread, QueueStore, queue)
        mirror = FileHeadMirror(queue)
        runner = Runner(Stepper(Engine(identity, EngineSettings(), lambda: 0.5), store, mirror), thread, now)
        await runner.start(Started(mirror.position(), device.provisioned.statements))
        running = asyncio.create_task(runner.run())
        surroundings = Surroundings(
            host=runner,
            queue=runner,
            mounting=place.mounting,
            identity=identity,
            settings=VisitSettings(),
            reaches_center=lambda: False,
        )
        try:
            return await asyncio.wait_for(_plug_in(surroundings, place, medium_time), _VISIT_SECONDS_MAX)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await asyncio.get_running_loop().run_in_executor(thread, store.close)
            mirror.close()


async def _plug_in(surroundings: Surroundings, place: Place, medium_time: MediumTime) -> Visited:
    stages: dict[Stage, Moment] = {}
    ended = asyncio.Event()
    plugs: list[_Plug] = []
    started = cpu = 0.0

    def moment() -> Moment:
        return Moment(time.perf_counter() - started, medium_time.seconds, time.process_time() - cpu)

    def changed() -> None:
        (state,) = watch.states()
        if state.stage is not None and state.stage not in stages:
            stages[state.stage] = moment()
        if state.outcome is not None:
            ended.set()

    def make(added: Callable[[BlockDevice], None], _removed: Callable[[str], None]) -> _Plug:
        plugs.append(_Plug(added))
        return plugs[0]

    watch = MediaWatch(surroundings, make, nonce=lambda: _NONCE, clock=now, on_change=changed)
    watching = asyncio.create_task(watch.run([_TimedMounting(place.mounting, medium_time)]))
    try:
        while not plugs:  # noqa: ASYNC110  # the watch makes its hotplug after it has found a way of mounting
            await asyncio.sleep(0)
        await plugs[0].here.wait()
        medium_time.seconds = 0.0
        started, cpu = time.perf_counter(), time.process_time()
        plugs[0].added(place.device)
        await ended.wait()
        whole = moment()
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    outcome = watch.states()[0].outcome
    if not isinstance(outcome, Outcome) or not outcome.ending.is_safe:
        raise RuntimeError(f"the visit did not end well: {outcome}")
    return Visited(outcome, stages, whole)
