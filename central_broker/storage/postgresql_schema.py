"""The tables of the census database on PostgreSQL, as numbered migrations. A landed one is never edited.

The primary keys begin with the origin, so that the big tables can be hash-partitioned by it.
"""

from __future__ import annotations

from typing import Final, LiteralString

VERSION_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS schema_version (one integer PRIMARY KEY CHECK (one = 1), number integer NOT NULL)"
)

_FIRST: Final = """
CREATE TABLE batch (id bigint PRIMARY KEY, committed_at bigint NOT NULL UNIQUE);
CREATE SEQUENCE batch_number CACHE 1;
CREATE TABLE envelope (
    origin bytea NOT NULL, id bytea NOT NULL, epoch bigint NOT NULL, sequence bigint NOT NULL,
    previous_id bytea NOT NULL, status text NOT NULL CHECK (status IN ('committed', 'held', 'disproved')),
    route text NOT NULL, carrier bytea, received_at bigint NOT NULL, batch bigint NOT NULL,
    PRIMARY KEY (origin, id)
);
CREATE INDEX envelope_chain ON envelope (origin, epoch, sequence);
CREATE INDEX envelope_batch ON envelope (batch);
CREATE TABLE questionnaire (
    origin bytea NOT NULL, id bytea NOT NULL, epoch bigint NOT NULL, sequence bigint NOT NULL,
    form text NOT NULL, form_version text NOT NULL, instance_id text NOT NULL, media_type text NOT NULL,
    created_at bigint NOT NULL, parts integer NOT NULL, batch bigint NOT NULL,
    whole_digest text, content jsonb, body bytea NOT NULL,
    PRIMARY KEY (origin, id)
);
CREATE TABLE whole (origin bytea NOT NULL, whole bytea NOT NULL, PRIMARY KEY (origin, whole));
CREATE TABLE part (
    origin bytea NOT NULL, whole bytea NOT NULL, part integer NOT NULL, parts integer NOT NULL,
    id bytea NOT NULL, epoch bigint NOT NULL, sequence bigint NOT NULL,
    form text NOT NULL, form_version text NOT NULL, instance_id text NOT NULL, media_type text NOT NULL,
    created_at bigint NOT NULL, whole_digest text NOT NULL, body bytea NOT NULL,
    PRIMARY KEY (origin, whole, part)
);
CREATE TABLE held (
    id bytea PRIMARY KEY, reason text NOT NULL, detail text NOT NULL,
    origin bytea, epoch bigint, sequence bigint, envelope_id bytea,
    receiptable integer NOT NULL, whole integer NOT NULL,
    carrier bytea, route text NOT NULL, received_at bigint NOT NULL, batch bigint, data bytea NOT NULL
);
CREATE INDEX held_envelope ON held (origin, envelope_id);
CREATE TABLE head (
    origin bytea NOT NULL, epoch bigint NOT NULL, sequence bigint NOT NULL, receipt_serial bigint NOT NULL,
    last_id bytea NOT NULL, stated_at bigint NOT NULL, data bytea NOT NULL,
    PRIMARY KEY (origin, epoch)
);
CREATE TABLE device (
    device bytea PRIMARY KEY, name text NOT NULL, role integer NOT NULL, standing integer NOT NULL,
    public_key bytea NOT NULL, issued_at bigint NOT NULL, serial bigint NOT NULL, certificate bytea NOT NULL,
    enrolled_at bigint NOT NULL, last_seen_at bigint, last_route text, last_carrier bytea
);
CREATE TABLE form (form text NOT NULL, version text NOT NULL, PRIMARY KEY (form, version));
CREATE TABLE receipt (origin bytea PRIMARY KEY, serial bigint NOT NULL, data bytea);
CREATE TABLE outbox (
    origin bytea PRIMARY KEY, wanted bigint NOT NULL, fresh integer NOT NULL,
    asked_at bigint NOT NULL, leased_until bigint NOT NULL
);
CREATE TABLE commit_clock (one integer PRIMARY KEY CHECK (one = 1), at bigint NOT NULL);
CREATE TABLE watermark (one integer PRIMARY KEY CHECK (one = 1), at bigint NOT NULL);
CREATE TABLE directory_version (one integer PRIMARY KEY CHECK (one = 1), at bigint NOT NULL);
INSERT INTO commit_clock VALUES (1, 0);
INSERT INTO watermark VALUES (1, 0);
INSERT INTO directory_version VALUES (1, 1);
"""

_RUN_ENDS: Final = """
CREATE TABLE run_end (
    origin bytea NOT NULL, id bytea NOT NULL, epoch bigint NOT NULL, sequence bigint NOT NULL, at bigint NOT NULL,
    PRIMARY KEY (origin, id)
);
"""

_MEDIA: Final = """
CREATE TABLE medium (
    medium bytea PRIMARY KEY, number text NOT NULL, holder text NOT NULL, standing integer NOT NULL,
    issued_at bigint NOT NULL, expires_at bigint NOT NULL, serial bigint NOT NULL, certificate bytea NOT NULL,
    recorded_at bigint NOT NULL
);
"""

# NULL where nobody said: rows of before, and carriers of an earlier release. Without a default nothing is rewritten.
_HOPS: Final = """
ALTER TABLE envelope ADD COLUMN hops smallint;
ALTER TABLE held ADD COLUMN hops smallint;
ALTER TABLE device ADD COLUMN last_hops smallint;
"""

# A form without its XForm is only known by name: its questionnaires are kept, and become no rows.
_FORMS: Final = """
ALTER TABLE form ADD COLUMN title text;
ALTER TABLE form ADD COLUMN xform bytea;
ALTER TABLE form ADD COLUMN added_at bigint;
ALTER TABLE form ADD COLUMN statement bytea;
CREATE TABLE census_table (name text PRIMARY KEY, form text NOT NULL, kind text NOT NULL, columns text NOT NULL);
CREATE TABLE finding (
    origin bytea NOT NULL, id bytea NOT NULL, form text NOT NULL, path text NOT NULL, position integer NOT NULL,
    rule text NOT NULL, value text NOT NULL
);
CREATE INDEX finding_questionnaire ON finding (origin, id);
CREATE INDEX finding_rule ON finding (form, rule);
CREATE INDEX questionnaire_form ON questionnaire (form, origin, id);
"""

# Keys that devices have made, and the newest list sealed to each; `turn` grows with every list that is put.
_LISTS: Final = """
CREATE TABLE device_key (
    device bytea PRIMARY KEY, epoch bigint NOT NULL, sequence bigint NOT NULL, public_key bytea NOT NULL
);
CREATE TABLE counted_list (
    device bytea PRIMARY KEY, serial bigint NOT NULL, recipient bytea NOT NULL, digest bytea NOT NULL,
    statement bytea NOT NULL, turn bigint NOT NULL UNIQUE
);
"""

# `reached` 0: nothing is indexed, or all of it has to be anew.
_COVERAGE: Final = """
CREATE TABLE territory (code text PRIMARY KEY, parent text NOT NULL, names text NOT NULL);
CREATE TABLE institution (
    bin text PRIMARY KEY, name text NOT NULL, district text NOT NULL, kind text NOT NULL
);
CREATE TABLE coverage_state (
    one integer PRIMARY KEY CHECK (one = 1), basis text NOT NULL, reached bigint NOT NULL, forgotten bigint NOT NULL,
    decisions bigint NOT NULL
);
INSERT INTO coverage_state VALUES (1, '', 0, 0, 0);
CREATE TABLE coverage_visit (
    origin bytea NOT NULL, id bytea NOT NULL, committed_at bigint NOT NULL, form text NOT NULL,
    instance_id text NOT NULL, kind text NOT NULL,
    channel text NOT NULL, said_on text, timing text NOT NULL, interviewer text NOT NULL,
    region text NOT NULL, district text NOT NULL, institution text NOT NULL, notice text, claimed_notice text,
    counts integer NOT NULL,
    PRIMARY KEY (origin, id)
);
CREATE INDEX coverage_visit_instance ON coverage_visit (form, instance_id);
CREATE INDEX coverage_visit_notice ON coverage_visit (notice);
CREATE TABLE coverage_person (
    origin bytea NOT NULL, id bytea NOT NULL, position integer NOT NULL, kind text NOT NULL,
    region text NOT NULL, district text NOT NULL, institution text NOT NULL,
    name text NOT NULL, name_key text NOT NULL, birth_date text, iin text, channel text NOT NULL, timing text NOT NULL,
    interviewer text NOT NULL, committed_at bigint NOT NULL, said_on text, room text NOT NULL,
    wrong_iin integer NOT NULL, born_after integer NOT NULL, counts integer NOT NULL,
    PRIMARY KEY (origin, id, position)
);
CREATE INDEX coverage_person_iin ON coverage_person (iin);
CREATE INDEX coverage_person_institution ON coverage_person (institution, name_key);
CREATE INDEX coverage_person_district ON coverage_person (district, name_key, birth_date);
CREATE TABLE coverage_decision (
    number bigint PRIMARY KEY,
    origin bytea NOT NULL, id bytea NOT NULL, position integer NOT NULL,
    other_origin bytea NOT NULL, other_id bytea NOT NULL, other_position integer NOT NULL,
    verdict text NOT NULL, reason text NOT NULL, decided_by text NOT NULL, decided_at bigint NOT NULL
);
CREATE TABLE coverage_assignment (
    device bytea NOT NULL, place text NOT NULL, PRIMARY KEY (device, place)
);
CREATE INDEX questionnaire_batch ON questionnaire (batch);
"""

# What devices are given of the files of forms; one that is taken back stays, as the statement that says so.
_FORM_FILES: Final = """
CREATE TABLE form_file (
    form text NOT NULL, name text NOT NULL, statement bytea NOT NULL, PRIMARY KEY (form, name)
);
"""

MIGRATIONS: Final[tuple[LiteralString, ...]] = (
    _FIRST,
    _RUN_ENDS,
    _MEDIA,
    _HOPS,
    _FORMS,
    _LISTS,
    _COVERAGE,
    _FORM_FILES,
)
"""Number n is at place n - 1."""
