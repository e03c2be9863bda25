"""A meeting that brings no news: what two devices say that know the same, and have met before."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.center import BenchCenter, BenchDevice, now
from bench.mesh_device import ADDRESS, MeshDevice, mesh_device
from demo.processes import free_port
from demo.tcp_relay import LinkCounters, TcpRelay
from edge_agent.engine.store import StoreTransaction
from edge_agent.mesh.peer_tls import PeerTls, peer_tls
from edge_agent.tls import TlsMaterial
from sync_protocol import statement
from sync_protocol.head import Head, sign_head
from sync_protocol.identity import Role
from sync_protocol.receipt import Mark, Span, SpanStatus, sign_receipt
from sync_protocol.statement import Statement, parse_statement

_SETTLED_SECONDS: Final = 1.0
_WAIT_SECONDS: Final = 60.0
_ENVELOPES: Final = 30


@dataclass(frozen=True)
class Meeting:
    """TCP payload both ways, until nothing more passes; the handshake is a part of it."""

    bytes_by_dialler: int
    bytes_by_dialled: int
    handshake_bytes: int

    @property
    def bytes(self) -> int:
        return self.bytes_by_dialler + self.bytes_by_dialled


def measure_meeting(center: BenchCenter, folder: Path, origins: int) -> Meeting:
    """Let a tablet and a collection point meet that know so many origins; the second time is counted."""
    folder.mkdir(parents=True)
    known = [
        _known_of(center, center.enrol(folder / f"origin-{number}", f"origin {number}")) for number in range(origins)
    ]
    tablet, laptop = (
        center.enrol(folder / name, f"{folder.name} {name}", role)
        for name, role in (("tablet", Role.TABLET), ("laptop", Role.COLLECTION_POINT))
    )

    async def meet() -> LinkCounters:
        port = free_port()
        with TcpRelay((ADDRESS, port)) as relay:
            async with (
                mesh_device(laptop.provisioned, folder / "laptop-queue", port=port, is_collection_point=True) as far,
                mesh_device(tablet.provisioned, folder / "tablet-queue", port=None) as near,
            ):
                for one in (near, far):
                    await _learn(one, known)
                near.neighbours.meet(ADDRESS, relay.port)
                return await asyncio.wait_for(_settled(relay, near, far), _WAIT_SECONDS)

    asyncio.run(meet())
    counted = asyncio.run(meet())
    handshake = handshake_bytes(_tls(tablet), _tls(laptop))
    return Meeting(counted.bytes_to_target, counted.bytes_from_target, handshake)


_Known = tuple[Sequence[Statement], Head]


def _known_of(center: BenchCenter, device: BenchDevice) -> _Known:
    """An origin's certificate, receipt and head."""
    statements = [parse_statement(data) for data in device.provisioned.statements]
    certificate = next(one for one in statements if one.kind == statement.DEVICE_CERTIFICATE)
    last_id, at = device.name * 2, now()
    span = Span(1, 1, last_id, SpanStatus.COMMITTED, (Mark(_ENVELOPES, at),))
    receipt = sign_receipt(center.files.receipt_key(), origin=device.name, serial=1, watermark=0, spans=[span])
    head = sign_head(
        device.provisioned.identity.signer,
        origin=device.name,
        epoch=1,
        sequence=_ENVELOPES,
        last_id=last_id,
        receipt_serial=1,
        stated_at=at,
    )
    return [certificate, receipt], head


async def _learn(one: MeshDevice, known: Sequence[_Known]) -> None:
    def learn(transaction: StoreTransaction) -> None:
        for statements, head in known:
            for source in statements:
                transaction.put_statement(source)
            transaction.put_head(head)

    await one.runner.ask(learn)


async def _settled(relay: TcpRelay, *devices: MeshDevice) -> LinkCounters:
    """What has passed, once both have met and nothing passes any more."""
    while True:
        seen = relay.counters
        await asyncio.sleep(_SETTLED_SECONDS)
        if all(one.met is not None for one in devices) and relay.counters == seen:
            return seen


def _tls(device: BenchDevice) -> PeerTls:
    material = device.provisioned
    return peer_tls(TlsMaterial(material.tls_authority, material.tls_certificate, material.tls_key))


def handshake_bytes(dialler: PeerTls, dialled: PeerTls) -> int:
    """Return how many bytes both sides write until each has proven itself."""
    to_dialler, to_dialled = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = dialler.client.wrap_bio(to_dialler, to_dialled)
    far = dialled.server.wrap_bio(to_dialled, to_dialler, server_side=True)
    written = 0
    for side, said in ((near, to_dialled), (far, to_dialler), (near, to_dialled), (far, to_dialler)):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
        written += said.pending  # the other side reads all of it in its turn
    return written
