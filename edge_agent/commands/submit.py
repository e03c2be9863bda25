"""`edge-agent submit`: hand over questionnaires from files."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, Final

import click

from edge_agent.commands.context import configured, json_option
from edge_agent.queue.intake.local_protocol import SUBMIT_SOCKET_NAME, LocalClient, LocalProtocolError, connected
from edge_agent.queue.intake.submit_socket import SUBMIT
from operations.console import fail, print_json, print_line
from sync_protocol.limits import QUESTIONNAIRE_BYTES_MAX

_IN_FLIGHT_MAX: Final = 32


@click.command("submit", short_help="Hand over questionnaires from files.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--form", default="", help="Which form it is, where the questionnaire does not say.")
@click.option("--form-version", default="", help="Its version.")
@json_option
@click.pass_context
def command(context: click.Context, files: tuple[Path, ...], form: str, form_version: str, as_json: bool) -> None:
    """Submit questionnaires: XForm XML or JSON, one in each FILE.

    A FILE that ends in .jsonl (or .jsonl.gz) holds one on each line; of a folder, all files in it are taken. Each is
    acknowledged only when it is sealed and safe on disk. Submitting the same file again changes nothing: after any
    trouble simply repeat the command.

    \b
    Examples:
      edge-agent submit household-17.xml
      edge-agent submit --form household --form-version 2021 answers/
      edge-agent submit --json day-3.jsonl.gz

    Exit status 0: all accepted; 1: something was refused, or the daemon does not run; 2: the configuration or the
    command is wrong.
    """
    configuration = configured(context)
    path = configuration.device.runtime_directory / SUBMIT_SOCKET_NAME
    members = {"form": form, "form_version": form_version}
    try:
        with connected(path) as client:
            outcome = _Outcome(as_json)
            _submit_all(client, files, members, outcome)
    except (FileNotFoundError, ConnectionRefusedError):
        fail(f"the daemon does not run: nobody listens at {path}", "sudo systemctl start edge-agent, then submit again")
    except PermissionError:
        fail(
            f"this user may not use {path}", f"become a member of the group {configuration.intake.submit_socket_group}"
        )
    except (OSError, LocalProtocolError) as error:
        fail(f"the daemon stopped answering: {error}", "repeat the command: what was accepted is not accepted twice")
    outcome.finish()
    context.exit(1 if outcome.refused else 0)


@dataclass(frozen=True)
class Unreadable:
    """Why a file was not even sent to the daemon, and what to do."""

    problem: str
    remedy: str


class _Outcome:
    """Counts answers and tells of refusals as they come."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self.accepted = 0
        self.repeated = 0
        self.refused: list[dict[str, Any]] = []
        self.sequences: list[int] = []

    def add(self, name: str, answer: dict[str, Any]) -> None:
        if answer["ok"]:
            self.accepted += not answer["repeated"]
            self.repeated += answer["repeated"]
            self.sequences.append(answer["first_sequence"])
        else:
            self.refused.append({"questionnaire": name, "problem": answer["problem"], "remedy": answer["remedy"]})
            print_line(f"refused {name}: {answer['problem']}\n  what to do: {answer['remedy']}", sys.stderr)
        if not self._as_json and sys.stderr.isatty():
            sys.stderr.write(f"\r{self.accepted + self.repeated} accepted, {len(self.refused)} refused ")

    def finish(self) -> None:
        counts = {"accepted": self.accepted, "repeated": self.repeated, "refused": self.refused}
        if self._as_json:
            span = {
                "first_sequence": min(self.sequences, default=None),
                "last_sequence": max(self.sequences, default=None),
            }
            print_json({**counts, **span})
            return
        again = f" ({self.repeated} of them had been accepted before)" if self.repeated else ""
        print_line(f"{self.accepted + self.repeated} accepted{again}, {len(self.refused)} refused")


def _submit_all(client: LocalClient, files: Sequence[Path], members: dict[str, str], outcome: _Outcome) -> None:
    """Keep several requests under way: waiting ones then share one commit."""
    waiting: deque[str] = deque()
    for name, body in _questionnaires(files):
        if isinstance(body, Unreadable):
            outcome.add(name, {"ok": False, "problem": body.problem, "remedy": body.remedy})
            continue
        if len(waiting) >= _IN_FLIGHT_MAX:
            outcome.add(waiting.popleft(), client.receive())
        key = sha256(name.encode() + b"\0" + body).hexdigest()
        client.send({"request": SUBMIT, "key": key, **members}, body)
        waiting.append(name)
    while waiting:
        outcome.add(waiting.popleft(), client.receive())


def _questionnaires(files: Sequence[Path]) -> Iterator[tuple[str, bytes | Unreadable]]:
    """Yield each questionnaire under a name of its own, or why there is none."""
    for path in files:
        try:
            if path.is_dir():
                yield from _questionnaires(sorted(inner for inner in path.iterdir() if inner.is_file()))
            else:
                yield from _read(path)
        except (OSError, EOFError, zlib.error) as error:
            what = "it is no whole gzip file" if path.suffix == ".gz" else "it cannot be read"
            reason = getattr(error, "strerror", None) or str(error)
            yield str(path), Unreadable(f"{what}: {reason}", "look at the file, then submit it again")


def _read(path: Path) -> Iterator[tuple[str, bytes | Unreadable]]:
    name = str(path.resolve())
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        if ".jsonl" not in path.suffixes:
            yield name, _bounded(file.read(QUESTIONNAIRE_BYTES_MAX + 1))
            return
        # Line by line: a day's questionnaires of a district need not fit into the memory.
        for number in count(1):
            line = file.readline(QUESTIONNAIRE_BYTES_MAX + 1)
            if not line:
                return
            if line.strip():
                yield (
                    f"{name}:{number}",
                    _bounded(line.rstrip(b"\r\n") if len(line) <= QUESTIONNAIRE_BYTES_MAX else line),
                )
            if len(line) > QUESTIONNAIRE_BYTES_MAX:
                yield name, Unreadable(f"what follows line {number} was not looked at", "correct that line first")
                return


def _bounded(body: bytes) -> bytes | Unreadable:
    if len(body) <= QUESTIONNAIRE_BYTES_MAX:
        return body
    problem = f"it has more than {QUESTIONNAIRE_BYTES_MAX:,} bytes"
    return Unreadable(problem, "make its photographs smaller; a file of many questionnaires is named .jsonl")
