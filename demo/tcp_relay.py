"""A TCP link that can be cut, stalled and slowed: the demo and the tests put it between a tablet and its broker."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

_CHUNK_BYTES = 16 * 1024
# Chunks on their way in one direction: bounds what a slow link holds back, about 1 MB.
_CHUNKS_UNDER_WAY = 64
_START_TIMEOUT_SECONDS = 10
# Closing a socket with this option sends a reset and throws away what was still to be sent, as a cut link does.
_LINGER_NONE = struct.pack("ii", 1, 0)


class LinkState(Enum):
    """What the relay does with connections."""

    UP = "up"  # forwards
    CUT = "cut"  # connections are reset, new ones are refused
    STALLED = "stalled"  # connections are accepted and kept; nothing is forwarded


@dataclass(frozen=True)
class LinkCounters:
    """What has passed since the relay started, in bytes of payload, and the connections it accepted."""

    bytes_to_target: int
    bytes_from_target: int
    connections: int


class TcpRelay:
    """Relays a loopback port to a target (host, port), in a thread of its own; usable as a context manager.

    `delay_seconds` is added in each direction; `bytes_per_second` limits each direction of each connection. `port` 0
    takes a free one. The port stays the relay's own while the link is cut. Methods may be called from any thread and
    return when the change has taken effect.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        port: int = 0,
        delay_seconds: float = 0.0,
        bytes_per_second: float | None = None,
    ) -> None:
        self._target = target
        self._delay_seconds = delay_seconds
        self._bytes_per_second = bytes_per_second
        # Bound, never listening: holds the port while the link is cut, and connections to it are refused.
        self._reservation = _bound_socket(port)
        self.port: int = self._reservation.getsockname()[1]
        self.state = LinkState.UP
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._bytes = {"to": 0, "from": 0}
        self._accepted = 0
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"relay-{self.port}", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that a client connects to."""
        return "127.0.0.1", self.port

    @property
    def counters(self) -> LinkCounters:
        """What has passed so far."""
        return LinkCounters(self._bytes["to"], self._bytes["from"], self._accepted)

    def start(self) -> Self:
        """Begin to accept; the link is up."""
        self._thread.start()
        self._do(self._become(LinkState.UP))
        return self

    def close(self) -> None:
        """End every connection and give the port back. Closing twice does nothing."""
        if self._loop.is_closed():
            return
        if self._thread.is_alive():
            self._do(self._become(LinkState.CUT))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_START_TIMEOUT_SECONDS)
        self._loop.close()
        self._reservation.close()

    def cut(self) -> None:
        """Reset every connection, losing what was under way; refuse new ones until heal()."""
        self._do(self._become(LinkState.CUT))

    def stall(self) -> None:
        """Keep and accept connections but forward nothing until heal(), as when a tunnel's far end is gone."""
        self._do(self._become(LinkState.STALLED))

    def heal(self) -> None:
        """Forward again: stalled connections go on where they stood; cut ones have to be made anew."""
        self._do(self._become(LinkState.UP))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, change: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(change, self._loop).result(_START_TIMEOUT_SECONDS)

    async def _become(self, state: LinkState) -> None:
        self.state = state
        if state is LinkState.UP:
            self._flowing.set()
        else:
            self._flowing.clear()
        if state is not LinkState.CUT:
            if self._server is None:
                self._server = await asyncio.start_server(self._accept, sock=_bound_socket(self.port))
            return
        if self._server is not None:
            # Not wait_closed(): since Python 3.12 it waits for the connections, which end only below.
            self._server.close()
            self._server = None
        ending = list(self._connections)
        for connection in ending:
            connection.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self.state is LinkState.CUT:
            _reset(writer)
            return
        self._accepted += 1
        self._connections.add(task)
        try:
            await self._relay(reader, writer)
        except asyncio.CancelledError:
            # Only cut() cancels, and it wants no more than this end; asyncio's server would log the cancellation.
            pass
        finally:
            self._connections.discard(task)
            _reset(writer)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        try:
            target_reader, target_writer = await asyncio.open_connection(*self._target)
        except OSError:
            return  # The client sees a reset, as it would from a target that is down.
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._pump(reader, target_writer, lambda count: self._count("to", count)))
                directions.create_task(self._pump(target_reader, writer, lambda count: self._count("from", count)))
            # Both ends have said all they had to say: what is still buffered must arrive before the ends are closed.
            for end in (writer, target_writer):
                end.close()
                await end.wait_closed()
        except* OSError:
            pass  # One end is gone: the other is reset too.
        finally:
            _reset(target_writer)

    def _count(self, direction: str, count: int) -> None:
        self._bytes[direction] += count

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[int], None]
    ) -> None:
        """One direction, until end of file: reading goes on during the delay, so that the delay costs no throughput."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_UNDER_WAY)

        async def deliver() -> None:
            while True:
                due, chunk = await under_way.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await self._flowing.wait()
                if not chunk:
                    writer.write_eof()
                    return
                writer.write(chunk)
                await writer.drain()
                count(len(chunk))
                if self._bytes_per_second is not None:
                    await asyncio.sleep(len(chunk) / self._bytes_per_second)

        async with asyncio.TaskGroup() as both:
            both.create_task(deliver())
            chunk = b"-"
            while chunk:
                chunk = await reader.read(_CHUNK_BYTES)
                await under_way.put((self._loop.time() + self._delay_seconds, chunk))


def _bound_socket(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset; does nothing to one that has been closed in good order."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        writer.transport.abort()
