"""One MQTT message as the center reads it, and what of several messages is to be recorded together. Sans-I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from central_broker.acceptance import Ignored, accept, hold, learn_keys
from central_broker.directory import Directory
from central_broker.storage.contract import (
    AcceptedEnvelope,
    Arrival,
    ArrivedHead,
    Batch,
    CertifiedDevice,
    CertifiedMedium,
    HeldItem,
    HeldReason,
    Route,
)
from sync_protocol import topics
from sync_protocol.bundle import BundleContents, FrameType, read_bundle
from sync_protocol.errors import ProtocolError


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
        if not message.contents.frames and message.payload and message.contents.skipped:
            # Nothing in it could be read: it is kept as it came.
            arrival = Arrival(message.carrier, Route.RELAY, message.received_at)
            held.append(hold(message.payload, arrival, HeldReason.MALFORMED, "no readable frame in it"))
        trusting = learn_keys(message.contents.frames, directory)
        for frame in message.contents.frames:
            outcome = accept(frame, carrier=message.carrier, received_at=message.received_at, directory=trusting)
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
                case None:
                    pass
    return Batch(envelopes, held, heads, devices, media), ignored
