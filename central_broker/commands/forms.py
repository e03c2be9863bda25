"""Commands `forms` and `reprocess`: which questionnaires are accepted, and the tables that they become."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from central_broker.backup import as_time
from central_broker.commands.context import CenterContext, json_option, now, pass_center
from central_broker.commands.forms_publishing import forms_publish, forms_withdraw, known_versions
from central_broker.storage.batch_records import HeldReason
from central_broker.storage.census_records import FormRecord
from operations.console import EXIT_USAGE, fail, print_json, print_line, print_table

if TYPE_CHECKING:
    from central_broker.forms.definition import FormDefinition

_XFORM_SUFFIXES = (".xml", ".xform")
_OFFERED = "yes"
_WITHDRAWN = "withdrawn"


@click.group(invoke_without_command=True)
@click.pass_context
def forms(context: click.Context) -> None:
    """The forms that are accepted; a questionnaire of another form is held, not lost. Alone, it lists them."""
    if context.invoked_subcommand is None:
        context.invoke(forms_list, as_json=False)


@forms.command(
    name="add",
    epilog="""\b
Examples:
  central-broker forms add household.xlsx        an XLSForm (.xlsx, .xls, .csv, .md)
  central-broker forms add household.xml         an XForm
  central-broker forms add census_household      one that comes with this program; also census_temporary and
                                                 census_institution (docs/census-forms.md)
  central-broker forms add household-2021        any other by its id only: accepted, without tables
""",
)
@click.argument("form", metavar="FILE|FORM")
@click.option("--version", default="", help="With a form's id: only this version.  [every version]")
@click.option("--replace", is_flag=True, help="Let the file take the place of another one of the same version.")
@json_option
@pass_center
def forms_add(center: CenterContext, form: str, version: str, replace: bool, as_json: bool) -> None:
    """Accept a form, and make its tables: one of its questionnaires, one for each repeat and select-multiple.

    A new version adds columns, and never drops one. What was held because the form was not known:
    central-broker held retry --reason unknown_form
    """
    path = _file(form)
    if path is not None:
        if version:
            fail("a file says its version itself", "leave --version out", exit_status=EXIT_USAGE)
        _add_file(center, path, replace=replace, as_json=as_json)
        return
    with center.storage() as storage:
        storage.allow_form(form, version)
        waiting = storage.held_counts().get(HeldReason.UNKNOWN_FORM, 0)
    if as_json:
        print_json({"form": form, "version": version, "held_as_unknown_form": waiting})
        return
    print_line(f"{form} is accepted in {'every version' if not version else 'version ' + version}.")
    _tell_waiting(waiting)


def _file(form: str) -> Path | None:
    """Return the file that is meant, a shipped form's by its id; None when `form` is the id of any other."""
    from central_broker.forms.census import shipped_forms
    from central_broker.forms.xlsform import EXTENSIONS

    path = Path(form)
    if path.suffix.lower() in (*EXTENSIONS, *_XFORM_SUFFIXES) or path.is_file():
        return path
    return shipped_forms().get(form)


def _add_file(center: CenterContext, path: Path, *, replace: bool, as_json: bool) -> None:
    from central_broker.forms.columns import tables_of

    xform, definition, warnings = _read(path)
    with center.storage() as storage:
        known = {(one.form, one.version): one for one in storage.form_records()}.get(
            (definition.form, definition.version)
        )
        if known is not None and known.xform not in (None, xform) and not replace:
            fail(
                f"another form {definition.form} of version {definition.version!r} was added on "
                f"{as_time(known.added_at or 0):%Y-%m-%d}",
                "give the changed form a new version (questionnaires of the old one stay what they are), "
                "or add --replace if it only corrects that one",
            )
        before = storage.form_tables(definition.form)
        tables = tables_of(definition, before).tables
        storage.store_form(
            FormRecord(definition.form, definition.version, definition.title or None, xform, now()), tables
        )
        waiting = storage.held_counts().get(HeldReason.UNKNOWN_FORM, 0)
        has_questionnaires = bool(storage.questionnaires(definition.form, (b"", b""), 1))
        after = storage.form_tables(definition.form)
    columns = {table.name: {column.name for column in table.columns} for table in before}
    added = {
        table.name: len({column.name for column in table.columns} - columns.get(table.name, set())) for table in after
    }
    if as_json:
        print_json(
            {
                "form": definition.form,
                "version": definition.version,
                "title": definition.title,
                "warnings": warnings,
                "tables": [
                    {"table": one.name, "kind": one.kind.value, "columns": len(one.columns), "new": added[one.name]}
                    for one in after
                ],
                "held_as_unknown_form": waiting,
                "to_reprocess": has_questionnaires,
            }
        )
        return
    for warning in warnings:
        print_line(f"warning: {warning}")
    print_line(f"{definition.form} is accepted in version {definition.version or '(none)'}: {definition.title}")
    rows = [(one.name, one.kind.value, len(one.columns), added[one.name]) for one in after]
    print_table(("table", "of", "columns of answers", "new"), rows)
    _tell_waiting(waiting)
    if has_questionnaires:
        print_line(f"Questionnaires of it are here already: central-broker reprocess {definition.form}")


def _read(path: Path) -> tuple[bytes, FormDefinition, tuple[str, ...]]:
    """Return a file's XForm, what it asks, and what is doubtful in it; ends the command when it is no form."""
    from central_broker.forms.definition import FormRefused
    from central_broker.forms.xform import read_xform
    from central_broker.forms.xlsform import EXTENSIONS, convert

    try:
        warnings: tuple[str, ...] = ()
        if path.suffix.lower() in EXTENSIONS:
            converted = convert(path)
            xform, warnings = converted.xform, converted.warnings
        else:
            xform = path.read_bytes()
        return xform, read_xform(xform), warnings
    except FormRefused as refused:
        fail(refused.problem, refused.remedy)
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}", "check the name and its permissions", exit_status=EXIT_USAGE)


def _tell_waiting(waiting: int) -> None:
    if waiting:
        print_line(f"{waiting} held: central-broker held retry --reason unknown_form")


@forms.command(name="list")
@json_option
@pass_center
def forms_list(center: CenterContext, as_json: bool) -> None:
    """The forms that are known; one without tables is known by its id only."""
    with center.storage() as storage:
        known = storage.form_records()
        tables = {one.form: len(storage.form_tables(one.form)) for one in known}
    shown = {one: _on_devices(one.statement) for one in known}
    if as_json:
        print_json(
            [
                {
                    "form": one.form,
                    "version": one.version,
                    "title": one.title,
                    "has_definition": one.xform is not None,
                    "published": shown[one] == _OFFERED,
                    "withdrawn": shown[one] == _WITHDRAWN,
                    "tables": tables[one.form],
                    "added_at": None if one.added_at is None else as_time(one.added_at),
                }
                for one in known
            ]
        )
        return
    rows = [
        (
            one.form,
            one.version or "every",
            one.title or "",
            tables[one.form] if one.xform is not None else "by id only",
            shown[one],
        )
        for one in known
    ]
    columns = ("form", "version", "title", "tables", "on devices")
    print_table(columns, rows, empty="no form is known yet: central-broker forms add FILE")


def _on_devices(statement: bytes | None) -> str:
    from central_broker.form_publishing import current

    if statement is None:
        return ""
    return _OFFERED if current(statement) is not None else _WITHDRAWN


@forms.command(name="show")
@click.argument("form")
@json_option
@pass_center
def forms_show(center: CenterContext, form: str, as_json: bool) -> None:
    """The tables of a form with their columns, and how many answers did not fit, by question and rule."""
    with center.storage() as storage:
        known_versions(storage, form)
        tables, findings = storage.form_tables(form), storage.finding_counts(form)
    if as_json:
        print_json(
            {
                "tables": [
                    {
                        "table": one.name,
                        "kind": one.kind.value,
                        "columns": [{"column": column.name, "type": column.type.value} for column in one.columns],
                    }
                    for one in tables
                ],
                "findings": [{"path": path, "rule": rule, "count": count} for path, rule, count in findings],
            }
        )
        return
    rows = [(one.name, column.name, column.type.value) for one in tables for column in one.columns]
    print_table(("table", "column", "type"), rows, empty="only the id is known: central-broker forms add FILE")
    print_table(("question", "rule", "answers"), findings, empty="every answer fits its question")


forms.add_command(forms_publish)
forms.add_command(forms_withdraw)


@click.command(
    epilog="""\b
Examples:
  central-broker reprocess household-2021        after `forms add` of a form whose questionnaires are here already
"""
)
@click.argument("form")
@json_option
@pass_center
def reprocess(center: CenterContext, form: str, as_json: bool) -> None:
    """Make all rows of a form anew from its questionnaires as they were received.

    After a form was added or corrected. Consumers may go on; what is interrupted may be started again.
    """
    from rich.progress import Progress, TextColumn

    from central_broker.reprocessing import reprocess_form

    with center.storage() as storage:
        if all(one.xform is None for one in known_versions(storage, form)):
            remedy = "add its XLSForm or XForm: central-broker forms add FILE"
            fail(f"of {form} only the id is known, so it has no tables", remedy)
        columns = (TextColumn("{task.completed} questionnaires"),)
        with Progress(*columns, disable=as_json, transient=True) as progress:
            task = progress.add_task("", total=None)
            result = reprocess_form(storage, form, lambda count: progress.advance(task, count))
        findings = storage.finding_counts(form)
    if as_json:
        print_json({**result.document(), "findings": sum(count for _, _, count in findings)})
        return
    print_line(f"{result.made} questionnaires made into rows, {result.without_definition} of a version without a form,")
    print_line(f"{result.unreadable} that cannot be read; {sum(count for _, _, count in findings)} findings")
