"""How routes, hops and carriers are said to people, wherever a command shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from central_broker.storage.batch_records import Route
from central_broker.storage.inquiry_records import DeviceRecord, RouteCount


def route_words(route: Route | None, hops: int | None) -> str:
    """Such as "vpn", "online", "mesh, 2 hops" or "relay"; nothing where nothing is known."""
    if route is None:
        return ""
    if route.is_direct or hops is None:
        return route.value
    return f"{route.value}, {hops} hop{'' if hops == 1 else 's'}"


def carrier_words(record: DeviceRecord, names: Mapping[bytes, str]) -> str:
    """Return the name of who brought a device's last sign of life; nothing when it was the device itself."""
    if record.last_carrier is None or record.last_carrier == record.device:
        return ""
    return names.get(record.last_carrier, record.last_carrier.hex())


def counts_words(counts: Sequence[RouteCount]) -> str:
    """Such as "409 by vpn, 31 by mesh (1.6 hops on average), 12 by relay"."""
    return ", ".join(_count_words(count) for count in counts)


def counts_document(counts: Sequence[RouteCount]) -> dict[str, dict[str, int | float | None]]:
    """Return counts as JSON shows them, a key for each route that occurs."""
    return {
        count.route.value: {
            "envelopes": count.envelopes,
            "hops_mean": None if count.hops_mean is None else round(count.hops_mean, 2),
        }
        for count in counts
    }


def _count_words(count: RouteCount) -> str:
    hops = "" if count.route.is_direct or count.hops_mean is None else f" ({count.hops_mean:.1f} hops on average)"
    return f"{count.envelopes} by {count.route.value}{hops}"
