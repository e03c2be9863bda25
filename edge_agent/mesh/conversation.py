"""What two neighbours say to each other once TLS stands (SPEC.md §9), without input, output or a clock.

The side that dialled says hello first, and only on a connection that it means to keep. The other side looks at who it
is, and answers with its own hello if it keeps the connection, too.

| state | event | what follows | next state |
|---|---|---|---|
| greeting | hello | `Greeted`, and what was to be said is | open (who dialled), asked (who was dialled) |
| greeting | any other message | `Ended`, misused | ended |
| greeting, asked | the time for greeting is over | `Ended`, no hello | ended |
| asked | `admit` | own hello | open |
| open, asked | hello, not too often | `Greeted` | the same |
| open | bundle, fewer than two of the far end's unanswered | `BundleCame`; `answer` says *taken* | open |
| open | bundle, two of the far end's unanswered, or its number among theirs | `Ended`, misused | ended |
| asked | bundle | `Ended`, misused | ended |
| open | taken, of a bundle under way | `Answered` | open |
| open, asked | taken, of no bundle under way | `Ended`, misused | ended |
| open | digests, inventory; offer, when no other of the far end's is unanswered; verdicts, one for each envelope of
ours that is offered | `Said`, for the engine | open |
| open | another offer, other verdicts | `Ended`, misused | ended |
| asked | digests, inventory, offer, verdicts | `Ended`, misused | ended |
| open, asked | ping | pong | the same |
| open, asked | pong, message of an unknown type | nothing | the same |
| open | nothing heard for 60 s | ping | open |
| open | nothing heard for 90 s, and no bundle of the far end's is being recorded | `Ended`, silent | ended |
| open | a bundle or an offer unanswered for 120 s | `Ended`, unanswered | ended |
| open | no bundle, offer or answer either way for 10 minutes | `Ended`, idle | ended |
| any | bytes that are no messages | `Ended`, misused | ended |
| any | too much beside bundles and their answers in a minute | `Ended`, flooded | ended |
| ended | anything | nothing | ended |

Hearing is any byte. While a bundle of the far end's is being recorded nothing is read, so nothing can be heard; pings
still go out, so that the far end hears us. Times are seconds, monotonic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from edge_agent.mesh.allowance import Allowance
from sync_protocol.errors import ProtocolError
from sync_protocol.limits import MESH_BUNDLES_UNANSWERED_MAX
from sync_protocol.mesh import (
    Arrived,
    BundleMessage,
    Digests,
    Exchanged,
    Hello,
    Inventory,
    Offer,
    PassedOver,
    Ping,
    Pong,
    Taken,
    Verdicts,
)
from sync_protocol.mesh_stream import (
    INVENTORY_ITEM_BYTES,
    MESSAGE_HEADER_BYTES,
    PING_BYTES,
    MessageReader,
    write_message,
)

GREETING_SECONDS: Final = 10
"""From the beginning of the connection, TLS included: an honest neighbour needs four round trips."""
PING_SECONDS: Final = 60
SILENCE_SECONDS: Final = 90
IDLE_SECONDS: Final = 600
ANSWER_SECONDS: Final = 120
"""A far end that takes longer over one bundle is as good as gone, whatever it answers to pings."""
PROBE_SECONDS: Final = 10
"""How long a far end that is said to be gone has to say anything."""

BESIDE_BYTES_PER_MINUTE_MAX: Final = 1024 * 1024
"""Hellos, pings and what later releases say: honest ones take some kilobytes, and nothing else slows them down."""
HELLOS_PER_MINUTE_MAX: Final = 12
"""Each may cost a new link in the engine, and so a commit."""
DIGESTS_PER_MINUTE_MAX: Final = 12
"""Each is answered with a list of what this device knows."""
HELLO_PAUSE_SECONDS: Final = 10
"""Between two of our own after the first, so that the far end never hears more than it allows."""


class EndReason(Enum):
    """Why a conversation is over; the value is a sentence's end for a log."""

    NO_HELLO = "it said no hello in time"
    MISUSED = "it does not keep to the protocol"
    FLOODED = "it says too much"
    SILENT = "it is silent"
    UNANSWERED = "it does not answer a bundle"
    IDLE = "there was nothing to say"


@dataclass(frozen=True)
class Write:
    """Bytes for the far end."""

    data: bytes


@dataclass(frozen=True)
class Greeted:
    """The far end says how it stands, for the first time or anew."""

    hello: Hello


@dataclass(frozen=True)
class BundleCame:
    """To be recorded; then `answer`."""

    number: int
    data: bytes


@dataclass(frozen=True)
class Answered:
    """What became of a bundle of ours."""

    taken: Taken


@dataclass(frozen=True)
class Said:
    """The far end's engine says something to ours."""

    message: Exchanged


@dataclass(frozen=True)
class Ended:
    """Nothing more will come of this conversation; the connection is to be closed."""

    reason: EndReason
    detail: str = ""


Outcome = Write | Greeted | BundleCame | Answered | Said | Ended


class _State(Enum):
    GREETING = "greeting"
    ASKED = "asked"
    OPEN = "open"
    ENDED = "ended"


class Conversation:
    """One connection's; `dialled` says whether it was this side that dialled, `now_seconds` when the connection began.
    Methods return what is to be done.
    """

    def __init__(self, *, dialled: bool, now_seconds: float) -> None:
        self._dialled = dialled
        self._state = _State.GREETING
        self._reader = MessageReader()
        self._began_at = self._heard_at = self._pinged_at = self._talked_at = now_seconds
        self._silent_at = now_seconds + SILENCE_SECONDS
        self._said_at: float | None = None
        self._to_say: Hello | None = None
        self._numbers = 0
        self._under_way: dict[int, float] = {}
        self._unanswered: set[int] = set()
        self._offer_under_way: tuple[Offer, float] | None = None
        self._offer_waiting: Offer | None = None
        self._offer_unanswered: Offer | None = None
        self._beside = Allowance(BESIDE_BYTES_PER_MINUTE_MAX, 60)
        self._hellos = Allowance(HELLOS_PER_MINUTE_MAX, 60)
        self._digests = Allowance(DIGESTS_PER_MINUTE_MAX, 60)

    @property
    def can_send(self) -> bool:
        """Whether there is room for another bundle of ours."""
        return self._state is _State.OPEN and len(self._under_way) < MESH_BUNDLES_UNANSWERED_MAX

    def _is_over(self) -> bool:
        return self._state is _State.ENDED

    @property
    def is_open(self) -> bool:
        """Whether both sides have said hello."""
        return self._state is _State.OPEN

    # What this side says.

    def admit(self, hello: Hello, now_seconds: float) -> Sequence[Outcome]:
        """Say the first hello: at once on the side that dialled, on the other when it has been greeted."""
        if self._state is _State.ASKED:
            self._open(now_seconds)
        elif self._state is not _State.GREETING or not self._dialled:
            return []
        return [Write(write_message(hello))]

    def say(self, hello: Hello, now_seconds: float) -> Sequence[Outcome]:
        """Say anew how this device stands, now or when enough time has passed since the last time."""
        self._to_say = hello
        return self._say_waiting(now_seconds)

    def send(self, bundle: bytes, now_seconds: float) -> tuple[int, Sequence[Outcome]]:
        """Send a bundle, when `can_send`; return its number, too. Raises ProtocolError for one that is too large."""
        self._numbers += 1
        written = write_message(BundleMessage(self._numbers, bundle))
        self._under_way[self._numbers] = self._talked_at = now_seconds
        return self._numbers, [Write(written)]

    def tell(self, message: Exchanged, now_seconds: float) -> Sequence[Outcome]:
        """Say to the far end's engine what ours has to say."""
        if self._state is not _State.OPEN:
            return []
        if isinstance(message, Offer):
            if self._offer_under_way is not None:  # of a session that is over; its answer has to come first
                self._offer_waiting = message
                return []
            self._offer_under_way = message, now_seconds
        elif isinstance(message, Verdicts):
            unanswered = self._offer_unanswered
            if unanswered is None or unanswered.number != message.number:
                # The engine began anew in between, and the far end has been told so.
                return []
            self._offer_unanswered = None
        self._talked_at = now_seconds
        return [Write(write_message(message))]

    def answer(
        self, number: int, *, recorded: bool, now_seconds: float, declined: Sequence[bytes] = ()
    ) -> Sequence[Outcome]:
        """Say what became of a bundle of the far end's."""
        if self._state is not _State.OPEN:
            return []
        self._unanswered.discard(number)
        self._talked_at = now_seconds
        self._hear(now_seconds)
        return [Write(write_message(Taken(number, recorded, tuple(declined))))]

    def probe(self, now_seconds: float) -> Sequence[Outcome]:
        """Ask whether the far end is still there, and give it little time to answer."""
        if self._state is not _State.OPEN:
            return []
        self._silent_at = min(self._silent_at, now_seconds + PROBE_SECONDS)
        return self._ping(now_seconds)

    # What happens.

    def received(self, data: bytes, now_seconds: float) -> Sequence[Outcome]:
        """Take bytes of the far end."""
        if self._state is _State.ENDED:
            return []
        if self._state is not _State.GREETING:
            self._hear(now_seconds)
        try:
            messages = self._reader.feed(data)
        except ProtocolError as error:
            return [self._end(EndReason.MISUSED, str(error))]
        outcomes: list[Outcome] = []
        for message in messages:
            outcomes += self._take(message, now_seconds)
            if self._is_over():
                # Nothing of what such a far end said in the same breath is worth the work.
                return outcomes[-1:]
        return outcomes

    def time_passed(self, now_seconds: float) -> Sequence[Outcome]:
        """See to what has become due; to be called at `due_at`, and as often as one likes."""
        if self._state is _State.ENDED:
            return []
        if self._state is not _State.OPEN:
            late = now_seconds >= self._began_at + GREETING_SECONDS
            return [self._end(EndReason.NO_HELLO)] if late else []
        if not self._unanswered and now_seconds >= self._silent_at:
            return [self._end(EndReason.SILENT)]
        if any(now_seconds >= sent_at + ANSWER_SECONDS for sent_at in self._waits_since):
            return [self._end(EndReason.UNANSWERED)]
        if now_seconds >= self._talked_at + IDLE_SECONDS:
            return [self._end(EndReason.IDLE)]
        outcomes = list(self._say_waiting(now_seconds))
        if now_seconds >= self._ping_at:
            outcomes += self._ping(now_seconds)
        return outcomes

    @property
    def due_at(self) -> float | None:
        """When `time_passed` will have something to do, unless something else happens before; None when never."""
        if self._state is _State.ENDED:
            return None
        if self._state is not _State.OPEN:
            return self._began_at + GREETING_SECONDS
        times = [self._ping_at, self._talked_at + IDLE_SECONDS]
        times += [sent_at + ANSWER_SECONDS for sent_at in self._waits_since]
        if not self._unanswered:
            times.append(self._silent_at)
        if self._to_say is not None and self._said_at is not None:
            times.append(self._said_at + HELLO_PAUSE_SECONDS)
        return min(times)

    @property
    def _waits_since(self) -> list[float]:
        """When those bundles and the offer of ours were sent that are not answered yet."""
        offers = [] if self._offer_under_way is None else [self._offer_under_way[1]]
        return [*self._under_way.values(), *offers]

    @property
    def _ping_at(self) -> float:
        return max(self._heard_at, self._pinged_at) + PING_SECONDS

    def _take(self, message: Arrived, now: float) -> list[Outcome]:
        if self._state is _State.GREETING and not isinstance(message, Hello):
            return [self._end(EndReason.MISUSED, "it said something before hello")]
        match message:
            case Hello():
                return self._take_hello(message, now)
            case BundleMessage(number, bundle):
                return self._take_bundle(number, bundle, now)
            case Taken(number):
                return self._take_answer(message, number, now)
            case Digests() | Inventory() | Offer() | Verdicts():
                return self._take_exchanged(message, now)
            case Ping(data):
                return self._take_beside(PING_BYTES, now) or [Write(write_message(Pong(data)))]
            case Pong():
                return self._take_beside(PING_BYTES, now)
            case PassedOver(_, payload_bytes):
                return self._take_beside(payload_bytes, now)

    def _take_hello(self, hello: Hello, now: float) -> list[Outcome]:
        if self._hellos.spend(1, now) > 0:
            return [self._end(EndReason.FLOODED, "it says hello too often")]
        if self._state is _State.GREETING:
            self._state = _State.ASKED
            if self._dialled:
                self._open(now)
        return [Greeted(hello)]

    def _take_bundle(self, number: int, bundle: bytes, now: float) -> list[Outcome]:
        if self._state is not _State.OPEN:
            return [self._end(EndReason.MISUSED, "it sent a bundle before it was answered")]
        if len(self._unanswered) >= MESH_BUNDLES_UNANSWERED_MAX:
            return [self._end(EndReason.MISUSED, "it sent more bundles than may be unanswered")]
        if number in self._unanswered:
            return [self._end(EndReason.MISUSED, "it used a bundle's number twice")]
        self._unanswered.add(number)
        self._talked_at = now
        return [BundleCame(number, bundle)]

    def _take_answer(self, taken: Taken, number: int, now: float) -> list[Outcome]:
        if self._under_way.pop(number, None) is None:
            return [self._end(EndReason.MISUSED, "it answered a bundle that it was not sent")]
        self._talked_at = now
        return [Answered(taken)]

    def _take_exchanged(self, message: Exchanged, now: float) -> list[Outcome]:
        if self._state is not _State.OPEN:
            return [self._end(EndReason.MISUSED, "it spoke of envelopes before it was answered")]
        if isinstance(message, Digests) and self._digests.spend(1, now) > 0:
            return [self._end(EndReason.FLOODED, "it says too often what it knows")]
        if isinstance(message, Offer):
            if self._offer_unanswered is not None:
                return [self._end(EndReason.MISUSED, "it made an offer before the one before was answered")]
            self._offer_unanswered = message
        elif isinstance(message, Verdicts):
            offer = None if self._offer_under_way is None else self._offer_under_way[0]
            if offer is None or (offer.number, len(offer.envelopes)) != (message.number, len(message.verdicts)):
                return [self._end(EndReason.MISUSED, "it answered an offer that it was not made")]
            self._offer_under_way, waiting, self._offer_waiting = None, self._offer_waiting, None
            if waiting is not None:
                return [Said(message), *self.tell(waiting, now)]
        elif isinstance(message, Inventory):
            flood = self._take_beside(len(message.items) * INVENTORY_ITEM_BYTES, now)
            if flood:
                return flood
        self._talked_at = now
        return [Said(message)]

    def _take_beside(self, payload_bytes: int, now: float) -> list[Outcome]:
        if self._beside.spend(MESSAGE_HEADER_BYTES + payload_bytes, now) > 0:
            return [self._end(EndReason.FLOODED)]
        return []

    def _say_waiting(self, now: float) -> Sequence[Outcome]:
        hello, said_at = self._to_say, self._said_at
        if hello is None or not self.is_open or (said_at is not None and now < said_at + HELLO_PAUSE_SECONDS):
            return []
        self._to_say, self._said_at = None, now
        return [Write(write_message(hello))]

    def _ping(self, now: float) -> list[Outcome]:
        self._pinged_at = now
        return [Write(write_message(Ping(bytes(PING_BYTES))))]

    def _open(self, now: float) -> None:
        self._state = _State.OPEN
        self._talked_at = now
        self._hear(now)

    def _hear(self, now: float) -> None:
        self._heard_at = now
        self._silent_at = now + SILENCE_SECONDS

    def _end(self, reason: EndReason, detail: str = "") -> Ended:
        self._state = _State.ENDED
        return Ended(reason, detail)
