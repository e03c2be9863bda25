"""A visit to a medium, from its mounting to "safe to remove", as one line of actions. Sans-I/O.

    who is it ── read everything ── (wait for receipts) ── leave what is due ── tidy up ── sync, unmount
                                                                                                │
                     safe to remove ── power off ── unmount ── read back what was left ── mount again

`visit` is a generator: it yields what is to be done next and is sent the result; whoever drives it does the work on a
thread, on a simulated stick, or with a fault at any step. A `VolumeFault` that an action meets is thrown in where it
was yielded. Nothing that a visit says or forgets can lose an envelope: a medium's word never frees anybody's copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from edge_agent.engine.custody import ChainPlace
from edge_agent.engine.links import Link, medium_reading, medium_writing
from edge_agent.engine.media import Enrolled, LeftAlone
from edge_agent.usb_watch.actions import (
    Action,
    Arrive,
    AwaitReceipts,
    Bundle,
    CloseLink,
    Ending,
    FindReleased,
    Identify,
    Judge,
    ListFiles,
    MountAgain,
    NextBundle,
    NoteLeft,
    OpenLink,
    Outcome,
    PowerOff,
    Progress,
    Read,
    RecallLeft,
    Remove,
    Settle,
    Stage,
    Steps,
    Sync,
    Tell,
    Unmount,
    Verdict,
    VisitInterrupted,
    Visitor,
    Write,
    do,
)
from edge_agent.usb_watch.volume import BundleFile, FaultKind, Listing, Volume, VolumeFault
from sync_protocol.bundle import FrameType, count_envelopes, read_bundle
from sync_protocol.envelope import parse_envelope
from sync_protocol.errors import ProtocolError
from sync_protocol.limits import MEDIUM_BUNDLE_BYTES_MAX

BUNDLE_BYTES_MAX: Final = 4 * 1024 * 1024
"""One file: a slow stick writes it within seconds, so that one that is pulled out early still has complete ones."""

_NUMBER_MAX: Final = 99_999

ENVELOPES_MAX: Final = 200_000
"""Envelopes that a visit keeps in mind, some 80 MB: ten districts' month. A stick made to fill our memory has more."""


READ_BYTES_MAX: Final = 4 << 30
"""Read in one visit: a fifth of what a whole nation's census has, and some minutes."""

_ONCE_OURS: Final = (LeftAlone.NOT_ACTIVE, LeftAlone.EXPIRED)

_FAILURES_MAX: Final = 20
"""Files that cannot be read, before the medium is given up: each may take half a minute of the kernel's patience."""

_TOO_MUCH: Final = "there is more on it than is looked at in one visit"


def visit(visitor: Visitor) -> Steps[Outcome]:
    """Visit a mounted medium. It is unmounted in the end, however it ends."""
    walk = _Visit(visitor)
    try:
        ending = yield from walk.run()
    except VolumeFault as fault:
        yield from walk.give_up()
        return Outcome(_ENDINGS[fault.kind], walk.medium, walk.progress, str(fault))
    except VisitInterrupted as interruption:
        yield from walk.give_up()
        return Outcome(Ending.INTERRUPTED, walk.medium, walk.progress, str(interruption))
    return Outcome(ending, walk.medium, walk.progress, walk.detail)


_ENDINGS: Final = {
    FaultKind.GONE: Ending.GONE,
    FaultKind.FULL: Ending.UNREADABLE,
    FaultKind.READ_ONLY: Ending.UNREADABLE,
    FaultKind.UNREADABLE: Ending.UNREADABLE,
    FaultKind.ODD: Ending.UNREADABLE,
}
"""For faults where none is expected: a full or read-only medium is met where it is written to, and nowhere else."""


@dataclass
class _OwnFile:
    name: str
    places: tuple[ChainPlace, ...]


class _Visit:
    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self._open: str | None = None
        self._may_write = visitor.leaves
        self._own: list[_OwnFile] = []
        self._found: set[bytes] = set()
        self._written: list[tuple[BundleFile, bytes]] = []
        self._own_names: set[str] | None = None
        """Those of this device's complete files there; None when there is too much to know."""
        self._is_mounted = True
        self.medium: Enrolled | None = None
        self.progress = Progress()
        self.detail = ""

    def run(self) -> Steps[Ending]:
        if not self._visitor.leaves:
            yield from self._read(bytes.fromhex(self._visitor.nonce) * 2)
            yield from self._unmount()
            return Ending.READ
        identity = yield from do(Identify())
        verdict = yield from self._judge(identity)
        if isinstance(verdict, LeftAlone):
            if verdict in _ONCE_OURS:
                # What devices left on it before counts all the same; nothing is changed there any more.
                self._may_write = False
                yield from self._read(bytes.fromhex(self._visitor.nonce) * 2)
            return (yield from self._leave_alone(verdict))
        self.medium = verdict
        yield from self._read(verdict.medium)
        if self._found:
            yield from self._tell(Stage.WAITING)
            yield from do(AwaitReceipts(frozenset(self._found)))
        # Meanwhile the word may have come that it was called in, by a link or from the medium itself.
        verdict = yield from self._judge(identity)
        if isinstance(verdict, LeftAlone):
            return (yield from self._leave_alone(verdict))
        ending = yield from self._leave(verdict.medium)
        yield from self._check()
        if self._own_names is not None:
            yield from do(NoteLeft(verdict.medium, _digest_of(self._own_names)))
        yield from do(PowerOff())
        return ending

    def _judge(self, identity: bytes | None) -> Steps[Verdict]:
        if identity is None:
            return LeftAlone.UNKNOWN
        verdict: Verdict = yield from do(Judge(identity))
        return verdict

    def _leave_alone(self, why: LeftAlone) -> Steps[Ending]:
        self.detail = why.value
        yield from self._unmount()
        return Ending.LEFT_ALONE

    def give_up(self) -> Steps[None]:
        """Leave nothing behind: neither a link nor a mount."""
        with suppress(VisitInterrupted):
            yield from self._close_link()
        try:
            yield from self._unmount()
        except VolumeFault as fault:
            self.detail = str(fault)

    # Reading.

    def _read(self, medium: bytes) -> Steps[None]:
        listing = yield from do(ListFiles())
        self.progress.files_found = len(listing.files)
        self.progress.foreign_names = listing.foreign
        if not listing.is_whole:
            self.detail = _TOO_MUCH
        if self._may_write:
            yield from self._recognise(medium, listing)
        yield from self._tell(Stage.READING)
        key = yield from self._open_link(medium_reading(f"{self._visitor.link_key}-reading", medium))
        bytes_read = failures = 0
        for file in listing.files:
            try:
                data = yield from do(Read(file))
            except VolumeFault as fault:
                failures += fault.kind is FaultKind.UNREADABLE
                if fault.kind not in (FaultKind.UNREADABLE, FaultKind.ODD) or failures > _FAILURES_MAX:
                    raise
                self.progress.damaged.append(file)
                continue
            bytes_read += len(data)
            yield from self._take(key, file, data)
            if bytes_read > READ_BYTES_MAX:
                self.detail = _TOO_MUCH
                break
        yield from self._close_link()
        if self._may_write:
            # What was being written when the medium was pulled out is written anew.
            for part in listing.parts:
                yield from self._remove(part)

    def _recognise(self, medium: bytes, listing: Listing) -> Steps[None]:
        """Tell a copy of the medium, or an older state of it, by what is there of our own: every visit's names differ.

        Nothing follows from it but a word to people: what lies there is read in any case.
        """
        noted = yield from do(RecallLeft(medium))
        if not listing.is_whole:
            return
        self._own_names = {file.name for file in listing.files if file.device == self._visitor.device}
        if noted is not None:
            self.progress.is_as_left = noted == _digest_of(self._own_names)

    def _take(self, key: str, file: BundleFile, data: bytes) -> Steps[None]:
        places, is_intact = _places_in(data)
        self.progress.files_read += 1
        self.progress.envelopes_read += len(places)
        if not is_intact:
            self.progress.damaged.append(file)
        if self.progress.envelopes_read > ENVELOPES_MAX:
            # Taken in like all others; but left again if need be, and if it is our own, not taken away.
            self.detail = "there are more envelopes on it than are kept in mind in one visit"
        else:
            self._found.update(place.id for place in places)
            if file.device == self._visitor.device:
                self._own.append(_OwnFile(file.name, places))
        yield from do(Arrive(key, data))
        yield from self._tell(Stage.READING)

    # Writing.

    def _leave(self, medium: bytes) -> Steps[Ending]:
        link = medium_writing(
            f"{self._visitor.link_key}-writing", medium, frozenset(self._found), bundle_bytes_max=BUNDLE_BYTES_MAX
        )
        key = yield from self._open_link(link)
        ending = Ending.SAFE
        while len(self._written) < _NUMBER_MAX:
            bundle = yield from do(NextBundle(key))
            if bundle is None:
                break
            refused = yield from self._write(bundle)
            if refused is FaultKind.FULL and (yield from self._tidy_up()):
                refused = yield from self._write(bundle)
            yield from do(Settle(key, bundle.token, taken=refused is None))
            if refused is not None:
                ending = Ending.FULL if refused is FaultKind.FULL else Ending.READ_ONLY
                break
        yield from self._close_link()
        if ending is not Ending.READ_ONLY:
            yield from self._tidy_up()
            yield from do(Sync())
        return ending

    def _write(self, bundle: Bundle) -> Steps[FaultKind | None]:
        """Leave a file; return why not, where that is no failure of the medium."""
        name = f"{self._visitor.nonce}-{len(self._written):05d}.CNS"
        try:
            file = yield from do(Write(name, bundle.data))
        except VolumeFault as fault:
            if fault.kind is FaultKind.READ_ONLY and not self._written:
                return fault.kind
            if fault.kind is not FaultKind.FULL:
                raise
            yield from do(Remove(f"{name}.PART"))
            return fault.kind
        self._written.append((file, sha256(bundle.data).digest()))
        if self._own_names is not None:
            self._own_names.add(name)
        self.progress.files_written += 1
        self.progress.bytes_written += len(bundle.data)
        self.progress.envelopes_written += count_envelopes(bundle.data)
        yield from self._tell(Stage.WRITING)
        return None

    def _tidy_up(self) -> Steps[bool]:
        """Take our own files away of which nothing is needed any more; say whether there were any."""
        places = list({place.id: place for own in self._own for place in own.places}.values())
        released = yield from do(FindReleased(places))
        done = [own for own in self._own if all(place.id in released for place in own.places)]
        for own in done:
            yield from self._remove(own.name)
            self._own.remove(own)
        return bool(done)

    def _remove(self, name: str) -> Steps[None]:
        try:
            yield from do(Remove(name))
        except VolumeFault as fault:
            if fault.kind is not FaultKind.READ_ONLY:
                raise
            return
        if self._own_names is not None:
            self._own_names.discard(name)
        self.progress.files_removed += 1

    # Checking.

    def _check(self) -> Steps[None]:
        """Read back what was left, from the medium itself; raises VolumeFault when it is not what was written."""
        yield from self._unmount()
        if not self._written:
            return
        yield from self._tell(Stage.CHECKING)
        yield from do(MountAgain())
        self._is_mounted = True
        for file, digest in self._written:
            data = yield from do(Read(file))
            if sha256(data).digest() != digest:
                raise VolumeFault(FaultKind.UNREADABLE, f"{file.name} does not read as it was written")
            self.progress.files_checked += 1
            yield from self._tell(Stage.CHECKING)
        yield from self._unmount()

    # Small steps.

    def _open_link(self, link: Link) -> Steps[str]:
        self._open = link.key
        yield from do(OpenLink(link))
        return link.key

    def _close_link(self) -> Steps[None]:
        if self._open is not None:
            key, self._open = self._open, None
            yield from do(CloseLink(key))

    def _unmount(self) -> Steps[None]:
        if self._is_mounted:
            self._is_mounted = False
            yield from do(Unmount())

    def _tell(self, stage: Stage) -> Steps[None]:
        yield from do(Tell(stage, self.progress))


def perform(action: Action[Any], volume: Volume) -> Any:
    """Do one of the actions that are about the files of a mounted medium; raises VolumeFault."""
    match action:
        case Identify():
            return volume.identity()
        case ListFiles():
            return volume.listing()
        case Read(file):
            return volume.read(file)
        case Write(name, data):
            return volume.write(name, data)
        case Remove(name):
            return volume.remove(name)
        case Sync():
            return volume.sync()
    raise TypeError(f"a visit asked for {type(action).__name__}, which nobody does")


def _digest_of(names: Iterable[str]) -> bytes:
    return sha256("\n".join(sorted(names)).encode()).digest()


def _places_in(data: bytes) -> tuple[tuple[ChainPlace, ...], bool]:
    """Return where the envelopes of a bundle belong, and whether the bundle is intact."""
    try:
        contents = read_bundle(data, MEDIUM_BUNDLE_BYTES_MAX)
    except ProtocolError:
        return (), False
    places = []
    for frame in contents.frames:
        if frame.type is FrameType.ENVELOPE:
            try:
                places.append(ChainPlace.of(parse_envelope(frame.payload)))
            except ProtocolError:
                continue
    return tuple(places), contents.intact
