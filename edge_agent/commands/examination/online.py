"""The endpoint of the census web site: whether its servers can hand in, and nobody else."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from edge_agent import provisioning
from edge_agent.adapter_settings import online_settings
from edge_agent.commands.examination.finding import Finding, Subject, Verdict
from edge_agent.commands.examination.openrosa import bind_problem, package_findings
from edge_agent.queue.intake.online.certificate import TlsFiles
from edge_agent.queue.intake.online.endpoint import OnlineSettings, address_of
from edge_agent.queue.intake.online.tokens import read_tokens
from sync_protocol.identity import Role, read_device_certificate
from sync_protocol.statement import DEVICE_CERTIFICATE, parse_statement

_CHECK: Final = "census web site"
_EXPIRY_WARNING: Final = timedelta(days=14)


def check_online(subject: Subject) -> Iterator[Finding]:
    """Nothing is said on a device that is none of the web site's."""
    if not subject.configuration.online.enabled:
        return
    settings = online_settings(subject.configuration)
    yield from package_findings(_CHECK)
    yield from role_findings(subject.configuration.device.provisioning_directory)
    if subject.running:
        yield from daemon_findings((subject.status or {}).get("online"), settings)
    else:
        yield port_finding(settings)
    if settings.tls is not None:
        yield from certificate_findings(settings.tls, datetime.fromtimestamp(subject.now / 1_000_000, UTC))
    yield from token_findings(settings.tokens_file)
    files = [settings.tokens_file]
    if settings.tls is not None:
        files += [settings.tls.certificate, settings.tls.key]
    yield from reader_findings(files, settings.state_directory)


def reader_findings(files: Iterable[Path], state_directory: Path) -> Iterator[Finding]:
    """Return which files the daemon's user, whom the state directory belongs to, surely cannot read."""
    user_id = state_directory.stat().st_uid
    for path in files:
        if not path.exists():
            continue  # told above
        status = path.stat()
        shared = status.st_mode & (stat.S_IRGRP | stat.S_IROTH)
        if user_id not in (0, status.st_uid) and not shared:
            problem = f"the daemon's user cannot read {path}"
            yield Finding(_CHECK, Verdict.PROBLEM, problem, f"sudo chown --reference={state_directory} {path}")


def role_findings(directory: Path) -> Iterator[Finding]:
    """Return what is wrong with what the device is certified as; that it is not enrolled at all is told elsewhere."""
    try:
        device = provisioning.load(directory)
    except provisioning.ProvisioningError:
        return
    for source in map(parse_statement, device.statements):
        if (source.kind, source.subject) == (DEVICE_CERTIFICATE, device.identity.device):
            role = read_device_certificate(source).role
            if role is not Role.ONLINE:
                problem = f"it cannot hand in: this device is enrolled as {role.name.lower().replace('_', ' ')}"
                remedy = (
                    "enrol a machine of the web site: edge-agent enrol request --role online; at the center --online"
                )
                yield Finding(_CHECK, Verdict.PROBLEM, problem, remedy)


def daemon_findings(status: dict[str, Any] | None, settings: OnlineSettings) -> Iterator[Finding]:
    """Return what a running daemon tells."""
    if status is None:
        found = "the running daemon has no endpoint for it: it was configured after its start"
        yield Finding(_CHECK, Verdict.WARNING, found, "restart it: sudo systemctl restart edge-agent")
    elif status["listening"]:
        yield Finding(_CHECK, Verdict.OK, f"it can hand in at {status['address']}")
    else:
        problem = f"it cannot hand in: {status['problem'] or 'the endpoint does not listen'}"
        yield Finding(_CHECK, Verdict.PROBLEM, problem, _other_place(settings))


def port_finding(settings: OnlineSettings) -> Finding:
    """Return whether the endpoint could listen."""
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    problem = bind_problem(family, settings.address, settings.port)
    if problem is not None:
        return Finding(_CHECK, Verdict.PROBLEM, problem, _other_place(settings))
    return Finding(_CHECK, Verdict.OK, f"{address_of(settings)} is free for it")


def _other_place(settings: OnlineSettings) -> str:
    return (
        f"ip address must list {settings.address}; sudo ss -ltnp 'sport = :{settings.port}' names who has the port; "
        "correct [online]"
    )


def certificate_findings(files: TlsFiles, now: datetime) -> Iterator[Finding]:
    """Return whether the daemon can serve with the files, and for how long its clients will take the certificate."""
    from cryptography import x509

    try:
        files.context()
        mode = stat.S_IMODE(files.key.stat().st_mode)
        leaf = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    except PermissionError:
        raise  # the doctor says that root sees more
    except (OSError, ValueError) as error:
        remedy = "put the certificate with its chain and its key there, as PEM, and readable for the daemon's user"
        yield Finding(_CHECK, Verdict.PROBLEM, f"its TLS files cannot be used: {error}", remedy)
        return
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        problem = f"others than the daemon may read its private key: {files.key} has the mode {mode:04o}"
        yield Finding(_CHECK, Verdict.PROBLEM, problem, f"sudo chmod 0640 {files.key}; consider the key as known")
    until = leaf.not_valid_after_utc
    if not leaf.not_valid_before_utc <= now <= until:
        problem = f"its certificate is not valid now: from {leaf.not_valid_before_utc:%Y-%m-%d} to {until:%Y-%m-%d}"
        yield Finding(_CHECK, Verdict.PROBLEM, problem, "put a new one in its place; the daemon takes it in a minute")
    elif until - now < _EXPIRY_WARNING:
        found = f"its certificate ends on {until:%Y-%m-%d}"
        yield Finding(_CHECK, Verdict.WARNING, found, "put a new one in its place; the daemon takes it in a minute")
    else:
        yield Finding(_CHECK, Verdict.OK, f"its certificate is valid until {until:%Y-%m-%d}")


def token_findings(path: Path) -> Iterator[Finding]:
    """Return how many tokens are in force, and whether others could add some."""
    try:
        tokens = read_tokens(path)
    except PermissionError:
        raise
    except OSError as error:
        remedy = f"write the SHA-256 of a token into {path}: docs/online.md says how"
        problem = f"it cannot hand in: no tokens in {path}: {error.strerror or error}"
        yield Finding(_CHECK, Verdict.PROBLEM, problem, remedy)
        return
    if tokens.odd_lines:
        lines = ", ".join(map(str, tokens.odd_lines))
        found = f"these lines of {path} are no SHA-256 of a token, or too many: {lines}"
        yield Finding(_CHECK, Verdict.WARNING, found, "correct or remove them; comments begin with #")
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = f"others than its owner may write to {path}"
        yield Finding(_CHECK, Verdict.PROBLEM, problem, f"sudo chmod 0640 {path}; look whether every token is known")
    if tokens.digests:
        yield Finding(_CHECK, Verdict.OK, f"{len(tokens.digests)} tokens are in force")
    else:
        remedy = f"write the SHA-256 of one into {path}: docs/online.md says how"
        yield Finding(_CHECK, Verdict.PROBLEM, "it cannot hand in: no token is in force", remedy)
