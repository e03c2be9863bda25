"""The USB watch: every file system that comes is visited, several at once if need be, and what came of it is told.

Nothing here lasts: what a medium has, it is asked each time. A medium that stays plugged in after its visit is left
alone until it is plugged in again, because it was said to be safe to remove.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from edge_agent.engine.media import Enrolled
from edge_agent.usb_watch.actions import Ending, Outcome, Progress, Stage, Visitor
from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.folder_mounting import folder_as_device
from edge_agent.usb_watch.mounting import Mounting, MountRefused
from edge_agent.usb_watch.visiting import Surroundings, Visiting
from operations.journal import get_logger

log = get_logger()

_REMEMBERED_MAX: Final = 20
"""Visits that are over and still shown."""

_TELL_INTERVAL_SECONDS: Final = 5.0

_SHOWN_SECONDS: Final = 60.0
"""After a medium is gone: a good visit ends with the drive switched off, so that it is gone before it is taken out."""

_RETRY_SECONDS: Final = 3600.0
"""Between two tries to find a way of mounting: on a battery, a machine that has none is not asked more often."""


class Watch(Protocol):
    """`hotplug.Hotplug`, as far as it is used here."""

    async def run(self) -> None: ...


WatchMaker = Callable[[Callable[[BlockDevice], None], Callable[[str], None]], Watch]


@dataclass(frozen=True)
class MediumState:
    """One visit for people; `stage` while it goes on, `outcome` afterwards. Times are the clock's."""

    nonce: str
    node: str
    began_at: int
    stage: Stage | None = None
    progress: Progress | None = None
    number: str | None = None
    outcome: Outcome | MountRefused | None = None
    ended_at: int | None = None
    is_present: bool = True
    is_shown: bool = True
    """As long as it is in place, and a while longer: whoever has to read that it is safe to remove needs time."""


class Turn(Enum):
    """What people may want to be told of."""

    BEGAN = "began"
    STAGE = "stage"
    ENDED = "ended"
    OUT = "out"
    """The medium is gone: taken out, or switched off after its visit. While the visit goes on, its end comes later."""


class MediaWatch:
    """See the module. `surroundings` are those of visits to folders; `nonce` draws 16 hex digits; `clock` gives
    microseconds since 1970. `on_turn` hears of every turn that a visit takes, and what it is then.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        make_watch: WatchMaker,
        *,
        nonce: Callable[[], str],
        clock: Callable[[], int],
        on_change: Callable[[], None] = lambda: None,
        on_turn: Callable[[Turn, MediumState], None] = lambda _turn, _state: None,
    ) -> None:
        self._surroundings = surroundings
        self._make_watch = make_watch
        self._nonce = nonce
        self._clock = clock
        self._on_change = on_change
        self._on_turn = on_turn
        self._by_hand: set[asyncio.Task[None]] = set()
        self._visits: dict[str, asyncio.Task[None]] = {}
        self._states: dict[str, MediumState] = {}

    def states(self) -> list[MediumState]:
        """Return the visits of this process that are shown, oldest first."""
        return list(self._states.values())

    def visit_folder(self, folder: Path, *, leaves: bool) -> str:
        """Begin to visit a folder as if it were a medium; return the visit's nonce, by which its state is found."""
        device, visitor = folder_as_device(folder), self._visitor(leaves=leaves)
        self._begin(device, visitor)
        task = asyncio.get_running_loop().create_task(self._visit_by_hand(device, visitor))
        self._by_hand.add(task)
        task.add_done_callback(self._by_hand.discard)
        return visitor.nonce

    async def run(self, ways: Sequence[Mounting]) -> None:
        """Watch until cancelled, mounting by the first of the ways that can; visits that go on are cut short then, and
        their media unmounted. While none can, that is told once and tried again rarely: a machine without UDisks2 is
        no fault. Raises OSError when udev cannot be heard.
        """
        surroundings = replace(self._surroundings, mounting=await self._mounting(ways))
        async with asyncio.TaskGroup() as group:
            watch = self._make_watch(lambda device: self._added(surroundings, device, group), self._removed)
            await watch.run()

    async def _mounting(self, ways: Sequence[Mounting]) -> Mounting:
        told = ""
        while isinstance(found := await asyncio.to_thread(usable, ways), str):
            if found != told:
                log.warning("media_unavailable", problem=found)
            told = found
            await asyncio.sleep(_RETRY_SECONDS)
        return found

    def _visitor(self, *, leaves: bool = True) -> Visitor:
        nonce = self._nonce()
        return Visitor(self._surroundings.identity.device.hex(), nonce, f"medium-{nonce}", leaves)

    def _begin(self, device: BlockDevice, visitor: Visitor) -> None:
        state = self._states[visitor.nonce] = MediumState(visitor.nonce, device.node, self._clock())
        self._on_turn(Turn.BEGAN, state)
        for nonce in list(self._states)[:-_REMEMBERED_MAX]:
            if self._states[nonce].outcome is not None:
                del self._states[nonce]
        self._on_change()

    def _added(self, surroundings: Surroundings, device: BlockDevice, group: asyncio.TaskGroup) -> None:
        visitor = self._visitor()
        self._begin(device, visitor)
        before = self._visits.get(device.node)
        self._visits[device.node] = group.create_task(self._visit(surroundings, device, visitor, before))
        log.info("medium_found", node=device.node, file_system=device.file_system or "", label=device.label)

    def _removed(self, node: str) -> None:
        for nonce, state in self._states.items():
            if state.node == node:
                self._is_out(nonce)
        log.info("medium_removed", node=node)
        self._on_change()

    def _is_out(self, nonce: str) -> None:
        state = self._states[nonce]
        if state.is_present:
            self._states[nonce] = replace(state, is_present=False)
            self._on_turn(Turn.OUT, self._states[nonce])
            asyncio.get_running_loop().call_later(_SHOWN_SECONDS, self._show_no_longer, nonce)

    def _show_no_longer(self, nonce: str) -> None:
        if nonce in self._states:
            self._states[nonce] = replace(self._states[nonce], is_shown=False)
            self._on_change()

    async def _visit(
        self,
        surroundings: Surroundings,
        device: BlockDevice,
        visitor: Visitor,
        before: asyncio.Task[None] | None,
    ) -> None:
        if before is not None:
            # The node was given to another medium: the visit to the one before it finds that it is gone.
            await asyncio.wait([before])
        told_at = asyncio.get_running_loop().time()

        def watch(stage: Stage, progress: Progress) -> None:
            nonlocal told_at
            began_stage = self._states[visitor.nonce].stage is not stage
            self._change(visitor, stage=stage, progress=progress)
            if began_stage:
                self._on_turn(Turn.STAGE, self._states[visitor.nonce])
            now = asyncio.get_running_loop().time()
            if began_stage or now - told_at >= _TELL_INTERVAL_SECONDS:
                told_at = now
                log.info("medium_progress", node=device.node, stage=stage.value, **counts(progress))

        try:
            outcome = await Visiting(surroundings, device, watch).run(visitor)
        except Exception as error:  # one medium must not end the watch over the others
            log.error("medium_failed", node=device.node, problem=f"{type(error).__name__}: {error}", exc_info=True)
            outcome = Outcome(Ending.INTERRUPTED, None, Progress(), str(error))
        number = outcome.medium.number if isinstance(outcome, Outcome) and outcome.medium is not None else None
        self._change(visitor, stage=None, outcome=outcome, number=number, ended_at=self._clock())
        self._on_turn(Turn.ENDED, self._states[visitor.nonce])
        tell_outcome(device, outcome)

    async def _visit_by_hand(self, device: BlockDevice, visitor: Visitor) -> None:
        await self._visit(self._surroundings, device, visitor, None)
        # A folder does not come and go: it was there for the visit.
        self._is_out(visitor.nonce)
        self._on_change()

    def _change(self, visitor: Visitor, **changes: object) -> None:
        self._states[visitor.nonce] = replace(self._states[visitor.nonce], **changes)  # type: ignore[arg-type]  # dataclasses.replace checks the names
        self._on_change()


def usable(ways: Sequence[Mounting]) -> Mounting | str:
    """Return the first way of mounting that works here, cleared of what was left behind, or why none does; blocks."""
    problems = []
    for way in ways:
        problem = way.why_unavailable()
        if problem is None:
            cleared = way.clear_leftovers()
            if cleared.removed or cleared.remaining:
                log.warning("media_left_mounted", removed=len(cleared.removed), remaining=len(cleared.remaining))
            return way
        problems.append(problem)
    return "; ".join(problems)


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
        **counts(outcome.progress),
    }
    if outcome.progress.is_as_left is False:
        log.warning("medium_not_as_left", node=device.node, medium=fields["medium"], number=fields["number"])
    match outcome.ending:
        case Ending.SAFE | Ending.FULL | Ending.READ_ONLY:
            log.info("medium_safe", **fields)
        case Ending.READ | Ending.LEFT_ALONE:
            log.info("medium_read" if outcome.ending is Ending.READ else "medium_left_alone", **fields)
        case Ending.GONE | Ending.UNREADABLE | Ending.INTERRUPTED:
            log.warning("medium_unfinished", **fields)


def counts(progress: Progress) -> dict[str, object]:
    """Return a visit's counts by their names in logs and documents."""
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
