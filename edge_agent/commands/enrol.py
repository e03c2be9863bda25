"""`edge-agent enrol`: the device's side of its enrolment."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Final

import click

from edge_agent.commands.context import configured, json_option
from edge_agent.configuration import Configuration
from operations.console import fail, print_json, print_line
from sync_protocol.identity import Role
from sync_protocol.records import RECORD_BYTES_MAX

DAEMON_USER: Final = "edge-agent"
"""Whom the packaged service runs as (systemd/sysusers.d)."""


@click.group("enrol", short_help="Make this device known to the center.")
def command() -> None:
    """Make this device known to the census center.

    Its private keys are made here and never leave it. Run as root (the keys are then given to the user that the
    state directory belongs to, whom the daemon runs as) or as that user.

    \b
    Once for each device:
      sudo edge-agent enrol request --name "tablet 17"
      (take request.json to the center, which answers with provisioning.json)
      sudo edge-agent enrol install /media/stick/provisioning.json
      sudo edge-agent doctor
    """


@command.command(short_help="Make keys and the request for the center.")
@click.option("--name", required=True, help='What people call the device, for example "tablet 17".')
@click.option(
    "--role",
    type=click.Choice([role.name.lower() for role in Role]),
    default=Role.TABLET.name.lower(),
    show_default=True,
    help="A collection point takes over everything that it meets; online takes in for the census web site.",
)
@json_option
@click.pass_context
def request(context: click.Context, name: str, role: str, as_json: bool) -> None:
    """Make the device's keys and write the request to take to the center.

    Running it again keeps the keys and writes the request anew, with another name if you give one.

    \b
    Examples:
      sudo edge-agent enrol request --name "tablet 17"
      sudo edge-agent enrol request --name "Petropavl laptop 2" --role collection_point

    Exit status 0: written; 1: it could not be; 2: the configuration or the command is wrong.
    """
    from edge_agent import enrolment, provisioning

    configuration = configured(context)
    directory = configuration.device.provisioning_directory
    try:
        kept = (directory / provisioning.SIGNING_KEY).exists()
        made = enrolment.make_request(directory, name=name, role=Role[role.upper()])
        owner = _give_to_daemon(configuration)
    except provisioning.ProvisioningError as error:
        fail(str(error), error.remedy)
    except PermissionError as error:
        fail(f"this user may not look into {directory}: {error.strerror}", "run as root: sudo edge-agent enrol request")
    path = directory / provisioning.REQUEST
    if as_json:
        print_json({"device": made.device, "name": made.name, "role": role, "request": str(path), "keys_kept": kept})
        return
    print_line(f"device {made.device.hex()} asks to be enrolled as {made.name!r} ({role.replace('_', ' ')})")
    if kept:
        print_line("it keeps the keys that it had")
    print_line(owner)
    print_line(f"take {path} to the center; there: central-broker enrol {path.name}")
    print_line("then install what it gives back: sudo edge-agent enrol install provisioning.json")


@command.command(short_help="Put the center's answer in place.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@json_option
@click.pass_context
def install(context: click.Context, file: Path, as_json: bool) -> None:
    """Check the center's answer FILE against this device's keys and put it in place.

    What is not this device's, or does not follow from one root key, is refused and changes nothing. Installing a newer
    answer over an older one is fine; restart the daemon afterwards.

    \b
    Example:
      sudo edge-agent enrol install /media/stick/provisioning.json

    Exit status 0: installed; 1: refused; 2: the configuration or the command is wrong.
    """
    from edge_agent import enrolment, provisioning

    configuration = configured(context)
    directory = configuration.device.provisioning_directory
    try:
        with file.open("rb") as opened:
            data = opened.read(RECORD_BYTES_MAX + 1)
    except OSError as error:
        fail(f"cannot read {file}: {error.strerror}", "copy the file to this device and try again")
    try:
        installed = enrolment.install(directory, data)
        owner = _give_to_daemon(configuration)
    except provisioning.ProvisioningError as error:
        fail(str(error), error.remedy)
    except PermissionError as error:
        fail(f"this user may not look into {directory}: {error.strerror}", "run as root: sudo edge-agent enrol install")
    if as_json:
        print_json({"device": installed.device, "directory": str(directory)})
        return
    print_line(f"device {installed.device} is enrolled")
    print_line(owner)
    print_line("now: sudo edge-agent doctor, then sudo systemctl enable --now edge-agent")


def _give_to_daemon(configuration: Configuration) -> str:
    """Give what root made to the daemon's user, who could not read it otherwise; return what people should know."""
    from edge_agent import enrolment

    directory = configuration.device.provisioning_directory
    if os.geteuid() != 0:
        return f"the keys in {directory} belong to this user: the daemon must run as the same"
    state_directory = configuration.device.state_directory
    try:
        owner = state_directory.stat()
        user_id, group_id = owner.st_uid, owner.st_gid
    except FileNotFoundError:
        try:
            entry = pwd.getpwnam(DAEMON_USER)
        except KeyError:
            return (
                f"the keys belong to root, because there is neither {state_directory} nor a user {DAEMON_USER}: if the "
                f"daemon is to run as another user, then: chown -R USER: {directory}"
            )
        user_id, group_id = entry.pw_uid, entry.pw_gid
    enrolment.hand_over(directory, user_id, group_id)
    return f"the keys in {directory} belong to {user_name(user_id)}, whom the daemon must run as"


def user_name(user_id: int) -> str:
    """Return a user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"user {user_id}"
