"""What is known of a listed or counted person, as far as it takes to tell who is who."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from central_broker.coverage.rules import Channel, Timing

Reference = tuple[bytes, bytes, int]
"""Where a person stands: (origin, id, position) of a questionnaire's row."""


class Kind(StrEnum):
    """As what a questionnaire names a person."""

    LISTED = "listed"
    """On a list that an institution drew up in stage 1: the roster."""
    RESIDENT = "resident"
    """Counted where the person lives."""
    TEMPORARY = "temporary"
    """Counted where the person stays for a while; the same person is counted at home as well."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a questionnaire belongs to: codes of the territory table, "?" and the name as written of one that is not in
    it, "" where none is named. `institution` is a BIN.
    """

    region: str = ""
    district: str = ""
    institution: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """One person as one questionnaire names it. `name` is as written, `name_key` of `names`; `iin` is one that passes
    its check, `birth_date` ISO 8601. Of a listed person, `channel` and `timing` mean nothing.
    """

    reference: Reference
    kind: Kind
    place: Place
    name: str
    name_key: str
    birth_date: str | None
    iin: str | None
    channel: Channel
    timing: Timing
    interviewer: str
    committed_at: int
    """When the questionnaire was: microseconds since 1970 UTC."""
    said_on: str | None = None
    """The day of completion, ISO 8601."""
    room: str = ""
    has_wrong_iin: bool = False
    """An IIN is given that cannot be one."""
    is_born_after: bool = False
    """After the critical moment."""
