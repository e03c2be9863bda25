"""The floor under the center: its own cryptography, then the same bytes into the database in the rawest way there is.

`python -m bench.floor FOLDER BUNDLES SHARE SHARES` is one process of the cryptography.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import psycopg

from bench.bundles import read_bundles
from bench.center import open_files
from bench.center_process import wait_for_go
from bench.straightforward_consumer import load_devices
from sync_protocol.bundle import FrameType, read_bundle
from sync_protocol.content import Metadata, decode_content
from sync_protocol.envelope import Envelope, parse_envelope

COLUMNS = "id, origin, sequence, form, instance_id, body"
RawRow = tuple[bytes, bytes, int, str, str, bytes]


def envelopes_of(bundles: Iterable[bytes]) -> list[bytes]:
    """The envelopes in these bundles."""
    return [
        frame.payload for bundle in bundles for frame in read_bundle(bundle).frames if frame.type == FrameType.ENVELOPE
    ]


def main() -> None:
    """Verify, open and decode every envelope of one share."""
    folder, path, share, shares = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    files = open_files(folder)
    devices = load_devices(files)
    secrets = {secret.name: secret for secret in files.recipient_keys()}
    mine = envelopes_of(data for _, data in read_bundles(path))[share::shares]
    wait_for_go()
    for data in mine:
        envelope = parse_envelope(data)
        envelope.verify(devices[envelope.origin])
        decode_content(envelope.open(secrets[envelope.recipient]))
    print("done", flush=True)
    sys.stdin.readline()


def raw_row(envelope: Envelope, metadata: Metadata, body: bytes) -> RawRow:
    """What the floor stores of an envelope."""
    return envelope.id, envelope.origin, envelope.sequence, metadata.form, metadata.instance_id, body


def store_raw(url: str, rows: list[RawRow]) -> None:
    """Store the rows in one durable transaction, into a table without any index: COPY, or executemany."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as lite:
            lite.execute("PRAGMA journal_mode = WAL")
            lite.execute("PRAGMA synchronous = FULL")
            with lite:
                lite.execute(f"CREATE TABLE raw ({COLUMNS})")
                lite.executemany("INSERT INTO raw VALUES (?, ?, ?, ?, ?, ?)", rows)
        return
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE raw (id bytea, origin bytea, sequence bigint, form text, instance_id text, body bytea)"
        )
        with cursor.copy("COPY raw FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["bytea", "bytea", "int8", "text", "text", "bytea"])
            for row in rows:
                copy.write_row(row)


if __name__ == "__main__":
    main()
