"""`edge-agent status`: how the device and its queue stand."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import click

from edge_agent.commands.context import ask_daemon, configured, json_option, queue_without_daemon
from edge_agent.configuration import Configuration
from edge_agent.control import STATUS
from operations.console import print_json, print_line, print_table

_WORDS = {
    "waiting": "waiting to be sent",
    "sent": "sent, receipt awaited",
    "synchronised": "synchronised, kept until the center's backup has them",
    "purged": "synchronised and purged",
    "held": "held at the center",
    "carried_for_others": "carried for other devices",
}


@click.command("status")
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Show what waits, what the center has, and what is wrong, if anything is.

    Exit status 0 when all is well, 3 when there is an alarm: so that a program may ask.
    """
    configuration = configured(context)
    document = ask_daemon(configuration, {"request": STATUS}) or _without_daemon(configuration)
    document.pop("ok", None)
    if as_json:
        print_json(document)
    else:
        _print(document)
    context.exit(3 if document["alarms"] else 0)


def _without_daemon(configuration: Configuration) -> dict[str, Any]:
    from edge_agent import provisioning
    from edge_agent.control import status_document
    from operations.console import fail

    try:
        device = provisioning.load(configuration.device.provisioning_directory).identity.device
    except provisioning.ProvisioningError as error:
        fail(str(error), error.remedy)
    alarm = configuration.sync.receipt_silence_alarm_seconds * 1_000_000
    with queue_without_daemon(configuration) as query:
        return status_document(query, device=device, link=None, silence_alarm=alarm, now=time.time_ns() // 1_000)


def _print(document: dict[str, Any]) -> None:
    for alarm in document["alarms"]:
        print_line(f"ALARM: {alarm}")
    print_line(f"device {document['device']}")
    link = document["link"]
    if link is None:
        print_line("the daemon does not run: systemctl start edge-agent")
    else:
        connection = f"connected to {link['broker']}" if link["connected"] else f"not connected to {link['broker']}"
        problem = f" ({link['last_problem']})" if link["last_problem"] else ""
        print_line(f"{link['vpn']}; {connection}{problem}")
    print_line(f"last receipt: {moment(document['last_receipt_at'])}")
    print_table(("envelopes", "how many"), [(_WORDS[state], document["envelopes"][state]) for state in _WORDS])


def moment(microseconds: int | None) -> str:
    """Return a time for people, in UTC; a dash for none."""
    if microseconds is None:
        return "—"
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
