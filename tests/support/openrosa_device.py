"""A device whose OpenRosa endpoint is on, and what is in its queue, opened as the center would."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path

from edge_agent.queue.intake.openrosa.key import KEY_FILE_NAME
from sync_protocol.content import Metadata, decode_content
from sync_protocol.envelope import parse_envelope
from tests.support.certificates import TestAuthority
from tests.support.collect import CollectClient
from tests.support.edge_device import EdgeDevice
from tests.support.processes import accepts_connections, free_port
from tests.support.protocol_examples import CENTER

INSTANCE = (
    '<?xml version="1.0"?><data id="household" version="3"><meta><instanceID>{}</instanceID></meta><a>{}</a></data>'
)


def instance(instance_id: str, answer: str = "1") -> bytes:
    """A small questionnaire."""
    return INSTANCE.format(instance_id, answer).encode()


class OpenRosaDevice(EdgeDevice):
    """Nobody listens where its broker should be, so that everything stays in the queue."""

    def __init__(self, folder: Path, authority: TestAuthority, *, lines: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        given = dict(lines or {})
        intake = given.pop("intake", "")
        given["intake"] = f"openrosa = true\nopenrosa_port = {self.port}\n{intake}"
        super().__init__(folder, authority, free_port(), lines=given)

    def serve(self) -> CollectClient:
        """Start the daemon and return a form program for it."""
        self.start()
        self.process.wait_until(lambda: accepts_connections(self.port), "the endpoint listens")
        return self.client()

    def client(self) -> CollectClient:
        return CollectClient(self.port, (self.state_directory / KEY_FILE_NAME).read_text().strip())

    def envelope_count(self) -> int:
        return self.counts()["waiting"]

    def questionnaires(self) -> list[tuple[Metadata, bytes]]:
        """Every questionnaire of the queue, in order; the daemon must not run."""
        with closing(sqlite3.connect(self.state_directory / "queue.db")) as queue:
            rows = queue.execute("SELECT data FROM envelope WHERE own = 1 ORDER BY epoch, sequence").fetchall()
        opened = [decode_content(parse_envelope(bytes(data)).open(CENTER)) for (data,) in rows]
        grouped = groupby(opened, key=lambda part: (part[0].instance_id, part[0].whole_digest))
        joined = []
        for _, parts in grouped:
            listed = list(parts)
            joined.append((listed[0][0], b"".join(body for _, body in listed)))
        return joined


@contextmanager
def openrosa_device(folder: Path, *, lines: Mapping[str, str] | None = None) -> Iterator[OpenRosaDevice]:
    """Enrolled; its daemon is not started."""
    with OpenRosaDevice(folder / "device", TestAuthority(folder / "authority"), lines=lines) as device:
        device.enrol()
        yield device
