"""The endpoint's listener: uvicorn's HTTP protocol on asyncio's own servers, on loopback, bounded in number and time.

uvicorn's own server is not used: it wakes ten times a second, and takes the process's signals.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from sync_protocol.limits import KIBIBYTE

ADDRESSES: Final = ("127.0.0.1", "::1")
CONNECTIONS_MAX: Final = 32
"""A device has one form program, or two; browsers open six connections each."""
IDLE_SECONDS_MAX: Final = 30
"""For a request's headers to come, and for an answered request to end."""
_FINISH_SECONDS_MAX: Final = 3
_HEADER_BYTES_MAX: Final = 16 * KIBIBYTE
_NO_SUCH_ADDRESS: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class BoundedProtocol(H11Protocol):
    """Ends connections that are too many, or on which no request is under way for too long."""

    _deadline: asyncio.TimerHandle | None = None
    idle_seconds_max: float = IDLE_SECONDS_MAX

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
            return
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


@asynccontextmanager
async def listening(application: ASGIApp, port: int) -> AsyncIterator[None]:
    """Serve on loopback while the block runs; then requests under way are finished. Raises OSError."""
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

    servers: list[asyncio.Server] = []
    try:
        for address in ADDRESSES:
            try:
                servers.append(await loop.create_server(protocol, address, port, backlog=CONNECTIONS_MAX))
            except OSError as error:
                if address != ADDRESSES[0] and error.errno in _NO_SUCH_ADDRESS:
                    continue  # a device without IPv6
                raise
        yield
    finally:
        for server in servers:
            server.close()
        await _finish(state)


async def _finish(state: ServerState) -> None:
    """End idle connections at once, and the others with their answer, or after a little while."""
    for connection in list(state.connections):
        connection.shutdown()
    if state.tasks:
        await asyncio.wait(state.tasks, timeout=_FINISH_SECONDS_MAX)
    for connection in list(state.connections):
        connection.transport.abort()
