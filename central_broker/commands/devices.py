"""Commands `enrol` and `devices`."""

from __future__ import annotations

from pathlib import Path

import click

from central_broker.backup import as_time
from central_broker.center_files import CenterFiles
from central_broker.commands.authority import write_for_broker
from central_broker.commands.context import CenterContext, find_device, json_option, now, pass_center
from central_broker.commands.media_delegation import is_delegated, print_delegation_left
from central_broker.commands.routes import carrier_words, route_words
from central_broker.enrolment import Issuers, Refused, change_standing, enrol, revocation_list
from central_broker.storage.contract import Storage
from central_broker.storage.inquiry_records import DeviceRecord
from operations.console import fail, print_json, print_line, print_table
from operations.durable_files import write_durably
from sync_protocol.errors import ProtocolError
from sync_protocol.identity import Standing
from sync_protocol.records import EnrolmentRequest, decode_record, encode_record

_STANDINGS = [one.name.lower() for one in Standing]


@click.command(
    name="enrol",
    epilog="""\b
Examples:
  central-broker enrol request-tablet17.json
  central-broker enrol request.json --out /media/stick/provisioning.json
  central-broker enrol request.json --replaces "tablet 17"     the old tablet was handed back
  central-broker enrol request-web1.json --online              a machine of the census web site
""",
)
@click.argument("request_file", metavar="REQUEST.json", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the result.  [beside the request]"
)
@click.option("--replaces", help="The device (id or name) whose place this one takes.")
@click.option(
    "--replaced-is",
    type=click.Choice(["returned", "lost", "revoked"]),
    default="returned",
    show_default=True,
    help="How the replaced device stands from now on.",
)
@click.option("--online", is_flag=True, help="It takes questionnaires in for the census web site (docs/online.md).")
@click.option("--renew", is_flag=True, help="New certificates even for a request that was answered before.")
@json_option
@pass_center
def enrol_command(
    center: CenterContext,
    *,
    request_file: Path,
    out: Path | None,
    replaces: str | None,
    replaced_is: str,
    online: bool,
    renew: bool,
    as_json: bool,
) -> None:
    """Certify the device that made REQUEST.json (`edge-agent enrol request`), and write what it is to be given.

    The result holds no secret. The same request again gives the same result.
    """
    try:
        request = decode_record(request_file.read_bytes(), EnrolmentRequest)
    except ProtocolError as error:
        fail(f"{request_file}: {error.detail}", "name the file that `edge-agent enrol request` wrote on the device")
    files = center.files()
    with files.only_one(), center.storage() as storage:
        old = None if replaces is None else find_device(storage, replaces).device
        issuers = Issuers(files.issuing_key(), files.tls_issuing())
        result = enrol(
            request,
            files=files,
            storage=storage,
            issuers=issuers,
            now=now(),
            replaces=old,
            standing_of_replaced=Standing[replaced_is.upper()],
            renew=renew,
            online=online,
        )
        if isinstance(result, Refused):
            fail(result.problem, result.remedy)
        if old is not None and replaced_is == "revoked":
            _renew_revocations(files, storage, issuers)
    path = out or request_file.with_name(f"provisioning-{result.device.hex()}.json")
    write_durably(path, encode_record(result.provisioning))
    if as_json:
        print_json(
            {
                "device": result.device,
                "name": request.name,
                "provisioning": path,
                "renewed": result.renewed,
                "replaced": None if result.replaced is None else result.replaced.device,
            }
        )
        return
    print_line(f"{request.name} is {'known already' if result.renewed else 'enrolled'}: {result.device.hex()}")
    if result.replaced is not None:
        print_line(f"It takes the place of {result.replaced.device.hex()}, which is {replaced_is} now.")
        if is_delegated(files.authority(), result.replaced):
            print_delegation_left(result.replaced)
    print_line(f"Carry {path} to the device; there: edge-agent enrol install {path.name}")


def _renew_revocations(files: CenterFiles, storage: Storage, issuers: Issuers) -> bool:
    """Write the revocation list where the broker reads it; False when there is no broker folder yet."""
    revocations = revocation_list(files, storage, issuers.tls)
    if not (files.configuration.directories.broker / "mosquitto.conf").exists():
        return False
    write_for_broker(files, issuers.tls, revocations, new_certificate=False)
    return True


@click.group(invoke_without_command=True)
@click.pass_context
def devices(context: click.Context) -> None:
    """The devices: which there are, how they stand, when they were last heard of. Alone, it lists them."""
    if context.invoked_subcommand is None:
        context.invoke(devices_list, standing=None, as_json=False)


@devices.command(name="list")
@click.option("--standing", type=click.Choice(_STANDINGS), help="Only these.")
@json_option
@pass_center
def devices_list(center: CenterContext, standing: str | None, as_json: bool) -> None:
    """Every device with its standing, and its last sign of life: an envelope or head of its own, by any carrier.

    \b
    route    vpn: from the device itself. online: from the device itself, which takes in what was filled
             on the census web site. mesh: handed on by so many hops between devices near each
             other, until one had a link. usb: a medium was among the hops. relay: the carrier does
             not say
    carrier  who brought it, if not the device itself. Route and hops are its word, for statistics.
    """
    with center.storage() as storage:
        records = [one for one in storage.devices() if standing in (None, one.standing.name.lower())]
    names = {one.device: one.name for one in records}
    if as_json:
        print_json([_document(one) for one in records])
        return
    print_table(
        ("name", "device", "role", "standing", "last seen", "route", "carrier"),
        [
            (
                one.name,
                one.device,
                one.role.name.lower(),
                one.standing.name.lower(),
                "never" if one.last_seen_at is None else f"{as_time(one.last_seen_at):%Y-%m-%d %H:%M:%S}",
                route_words(one.last_route, one.last_hops),
                carrier_words(one, names),
            )
            for one in records
        ],
        empty="no device is enrolled yet: central-broker enrol REQUEST.json",
    )


def _document(record: DeviceRecord) -> dict[str, object]:
    return {
        "device": record.device,
        "name": record.name,
        "role": record.role.name.lower(),
        "standing": record.standing.name.lower(),
        "serial": record.serial,
        "enrolled_at": as_time(record.enrolled_at),
        "last_seen_at": None if record.last_seen_at is None else as_time(record.last_seen_at),
        "last_route": record.last_route,
        "last_carrier": record.last_carrier,
        "last_hops": record.last_hops,
    }


@devices.command(name="show")
@click.argument("device")
@json_option
@pass_center
def devices_show(center: CenterContext, device: str, as_json: bool) -> None:
    """One DEVICE (id, beginning of an id, or name), with its certificates."""
    files = center.files()
    with center.storage() as storage:
        record = find_device(storage, device)
    document = _document(record)
    document["public_key"] = record.public_key
    document["tls_certificates"] = [one.serial for one in files.issued() if one.device == record.device.hex()]
    if as_json:
        print_json(document)
        return
    print_table(("", record.name), list(document.items()))


@devices.command(
    name="standing",
    epilog="""\b
Examples:
  central-broker devices standing "tablet 17" returned
  central-broker devices standing 3fa9 lost
""",
)
@click.argument("device")
@click.argument("standing", type=click.Choice(_STANDINGS))
@json_option
@pass_center
def devices_standing(center: CenterContext, device: str, standing: str, as_json: bool) -> None:
    """Say how DEVICE stands from now on.

    \b
    active    works
    returned  handed back; what still comes of its chain is held for a look, not lost
    lost      the same, and other devices are told; it may still connect, so that an honest finder can bring its data
    revoked   not let in at all any more; what others carry for it is held
    """
    files = center.files()
    with files.only_one(), center.storage() as storage:
        record = find_device(storage, device)
        wanted = Standing[standing.upper()]
        issuers = Issuers(files.issuing_key(), files.tls_issuing())
        changed = wanted is not record.standing
        if changed:
            change_standing(record, wanted, storage=storage, signer=issuers.signer, now=now())
        # Also when nothing changed: a crash may have come between the statement and the list.
        involved = Standing.REVOKED in (wanted, record.standing)
        reload = involved and _renew_revocations(files, storage, issuers)
    delegated = is_delegated(files.authority(), record)
    if as_json:
        print_json(
            {
                "device": record.device,
                "standing": standing,
                "changed": changed,
                "reload_broker": reload,
                "enrols_media": delegated,
            }
        )
        return
    print_line(f"{record.name} ({record.device.hex()}) is {standing}{'' if changed else ', as before'}.")
    if changed:
        print_line("Devices learn of it from the receipt publisher.")
    if delegated and wanted is not Standing.ACTIVE:
        print_delegation_left(record)
    if reload:
        print_line("The broker must read it: systemctl reload census-broker (the installed units do it by themselves).")
        print_line("Restart it instead, if the device may be connected at this moment.")
    elif involved:
        print_line("The broker's list of revocations is written by `central-broker broker`.")
