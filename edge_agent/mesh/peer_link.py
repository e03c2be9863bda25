"""Drives one conversation with a neighbour: bytes on asyncio streams, links and bundles in the engine.

While the engine records what came, nothing more is read from that neighbour. What a neighbour can cost is bounded:
one message in the reader, two bundles each way, few answers that it does not fetch, and time for everything.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from edge_agent.engine.links import Link, LinkShape
from edge_agent.engine.ports import LinkHost
from edge_agent.engine.settings import SECOND
from edge_agent.mesh.allowance import Allowance
from edge_agent.mesh.connection import READ_BYTES, PeerConnection, problem_of
from edge_agent.mesh.conversation import (
    Answered,
    BundleCame,
    Conversation,
    Ended,
    EndReason,
    Greeted,
    Outcome,
    Said,
    Write,
)
from sync_protocol.errors import ProtocolError
from sync_protocol.limits import BUNDLE_BYTES_MAX, MESH_BUNDLES_UNANSWERED_MAX
from sync_protocol.mesh import Exchanged, Hello, Offer, Taken

PROGRESS_SECONDS: Final = 30
"""A neighbour that takes nothing of a piece for so long is gone, or means to keep us waiting."""

BYTES_PER_MINUTE_MAX: Final = 512 * 1024 * 1024
"""Of one neighbour. A tablet's whole month passes within one minute's allowance; beyond it, reading slows down, so that
one neighbour cannot have the queue's thread for itself."""

CLOSED: Final = "it closed the connection"

_PIECE_BYTES: Final = 32 * 1024
"""What is written at once: 30 seconds for it are a link of 1 KB/s."""

_OFFERED_ENVELOPE_BYTES: Final = 4 * 1024
"""An envelope that is offered counts as so much that was read: looking it up takes time, whether it comes or not."""

_OUTGOING_MESSAGES_MAX: Final = 64
"""Two bundles, answers, pings. More means that it asks, and does not fetch the answers."""


class Admission(Protocol):
    """What a link asks of whoever knows all of them."""

    async def greeted(self, link: PeerLink) -> str | None:
        """Say why the link is not to go on, at every hello of the far end's; None when it is."""
        ...

    def hello(self) -> Hello:
        """Say how this device stands."""
        ...

    def next_key(self) -> str:
        """Return a name for a link in the engine that was never used."""
        ...


@dataclass
class Passed:
    """What has passed over a link so far."""

    bundles_out: int = 0
    bundles_in: int = 0
    bytes_in: int = 0


class PeerLink:
    """One connection's; `run` it once. All calls are made on the event loop."""

    def __init__(
        self,
        connection: PeerConnection,
        *,
        host: LinkHost,
        admission: Admission,
        on_up: Callable[[PeerLink], None],
        progress_seconds: float = PROGRESS_SECONDS,
    ) -> None:
        """`on_up` is called when both sides have said hello."""
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._host = host
        self._admission = admission
        self._on_up = on_up
        self._progress_seconds = progress_seconds
        self._conversation = Conversation(dialled=connection.dialled, now_seconds=connection.began_seconds)
        self._bytes = Allowance(BYTES_PER_MINUTE_MAX, 60)
        self._over: asyncio.Future[str] = self._loop.create_future()
        self._key: str | None = None
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._under_way: dict[int, tuple[str, int]] = {}
        self._outgoing: deque[bytes] = deque()
        self._has_outgoing = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self.hello: Hello | None = None
        """What the far end said last."""
        self.passed = Passed()
        self.since_seconds: float | None = None
        """When both sides had said hello, by the event loop's clock."""
        self.up_seconds: float | None = None
        """For how long they talked, once it is over; None when they never did."""
        self.ended_idle = False

    @property
    def device(self) -> bytes:
        return self._connection.device

    @property
    def address(self) -> str:
        return self._connection.address

    @property
    def dialled(self) -> bool:
        return self._connection.dialled

    @property
    def is_up(self) -> bool:
        """Whether the engine has a link here."""
        return self._key is not None

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or is about to."""
        return self._over.done()

    async def run(self) -> str:
        """Talk until it is over; return why, as a sentence's end."""
        tasks = [asyncio.create_task(self._ending_of(work)) for work in (self._read(), self._write())]
        try:
            if self.dialled:
                self._perform(self._conversation.admit(self._admission.hello(), self._loop.time()))
            self._arm()
            futures: set[asyncio.Future[None] | asyncio.Future[str]] = {*tasks, self._over}
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            return await self._over
        finally:
            self.part("this side ended it")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._connection.close()

    def part(self, reason: str) -> None:
        """End it: the engine hears of it before this returns, the far end soon after."""
        if self._over.done():
            return
        self._over.set_result(reason)
        if self.since_seconds is not None:
            self.up_seconds = self._loop.time() - self.since_seconds
        if self._timer is not None:
            self._timer.cancel()
        self._take_down()

    def probe(self) -> None:
        """Find out soon whether the far end is still there."""
        self._perform(self._conversation.probe(self._loop.time()))

    def say(self, hello: Hello) -> None:
        """Tell the far end how this device stands now."""
        self._perform(self._conversation.say(hello, self._loop.time()))

    def carry(self, key: str, token: int, data: bytes) -> None:
        """Send a bundle of the engine's as soon as the far end may be sent one."""
        if key == self._key:
            self._waiting.append((token, data))
            self._send_waiting()

    def tell(self, key: str, message: Exchanged) -> None:
        """Say to the far end's engine what ours says."""
        if key == self._key:
            self._perform(self._conversation.tell(message, self._loop.time()))

    async def _ending_of(self, work: Coroutine[None, None, str]) -> None:
        try:
            reason = await work
        except OSError as error:
            # What is being written hears only that the connection is lost; the reader knows by what.
            known = self._connection.reader.exception()
            reason = problem_of(known if isinstance(known, OSError) else error)
        self.part(reason)

    async def _read(self) -> str:
        while True:
            data = await self._connection.reader.read(READ_BYTES)
            if not data:
                return CLOSED
            self.passed.bytes_in += len(data)
            pause_seconds = self._bytes.spend(len(data), self._loop.time())
            for outcome in self._conversation.received(data, self._loop.time()):
                match outcome:
                    case Greeted(hello):
                        refusal = await self._greeted(hello)
                        if refusal is not None:
                            return refusal
                    case BundleCame(number, bundle):
                        await self._record(number, bundle)
                    case Answered(taken):
                        self._settle(taken)
                    case Said(message):
                        if isinstance(message, Offer):
                            offered_bytes = len(message.envelopes) * _OFFERED_ENVELOPE_BYTES
                            pause_seconds = self._bytes.spend(offered_bytes, self._loop.time())
                        if self._key is not None:
                            await self._host.said(self._key, message)
                    case Write() | Ended():
                        self._perform([outcome])
            self._send_waiting()
            self._arm()
            if pause_seconds:
                await asyncio.sleep(pause_seconds)

    async def _write(self) -> str:
        writer = self._connection.writer
        # Whatever the socket does not take at once shows as something to wait for. (With 0, TLS would wait for ever.)
        writer.transport.set_write_buffer_limits(high=1, low=0)
        while True:
            await self._has_outgoing.wait()
            self._has_outgoing.clear()
            while self._outgoing:
                message = memoryview(self._outgoing.popleft())
                for offset in range(0, len(message), _PIECE_BYTES):
                    writer.write(message[offset : offset + _PIECE_BYTES])
                    try:
                        async with asyncio.timeout(self._progress_seconds):
                            await writer.drain()
                    except TimeoutError:
                        return "it takes nothing of what it is sent"

    async def _greeted(self, hello: Hello) -> str | None:
        before, self.hello = self.hello, hello
        refusal = await self._admission.greeted(self)
        if refusal is not None:
            return refusal
        if not self._conversation.is_open:
            self._perform(self._conversation.admit(self._admission.hello(), self._loop.time()))
        if before is None or _declared(before) != _declared(hello):
            # To the engine a link is what it was declared to be, so one that has changed is another.
            self._take_down()
            self._set_up(hello)
        return None

    def _set_up(self, hello: Hello) -> None:
        if self._over.done():
            return
        self._key = self._admission.next_key()
        link = Link(
            key=self._key,
            shape=LinkShape.DUPLEX,
            far_end=self.device,
            reaches_center=hello.reaches_center,
            bundles_in_flight_max=MESH_BUNDLES_UNANSWERED_MAX,
            bundle_bytes_max=BUNDLE_BYTES_MAX,
            contact_age=None if hello.last_contact_seconds is None else hello.last_contact_seconds * SECOND,
            collects=hello.is_collection_point,
        )
        self._host.link_up(link, _Outlet(self, self._key))
        if self.since_seconds is None:
            self.since_seconds = self._loop.time()
            self._on_up(self)

    def _take_down(self) -> None:
        key, self._key = self._key, None
        self._waiting.clear()
        if key is not None:
            self._host.link_down(key)

    async def _record(self, number: int, bundle: bytes) -> None:
        key = self._key
        if key is None:
            return
        self.passed.bundles_in += 1
        declined = await self._host.bundle_arrived(key, bundle)
        # A queue that could not record closes its links; what it did not record must not be answered as taken.
        if not self._over.done():
            now_seconds = self._loop.time()
            self._perform(self._conversation.answer(number, recorded=True, now_seconds=now_seconds, declined=declined))

    def _settle(self, taken: Taken) -> None:
        key, token = self._under_way.pop(taken.number)
        self._host.settled(key, token, taken=taken.recorded, declined=taken.declined)

    def _send_waiting(self) -> None:
        while self._waiting and self._key is not None and self._conversation.can_send:
            token, data = self._waiting.popleft()
            try:
                number, outcomes = self._conversation.send(data, self._loop.time())
            except ProtocolError:  # larger than a link of this kind takes
                self._host.settled(self._key, token, taken=False)
                continue
            self._under_way[number] = self._key, token
            self.passed.bundles_out += 1
            self._perform(outcomes)

    def _perform(self, outcomes: Iterable[Outcome]) -> None:
        """Write, and end."""
        for outcome in outcomes:
            if isinstance(outcome, Write):
                self._outgoing.append(outcome.data)
                self._has_outgoing.set()
            elif isinstance(outcome, Ended):
                self.ended_idle = outcome.reason is EndReason.IDLE
                detail = f" ({outcome.detail})" if outcome.detail else ""
                self.part(f"{outcome.reason.value}{detail}")
        if len(self._outgoing) > _OUTGOING_MESSAGES_MAX:
            self.part("it does not fetch the answers to what it asks")
        self._arm()

    def _arm(self) -> None:
        """See that time passes when the conversation has something to do then."""
        due_at = self._conversation.due_at
        if due_at is None or self._over.done():
            return
        if self._timer is None or self._timer.when() > due_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(due_at, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        if not self._over.done():
            self._perform(self._conversation.time_passed(self._loop.time()))


def _declared(hello: Hello) -> tuple[bool, bool, bool]:
    """Return what of a hello decides what the far end is given; the rest of it only grows older."""
    return hello.reaches_center, hello.is_collection_point, hello.last_contact_seconds is None


class _Outlet:
    """One link of the engine's; another one follows on the same connection when the far end's standing changes."""

    def __init__(self, link: PeerLink, key: str) -> None:
        self._link = link
        self._key = key

    def send(self, token: int, data: bytes) -> None:
        self._link.carry(self._key, token, data)

    def follow(self, origins: frozenset[bytes], listed: frozenset[bytes]) -> None:
        """A neighbour gives what it has, unasked."""

    def say(self, message: Exchanged) -> None:
        self._link.tell(self._key, message)

    def close(self) -> None:
        self._link.part("the queue could not record")
