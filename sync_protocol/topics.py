"""MQTT topics (SPEC.md §6)."""

from __future__ import annotations

from typing import Final

from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.records import parse_name

UP_PREFIX: Final = "census/1/up/"
RECEIPTS_PREFIX: Final = "census/1/receipts/"
STATEMENTS: Final = "census/1/statements"
FORMS_PREFIX: Final = "census/1/forms/"
LISTS_PREFIX: Final = "census/1/lists/"
_NOT_IN_A_GROUP: Final = frozenset("/+#\0")


def up_topic(device: bytes) -> str:
    """Return the topic that a device publishes its bundles to."""
    return UP_PREFIX + device.hex()


def receipts_topic(origin: bytes) -> str:
    """Return the topic that an origin's receipts are published to."""
    return RECEIPTS_PREFIX + origin.hex()


def forms_topic(subject: bytes) -> str:
    """Return the topic that a form or form file (by its subject) is published to."""
    return FORMS_PREFIX + subject.hex()


def lists_topic(device: bytes) -> str:
    """Return the topic that counted lists for a device are published to."""
    return LISTS_PREFIX + device.hex()


def consumer_subscription(group: str) -> str:
    """Return what the consumers of one center subscribe to; raises ProtocolError (bad_field).

    The group's name is a secret of the center: who knows it may join, and draw off a share of what comes.
    """
    if not group or not _NOT_IN_A_GROUP.isdisjoint(group):
        raise ProtocolError(Fault.BAD_FIELD, "a group's name is at least one character, and none of / + # or zero")
    return f"$share/{group}/{UP_PREFIX}+"


def carrier_of(topic: str) -> bytes:
    """Return the device that published to an up topic; raises ProtocolError (bad_field)."""
    if not topic.startswith(UP_PREFIX):
        raise ProtocolError(Fault.BAD_FIELD, "not an up topic")
    return parse_name(topic.removeprefix(UP_PREFIX))
