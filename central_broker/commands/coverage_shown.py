"""How coverage is shown: to people in tables, to programs as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from central_broker.backup import as_time
from central_broker.coverage.matching import Ground, Pair
from central_broker.coverage.people import Kind, Person
from central_broker.coverage.places import Places
from central_broker.coverage.report import By, Line, LineKey, Standing
from central_broker.coverage.rules import Timing
from central_broker.storage.coverage_records import Decision, Visit

NUMBERS: Final = (
    "listed",
    "counted",
    "interview",
    "online",
    "proxy",
    "missing",
    "not_listed",
    "in_households",
    "twice",
    "outside_window",
    "to_decide",
)
_KINDS: Final = {
    Kind.LISTED: "listed",
    Kind.RESIDENT: "counted",
    Kind.TEMPORARY: "counted on a stay",
}
GROUNDS: Final = {
    Ground.SAME_IIN: "the same IIN, and name or birth date agree",
    Ground.ONLY_IIN: "the same IIN, but name and birth date differ",
    Ground.OTHER_IIN: "name, birth date and institution agree, but the IINs differ",
    Ground.NAME_AND_BIRTH_DATE: "name, birth date and institution agree",
    Ground.ONLY_NAME: "name and institution agree; a birth date is not known",
    Ground.NEAR_BY: "name and birth date agree, both in one district",
    Ground.DECIDED: "somebody said so",
}


def key_names(by: By) -> tuple[str, ...]:
    """Return the heads of the columns that a line is named by."""
    match by:
        case By.OBLAST:
            return ("oblast",)
        case By.DISTRICT:
            return "oblast", "district"
        case By.INSTITUTION:
            return "oblast", "district", "institution"
        case By.INTERVIEWER:
            return ("interviewer",)


def key_words(key: LineKey, places: Places) -> tuple[str, ...]:
    """Return what a line is named by, for people."""
    return tuple(places.name_of(code) if code else "-" for code in key)


def numbers(line: Line) -> tuple[int, ...]:
    """Return a line's numbers in the order of NUMBERS."""
    return tuple(getattr(line, name) for name in NUMBERS)


def line_document(by: By, key: LineKey, line: Line, places: Places) -> dict[str, object]:
    """Return a line for a program."""
    names = {f"{what}_name": word for what, word in zip(key_names(by), key_words(key, places), strict=True)}
    return {
        **dict(zip(key_names(by), key, strict=True)),
        **(names if by is not By.INTERVIEWER else {}),
        **dict(zip(NUMBERS, numbers(line), strict=True)),
    }


def _remarks(one: Standing) -> Sequence[str]:
    return [
        remark
        for remark, holds in (
            ("not listed", not one.listed),
            ("listed twice", len(one.listed) > 1),
            ("counted twice", one.is_twice),
            ("outside the window", one.counts is not None and one.counts.timing is not Timing.INSIDE),
            ("waits for a decision", one.to_decide),
        )
        if holds
    ] + sorted({flag for entry in (*one.listed, *one.counted) for flag in _flags(entry)})


def standing_row(one: Standing) -> tuple[str, ...]:
    """Return a person as the table of an institution shows him."""
    first, counts = (one.listed or one.counted)[0], one.counts
    return (
        first.name,
        first.birth_date or "",
        first.room,
        "yes" if one.listed else "no",
        "missing" if counts is None else counts.channel.value,
        "" if counts is None else counts.said_on or "",
        "" if counts is None else counts.interviewer,
        ", ".join(_remarks(one)),
    )


def standing_document(one: Standing) -> dict[str, object]:
    """Return the same for a program."""
    first, counts = (one.listed or one.counted)[0], one.counts
    return {
        "name": first.name,
        "birth_date": first.birth_date,
        "room": first.room or None,
        "listed": bool(one.listed),
        "counted": counts is not None,
        "channel": None if counts is None else counts.channel.value,
        "counted_on": None if counts is None else counts.said_on,
        "interviewer": None if counts is None else counts.interviewer,
        "remarks": _remarks(one),
    }


def entry_row(one: Person, places: Places) -> tuple[str, ...]:
    """Return one entry of a pair with its evidence."""
    place = one.place.institution or one.place.district or one.place.region
    return (
        _KINDS[one.kind],
        one.name,
        one.birth_date or "",
        one.iin or ("not valid" if one.has_wrong_iin else ""),
        places.name_of(place),
        "" if one.kind is Kind.LISTED else one.channel.value,
        one.said_on or "",
        "" if one.kind is Kind.LISTED else one.interviewer,
    )


def stands(pair: Pair) -> str:
    """Return how a pair counts, for people."""
    if pair.waits:
        return "waits for a decision"
    words = "counts as one person" if pair.is_one_person else "counts as two people"
    return words if pair.verdict is None else f"{words}, by decision"


def pair_document(pair: Pair) -> dict[str, object]:
    """Return a pair for a program."""
    return {
        "pair": pair.key,
        "ground": pair.ground.value,
        "verdict": None if pair.verdict is None else pair.verdict.value,
        "one_person": pair.is_one_person,
        "waits": pair.waits,
        "entries": [
            {
                "origin": one.reference[0],
                "envelope": one.reference[1],
                "position": one.reference[2],
                "kind": one.kind.value,
                "name": one.name,
                "birth_date": one.birth_date,
                "iin": one.iin,
                "iin_is_wrong": one.has_wrong_iin,
                "region": one.place.region,
                "district": one.place.district,
                "institution": one.place.institution,
                "channel": one.channel.value,
                "said_on": one.said_on,
                "interviewer": one.interviewer,
                "committed_at": as_time(one.committed_at),
            }
            for one in (pair.one, pair.other)
        ],
    }


def decision_document(one: Decision) -> dict[str, object]:
    """Return a decision for a program."""
    return {
        "pair": one.key,
        "verdict": one.verdict.value,
        "reason": one.reason,
        "decided_by": one.decided_by,
        "decided_at": as_time(one.decided_at),
    }


def visit_row(one: Visit) -> tuple[str, ...]:
    """Return a questionnaire that is outside its window."""
    return one.id.hex()[:12], one.form, one.channel.value, one.said_on or "", one.timing.value, one.interviewer


def visit_document(one: Visit) -> dict[str, object]:
    """Return the same for a program."""
    return {
        "envelope": one.id,
        "form": one.form,
        "instance": one.instance_id,
        "channel": one.channel.value,
        "said_on": one.said_on,
        "timing": one.timing.value,
        "interviewer": one.interviewer,
        "committed_at": as_time(one.committed_at),
    }


def flagged_row(one: Person) -> tuple[object, ...]:
    """Return a person who is outside the rules."""
    envelope, position = one.reference[1].hex()[:12], one.reference[2]
    return envelope, position, one.name, one.birth_date or "", one.interviewer, ", ".join(_flags(one))


def flagged_document(one: Person) -> dict[str, object]:
    """Return the same for a program."""
    return {
        "envelope": one.reference[1],
        "position": one.reference[2],
        "name": one.name,
        "birth_date": one.birth_date,
        "interviewer": one.interviewer,
        "flags": _flags(one),
    }


def _flags(one: Person) -> list[str]:
    return [
        flag
        for flag, holds in (
            ("an IIN that cannot be one", one.has_wrong_iin),
            ("born after the critical moment", one.is_born_after),
        )
        if holds
    ]
