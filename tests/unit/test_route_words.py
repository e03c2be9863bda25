"""What commands of the center say of routes."""

from __future__ import annotations

import pytest

from central_broker.commands.routes import counts_document, counts_words, route_words
from central_broker.storage.batch_records import Route
from central_broker.storage.inquiry_records import RouteCount


@pytest.mark.parametrize(
    ("route", "hops", "words"),
    [
        (None, None, ""),
        (Route.VPN, 0, "vpn"),
        (Route.ONLINE, 0, "online"),
        (Route.MESH, 1, "mesh, 1 hop"),
        (Route.USB, 255, "usb, 255 hops"),
        (Route.RELAY, None, "relay"),
    ],
)
def test_a_route_is_said_with_its_hops_where_there_are_any(route: Route | None, hops: int | None, words: str) -> None:
    assert route_words(route, hops) == words


def test_counts_by_route_are_said_with_mean_hops_where_they_mean_something() -> None:
    counts = [RouteCount(Route.VPN, 409, 0.0), RouteCount(Route.MESH, 3, 5 / 3), RouteCount(Route.RELAY, 2, None)]
    assert counts_words(counts) == "409 by vpn, 3 by mesh (1.7 hops on average), 2 by relay"
    assert counts_document(counts) == {
        "vpn": {"envelopes": 409, "hops_mean": 0.0},
        "mesh": {"envelopes": 3, "hops_mean": 1.67},
        "relay": {"envelopes": 2, "hops_mean": None},
    }
    assert counts_words([]) == ""
