"""Does what a visit asks for, on a real medium: files and mounts on a thread of its own, the engine by the runner."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

from edge_agent.engine.identity import DeviceIdentity
from edge_agent.engine.media import news_of_medium
from edge_agent.engine.ports import LinkHost, QueueDesk
from edge_agent.engine.store import EnvelopeStanding, StoreFault, StoreTransaction
from edge_agent.usb_watch import actions as steps
from edge_agent.usb_watch.actions import Bundle, Ending, Outcome, VisitInterrupted, Visitor
from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.mount_table import device_number_of
from edge_agent.usb_watch.mounting import Mounted, Mounting, MountRefusal, MountRefused, Unmounted, UnmountFailed
from edge_agent.usb_watch.visit import perform, visit
from edge_agent.usb_watch.volume import BundleFile, FaultKind, Listing, Volume, VolumeFault
from operations.journal import get_logger
from sync_protocol.mesh import Exchanged

log = get_logger()

_RECEIPTS_POLL_SECONDS: Final = 1.0

Result = TypeVar("Result")
Watcher = Callable[[steps.Stage, steps.Progress], None]


@dataclass(frozen=True)
class VisitSettings:
    """`receipts_quiet_seconds` is how long a collection point waits, medium in place, without hearing of any further
    envelope; `receipts_seconds_max` how long at most.
    """

    receipts_quiet_seconds: float = 20.0
    receipts_seconds_max: float = 600.0


@dataclass(frozen=True)
class Surroundings:
    """What every visit of a daemon has in common."""

    host: LinkHost
    queue: QueueDesk
    mounting: Mounting
    identity: DeviceIdentity
    settings: VisitSettings
    reaches_center: Callable[[], bool]
    """Whether receipts can be expected soon."""


class VisitOutlet:
    """A link's end in the sense of `engine.ports.Outlet`: what is sent waits until the visit asks for it."""

    def __init__(self) -> None:
        self.waiting: deque[Bundle] = deque()
        self.is_closed = False

    def send(self, token: int, data: bytes) -> None:
        self.waiting.append(Bundle(token, data))

    def follow(self, origins: frozenset[bytes], listed: frozenset[bytes]) -> None:
        """A medium has the receipts that it has."""

    def say(self, message: Exchanged) -> None:
        """A medium hears nothing."""

    def close(self) -> None:
        self.is_closed = True


class Visiting:
    """One visit; `run` it once. `watcher` hears how far it is."""

    def __init__(self, surroundings: Surroundings, device: BlockDevice, watcher: Watcher) -> None:
        self._surroundings = surroundings
        self._device = device
        self._watcher = watcher
        self._mounted: Mounted | None = None
        self._volume: Volume | None = None
        self._outlet = VisitOutlet()
        self._link_key: str | None = None
        self._arriving: asyncio.Future[tuple[bytes, ...]] | None = None
        self._following: dict[BundleFile, BundleFile] = {}
        self._ahead: tuple[BundleFile, asyncio.Future[bytes]] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="medium")

    async def run(self, visitor: Visitor) -> Outcome | MountRefused:
        """Mount, visit, unmount. When cancelled, the medium is unmounted as soon as it lets go of the thread."""
        try:
            number = device_number_of(self._device.node)
            refused = await self._mount(writable=True)
            if refused is not None:
                return refused
            outcome = await self._walk(visitor)
            return outcome if device_number_of(self._device.node) == number else _of_one_that_is_gone(outcome)
        finally:
            if self._arriving is not None:
                self._arriving.cancel()
            if self._link_key is not None:
                self._surroundings.host.link_down(self._link_key)
            # After whatever the thread is still at, a mounting included. A stick that hangs must not hang the daemon.
            self._thread.submit(self._release)
            self._thread.shutdown(wait=False)

    async def _walk(self, visitor: Visitor) -> Outcome:
        walk = visit(visitor)
        result: Any = None
        fault: Exception | None = None
        while True:
            try:
                action = walk.send(result) if fault is None else walk.throw(fault)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
            result, fault = None, None
            try:
                result = await self._do(action)
            except (VolumeFault, VisitInterrupted) as met:
                fault = met
            except StoreFault as failed:
                fault = VisitInterrupted(str(failed))

    async def _do(self, action: steps.Action[Any]) -> Any:
        match action:
            case steps.Judge(identity):
                await self._learn_of(identity)
                return await self._ask(lambda queue: action.answer(queue, self._surroundings.identity))
            case steps.Question():
                return await self._ask(lambda queue: action.answer(queue, self._surroundings.identity))
            case steps.ListFiles():
                listing: Listing = await self._on_thread(lambda: self._on_volume(action))
                self._following = dict(pairwise(listing.files))
                return listing
            case steps.Read(file):
                return await self._read(file)
            case steps.AwaitReceipts(ids):
                return await self._await_receipts(ids)
            case steps.Unmount():
                return await self._unmount()
            case steps.MountAgain():
                return await self._mount_again()
            case steps.PowerOff():
                outcome = await self._on_thread(lambda: self._surroundings.mounting.power_off(self._device))
                log.debug("medium_power", node=self._device.node, outcome=type(outcome).__name__)
                return None
            case steps.Tell(stage, progress):
                return self._watcher(stage, progress)
            case steps.OpenLink() | steps.Arrive() | steps.NextBundle() | steps.Settle() | steps.CloseLink():
                return await self._tell_engine(action)
            case _:
                return await self._on_thread(lambda: self._on_volume(action))

    async def _read(self, file: BundleFile) -> bytes:
        """Read a file, and begin with the one that follows it in the listing: the medium is what takes the time."""
        ahead, self._ahead = self._ahead, None
        data = await (ahead[1] if ahead is not None and ahead[0] == file else self._reading(file))
        following = self._following.pop(file, None)
        if following is not None:
            reading = self._reading(following)
            # A visit that ends early does not ask what came of it.
            reading.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._ahead = following, reading
        return data

    def _reading(self, file: BundleFile) -> asyncio.Future[bytes]:
        return asyncio.ensure_future(self._on_thread(lambda: self._on_volume(steps.Read(file))))

    def _on_volume(self, action: steps.Action[Any]) -> Any:
        if self._volume is None:
            raise VolumeFault(FaultKind.GONE, "the medium is not mounted")
        return perform(action, self._volume)

    async def _tell_engine(self, action: steps.Action[Any]) -> Any:
        host = self._surroundings.host
        match action:
            case steps.OpenLink(link):
                self._outlet = VisitOutlet()
                self._link_key = link.key
                host.link_up(link, self._outlet)
            case steps.CloseLink(key):
                await self._arrived()
                self._link_key = None
                host.link_down(key)
            case steps.Arrive(key, data):
                # While it is recorded, the next one is read; there are never more than these two.
                await self._arrived()
                self._arriving = asyncio.ensure_future(host.bundle_arrived(key, data))
            case steps.Settle(key, token, taken):
                host.settled(key, token, taken=taken)
            case steps.NextBundle():
                if not self._outlet.waiting:
                    await host.caught_up()
                return self._outlet.waiting.popleft() if self._outlet.waiting else self._nothing_more()
        self._nothing_more()
        return None

    async def _arrived(self) -> None:
        """Return when all that arrived is recorded."""
        arriving, self._arriving = self._arriving, None
        if arriving is not None:
            await arriving

    def _nothing_more(self) -> None:
        """Raise VisitInterrupted when the runner has closed the link: its queue failed."""
        if self._outlet.is_closed:
            raise VisitInterrupted("the queue cannot record what comes and goes")

    async def _learn_of(self, identity: bytes) -> None:
        news = await self._ask(lambda queue: news_of_medium(identity, queue, self._surroundings.identity))
        for one in news:
            await self._surroundings.queue.learn(one)

    async def _ask(self, question: Callable[[StoreTransaction], Result]) -> Result:
        return await self._surroundings.queue.ask(question)

    async def _await_receipts(self, ids: frozenset[bytes]) -> None:
        settings = self._surroundings.settings
        loop = asyncio.get_running_loop()
        began = quiet_since = loop.time()
        open_before = len(ids) + 1
        while self._surroundings.reaches_center():
            still_open = await self._ask(
                lambda queue: sum(queue.standing_of(one) is EnvelopeStanding.OPEN for one in ids)
            )
            if still_open == 0:
                return
            if still_open < open_before:
                open_before, quiet_since = still_open, loop.time()
            now = loop.time()
            if now - quiet_since >= settings.receipts_quiet_seconds or now - began >= settings.receipts_seconds_max:
                return
            await asyncio.sleep(_RECEIPTS_POLL_SECONDS)

    # Mounts.

    async def _on_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _mount(self, *, writable: bool) -> MountRefused | None:
        return await self._on_thread(lambda: self._mount_now(writable=writable))

    def _mount_now(self, *, writable: bool) -> MountRefused | None:
        mounted = self._surroundings.mounting.mount(self._device, writable=writable)
        if isinstance(mounted, MountRefused):
            return mounted
        self._mounted = mounted
        self._volume = self._volume_at(mounted.path)
        return None

    def _volume_at(self, path: Path) -> Volume:
        return Volume(path, self._surroundings.identity.device.hex())

    async def _mount_again(self) -> None:
        refused = await self._mount(writable=False)
        if refused is not None:
            kind = FaultKind.GONE if refused.reason is MountRefusal.VANISHED else FaultKind.UNREADABLE
            raise VolumeFault(kind, f"{refused.sentence} {refused.detail}")

    def _release(self) -> Unmounted | UnmountFailed | None:
        mounted, self._mounted, self._volume = self._mounted, None, None
        return None if mounted is None else mounted.unmount()

    async def _unmount(self) -> None:
        match await self._on_thread(self._release):
            case None | Unmounted(was_lazy=False):
                return
            case Unmounted():
                raise VolumeFault(FaultKind.UNREADABLE, "files on it were still open when it was released")
            case UnmountFailed(detail):
                raise VolumeFault(FaultKind.UNREADABLE, detail)


def _of_one_that_is_gone(outcome: Outcome) -> Outcome:
    """A medium that is pulled out fails with EIO at first, and vfat takes a folder it cannot read for an empty one: so
    it looks broken, or not enrolled, and nobody is to throw it away for that.
    """
    looks_otherwise = outcome.ending in (Ending.UNREADABLE, Ending.LEFT_ALONE)
    return replace(outcome, ending=Ending.GONE) if looks_otherwise else outcome
