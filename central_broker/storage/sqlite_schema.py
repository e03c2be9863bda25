"""The tables of the census database on SQLite, as numbered migrations of sqlite-utils. A landed one is never edited."""

from __future__ import annotations

from typing import Final

from sqlite_utils import Database, Migrations

MIGRATIONS: Final = Migrations("central_broker")

_FIRST: Final = """
CREATE TABLE batch (id INTEGER PRIMARY KEY, committed_at INTEGER NOT NULL UNIQUE) STRICT;
CREATE TABLE envelope (
    origin BLOB NOT NULL, id BLOB NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
    previous_id BLOB NOT NULL, status TEXT NOT NULL CHECK (status IN ('committed', 'held', 'disproved')),
    route TEXT NOT NULL, carrier BLOB, received_at INTEGER NOT NULL, batch INTEGER NOT NULL,
    PRIMARY KEY (origin, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX envelope_chain ON envelope (origin, epoch, sequence);
CREATE INDEX envelope_batch ON envelope (batch);
CREATE TABLE questionnaire (
    origin BLOB NOT NULL, id BLOB NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
    form TEXT NOT NULL, form_version TEXT NOT NULL, instance_id TEXT NOT NULL, media_type TEXT NOT NULL,
    created_at INTEGER NOT NULL, parts INTEGER NOT NULL, batch INTEGER NOT NULL,
    whole_digest TEXT, content TEXT, body BLOB NOT NULL,
    PRIMARY KEY (origin, id)
) STRICT;
CREATE TABLE part (
    origin BLOB NOT NULL, whole BLOB NOT NULL, part INTEGER NOT NULL, parts INTEGER NOT NULL,
    id BLOB NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
    form TEXT NOT NULL, form_version TEXT NOT NULL, instance_id TEXT NOT NULL, media_type TEXT NOT NULL,
    created_at INTEGER NOT NULL, whole_digest TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (origin, whole, part)
) STRICT;
CREATE TABLE held (
    id BLOB PRIMARY KEY, reason TEXT NOT NULL, detail TEXT NOT NULL,
    origin BLOB, epoch INTEGER, sequence INTEGER, envelope_id BLOB,
    receiptable INTEGER NOT NULL, whole INTEGER NOT NULL,
    carrier BLOB, route TEXT NOT NULL, received_at INTEGER NOT NULL, batch INTEGER, data BLOB NOT NULL
) STRICT;
CREATE INDEX held_envelope ON held (origin, envelope_id);
CREATE TABLE head (
    origin BLOB NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, receipt_serial INTEGER NOT NULL,
    last_id BLOB NOT NULL, stated_at INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (origin, epoch)
) STRICT, WITHOUT ROWID;
CREATE TABLE device (
    device BLOB PRIMARY KEY, name TEXT NOT NULL, role INTEGER NOT NULL, standing INTEGER NOT NULL,
    public_key BLOB NOT NULL, issued_at INTEGER NOT NULL, serial INTEGER NOT NULL, certificate BLOB NOT NULL,
    enrolled_at INTEGER NOT NULL, last_seen_at INTEGER, last_route TEXT, last_carrier BLOB
) STRICT;
CREATE TABLE form (form TEXT NOT NULL, version TEXT NOT NULL, PRIMARY KEY (form, version)) STRICT, WITHOUT ROWID;
CREATE TABLE receipt (origin BLOB PRIMARY KEY, serial INTEGER NOT NULL, data BLOB) STRICT;
CREATE TABLE outbox (
    origin BLOB PRIMARY KEY, wanted INTEGER NOT NULL, fresh INTEGER NOT NULL,
    asked_at INTEGER NOT NULL, leased_until INTEGER NOT NULL
) STRICT;
CREATE TABLE commit_clock (one INTEGER PRIMARY KEY CHECK (one = 1), at INTEGER NOT NULL) STRICT;
CREATE TABLE watermark (one INTEGER PRIMARY KEY CHECK (one = 1), at INTEGER NOT NULL) STRICT;
CREATE TABLE directory_version (one INTEGER PRIMARY KEY CHECK (one = 1), at INTEGER NOT NULL) STRICT;
INSERT INTO commit_clock VALUES (1, 0);
INSERT INTO watermark VALUES (1, 0);
INSERT INTO directory_version VALUES (1, 1);
"""


_RUN_ENDS: Final = """
CREATE TABLE run_end (
    origin BLOB NOT NULL, id BLOB NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (origin, id)
) STRICT, WITHOUT ROWID;
"""

_MEDIA: Final = """
CREATE TABLE medium (
    medium BLOB PRIMARY KEY, number TEXT NOT NULL, holder TEXT NOT NULL, standing INTEGER NOT NULL,
    issued_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, serial INTEGER NOT NULL, certificate BLOB NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;
"""


# NULL where nobody said: rows of before, and carriers of an earlier release.
_HOPS: Final = """
ALTER TABLE envelope ADD COLUMN hops INTEGER;
ALTER TABLE held ADD COLUMN hops INTEGER;
ALTER TABLE device ADD COLUMN last_hops INTEGER;
"""


# A form without its XForm is only known by name: its questionnaires are kept, and become no rows.
_FORMS: Final = """
ALTER TABLE form ADD COLUMN title TEXT;
ALTER TABLE form ADD COLUMN xform BLOB;
ALTER TABLE form ADD COLUMN added_at INTEGER;
ALTER TABLE form ADD COLUMN statement BLOB;
CREATE TABLE census_table (
    name TEXT PRIMARY KEY, form TEXT NOT NULL, kind TEXT NOT NULL, columns TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE finding (
    origin BLOB NOT NULL, id BLOB NOT NULL, form TEXT NOT NULL, path TEXT NOT NULL, position INTEGER NOT NULL,
    rule TEXT NOT NULL, value TEXT NOT NULL
) STRICT;
CREATE INDEX finding_questionnaire ON finding (origin, id);
CREATE INDEX finding_rule ON finding (form, rule);
CREATE INDEX questionnaire_form ON questionnaire (form, origin, id);
"""


# Keys that devices have made, and the newest list sealed to each; `turn` grows with every list that is put.
_LISTS: Final = """
CREATE TABLE device_key (
    device BLOB PRIMARY KEY, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, public_key BLOB NOT NULL
) STRICT;
CREATE TABLE counted_list (
    device BLOB PRIMARY KEY, serial INTEGER NOT NULL, recipient BLOB NOT NULL, digest BLOB NOT NULL,
    statement BLOB NOT NULL, turn INTEGER NOT NULL UNIQUE
) STRICT;
"""

# `reached` 0: nothing is indexed, or all of it has to be anew.
_COVERAGE: Final = """
CREATE TABLE territory (code TEXT PRIMARY KEY, parent TEXT NOT NULL, names TEXT NOT NULL) STRICT;
CREATE TABLE institution (
    bin TEXT PRIMARY KEY, name TEXT NOT NULL, district TEXT NOT NULL, kind TEXT NOT NULL
) STRICT;
CREATE TABLE coverage_state (
    one INTEGER PRIMARY KEY CHECK (one = 1), basis TEXT NOT NULL, reached INTEGER NOT NULL, forgotten INTEGER NOT NULL,
    decisions INTEGER NOT NULL
) STRICT;
INSERT INTO coverage_state VALUES (1, '', 0, 0, 0);
CREATE TABLE coverage_visit (
    origin BLOB NOT NULL, id BLOB NOT NULL, committed_at INTEGER NOT NULL, form TEXT NOT NULL,
    instance_id TEXT NOT NULL, kind TEXT NOT NULL,
    channel TEXT NOT NULL, said_on TEXT, timing TEXT NOT NULL, interviewer TEXT NOT NULL,
    region TEXT NOT NULL, district TEXT NOT NULL, institution TEXT NOT NULL, notice TEXT, claimed_notice TEXT,
    counts INTEGER NOT NULL,
    PRIMARY KEY (origin, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX coverage_visit_instance ON coverage_visit (form, instance_id);
CREATE INDEX coverage_visit_notice ON coverage_visit (notice);
CREATE TABLE coverage_person (
    origin BLOB NOT NULL, id BLOB NOT NULL, position INTEGER NOT NULL, kind TEXT NOT NULL,
    region TEXT NOT NULL, district TEXT NOT NULL, institution TEXT NOT NULL,
    name TEXT NOT NULL, name_key TEXT NOT NULL, birth_date TEXT, iin TEXT, channel TEXT NOT NULL, timing TEXT NOT NULL,
    interviewer TEXT NOT NULL, committed_at INTEGER NOT NULL, said_on TEXT, room TEXT NOT NULL,
    wrong_iin INTEGER NOT NULL, born_after INTEGER NOT NULL, counts INTEGER NOT NULL,
    PRIMARY KEY (origin, id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX coverage_person_iin ON coverage_person (iin);
CREATE INDEX coverage_person_institution ON coverage_person (institution, name_key);
CREATE INDEX coverage_person_district ON coverage_person (district, name_key, birth_date);
CREATE TABLE coverage_decision (
    number INTEGER PRIMARY KEY,
    origin BLOB NOT NULL, id BLOB NOT NULL, position INTEGER NOT NULL,
    other_origin BLOB NOT NULL, other_id BLOB NOT NULL, other_position INTEGER NOT NULL,
    verdict TEXT NOT NULL, reason TEXT NOT NULL, decided_by TEXT NOT NULL, decided_at INTEGER NOT NULL
) STRICT;
CREATE TABLE coverage_assignment (
    device BLOB NOT NULL, place TEXT NOT NULL, PRIMARY KEY (device, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX questionnaire_batch ON questionnaire (batch);
"""


# What devices are given of the files of forms; one that is taken back stays, as the statement that says so.
_FORM_FILES: Final = """
CREATE TABLE form_file (
    form TEXT NOT NULL, name TEXT NOT NULL, statement BLOB NOT NULL, PRIMARY KEY (form, name)
) STRICT;
"""


@MIGRATIONS(name="0001_first")
def _first(database: Database) -> None:
    _run(_FIRST, database)


@MIGRATIONS(name="0002_run_ends")
def _run_ends(database: Database) -> None:
    _run(_RUN_ENDS, database)


@MIGRATIONS(name="0003_media")
def _media(database: Database) -> None:
    _run(_MEDIA, database)


@MIGRATIONS(name="0004_hops")
def _hops(database: Database) -> None:
    _run(_HOPS, database)


@MIGRATIONS(name="0005_forms")
def _forms(database: Database) -> None:
    _run(_FORMS, database)


@MIGRATIONS(name="0006_lists")
def _lists(database: Database) -> None:
    _run(_LISTS, database)


@MIGRATIONS(name="0007_coverage")
def _coverage(database: Database) -> None:
    _run(_COVERAGE, database)


@MIGRATIONS(name="0008_form_files")
def _form_files(database: Database) -> None:
    _run(_FORM_FILES, database)


def _run(script: str, database: Database) -> None:
    # Statement by statement: executescript() would commit the transaction that the migration is part of.
    for statement in script.split(";\n"):
        if statement.strip():
            database.execute(statement)


def migration_names() -> frozenset[str]:
    """Return the names of all migrations that this version knows."""
    return frozenset(
        {
            "0001_first",
            "0002_run_ends",
            "0003_media",
            "0004_hops",
            "0005_forms",
            "0006_lists",
            "0007_coverage",
            "0008_form_files",
        }
    )
