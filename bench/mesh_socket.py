"""The limit of a meeting: the same bytes over one TLS 1.3 connection, into one file that is synced as it grows.

`python -m bench.mesh_socket give|take PROVISIONING FILE PORT ENVELOPES REPORT` is one end, as a process of its own; see
`mesh_device` for what it says and leaves. Who takes answers once, at the end.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from bench.mesh_device import ADDRESS, Moment, say
from edge_agent import provisioning
from edge_agent.mesh.peer_tls import peer_tls
from edge_agent.tls import TlsMaterial

SYNC_BYTES: Final = 256 * 1024
_LENGTH_BYTES: Final = 8
_ANSWER: Final = b"!"


def _give(connection: ssl.SSLSocket, data: bytes) -> None:
    connection.sendall(len(data).to_bytes(_LENGTH_BYTES, "big"))
    for offset in range(0, len(data), SYNC_BYTES):
        connection.sendall(memoryview(data)[offset : offset + SYNC_BYTES])
    if connection.recv(1) != _ANSWER:
        raise RuntimeError("the far end did not answer")


def _take(connection: ssl.SSLSocket, path: Path) -> None:
    left = int.from_bytes(connection.recv(_LENGTH_BYTES), "big")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    buffer = memoryview(bytearray(SYNC_BYTES))
    while left:
        filled, wanted = 0, min(left, SYNC_BYTES)
        while filled < wanted:
            came = connection.recv_into(buffer[filled:wanted])
            if not came:
                raise RuntimeError("the far end is gone")
            filled += came
        os.write(descriptor, buffer[:wanted])
        os.fsync(descriptor)
        left -= wanted
    os.close(descriptor)
    connection.sendall(_ANSWER)


def main() -> None:
    """Be one end."""
    role, folder, path, port, _, report = sys.argv[1:7]
    device = provisioning.load(Path(folder))
    tls = peer_tls(TlsMaterial(device.tls_authority, device.tls_certificate, device.tls_key))
    if role == "give":
        data = Path(path).read_bytes()
        say("ready")
        sys.stdin.readline()
        with socket.create_connection((ADDRESS, int(port))) as plain, tls.client.wrap_socket(plain) as connection:
            began = Moment.now()
            _give(connection, data)
            ended = Moment.now()
    else:
        with socket.create_server((ADDRESS, int(port))) as listener:
            say("ready")
            accepted, _ = listener.accept()
            with tls.server.wrap_socket(accepted, server_side=True) as connection:
                began = Moment.now()
                _take(connection, Path(path))
                ended = Moment.now()
    Path(report).write_text(json.dumps({"met": asdict(began), "ended": asdict(ended)}))
    say("done")


if __name__ == "__main__":
    main()
