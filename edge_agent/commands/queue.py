"""`edge-agent queue`: what is in the queue, envelope by envelope."""

from __future__ import annotations

from typing import Any

import click

from edge_agent.commands.context import ask_daemon, configured, json_option, queue_without_daemon
from edge_agent.commands.status import moment
from edge_agent.control import QUEUE_LIST, QUEUE_SHOW
from edge_agent.queue import inspection
from operations.console import fail, print_json, print_line, print_table


@click.group("queue")
def command() -> None:
    """Look at the queue. What the questionnaires say cannot be shown: this device cannot read it any more."""


@command.command("list")
@click.option("--state", type=click.Choice(inspection.STATES), help="Only envelopes in this state.")
@click.option(
    "--rows", type=click.IntRange(1, inspection.ROWS_MAX), default=50, show_default=True, help="How many, newest first."
)
@json_option
@click.pass_context
def list_(context: click.Context, state: str | None, rows: int, as_json: bool) -> None:
    """List envelopes, the newest first."""
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
    print_table(
        ("epoch", "sequence", "state", "bytes", "accepted", "sync mark", "attempts", "origin"),
        [
            (
                row["epoch"],
                row["sequence"],
                row["state"],
                row["bytes"],
                moment(row["received_at"]),
                moment(row["committed_at"]),
                row["attempts"],
                "this device" if row["own"] else row["origin"],
            )
            for row in found
        ],
        empty="the queue has no such envelope",
    )


@command.command()
@click.argument("sequence", type=click.IntRange(1))
@click.option("--epoch", type=click.IntRange(1), help="In this epoch only.")
@json_option
@click.pass_context
def show(context: click.Context, sequence: int, epoch: int | None, as_json: bool) -> None:
    """Show everything known of this device's envelope SEQUENCE."""
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
            print_line(f"{name.replace('_', ' '):>14}  {_readable(name, value)}")
        print_line("")


def _readable(name: str, value: Any) -> str:
    return moment(value) if name.endswith("_at") else "—" if value is None else str(value)
