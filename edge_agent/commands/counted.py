"""`edge-agent counted`: who of the people listed where this device's interviewer goes is counted already."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import click

from edge_agent.commands.context import ask_daemon, configured, json_option, queue_without_daemon
from edge_agent.commands.status import age, moment
from edge_agent.configuration import Configuration
from edge_agent.control import COUNTED_LIST
from operations.console import fail, print_json, print_line, print_table

EXIT_NOBODY: Final = 3
_WORDS: Final = {"missing": "MISSING", "counted": "counted", "unlisted": "counted, not listed"}


@click.group("counted", invoke_without_command=True, short_help="Show who is counted already.")
@click.option("--place", metavar="TEXT", help="Only places whose code is TEXT, or whose title has it in it.")
@click.option("--missing", is_flag=True, help="Only people who are not counted yet.")
@json_option
@click.pass_context
def command(context: click.Context, place: str | None, missing: bool, as_json: bool) -> None:
    """Show who of the people listed where you go is counted already: online, by tablet, by proxy.

    The center makes the list and seals it to this device; nobody on its way can read it. It tells how things stood at
    the time that it names: who was counted since is missing in it. Members of the operators' group may ask the running
    daemon; root may, too, without one. Times are in UTC.

    \b
    Examples:
      edge-agent counted
      edge-agent counted --place "School 4" --missing
      edge-agent counted check иванов
      edge-agent counted check 4821-0937

    Exit status 0: shown; 1: there is no list, or it cannot be shown; 2: the configuration or the command is wrong; 3:
    the list has nobody of that kind.
    """
    if context.invoked_subcommand is not None:
        if place is not None or missing or as_json:
            fail("these options do not go with a further command", "edge-agent counted check --help", exit_status=2)
        return
    list_, how_old = _own_list(configured(context))
    chosen = [
        one
        for one in list_["sections"]
        if place is None or folded(place) == folded(one["place"]) or folded(place) in folded(one["title"])
    ]
    sections = [
        {**one, "entries": [entry for entry in one["entries"] if not missing or entry["status"] == "missing"]}
        for one in chosen
    ]
    if as_json:
        print_json({**list_, "sections": sections})
    else:
        for one, whole in zip(sections, chosen, strict=True):
            _print_section(one, whole)
        print_line(how_old)
    if not any(one["entries"] for one in sections):
        context.exit(EXIT_NOBODY)


@command.command("check", short_help="Look for one person, or for the number of a notice.")
@click.argument("name_or_number", nargs=-1, required=True)
@json_option
@click.pass_context
def check(context: click.Context, name_or_number: tuple[str, ...], as_json: bool) -> None:
    """Look for a person by part of the name, or for the number on the notice of an online answer.

    Capitals do not matter, nor does ё for е. Each word must be found in the name. A number that is not found may be
    genuine all the same: the notice may have been issued after the list was made.

    \b
    Examples:
      edge-agent counted check ахметова айгуль
      edge-agent counted check 4821-0937

    Exit status 0: found; 1: there is no list, or it cannot be shown; 2: the configuration or the command is wrong; 3:
    not found.
    """
    text = " ".join(name_or_number)
    if not _number(text):
        fail("neither a name nor a number is given", "edge-agent counted check --help", exit_status=2)
    list_, how_old = _own_list(configured(context))
    places = [one for one in list_["sections"] if _number(text) in map(_number, one["notices"])]
    people = list(_people(list_, text))
    if as_json:
        found = [{"place": one["place"], "title": one["title"], **entry} for one, entry in people]
        notices = [{"place": one["place"], "title": one["title"]} for one in places]
        print_json({"as_of": list_["as_of"], "notices": notices, "people": found})
    else:
        for one in places:
            print_line(f"the notice {text} was issued for {one['title']}: on the list of {moment(list_['as_of'])}")
        if people:
            print_table(("place", *_COLUMNS), [(one["title"], *_row(entry)) for one, entry in people])
        if not places and not people:
            print_line(f"nobody of that name and no notice of that number is on the list of {moment(list_['as_of'])}")
        print_line(how_old)
    if not places and not people:
        context.exit(EXIT_NOBODY)


def folded(text: str) -> str:
    """Return a text as it is compared: without capitals, ё as е, single spaces."""
    return " ".join(text.casefold().replace("ё", "е").split())


def _number(text: str) -> str:
    """Return a notice's number as it is compared: people write spaces and hyphens into it as they like."""
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _people(list_: dict[str, Any], text: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    words = folded(text).split()
    for one in list_["sections"]:
        for entry in one["entries"]:
            name = folded(entry["name"])
            if all(word in name for word in words):
                yield one, entry


_COLUMNS: Final = ("name", "born", "room", "status", "by", "on")


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    told = [entry[member] or "" for member in ("birth_date", "room")]
    how = [entry[member] or "" for member in ("channel", "counted_on")]
    return entry["name"], *told, _WORDS[entry["status"]], *how


def _print_section(shown: dict[str, Any], whole: dict[str, Any]) -> None:
    counts = {status: sum(entry["status"] == status for entry in whole["entries"]) for status in _WORDS}
    listed = counts["counted"] + counts["missing"]
    print_line(f"{shown['title']} ({shown['place']}): {counts['counted']} of {listed} counted")
    if counts["unlisted"]:
        print_line(f"and {counts['unlisted']} counted there who are not listed")
    print_table(_COLUMNS, map(_row, shown["entries"]), empty="nobody to show")


def _own_list(configuration: Configuration) -> tuple[dict[str, Any], str]:
    """Return the opened list, and how old it is; ends the command when there is none, or it cannot be opened."""
    answer = ask_daemon(configuration, {"request": COUNTED_LIST}) or _without_daemon(configuration)
    list_: dict[str, Any] | None = answer["list"]
    if list_ is None:
        if not configuration.device.counted_lists:
            fail("this device asks for no lists", "set counted_lists = true in the configuration, restart the daemon")
        fail(
            "no list of who is counted has come for this device yet",
            "connect the VPN, or meet a collection point or its stick; if it lasts, ask the center for a list",
        )
    # The tablet's clock may have begun at 1970 again.
    now = max(time.time_ns() // 1_000, answer["newest_signed_time"] or 0)
    return list_, f"as of {moment(list_['as_of'])}; the list is {age(list_['as_of'], now)} old"


def _without_daemon(configuration: Configuration) -> dict[str, Any]:
    """Return what the daemon would answer."""
    from edge_agent import provisioning
    from edge_agent.engine.receipts import SIGNED_TIME
    from edge_agent.own_list import ListUnreadable, list_document, open_own_list
    from edge_agent.queue.inspection import remembered

    try:
        device = provisioning.load(configuration.device.provisioning_directory).identity.device
        with queue_without_daemon(configuration) as query:
            opened = open_own_list(query, device, configuration.device.state_directory)
            signed_time = remembered(query).get(SIGNED_TIME)
    except (provisioning.ProvisioningError, ListUnreadable) as error:
        fail(str(error), error.remedy)
    return {"list": None if opened is None else list_document(opened), "newest_signed_time": signed_time}
