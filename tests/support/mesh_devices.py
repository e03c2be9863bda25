"""Devices near each other: real engines and queues, real certificates, and links over loopback."""

from __future__ import annotations

import asyncio
import functools
import gc
import socket
import ssl
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

from central_broker.tls_authority import (
    TlsAuthority,
    TlsIssuer,
    create_tls_authority,
    issue_client_certificate,
    issue_server_certificate,
    key_to_pem,
    new_tls_key,
    to_pem,
)
from edge_agent.backoff import Backoff
from edge_agent.engine.store import EnvelopeStanding
from edge_agent.mesh.neighbours import MeshSettings, Neighbours
from edge_agent.mesh.peer_tls import peer_tls
from edge_agent.tls import TlsMaterial
from sync_protocol.limits import MESH_SHARDS
from sync_protocol.mesh import Arrived, Digests, Hello, Inventory, Message, Offer, Verdict, Verdicts
from sync_protocol.mesh_stream import MessageReader, write_message
from tests.support.device import key_of, questionnaire
from tests.support.living_device import Living, living

Heard = TypeVar("Heard")

ADDRESS = "127.0.0.1"
WAIT_SECONDS = 30
"""For what is to happen; nothing is measured by it."""
QUICK = MeshSettings(backoff=Backoff(1, 1))


@dataclass(frozen=True)
class Certificates:
    """The Department's TLS authority, and certificates of it as files."""

    folder: Path
    authority: TlsAuthority = field(default_factory=create_tls_authority)

    @property
    def root(self) -> Path:
        path = self.folder / "authority.crt"
        path.write_bytes(to_pem(self.authority.root.certificate))
        return path

    def device(self, name: str, *, issuer: TlsIssuer | None = None) -> TlsMaterial:
        """Certify as a device is, under any common name."""
        key, issuer = new_tls_key(), issuer or self.authority.issuing
        certificate = issue_client_certificate(issuer, key.public_key(), name)
        return self.write(name, to_pem(certificate, issuer.certificate), key_to_pem(key))

    def client(self, name: str) -> ssl.SSLContext:
        """Return what a device of this name dials with."""
        return peer_tls(self.device(name)).client

    def server(self, name: str, *names: str) -> TlsMaterial:
        key = new_tls_key()
        certificate = issue_server_certificate(self.authority.issuing, key.public_key(), names)
        return self.write(name, to_pem(certificate, self.authority.issuing.certificate), key_to_pem(key))

    def write(self, name: str, certificate: bytes, key: bytes) -> TlsMaterial:
        paths = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        for path, data in zip(paths, (certificate, key), strict=True):
            path.write_bytes(data)
        return TlsMaterial(self.root, *paths)


@dataclass
class MeshDevice:
    """A device with its mesh; `hello` is what it says of itself."""

    living: Living
    neighbours: Neighbours
    port: int
    hello: Hello = field(default_factory=lambda: Hello(False, None, 1_000_000))

    @property
    def id(self) -> bytes:
        return self.living.device.id

    async def submit(self, *texts: str, filler_bytes: int = 0) -> Sequence[bytes]:
        """Accept questionnaires; return the ids of their envelopes."""
        before = len(await self.own_ids())
        filler = b64encode(Random(filler_bytes).randbytes(filler_bytes)).decode()
        submissions = [
            (key_of(text), questionnaire(f'{{"household":"{text}","notes":"{filler}"}}'.encode(), f"uuid:{text}"))
            for text in texts
        ]
        await self.living.runner.accept(submissions)
        return (await self.own_ids())[before:]

    async def own_ids(self) -> Sequence[bytes]:
        return await self.living.runner.on_store_thread(self.living.device.envelope_ids)

    async def rows(self, columns: str, where: str) -> Sequence[tuple[object, ...]]:
        return await self.living.runner.on_store_thread(lambda: self.living.device.rows(columns, where))

    async def keeps(self, ids: Sequence[bytes]) -> bool:
        standings = await self.living.runner.ask(lambda queue: [queue.standing_of(one) for one in ids])
        return all(one is EnvelopeStanding.OPEN for one in standings)

    async def until_keeps(self, ids: Sequence[bytes]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not await self.keeps(ids):
                await asyncio.sleep(0.02)

    def connected(self) -> set[bytes]:
        return {state.device for state in self.neighbours.states()}

    async def until_connected(self, *others: MeshDevice) -> None:
        await until(lambda: self.connected() == {one.id for one in others})


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not holds():
            await asyncio.sleep(0.01)


def listening(port: int = 0, address: str = ADDRESS) -> socket.socket:
    """Listen on loopback, with little room in the kernel: what a far end does not fetch shows soon."""
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen()
    return made


@asynccontextmanager
async def mesh_device(
    folder: Path,
    name: str,
    certificates: Certificates,
    *,
    settings: MeshSettings = QUICK,
    hello: Hello | None = None,
    port: int = 0,
    address: str = ADDRESS,
) -> AsyncIterator[MeshDevice]:
    """Run a device with a mesh until the block ends; it dials whom it is told to `meet`, and its static peers."""
    async with living(folder / name, name) as one:
        device_name = one.device.id.hex()
        made = certificates.folder / f"{device_name}.crt"
        material = (
            TlsMaterial(certificates.root, made, made.with_suffix(".key"))
            if made.exists()
            else certificates.device(device_name)
        )
        with listening(port, address) as listener:
            neighbours = Neighbours(
                one.device.id,
                settings,
                tls=peer_tls(material),
                host=one.runner,
                queue=one.runner,
                hello=lambda: device.hello,
                randomness=lambda: 0.5,
            )
            device = MeshDevice(one, neighbours, listener.getsockname()[1])
            if hello is not None:
                device.hello = hello
            neighbours.listen(listener)
            running = asyncio.create_task(neighbours.run())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            try:
                yield device
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running


@dataclass
class RawPeer:
    """A far end that speaks whatever a test wants, over real TLS."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    exchanges: bool = True
    """Whether it answers, as it hears them, what an engine has to say."""
    _messages: MessageReader = field(default_factory=MessageReader)
    _waiting: deque[Arrived] = field(default_factory=deque)

    def say(self, *messages: Message) -> None:
        self.writer.write(b"".join(write_message(one) for one in messages))

    async def hear(self) -> Arrived | None:
        """Return the next message; None when the device has closed the connection."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not self._waiting:
                try:
                    data = await self.reader.read(65536)
                except OSError:
                    data = b""
                if not data:
                    return None
                self._waiting.extend(self._messages.feed(data))
        message = self._waiting.popleft()
        if self.exchanges:
            self._exchange(message)
        return message

    def _exchange(self, message: Arrived) -> None:
        """Say what an engine would that knows nothing, has nothing and wants everything."""
        if isinstance(message, Digests):
            self.say(Inventory(frozenset(range(MESH_SHARDS)), ()))
        elif isinstance(message, Offer):
            self.say(Verdicts(message.number, (Verdict.WANTED,) * len(message.envelopes)))

    async def hear_a(self, kind: type[Heard]) -> Heard:
        """Return the next message of a kind, whatever comes before."""
        while not isinstance(heard := await self.hear(), kind):
            if heard is None:
                raise EOFError(f"closed before a {kind.__name__} came")
        return heard

    async def until_closed(self) -> None:
        while await self.hear() is not None:
            pass


@asynccontextmanager
async def raw_peer(
    port: int, context: ssl.SSLContext | None, *, source: str = ADDRESS, hello: Hello | None = None
) -> AsyncIterator[RawPeer]:
    """Dial a device from an address of this host; without a context, over plain TCP. With `hello`, greet."""
    made = socket.socket()
    made.bind((source, 0))
    made.setblocking(False)
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.get_running_loop().sock_connect(made, (ADDRESS, port))
        name = None if context is None else ""
        reader, writer = await asyncio.open_connection(sock=made, ssl=context, server_hostname=name, limit=1024)
    peer = RawPeer(reader, writer)
    try:
        if hello is not None:
            peer.say(hello)
            await peer.hear_a(Hello)
        yield peer
    finally:
        writer.transport.abort()


def on_event_loop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    """Run a test on an event loop; it fails, too, when something was left unhandled there."""

    @functools.wraps(test)
    def run(*words: object, **named: object) -> None:
        unhandled: list[str] = []

        async def watched() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: unhandled.append(f"{context}"))
            await test(*words, **named)

        asyncio.run(watched())
        gc.collect()
        assert unhandled == []

    return run
