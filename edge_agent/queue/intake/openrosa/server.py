"""The endpoints' listener: uvicorn's HTTP protocol on asyncio's own sockets, bounded in number and time.

uvicorn's own server is not used: it wakes ten times a second, and takes the process's signals. Connections are counted
from their first moment, before TLS has cost anything.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from sync_protocol.limits import KIBIBYTE

LOOPBACK: Final = ("127.0.0.1", "::1")
CONNECTIONS_MAX: Final = 32
"""A device has one form program, or two; browsers open six connections each."""
IDLE_SECONDS_MAX: Final = 30
"""For a request's headers to come, and for an answered request to end."""
_HANDSHAKE_SECONDS_MAX: Final = 10
_FINISH_SECONDS_MAX: Final = 3
_EXHAUSTED_PAUSE_SECONDS: Final = 1
_HEADER_BYTES_MAX: Final = 16 * KIBIBYTE
_NO_SUCH_ADDRESS: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@dataclass(frozen=True)
class Doorway:
    """Where clients come in. Of the addresses only the first must be there."""

    port: int
    addresses: tuple[str, ...] = LOOPBACK
    tls: ssl.SSLContext | None = None
    connections_max: int = CONNECTIONS_MAX


class BoundedProtocol(H11Protocol):
    """Ends connections on which no request is under way for too long."""

    _deadline: asyncio.TimerHandle | None = None
    idle_seconds_max: float = IDLE_SECONDS_MAX
    on_lost: Callable[[], None]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()
        self.on_lost()

    def _watch(self) -> None:
        """A request under way has its own limits of time; outside of one, time runs from its end."""
        if self.transport.is_closing() or (self.cycle is not None and not self.cycle.response_complete):
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.idle_seconds_max, self.transport.abort)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Door:
    """Lets connections in, as long as there is room."""

    def __init__(self, doorway: Doorway, new_protocol: Callable[[], BoundedProtocol]) -> None:
        self._doorway = doorway
        self._new_protocol = new_protocol
        self._inside: set[asyncio.Task[None]] = set()

    async def let_in(self, listener: socket.socket) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except ConnectionAbortedError:  # the client is gone already
                continue
            except OSError:  # there are no file descriptors
                await asyncio.sleep(_EXHAUSTED_PAUSE_SECONDS)
                continue
            if len(self._inside) >= self._doorway.connections_max:
                connection.close()
                continue
            task = loop.create_task(self._serve(connection))
            self._inside.add(task)
            task.add_done_callback(self._inside.discard)

    async def _serve(self, connection: socket.socket) -> None:
        """Serve one connection to its end."""
        loop = asyncio.get_running_loop()
        protocol, lost = self._new_protocol(), asyncio.Event()
        protocol.on_lost = lost.set
        tls = self._doorway.tls
        limits = {"ssl_handshake_timeout": _HANDSHAKE_SECONDS_MAX, "ssl_shutdown_timeout": _FINISH_SECONDS_MAX}
        try:
            await loop.connect_accepted_socket(lambda: protocol, connection, ssl=tls, **(limits if tls else {}))
        except OSError:  # TLS failed: no client of ours, or one that trusts another authority, and sees why
            return
        await lost.wait()

    async def close(self) -> None:
        """End what is left, handshakes too."""
        for task in self._inside:
            task.cancel()
        if self._inside:
            await asyncio.wait(self._inside)


@asynccontextmanager
async def listening(application: ASGIApp, doorway: Doorway) -> AsyncIterator[None]:
    """Serve while the block runs; then requests under way are finished. Raises OSError."""
    config = Config(
        application,
        http=H11Protocol,
        ws="none",
        lifespan="off",
        # Its access log would have the key, and its error log what this project's journal tells better.
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS_MAX,
        h11_max_incomplete_event_size=_HEADER_BYTES_MAX,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()

    def protocol() -> BoundedProtocol:
        return BoundedProtocol(config=config, server_state=state, app_state={}, _loop=loop)

    door = _Door(doorway, protocol)
    with ExitStack() as stack:
        listeners = [stack.enter_context(listener) for listener in _listeners(doorway)]
        doors = [loop.create_task(door.let_in(listener)) for listener in listeners]
        try:
            yield
        finally:
            for task in doors:
                task.cancel()
            await asyncio.wait(doors)
            await _finish(state)
            await door.close()


def _listeners(doorway: Doorway) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    with ExitStack() as stack:
        for address in doorway.addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            try:
                listener = socket.create_server((address, doorway.port), family=family, backlog=doorway.connections_max)
            except OSError as error:
                if listeners and error.errno in _NO_SUCH_ADDRESS:
                    continue  # a device without IPv6
                raise
            listener.setblocking(False)
            # Connections inherit it; without it an answer's second packet waits 40 ms for the client's delayed ACK.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listeners.append(stack.enter_context(listener))
        stack.pop_all()
    return listeners


async def _finish(state: ServerState) -> None:
    """End idle connections at once, and the others with their answer, or after a little while."""
    for connection in list(state.connections):
        connection.shutdown()
    if state.tasks:
        await asyncio.wait(state.tasks, timeout=_FINISH_SECONDS_MAX)
    for connection in list(state.connections):
        connection.transport.abort()
