"""`edge-agent queue`: what is in the queue, envelope by envelope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from edge_agent.commands.context import ask_daemon, configured, json_option, queue_without_daemon
from edge_agent.commands.status import moment
from edge_agent.control import QUEUE_LIST, QUEUE_SHOW, SEQUENCE_MAX
from edge_agent.queue import inspection
from operations.console import fail, print_json, print_line, print_table


@click.group("queue")
def command() -> None:
    """Look at the queue. What the questionnaires say cannot be shown: this device cannot read it any more.

    \b
    An envelope is in one of these states:
      waiting        not sent yet
      sent           the center's receipt is awaited; without one it is sent again
      synchronised   in the census database; kept until its backup has it too
      purged         synchronised, and its bytes dropped
      held           the center could not use it: ask there
    """


@command.command("list")
@click.option("--state", type=click.Choice(inspection.STATES), help="Only envelopes in this state.")
@click.option(
    "--rows", type=click.IntRange(1, inspection.ROWS_MAX), default=50, show_default=True, help="How many, newest first."
)
@json_option
@click.pass_context
def list_(context: click.Context, state: str | None, rows: int, as_json: bool) -> None:
    """List envelopes, the newest first. Times are in UTC.

    \b
    Examples:
      edge-agent queue list
      edge-agent queue list --state held
      edge-agent queue list --state waiting --rows 10000 --json

    Exit status 0: listed; 1: it cannot be; 2: the configuration or the command is wrong.
    """
    configuration = configured(context)
    answer = ask_daemon(configuration, {"request": QUEUE_LIST, "state": state, "rows": rows})
    if answer is None:
        with queue_without_daemon(configuration) as query:
            found = inspection.list_envelopes(query, state=state, rows_max=rows)
    else:
        found = answer["rows"]
    if as_json:
        print_json(found)
        return
    _print_rows(found)


def _print_rows(found: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that fit a terminal of 80 columns; what is in an envelope, and whose it is, stands there only where
    that is not the same of all.
    """
    columns = ["epoch", "sequence", "state", "bytes", "accepted", "sync mark", "sent"]
    foreign = any(not row["own"] for row in found)
    kinds = any(_kind(row) != inspection.QUESTIONNAIRE for row in found)
    rows = []
    for row in found:
        cells = [
            row["epoch"],
            row["sequence"],
            row["state"],
            row["bytes"],
            _minute(row["received_at"]),
            _minute(row["committed_at"]),
            "—" if row["attempts"] is None else row["attempts"],
        ]
        cells += [_kind(row)] if kinds else []
        rows.append([*cells, "own" if row["own"] else row["origin"][:8]] if foreign else cells)
    columns += ["what"] if kinds else []
    print_table([*columns, "origin"] if foreign else columns, rows, empty="the queue has no such envelope")


def _kind(row: Mapping[str, Any]) -> str:
    # A daemon of an earlier release, which still runs after an update, does not tell it.
    kind: str = row.get("kind", inspection.QUESTIONNAIRE)
    return kind


def _minute(microseconds: int | None) -> str:
    """Return a time to the minute; `queue show` has it in full."""
    text = moment(microseconds)
    return text[: -len(":00 UTC")] if text.endswith(" UTC") else text


@command.command()
@click.argument("sequence", type=click.IntRange(1, SEQUENCE_MAX))
@click.option("--epoch", type=click.IntRange(1, SEQUENCE_MAX), help="In this epoch only.")
@json_option
@click.pass_context
def show(context: click.Context, sequence: int, epoch: int | None, as_json: bool) -> None:
    """Show everything known of this device's envelope SEQUENCE. Times are in UTC.

    `committed` is the sync mark: when the census database committed it. `next` is when it is sent again, unless a
    receipt comes before.

    \b
    Examples:
      edge-agent queue show 412
      edge-agent queue show 412 --epoch 2 --json

    Exit status 0: shown; 1: there is no such envelope, or it cannot be shown; 2: the configuration or the command is
    wrong.
    """
    configuration = configured(context)
    answer = ask_daemon(configuration, {"request": QUEUE_SHOW, "sequence": sequence, "epoch": epoch})
    if answer is None:
        with queue_without_daemon(configuration) as query:
            found = inspection.show_envelope(query, sequence, epoch)
    else:
        found = answer["rows"]
    if not found:
        fail(f"this device has no envelope {sequence}", "edge-agent queue list shows the newest ones")
    if as_json:
        print_json(found)
        return
    for row in found:
        for name, value in row.items():
            label = name.removesuffix("_at").replace("_", " ")
            print_line(f"{label:>9}  {_readable(name, value)}")
        print_line("")


def _readable(name: str, value: Any) -> str:
    if name.endswith("_at"):
        return moment(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "—" if value is None else str(value)
