"""Who the device is, and what it believes, drawn from its keys and the statements in its store."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.engine.store import StoreTransaction
from sync_protocol import statement
from sync_protocol.counted_list import read_sealed_list
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.identity import DeviceCertificate, Role, Trust, read_device_certificate, read_recipient_key
from sync_protocol.keys import Recipient, Signer
from sync_protocol.medium import read_medium_certificate
from sync_protocol.statement import Statement, parse_statement


@dataclass(frozen=True)
class DeviceIdentity:
    """The device's name and signing key, and the public key of the authority's root."""

    device: bytes
    signer: Signer
    root_public_key: bytes


class Beliefs:
    """The trust, the recipient key and the device's own role that follow from the stored statements.

    A cache: everything in it can be read again from the store, and `refresh` does.
    """

    def __init__(self, identity: DeviceIdentity) -> None:
        self._device = identity.device
        self._trust = Trust(identity.root_public_key)
        self._recipient: Recipient | None = None
        self._role = Role.TABLET

    @property
    def trust(self) -> Trust:
        return self._trust

    @property
    def recipient(self) -> Recipient | None:
        """The center's newest key, or None before the first provisioning."""
        return self._recipient

    @property
    def role(self) -> Role:
        """What the device is certified as; a tablet until it is told."""
        return self._role

    def refresh(self, transaction: StoreTransaction) -> None:
        """Draw everything anew from the store."""
        trust = Trust(self._trust.root_public_key)
        for data in transaction.statements(statement.KEY_CERTIFICATE):
            trust = trust.learn(parse_statement(data))
        self._trust = trust
        keys = [parse_statement(data) for data in transaction.statements(statement.RECIPIENT_KEY)]
        newest = max(keys, key=lambda key: key.serial, default=None)
        self._recipient = None if newest is None else read_recipient_key(newest)
        self._role = role_of(self._device, transaction)

    def check(self, source: Statement) -> None:
        """Raise ProtocolError unless the statement is genuine and reads well where its kind is known here."""
        self._trust.check(source)
        if source.kind == statement.KEY_CERTIFICATE:
            self._trust.learn(source)
        elif source.kind == statement.DEVICE_CERTIFICATE:
            read_device_certificate(source)
        elif source.kind == statement.RECIPIENT_KEY:
            read_recipient_key(source)
        elif source.kind == statement.MEDIUM_CERTIFICATE:
            read_medium_certificate(source)
        elif source.kind == statement.COUNTED_LIST:
            read_sealed_list(source)


def origin_certificate(transaction: StoreTransaction, origin: bytes) -> DeviceCertificate:
    """Return the certificate of an origin; raises ProtocolError (untrusted_signer) when none is known."""
    data = transaction.statement(statement.DEVICE_CERTIFICATE, origin)
    if data is None:
        raise ProtocolError(Fault.UNTRUSTED_SIGNER, f"no certificate of device {origin.hex()} is known")
    return read_device_certificate(parse_statement(data))


def role_of(device: bytes, transaction: StoreTransaction) -> Role:
    """Return what a device is certified as; a tablet when no certificate of it is known."""
    data = transaction.statement(statement.DEVICE_CERTIFICATE, device)
    return Role.TABLET if data is None else read_device_certificate(parse_statement(data)).role
