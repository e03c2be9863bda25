"""A TLS connection to a neighbour, dialled or received, and who proved to be at its far end."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from edge_agent.mesh.bound_sockets import bound_socket, socket_address, unbound_socket
from edge_agent.mesh.dialling import Address
from edge_agent.mesh.peer_tls import NotADeviceError, PeerTls, device_of
from edge_agent.mesh.refusals import Refuser
from edge_agent.mesh.ways import Way

Made = TypeVar("Made")

READ_BYTES: Final = 64 * 1024
_ALERT: Final = " alert "
_CUT: Final = "it broke off the handshake; perhaps it does not accept this device's certificate"
_FAREWELL_SECONDS: Final = 2
"""How long the far end may take to take leave."""


NOT_ACCEPTED: Final = "it does not accept this device"
"""So begins what is said of a far end that has broken off TLS itself."""


class NoNeighbourError(Exception):
    """Nobody could be reached, or whoever is there is no device of ours, or does not want this one; the text is ours,
    not the far end's.
    """

    def __init__(self, reason: str, by: Refuser) -> None:
        super().__init__(reason)
        self.by = by


@dataclass(frozen=True)
class PeerConnection:
    """A connection whose far end is `device`; `dialled` when it was this side that dialled. `began_seconds` is when the
    first byte could go, by the event loop's clock.
    """

    device: bytes
    address: str
    dialled: bool
    began_seconds: float
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def close(self) -> None:
        """Take leave, and be gone soon whatever the far end does."""
        self.writer.close()
        try:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_FAREWELL_SECONDS):
                    await self.writer.wait_closed()
        finally:
            self.writer.transport.abort()


async def dial(
    address: Address, way: Way | None, tls: PeerTls, *, connect_seconds: float, handshake_seconds: float
) -> PeerConnection:
    """Connect to a neighbour by the way's interface and by no other; raises NoNeighbourError.

    Without a way the kernel decides: for loopback.
    """
    reader, protocol = _stream()
    loop = asyncio.get_running_loop()

    async def reach() -> socket.socket:
        bare = address.host.partition("%")[0]
        index = 0 if way is None else way.index
        plain = unbound_socket(bare) if way is None else bound_socket(way.interface, index, bare)
        try:
            await loop.sock_connect(plain, socket_address(bare, address.port, index))
        except BaseException:
            plain.close()
            raise
        return plain

    plain = await _in_time(reach, connect_seconds)
    began_seconds = loop.time()

    async def shake_hands() -> asyncio.BaseTransport:
        made, _ = await loop.create_connection(
            lambda: protocol,
            sock=plain,
            ssl=tls.client,
            server_hostname="",
            ssl_handshake_timeout=handshake_seconds,
            ssl_shutdown_timeout=_FAREWELL_SECONDS,
        )
        return made

    transport = await _in_time(shake_hands, handshake_seconds)
    told = told_address(address.host, None if way is None else way.interface)
    return _proven(transport, reader, protocol, told, dialled=True, began_seconds=began_seconds)


def told_address(host: str, interface: str | None) -> str:
    """The address as people are told it: a link-local one says nothing without its interface."""
    return f"{host}%{interface}" if interface is not None and host.startswith("fe80:") and "%" not in host else host


async def receive(accepted: socket.socket, address: str, tls: PeerTls, timeout_seconds: float) -> PeerConnection:
    """Go through the handshake with whoever has dialled; takes the socket over. Raises NoNeighbourError."""
    began_seconds = asyncio.get_running_loop().time()
    reader, protocol = _stream()

    async def shake_hands() -> asyncio.BaseTransport:
        made, _ = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: protocol,
            accepted,
            ssl=tls.server,
            ssl_handshake_timeout=timeout_seconds,
            ssl_shutdown_timeout=_FAREWELL_SECONDS,
        )
        return made

    transport = await _in_time(shake_hands, timeout_seconds, received=True)
    return _proven(transport, reader, protocol, address, dialled=False, began_seconds=began_seconds)


def problem_of(error: OSError) -> str:
    """Return what went wrong with a connection, in words that do not differ from one time to the next."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        words = (error.reason or "broken off").lower().replace("_", " ")
        _, alert, said = words.partition(_ALERT)
        return f"{NOT_ACCEPTED} ({said})" if alert else f"TLS: {words}"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, ConnectionAbortedError) and error.errno is None:
        return "it did not finish the handshake in time"
    return os.strerror(error.errno) if error.errno else type(error).__name__


async def _in_time(connect: Callable[[], Awaitable[Made]], timeout_seconds: float, *, received: bool = False) -> Made:
    try:
        async with asyncio.timeout(timeout_seconds):
            return await connect()
    except PermissionError as error:
        raise NoNeighbourError(
            "this machine does not let it be dialled (a firewall, or a kernel before 5.7)", Refuser.NOBODY
        ) from error
    except OSError as error:  # TimeoutError and ssl.SSLError are among them
        is_cut = isinstance(error, ConnectionResetError) and error.errno is None  # so asyncio tells of an early end
        raise NoNeighbourError(_CUT if is_cut else problem_of(error), _refuser(error, received=received)) from error
    except (ValueError, OverflowError) as error:  # a discovery may hand on whatever it was told
        raise NoNeighbourError("its address is none", Refuser.NOBODY) from error


def _refuser(error: OSError, *, received: bool) -> Refuser:
    """Return who did not want the connection. Who dials here, and shakes no hands as a neighbour would, is refused; who
    is dialled, and does not, was not reached.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return Refuser.US
    if problem_of(error).startswith(NOT_ACCEPTED):
        return Refuser.IT
    is_misuse = isinstance(error, ssl.SSLError | TimeoutError | ConnectionAbortedError)
    return Refuser.US if received and is_misuse else Refuser.NOBODY


def _stream() -> tuple[asyncio.StreamReader, asyncio.StreamReaderProtocol]:
    reader = asyncio.StreamReader(limit=READ_BYTES)
    return reader, asyncio.StreamReaderProtocol(reader)


def _proven(
    transport: asyncio.BaseTransport,
    reader: asyncio.StreamReader,
    protocol: asyncio.StreamReaderProtocol,
    address: str,
    *,
    dialled: bool,
    began_seconds: float,
) -> PeerConnection:
    if not isinstance(transport, asyncio.Transport):
        raise NoNeighbourError("the event loop has no such connections", Refuser.NOBODY)
    writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
    try:
        device = device_of(transport.get_extra_info("ssl_object"))
    except NotADeviceError as error:
        transport.abort()
        raise NoNeighbourError(str(error), Refuser.US) from error
    return PeerConnection(device, address, dialled, began_seconds, reader, writer)
