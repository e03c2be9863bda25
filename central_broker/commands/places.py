"""Commands `places`: the territory and institution tables, by which coverage is counted."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click

from central_broker.commands.context import CenterContext, json_option, pass_center
from central_broker.coverage.places import (
    Institution,
    PlacesRefused,
    Territory,
    oblasts,
    read_institutions,
    read_territories,
)
from operations.console import fail, print_json, print_line, print_table


@click.group(invoke_without_command=True)
@click.pass_context
def places(context: click.Context) -> None:
    """Oblasts, districts and institutions: what `coverage` sorts people by. Alone, it lists them."""
    if context.invoked_subcommand is None:
        context.invoke(places_list, as_json=False)


@places.command(
    name="territories",
    epilog="""\b
Example:
  central-broker places territories territories.csv
\b
  code,parent,name,name_kk
  59,,Северо-Казахстанская область,Солтүстік Қазақстан облысы
  593200,59,Аккайынский район,Аққайың ауданы
""",
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@json_option
@pass_center
def places_territories(center: CenterContext, file: Path, as_json: bool) -> None:
    """Take a CSV file as the table of oblasts and districts, in the place of the one before.

    Columns: code, parent (empty for an oblast), name, and more names of the same in columns that begin with `name`.
    Codes are those of the classifier (KATO) or others, as long as the forms' codes of regions are among them.
    """
    with center.storage() as storage:
        try:
            territories = read_territories(file.read_bytes())
        except PlacesRefused as refused:
            _refuse(file, refused)
        known = {one.code for one in territories}
        lost = sorted(one.name for one in storage.institutions() if one.district not in known)
        if lost:
            _refuse(file, PlacesRefused(f"{len(lost)} institutions lie in districts that are not in it: {lost[0]}"))
        storage.replace_places(territories, storage.institutions())
    of_oblasts = sum(not one.parent for one in territories)
    if as_json:
        print_json({"oblasts": of_oblasts, "districts": len(territories) - of_oblasts})
        return
    print_line(f"{of_oblasts} oblasts and {len(territories) - of_oblasts} districts; everybody is sorted by them anew.")


@places.command(
    name="institutions",
    epilog="""\b
Example:
  central-broker places institutions institutions.csv
\b
  bin,name,district,type
  010640000002,Дом-интернат для престарелых,593200,7
""",
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@json_option
@pass_center
def places_institutions(center: CenterContext, file: Path, as_json: bool) -> None:
    """Take a CSV file as the table of institutions, in the place of the one before.

    Columns: bin, name, district (a code of the territory table), and type where it is known. What a questionnaire says
    of the place of an institution in this table is not looked at: the table's district counts.
    """
    with center.storage() as storage:
        try:
            institutions = read_institutions(file.read_bytes(), storage.territories())
        except PlacesRefused as refused:
            _refuse(file, refused)
        storage.replace_places(storage.territories(), institutions)
    if as_json:
        print_json({"institutions": len(institutions)})
        return
    print_line(f"{len(institutions)} institutions; everybody is sorted by them anew.")


@places.command(name="list")
@json_option
@pass_center
def places_list(center: CenterContext, as_json: bool) -> None:
    """The oblasts, districts and institutions that are known."""
    with center.storage() as storage:
        territories, institutions = storage.territories(), storage.institutions()
    is_given, territories = bool(territories), territories or oblasts()
    if as_json:
        print_json({"territories": territories, "institutions": institutions})
        return
    rows = [_territory_row(one) for one in territories] + [_institution_row(one) for one in institutions]
    print_table(("code", "in", "name", "kind"), rows)
    if not is_given:
        print_line("No districts are known yet: central-broker places territories FILE")


def _territory_row(one: Territory) -> tuple[str, str, str, str]:
    return one.code, one.parent, one.names[0], "district" if one.parent else "oblast"


def _institution_row(one: Institution) -> tuple[str, str, str, str]:
    return one.bin, one.district, one.name, f"institution {one.kind}".rstrip()


def _refuse(file: Path, refused: PlacesRefused) -> NoReturn:
    fail(f"{file.name}: {refused}", "correct the file, and give it again; nothing was changed")
