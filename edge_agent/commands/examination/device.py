"""The device itself: the programs it runs on, its clock, its keys and certificates."""

from __future__ import annotations

import os
import platform
import sqlite3
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from edge_agent import enrolment, provisioning
from edge_agent.commands.enrol import user_name
from edge_agent.commands.examination.finding import Finding, Subject, Verdict
from edge_agent.commands.status import moment
from edge_agent.mqtt.bound_client import broker_tls_context
from edge_agent.tls import TlsMaterialError

_PYTHON_FIRST: Final = (3, 11)
_SQLITE_FIRST: Final = (3, 37, 0)
"""The first with STRICT tables, which the queue is made of."""
_SQLITE_WITHOUT_RESET_BUG: Final = (3, 51, 3)
_CLOCK_FIRST_YEAR: Final = 2024
_CLOCK_LAST_YEAR: Final = 2040
_SET_CLOCK: Final = "nothing is lost; set the clock: sudo timedatectl set-time 'YYYY-MM-DD HH:MM:SS', or set-ntp true"
_AS_ROOT: Final = "run as root: sudo edge-agent doctor"


def check_python(_subject: Subject) -> Iterator[Finding]:
    version = platform.python_version()
    if tuple(map(int, platform.python_version_tuple()[:2])) < _PYTHON_FIRST:
        yield Finding("python", Verdict.PROBLEM, f"Python {version} is too old", "install Python 3.11 or newer")
    else:
        yield Finding("python", Verdict.OK, f"Python {version}")


def check_sqlite(_subject: Subject) -> Iterator[Finding]:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < _SQLITE_FIRST:
        problem = f"SQLite {version} is too old for the queue"
        yield Finding("sqlite", Verdict.PROBLEM, problem, "use a Python whose SQLite is 3.37 or newer")
    elif sqlite3.sqlite_version_info < _SQLITE_WITHOUT_RESET_BUG:
        found = f"SQLite {version}; before 3.51.3 two connections can damage a queue, so it is only ever given one"
        yield Finding("sqlite", Verdict.NOTE, found)
    else:
        yield Finding("sqlite", Verdict.OK, f"SQLite {version}")


def check_clock(subject: Subject) -> Iterator[Finding]:
    said = moment(subject.now)
    year = 1970 + subject.now // 31_556_952_000_000
    signed_time = None if subject.status is None else subject.status["newest_signed_time"]
    if not _CLOCK_FIRST_YEAR <= year <= _CLOCK_LAST_YEAR:
        yield Finding("clock", Verdict.WARNING, f"it says {said}, which cannot be", _SET_CLOCK)
    elif signed_time is not None and subject.now < signed_time:
        found = f"it says {said}, but the center signed a receipt for {moment(signed_time)}"
        yield Finding("clock", Verdict.WARNING, found, _SET_CLOCK)
    else:
        yield Finding("clock", Verdict.OK, f"it says {said}")


def check_keys(subject: Subject) -> Iterator[Finding]:
    """Statements and keys; then owner and modes; then the certificate and its dates."""
    directory = subject.configuration.device.provisioning_directory
    if not os.access(directory, os.X_OK) and directory.exists():
        yield Finding("keys", Verdict.NOTE, f"not checked: this user may not look into {directory}", _AS_ROOT)
        return
    if os.geteuid() != 0 and not _readable(directory / provisioning.SIGNING_KEY):
        yield Finding("keys", Verdict.NOTE, "not checked: only root and the daemon's user may read them", _AS_ROOT)
        return
    try:
        device = provisioning.load(directory)
    except provisioning.ProvisioningError as error:
        yield Finding("keys", Verdict.PROBLEM, str(error), error.remedy)
        return
    found = f"device {device.identity.device.hex()}; {len(device.statements)} statements follow from the root key"
    yield Finding("keys", Verdict.OK, found)
    yield from _check_owners(subject, directory)
    yield from _check_certificate(subject, device)


def _readable(path: Path) -> bool:
    return not path.exists() or os.access(path, os.R_OK)


def _check_owners(subject: Subject, directory: Path) -> Iterator[Finding]:
    state_directory = subject.configuration.device.state_directory
    status = directory.stat()
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Finding("keys", Verdict.PROBLEM, f"others may write to {directory}", f"run: chmod 700 {directory}")
    if not state_directory.exists():
        return
    owner = state_directory.stat().st_uid
    for name in enrolment.FILES:
        path = directory / name
        if path.exists() and path.stat().st_uid != owner:
            problem = f"{path} belongs to {user_name(path.stat().st_uid)}, {state_directory} to {user_name(owner)}"
            remedy = f"if the daemon runs as {user_name(owner)}: chown -R {user_name(owner)}: {directory}"
            yield Finding("keys", Verdict.PROBLEM, problem, remedy)
            return


def _check_certificate(subject: Subject, device: provisioning.ProvisionedDevice) -> Iterator[Finding]:
    try:
        broker_tls_context(device.tls_authority, device.tls_certificate, device.tls_key)
    except TlsMaterialError as error:
        remedy = "install the provisioning file once more: sudo edge-agent enrol install FILE"
        yield Finding("certificate", Verdict.PROBLEM, str(error), remedy)
        return
    from cryptography import x509

    # The device's own certificate first, then those that lead from it to the authority.
    certificate, *between = x509.load_pem_x509_certificates(device.tls_certificate.read_bytes())
    authorities = x509.load_pem_x509_certificates(device.tls_authority.read_bytes())
    last_of_chain = certificate
    for following in between:
        if not _issued(last_of_chain, following):
            break
        last_of_chain = following
    if not any(_issued(last_of_chain, authority) for authority in authorities):
        problem = "the TLS certificate was not issued by the authority that came with it"
        yield Finding("certificate", Verdict.PROBLEM, problem, "have the center enrol the device anew")
        return
    now = datetime.fromtimestamp(subject.now / 1_000_000, UTC)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    dates = f"valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    if now < first:
        yield Finding("certificate", Verdict.WARNING, f"{dates}: not yet, by this device's clock", _SET_CLOCK)
    elif now > last:
        remedy = "set the clock if it is wrong; else have the center enrol the device anew: the broker may refuse it"
        yield Finding("certificate", Verdict.WARNING, f"{dates}: no longer, by this device's clock", remedy)
    else:
        yield Finding("certificate", Verdict.OK, dates)


def _issued(certificate: Any, authority: Any) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
