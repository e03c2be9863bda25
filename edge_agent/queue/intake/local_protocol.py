"""The local sockets' protocol, for the daemon's side and the commands' side.

A request is one line of JSON; when it has a member `bytes`, so many bytes of body follow at once. Each request gets
one line of JSON back, in the order of the requests; a client may send the next before it has the answer. An answer
has `ok`; when that is false, `problem`, `remedy` and `again` say why, what to do, and whether the same request may
succeed later.
"""

from __future__ import annotations

import asyncio
import grp
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from operations.journal import get_logger
from sync_protocol.limits import QUESTIONNAIRE_BYTES_MAX

log = get_logger()

SUBMIT_SOCKET_NAME: Final = "submit.sock"
CONTROL_SOCKET_NAME: Final = "control.sock"
LINE_BYTES_MAX: Final = 64 * 1024
_CONNECTIONS_MAX: Final = 32
_ANSWER_TIMEOUT_SECONDS: Final = 60
_REQUEST_TIMEOUT_SECONDS: Final = 60
"""A request that has begun must arrive in this time; between requests a client may be silent for ever."""

_LARGE_BODY_BYTES: Final = 256 * 1024
"""Nearly all questionnaires are far smaller; 64 of this size may wait at once."""

Request = dict[str, Any]
Answer = Mapping[str, object]
Handler = Callable[[Request, bytes], Awaitable[Answer]]


class LocalProtocolError(Exception):
    """What came over the socket is no request, or no answer came."""


def refusal(problem: str, remedy: str, *, again: bool = False) -> Answer:
    """Return the answer to a request that could not be met."""
    return {"ok": False, "problem": problem, "remedy": remedy, "again": again}


def listening_socket(path: Path, group: str) -> socket.socket:
    """Make a socket for its owner and the members of a group; raises OSError. What lies at the path is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Without giving others a turn: the umask is the whole process's.
    before = os.umask(0o117)
    try:
        listening.bind(str(path))
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(before)
    _hand_to_group(path, group)
    return listening


def _hand_to_group(path: Path, group: str) -> None:
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except KeyError:
        remedy = f"create it (groupadd --system {group}), or correct the configuration"
        log.warning("socket_group_missing", socket=str(path), group=group, remedy=remedy)
    except PermissionError:
        remedy = f"add the daemon's user to the group {group}"
        log.warning("socket_group_denied", socket=str(path), group=group, remedy=remedy)


class LocalServer:
    """Serves one socket with one handler; a client that misbehaves is cut off, others do not notice."""

    def __init__(self, path: Path, group: str, handler: Handler) -> None:
        self._path = path
        self._group = group
        self._handler = handler
        self._connections: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Listen until cancelled; raises OSError when the socket cannot be made."""
        listening = listening_socket(self._path, self._group)
        try:
            server = await asyncio.start_unix_server(self._serve, sock=listening, limit=LINE_BYTES_MAX)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                # From Python 3.12 on, to wait for the server is to wait for its clients: they are ended instead.
                server.close()
                for connection in self._connections:
                    connection.cancel()
        finally:
            listening.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= _CONNECTIONS_MAX:
            busy = refusal("too many programs are connected", "close connections that are not used", again=True)
            writer.write(msgspec.json.encode(busy) + b"\n")
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except* (OSError, asyncio.IncompleteReadError) as errors:
            log.warning("local_request_broken", socket=self._path.name, problem=str(errors.exceptions[0]))
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer in the order of asking, while following requests are read already."""
        answers: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue(maxsize=64)

        async def write_answers() -> None:
            while (answer := await answers.get()) is not None:
                writer.write(msgspec.json.encode(await answer) + b"\n")
                await writer.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(write_answers())
            try:
                while (request := await _read_request(reader)) is not None:
                    answer = group.create_task(self._answer(*request))
                    await answers.put(answer)
                    if len(request[1]) > _LARGE_BODY_BYTES:
                        # Waiting requests are held in memory: of large ones there is one at a time.
                        await asyncio.wait({answer})
            except LocalProtocolError as error:
                # Where the next request would begin is not known. What was asked before still gets its answers.
                log.warning("local_request_broken", socket=self._path.name, problem=str(error))
                await answers.put(group.create_task(_refuse(error)))
            await answers.put(None)

    async def _answer(self, request: Request, body: bytes) -> Answer:
        try:
            return await self._handler(request, body)
        except LocalProtocolError as error:
            return await _refuse(error)
        except OSError as error:
            log.error("local_request_failed", socket=self._path.name, problem=str(error))
            return refusal(f"the daemon met an error: {error}", "look at the journal, then ask again", again=True)


async def _refuse(error: LocalProtocolError) -> Answer:
    return refusal(str(error), "correct the program that asks")


async def _read_request(reader: asyncio.StreamReader) -> tuple[Request, bytes] | None:
    first = await reader.read(1)
    if not first:
        return None
    try:
        async with asyncio.timeout(_REQUEST_TIMEOUT_SECONDS):
            request = _parse_request(first + await reader.readline())
            return request, await reader.readexactly(request.get("bytes", 0))
    except TimeoutError:
        raise LocalProtocolError(f"a request did not end within {_REQUEST_TIMEOUT_SECONDS} seconds") from None
    except ValueError:
        raise LocalProtocolError(f"the line of a request has at most {LINE_BYTES_MAX} bytes") from None


def _parse_request(line: bytes) -> Request:
    if not line.endswith(b"\n"):
        raise LocalProtocolError("a request ends before its line does")
    try:
        request = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LocalProtocolError(f"a request is not one line of JSON: {error}") from None
    body_bytes = request.get("bytes", 0)
    if type(body_bytes) is not int or not 0 <= body_bytes <= QUESTIONNAIRE_BYTES_MAX:
        raise LocalProtocolError(f"a request's body has from 0 to {QUESTIONNAIRE_BYTES_MAX} bytes")
    return request


def member(request: Request, name: str, kind: type[str] | type[int] | type[bool], default: Any) -> Any:
    """Return a member of a request; raises LocalProtocolError when it is of another kind."""
    value = request.get(name, default)
    if value is not default and not isinstance(value, kind):
        raise LocalProtocolError(f"{name} of the request is not a {kind.__name__}")
    return value


class LocalClient:
    """A command's end of a socket; blocking."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._answers = connection.makefile("rb")

    def ask(self, request: Request, body: bytes = b"") -> Request:
        """Send a request and return its answer; raises LocalProtocolError or OSError."""
        self.send(request, body)
        return self.receive()

    def send(self, request: Request, body: bytes = b"") -> None:
        """Send a request without waiting for its answer."""
        header = {**request, "bytes": len(body)} if body else request
        self._connection.sendall(msgspec.json.encode(header) + b"\n" + body)

    def receive(self) -> Request:
        """Return the next answer."""
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise LocalProtocolError("the daemon ended the conversation")
        return msgspec.json.decode(line, type=dict[str, Any])


@contextmanager
def connected(path: Path) -> Iterator[LocalClient]:
    """Connect to the daemon's socket; raises OSError (FileNotFoundError, ConnectionRefusedError) when it does not
    run.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_TIMEOUT_SECONDS)
        connection.connect(str(path))
        yield LocalClient(connection)
