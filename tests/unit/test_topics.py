"""Topics of the protocol (SPEC.md §6)."""

from __future__ import annotations

import pytest

from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.topics import carrier_of, consumer_subscription, up_topic

DEVICE = bytes(range(16))


def test_the_consumers_share_what_all_devices_publish_in_the_group_that_they_are_given() -> None:
    assert consumer_subscription("center-7f3a") == "$share/center-7f3a/census/1/up/+"
    assert consumer_subscription("other") == "$share/other/census/1/up/+"


@pytest.mark.parametrize("group", ["", "a/b", "+", "#", "a+", "a#b", "a\0"])
def test_a_group_that_would_mean_something_else_to_a_broker_is_refused(group: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        consumer_subscription(group)
    assert caught.value.fault is Fault.BAD_FIELD


def test_an_up_topic_names_its_carrier() -> None:
    assert carrier_of(up_topic(DEVICE)) == DEVICE


@pytest.mark.parametrize("topic", ["census/1/up/", "census/1/up/00", "census/1/receipts/" + DEVICE.hex()])
def test_another_topic_names_none(topic: str) -> None:
    with pytest.raises(ProtocolError):
        carrier_of(topic)
