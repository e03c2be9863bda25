"""`edge-agent doctor`: looks at everything that can be wrong with a device, and says what to do about it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from edge_agent.commands.context import json_option
from edge_agent.commands.examination import (
    connection,
    device,
    lists,
    media,
    mesh,
    online,
    openrosa,
    signs,
    storage,
)
from edge_agent.commands.examination.finding import Finding, Subject, Verdict, read_configuration
from edge_agent.configuration import Configuration
from edge_agent.control import STATUS
from edge_agent.queue.intake.local_protocol import CONTROL_SOCKET_NAME, LocalProtocolError, connected
from operations.console import EXIT_FAILED, print_json, print_line
from operations.sentences import plain

Check = Callable[[Subject], Iterator[Finding]]

CHECKS: Final[Sequence[tuple[str, Check]]] = (
    ("python", device.check_python),
    ("sqlite", device.check_sqlite),
    ("clock", device.check_clock),
    ("keys", device.check_keys),
    ("disk", storage.check_disk),
    ("queue", storage.check_queue),
    ("drop folder", storage.check_drop_folder),
    ("form programs", openrosa.check_openrosa),
    ("counted lists", lists.check_lists),
    ("census web site", online.check_online),
    ("daemon", connection.check_daemon),
    ("vpn", connection.check_vpn),
    ("broker", connection.check_broker),
    ("receipts", storage.check_receipts),
    ("mesh", mesh.check_mesh),
    ("media", media.check_media),
    ("media", signs.check_signs),
)

_STYLES: Final = {Verdict.OK: "green", Verdict.NOTE: "", Verdict.WARNING: "yellow", Verdict.PROBLEM: "bold red"}


@click.command("doctor", short_help="Find what is wrong, and what to do.")
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Look at everything that can be wrong, and say what to do about it.

    Configuration, keys and certificate, clock, disk, queue, drop folder, form programs, census web site, daemon, VPN,
    broker, receipts, mesh, USB media and versions. Nothing is changed. Best run as root: others see less. With the
    daemon stopped it looks deeper: it reads the whole queue and connects to the broker by itself.

    \b
    Each finding has a verdict:
      ok        as it should be
      note      good to know
      warning   somebody should look; also what is normal in the field (no link)
      problem   does not work until the remedy is applied

    \b
    Examples:
      sudo edge-agent doctor
      sudo edge-agent doctor --json | jq '.findings[] | select(.verdict == "problem")'

    Exit status 0: no problem; 1: at least one; 2: the command is wrong.
    """
    path: Path = context.find_root().obj
    findings = examine(path, time.time_ns() // 1_000)
    problems = sum(finding.verdict is Verdict.PROBLEM for finding in findings)
    if as_json:
        print_json({"problems": problems, "findings": findings})
    else:
        _print(findings, problems)
    context.exit(EXIT_FAILED if problems else 0)


def examine(path: Path, now: int) -> list[Finding]:
    """Return all findings, in the order of checking; a check that fails itself is a finding too."""
    configuration, broker_known, finding = read_configuration(path)
    findings = [finding]
    status, trouble = _status(configuration, now)
    findings += trouble
    subject = Subject(configuration, broker_known, status, now)
    for name, check in CHECKS:
        findings += run_check(name, check, subject)
    return findings


def run_check(name: str, check: Check, subject: Subject) -> list[Finding]:
    """Return what one check found, up to where it failed if it did."""
    findings: list[Finding] = []
    try:
        findings.extend(check(subject))
    except PermissionError as error:
        remedy = "run as root: sudo edge-agent doctor"
        findings.append(Finding(name, Verdict.NOTE, f"not checked: {error.strerror}: {error.filename}", remedy))
    except Exception as error:  # noqa: BLE001  # whatever is wrong here must not hide the other findings
        problem = f"this check itself failed: {type(error).__name__}: {error}"
        findings.append(
            Finding(name, Verdict.PROBLEM, problem, "tell this to support, with the output of doctor --json")
        )
    return findings


def _status(configuration: Configuration, now: int) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Return the daemon's status, or what the queue tells without one; and what is wrong with asking."""
    path = configuration.device.runtime_directory / CONTROL_SOCKET_NAME
    try:
        with connected(path) as client:
            answer = client.ask({"request": STATUS})
        if answer.get("ok"):
            return answer, []
        return None, [Finding("daemon", Verdict.PROBLEM, str(answer.get("problem")), str(answer.get("remedy")))]
    except (FileNotFoundError, ConnectionRefusedError):
        return storage.status_of_queue(configuration, now), []
    except PermissionError:
        remedy = f"run as root, or become a member of the group {configuration.device.operator_group}"
        return None, [Finding("daemon", Verdict.NOTE, f"not asked: this user may not use {path}", remedy)]
    except (OSError, LocalProtocolError) as error:
        remedy = "look at journalctl -u edge-agent; if it lasts: sudo systemctl restart edge-agent"
        return None, [Finding("daemon", Verdict.PROBLEM, f"it does not answer: {error}", remedy)]


def _print(findings: Sequence[Finding], problems: int) -> None:
    """Write a table that wraps to the terminal: remedies stand below what they are for."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column("check", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("found, and what to do", overflow="fold")
    for finding in findings:
        said = plain(finding.found)
        if finding.remedy:
            said += f"\n→ {plain(finding.remedy)}"
        verdict = Text(finding.verdict.value, style=_STYLES[finding.verdict])
        table.add_row(Text(finding.check), verdict, Text(said))
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console.width = 120
    console.print(table)
    if os.geteuid() != 0:
        print_line("root sees more: sudo edge-agent doctor")
    counted = {0: "no problem", 1: "1 problem"}.get(problems, f"{problems} problems")
    print_line(f"{counted} found")
