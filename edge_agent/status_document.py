"""The status of the device, its links and its queue, in one document and in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_agent.engine.receipts import LAST_RECEIPT_AT, SIGNED_TIME
from edge_agent.queue import inspection
from edge_agent.queue.inspection import Query


@dataclass(frozen=True)
class LinkStatus:
    """How the way to the center stands; None where the daemon does not run."""

    vpn: str
    broker: str
    connected: bool
    connected_since: int | None
    last_problem: str | None
    problem_since: int | None


def status_document(
    query: Query,
    *,
    device: bytes,
    link: LinkStatus | None,
    silence_alarm: int,
    now: int,
    media: Sequence[Mapping[str, Any]] = (),
    mesh: Mapping[str, Any] | None = None,
    openrosa: Mapping[str, Any] | None = None,
    online: Mapping[str, Any] | None = None,
    counted_list: Callable[[Query], Mapping[str, Any] | None] = lambda _: None,
) -> dict[str, Any]:
    """Return everything that `status` tells; times in microseconds.

    `receipt_silence_seconds` is how long envelopes have waited without any receipt; `alarms` are sentences for people;
    `media` are the visits to media that are in place (`usb_watch.media_document`), `mesh` is how it stands with
    neighbours (`mesh_document`), None where no daemon runs; `openrosa` is where form programs find the endpoint, or why
    not, None where it is off; `online` the same for the census web site; `counted_list` looks for this device's list
    (`own_list.OwnListStatus`). `handovers` are the carriers that took own envelopes over which have no receipt yet,
    `custody` the origins whose envelopes this device has.
    """
    envelopes = inspection.count_states(query)
    remembered = inspection.remembered(query)
    oldest = inspection.oldest_unsynchronised_at(query)
    last_receipt_at = remembered.get(LAST_RECEIPT_AT)
    silence = 0 if oldest is None else max(0, now - max(oldest, last_receipt_at or 0))
    return {
        "device": device.hex(),
        "running": link is not None,
        "link": link,
        "envelopes": envelopes,
        "media": list(media),
        "mesh": None if mesh is None else _with_names(query, mesh),
        "openrosa": None if openrosa is None else dict(openrosa),
        "online": None if online is None else dict(online),
        "counted_list": counted_list(query),
        "handovers": inspection.handovers(query),
        "custody": inspection.custody(query),
        "chains": inspection.chains(query),
        "last_receipt_at": last_receipt_at,
        "oldest_unsynchronised_at": oldest,
        "receipt_silence_seconds": silence // 1_000_000,
        "newest_signed_time": remembered.get(SIGNED_TIME),
        "clock": now,
        "alarms": list(_alarms(envelopes, silence, silence_alarm, remembered.get(SIGNED_TIME), now)),
    }


def _with_names(query: Query, mesh: Mapping[str, Any]) -> dict[str, Any]:
    """Add to each neighbour what its certificate says of it, if one is known."""
    named = inspection.with_carriers(query, mesh["neighbours"], "device")
    return {**mesh, "neighbours": named}


def _medium_line(visit: Mapping[str, Any]) -> str:
    return f"{visit['number'] or visit['node']}: {visit['sentence']}"


def _alarms(
    envelopes: Mapping[str, int], silence: int, silence_alarm: int, signed_time: int | None, now: int
) -> Iterable[str]:
    if silence >= silence_alarm:
        waiting = envelopes["waiting"] + envelopes["sent"]
        yield (
            f"no receipt from the center for {_duration(silence)}, and {waiting} waiting for one: connect the VPN, or "
            "have a collection point take them"
        )
    if envelopes["held"]:
        yield f"{envelopes['held']} envelopes are held at the center: ask it why (central-broker held list)"
    if signed_time is not None and now < signed_time:
        yield "the clock is behind the center's newest receipt: set it; nothing is lost meanwhile"


def _duration(microseconds: int) -> str:
    """Return a duration for people, in its two largest units."""
    minutes = microseconds // 60_000_000
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} d {minutes // 60 % 24} h"


def status_line(document: Mapping[str, Any]) -> str:
    """Return one line for `systemctl status`."""
    counts = document["envelopes"]
    waiting = counts["waiting"] + counts["sent"]
    done = counts["synchronised"] + counts["purged"]
    link: LinkStatus | None = document["link"]
    if link is None:
        way = "no daemon"
    elif link.connected:
        way = f"connected ({link.vpn})"
    else:
        way = f"not connected ({link.vpn}" + (f"; {link.last_problem})" if link.last_problem else ")")
    line = f"{waiting} waiting for their receipt, {done} synchronised, {counts['held']} held; {way}"
    near = 0 if document["mesh"] is None else len(document["mesh"]["neighbours"])
    if near:
        line += f"; {near} {'neighbour' if near == 1 else 'neighbours'}"
    line = " | ".join([*map(_medium_line, document["media"]), line])
    alarms: list[str] = document["alarms"]
    return f"ALARM: {alarms[0]} | {line}" if alarms else line
