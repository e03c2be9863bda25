"""`edge-agent media`: what came of the media that were plugged in, visits by hand, and new media."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from edge_agent.commands.context import ask_daemon, configured, json_option
from edge_agent.commands.media_enrol import check_command, enrol_command
from edge_agent.control import MEDIA, MEDIA_VISIT
from operations.console import fail, print_json, print_line, print_table

_POLL_SECONDS: Final = 0.2
_WATCH_INTERVAL_SECONDS: Final = 1
_NO_DAEMON: Final = ("the daemon does not run", "start it: systemctl start edge-agent")


@click.group("media", short_help="What came of media that were plugged in; visits by hand; new media.")
def command() -> None:
    """Enrolled media take questionnaires to a collection point and bring receipts back, without anybody's help.

    \b
    Examples:
      edge-agent media list
      edge-agent media status --watch
      edge-agent media import /media/usb     read bundles from a folder, or from a medium mounted by hand
      edge-agent media export /media/usb     leave there what waits; the folder must be an enrolled medium
      sudo edge-agent media enrol /dev/sdb1 --number 0017 --holder "A. Akhmetova"
    """


@command.command("list")
@json_option
@click.pass_context
def list_command(context: click.Context, as_json: bool) -> None:
    """List the visits since the daemon started, newest last."""
    visits = _visits(context)
    if as_json:
        print_json(visits)
    else:
        _print_visits(visits, "no medium has been plugged in since the daemon started")


@command.command("show")
@click.argument("visit")
@json_option
@click.pass_context
def show_command(context: click.Context, visit: str, as_json: bool) -> None:
    """Show everything of one VISIT; `media list` names them."""
    found = [one for one in _visits(context) if one["visit"].startswith(visit)]
    if len(found) != 1:
        fail(f"{len(found)} visits are named {visit}", "edge-agent media list shows their names")
    if as_json:
        print_json(found[0])
    else:
        print_table(["what", "value"], [[name.replace("_", " "), _shown(value)] for name, value in found[0].items()])


@command.command("status")
@click.option("--watch", is_flag=True, help="Show it live, until Ctrl-C.")
@click.pass_context
def status_command(context: click.Context, watch: bool) -> None:
    """Show the media that are in place, or were a minute ago, and how far their visits are."""
    while True:
        visits = [one for one in _visits(context) if one["shown"]]
        if watch:
            click.clear()
        _print_visits(visits, "no medium is in place; edge-agent media list shows earlier ones")
        if not watch:
            return
        time.sleep(_WATCH_INTERVAL_SECONDS)


@command.command("import")
@click.argument("folder", metavar="PATH", type=click.Path(path_type=Path, file_okay=False, exists=True))
@json_option
@click.pass_context
def import_command(context: click.Context, folder: Path, as_json: bool) -> None:
    """Read the bundles below PATH/CENSUS: receipts, and on a collection point others' envelopes.

    Nothing there is changed. The daemon reads it, so PATH must be readable for its user.
    """
    _visit(context, folder, leaves=False, as_json=as_json)


@command.command("export")
@click.argument("folder", metavar="PATH", type=click.Path(path_type=Path, file_okay=False, exists=True))
@json_option
@click.pass_context
def export_command(context: click.Context, folder: Path, as_json: bool) -> None:
    """Visit PATH as a medium that was plugged in: read it, leave what waits, tidy up.

    PATH must be an enrolled medium (`central-broker media enrol`), and the daemon's user must be able to write to it.
    """
    _visit(context, folder, leaves=True, as_json=as_json)


command.add_command(check_command)
command.add_command(enrol_command)


def _visit(context: click.Context, folder: Path, *, leaves: bool, as_json: bool) -> None:
    from rich.progress import Progress

    request = {"request": MEDIA_VISIT, "folder": str(folder.resolve()), "leaves": leaves}
    answer = ask_daemon(configured(context), request) or fail(*_NO_DAEMON)
    with Progress(transient=True, disable=as_json) as bar:
        task = bar.add_task("reading", total=None)
        while (visit := _found(context, answer["visit"]))["ending"] is None:
            done, total = _done(visit)
            bar.update(task, description=visit["stage"] or "mounting", completed=done, total=total)
            time.sleep(_POLL_SECONDS)
    if as_json:
        print_json(visit)
    else:
        print_line(visit["sentence"])
        if visit["detail"] and visit["ending"] != "left_alone":
            print_line(visit["detail"])
        for file in visit["damaged_files"]:
            print_line(f"damaged: {file}")
    context.exit(0 if visit["ending"] == ("safe" if leaves else "read") else 1)


def _done(visit: dict[str, Any]) -> tuple[int, int | None]:
    """Return how far the stage is, and how far it goes where that is known."""
    match visit["stage"]:
        case "reading":
            return visit["files_read"], visit["files_found"]
        case "checking":
            return visit["files_checked"], visit["files_written"]
        case _:
            return visit.get("files_written", 0), None


def _found(context: click.Context, name: str) -> dict[str, Any]:
    visits = [one for one in _visits(context) if one["visit"] == name]
    return visits[0] if visits else fail("the daemon was restarted meanwhile", "ask for it once more")


def _visits(context: click.Context) -> list[dict[str, Any]]:
    answer = ask_daemon(configured(context), {"request": MEDIA}) or fail(*_NO_DAEMON)
    visits: list[dict[str, Any]] = answer["visits"]
    return visits


def _print_visits(visits: list[dict[str, Any]], empty: str) -> None:
    if not visits:
        print_line(empty)
        return
    rows = [
        [one["visit"][:8], _time(one["began_at"]), one["node"], one["number"] or "", _counted(one), one["sentence"]]
        for one in visits
    ]
    print_table(["visit", "began (UTC)", "node", "number", "envelopes", "how it stands"], rows)


def _counted(visit: dict[str, Any]) -> str:
    return f"{visit.get('envelopes_read', 0)} read, {visit.get('envelopes_written', 0)} left"


def _time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return "" if value is None else str(value)
