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
_HANDOVERS_SHOWN_MAX: Final = 5
_NEIGHBOURS_NAMED_MAX: Final = 3
_DAY_HOURS: Final = 24
_DEVICE_DIGITS: Final = 8
"""Enough of a device's name to find it in the journal."""
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
    from edge_agent.own_list import OwnListStatus
    from edge_agent.status_document import status_document

    try:
        device = provisioning.load(configuration.device.provisioning_directory).identity.device
    except provisioning.ProvisioningError as error:
        fail(str(error), error.remedy)
    alarm = configuration.sync.receipt_silence_alarm_seconds * 1_000_000
    with queue_without_daemon(configuration) as query:
        document = status_document(
            query,
            device=device,
            link=None,
            silence_alarm=alarm,
            now=time.time_ns() // 1_000,
            counted_list=OwnListStatus(device, configuration.device.state_directory),
        )
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
    for line in _near(document):
        print_line(line, stream)
    for line in _form_programs(document.get("openrosa")):
        print_line(line, stream)
    for line in _counted_list(document):
        print_line(line, stream)
    for line in _web_site(document.get("online")):
        print_line(line, stream)
    counts = document["envelopes"]
    print_table(("envelopes", "how many"), [(_WORDS[state], counts[state]) for state in _WORDS], stream=stream)
    if counts.get("device_keys"):
        print_line(f"{counts['device_keys']} of them no questionnaire, but the key for lists of who is counted", stream)


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


def _near(document: dict[str, Any]) -> list[str]:
    """Return how it stands with neighbours, and where own envelopes are besides."""
    # A daemon of an earlier release, which still runs after an update, tells neither.
    mesh, handovers = document.get("mesh"), document.get("handovers", [])
    lines = [] if mesh is None else [mesh_sentence(mesh)]
    for one in handovers[:_HANDOVERS_SHOWN_MAX]:
        who = carrier_name(one["name"], one["carrier"], one["role"])
        lines.append(f"handed over to {who}: {one['envelopes']} envelopes, last {moment(one['last_at'])}")
    if len(handovers) > _HANDOVERS_SHOWN_MAX:
        more = len(handovers) - _HANDOVERS_SHOWN_MAX
        lines.append(f"handed over to {more} more: edge-agent mesh status")
    return lines


def _form_programs(openrosa: dict[str, Any] | None) -> list[str]:
    """Return what a person enters in ODK Collect, or why nothing can be submitted there."""
    if openrosa is None:
        return []
    if openrosa["listening"]:
        return [f"server address for ODK Collect, KoboCollect and Enketo: {openrosa['address']}"]
    return [f"form programs cannot submit: {openrosa['problem'] or 'the endpoint is about to start'}"]


def _counted_list(document: dict[str, Any]) -> list[str]:
    """Return how old the list of who is counted is, or why it cannot be shown."""
    known = document.get("counted_list")  # a daemon of an earlier release tells nothing
    if known is None:
        return []
    if known["as_of"] is None:
        return [f"the list of who is counted cannot be shown: {known['problem']}; {known['remedy']}"]
    now = max(document["clock"], document["newest_signed_time"] or 0)
    how_old = f"as of {moment(known['as_of'])}, {age(known['as_of'], now)} old"
    return [f"list of who is counted: {how_old}: edge-agent counted"]


def age(since: int, now: int) -> str:
    """Return how long ago something was, to the day or hour; the newest of all clocks is believed."""
    hours = max(0, now - since) // 3_600_000_000
    if hours >= 2 * _DAY_HOURS:
        return f"{hours // _DAY_HOURS} days"
    return "1 hour" if hours == 1 else f"{hours} hours"


def _web_site(online: dict[str, Any] | None) -> list[str]:
    """Return where the census web site hands questionnaires in, or why it cannot."""
    if online is None:
        return []
    if online["listening"]:
        return [f"the census web site hands in at {online['address']}"]
    return [f"the census web site cannot hand in: {online['problem'] or 'the endpoint is about to start'}"]


def mesh_sentence(mesh: dict[str, Any]) -> str:
    """Return how it stands with neighbours, in one sentence."""
    near = len(mesh["neighbours"])
    if near:
        named = ", ".join(
            carrier_name(one["name"], one["device"]) for one in mesh["neighbours"][:_NEIGHBOURS_NAMED_MAX]
        )
        more = f" and {near - _NEIGHBOURS_NAMED_MAX} more" if near > _NEIGHBOURS_NAMED_MAX else ""
        return f"mesh: {near} {'neighbour' if near == 1 else 'neighbours'} connected: {named}{more}"
    if not mesh["awake"]:
        return f"mesh: no neighbour is looked for: {mesh['asleep_because']}"
    if not mesh["interfaces"]:
        return "mesh: this device is on no local network, where neighbours could be"
    return f"mesh: no neighbour is connected; looked for on {', '.join(mesh['interfaces'])}"


def carrier_name(name: str | None, device: str, role: str | None = None) -> str:
    """Return a device or medium as people and the journal know it."""
    if name is None:
        return device
    return f"medium {name}" if role == "medium" else f"{name} ({device[:_DEVICE_DIGITS]}…)"


def moment(microseconds: int | None) -> str:
    """Return a time for people, in UTC; a dash for none."""
    if microseconds is None:
        return "—"
    try:
        return datetime.fromtimestamp(microseconds / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):  # a clock beyond the calendar
        return f"{microseconds} µs after 1970"
