"""The device's own chain: sealing questionnaires into it, stating its head, and beginning it anew.

Invariant: an (epoch, sequence) is given to one envelope only, ever. The store holds the chain; when there is evidence
that the store has fallen behind what was given out before (the mirror file, a receipt, an own envelope coming back),
the next epoch begins.
"""

from __future__ import annotations

from hashlib import sha256

from edge_agent.engine.effects import Accepted, Effect, Level, Notice, Refused
from edge_agent.engine.events import ChainPosition, Submission
from edge_agent.engine.identity import Beliefs, DeviceIdentity
from edge_agent.engine.store import StoreTransaction
from sync_protocol import domains, statement
from sync_protocol.content import cut, encode_content
from sync_protocol.device_key import encode_device_key
from sync_protocol.envelope import KIND_DEVICE_KEY, seal_envelope
from sync_protocol.errors import ProtocolError
from sync_protocol.head import Head, sign_head
from sync_protocol.keys import RecipientPublicKey
from sync_protocol.statement import parse_statement

FIRST_EPOCH = 1


def open_chain(transaction: StoreTransaction, mirror: ChainPosition | None, now: int) -> list[Effect]:
    """Make sure that the chain goes on where it truly ended, or begins the next epoch."""
    epochs = transaction.epochs()
    if not epochs:
        if mirror is None:
            transaction.start_epoch(FIRST_EPOCH, reason="first start", now=now)
            return []
        return begin_epoch(transaction, after=mirror.epoch, reason="the queue was lost", now=now)
    position = epochs[-1]
    if mirror is None or (mirror.epoch, mirror.sequence) < (position.epoch, position.sequence):
        return []
    if mirror == position:
        return []
    return begin_epoch(transaction, after=mirror.epoch, reason="the queue is older than its mirror", now=now)


def begin_epoch(transaction: StoreTransaction, *, after: int, reason: str, now: int) -> list[Effect]:
    """Begin the epoch that follows `after` and every epoch known here."""
    epoch = max(after, *(position.epoch for position in transaction.epochs()), 0) + 1
    transaction.start_epoch(epoch, reason=reason, now=now)
    return [Notice("epoch_started", {"epoch": epoch, "reason": reason}, Level.WARNING)]


def submit(
    submission: Submission,
    transaction: StoreTransaction,
    identity: DeviceIdentity,
    beliefs: Beliefs,
    now: int,
    *,
    copies: int,
) -> list[Effect]:
    """Seal one questionnaire as the next links of the chain, or say why not; so many copies are to be made of them."""
    before = transaction.accepted_before(submission.key)
    if before is not None:
        repeated = Accepted(
            submission.request, before.epoch, before.first_sequence, before.last_sequence, repeated=True
        )
        return [repeated, Notice("submission_repeated", {"epoch": before.epoch, "sequence": before.first_sequence})]
    recipient = beliefs.recipient
    if recipient is None:
        remedy = "enrol the device: edge-agent enrol request, then edge-agent enrol install"
        return [Refused(submission.request, "the device has no key of the census center", remedy, again=True)]
    position = transaction.position()
    sequence, previous_id, size = position.sequence, position.last_id, 0
    try:
        parts = list(cut(submission.questionnaire))
    except ProtocolError as error:
        return [Refused(submission.request, error.detail, "correct the form or its program and submit again")]
    for metadata, body in parts:
        sequence += 1
        envelope = seal_envelope(
            encode_content(metadata, body),
            recipient=recipient,
            signer=identity.signer,
            origin=identity.device,
            epoch=position.epoch,
            sequence=sequence,
            previous_id=previous_id,
        )
        transaction.add_envelope(envelope, own=True, carrier=None, now=now, copies=copies)
        previous_id, size = envelope.id, size + len(envelope.data)
    accepted = Accepted(submission.request, position.epoch, position.sequence + 1, sequence, repeated=False)
    transaction.remember_submission(submission.key, accepted, now)
    fields = {"epoch": position.epoch, "sequence": accepted.first_sequence, "envelopes": len(parts), "bytes": size}
    return [accepted, Notice("accepted", fields)]


def announce_key(
    public_key: bytes,
    transaction: StoreTransaction,
    identity: DeviceIdentity,
    beliefs: Beliefs,
    now: int,
    *,
    copies: int,
) -> list[Effect]:
    """Seal the device's own recipient key as the next link of the chain, once; the center may seal lists to it."""
    recipient = beliefs.recipient
    key = sha256(domains.RECIPIENT + public_key).digest()
    if recipient is None or transaction.accepted_before(key) is not None:
        return []
    position = transaction.position()
    envelope = seal_envelope(
        encode_device_key(RecipientPublicKey(public_key)),
        recipient=recipient,
        signer=identity.signer,
        origin=identity.device,
        epoch=position.epoch,
        sequence=position.sequence + 1,
        previous_id=position.last_id,
        kind=KIND_DEVICE_KEY,
    )
    transaction.add_envelope(envelope, own=True, carrier=None, now=now, copies=copies)
    accepted = Accepted(0, envelope.epoch, envelope.sequence, envelope.sequence, repeated=False)
    transaction.remember_submission(key, accepted, now)
    return [Notice("list_key_announced", {"epoch": envelope.epoch, "sequence": envelope.sequence})]


def state_heads(transaction: StoreTransaction, identity: DeviceIdentity, now: int) -> list[Head]:
    """Return a signed head for every epoch of the device."""
    serial = receipt_serial(transaction, identity)
    return [
        sign_head(
            identity.signer,
            origin=identity.device,
            epoch=position.epoch,
            sequence=position.sequence,
            last_id=position.last_id,
            receipt_serial=serial,
            stated_at=now,
        )
        for position in transaction.epochs()
    ]


def receipt_serial(transaction: StoreTransaction, identity: DeviceIdentity) -> int:
    """Return the serial of the newest receipt for this device; 0 when there is none."""
    receipt = transaction.statement(statement.RECEIPT, identity.device)
    return 0 if receipt is None else parse_statement(receipt).serial
