"""Commands `backup …`: the watermark that frees tablets of their copies."""

from __future__ import annotations

from pathlib import Path

import click

from central_broker.backup import Backup, CommandFailed, as_time, copy_database, read_reached, wrap_command
from central_broker.commands.context import CenterContext, json_option, now, pass_center
from central_broker.storage.contract import StorageRefused
from operations.console import EXIT_USAGE, fail, print_json, print_line, print_table


@click.group()
def backup() -> None:
    """Backups of the census database, and what tablets may rely on.

    A tablet deletes its copy of a questionnaire only when the center's receipt says that the commit lies in a backup.
    Without backups here, every tablet keeps everything.

    \b
    SQLite:      central-broker backup run                       copies, checks, records
    PostgreSQL:  central-broker backup wrap -- pg_dump -Fc -f /backup/census.dump census
                 or, around a backup of your own:
                   MARK=$(central-broker backup mark) ; your-backup && central-broker backup record $MARK
    """


@backup.command(name="run")
@click.option("--to", "directory", type=click.Path(path_type=Path, file_okay=False), help="Where to put the copy.")
@json_option
@pass_center
def backup_run(center: CenterContext, directory: Path | None, as_json: bool) -> None:
    """Copy the SQLite database while it works, check the copy, and move the watermark to what is in it."""
    with center.storage() as storage:
        to = directory or center.configuration().directories.backup
        try:
            done = copy_database(storage, to, now())
        except StorageRefused as error:
            fail(str(error), "for PostgreSQL: central-broker backup wrap -- COMMAND of your site's backup")
    _say(done, as_json)


@backup.command(name="wrap", context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@json_option
@pass_center
def backup_wrap(center: CenterContext, command: tuple[str, ...], as_json: bool) -> None:
    """Run the site's own backup COMMAND; if it ends with status 0, record that it holds all that was committed before.

    \b
    Example:
      central-broker backup wrap -- pg_dump -Fc -f /backup/census.dump census
    """
    with center.storage() as storage:
        done = wrap_command(storage, command, now())
    if isinstance(done, CommandFailed):
        fail(
            f"{command[0]} ended with status {done.status}: the watermark stays where it was",
            "look at what the command said, and run it again",
        )
    _say(done, as_json)


@backup.command(name="mark")
@json_option
@pass_center
def backup_mark(center: CenterContext, as_json: bool) -> None:
    """Print the commit clock: run it before a backup begins, and `backup record` it when the backup is safe."""
    with center.storage() as storage:
        clock = storage.clock()
    if as_json:
        print_json({"clock": clock, "time": as_time(clock)})
        return
    print_line(str(clock))


@backup.command(name="record")
@click.argument("reached", metavar="VALUE|TIME")
@click.option("--note", default="", help="What to remember of it; goes to the log.")
@json_option
@pass_center
def backup_record(center: CenterContext, reached: str, note: str, as_json: bool) -> None:
    """Record what a backup of the site's own holds: a VALUE that `backup mark` printed before it began.

    \b
    A TIME when it began (2026-10-03T02:00:00Z) will do; ten minutes are taken off, for clocks that differ.
      central-broker backup record 1790992800000000
      central-broker backup record 2026-10-03T02:00:00+05:00 --note "tape 12"
    """
    try:
        value = read_reached(reached)
    except ValueError as error:
        fail(
            f"{reached!r} is neither a value of `backup mark` nor a time: {error}",
            "such as 1790992800000000 or 2026-10-03T02:00:00Z",
            exit_status=EXIT_USAGE,
        )
    with center.storage() as storage:
        try:
            receipts = storage.record_watermark(value, now())
        except StorageRefused as error:
            fail(str(error), "give a value between the present watermark and the clock: central-broker backup status")
    if note:
        click.echo(f"note: {note}", err=True)
    _say(Backup(None, value, 0, receipts), as_json)


@backup.command(name="status")
@json_option
@pass_center
def backup_status(center: CenterContext, as_json: bool) -> None:
    """How far backups reach, and how far the database is ahead of them."""
    with center.storage() as storage:
        clock, watermark = storage.clock(), storage.watermark()
    behind = (clock - watermark) / 1_000_000 if watermark else None
    if as_json:
        print_json(
            {
                "clock": clock,
                "watermark": watermark,
                "clock_time": as_time(clock) if clock else None,
                "watermark_time": as_time(watermark) if watermark else None,
                "behind_seconds": behind,
            }
        )
        return
    rows = [
        ("newest commit", f"{as_time(clock):%Y-%m-%d %H:%M:%S} UTC" if clock else "none"),
        ("backed up to", f"{as_time(watermark):%Y-%m-%d %H:%M:%S} UTC" if watermark else "nothing"),
    ]
    print_table(("", "backup"), rows)
    if clock > watermark:
        print_line("What was committed since the last backup, tablets keep until the next one.")


def _say(done: Backup, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "file": done.file,
                "reached": done.reached,
                "reached_time": as_time(done.reached),
                "bytes": done.bytes,
                "origins_told": done.receipts,
            }
        )
        return
    if done.file is not None:
        print_line(f"Copy: {done.file} ({done.bytes} bytes, checked)")
    if done.reached == 0:
        print_line("Nothing is committed yet.")
        return
    print_line(f"Backed up to {as_time(done.reached):%Y-%m-%d %H:%M:%S} UTC; {done.receipts} devices are told.")
