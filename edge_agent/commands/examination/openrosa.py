"""The OpenRosa endpoint: whether form programs of this device can submit to it, and nobody else."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from edge_agent.commands.examination.finding import Finding, Subject, Verdict
from edge_agent.queue.intake.openrosa.endpoint import FORMS_FOLDER_NAME
from edge_agent.queue.intake.openrosa.forms import FolderShelf
from edge_agent.queue.intake.openrosa.key import KEY_FILE_MODE, KEY_FILE_NAME, read_key

_CHECK: Final = "form programs"
_PACKAGES: Final = ("starlette", "uvicorn", "python_multipart")
_ADDRESSES: Final = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_NO_SUCH_ADDRESS: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def check_openrosa(subject: Subject) -> Iterator[Finding]:
    """A running daemon tells of its own port; without one it is tried."""
    intake = subject.configuration.intake
    if not intake.openrosa:
        found = "the OpenRosa endpoint is switched off (intake.openrosa): ODK Collect and Enketo cannot submit"
        yield Finding(_CHECK, Verdict.OK, found)
        return
    yield from package_findings(_CHECK)
    if subject.running:
        yield from daemon_findings((subject.status or {}).get("openrosa"), intake.openrosa_port)
    else:
        yield port_finding(intake.openrosa_port)
    state_directory = subject.configuration.device.state_directory
    yield from key_findings(state_directory)
    yield from forms_findings(state_directory)


def package_findings(check: str) -> Iterator[Finding]:
    """Return what is missing for any endpoint that speaks HTTP."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        problem = f"nothing can be submitted: {', '.join(missing)} is missing"
        yield Finding(check, Verdict.PROBLEM, problem, "install the release anew")


def daemon_findings(status: dict[str, Any] | None, port: int) -> Iterator[Finding]:
    """Return what a running daemon tells."""
    if status is None:
        found = "the running daemon has no OpenRosa endpoint: it was configured after its start"
        yield Finding(_CHECK, Verdict.WARNING, found, "restart it: sudo systemctl restart edge-agent")
    elif status["listening"]:
        found = f"they can submit on port {port} of this device; edge-agent status says the address"
        yield Finding(_CHECK, Verdict.OK, found)
    else:
        problem = f"they cannot submit: {status['problem'] or 'the endpoint does not listen'}"
        yield Finding(_CHECK, Verdict.PROBLEM, problem, _other_port(port))


def port_finding(port: int) -> Finding:
    """Return whether the endpoint could listen."""
    for family, address in _ADDRESSES:
        problem = bind_problem(family, address, port, needed=family == socket.AF_INET)
        if problem is not None:
            return Finding(_CHECK, Verdict.PROBLEM, problem, _other_port(port))
    return Finding(_CHECK, Verdict.OK, f"port {port} is free for them")


def bind_problem(family: socket.AddressFamily, address: str, port: int, *, needed: bool = True) -> str | None:
    """Return why nobody could listen there; None where one can, or where an address that is not needed is missing."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            trial.bind((address, port))
    except OSError as error:
        if not needed and error.errno in _NO_SUCH_ADDRESS:
            return None
        return f"port {port} of {address} cannot be used: {error.strerror}"
    return None


def _other_port(port: int) -> str:
    return f"sudo ss -ltnp 'sport = :{port}' names who has the port; end that, or set intake.openrosa_port to another"


def key_findings(state_directory: Path) -> Iterator[Finding]:
    """Return what is wrong with the file of the key; it is never shown."""
    path = state_directory / KEY_FILE_NAME
    try:
        status = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        yield Finding(_CHECK, Verdict.NOTE, "the key of the address is made when the daemon starts with the endpoint")
        return
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode) or mode & ~KEY_FILE_MODE:
        problem = f"others than the daemon may read the key of the address: {path} has the mode {mode:04o}"
        remedy = f"sudo rm {path}; restart the daemon, and enter the new address in the form programs"
        yield Finding(_CHECK, Verdict.PROBLEM, problem, remedy)
    elif status.st_uid != state_directory.stat().st_uid:
        problem = f"{path} belongs to another user than {state_directory}"
        yield Finding(_CHECK, Verdict.PROBLEM, problem, f"sudo chown --reference={state_directory} {path}")
    elif os.access(path, os.R_OK):
        try:
            read_key(state_directory)
        except OSError as error:
            yield Finding(_CHECK, Verdict.PROBLEM, str(error), f"sudo rm {path}; then restart the daemon")


def forms_findings(state_directory: Path) -> Iterator[Finding]:
    """Return how many forms clients find."""
    folder = state_directory / FORMS_FOLDER_NAME
    unusable: list[tuple[str, str]] = []
    forms = FolderShelf(folder, lambda name, problem: unusable.append((name, problem))).forms()
    for name, problem in unusable:
        found = f"the form in {folder / name} is not offered to them: {problem}"
        yield Finding(_CHECK, Verdict.WARNING, found, "put the right form.xml there, or remove the folder")
    if forms:
        yield Finding(_CHECK, Verdict.OK, f"{len(forms)} forms are offered to them")
    else:
        remedy = f"put each form as {folder}/NAME/form.xml, what it shows into {folder}/NAME/media"
        yield Finding(_CHECK, Verdict.NOTE, "no form is offered to them; they can submit what they have", remedy)
