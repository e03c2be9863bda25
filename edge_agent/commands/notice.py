"""`edge-agent notice`: whether somebody was counted online, by the notice that they show."""

from __future__ import annotations

import sys
from typing import Any, Final

import click

from edge_agent.commands.context import ask_daemon, configured, json_option, queue_without_daemon
from edge_agent.commands.status import moment
from edge_agent.configuration import Configuration
from edge_agent.control import NOTICE
from edge_agent.notice_document import (
    TEXT_CHARACTERS_MAX,
    NoticeVerdict,
    notice_by_statements,
    notice_document,
)
from operations.console import EXIT_FAILED, fail, print_json, print_line
from sync_protocol.notice import is_number

EXIT_UNDECIDED: Final = 3

_SENTENCES: Final = {
    NoticeVerdict.GENUINE: "GENUINE: this questionnaire was accepted online",
    NoticeVerdict.FORGED: "NOT GENUINE: do not take it as counted; interview, and tell the office",
    NoticeVerdict.DISAVOWED: "NOT BELIEVED: do not take it as counted; interview, and tell the office",
    NoticeVerdict.UNKNOWN_SIGNER: "NOT KNOWN HERE: let the tablet synchronise and check again, or ask the center",
    NoticeVerdict.WELL_FORMED: "WELL FORMED: copied rightly, and no more; whether it was given out, only the center "
    "can say. Ask for the QR code or its text: that can be checked here",
    NoticeVerdict.MISTYPED: "MISTYPED, or no notice: compare it with what the person shows, and enter it again",
}
_UNDECIDED: Final = (NoticeVerdict.UNKNOWN_SIGNER, NoticeVerdict.WELL_FORMED)


@click.group("notice", short_help="Check a notice of having been counted online.")
def command() -> None:
    """Check what people show who were counted on the census web site: a number, or the text of a QR code."""


@command.command()
@click.argument("text", nargs=-1)
@json_option
@click.pass_context
def check(context: click.Context, text: tuple[str, ...], as_json: bool) -> None:
    """Say whether the notice TEXT is genuine; it needs no network.

    Without TEXT, or with -, it is read from standard input.

    \b
    A token (the text of the QR code) is signed: it is genuine or not.
    A number is not signed. Its check digits catch one wrong digit, or two exchanged; that it was given
    out, they do not prove. The center compares it with what it has.

    \b
    Examples:
      edge-agent notice check 0056-1968-0110-6735-5532
      edge-agent notice check INHFGTQBCAAAB3SHF…
      zbarimg --raw -q notice.png | edge-agent notice check

    Exit status 0: genuine; 1: not genuine, or mistyped; 2: the configuration or the command is wrong; 3: only the
    center can say.
    """
    given = " ".join(text) if text and text != ("-",) else sys.stdin.read(TEXT_CHARACTERS_MAX + 1)
    if not given.strip():
        fail("there is no notice to check", "name it behind the command, or give it on standard input")
    if len(given) > TEXT_CHARACTERS_MAX:
        fail("this is far longer than a notice", "give the number, or the text of the QR code, alone")
    document = _document(context, given)
    verdict = NoticeVerdict(document["verdict"])
    if as_json:
        print_json(document)
    else:
        _print(verdict, document)
    if verdict in _UNDECIDED:
        context.exit(EXIT_UNDECIDED)
    context.exit(0 if verdict is NoticeVerdict.GENUINE else EXIT_FAILED)


def _document(context: click.Context, text: str) -> dict[str, Any]:
    if is_number(text):  # there is nothing to look up
        return notice_by_statements(lambda _kind: (), b"", text)
    configuration = configured(context)
    answer = ask_daemon(configuration, {"request": NOTICE, "text": text})
    if answer is None:
        return _without_daemon(configuration, text)
    answer.pop("ok", None)
    return answer


def _without_daemon(configuration: Configuration, text: str) -> dict[str, Any]:
    """By the queue's statements, or by those of the enrolment on a tablet whose daemon has never run."""
    from edge_agent import provisioning
    from edge_agent.queue.store import QUEUE_FILE_NAME
    from sync_protocol.statement import parse_statement

    try:
        device = provisioning.load(configuration.device.provisioning_directory)
    except provisioning.ProvisioningError as error:
        fail(str(error), error.remedy)
    root_public_key = device.identity.root_public_key
    if not (configuration.device.state_directory / QUEUE_FILE_NAME).exists():

        def given(kind: int) -> list[bytes]:
            return [data for data in device.statements if parse_statement(data).kind == kind]

        return notice_by_statements(given, root_public_key, text)
    with queue_without_daemon(configuration) as query:
        return notice_document(query, root_public_key, text)


def _print(verdict: NoticeVerdict, document: dict[str, Any]) -> None:
    print_line(_SENTENCES[verdict])
    print_line(f"why: {document['why']}")
    if document["number"] is not None:
        print_line(f"number: {document['number']}")
    if verdict is NoticeVerdict.GENUINE:
        print_line(f"form: {document['form']}")
        print_line(f"accepted: {moment(document['accepted_at'])}")
        print_line(f"signed by: {document['signer']}")
