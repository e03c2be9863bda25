"""Command `export`: census tables as files."""

from __future__ import annotations

from pathlib import Path

import click

from central_broker.commands.context import CenterContext, json_option, pass_center
from central_broker.export import ExportRefused, Format, export_table
from operations.console import EXIT_USAGE, fail, print_json, print_line, print_table


@click.command(
    epilog="""\b
Examples:
  central-broker export census_household --to /secure/2021-11-05
  central-broker export census_household --to /secure/2021-11-05 --format parquet
  central-broker export census_household --to /secure/all --everything      replaced and doubled ones, too
"""
)
@click.argument("form")
@click.option("--to", "folder", required=True, type=click.Path(path_type=Path, file_okay=False), help="A new folder.")
@click.option(
    "--format", "kind", type=click.Choice([one.value for one in Format]), default=Format.CSV.value, show_default=True
)
@click.option("--everything", is_flag=True, help="Also what an edit has replaced, and all with the same instance id.")
@json_option
@pass_center
def export(center: CenterContext, form: str, folder: Path, kind: str, *, everything: bool, as_json: bool) -> None:
    """Write the tables of a form into files, one for each table, for statisticians' programs.

    In CSV a text that a spreadsheet would take for a formula begins with an apostrophe. The files hold people's
    answers: only for who is sworn to the confidentiality of the census.
    """
    from rich.progress import Progress, TextColumn

    with center.storage() as storage:
        tables = storage.form_tables(form)
        if not tables:
            fail(f"{form} has no tables", "central-broker forms lists the forms that have some", exit_status=EXIT_USAGE)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        written: list[tuple[Path, int]] = []
        columns = (TextColumn("{task.description} {task.completed} rows"),)
        try:
            with Progress(*columns, disable=as_json, transient=True) as progress:
                for table in tables:
                    task = progress.add_task(table.name, total=None)
                    counting = None if everything else tables[0]
                    written.append(
                        export_table(
                            storage,
                            table,
                            folder,
                            Format(kind),
                            counting=counting,
                            on_rows=lambda count, task=task: progress.advance(task, count),  # type: ignore[misc]  # a default binds it
                        )
                    )
        except ExportRefused as refused:
            fail(refused.problem, refused.remedy)
    if as_json:
        print_json([{"file": str(path), "rows": rows} for path, rows in written])
        return
    print_table(("file", "rows"), [(path.name, rows) for path, rows in written])
    print_line("These are people's answers: only for who is sworn to the census's confidentiality.")
