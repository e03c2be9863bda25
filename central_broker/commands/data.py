"""Commands `completeness` and `held`."""

from __future__ import annotations

import sys

import click

from central_broker.backup import as_time
from central_broker.commands.context import CenterContext, find_device, json_option, now, pass_center
from central_broker.commands.routes import counts_document, counts_words, route_words
from central_broker.storage.batch_records import HeldReason
from central_broker.storage.contract import Storage
from central_broker.storage.inquiry_records import Completeness, DeviceRecord, HeldRecord
from operations.console import EXIT_USAGE, fail, print_json, print_line, print_table
from sync_protocol.statement import parse_statement


@click.command(
    epilog="""\b
Examples:
  central-broker completeness
  central-broker completeness "tablet 17"
  central-broker completeness --incomplete --json
"""
)
@click.argument("device", required=False)
@click.option("--incomplete", is_flag=True, help="Only where something is missing, held or forked.")
@json_option
@pass_center
def completeness(center: CenterContext, device: str | None, incomplete: bool, as_json: bool) -> None:
    """What of everything ever sealed is here: by what each device itself has signed, without gaps.

    \b
    sealed     up to here, by the device's newest head or its newest envelope
    committed  in the census database
    held       kept aside for a look: central-broker held list
    missing    sealed, not here: on the tablet, on a carrier, on a stick
    forks      two different envelopes at one place of a chain: a copied or rolled back device. An alarm.
    route      how the device was last heard of. vpn: from itself. online: from itself, which takes in what
               was filled on the census web site. mesh: handed on by so many hops between
               devices near each other, until one had a link. usb: a medium was among the hops.
               relay: by a carrier that does not say. central-broker devices names the carrier.
    arrived    of what is here, how many envelopes came by each route; what came twice counts by the first
    """
    with center.storage() as storage:
        origin = None if device is None else find_device(storage, device).device
        records = [one for one in storage.completeness(origin) if not incomplete or _is_incomplete(one)]
        known = {one.device: one for one in storage.devices()}
        documents = [_document(storage, one, known) for one in records]
        silent = [
            one
            for one in known.values()
            if one.last_seen_at is None and origin in (None, one.device) and not incomplete
        ]
        totals, watermark = storage.totals(), storage.watermark()
        routes = storage.routes(origin)
    if as_json:
        print_json(
            {
                "devices": documents,
                "never_heard_of": [{"device": one.device, "name": one.name} for one in silent],
                "totals": totals,
                "routes": counts_document(routes),
                "backup_watermark": as_time(watermark) if watermark else None,
            }
        )
        return
    columns = ("name", "epoch", "sealed", "committed", "held", "missing", "forks", "last seen", "route", "receipt")
    rows = [
        tuple(document[column] for column in ("name", "epoch", "sealed", "committed", "held")) for document in documents
    ]
    tails = [
        (
            _ranges(one),
            one.forks,
            _seen(known.get(one.origin)),
            _route(known.get(one.origin)),
            document["receipt_serial"] or "",
        )
        for one, document in zip(records, documents, strict=True)
    ]
    print_table(columns, [row + tail for row, tail in zip(rows, tails, strict=True)], empty="nothing has come yet")
    for one in silent:
        print_line(f"never heard of: {one.name} ({one.device.hex()})")
    print_line(
        f"together: {totals.envelopes_committed} envelopes committed, {totals.questionnaires} questionnaires, "
        f"{totals.envelopes_held + totals.questionnaires_unreadable} held, "
        f"{totals.parts_waiting} waiting for their parts"
    )
    if routes:
        print_line(f"arrived{'' if origin is None else ' of ' + known[origin].name}: {counts_words(routes)}")
    said = f"{as_time(watermark):%Y-%m-%d %H:%M:%S} UTC" if watermark else "none: tablets keep everything"
    print_line(f"backed up to: {said}")


def _is_incomplete(one: Completeness) -> bool:
    return bool(one.missing_count or one.held or one.forks)


def _ranges(one: Completeness) -> str:
    """Such as "3: 7, 12–13"."""
    if not one.missing_count:
        return "none"
    runs = ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in one.missing[:8])
    return f"{one.missing_count}: {runs}{', …' if len(one.missing) > 8 else ''}"


def _seen(record: DeviceRecord | None) -> str:
    if record is None or record.last_seen_at is None:
        return ""
    return f"{as_time(record.last_seen_at):%Y-%m-%d %H:%M:%S}"


def _route(record: DeviceRecord | None) -> str:
    """Return how a device's last sign of life came."""
    return "" if record is None else route_words(record.last_route, record.last_hops)


def _document(storage: Storage, one: Completeness, known: dict[bytes, DeviceRecord]) -> dict[str, object]:
    record = known.get(one.origin)
    receipt = storage.receipt(one.origin)
    return {
        "device": one.origin,
        "name": "unknown device" if record is None else record.name,
        "standing": None if record is None else record.standing.name.lower(),
        "epoch": one.epoch,
        "sealed": one.sealed,
        "highest_received": one.highest,
        "committed": one.committed,
        "held": one.held,
        "missing": one.missing_count,
        "missing_runs": one.missing,
        "forks": one.forks,
        "last_committed_at": None if one.last_committed_at is None else as_time(one.last_committed_at),
        "last_seen_at": None if record is None or record.last_seen_at is None else as_time(record.last_seen_at),
        "route": None if record is None else record.last_route,
        "carrier": None if record is None else record.last_carrier,
        "hops": None if record is None else record.last_hops,
        "receipt_serial": None if receipt is None else parse_statement(receipt).serial,
    }


@click.group(invoke_without_command=True)
@click.pass_context
def held(context: click.Context) -> None:
    """What was kept aside instead of committed: never lost, and receipted as held. Alone, it lists it."""
    if context.invoked_subcommand is None:
        context.invoke(held_list, reason=None, device=None, limit=1000, as_json=False)


_REASONS = click.Choice([one.value for one in HeldReason])


@held.command(name="list")
@click.option("--reason", type=_REASONS, help="Only these.")
@click.option("--device", help="Only of this device (id or name).")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True)
@json_option
@pass_center
def held_list(center: CenterContext, reason: str | None, device: str | None, limit: int, as_json: bool) -> None:
    """Held things, oldest first, and how many there are of each reason."""
    with center.storage() as storage:
        origin = None if device is None else find_device(storage, device).device
        records = storage.held(reason=HeldReason(reason) if reason else None, origin=origin, limit=limit)
        counts = storage.held_counts()
        names = {one.device: one.name for one in storage.devices()}
    if as_json:
        print_json({"counts": counts, "held": [_held_document(one) for one in records]})
        return
    rows = [
        (
            one.id.hex()[:16],
            one.reason.value,
            "" if one.origin is None else names.get(one.origin, one.origin.hex()),
            "" if one.sequence is None else f"{one.epoch}/{one.sequence}",
            f"{as_time(one.received_at):%Y-%m-%d %H:%M:%S}",
            one.data_bytes,
            one.detail,
        )
        for one in records
    ]
    print_table(("id", "reason", "origin", "place", "received", "bytes", "detail"), rows, empty="nothing is held")
    print_line(", ".join(f"{count} {kind.value}" for kind, count in counts.items()))


def _held_document(one: HeldRecord) -> dict[str, object]:
    return {
        "id": one.id,
        "reason": one.reason,
        "detail": one.detail,
        "origin": one.origin,
        "epoch": one.epoch,
        "sequence": one.sequence,
        "envelope": one.envelope_id,
        "carrier": one.carrier,
        "route": one.route,
        "hops": one.hops,
        "received_at": as_time(one.received_at),
        "bytes": one.data_bytes,
    }


@held.command(name="show")
@click.argument("held_id", metavar="ID")
@click.option("--content", is_flag=True, help="Write the held bytes themselves to a file or pipe (not to a terminal).")
@json_option
@pass_center
def held_show(center: CenterContext, held_id: str, content: bool, as_json: bool) -> None:
    """One held thing (ID or its beginning), without what it holds.

    With --content its raw bytes go to standard output. Most are sealed envelopes, not opened by this command; but a
    joined questionnaire that could not be read is somebody's answers in the clear. Only who is sworn to the
    confidentiality of the census may look at it, and the file is to be destroyed afterwards.
    """
    with center.storage() as storage:
        record, data = _find_held(storage, held_id)
    if content:
        if sys.stdout.isatty():
            fail(
                "held bytes are not written to a terminal",
                f"central-broker held show {held_id} --content > FILE; only for who is sworn to confidentiality",
                exit_status=EXIT_USAGE,
            )
        click.echo("These may be a person's answers: only for who is sworn to the census's confidentiality.", err=True)
        sys.stdout.buffer.write(data)
        return
    if as_json:
        print_json(_held_document(record))
        return
    print_table(("", record.id.hex()[:16]), list(_held_document(record).items()))


def _find_held(storage: Storage, text: str) -> tuple[HeldRecord, bytes]:
    beginning = text.lower()
    found = None
    if len(beginning) == 64 and all(digit in "0123456789abcdef" for digit in beginning):
        found = storage.held_item(bytes.fromhex(beginning))
    elif len(beginning) >= 4:
        fitting = [one for one in storage.held(limit=1_000_000) if one.id.hex().startswith(beginning)]
        if len(fitting) > 1:
            fail(f"{text} begins {len(fitting)} ids", "write more of it", exit_status=EXIT_USAGE)
        found = storage.held_item(fitting[0].id) if fitting else None
    if found is None:
        fail(f"nothing of id {text} is held", "central-broker held list shows what is", exit_status=EXIT_USAGE)
    return found


@held.command(
    name="retry",
    epilog="""\b
Examples:
  central-broker held retry --reason unknown_form       after `forms add`
  central-broker held retry 4be1c0ffee                  one thing
  central-broker held retry --all
""",
)
@click.argument("held_ids", metavar="[ID]...", nargs=-1)
@click.option("--reason", type=_REASONS, help="Everything of this reason.")
@click.option("--device", help="Everything of this device (id or name).")
@click.option("--all", "everything", is_flag=True, help="Everything that is held.")
@json_option
@pass_center
def held_retry(
    center: CenterContext,
    *,
    held_ids: tuple[str, ...],
    reason: str | None,
    device: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Accept held things again: after the form was added, the device enrolled or made active, a key restored.

    What is accepted now gets today's commit time and a new receipt; what is not stays held.
    """
    from central_broker.directory import Directory
    from central_broker.forms.registry import FormRegistry
    from central_broker.reprocessing import known_forms
    from central_broker.retry import retry_held

    if not (held_ids or reason or device or everything):
        fail("nothing was named", "name ids, --reason, --device or --all", exit_status=EXIT_USAGE)
    files = center.files()
    with center.storage() as storage:
        chosen = [_find_held(storage, one)[0].id for one in held_ids]
        if reason or device or everything:
            origin = None if device is None else find_device(storage, device).device
            fitting = storage.held(reason=HeldReason(reason) if reason else None, origin=origin, limit=1_000_000)
            chosen += [one.id for one in fitting]
        directory = Directory(
            trust=files.trust(),
            secrets=files.recipient_keys(),
            devices=storage.devices(),
            forms=storage.forms(),
            registry=known_forms(storage, FormRegistry()),
        )
        result = retry_held(storage, directory, list(dict.fromkeys(chosen)), now())
    if as_json:
        print_json(result)
        return
    print_line(f"{result.committed} committed now, {result.duplicates} were there already, {result.held} still held")
