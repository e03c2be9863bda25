"""`edge-agent status`: how the device and its queue stand."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from io import StringIO
from typing import Any, Final, TextIO

import click

from edge_agent.commands.context import ask_daemon, configured, json_option, queue_without_daemon
from edge_agent.configuration import Configuration
from edge_agent.control import STATUS
from operations.console import fail, print_json, print_line, print_table

EXIT_ALARM: Final = 3
_WATCH_INTERVAL_SECONDS: Final = 2
_WORDS: Final = {
    "waiting": "waiting to be sent",
    "sent": "sent, receipt awaited",
    "synchronised": "synchronised, kept until the center's backup has them",
    "purged": "synchronised and purged",
    "held": "held at the center",
    "carried_for_others": "carried for other devices",
}


@click.command("status", short_help="Show how the device and its queue stand.")
@click.option("--watch", is_flag=True, help="Show it live, until Ctrl-C.")
@json_option
@click.pass_context
def command(context: click.Context, watch: bool, as_json: bool) -> None:
    """Show what waits, what the center has, and what is wrong, if anything is.

    Works without a running daemon too, for root and the daemon's user. Times are in UTC.

    \b
    Examples:
      edge-agent status
      edge-agent status --watch
      edge-agent status --json | jq .envelopes.waiting

    Exit status 0: all is well; 1: it cannot be told; 2: the configuration or the command is wrong; 3: there is an
    alarm.
    """
    configuration = configured(context)
    if watch and as_json:
        fail("--watch and --json do not go together", "ask for --json as often as you need it", exit_status=2)
    if watch:
        _watch(configuration)
        return
    document = _document(configuration)
    if as_json:
        print_json(document)
    else:
        print_status(document)
    context.exit(EXIT_ALARM if document["alarms"] else 0)


def _document(configuration: Configuration) -> dict[str, Any]:
    document = ask_daemon(configuration, {"request": STATUS}) or _without_daemon(configuration)
    document.pop("ok", None)
    return document


def _without_daemon(configuration: Configuration) -> dict[str, Any]:
    from edge_agent import provisioning
    from edge_agent.control import status_document

    try:
        device = provisioning.load(configuration.device.provisioning_directory).identity.device
    except provisioning.ProvisioningError as error:
        fail(str(error), error.remedy)
    alarm = configuration.sync.receipt_silence_alarm_seconds * 1_000_000
    with queue_without_daemon(configuration) as query:
        document = status_document(query, device=device, link=None, silence_alarm=alarm, now=time.time_ns() // 1_000)
    # As the daemon's answer has it, which came as JSON.
    return {**document, "device": device.hex()}


def _watch(configuration: Configuration) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(refresh_per_second=4) as live:
        try:
            while True:
                written = StringIO()
                print_status(_document(configuration), written)
                print_line("\nCtrl-C ends", written)
                live.update(Text(written.getvalue()))
                time.sleep(_WATCH_INTERVAL_SECONDS)
        except KeyboardInterrupt:
            return


def print_status(document: dict[str, Any], stream: TextIO | None = None) -> None:
    """Write the status for people."""
    for alarm in document["alarms"]:
        print_line(f"ALARM: {alarm}", stream)
    print_line(f"device {document['device']}", stream)
    for line in _way(document["link"]):
        print_line(line, stream)
    print_line(f"last receipt: {moment(document['last_receipt_at'])}", stream)
    for visit in document["media"]:
        print_line(f"medium {visit['number'] or visit['node']}: {visit['sentence']}", stream)
    counts = document["envelopes"]
    print_table(("envelopes", "how many"), [(_WORDS[state], counts[state]) for state in _WORDS], stream=stream)


def _way(link: dict[str, Any] | None) -> list[str]:
    if link is None:
        return ["the daemon does not run: sudo systemctl start edge-agent"]
    lines = [f"{link['vpn']}"]
    if link["connected"]:
        lines.append(f"connected to {link['broker']} since {moment(link['connected_since'])}")
    else:
        lines.append(f"not connected to {link['broker']}")
    if link["last_problem"]:
        lines.append(f"since {moment(link['problem_since'])}: {link['last_problem']}")
    return lines


def moment(microseconds: int | None) -> str:
    """Return a time for people, in UTC; a dash for none."""
    if microseconds is None:
        return "—"
    try:
        return datetime.fromtimestamp(microseconds / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):  # a clock beyond the calendar
        return f"{microseconds} µs after 1970"
