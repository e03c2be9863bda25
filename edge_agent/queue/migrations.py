"""The queue's schema, as numbered steps. A step that has been released is never changed; a new one is added.

`PRAGMA user_version` says how many steps a file has seen. A file from a newer release is refused: an older one
would not know what it must keep.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from edge_agent.engine.store import StoreFault

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE chain (
        epoch INTEGER PRIMARY KEY,
        reason TEXT NOT NULL,
        started_at INTEGER NOT NULL
    ) STRICT;

    -- An envelope stays as a row when its bytes are purged: its id vouches for the chain.
    CREATE TABLE envelope (
        number INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        origin BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        own INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        received_at INTEGER NOT NULL,
        carrier BLOB,
        status INTEGER,
        committed_at INTEGER,
        purged_at INTEGER,
        data BLOB
    ) STRICT;
    CREATE INDEX envelope_place ON envelope (origin, epoch, sequence);
    CREATE INDEX envelope_own ON envelope (epoch, sequence) WHERE own = 1;
    CREATE INDEX envelope_open ON envelope (own DESC, number) WHERE status IS NULL AND data IS NOT NULL;
    CREATE INDEX envelope_unpurged ON envelope (origin, committed_at) WHERE status IS NOT NULL AND data IS NOT NULL;
    CREATE INDEX envelope_foreign ON envelope (origin, bytes) WHERE own = 0 AND data IS NOT NULL;

    CREATE TABLE submission (
        key BLOB PRIMARY KEY,
        epoch INTEGER NOT NULL,
        first_sequence INTEGER NOT NULL,
        last_sequence INTEGER NOT NULL,
        accepted_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- What was sent to whom and not answered by a receipt, and when it becomes due again.
    CREATE TABLE dispatch (
        envelope INTEGER NOT NULL REFERENCES envelope (number) ON DELETE CASCADE,
        destination BLOB NOT NULL,
        attempts INTEGER NOT NULL,
        sent_at INTEGER NOT NULL,
        next_at INTEGER NOT NULL,
        answered_at INTEGER,
        PRIMARY KEY (envelope, destination)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX dispatch_next ON dispatch (destination, next_at);
    CREATE INDEX dispatch_under_way ON dispatch (envelope) WHERE answered_at IS NULL;

    CREATE TABLE statement (
        kind INTEGER NOT NULL,
        subject BLOB NOT NULL,
        serial INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (kind, subject)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE head (
        origin BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        receipt_serial INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (origin, epoch)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE remembered (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    """
    -- Since when the destination has stood in for this device: it has taken the envelope over, and will not give it up
    -- sooner than we do.
    ALTER TABLE dispatch ADD COLUMN handed_over_at INTEGER;
    -- A head is answered when its origin can purge all that it states.
    ALTER TABLE head ADD COLUMN answered INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX head_asking ON head (origin) WHERE answered = 0;
    """,
    """
    -- Nobody stands in for us any more: the center's receipts vouch for what we bring.
    ALTER TABLE dispatch DROP COLUMN handed_over_at;
    -- Another's envelope that the newest receipt lists, but no backup has yet: it is kept, and not sent, from then on.
    ALTER TABLE envelope ADD COLUMN rests_since INTEGER;
    CREATE INDEX envelope_resting ON envelope (rests_since) WHERE rests_since IS NOT NULL;
    DROP INDEX envelope_open;
    CREATE INDEX envelope_open ON envelope (own DESC, number)
        WHERE status IS NULL AND data IS NOT NULL AND rests_since IS NULL;
    """,
    """
    -- What this device left on a medium, as a digest of its files' names: a copy of the medium has others.
    CREATE TABLE medium (
        name BLOB PRIMARY KEY,
        left_there BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    """
    -- To how many more devices an envelope may be passed where nobody has a way to the center, and since when.
    ALTER TABLE envelope ADD COLUMN copies INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE envelope ADD COLUMN copies_since INTEGER NOT NULL DEFAULT 0;
    -- How another's came here: by what kind of link, over how many of them.
    ALTER TABLE envelope ADD COLUMN leg INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE envelope ADD COLUMN hops INTEGER NOT NULL DEFAULT 0;
    -- When the destination said that the envelope is on its disk: a handover.
    ALTER TABLE dispatch ADD COLUMN kept_at INTEGER;
    """,
    """
    -- How much of each other origin is carried: asked at every bundle and offer, and too long to count for a laptop
    -- with a hundred thousand envelopes.
    CREATE TABLE carried (
        origin BLOB PRIMARY KEY,
        envelopes INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT INTO carried
        SELECT origin, count(*), sum(bytes) FROM envelope WHERE own = 0 AND data IS NOT NULL GROUP BY origin;
    CREATE TRIGGER envelope_taken_over AFTER INSERT ON envelope WHEN new.own = 0 BEGIN
        INSERT INTO carried VALUES (new.origin, 1, new.bytes)
            ON CONFLICT (origin) DO UPDATE SET envelopes = envelopes + 1, bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER envelope_given_up AFTER DELETE ON envelope WHEN old.own = 0 BEGIN
        UPDATE carried SET envelopes = envelopes - 1, bytes = bytes - old.bytes WHERE origin = old.origin;
        DELETE FROM carried WHERE origin = old.origin AND envelopes = 0;
    END;
    DROP INDEX envelope_foreign;
    """,
    """
    -- What is in an envelope, by its header: people are told which ones are no questionnaires.
    ALTER TABLE envelope ADD COLUMN kind INTEGER NOT NULL DEFAULT 1;
    -- Through whom an origin can be reached, who has brought envelopes of it or is that origin: the way that lists of
    -- who is counted go back.
    CREATE TABLE way_back (
        origin BLOB NOT NULL,
        through BLOB NOT NULL,
        PRIMARY KEY (origin, through)
    ) STRICT, WITHOUT ROWID;
    INSERT OR IGNORE INTO way_back SELECT origin, carrier FROM envelope WHERE own = 0 AND carrier IS NOT NULL;
    CREATE TRIGGER envelope_brought AFTER INSERT ON envelope WHEN new.own = 0 AND new.carrier IS NOT NULL BEGIN
        INSERT INTO way_back VALUES (new.origin, new.carrier) ON CONFLICT DO NOTHING;
    END;
    -- The newest list for a subject that a neighbour has taken.
    CREATE TABLE list_given (
        subject BLOB NOT NULL,
        neighbour BLOB NOT NULL,
        serial INTEGER NOT NULL,
        PRIMARY KEY (subject, neighbour)
    ) STRICT, WITHOUT ROWID;
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a file up to date, each step in a transaction of its own; raises StoreFault for a file from a newer
    release.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreFault(
            f"the queue was written by a newer release (schema {version}, this release knows {len(MIGRATIONS)}): "
            "install that release again; nothing was changed"
        )
    for number, step in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {number}; COMMIT;")
