"""A device of the field without its transports: the real engine, stepper, queue and mirror, and a center to answer it.

Keys come from seeds, time is a number, randomness is given. `Center` is a model: it keeps what arrives in memory, but
opens and judges it with the real protocol, and signs real receipts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count, groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_agent.engine.effects import Accepted, Effect, Notice, Refused, Send
from edge_agent.engine.engine import Engine
from edge_agent.engine.events import (
    BundleArrived,
    Event,
    LinkDown,
    LinkUp,
    Settled,
    Started,
    Submission,
    Submitted,
    TimePassed,
)
from edge_agent.engine.identity import DeviceIdentity
from edge_agent.engine.links import Link, LinkShape, center_mailbox
from edge_agent.engine.settings import EngineSettings
from edge_agent.engine.stepper import Stepper
from edge_agent.engine.store import HeadMirror, Store
from edge_agent.queue.disk import SYSTEM_DISK, Disk
from edge_agent.queue.mirror import FileHeadMirror
from edge_agent.queue.store import QueueStore
from sync_protocol.bundle import Frame, FrameType, read_bundle, write_bundle
from sync_protocol.content import Questionnaire, decode_content
from sync_protocol.envelope import Envelope, parse_envelope
from sync_protocol.head import Head, parse_head
from sync_protocol.identity import (
    Role,
    Standing,
    certify_device,
    certify_key,
    device_name,
    publish_recipient_key,
)
from sync_protocol.keys import RecipientPrivateKey, SigningKey, VerifyingKey
from sync_protocol.limits import BUNDLE_BYTES_MAX
from sync_protocol.receipt import Mark, Span, SpanStatus, sign_receipt
from sync_protocol.statement import Statement, Usage

NOW = 1_790_000_000_000_000
"""Microseconds since 1970: a day in the autumn of 2026."""
SECOND, MINUTE, HOUR, DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000


def seed(name: str) -> bytes:
    return sha256(name.encode()).digest()


class Authority:
    """The Department's keys, and the center's."""

    def __init__(self) -> None:
        self.root, self.issuer, self.receipts, self.content = (
            SigningKey(seed(f"authority {name}")) for name in ("root", "issuer", "receipts", "content")
        )
        self.center = RecipientPrivateKey(seed("authority center"))
        usages = ((self.issuer, Usage.CERTIFICATES), (self.receipts, Usage.RECEIPTS), (self.content, Usage.CONTENT))
        self.statements = [certify_key(self.root, public_key=k.public_bytes, usage=u, serial=1) for k, u in usages]
        self.statements.append(
            publish_recipient_key(self.issuer, public_key=self.center.public_key.public_bytes, serial=1)
        )

    def withdraw(self, key: SigningKey, serial: int = 2) -> Statement:
        return certify_key(self.root, public_key=key.public_bytes, usage=Usage.NONE, serial=serial)

    def certify(self, signer: SigningKey, name: str, role: Role = Role.TABLET) -> Statement:
        return certify_device(
            self.issuer,
            public_key=signer.public_bytes,
            role=role,
            standing=Standing.ACTIVE,
            issued_at=NOW,
            name=name,
            serial=1,
        )


def questionnaire(body: bytes = b'{"persons":[]}', instance_id: str = "uuid:1") -> Questionnaire:
    return Questionnaire("household", "1", instance_id, "application/json", 0, body)


def key_of(text: str) -> bytes:
    return sha256(b"key " + text.encode()).digest()


@contextmanager
def memory_folder() -> Iterator[Path]:
    """Yield a folder for tests of many steps that end no process: in memory where there is such a file system."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@dataclass
class Device:
    """One device in a directory; `start` and `stop` it as often as needed. Everything given out is collected."""

    directory: Path
    authority: Authority
    name: str = "tablet-1"
    settings: EngineSettings = field(default_factory=EngineSettings)
    randomness: Callable[[], float] = lambda: 0.5
    wrap_store: Callable[[QueueStore], Store] = lambda store: store
    wrap_mirror: Callable[[FileHeadMirror], HeadMirror] = lambda mirror: mirror
    now: int = NOW
    disk: Disk = SYSTEM_DISK
    role: Role = Role.TABLET

    def __post_init__(self) -> None:
        self.signer = SigningKey(seed(f"device {self.name}"))
        self.id = device_name(self.signer.public_bytes)
        self.certificate = self.authority.certify(self.signer, self.name, self.role)
        self.effects: list[Effect] = []
        self.requests = count(1)
        self.links = count(1)
        self.store: QueueStore | None = None

    def start(self) -> Device:
        self.store = QueueStore(self.directory, disk=self.disk)
        self.mirror = FileHeadMirror(self.directory, disk=self.disk)
        identity = DeviceIdentity(self.id, self.signer, self.authority.root.public_bytes)
        self.engine = Engine(identity, self.settings, self.randomness)
        self.stepper = Stepper(self.engine, self.wrap_store(self.store), self.wrap_mirror(self.mirror))
        statements = tuple(statement.data for statement in [*self.authority.statements, self.certificate])
        self.step(Started(self.mirror.position(), statements))
        return self

    def stop(self) -> None:
        """End as a killed process does: nothing is said to the engine."""
        if self.store is not None:
            self.store.close()
            self.mirror.close()
            self.store = None

    def restart(self) -> Device:
        self.stop()
        return self.start()

    def step(self, event: Event) -> list[Effect]:
        effects = self.stepper.step(event, self.now)
        self.effects.extend(effects)
        return effects

    def tick(self, microseconds: int = 0) -> list[Send]:
        self.now += microseconds
        return sends(self.step(TimePassed()))

    def submit_all(self, *submissions: tuple[str, Questionnaire]) -> list[Accepted | Refused]:
        numbered = tuple(Submission(next(self.requests), key_of(key), one) for key, one in submissions)
        return [effect for effect in self.step(Submitted(numbered)) if isinstance(effect, Accepted | Refused)]

    def submit(self, text: str = "1", body: bytes | None = None) -> Accepted:
        body = f'{{"household":"{text}"}}'.encode() if body is None else body
        (answer,) = self.submit_all((text, questionnaire(body, f"uuid:{text}")))
        if isinstance(answer, Refused):
            raise TypeError(answer)
        return answer

    def link_up(
        self,
        *,
        window: int = 20,
        bytes_max: int = BUNDLE_BYTES_MAX,
        remembered: bool = True,
        shape: LinkShape = LinkShape.MAILBOX,
        far_end: bytes = bytes(16),
    ) -> list[Send]:
        key = f"link-{next(self.links)}"
        if shape is LinkShape.MAILBOX:
            link = center_mailbox(key, bundles_in_flight_max=window, bundle_bytes_max=bytes_max, remembered=remembered)
        else:
            link = Link(key, shape, far_end, False, window, bytes_max, remembered)
        self.link = key
        return sends(self.step(LinkUp(link)))

    def link_down(self) -> None:
        self.step(LinkDown(self.link))

    def settle(self, send: Send, *, taken: bool = True) -> list[Send]:
        return sends(self.step(Settled(send.link_key, send.token, taken)))

    def settle_all(self, waiting: Iterable[Send]) -> list[Send]:
        """Settle these and what follows from them; return everything that was sent on the way, them included."""
        everything, open_sends = [], list(waiting)
        while open_sends:
            send = open_sends.pop(0)
            everything.append(send)
            open_sends.extend(self.settle(send))
        return everything

    def receive(self, *statements: Statement | Frame) -> list[Effect]:
        frames = [one if isinstance(one, Frame) else Frame(FrameType.STATEMENT, one.data) for one in statements]
        return self.step(BundleArrived(self.link, write_bundle(frames)))

    def receive_on_new_link(self, *spans: Span) -> None:
        """Bring a receipt newer than every one before, on a link of its own."""
        self.link_up()
        serial = next(self.requests) + 1_000_000
        self.receive(receipt(self, *spans, serial=serial))
        self.link_down()

    def receive_damaged(self, *statements: Statement) -> list[Effect]:
        """Bring a bundle whose first frame is rotten."""
        data = bytearray(write_bundle(Frame(FrameType.STATEMENT, one.data) for one in statements))
        data[60] ^= 1
        return self.step(BundleArrived(self.link, bytes(data)))

    def step_quietly(self) -> list[Effect]:
        """Let time pass and settle at once whatever is sent; return the effects of the last step."""
        effects = self.step(TimePassed())
        while waiting := sends(effects):
            for send in waiting:
                effects = self.step(Settled(send.link_key, send.token, True))
        return effects

    def notices(self, event: str) -> list[Notice]:
        return [effect for effect in self.effects if isinstance(effect, Notice) and effect.event == event]

    def rows(self, columns: str, where: str = "own = 1") -> list[tuple[object, ...]]:
        if self.store is None:
            raise TypeError("the device is not started")
        return self.store.connection.execute(f"SELECT {columns} FROM envelope WHERE {where} ORDER BY number").fetchall()

    def envelope_ids(self) -> list[bytes]:
        return [row[0] for row in self.rows("id") if isinstance(row[0], bytes)]


def sends(effects: Iterable[Effect]) -> list[Send]:
    return [effect for effect in effects if isinstance(effect, Send)]


def frames_of(send: Send) -> tuple[Frame, ...]:
    contents = read_bundle(send.data)
    if not contents.intact:
        raise ValueError("a device sent a damaged bundle")
    return contents.frames


def envelopes_in(waiting: Iterable[Send]) -> list[Envelope]:
    return [parse_envelope(f.payload) for send in waiting for f in frames_of(send) if f.type is FrameType.ENVELOPE]


def heads_in(waiting: Iterable[Send]) -> list[Head]:
    return [parse_head(f.payload) for send in waiting for f in frames_of(send) if f.type is FrameType.HEAD]


def committed(epoch: int, first: int, last: int, last_id: bytes, at: int = NOW) -> Span:
    return Span(epoch, first, last_id, SpanStatus.COMMITTED, (Mark(last - first + 1, at),))


def held(epoch: int, first: int, last: int, last_id: bytes, at: int = NOW) -> Span:
    return Span(epoch, first, last_id, SpanStatus.HELD, (Mark(last - first + 1, at),))


def receipt(
    device: Device, *spans: Span, serial: int = 1, watermark: int = 0, signer: SigningKey | None = None
) -> Statement:
    key = device.authority.receipts if signer is None else signer
    return sign_receipt(key, origin=device.id, serial=serial, watermark=watermark, spans=spans)


@dataclass
class Center:
    """What a census center does for one device, in memory."""

    device: Device
    clock: int = NOW
    serial: int = 0
    watermark: int = 0
    envelopes: dict[bytes, Envelope] = field(default_factory=dict)
    commits: dict[bytes, int] = field(default_factory=dict)
    stated: dict[int, tuple[int, int]] = field(default_factory=dict)
    came_again: set[bytes] = field(default_factory=set)
    """A carrier may have brought these: each ends a span."""

    def take(self, data: bytes) -> None:
        """Commit what a bundle carries; everything must be genuine."""
        verifier = VerifyingKey(self.device.signer.public_bytes)
        self.clock += 1
        for frame in read_bundle(data).frames:
            if frame.type is FrameType.HEAD:
                head = parse_head(frame.payload)
                head.verify(verifier)
                self.serial = max(self.serial, head.receipt_serial)
                self.stated[head.epoch] = max(self.stated.get(head.epoch, (0, 0)), head.order)
            elif frame.type is FrameType.ENVELOPE:
                envelope = parse_envelope(frame.payload)
                envelope.verify(verifier)
                if envelope.id in self.envelopes:
                    self.came_again.add(envelope.id)
                else:
                    self.envelopes[envelope.id], self.commits[envelope.id] = envelope, self.clock

    def back_up(self) -> Center:
        """Move the watermark to now and return a copy to restore from."""
        self.watermark = self.clock
        return deepcopy_without(self, self.device)

    def restored(self, backup: Center) -> Center:
        """Go on from a backup, at a later time; the backup names its own watermark."""
        again = deepcopy_without(backup, self.device)
        again.clock = self.clock + 1
        return again

    def receipt(self) -> Statement:
        self.serial += 1
        return receipt(self.device, *self.spans(), serial=self.serial, watermark=self.watermark)

    def spans(self) -> Sequence[Span]:
        """Return gapless runs: each link goes on with the first child that arrived; other children begin spans."""
        child: dict[tuple[int, int, bytes], Envelope] = {}
        starts: list[Envelope] = []
        for envelope in self.envelopes.values():
            parent = self.envelopes.get(envelope.previous_id)
            place = (envelope.epoch, envelope.sequence, envelope.previous_id)
            led_to = parent is not None and parent.epoch == envelope.epoch and parent.id not in self.came_again
            if led_to and place not in child:
                child[place] = envelope
            else:
                starts.append(envelope)
        spans = []
        for start in sorted(starts, key=lambda one: (one.epoch, one.sequence)):
            run, following = [start], child.get((start.epoch, start.sequence + 1, start.id))
            while following is not None:
                run.append(following)
                following = child.get((following.epoch, following.sequence + 1, following.id))
            groups = groupby(self.commits[one.id] for one in run)
            marks = tuple(Mark(len(list(group)), at) for at, group in groups)
            spans.append(Span(start.epoch, start.sequence, run[-1].id, SpanStatus.COMMITTED, marks))
        return spans

    def questionnaires(self) -> list[str]:
        """Return the instance id of every complete questionnaire, once for each time that it is in the database."""
        parts: dict[tuple[str, str], set[int]] = {}
        doubled: list[str] = []
        whole: dict[tuple[str, str], int] = {}
        for envelope in self.envelopes.values():
            metadata, _ = decode_content(envelope.open(self.device.authority.center))
            name = (metadata.instance_id, metadata.whole_digest)
            seen = parts.setdefault(name, set())
            if metadata.part in seen:
                doubled.append(metadata.instance_id)
            seen.add(metadata.part)
            whole[name] = metadata.parts
        return [name[0] for name, seen in parts.items() if len(seen) == whole[name]] + doubled


def deepcopy_without(center: Center, device: Device) -> Center:
    return deepcopy(center, {id(device): device})
