"""Devices of one district that meet each other, media and a census center: every bundle goes one at a time.

Each adapter's duty is done here as the ports ask for: a peer's bundle is settled once the other device's
step has committed, a medium's once it is in the list of files, the broker's once the center has it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from edge_agent.engine.effects import Declined, Effect, Follow, Notice, Say, Send
from edge_agent.engine.events import BundleArrived, Event, LinkDown, LinkUp, Said, Settled, TimePassed
from edge_agent.engine.links import Link, LinkShape, center_mailbox, medium_reading, medium_writing
from sync_protocol.bundle import Frame, FrameType, read_bundle, write_bundle
from sync_protocol.envelope import parse_envelope
from sync_protocol.head import parse_head
from sync_protocol.identity import Role
from sync_protocol.limits import BUNDLE_BYTES_MAX, MEDIUM_BUNDLE_BYTES_MAX
from sync_protocol.receipt import Span, sign_receipt
from sync_protocol.statement import Statement
from tests.support.device import NOW, Center, Device

Take = Callable[[bytes], tuple[bytes, ...] | None]


@dataclass
class Medium:
    """An enrolled stick: its files in the order of their names."""

    id: bytes = b"m" * 16
    files: list[bytes] = field(default_factory=list)


@dataclass
class Census:
    """A center for several origins; a receipt is published whenever an envelope came or a head asks for one."""

    centers: dict[bytes, Center]
    newest: dict[bytes, Statement] = field(default_factory=dict)

    def take(self, data: bytes) -> set[bytes]:
        """Commit a bundle and return the origins that get a receipt."""
        told: set[bytes] = set()
        for frame in read_bundle(data).frames:
            if frame.type is FrameType.HEAD:
                head = parse_head(frame.payload)
                center = self.centers[head.origin]
                if head.receipt_serial != center.serial:
                    told.add(head.origin)
                center.take(write_bundle([frame]))
            elif frame.type is FrameType.ENVELOPE:
                origin = parse_envelope(frame.payload).origin
                told.add(origin)
                self.centers[origin].take(write_bundle([frame]))
        for origin in told:
            self.newest[origin] = self.centers[origin].receipt()
        return told

    def back_up(self) -> None:
        """Let everything committed lie behind the watermark; new receipts are there for who asks."""
        for origin, center in self.centers.items():
            center.back_up()
            self.newest[origin] = center.receipt()


class District:
    """See the module."""

    def __init__(self, *devices: Device) -> None:
        self.devices = devices
        self.census = Census({device.id: Center(device) for device in devices})
        self.takers: dict[str, Take] = {}
        self.hearers: dict[str, tuple[Device, str]] = {}
        self.wire: deque[tuple[Device, Send | Say]] = deque()
        self.mailboxes: dict[str, tuple[Device, frozenset[bytes]]] = {}
        self.bundles = 0
        self.between_carriers: list[Send] = []
        self.said: list[Say] = []
        self._numbers = 0

    # Links.

    def meet(self, one: Device, other: Device, *, window: int = 4, bytes_max: int = BUNDLE_BYTES_MAX) -> list[str]:
        """Let two devices have a duplex link; return the keys of its two ends."""
        keys = [self._key(), self._key()]
        ends = ((one, keys[0], other, keys[1]), (other, keys[1], one, keys[0]))
        for _, key, far, far_key in ends:
            self.takers[key] = partial(self._hand_over, far, far_key)
            self.hearers[key] = (far, far_key)
        for near, key, far, _ in ends:
            reaches_center = any(device is far for device, _ in self.mailboxes.values())
            collects = far.role is Role.COLLECTION_POINT
            link = Link(key, LinkShape.DUPLEX, far.id, reaches_center, window, bytes_max, collects=collects)
            self.step(near, LinkUp(link))
        return keys

    def mailbox(self, device: Device) -> str:
        """Give a device its way to the center."""
        key = self._key()
        self.takers[key] = self._commit
        self.mailboxes[key] = (device, frozenset())
        self.step(
            device,
            LinkUp(center_mailbox(key, bundles_in_flight_max=4, bundle_bytes_max=BUNDLE_BYTES_MAX, remembered=True)),
        )
        return key

    def plug_in(self, device: Device, medium: Medium, *, window: int = 1) -> str:
        """Let a device read a medium whole, in order, and then leave what is due; the caller runs and pulls it."""
        reading, key = self._key(), self._key()
        self.step(device, LinkUp(medium_reading(reading, medium.id)))
        for file in medium.files:
            self.step(device, BundleArrived(reading, file))
        self.step(device, LinkDown(reading))
        self.takers[key] = medium.files.append
        link = medium_writing(key, medium.id, ids_in(*medium.files), bundle_bytes_max=MEDIUM_BUNDLE_BYTES_MAX)
        self.step(device, LinkUp(replace(link, bundles_in_flight_max=window)))
        return key

    def part(self, *keys: str) -> None:
        """Cut links; what is on the wire of one is lost."""
        for device in self.devices:
            for key in keys:
                if device.store is not None:
                    self.step(device, LinkDown(key))
        for key in keys:
            self.takers.pop(key, None)
            self.mailboxes.pop(key, None)
        self.wire = deque((device, send) for device, send in self.wire if send.link_key in self.takers)

    def _key(self) -> str:
        self._numbers += 1
        return f"link {self._numbers}"

    # Steps.

    def step(self, device: Device, event: Event) -> list[Effect]:
        effects = device.step(event)
        for effect in effects:
            if isinstance(effect, Send | Say):
                self.wire.append((device, effect))
            elif isinstance(effect, Follow):
                self._follow(effect)
        return effects

    def run(self, bundles_max: int = 1_000_000, *, lose_last_answer: bool = False) -> int:
        """Carry bundles until nobody sends any, or so many have gone; return how many went."""
        gone = 0
        while self.wire and gone < bundles_max:
            device, send = self.wire.popleft()
            if isinstance(send, Say):
                self._speak(send)
                continue
            take = self.takers.get(send.link_key)
            if take is None:
                continue
            gone += 1
            answered = not (lose_last_answer and gone == bundles_max)
            if send.link_key in self.mailboxes:
                # A broker answers before any consumer has seen the bundle.
                if answered:
                    self.step(device, Settled(send.link_key, send.token, True))
                take(send.data)
                continue
            declined = take(send.data) or ()
            self.between_carriers.append(send)
            if answered:
                self.step(device, Settled(send.link_key, send.token, True, declined))
        self.bundles += gone
        return gone

    def sent_by(self, device: Device) -> list[Send]:
        """Let everybody speak, but carry no bundle; return those that wait on the wire for a device's links."""
        while said := next((one for _, one in self.wire if isinstance(one, Say)), None):
            self.wire = deque(entry for entry in self.wire if entry[1] is not said)
            self._speak(said)
        return [one for near, one in self.wire if near is device and isinstance(one, Send)]

    def wait(self, microseconds: int, *, by: int) -> int:
        """Let time pass in strides, running after each; return how many bundles went."""
        gone = 0
        for _ in range(microseconds // by):
            for device in self.devices:
                device.now += by
                if device.store is not None:
                    self.step(device, TimePassed())
            gone += self.run(10_000)
        return gone

    def _speak(self, said: Say) -> None:
        if said.link_key in self.takers:
            self.said.append(said)
            far, far_key = self.hearers[said.link_key]
            self.step(far, Said(far_key, said.message))

    def _hand_over(self, far: Device, far_key: str, data: bytes) -> tuple[bytes, ...]:
        effects = self.step(far, BundleArrived(far_key, data))
        return tuple(one for effect in effects if isinstance(effect, Declined) for one in effect.ids)

    def _commit(self, data: bytes) -> None:
        for origin in self.census.take(data):
            self.publish(origin)

    def publish(self, *origins: bytes) -> None:
        """Send the newest receipts to all who follow these origins."""
        for key, (device, followed) in list(self.mailboxes.items()):
            for origin in origins:
                if origin in followed:
                    device_end = BundleArrived(key, write_bundle([_frame(self.census.newest[origin])]))
                    self.step(device, device_end)

    def _follow(self, follow: Follow) -> None:
        device, before = self.mailboxes[follow.link_key]
        self.mailboxes[follow.link_key] = (device, follow.origins)
        retained = [self.census.newest[one] for one in sorted(follow.origins - before) if one in self.census.newest]
        for statement in retained:
            self.step(device, BundleArrived(follow.link_key, write_bundle([_frame(statement)])))


def ids_in(*bundles: bytes) -> frozenset[bytes]:
    """Return the ids of the envelopes in bundles that are intact."""
    frames = [frame for data in bundles for frame in read_bundle(data, MEDIUM_BUNDLE_BYTES_MAX).frames]
    return frozenset(parse_envelope(frame.payload).id for frame in frames if frame.type is FrameType.ENVELOPE)


def _frame(statement: Statement) -> Frame:
    return Frame(FrameType.STATEMENT, statement.data)


def open_rows(device: Device) -> list[tuple[object, ...]]:
    """Return the places of own envelopes that are not marked."""
    return device.rows("sequence", "own = 1 AND status IS NULL")


def carried(device: Device) -> int:
    """Return how many envelopes of others a device carries."""
    return len(device.rows("number", "own = 0"))


def refusals(devices: Sequence[Device]) -> list[Notice]:
    """Return what any of the devices refused."""
    return [notice for device in devices for notice in device.notices("arrival_refused")]


def fill(device: Device, envelopes: int, body_bytes: int = 20) -> None:
    noise = random.Random(f"{device.name} {envelopes}")
    for number in range(envelopes):
        body = b'{"x":"%s"}' % noise.randbytes(body_bytes // 2).hex().encode()
        device.submit(f"{device.name} {number} {next(device.requests)}", body)


def data_of(device: Device, *sequences: int, own: int = 1) -> list[Frame]:
    marks = ",".join(str(sequence) for sequence in sequences)
    rows = device.rows("data", f"own = {own} AND sequence IN ({marks})")
    return [Frame(FrameType.ENVELOPE, data) for (data,) in rows if isinstance(data, bytes)]


def bring(device: Device, key: str, *frames: Frame | Statement) -> None:
    """Let frames come in over a link, as if the far end had sent them."""
    whole = [one if isinstance(one, Frame) else Frame(FrameType.STATEMENT, one.data) for one in frames]
    device.step(BundleArrived(key, write_bundle(whole)))


def foreign_receipt(device: Device, *spans: Span, serial: int, watermark: int = NOW) -> Statement:
    """Return a receipt for another; what `committed` and `held` list is behind its watermark unless that is said."""
    return sign_receipt(device.authority.receipts, origin=device.id, serial=serial, watermark=watermark, spans=spans)


def marked(device: Device) -> int:
    return len(device.rows("number", "own = 1 AND status IS NOT NULL"))


def purged(device: Device) -> int:
    return len(device.rows("number", "own = 1 AND data IS NULL"))


def meet_by_hand(device: Device, far: Device) -> str:
    """Give a device one end of a duplex link whose other end is the test."""
    for send in device.link_up(shape=LinkShape.DUPLEX, far_end=far.id):
        device.settle(send)
    return device.link
