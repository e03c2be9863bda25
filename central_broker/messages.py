"""One MQTT message as the center reads it, and what of several messages is to be recorded together. Sans-I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from central_broker.acceptance import Ignored, accept, arrival_of, hold, learn_keys
from central_broker.directory import Directory
from central_broker.storage.batch_records import (
    AcceptedEnvelope,
    ArrivedHead,
    Batch,
    CertifiedDevice,
    CertifiedMedium,
    HeldItem,
    HeldReason,
)
from sync_protocol import topics
from sync_protocol.bundle import BundleContents, FrameType, read_bundle
from sync_protocol.errors import ProtocolError
from sync_protocol.way import Way


@dataclass(frozen=True, slots=True)
class Message:
    """A message that has been read; `carrier` is the device that the broker vouches for, by the topic."""

    payload: bytes
    carrier: bytes | None
    received_at: int
    contents: BundleContents | None
    """None when the payload is larger than a bundle can be."""
    envelopes: int


def read_message(topic: str, payload: bytes, received_at: int) -> Message:
    """Read a message, whatever it contains; `received_at` in microseconds since 1970."""
    try:
        carrier = topics.carrier_of(topic)
    except ProtocolError:
        carrier = None
    try:
        contents = read_bundle(payload)
    except ProtocolError:
        return Message(payload, carrier, received_at, None, 0)
    envelopes = sum(frame.type == FrameType.ENVELOPE for frame in contents.frames)
    return Message(payload, carrier, received_at, contents, envelopes)


def accept_messages(messages: Sequence[Message], directory: Directory) -> tuple[Batch, Counter[str]]:
    """Return what one transaction shall record of these messages, and how many frames were ignored, by reason."""
    envelopes: list[AcceptedEnvelope] = []
    held: list[HeldItem] = []
    heads: list[ArrivedHead] = []
    devices: list[CertifiedDevice] = []
    media: list[CertifiedMedium] = []
    ignored: Counter[str] = Counter()
    for message in messages:
        if message.contents is None:
            continue
        if message.payload and message.contents.skipped and not _tells_anything(message.contents):
            # Nothing in it could be read: it is kept as it came.
            arrival = arrival_of(message.carrier, None, message.received_at)
            held.append(hold(message.payload, arrival, HeldReason.MALFORMED, "no readable frame in it"))
        trusting = learn_keys(message.contents.frames, directory)
        way: Way | None = None
        for frame in message.contents.frames:
            outcome = accept(
                frame, carrier=message.carrier, received_at=message.received_at, directory=trusting, way=way
            )
            if frame.type == FrameType.WAY:
                # Also one that cannot be read ends the one before: nothing is known then of what follows.
                way = outcome if isinstance(outcome, Way) else None
            match outcome:
                case AcceptedEnvelope():
                    envelopes.append(outcome)
                case HeldItem():
                    held.append(outcome)
                case ArrivedHead():
                    heads.append(outcome)
                case CertifiedDevice():
                    devices.append(outcome)
                case CertifiedMedium():
                    media.append(outcome)
                case Ignored():
                    ignored[f"{outcome.what}:{outcome.fault.value}"] += 1
                case Way() | None:
                    pass
    return Batch(envelopes, held, heads, devices, media), ignored


def _tells_anything(contents: BundleContents) -> bool:
    """Tell whether there is a frame that means something by itself, which a way does not."""
    return any(frame.type != FrameType.WAY for frame in contents.frames)
