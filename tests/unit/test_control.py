"""What the daemon tells of itself in one line."""

from typing import Any

from edge_agent.status_document import LinkStatus, status_line

LINK = LinkStatus("VPN by wg0", "10.8.0.1 port 8883", True, 1, None, None)


def test_media_in_place_come_before_the_queue_and_alarms_before_both() -> None:
    media: list[dict[str, Any]] = [
        {"number": "0017", "node": "/dev/sdb1", "sentence": "safe to remove"},
        {"number": None, "node": "/dev/sdc1", "sentence": "reading: do not remove it"},
    ]
    counts = {"waiting": 2, "sent": 1, "synchronised": 3, "purged": 4, "held": 0}
    document = {"envelopes": counts, "link": LINK, "media": media, "mesh": None, "alarms": ["call the center"]}
    assert status_line(document).split(" | ") == [
        "ALARM: call the center",
        "0017: safe to remove",
        "/dev/sdc1: reading: do not remove it",
        "3 waiting for their receipt, 7 synchronised, 0 held; connected (VPN by wg0)",
    ]


def test_neighbours_are_mentioned_when_there_are_any() -> None:
    counts = {"waiting": 0, "sent": 0, "synchronised": 3, "purged": 0, "held": 0}
    document = {"envelopes": counts, "link": LINK, "media": [], "alarms": []}
    connected = "0 waiting for their receipt, 3 synchronised, 0 held; connected (VPN by wg0)"
    for near, end in ((0, ""), (1, "; 1 neighbour"), (2, "; 2 neighbours")):
        assert status_line({**document, "mesh": {"neighbours": [{}] * near}}) == connected + end
