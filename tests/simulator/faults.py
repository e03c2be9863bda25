"""Which faults strike, when, and in what state they found their victim.

Every possible fault is drawn from the stream of the node it would strike, so a fault that is added elsewhere reshuffles
nothing here. A fault that struck has a name; a world can be lived again with some of them suppressed, which is how a
long story is made short.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import StrEnum
from random import Random

from tests.simulator.clockwork import Chance


class Fault(StrEnum):
    """Everything that can go wrong, in the words of the report."""

    CUT_BEFORE_COMMIT = "power cut before the commit"
    CUT_AFTER_COMMIT = "power cut after the commit, before the mirror"
    CUT_BEFORE_MIRROR_IS_DURABLE = "power cut between writing and syncing the mirror"
    CUT_AFTER_MIRROR = "power cut after the mirror, before any effect"
    CUT_AMONG_EFFECTS = "power cut among the effects"
    CUT_WHEN_IDLE = "power cut between two steps"
    CUT_INSIDE_DISK = "power cut inside a disk write or sync"
    KILL = "process killed"
    DISK_FULL = "disk full for hours"
    IO_ERROR_AT_BEGIN = "I/O error at the start of a transaction"
    IO_ERROR_AT_COMMIT = "I/O error at a commit"
    MIRROR_UNWRITABLE = "mirror cannot be written"
    MIRROR_UNSYNCED = "mirror cannot be synced"
    CLOCK_JUMP = "clock jumps by years"
    CLOCK_BACK = "clock jumps back"
    LINK_CUT = "link cut with bundles in flight"
    SEND_LOST = "bundle lost with its connection"
    SLOW = "message delayed for hours"
    LATE = "message delivered again up to 30 days later"
    DUPLICATE = "message delivered twice"
    BROKER_FORGETS = "broker acknowledges and forgets"
    BROKER_CRASH = "broker crash: sessions, queues and retained messages lost"
    BROKER_REFUSES = "broker refuses a bundle"
    RECEIPT_LOST = "receipt lost on its way"
    RECEIPT_STALE = "stale receipt delivered"
    RECEIPT_FOREIGN = "another origin's receipt delivered"
    RECEIPT_FORGED = "forged or damaged statement delivered"
    ENVELOPE_FORGED = "envelope and head forged in another's name"
    CONSUMER_DIES_BEFORE_COMMIT = "consumer dies before its commit"
    CONSUMER_DIES_AFTER_COMMIT = "consumer dies between commit and acknowledgement"
    COMMIT_ANSWER_LOST = "commit done, its answer lost"
    DATABASE_DOWN = "census database down"
    PUBLISHER_DIES_BEFORE_ISSUE = "receipt publisher dies before signing"
    PUBLISHER_DIES_AFTER_ISSUE = "receipt publisher dies between signing and publishing"
    PUBLISHER_DIES_AMONG_RECEIPTS = "receipt publisher dies among its receipts"
    CENTER_RESTORED = "census database restored from a backup"
    BACKUP_UNRECORDED = "backup made, crash before its watermark"
    CENTER_CLOCK_BACK = "center's clock set back"
    QUEUE_ROLLED_BACK = "tablet's queue restored from a copy, mirror kept"
    TABLET_ROLLED_BACK = "whole tablet restored from an image"
    TABLET_CLONED = "tablet cloned"
    TABLET_DESTROYED = "tablet destroyed"
    TABLET_STOLEN = "tablet stolen, and back on the network later"
    REVOKED = "device revoked"
    REPLACED = "device replaced and enrolled anew"
    REINSTATED = "device active again after being lost"
    RECIPIENT_KEY_ROTATED = "center's recipient key rotated"
    RECEIPT_KEY_ROTATED = "receipt key rotated"
    FORM_UNKNOWN = "form not known at the center yet"
    BUNDLE_TORN = "bundle torn"
    BUNDLE_ROTTEN = "bundle rotten"
    STICK_PULLED = "stick pulled while it was written"
    STICK_TWIN = "stick swapped for a copy of itself"
    STICK_LOST = "stick lost"
    STICK_CALLED_IN = "stick called in by the center, and still passed around"
    STICK_REINSTATED = "stick good again after it was called in"
    STICK_FULL = "stick full"
    STICK_READ_ONLY = "stick read-only"
    STICK_FAILING = "stick fails at some call"
    PARTITION = "neighbours parted in the middle of an exchange"


class Faults:
    """All faults of one world."""

    def __init__(self, chance: Chance, suppressed: Collection[str] = ()) -> None:
        self._chance = chance
        self._suppressed = frozenset(suppressed)
        self._streams: dict[str, Random] = {}
        self._draws: Counter[tuple[str, Fault]] = Counter()
        self.struck: list[str] = []
        self.states: Counter[tuple[Fault, str]] = Counter()
        self.stopped = False
        self.on_strike: Callable[[str, Fault], None] = lambda _node, _fault: None

    def strikes(self, node: str, fault: Fault, probability: float, states: Iterable[str] = ()) -> bool:
        """Draw whether a fault strikes a node now; if it does, note in what states it found it."""
        if probability <= 0:
            return False
        self._draws[node, fault] += 1
        if self._stream(f"{node}/{fault.name}").random() >= probability or self.stopped:
            return False
        if not self._counts(node, fault, self._draws[node, fault]):
            return False
        self.note(node, fault, states)
        return True

    def _stream(self, name: str) -> Random:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = self._chance.stream("fault", name)
        return stream

    def _counts(self, node: str, fault: Fault, draw: int) -> bool:
        name = f"{node}/{fault.name}/{draw}"
        if name in self._suppressed:
            return False
        self.struck.append(name)
        return True

    def pick(self, node: str, faults: Sequence[Fault], probability: float) -> Fault | None:
        """Draw whether one of several faults strikes a node now, and which; the caller notes its states."""
        if probability <= 0 or self.stopped:
            return None
        stream = self._stream(f"{node}/pick")
        drawn = stream.random()
        self._draws[node, faults[0]] += 1
        if drawn >= probability:
            return None
        fault = stream.choice(faults)
        return fault if self._counts(node, fault, self._draws[node, faults[0]]) else None

    def note(self, node: str, fault: Fault, states: Iterable[str] = ()) -> None:
        """Note a fault that is made to happen, by chance or by a story."""
        self.states[fault, "at all"] += 1
        for state in states:
            self.states[fault, state] += 1
        self.on_strike(node, fault)
