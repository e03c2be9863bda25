"""Bugs for planting into the center's acceptance and recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from central_broker import acceptance
from central_broker.directory import Directory
from central_broker.storage.batch_records import AcceptedEnvelope, EnvelopeStatus, HeldItem, PartContent
from central_broker.storage.recording import CompleteWhole, Key, Placed, QuestionnaireRow, _Recorder
from central_broker.storage.rows import envelope_parameters, questionnaire_parameters
from central_broker.storage.sqlite_statements import SqliteStatements
from sync_protocol.envelope import Envelope
from sync_protocol.errors import Fault
from sync_protocol.head import Head
from sync_protocol.identity import Standing
from sync_protocol.keys import RecipientSecret
from sync_protocol.way import Way
from tests.simulator.broker import BrokerTroubles
from tests.simulator.planted_bug import Bug, in_place_of

_LATE: Final = {"broker": BrokerTroubles(duplicates=0.3, late=0.2, forgets=0.1)}
_TWINS: Final = {"images": 1.0, "tablet_rollbacks": 0.4, "questionnaires": 6}
_FORGERS: Final = {"hostile": 2.0, "tablets": 3}
_REVOKED: Final = {"revoked": 0.2, "tablets": 3}


# Recording.


@contextmanager
def _overwrites() -> Iterator[None]:
    def place(self: SqliteStatements, rows: Sequence[Placed]) -> Mapping[Key, EnvelopeStatus]:
        self._connection.executemany(
            "INSERT OR REPLACE INTO envelope VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [envelope_parameters(row, self.batch) for row in rows],
        )
        return {}

    def insert(self: SqliteStatements, rows: Sequence[QuestionnaireRow]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO questionnaire VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [questionnaire_parameters(row, self.batch) for row in rows],
        )

    with (
        in_place_of(SqliteStatements, "place", lambda _: place)(),
        in_place_of(SqliteStatements, "insert_questionnaires", lambda _: insert)(),
    ):
        yield


def _commits_again(place: Callable[..., Mapping[Key, EnvelopeStatus]]) -> object:
    def planted(self: SqliteStatements, rows: Sequence[Placed]) -> Mapping[Key, EnvelopeStatus]:
        existing = place(self, rows)
        for (origin, envelope_id), status in existing.items():
            if status is EnvelopeStatus.COMMITTED:
                self._execute(
                    "UPDATE envelope SET batch = ? WHERE origin = ? AND id = ?", (self.batch, origin, envelope_id)
                )
        return existing

    return planted


@contextmanager
def _commits_again_with_a_time() -> Iterator[None]:
    def ticking(record: Callable[..., Mapping[Key, EnvelopeStatus]]) -> object:
        def planted(self: _Recorder, batch: Any) -> Mapping[Key, EnvelopeStatus]:
            existing = record(self, batch)
            self.changed = self.changed or bool(existing)
            return existing

        return planted

    with (
        in_place_of(SqliteStatements, "place", _commits_again)(),
        in_place_of(_Recorder, "_place", ticking)(),
    ):
        yield


def _keeps_the_time_of_holding(self: SqliteStatements, keys: Sequence[Key], status: EnvelopeStatus) -> set[Key]:
    for key in keys:
        self._execute("UPDATE envelope SET status = ? WHERE origin = ? AND id = ?", (status.value, *key))
    return set(keys)


def _joins_backwards(take: Callable[..., CompleteWhole]) -> object:
    def planted(self: SqliteStatements, origin: bytes, whole: bytes, content: PartContent) -> CompleteWhole:
        sql = "SELECT body FROM part WHERE origin = ? AND whole = ? ORDER BY part DESC"
        body = b"".join(row[0] for row in self._execute(sql, (origin, whole)))
        return replace(take(self, origin, whole, content), body=body)

    return planted


def _first_of_a_place_wins(place: Callable[..., Mapping[Key, EnvelopeStatus]]) -> object:
    def planted(self: SqliteStatements, rows: Sequence[Placed]) -> Mapping[Key, EnvelopeStatus]:
        taken = {
            (row.link.origin, row.link.id): EnvelopeStatus.COMMITTED
            for row in rows
            if self._execute(
                "SELECT 1 FROM envelope WHERE origin = ? AND epoch = ? AND sequence = ? AND id <> ?",
                (row.link.origin, row.link.epoch, row.link.sequence, row.link.id),
            )
        }
        return {**taken, **place(self, [row for row in rows if (row.link.origin, row.link.id) not in taken])}

    return planted


# Acceptance.


def _as_if_active(accept: Callable[..., AcceptedEnvelope | HeldItem]) -> object:
    return lambda envelope, link, arrival, _standing, directory: accept(
        envelope, link, arrival, Standing.ACTIVE, directory
    )


def _not_if_revoked(accept: Callable[..., Any]) -> object:
    def planted(
        data: bytes, *, carrier: bytes | None, received_at: int, directory: Directory, way: Way | None = None
    ) -> Any:
        outcome = accept(data, carrier=carrier, received_at=received_at, directory=directory, way=way)
        if isinstance(outcome, HeldItem) and outcome.reason in acceptance._STANDING_REASONS.values():
            return acceptance.Ignored("envelope", Fault.UNTRUSTED_SIGNER, "the origin is not active")
        return outcome

    return planted


def _newest_secret(self: Directory, _name: bytes) -> RecipientSecret:
    return list(self.secrets.values())[-1]


CENTER_BUGS: Final = (
    Bug(
        "duplicate overwrites",
        "an envelope that comes again takes the place of what was recorded",
        ("I1", "I4"),
        _overwrites,
        5,
        _LATE,
    ),
    Bug(
        "duplicate moves the commit time",
        "the sync mark of what is recorded changes when it comes again",
        ("I4",),
        _commits_again_with_a_time,
        5,
        _LATE,
    ),
    Bug(
        "promoted envelope keeps the time of its holding",
        "what was held becomes committed at a time that lies before backups in which it is only held",
        ("I2", "I4", "I6"),
        in_place_of(SqliteStatements, "change_status", lambda _: _keeps_the_time_of_holding),
        10,
        {"unknown_forms": 0.3, "revoked": 0.1},
    ),
    Bug(
        "parts joined backwards",
        "a large questionnaire is not what was filled in",
        ("I1",),
        in_place_of(SqliteStatements, "_take_whole", _joins_backwards),
        5,
        {"parts": 0.1},
    ),
    Bug(
        "second envelope of a place dropped",
        "of a forked chain only one branch is kept",
        ("I1", "I5", "I6"),
        in_place_of(SqliteStatements, "place", _first_of_a_place_wins),
        10,
        _TWINS,
    ),
    Bug(
        "fork not told",
        "two envelopes come to stand at one place without an alarm",
        ("I5",),
        in_place_of(_Recorder, "_forked", lambda _: lambda *_: ()),
        10,
        _TWINS,
    ),
    Bug(
        "envelopes not verified",
        "anybody can put a questionnaire into the census in a device's name",
        ("I3",),
        in_place_of(Envelope, "verify", lambda _: lambda *_: None),
        10,
        _FORGERS,
    ),
    Bug(
        "heads not verified",
        "anybody can say how far a device's chain reaches, and which receipt it has",
        ("I1",),
        in_place_of(Head, "verify", lambda _: lambda *_: None),
        10,
        _FORGERS,
    ),
    Bug(
        "revoked origin's data committed",
        "late data of a device that is revoked go into the census instead of being held",
        ("I4",),
        in_place_of(acceptance, "_accept_verified", _as_if_active),
        5,
        _REVOKED,
    ),
    Bug(
        "revoked origin's data dropped",
        "late data of a device that is revoked are refused instead of being held",
        ("I6",),
        in_place_of(acceptance, "accept_envelope", _not_if_revoked),
        5,
        _REVOKED,
    ),
    Bug(
        "old recipient keys thrown away",
        "what was sealed to the key before the newest can never be opened",
        ("I6",),
        in_place_of(Directory, "secret", lambda _: _newest_secret),
        5,
        {"key_rotations": 0.4},
    ),
)
