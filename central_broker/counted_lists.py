"""Gives a device the list of who is counted already, sealed to the key that it has made (SPEC.md §4.3).

Not responsible for what the list says, nor for publishing it: whatever is stored, the receipt publisher sends.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from central_broker.storage.contract import Storage
from central_broker.storage.inquiry_records import CountedListRecord
from sync_protocol.counted_list import CountedList, encode_counted_list, seal_counted_list
from sync_protocol.keys import RecipientPublicKey, Signer


@dataclass(frozen=True, slots=True)
class Given:
    """What the device has been given; `is_new` is False when it was the same before, or another came meanwhile."""

    serial: int
    statement_bytes: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class NoKeyYet:
    """The device has told no key that a list could be sealed to: it has not been in touch, or asks for no lists."""

    device: bytes


def give_list(storage: Storage, issuer: Signer, device: bytes, counted_list: CountedList, now: int) -> Given | NoKeyYet:
    """Give a device a list in the place of the one before; the same again, to the same key, changes nothing.

    `issuer` is certified for content. Raises ListTooLarge, ProtocolError (bad_field), StorageUnavailable.
    """
    public_key = storage.device_key(device)
    if public_key is None:
        return NoKeyYet(device)
    key = RecipientPublicKey(public_key)
    digest = sha256(encode_counted_list(counted_list)).digest()
    last = storage.counted_list(device)
    if last is not None and (last.digest, last.recipient) == (digest, key.name):
        return Given(last.serial, len(last.statement), is_new=False)
    # A database that was put back to an older state must not give a serial out twice.
    serial = now if last is None else max(last.serial + 1, now)
    statement = seal_counted_list(issuer, key, device, counted_list, serial)
    is_new = storage.put_counted_list(device, CountedListRecord(serial, key.name, digest, statement.data))
    return Given(serial, len(statement.data), is_new)
