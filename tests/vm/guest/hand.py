"""The test's hand in a guest: does what lines of JSON on a virtio-serial port ask for, each on a thread of its own.

    {"id": n, "run": "shell script", "seconds": s, "input": base64}   → {"id": n, "status": s, "output": …, "errors": …}
    {"id": n, "put": path, "data": base64, "mode": m}                 → the same, with status 0
    {"id": n, "get": path}                                            → its bytes as output
    {"id": n, "talk": path of a unix socket, "data": base64, "lines": k} → so many lines of answer as output

Runs on the guest's Python alone. It outlives whoever is at the port's other end: a guest that was frozen goes on with
another one.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

PORT = "/dev/virtio-ports/census.hand"
EXIT_TIMEOUT = 124


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do one request; whatever goes wrong is told, never raised."""
    try:
        if "run" in request:
            return run(request)
        if "talk" in request:
            return {"output": talk(request["talk"], base64.b64decode(request["data"]), request["lines"])}
        if "put" in request:
            path = Path(request["put"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(request["data"]))
            path.chmod(request["mode"])
            return {}
        return {"output": Path(request["get"]).read_bytes()}
    except Exception as error:
        return {"status": 255, "errors": f"{type(error).__name__}: {error}".encode()}


def run(request: dict[str, Any]) -> dict[str, Any]:
    process = subprocess.Popen(
        ["/bin/bash", "-c", request["run"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(base64.b64decode(request["input"]), request["seconds"])
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        return {"status": EXIT_TIMEOUT, "output": output, "errors": errors}
    return {"status": process.returncode, "output": output, "errors": errors}


def talk(path: str, data: bytes, lines: int) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(100)
        connection.connect(path)
        connection.sendall(data)
        with connection.makefile("rb") as answers:
            return b"".join(answers.readline() for _ in range(lines))


class Port:
    """The virtio-serial port."""

    def __init__(self) -> None:
        self._descriptor = os.open(PORT, os.O_RDWR)
        self._lock = threading.Lock()

    def serve(self) -> None:
        received = b""
        while True:
            data = os.read(self._descriptor, 1 << 16)
            if not data:
                # Nobody is at the other end.
                time.sleep(0.05)
                received = b""
                continue
            *lines, received = (received + data).split(b"\n")
            for line in lines:
                try:
                    request = json.loads(line)
                except ValueError:
                    # The end of what was meant for an earlier listener.
                    continue
                threading.Thread(target=self._do, args=(request,), daemon=True).start()

    def _do(self, request: dict[str, Any]) -> None:
        done = {"status": 0, "output": b"", "errors": b"", **answer(request)}
        for name in ("output", "errors"):
            done[name] = base64.b64encode(done[name]).decode()
        line = json.dumps({"id": request["id"], **done}).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]


def tell_systemd() -> None:
    path = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.connect("\0" + path[1:] if path.startswith("@") else path)
        notices.send(b"READY=1")


if __name__ == "__main__":
    port = Port()
    tell_systemd()
    port.serve()
