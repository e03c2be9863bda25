"""Commands `forms publish` and `forms withdraw`: which forms devices offer."""

from __future__ import annotations

from pathlib import Path

import click

from central_broker.commands.context import CenterContext, json_option, now, pass_center
from central_broker.storage.census_records import FormRecord
from central_broker.storage.contract import Storage
from operations.console import EXIT_USAGE, fail, print_json, print_line


@click.command(
    name="publish",
    epilog="""\b
Examples:
  central-broker forms publish census_household
  central-broker forms publish household --version 3 --files household-media
""",
)
@click.argument("form")
@click.option("--version", help="This version.  [the one that was added last]")
@click.option(
    "--files",
    "folder",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the pictures, sounds and lists are that the form names; needed when it names any.",
)
@json_option
@pass_center
def forms_publish(center: CenterContext, form: str, version: str | None, folder: Path | None, as_json: bool) -> None:
    """Give a form to every device, signed: over the VPN, by neighbours and by sticks, as receipts travel.

    Devices offer it to their form programs (ODK Collect, Enketo), in the place of an earlier version, as soon as they
    have all its files. Questionnaires of other versions are accepted as before.
    """
    from central_broker.form_publishing import publish
    from central_broker.forms.definition import FormRefused
    from sync_protocol.form import PublishedForm

    with center.storage() as storage:
        known = [
            one for one in known_versions(storage, form) if one.xform is not None and version in (None, one.version)
        ]
        chosen = max(known, key=lambda one: one.added_at or 0, default=None)
        if chosen is None or chosen.xform is None:
            fail(f"of {form} no file was added with this version", "central-broker forms add FILE")
        contents, unnamed = _files(chosen.xform, folder)
        wanted = PublishedForm(form, chosen.version, chosen.title or form, chosen.xform)
        try:
            result = publish(storage, center.files().issuing_key(), wanted, contents, now())
        except FormRefused as refused:
            fail(f"{form} cannot be given to devices: {refused.problem}", refused.remedy)
    if as_json:
        print_json(
            {
                "form": form,
                "version": chosen.version,
                "bytes": result.statement_bytes,
                "files": sorted(contents),
                "files_bytes": result.files_bytes,
                "unnamed_files": unnamed,
                "is_new": result.is_new,
            }
        )
        return
    for name in unnamed:
        print_line(f"warning: {name} is not given to devices: the form does not name it")
    if not result.is_new:
        print_line("Devices are given the same already.")
    print_line(f"Devices get {form} in version {chosen.version or '(none)'}: {result.statement_bytes:,} bytes.")
    if contents:
        print_line(f"With it go {len(contents)} files: {result.files_bytes:,} bytes.")


def _files(xform: bytes, folder: Path | None) -> tuple[dict[str, bytes], list[str]]:
    """Return the files that an XForm names, and the names of those in the folder that it does not; or ends the
    command.
    """
    from central_broker.forms.definition import FormRefused
    from central_broker.forms.files import files_named, files_of

    named = files_named(xform)
    if folder is None:
        if named:
            names = ", ".join(sorted(named))
            fail(f"the form names files that go with it: {names}", "give their folder: --files FOLDER")
        return {}, []
    try:
        contents = files_of(folder, named)
        unnamed = sorted(path.name for path in folder.iterdir() if path.name not in named)
    except FormRefused as refused:
        fail(refused.problem, refused.remedy)
    except OSError as error:
        fail(f"{error.filename} cannot be read: {error.strerror}", "check its permissions", exit_status=EXIT_USAGE)
    return contents, unnamed


@click.command(name="withdraw")
@click.argument("form")
@json_option
@pass_center
def forms_withdraw(center: CenterContext, form: str, as_json: bool) -> None:
    """Have devices stop offering a form. Questionnaires of it are taken and accepted as before.

    It reaches devices by the ways that the form took. `forms publish` brings it back.
    """
    from central_broker.form_publishing import withdraw

    with center.storage() as storage:
        known_versions(storage, form)
        withdrawn = withdraw(storage, center.files().issuing_key(), form, now())
    if as_json:
        print_json({"form": form, "withdrawn": withdrawn})
    elif withdrawn:
        print_line(f"Devices stop offering {form} as soon as they hear of it; its questionnaires are still accepted.")
    else:
        print_line(f"Devices are not given {form}: nothing to withdraw.")


def known_versions(storage: Storage, form: str) -> list[FormRecord]:
    """Return a form's versions; ends the command when there is none."""
    known = [one for one in storage.form_records() if one.form == form]
    if not known:
        fail(f"form {form} is not known", "central-broker forms lists those that are", exit_status=EXIT_USAGE)
    return known
