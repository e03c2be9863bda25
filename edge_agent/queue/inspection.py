"""What people ask of the queue: how it stands, what is in it. Read-only SQL, the same for daemon and commands.

The daemon runs these on its own connection; a command runs them through sqlite-utils when no daemon holds the
queue. Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from sync_protocol.envelope import KIND_DEVICE_KEY, KIND_QUESTIONNAIRE_PART
from sync_protocol.errors import ProtocolError
from sync_protocol.identity import CENTER, read_device_certificate
from sync_protocol.medium import read_medium_certificate
from sync_protocol.receipt import SpanStatus
from sync_protocol.statement import DEVICE_CERTIFICATE, MEDIUM_CERTIFICATE, parse_statement

Query = Callable[[str, Mapping[str, object]], Iterable[Mapping[str, Any]]]
"""Runs one statement with named parameters and yields its rows by column name."""

ROWS_MAX: Final = 10_000

STATES: Final = ("waiting", "sent", "synchronised", "purged", "held")
"""What an envelope can be: not sent yet; sent, without a receipt; committed; committed, and its bytes dropped; held.

Another's is synchronised while it rests: the newest receipt lists it, and no backup has it yet.
"""

QUESTIONNAIRE: Final = "questionnaire"
KIND_NAMES: Final = {KIND_QUESTIONNAIRE_PART: QUESTIONNAIRE, KIND_DEVICE_KEY: "device key"}
"""What is in an envelope; one of a later release has a number only."""

ORIGINS_SHOWN_MAX: Final = 200
"""A collection point may hold for thousands; people look at those with the most."""

_STATE: Final = f"""
    CASE WHEN envelope.status = {int(SpanStatus.HELD)} THEN 'held'
         WHEN envelope.data IS NULL THEN 'purged'
         WHEN envelope.status IS NOT NULL OR envelope.rests_since IS NOT NULL THEN 'synchronised'
         WHEN dispatch.envelope IS NOT NULL THEN 'sent'
         ELSE 'waiting' END
"""
_FROM: Final = """
    FROM envelope LEFT JOIN dispatch ON dispatch.envelope = envelope.number AND dispatch.destination = :center
"""
_COUNTS: Final = f"""
    SELECT own, {_STATE} AS state, count(*) AS envelopes, sum(bytes) AS bytes, sum(envelope.kind = :key) AS keys
    {_FROM} GROUP BY 1, 2
"""
_LIST: Final = f"""
    SELECT envelope.number, hex(envelope.origin) AS origin, envelope.own, envelope.epoch, envelope.sequence,
           lower(hex(envelope.id)) AS id, envelope.kind, {_STATE} AS state, envelope.bytes, envelope.received_at,
           envelope.committed_at,
           envelope.purged_at,
           CASE WHEN envelope.status IS NULL THEN coalesce(dispatch.attempts, 0) END AS attempts,
           dispatch.sent_at, dispatch.next_at
    {_FROM}
"""


def count_states(query: Query) -> dict[str, int]:
    """Return how many own envelopes are in each state, how many of others' are carried, and the waiting bytes.

    `device_keys` are those of the own ones, in whatever state, that are no questionnaires.
    """
    counts = dict.fromkeys(STATES, 0)
    carried = waiting_bytes = keys = 0
    for row in query(_COUNTS, {"center": CENTER, "key": KIND_DEVICE_KEY}):
        if not row["own"]:
            carried += row["envelopes"]
            continue
        counts[row["state"]] += row["envelopes"]
        keys += row["keys"]
        if row["state"] in ("waiting", "sent"):
            waiting_bytes += row["bytes"]
    return {**counts, "carried_for_others": carried, "unsynchronised_bytes": waiting_bytes, "device_keys": keys}


def remembered(query: Query) -> dict[str, int]:
    """Return what the device remembers of its own affairs, by name."""
    return {row["name"]: row["value"] for row in query("SELECT name, value FROM remembered", {})}


def oldest_unsynchronised_at(query: Query) -> int | None:
    """Return when the oldest own envelope without a receipt was accepted."""
    where = "own = 1 AND status IS NULL AND data IS NOT NULL AND rests_since IS NULL"
    rows = query(f"SELECT received_at FROM envelope WHERE {where} ORDER BY own DESC, number LIMIT 1", {})
    return next((row["received_at"] for row in rows), None)


def chains(query: Query) -> list[dict[str, Any]]:
    """Return every epoch of the device: when and why it began, and how far it reaches."""
    rows = query(
        "SELECT epoch, reason, started_at, coalesce((SELECT max(sequence) FROM envelope "
        "WHERE own = 1 AND envelope.epoch = chain.epoch), 0) AS sequence FROM chain ORDER BY epoch",
        {},
    )
    return [dict(row) for row in rows]


def list_envelopes(query: Query, *, state: str | None, rows_max: int) -> list[dict[str, Any]]:
    """Return envelopes, newest first, all or those of one state."""
    where = "" if state is None else f"WHERE {_STATE} = :state"
    parameters = {"center": CENTER, "state": state, "rows": min(rows_max, ROWS_MAX)}
    rows = query(f"{_LIST} {where} ORDER BY envelope.number DESC LIMIT :rows", parameters)
    return [_readable(row) for row in rows]


def show_envelope(query: Query, sequence: int, epoch: int | None) -> list[dict[str, Any]]:
    """Return the device's own envelope with this sequence, in one epoch or in every one that has it."""
    where = "WHERE envelope.own = 1 AND envelope.sequence = :sequence AND (:epoch IS NULL OR envelope.epoch = :epoch)"
    parameters = {"center": CENTER, "sequence": sequence, "epoch": epoch}
    return [_readable(row) for row in query(f"{_LIST} {where} ORDER BY envelope.epoch", parameters)]


def handovers(query: Query) -> list[dict[str, Any]]:
    """Return who took own envelopes over that have no receipt yet: how many, and when it did so last; newest first."""
    rows = query(
        "SELECT lower(hex(destination)) AS carrier, count(*) AS envelopes, max(kept_at) AS last_at "
        "FROM envelope JOIN dispatch ON dispatch.envelope = envelope.number "
        "WHERE own = 1 AND status IS NULL AND data IS NOT NULL AND rests_since IS NULL "
        "AND kept_at IS NOT NULL GROUP BY 1 ORDER BY 3 DESC LIMIT :rows",
        {"rows": ORIGINS_SHOWN_MAX},
    )
    return with_carriers(query, [dict(row) for row in rows], "carrier")


def custody(query: Query) -> dict[str, Any]:
    """Return what is held for others: in all, and for those with the most."""
    of_origins = list(
        query("SELECT lower(hex(origin)) AS origin, envelopes, bytes FROM carried ORDER BY bytes DESC", {})
    )
    return {
        "origins": len(of_origins),
        "envelopes": sum(row["envelopes"] for row in of_origins),
        "bytes": sum(row["bytes"] for row in of_origins),
        "largest": with_carriers(query, [dict(row) for row in of_origins[:ORIGINS_SHOWN_MAX]], "origin"),
    }


def with_carriers(query: Query, rows: Iterable[Mapping[str, Any]], member: str) -> list[dict[str, Any]]:
    """Add to each row what is certified of the device or medium that its member names (in hexadecimal): `name`, which
    is a medium's number, and `role`, which is "medium" for one; None where no certificate is known.
    """
    return [{**row, **_certified(query, bytes.fromhex(row[member]))} for row in rows]


def _certified(query: Query, subject: bytes) -> dict[str, str | None]:
    statements = query(
        "SELECT kind, data FROM statement WHERE kind IN (:device, :medium) AND subject = :subject ORDER BY kind",
        {"device": DEVICE_CERTIFICATE, "medium": MEDIUM_CERTIFICATE, "subject": subject},
    )
    for row in statements:
        try:
            source = parse_statement(row["data"])
            if row["kind"] == MEDIUM_CERTIFICATE:
                return {"name": read_medium_certificate(source).number, "role": "medium"}
            certificate = read_device_certificate(source)
        except ProtocolError:  # from a later release; the others are still worth showing
            continue
        return {"name": certificate.name, "role": certificate.role.name.lower()}
    return {"name": None, "role": None}


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    kind = KIND_NAMES.get(row["kind"], str(row["kind"]))
    return {**row, "origin": row["origin"].lower(), "own": bool(row["own"]), "kind": kind}
