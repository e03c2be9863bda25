"""What the daemon tells of itself in one line."""

from typing import Any

import pytest

from edge_agent.control import LinkStatus, status_line, visit_sentence

LINK = LinkStatus("VPN by wg0", "10.8.0.1 port 8883", True, 1, None, None)


def document(*media: dict[str, Any], alarms: tuple[str, ...] = ()) -> dict[str, Any]:
    counts = {"waiting": 2, "sent": 1, "synchronised": 3, "purged": 4, "held": 0}
    return {"envelopes": counts, "link": LINK, "media": list(media), "alarms": list(alarms)}


def visit(**fields: object) -> dict[str, Any]:
    return {"node": "/dev/sdb1", "number": None, "stage": None, "ending": None, "sentence": "", "detail": "", **fields}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "mounting: do not remove it"),
        ({"stage": "writing"}, "writing: do not remove it"),
        ({"ending": "safe", "sentence": "safe to remove"}, "safe to remove"),
        ({"ending": "gone", "sentence": "pulled out", "detail": "no device"}, "pulled out (no device)"),
    ],
)
def test_a_visit_is_told_in_a_sentence(fields: dict[str, object], sentence: str) -> None:
    assert visit_sentence(visit(**fields)) == sentence


def test_media_in_place_come_before_the_queue_and_alarms_before_both() -> None:
    media = (visit(number="0017", ending="safe", sentence="safe to remove"), visit(stage="reading"))
    line = status_line(document(*media, alarms=("call the center",)))
    assert line.split(" | ") == [
        "ALARM: call the center",
        "medium 0017: safe to remove",
        "medium at /dev/sdb1: reading: do not remove it",
        "3 waiting for their receipt, 7 synchronised, 0 held; connected (VPN by wg0)",
    ]
