"""`edge-agent enrol`: the device's side of its enrolment."""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.commands.context import configured, json_option
from operations.console import fail, print_json, print_line
from sync_protocol.identity import Role


@click.group("enrol")
def command() -> None:
    """Make this device known to the census center. Its private keys never leave it."""


@command.command()
@click.option("--name", required=True, help='What people call the device, for example "tablet 17".')
@click.option(
    "--role",
    type=click.Choice([role.name.lower() for role in Role]),
    default=Role.TABLET.name.lower(),
    show_default=True,
    help="A collection point takes over everything that it meets.",
)
@json_option
@click.pass_context
def request(context: click.Context, name: str, role: str, as_json: bool) -> None:
    """Make the device's keys and write the request to take to the center."""
    from edge_agent import provisioning

    directory = configured(context).device.provisioning_directory
    try:
        made = provisioning.make_request(directory, name=name, role=Role[role.upper()])
    except provisioning.ProvisioningError as error:
        fail(str(error), error.remedy)
    path = directory / provisioning.REQUEST
    if as_json:
        print_json({"device": made.device, "name": made.name, "request": str(path)})
        return
    print_line(f"device {made.device.hex()} asks to be enrolled as {made.name!r}")
    print_line(f"take {path} to the center; there: central-broker enrol {path.name}")
    print_line("then install what it gives back: edge-agent enrol install provisioning.json")


@command.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@json_option
@click.pass_context
def install(context: click.Context, file: Path, as_json: bool) -> None:
    """Check the center's answer FILE against this device's keys and put it in place."""
    from edge_agent import provisioning

    directory = configured(context).device.provisioning_directory
    try:
        installed = provisioning.install(directory, file.read_bytes())
    except provisioning.ProvisioningError as error:
        fail(str(error), error.remedy)
    if as_json:
        print_json({"device": installed.device, "directory": str(directory)})
        return
    print_line(f"device {installed.device} is enrolled")
    print_line("now: edge-agent doctor, then systemctl enable --now edge-agent")
