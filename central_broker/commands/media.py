"""Command `media`: the Department's USB media, and who may enrol them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from central_broker.commands.context import CenterContext, find_medium, json_option, now, pass_center
from central_broker.commands.media_delegation import media_delegate, media_delegates
from central_broker.commands.media_sticks import media_enrol, media_write
from central_broker.commands.medium_documents import certified_by, document, last_day, signature, signers
from central_broker.commands.refusals import or_fail
from central_broker.media import (
    change_medium,
    is_believed,
    record_medium,
    words_of,
)
from central_broker.medium_folder import (
    MediumFolderError,
    identity_path,
    read_identity_file,
)
from operations.console import fail, print_json, print_line, print_table
from operations.last_day import NEVER, expires_option
from sync_protocol.errors import ProtocolError
from sync_protocol.identity import Standing

_STANDINGS = [one.name.lower() for one in Standing]

_FOLDER: Final = click.Path(path_type=Path, file_okay=False, exists=True)


@click.group(
    invoke_without_command=True,
    epilog="""\b
A stick, from the shop to the field:
  sudo central-broker media enrol --number 0017 --holder "A. Akhmetova" --device /dev/sdb1
  central-broker media standing 0017 lost          tablets write to it no more
""",
)
@click.pass_context
def media(context: click.Context) -> None:
    """USB media of the Department: tablets without a link write to these, and to no others. Alone, it lists them."""
    if context.invoked_subcommand is None:
        context.invoke(media_list, standing=None, as_json=False)


@media.command(name="list")
@click.option("--standing", type=click.Choice(_STANDINGS), help="Only these.")
@json_option
@pass_center
def media_list(center: CenterContext, standing: str | None, as_json: bool) -> None:
    """Every medium with its holder and standing: of those that collection points enrolled, the ones heard of here."""
    authority = center.files().authority()
    with center.storage() as storage:
        records = [one for one in storage.media() if standing in (None, one.standing.name.lower())]
        names = signers(authority, storage.devices())
    if as_json:
        print_json([{**document(one), **signature(one, authority, names)} for one in records])
        return
    print_table(
        ("number", "medium", "holder", "standing", "expires", "certified by"),
        [
            (
                one.number,
                one.medium,
                one.holder,
                one.standing.name.lower(),
                last_day(one.expires_at) or NEVER,
                certified_by(one, authority, names),
            )
            for one in records
        ],
        empty="no medium is enrolled yet: central-broker media enrol --number N --holder NAME --out FOLDER",
    )


@media.command(name="show")
@click.argument("medium")
@json_option
@pass_center
def media_show(center: CenterContext, medium: str, as_json: bool) -> None:
    """One MEDIUM (id, beginning of an id, or number)."""
    authority = center.files().authority()
    with center.storage() as storage:
        record = find_medium(storage, medium)
        names = signers(authority, storage.devices())
    found = {**document(record), **signature(record, authority, names)}
    if as_json:
        print_json(found)
        return
    print_table(("", record.number), list(found.items()))


@media.command(
    name="standing",
    epilog="""\b
Examples:
  central-broker media standing 0017 lost
  central-broker media standing 3fa9 revoked
""",
)
@click.argument("medium")
@click.argument("standing", type=click.Choice(_STANDINGS))
@json_option
@pass_center
def media_standing(center: CenterContext, medium: str, standing: str, as_json: bool) -> None:
    """Say how MEDIUM stands from now on. What is on it still counts: a finder may bring it to a collection point.

    \b
    active    tablets write to it
    returned  handed back; tablets write to it no more
    lost      the same
    revoked   the same, for good reason
    """
    files = center.files()
    with files.only_one(), center.storage() as storage:
        record = find_medium(storage, medium)
        wanted = Standing[standing.upper()]
        changed = wanted is not record.standing or not is_believed(record, files.authority())
        if changed:
            words = replace(words_of(record), standing=wanted)
            record = or_fail(change_medium(record, words, storage=storage, signer=files.issuing_key(), now=now()))
    if as_json:
        print_json({"medium": record.medium, "number": record.number, "standing": standing, "changed": changed})
        return
    print_line(f"Medium {record.number} ({record.medium.hex()}) is {standing}{'' if changed else ', as before'}.")
    if changed:
        print_line("Devices learn of it from the receipt publisher, and from each other.")


@media.command(
    name="renew",
    epilog="""\b
Examples:
  central-broker media renew 0017 --expires 2026-12-31
  central-broker media renew 0017 --holder "B. Suleimenov"
  central-broker media renew 0017                 after its collection point's delegation was withdrawn
""",
)
@click.argument("medium")
@click.option("--holder", help="Who answers for it from now on.")
@expires_option
@json_option
@pass_center
def media_renew(center: CenterContext, *, medium: str, holder: str | None, expires: int | None, as_json: bool) -> None:
    """Certify MEDIUM anew, with another holder or last day; what is not named stays, its standing too.

    Devices with a link learn of it by themselves; for the others, write it onto the stick as well.
    """
    files = center.files()
    with files.only_one(), center.storage() as storage:
        record = find_medium(storage, medium)
        words = words_of(record)
        words = replace(words, holder=words.holder if holder is None else holder)
        words = replace(words, expires_at=words.expires_at if expires is None else expires)
        record = or_fail(change_medium(record, words, storage=storage, signer=files.issuing_key(), now=now()))
    if as_json:
        print_json(document(record))
        return
    print_line(f"Medium {record.number} ({record.medium.hex()}) is certified anew, for {record.holder}.")
    print_line(f"When the stick is at hand: central-broker media write {record.medium.hex()} --out FOLDER")


@media.command(
    name="record",
    epilog="""\b
Examples:
  central-broker media record /media/stick
""",
)
@click.argument("folder", type=_FOLDER)
@json_option
@pass_center
def media_record(center: CenterContext, folder: Path, as_json: bool) -> None:
    """Take the stick mounted at FOLDER into the register: a collection point enrolled it, or a restored database
    lacks it.

    Nothing is written to it, and a newer word on it that is known here stays.
    """
    try:
        identity = read_identity_file(folder)
    except MediumFolderError as error:
        fail(error.problem, error.remedy)
    except ProtocolError as error:
        fail(f"{identity_path(folder)} cannot be used: {error.detail}", "enrol the stick anew")
    if identity is None:
        fail(f"there is no {identity_path(folder)}", "name the root of a stick that was enrolled")
    files = center.files()
    with files.only_one(), center.storage() as storage:
        record = or_fail(record_medium(identity, trust=files.trust(), storage=storage, now=now()))
    if as_json:
        print_json(document(record))
        return
    print_line(f"Medium {record.number} ({record.medium.hex()}) is {record.standing.name.lower()}.")


media.add_command(media_enrol)
media.add_command(media_write)
media.add_command(media_delegate)
media.add_command(media_delegates)
