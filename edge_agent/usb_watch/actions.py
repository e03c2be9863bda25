"""What a visit to a medium asks to be done, each action with the type of its result, and what comes of a visit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

from edge_agent.engine import custody
from edge_agent.engine.custody import ChainPlace
from edge_agent.engine.identity import DeviceIdentity
from edge_agent.engine.links import Link
from edge_agent.engine.media import Enrolled, LeftAlone, judge_medium
from edge_agent.engine.store import StoreTransaction
from edge_agent.usb_watch.volume import BundleFile, Listing

Result = TypeVar("Result")


@dataclass(frozen=True)
class Action(Generic[Result]):
    """Something to be done for a visit; its result is of the type in brackets."""


@dataclass(frozen=True)
class Identify(Action[bytes | None]):
    """Read who the medium says it is."""


@dataclass(frozen=True)
class Question(Action[Result], ABC):
    """Something to be asked of the queue, or noted there, in a transaction of its own."""

    @abstractmethod
    def answer(self, transaction: StoreTransaction, device: DeviceIdentity) -> Result:
        """Ask, or note."""


@dataclass(frozen=True)
class Judge(Question["Verdict"]):
    """Judge by the authority's word whether it is one of ours."""

    identity: bytes

    def answer(self, transaction: StoreTransaction, device: DeviceIdentity) -> Verdict:
        return judge_medium(self.identity, transaction, device)


@dataclass(frozen=True)
class RecallLeft(Question[bytes | None]):
    """Ask what this device noted of a medium when it last left it in order, and forget it until it does so again."""

    medium: bytes

    def answer(self, transaction: StoreTransaction, device: DeviceIdentity) -> bytes | None:
        noted = transaction.left_on(self.medium)
        transaction.note_left_on(self.medium, None)
        return noted


@dataclass(frozen=True)
class NoteLeft(Question[None]):
    """Note what this device leaves on a medium."""

    medium: bytes
    digest: bytes

    def answer(self, transaction: StoreTransaction, device: DeviceIdentity) -> None:
        transaction.note_left_on(self.medium, self.digest)


@dataclass(frozen=True)
class ListFiles(Action[Listing]):
    """List what lies there."""


@dataclass(frozen=True)
class Read(Action[bytes]):
    """Read one file."""

    file: BundleFile


@dataclass(frozen=True)
class OpenLink(Action[None]):
    """Tell the engine of a link."""

    link: Link


@dataclass(frozen=True)
class Arrive(Action[None]):
    """Hand bytes to the engine over the open link; they are recorded when the link is closed, or sooner."""

    link_key: str
    data: bytes


@dataclass(frozen=True)
class NextBundle(Action["Bundle | None"]):
    """Ask what the engine wants left next; None when nothing is due."""

    link_key: str


@dataclass(frozen=True)
class Settle(Action[None]):
    """Tell the engine what became of a bundle."""

    link_key: str
    token: int
    taken: bool


@dataclass(frozen=True)
class CloseLink(Action[None]):
    """Tell the engine that the link is gone; raises VisitInterrupted unless all that arrived by it is recorded."""

    link_key: str


@dataclass(frozen=True)
class AwaitReceipts(Action[None]):
    """Wait a while, with the medium in place, for the center's word on these envelopes, where there is a way to it."""

    ids: frozenset[bytes]


@dataclass(frozen=True)
class FindReleased(Question[frozenset[bytes]]):
    """Ask which of these envelopes need not lie on a medium any more (`custody.released`)."""

    places: Sequence[ChainPlace]

    def answer(self, transaction: StoreTransaction, device: DeviceIdentity) -> frozenset[bytes]:
        return custody.released(self.places, transaction)


@dataclass(frozen=True)
class Write(Action[BundleFile]):
    """Leave a file."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Remove(Action[None]):
    """Take one of our own files away."""

    name: str


@dataclass(frozen=True)
class Sync(Action[None]):
    """Let everything reach the medium."""


@dataclass(frozen=True)
class Unmount(Action[None]):
    """Unmount; raises VolumeFault when the mount had to be left to itself."""


@dataclass(frozen=True)
class MountAgain(Action[None]):
    """Mount once more, for reading: from the medium, not from memory."""


@dataclass(frozen=True)
class PowerOff(Action[None]):
    """Let the drive rest, where it can."""


@dataclass(frozen=True)
class Tell(Action[None]):
    """Let people see how far it is."""

    stage: Stage
    progress: Progress


class VisitInterrupted(Exception):
    """The device's own side cannot go on: its queue fails, or the daemon ends. Thrown in like a VolumeFault."""


class Stage(Enum):
    """What a visit is doing."""

    READING = "reading"
    WAITING = "waiting for receipts"
    WRITING = "writing"
    CHECKING = "checking"


Verdict = Enrolled | LeftAlone


@dataclass(frozen=True)
class Bundle:
    """What the engine wants left; `token` names it in `Settle`."""

    token: int
    data: bytes


@dataclass
class Progress:
    """Counts of one visit, growing."""

    files_found: int = 0
    files_read: int = 0
    envelopes_read: int = 0
    damaged: list[BundleFile] = field(default_factory=list)
    foreign_names: int = 0
    is_as_left: bool | None = None
    """Whether this device finds of its own what it left there last; None where that is not known."""
    files_written: int = 0
    bytes_written: int = 0
    envelopes_written: int = 0
    files_removed: int = 0
    files_checked: int = 0


class Ending(Enum):
    """How a visit ended, for those who hold the medium."""

    SAFE = "safe to remove"
    FULL = "safe to remove, and full: not everything found room"
    READ_ONLY = "safe to remove, read only: nothing could be left on it"
    READ = "read, and left as it was"
    LEFT_ALONE = "not touched"
    GONE = "pulled out too early: plug it in again"
    UNREADABLE = "it fails: take another one"
    INTERRUPTED = "not finished: plug it in again"

    @property
    def is_safe(self) -> bool:
        """Whether whoever holds the medium may take it out: nothing of ours is on its way to it."""
        return self in (Ending.SAFE, Ending.FULL, Ending.READ_ONLY, Ending.READ, Ending.LEFT_ALONE)


@dataclass(frozen=True)
class Outcome:
    """What came of a visit. `medium` is None before it was known; `detail` is for a log."""

    ending: Ending
    medium: Enrolled | None
    progress: Progress
    detail: str = ""


@dataclass(frozen=True)
class Visitor:
    """Who visits, and under which names: `nonce` (16 hex digits) is drawn for this visit, `device` is the folder.

    Who `leaves` nothing only reads, and that from anything: bundles are verified by what is in them.
    """

    device: str
    nonce: str
    link_key: str
    leaves: bool = True


Steps = Generator[Action[Any], Any, Result]


def do(action: Action[Result]) -> Steps[Result]:
    """Yield one action and return its result."""
    result: Result = yield action
    return result
