"""Commands `media delegate` and `media delegates`: which collection points may enrol media by themselves."""

from __future__ import annotations

from pathlib import Path

import click

from central_broker.authority import AuthorityRecord, KeyState, delegate_media, withdraw_media
from central_broker.commands.context import CenterContext, find_device, json_option, now, pass_center
from central_broker.media import signer_of
from central_broker.storage.inquiry_records import DeviceRecord
from operations.console import fail, print_json, print_line, print_table
from sync_protocol.identity import Role, Standing, signer_name


@click.command(
    name="delegate",
    epilog="""\b
Examples:
  central-broker media delegate "laptop 3" --root-file /media/safe/root.sealed
  central-broker media delegate "laptop 3" --withdraw --root-file /media/safe/root.sealed
""",
)
@click.argument("device")
@click.option("--withdraw", is_flag=True, help="It may not any more; nobody believes the media that it enrolled.")
@click.option("--root-file", type=click.Path(path_type=Path, dir_okay=False), help="The sealed root, kept offline.")
@json_option
@pass_center
def media_delegate(
    center: CenterContext, *, device: str, withdraw: bool, root_file: Path | None, as_json: bool
) -> None:
    """Let the collection point DEVICE enrol media by itself, or no longer. Needs the root.

    Its own signing key is certified for media and for nothing else. Restart the receipt publisher and the consumers
    afterwards.
    """
    files = center.files()
    with files.only_one(), center.storage() as storage:
        record = find_device(storage, device)
        authority = files.authority()
        known = authority.delegation(record.public_key)
        delegated = is_delegated(authority, record)
        _check_delegate(record, withdraw=withdraw, ever=known is not None)
        changed = delegated is withdraw
        if changed:
            change = withdraw_media if withdraw else delegate_media
            authority = change(authority, files.root_key(root_file), record.public_key, now())
            files.save_authority(authority)
        signer = signer_name(record.public_key)
        enrolled = [one for one in storage.media() if signer_of(one) == signer and one.standing is Standing.ACTIVE]
    if as_json:
        orphaned = [one.medium for one in enrolled] if withdraw else []
        print_json({"device": record.device, "delegated": not withdraw, "changed": changed, "orphaned": orphaned})
        return
    said = "may not enrol media any more" if withdraw else "may enrol media"
    print_line(f"{record.name} ({record.device.hex()}) {said}{'' if changed else ', as before'}.")
    if changed:
        print_line("Now: systemctl restart census-receipts census-consumer; devices learn of it from the publisher.")
    if withdraw and enrolled:
        print_line("Tablets write no more to the media that it enrolled. For those that shall go on:")
        for one in enrolled:
            print_line(f"  central-broker media renew {one.medium.hex()}    number {one.number}")


@click.command(name="delegates")
@json_option
@pass_center
def media_delegates(center: CenterContext, as_json: bool) -> None:
    """The collection points that were ever delegated to enrol media."""
    authority = center.files().authority()
    with center.storage() as storage:
        devices = {signer_name(one.public_key).hex(): one for one in storage.devices()}
        enrolled = [signer_of(one).hex() for one in storage.media()]
    documents = []
    for one in authority.delegations:
        device = devices.get(one.name)
        documents.append(
            {
                "name": None if device is None else device.name,
                "device": None if device is None else device.device,
                "standing": None if device is None else device.standing.name.lower(),
                "delegation": one.state.value,
                "media": enrolled.count(one.name),
            }
        )
    if as_json:
        print_json(documents)
        return
    columns = ("name", "device", "standing", "delegation", "media")
    print_table(
        columns,
        [["" if row[column] is None else row[column] for column in columns] for row in documents],
        empty="no collection point may enrol media: central-broker media delegate DEVICE",
    )


def is_delegated(authority: AuthorityRecord, device: DeviceRecord) -> bool:
    """Tell whether this device may enrol media now."""
    known = authority.delegation(device.public_key)
    return known is not None and known.state is KeyState.ACTIVE


def print_delegation_left(device: DeviceRecord) -> None:
    """Say that a device that no longer stands as active may still enrol media: only the root can end that."""
    print_line(f"It may still enrol media. To end that: central-broker media delegate {device.device.hex()} --withdraw")


def _check_delegate(record: DeviceRecord, *, withdraw: bool, ever: bool) -> None:
    if withdraw:
        if not ever:
            fail(f"{record.name} never was delegated", "central-broker media delegates shows who was")
        return
    if record.role is not Role.COLLECTION_POINT:
        fail(f"{record.name} is no collection point", "only collection points enrol media")
    if record.standing is not Standing.ACTIVE:
        fail(
            f"{record.name} is {record.standing.name.lower()}",
            f"if it shall work again: central-broker devices standing {record.device.hex()} active",
        )
