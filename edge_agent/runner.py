"""Drives the stepper on asyncio: events in, effects out, the store on a thread of its own.

Everything that happens passes through one queue of events and is handled one at a time, so the engine never sees two
at once. Submissions that wait together become one event, and so one commit. Not responsible for what any event means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Final, TypeVar

from edge_agent.engine.effects import Accepted, Declined, Effect, Follow, Level, Notice, Refused, Say, Send, Wake
from edge_agent.engine.events import (
    TOUCHES_NO_LINK,
    BundleArrived,
    Event,
    LinkDown,
    LinkUp,
    RecipientKeyMade,
    Said,
    Settled,
    Started,
    StatementLearnt,
    Submission,
    Submitted,
    TimePassed,
)
from edge_agent.engine.links import Link
from edge_agent.engine.ports import Outlet
from edge_agent.engine.stepper import Stepper
from edge_agent.engine.store import StoreFault, StoreFull, StoreTransaction
from operations.journal import get_logger
from sync_protocol.content import Questionnaire
from sync_protocol.mesh import Exchanged

log = get_logger()

_SUBMISSIONS_TOGETHER_MAX: Final = 64
"""Enough to share an fsync among, few enough that links are not kept waiting."""

_STORE_PAUSE_SECONDS: Final = 5
"""After a store fault: links that come up at once would only meet it again."""

Result = TypeVar("Result")


class Runner:
    """One device's event loop around its stepper; see `engine.ports` for what it offers to links and intake."""

    def __init__(self, stepper: Stepper, store_thread: ThreadPoolExecutor, clock: Callable[[], int]) -> None:
        """`store_thread` has exactly one worker; `clock` gives microseconds since 1970."""
        self._stepper = stepper
        self._store_thread = store_thread
        self._clock = clock
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._outlets: dict[str, Outlet] = {}
        self._requests = count(1)
        self._answers: dict[int, asyncio.Future[Accepted | Refused]] = {}
        self._recorded: dict[int, asyncio.Future[tuple[bytes, ...]]] = {}
        self._wake: asyncio.TimerHandle | None = None
        self._on_change: Callable[[], None] = lambda: None

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call back after every step, for whoever shows how the queue stands."""
        self._on_change = on_change

    async def start(self, event: Started) -> None:
        """Let the engine see to its chain before anything else happens; raises StoreFault."""
        self._release(await self._on_store_thread(lambda: self._stepper.step(event, self._clock())))

    def announce_key(self, public_key: bytes) -> None:
        """Let the center know the key that lists are sealed to, unless this chain has told it already."""
        self._events.put_nowait(RecipientKeyMade(public_key))

    async def run(self) -> None:
        """Handle events until cancelled."""
        while True:
            event = await self._next_event()
            declined: tuple[bytes, ...] = ()
            try:
                effects = await self._on_store_thread(lambda event=event: self._stepper.step(event, self._clock()))  # type: ignore[misc]
            except StoreFault as fault:
                await self._survive(event, fault)
            else:
                self._release(effects)
                declined = tuple(one for effect in effects if isinstance(effect, Declined) for one in effect.ids)
            self._acknowledge(event, declined)
            self._on_change()

    async def on_store_thread(self, work: Callable[[], Result]) -> Result:
        """Run something short between two steps, where the store's connection may be used."""
        return await self._on_store_thread(work)

    # What links call (engine.ports.LinkHost).

    def link_up(self, link: Link, outlet: Outlet) -> None:
        self._outlets[link.key] = outlet
        self._events.put_nowait(LinkUp(link))

    def link_down(self, link_key: str) -> None:
        self._outlets.pop(link_key, None)
        self._events.put_nowait(LinkDown(link_key))

    async def bundle_arrived(self, link_key: str, data: bytes) -> tuple[bytes, ...]:
        return await self._handled(BundleArrived(link_key, data))

    async def said(self, link_key: str, message: Exchanged) -> None:
        await self._handled(Said(link_key, message))

    def settled(self, link_key: str, token: int, *, taken: bool, declined: tuple[bytes, ...] = ()) -> None:
        self._events.put_nowait(Settled(link_key, token, taken, declined))

    async def caught_up(self) -> None:
        await self._handled(TimePassed())

    # What adapters look at (engine.ports.QueueDesk).

    async def ask(self, question: Callable[[StoreTransaction], Result]) -> Result:
        return await self._on_store_thread(lambda: self._stepper.ask(question))

    async def learn(self, data: bytes) -> None:
        await self._handled(StatementLearnt(data))

    # What the intake calls (engine.ports.Acceptor).

    async def accept(self, submissions: Sequence[tuple[bytes, Questionnaire]]) -> Sequence[Accepted | Refused]:
        loop = asyncio.get_running_loop()
        numbered = tuple(Submission(next(self._requests), key, questionnaire) for key, questionnaire in submissions)
        answers: list[asyncio.Future[Accepted | Refused]] = [loop.create_future() for _ in numbered]
        self._answers.update((submission.request, answer) for submission, answer in zip(numbered, answers, strict=True))
        self._events.put_nowait(Submitted(numbered))
        return await asyncio.gather(*answers)

    async def _handled(self, event: Event) -> tuple[bytes, ...]:
        """Return when the event is handled, and what follows from it has left; and what there was no room for."""
        handled: asyncio.Future[tuple[bytes, ...]] = asyncio.get_running_loop().create_future()
        self._recorded[id(event)] = handled
        self._events.put_nowait(event)
        return await handled

    async def _next_event(self) -> Event:
        event = await self._events.get()
        if not isinstance(event, Submitted):
            return event
        together = list(event.submissions)
        while len(together) < _SUBMISSIONS_TOGETHER_MAX and isinstance(self._peek(), Submitted):
            following = self._events.get_nowait()
            if isinstance(following, Submitted):
                together.extend(following.submissions)
        return Submitted(tuple(together))

    def _peek(self) -> Event | None:
        waiting: Sequence[Event] = self._events._queue  # type: ignore[attr-defined]  # there is no public way to look
        return waiting[0] if waiting else None

    async def _on_store_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._store_thread, work)

    def _release(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(link_key, token, data):
                    outlet = self._outlets.get(link_key)
                    if outlet is not None:
                        outlet.send(token, data)
                case Follow(link_key, origins, listed):
                    outlet = self._outlets.get(link_key)
                    if outlet is not None:
                        outlet.follow(origins, listed)
                case Say(link_key, message):
                    outlet = self._outlets.get(link_key)
                    if outlet is not None:
                        outlet.say(message)
                case Declined():
                    pass  # whoever handed the bundle over is told so
                case Accepted() | Refused():
                    answer = self._answers.pop(effect.request, None)
                    if answer is not None and not answer.done():
                        answer.set_result(effect)
                case Wake(at):
                    self._wake_at(at)
                case Notice():
                    tell(effect)

    def _wake_at(self, at: int) -> None:
        if self._wake is not None:
            self._wake.cancel()
        delay_seconds = max(0.0, (at - self._clock()) / 1_000_000)
        self._wake = asyncio.get_running_loop().call_later(delay_seconds, self._events.put_nowait, TimePassed())

    def _acknowledge(self, event: Event, declined: tuple[bytes, ...]) -> None:
        recorded = self._recorded.pop(id(event), None)
        if recorded is not None and not recorded.done():
            recorded.set_result(declined)

    async def _survive(self, event: Event, fault: StoreFault) -> None:
        """The step left no trace: refuse what it was to accept, or close the links that the engine has forgotten."""
        log.error("store_fault", problem=str(fault))
        # The time that was asked for may have been used up by this very step.
        self._wake_at(self._clock() + _STORE_PAUSE_SECONDS * 1_000_000)
        if isinstance(event, Submitted):
            remedy = (
                "free some space on the disk, then submit again"
                if isinstance(fault, StoreFull)
                else "look at the journal and run edge-agent doctor, then submit again"
            )
            for submission in event.submissions:
                answer = self._answers.pop(submission.request, None)
                if answer is not None and not answer.done():
                    full = isinstance(fault, StoreFull)
                    answer.set_result(Refused(submission.request, str(fault), remedy, again=True, full=full))
        if isinstance(event, TOUCHES_NO_LINK):
            return
        outlets, self._outlets = self._outlets, {}
        for outlet in outlets.values():
            outlet.close()
        if outlets:
            await asyncio.sleep(_STORE_PAUSE_SECONDS)


def tell(notice: Notice) -> None:
    """Write a notice to the log."""
    match notice.level:
        case Level.DEBUG:
            log.debug(notice.event, **notice.fields)
        case Level.INFO:
            log.info(notice.event, **notice.fields)
        case Level.WARNING:
            log.warning(notice.event, **notice.fields)
        case Level.ERROR:
            log.error(notice.event, **notice.fields)
