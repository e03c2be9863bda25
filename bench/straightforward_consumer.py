"""The peer: a consumer as a competent programmer writes it at first. `python -m bench.straightforward_consumer …`

aiomqtt for the messages, pydantic for the content, one INSERT and one commit for each envelope. It verifies, opens and
decodes with the same functions, and its commits are as durable; it keeps no held items, no forks, no receipts.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiomqtt
import psycopg
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pydantic import BaseModel

from bench.center import center_tls, open_files
from bench.center_process import wait_for_go
from bench.consumer_identity import consumer_id
from bench.ready_process import DATABASE_VARIABLE
from central_broker.center_files import CenterFiles
from sync_protocol.bundle import FrameType, read_bundle
from sync_protocol.content import decode_content
from sync_protocol.envelope import parse_envelope
from sync_protocol.identity import read_device_certificate
from sync_protocol.keys import VerifyingKey
from sync_protocol.statement import DEVICE_CERTIFICATE, parse_statement
from sync_protocol.topics import consumer_subscription

TABLE = """
CREATE TABLE IF NOT EXISTS questionnaire (
    id {blob} PRIMARY KEY, origin {blob} NOT NULL, epoch bigint NOT NULL, sequence bigint NOT NULL,
    form text NOT NULL, form_version text NOT NULL, instance_id text NOT NULL, created_at bigint NOT NULL,
    province integer, persons integer NOT NULL, content {json} NOT NULL, body {blob} NOT NULL
)
"""
INSERT = "INSERT INTO questionnaire VALUES ({marks}) ON CONFLICT (id) DO NOTHING"
_SESSION_SECONDS = 3600

Store = Callable[[tuple[Any, ...]], None]


class Person(BaseModel):
    """One person, as far as every form has it."""

    model_config = {"extra": "allow"}
    line: int | None = None


class Household(BaseModel):
    """One household questionnaire."""

    model_config = {"extra": "allow"}
    questionnaire: dict[str, Any]
    housing: dict[str, Any]
    persons: list[Person]


def open_database(url: str) -> Store:
    """Return what inserts and commits one row."""
    if url.startswith("sqlite:///"):
        lite = sqlite3.connect(url.removeprefix("sqlite:///"))
        lite.execute("PRAGMA journal_mode = WAL")
        lite.execute("PRAGMA synchronous = FULL")
        lite.execute(TABLE.format(blob="BLOB", json="TEXT"))
        statement = INSERT.format(marks=", ".join("?" * 12))

        def store_lite(row: tuple[Any, ...]) -> None:
            lite.execute(statement, row)
            lite.commit()

        return store_lite
    connection = psycopg.connect(url)
    connection.execute(TABLE.format(blob="bytea", json="jsonb").encode())
    connection.commit()
    marks = ", ".join(["%s"] * 12)
    insert = INSERT.format(marks=marks).encode()

    def store(row: tuple[Any, ...]) -> None:
        connection.execute(insert, row)
        connection.commit()

    return store


def load_devices(files: CenterFiles) -> dict[bytes, VerifyingKey]:
    """Every enrolled device's key."""
    keys = {}
    for path in (files.state / "devices").iterdir():
        provisioning = files.provisioning(bytes.fromhex(path.stem))
        for statement in map(parse_statement, provisioning.statements if provisioning else ()):
            if statement.kind == DEVICE_CERTIFICATE:
                keys[statement.subject] = VerifyingKey(read_device_certificate(statement).public_key)
    return keys


async def consume(files: CenterFiles, store: Store, count: int) -> None:
    """Take in so many envelopes."""
    devices = load_devices(files)
    secrets = {secret.name: secret for secret in files.recipient_keys()}
    broker = files.configuration.broker
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
    properties.SessionExpiryInterval = _SESSION_SECONDS
    client = aiomqtt.Client(
        broker.center_address,
        broker.center_port,
        identifier=consumer_id("straightforward"),
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        properties=properties,
        tls_context=center_tls(files, "consumer"),
    )
    wait_for_go()
    stored = 0
    async with client:
        await client.subscribe(consumer_subscription(files.configuration.consumer.group), qos=1)
        async for message in client.messages:
            if not isinstance(message.payload, bytes):
                continue
            for frame in read_bundle(message.payload).frames:
                if frame.type != FrameType.ENVELOPE:
                    continue
                envelope = parse_envelope(frame.payload)
                envelope.verify(devices[envelope.origin])
                metadata, body = decode_content(envelope.open(secrets[envelope.recipient]))
                household = Household.model_validate_json(body)
                store(
                    (
                        envelope.id,
                        envelope.origin,
                        envelope.epoch,
                        envelope.sequence,
                        metadata.form,
                        metadata.form_version,
                        metadata.instance_id,
                        metadata.created_at,
                        household.questionnaire.get("province"),
                        len(household.persons),
                        household.model_dump_json(),
                        body,
                    )
                )
                stored += 1
            if stored >= count:
                print("done", flush=True)


def main() -> None:
    """Run until ended."""
    folder, count = sys.argv[1:3]
    store = open_database(os.environ[DATABASE_VARIABLE])
    asyncio.run(consume(open_files(Path(folder)), store, int(count)))


if __name__ == "__main__":
    main()
