"""Records as rows: the columns of each table in its order, for both databases."""

from __future__ import annotations

from typing import Final

from central_broker.storage.batch_records import STORED_NUMBER_MAX, ArrivedHead, CertifiedDevice, ChainLink, PartContent
from central_broker.storage.receipt_records import RunEnd
from central_broker.storage.recording import HeldRow, Placed, QuestionnaireRow

LAST_SEEN_GRAIN_MICROSECONDS: Final = 10_000_000
"""A device's last sign of life is written again after this long: it is for people."""


def envelope_parameters(row: Placed, batch: int) -> tuple[object, ...]:
    """Return the columns of `envelope`."""
    link, arrival = row.link, row.arrival
    return (
        link.origin,
        link.id,
        link.epoch,
        link.sequence,
        link.previous_id,
        row.status.value,
        arrival.route.value,
        arrival.carrier,
        arrival.received_at,
        batch,
        arrival.hops,
    )


def questionnaire_parameters(row: QuestionnaireRow, batch: int) -> tuple[object, ...]:
    """Return the columns of `questionnaire`."""
    content = row.content
    return (
        row.origin,
        row.id,
        row.epoch,
        row.sequence,
        content.form,
        content.form_version,
        content.instance_id,
        content.media_type,
        content.created_at,
        row.parts,
        batch,
        row.whole_digest,
        content.content,
        content.body,
    )


def part_parameters(link: ChainLink, content: PartContent) -> tuple[object, ...]:
    """Return the columns of `part`."""
    return (
        link.origin,
        content.whole,
        content.part,
        content.parts,
        link.id,
        link.epoch,
        link.sequence,
        content.form,
        content.form_version,
        content.instance_id,
        content.media_type,
        content.created_at,
        content.whole_digest,
        content.body,
    )


def held_parameters(row: HeldRow, batch: int) -> tuple[object, ...]:
    """Return the columns of `held`."""
    item, link = row.item, row.item.link
    return (
        item.id,
        item.reason.value,
        item.detail,
        *((None, None, None, None) if link is None else (link.origin, link.epoch, link.sequence, link.id)),
        int(item.receiptable),
        int(row.whole),
        item.arrival.carrier,
        item.arrival.route.value,
        item.arrival.received_at,
        batch,
        item.data,
        item.arrival.hops,
    )


def head_parameters(arrived: ArrivedHead) -> tuple[object, ...]:
    """Return the columns of `head`."""
    head = arrived.head
    return (
        head.origin,
        head.epoch,
        head.sequence,
        head.receipt_serial,
        head.last_id,
        min(head.stated_at, STORED_NUMBER_MAX),
        head.data,
    )


def run_end_parameters(run_end: RunEnd, now: int) -> tuple[object, ...]:
    """Return the columns of `run_end`."""
    return (run_end.origin, run_end.id, run_end.epoch, run_end.sequence, now)


def device_parameters(device: CertifiedDevice, now: int) -> tuple[object, ...]:
    """Return the columns of `device`, without the last sign of life."""
    certificate = device.certificate
    return (
        certificate.device,
        certificate.name,
        int(certificate.role),
        int(certificate.standing),
        certificate.public_key,
        min(certificate.issued_at, STORED_NUMBER_MAX),
        certificate.serial,
        device.data,
        now,
    )
