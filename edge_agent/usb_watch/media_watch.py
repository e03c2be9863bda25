"""The USB watch: every file system that comes is visited, several at once if need be, and what came of it is told.

Nothing here lasts: what a medium has, it is asked each time. A medium that stays plugged in after its visit is left
alone until it is plugged in again, because it was said to be safe to remove.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from edge_agent.engine.media import Enrolled
from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.mounting import MountRefused
from edge_agent.usb_watch.visit import Ending, Outcome, Progress, Stage, Visitor
from edge_agent.usb_watch.visiting import Surroundings, Visiting
from operations.journal import get_logger

log = get_logger()

_REMEMBERED_MAX: Final = 20
"""Visits that are over and still shown."""

_TELL_INTERVAL_SECONDS: Final = 5.0


class Watch(Protocol):
    """`hotplug.Hotplug`, as far as it is used here."""

    async def run(self) -> None: ...


WatchMaker = Callable[[Callable[[BlockDevice], None], Callable[[str], None]], Watch]


@dataclass(frozen=True)
class MediumState:
    """One visit for people; `stage` while it goes on, `outcome` afterwards. Times are the clock's."""

    node: str
    began_at: int
    stage: Stage | None = None
    progress: Progress | None = None
    number: str | None = None
    outcome: Outcome | MountRefused | None = None
    ended_at: int | None = None
    is_present: bool = True


class MediaWatch:
    """See the module. `nonce` draws 16 hex digits; `clock` gives microseconds since 1970."""

    def __init__(
        self,
        surroundings: Surroundings,
        make_watch: WatchMaker,
        *,
        nonce: Callable[[], str],
        clock: Callable[[], int],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._surroundings = surroundings
        self._make_watch = make_watch
        self._nonce = nonce
        self._clock = clock
        self._on_change = on_change
        self._visits: dict[str, asyncio.Task[None]] = {}
        self._states: dict[str, MediumState] = {}

    def states(self) -> list[MediumState]:
        """Return the visits of this process that are shown, oldest first."""
        return list(self._states.values())

    async def run(self) -> None:
        """Watch until cancelled; visits that go on are cut short then, and their media unmounted. Raises OSError."""
        why_not = self._surroundings.mounting.why_unavailable()
        if why_not is not None:
            raise OSError(why_not)
        await asyncio.to_thread(self._surroundings.mounting.clear_leftovers)
        async with asyncio.TaskGroup() as group:
            watch = self._make_watch(lambda device: self._added(device, group), self._removed)
            await watch.run()

    def _added(self, device: BlockDevice, group: asyncio.TaskGroup) -> None:
        visitor = Visitor(self._surroundings.identity.device.hex(), self._nonce(), "")
        visitor = replace(visitor, link_key=f"medium-{visitor.nonce}")
        self._states[visitor.nonce] = MediumState(device.node, self._clock())
        for nonce in list(self._states)[:-_REMEMBERED_MAX]:
            if self._states[nonce].outcome is not None:
                del self._states[nonce]
        before = self._visits.get(device.node)
        self._visits[device.node] = group.create_task(self._visit(device, visitor, before))
        log.info("medium_found", node=device.node, file_system=device.file_system or "", label=device.label)
        self._on_change()

    def _removed(self, node: str) -> None:
        for nonce, state in self._states.items():
            if state.node == node:
                self._states[nonce] = replace(state, is_present=False)
        log.info("medium_removed", node=node)
        self._on_change()

    async def _visit(self, device: BlockDevice, visitor: Visitor, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            # The node was given to another medium: the visit to the one before it finds that it is gone.
            await asyncio.wait([before])
        told_at = asyncio.get_running_loop().time()

        def watch(stage: Stage, progress: Progress) -> None:
            nonlocal told_at
            began_stage = self._states[visitor.nonce].stage is not stage
            self._change(visitor, stage=stage, progress=progress)
            now = asyncio.get_running_loop().time()
            if began_stage or now - told_at >= _TELL_INTERVAL_SECONDS:
                told_at = now
                log.info("medium_progress", node=device.node, stage=stage.value, **_counts(progress))

        try:
            outcome = await Visiting(self._surroundings, device, watch).run(visitor)
        except Exception as error:  # one medium must not end the watch over the others
            log.error("medium_failed", node=device.node, problem=f"{type(error).__name__}: {error}", exc_info=True)
            outcome = Outcome(Ending.INTERRUPTED, None, Progress(), str(error))
        number = outcome.medium.number if isinstance(outcome, Outcome) and outcome.medium is not None else None
        self._change(visitor, stage=None, outcome=outcome, number=number, ended_at=self._clock())
        tell_outcome(device, outcome)

    def _change(self, visitor: Visitor, **changes: object) -> None:
        self._states[visitor.nonce] = replace(self._states[visitor.nonce], **changes)  # type: ignore[arg-type]  # dataclasses.replace checks the names
        self._on_change()


def tell_outcome(device: BlockDevice, outcome: Outcome | MountRefused) -> None:
    """Write one line on what came of a visit."""
    if isinstance(outcome, MountRefused):
        log.warning("medium_not_mounted", node=device.node, reason=outcome.reason.name.lower(), detail=outcome.detail)
        return
    medium: Enrolled | None = outcome.medium
    fields = {
        "node": device.node,
        "medium": "" if medium is None else medium.medium,
        "number": "" if medium is None else medium.number,
        "ending": outcome.ending.value,
        "detail": outcome.detail,
        **_counts(outcome.progress),
    }
    match outcome.ending:
        case Ending.SAFE | Ending.FULL | Ending.READ_ONLY:
            log.info("medium_safe", **fields)
        case Ending.LEFT_ALONE:
            log.info("medium_left_alone", **fields)
        case Ending.GONE | Ending.UNREADABLE | Ending.INTERRUPTED:
            log.warning("medium_unfinished", **fields)


def _counts(progress: Progress) -> dict[str, object]:
    return {
        "files_read": progress.files_read,
        "files_found": progress.files_found,
        "envelopes_read": progress.envelopes_read,
        "damaged": len(progress.damaged),
        "files_written": progress.files_written,
        "envelopes_written": progress.envelopes_written,
        "bytes_written": progress.bytes_written,
        "files_removed": progress.files_removed,
        "files_checked": progress.files_checked,
    }
