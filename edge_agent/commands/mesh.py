"""`edge-agent mesh`: who is near, what passed between us, and what is carried for whom."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import StringIO
from typing import Any, Final, TextIO

import click

from edge_agent.commands.context import ask_daemon, configured, json_option
from edge_agent.commands.status import carrier_name, mesh_sentence, moment
from edge_agent.configuration import Configuration
from edge_agent.control import STATUS
from operations.console import fail, print_json, print_line, print_table

_WATCH_INTERVAL_SECONDS: Final = 1
_NO_DAEMON: Final = ("the daemon does not run", "start it: systemctl start edge-agent")
_KIBIBYTE: Final = 1024

Printer = Callable[[dict[str, Any], TextIO], None]


@click.group("mesh", short_help="Who is near, what passed, and what is carried for whom.")
def command() -> None:
    """Devices on one network pass sealed questionnaires on toward whoever reaches the center, and receipts back.

    Nobody has to do anything for it: a Wi-Fi access point, a cable or a USB cable that both have is enough. Each side
    proves by its certificate that it is a device of this census. Nobody can read what it carries, and the device that
    sealed a questionnaire keeps it until the center's receipt comes, whoever else carries it.

    \b
    Examples:
      edge-agent mesh peers
      edge-agent mesh status --watch
      edge-agent mesh peers --json | jq -r '.[] | select(.reaches_center) | .name'

    Nobody there? sudo edge-agent doctor (its lines "mesh") says what is in the way.
    """


def _watch_option(function: Callable[..., None]) -> Callable[..., None]:
    return click.option("--watch", is_flag=True, help="Show it live, until Ctrl-C.")(function)


@command.command("peers")
@_watch_option
@json_option
@click.pass_context
def peers_command(context: click.Context, watch: bool, as_json: bool) -> None:
    """List the devices that are connected now, longest connected first.

    \b
    device      its name at the center, if this device knows its certificate, and the first digits of its own name
    dialled by  who began: "us" or "it"
    center      whether it reaches the center now, or how long ago it had heard it when it last said so
    room        what it can still keep for others
    in, out     bundles that came from it and went to it since it is connected; received is all that came, in KB
    """
    configuration = configured(context)
    _show(configuration, lambda document: document["mesh"]["neighbours"], print_peers, watch=watch, as_json=as_json)


@command.command("status", short_help="Show how it stands, what was handed over, and what is carried.")
@_watch_option
@json_option
@click.pass_context
def status_command(context: click.Context, watch: bool, as_json: bool) -> None:
    """Show whether this device talks with neighbours, who took its envelopes over, and what it carries for whom.

    What was handed over is safe twice, and still kept here: only the center's receipt ends that.
    """
    configuration = configured(context)
    _show(configuration, _standing, print_standing, watch=watch, as_json=as_json)


def _standing(document: dict[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in ("mesh", "handovers", "custody")}


def _show(
    configuration: Configuration,
    part: Callable[[dict[str, Any]], Any],
    show: Printer,
    *,
    watch: bool,
    as_json: bool,
) -> None:
    if watch and as_json:
        fail("--watch and --json do not go together", "ask for --json as often as you need it", exit_status=2)
    if watch:
        _watch(configuration, show)
        return
    document = _document(configuration)
    if as_json:
        print_json(part(document))
    else:
        written = StringIO()
        show(document, written)
        click.echo(written.getvalue(), nl=False)


def _watch(configuration: Configuration, show: Printer) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(refresh_per_second=4) as live:
        try:
            while True:
                written = StringIO()
                show(_document(configuration), written)
                print_line("\nCtrl-C ends", written)
                live.update(Text(written.getvalue()))
                time.sleep(_WATCH_INTERVAL_SECONDS)
        except KeyboardInterrupt:
            return


def _document(configuration: Configuration) -> dict[str, Any]:
    document = ask_daemon(configuration, {"request": STATUS}) or fail(*_NO_DAEMON)
    if "mesh" not in document:
        fail("the daemon that runs is of an earlier release", "sudo systemctl restart edge-agent")
    return document


def print_peers(document: dict[str, Any], stream: TextIO) -> None:
    """Write who is connected, for people."""
    neighbours = document["mesh"]["neighbours"]
    if not neighbours:
        print_line(f"{mesh_sentence(document['mesh'])}", stream)
        return
    columns = ("device", "role", "address", "since", "dialled by", "center", "room (MB)", "in", "out", "received (KB)")
    rows = [
        (
            carrier_name(one["name"], one["device"]),
            "—" if one["role"] is None else one["role"].replace("_", " "),
            one["address"],
            moment(one["connected_at"]),
            "us" if one["dialled"] else "it",
            _center(one),
            "—" if one["room_bytes"] is None else one["room_bytes"] // _KIBIBYTE**2,
            one["bundles_in"],
            one["bundles_out"],
            one["bytes_in"] // _KIBIBYTE,
        )
        for one in neighbours
    ]
    print_table(columns, rows, stream=stream)


def _center(neighbour: dict[str, Any]) -> str:
    if neighbour["reaches_center"]:
        return "reaches it now"
    seconds = neighbour["last_contact_seconds"]
    return "never heard it" if seconds is None else f"heard it {duration(seconds)} ago"


def duration(seconds: int) -> str:
    """Return a duration for people, in its largest unit."""
    for length, word in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length} {word}"
    return f"{seconds} s"


def print_standing(document: dict[str, Any], stream: TextIO) -> None:
    """Write how it stands with neighbours, for people."""
    mesh = document["mesh"]
    print_line(f"{mesh_sentence(mesh)} (duty: {mesh['duty']})", stream)
    for place in mesh["listening"]:
        print_line(f"neighbours are let in at {place}", stream)
    if mesh["refused"]:
        print_line(f"{mesh['refused']} connections refused since the start; the last: {mesh['last_refusal']}", stream)
    print_table(
        ("taken over by", "own envelopes", "last"),
        [
            (carrier_name(one["name"], one["carrier"], one["role"]), one["envelopes"], moment(one["last_at"]))
            for one in document["handovers"]
        ],
        title="without a receipt yet, and handed over",
        empty="no own envelope that still waits for its receipt was handed over to another device or a medium",
        stream=stream,
    )
    custody = document["custody"]
    print_table(
        ("carried for", "envelopes", "KB"),
        [
            (carrier_name(one["name"], one["origin"]), one["envelopes"], one["bytes"] // _KIBIBYTE)
            for one in custody["largest"]
        ],
        title=f"carried for others ({custody['origins']}): {custody['envelopes']} envelopes",
        empty="nothing is carried for other devices",
        stream=stream,
    )
    if custody["origins"] > len(custody["largest"]):
        print_line(f"and for {custody['origins'] - len(custody['largest'])} devices with less", stream)
