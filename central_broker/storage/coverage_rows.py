"""How coverage's entries stand in their two tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, LiteralString

from central_broker.coverage.people import Kind, Person, Place, Reference
from central_broker.coverage.rules import Channel, Timing
from central_broker.storage.census_records import Row
from central_broker.storage.coverage_records import Visit

PERSON_COLUMNS: Final[tuple[tuple[LiteralString, LiteralString], ...]] = (
    ("origin", "bytea"),
    ("id", "bytea"),
    ("position", "integer"),
    ("kind", "text"),
    ("region", "text"),
    ("district", "text"),
    ("institution", "text"),
    ("name", "text"),
    ("name_key", "text"),
    ("birth_date", "text"),
    ("iin", "text"),
    ("channel", "text"),
    ("timing", "text"),
    ("interviewer", "text"),
    ("committed_at", "bigint"),
    ("said_on", "text"),
    ("room", "text"),
    ("wrong_iin", "integer"),
    ("born_after", "integer"),
    ("counts", "integer"),
)
"""Of coverage_person: (name, type in PostgreSQL)."""

VISIT_COLUMNS: Final[tuple[tuple[LiteralString, LiteralString], ...]] = (
    ("origin", "bytea"),
    ("id", "bytea"),
    ("committed_at", "bigint"),
    ("form", "text"),
    ("instance_id", "text"),
    ("kind", "text"),
    ("channel", "text"),
    ("said_on", "text"),
    ("timing", "text"),
    ("interviewer", "text"),
    ("region", "text"),
    ("district", "text"),
    ("institution", "text"),
    ("notice", "text"),
    ("claimed_notice", "text"),
    ("counts", "integer"),
)
"""Of coverage_visit likewise."""


def names_of(columns: Sequence[tuple[LiteralString, LiteralString]], table: LiteralString = "") -> LiteralString:
    """Return the columns' names as SQL lists them, of a table where several are asked."""
    return ", ".join(f"{table}.{name}" if table else name for name, _ in columns)


def reference_of(row: Row) -> Reference:
    """Return the reference of a row that begins with origin, id and position."""
    return bytes(row[0]), bytes(row[1]), row[2]


def visit_row(one: Visit, kind: Kind) -> Row:
    """Return it as a row."""
    return (
        one.origin,
        one.id,
        one.committed_at,
        one.form,
        one.instance_id,
        kind.value,
        one.channel.value,
        one.said_on,
        one.timing.value,
        one.interviewer,
        one.place.region,
        one.place.district,
        one.place.institution,
        one.notice,
        one.claimed_notice,
        int(one.counts),
    )


def person_row(one: Person, *, counts: bool) -> Row:
    """Return it as a row."""
    return (
        *one.reference,
        one.kind.value,
        one.place.region,
        one.place.district,
        one.place.institution,
        one.name,
        one.name_key,
        one.birth_date,
        one.iin,
        one.channel.value,
        one.timing.value,
        one.interviewer,
        one.committed_at,
        one.said_on,
        one.room,
        int(one.has_wrong_iin),
        int(one.is_born_after),
        int(counts),
    )


def visit_of(row: Row) -> Visit:
    """Read a row of VISIT_COLUMNS."""
    origin, one, committed_at, form, instance_id, _, channel, said_on, timing, interviewer, *rest = row
    region, district, institution, notice, claimed_notice, counts = rest
    return Visit(
        bytes(origin),
        bytes(one),
        committed_at,
        form,
        instance_id,
        Channel(channel),
        said_on,
        Timing(timing),
        interviewer,
        Place(region, district, institution),
        notice,
        claimed_notice,
        bool(counts),
    )


def person_of(row: Row) -> Person:
    """Read a row of PERSON_COLUMNS."""
    *_, kind, region, district, institution, name, name_key, birth_date, iin = row[:11]
    channel, timing, interviewer, committed_at, said_on, room, wrong_iin, born_after, _ = row[11:]
    return Person(
        reference_of(row),
        Kind(kind),
        Place(region, district, institution),
        name,
        name_key,
        birth_date,
        iin,
        Channel(channel),
        Timing(timing),
        interviewer,
        committed_at,
        said_on,
        room,
        bool(wrong_iin),
        bool(born_after),
    )
