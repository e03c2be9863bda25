"""Whether a device may still be spoken to, by what is known here of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edge_agent.engine.store import StoreTransaction
from sync_protocol import statement
from sync_protocol.identity import Standing, read_device_certificate
from sync_protocol.statement import parse_statement


def barred_devices(devices: Iterable[bytes], transaction: StoreTransaction) -> Mapping[bytes, Standing]:
    """Return those of the devices (16-byte names) whose newest certificate says that they are not active, and how they
    stand.

    One of which no certificate is known is not barred: it may have been enrolled yesterday, and TLS has proven it.
    """
    barred: dict[bytes, Standing] = {}
    for device in devices:
        data = transaction.statement(statement.DEVICE_CERTIFICATE, device)
        standing = Standing.ACTIVE if data is None else read_device_certificate(parse_statement(data)).standing
        if standing is not Standing.ACTIVE:
            barred[device] = standing
    return barred
