"""Writes mosquitto's configuration, access list and certificates; written for 2.0.11, and valid for later 2.x.

Two listeners, because of client identifiers. On the tablets' listener the broker takes user name *and* client
identifier from the certificate, so that no device can take over another's session. Consumers share one certificate
name and need an identifier each, so they have a listener of their own, with an authority of its own: a device's
certificate does not open it.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from central_broker.configuration import BrokerConfiguration
from central_broker.tls_authority import (
    CONSUMER_NAME,
    PUBLISHER_NAME,
    TlsIssuer,
    issue_server_certificate,
    key_to_pem,
    new_tls_key,
    to_pem,
)
from operations.durable_files import write_durably
from sync_protocol.limits import BUNDLE_BYTES_MAX
from sync_protocol.topics import FORMS_PREFIX, LISTS_PREFIX, RECEIPTS_PREFIX, STATEMENTS, UP_PREFIX

PACKET_BYTES_MAX: Final = BUNDLE_BYTES_MAX + 4 * 1024
"""A bundle with its topic and properties."""
SESSION_DAYS_MAX: Final = 35
"""Longer than a tablet may be away in the month of the census; a session costs memory."""


@dataclass(frozen=True)
class BrokerFiles:
    """What was written. On SIGHUP mosquitto reads access list, certificates, revocations anew; the rest on a restart.

    A reload does not end the connections that revoked devices have; a restart does.
    """

    directory: Path
    configuration: Path
    restart_needed: bool
    new_certificate: bool


def write_broker_files(
    directory: Path,
    configuration: BrokerConfiguration,
    *,
    issuer: TlsIssuer | None,
    root: bytes,
    center_authority: bytes,
    revocation_list: bytes | None,
) -> BrokerFiles:
    """Write everything mosquitto needs.

    `issuer` makes a new server certificate; None keeps the one that is there, as does a `revocation_list` of None.
    """
    directory.mkdir(parents=True, exist_ok=True)
    owner = _owner(configuration.user)
    if owner is not None:
        shutil.chown(directory, *owner)
    if issuer is not None:
        names = server_names(configuration)
        key = new_tls_key()
        certificate = issue_server_certificate(issuer, key.public_key(), names)
        _write(directory / "server.key", key_to_pem(key), owner, mode=0o600)
        _write(directory / "server.pem", to_pem(certificate, issuer.certificate), owner)
        _write(directory / "devices.pem", to_pem(issuer.certificate) + root, owner)
    _write(directory / "center.pem", center_authority, owner)
    if revocation_list is not None:
        _write(directory / "revoked.pem", revocation_list, owner)
    _write(directory / "acl", access_list().encode(), owner)
    path = directory / "mosquitto.conf"
    text = mosquitto_configuration(directory, configuration).encode()
    restart = not path.exists() or path.read_bytes() != text
    _write(path, text, owner)
    return BrokerFiles(directory, path, restart, issuer is not None)


def server_names(configuration: BrokerConfiguration) -> list[str]:
    """What the server certificate must name: the tablets' ways to the broker, and the center's own."""
    return list(dict.fromkeys([*configuration.names, configuration.center_address]))


def certificate_fits(directory: Path, configuration: BrokerConfiguration, issuer_certificate: bytes) -> bool:
    """Whether there is a usable server certificate for exactly these names, by this issuer."""
    try:
        certificate = x509.load_pem_x509_certificate((directory / "server.pem").read_bytes())
        key = load_pem_private_key((directory / "server.key").read_bytes(), None)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(issuer_certificate))
    except Exception:  # noqa: BLE001  # whatever is wrong with the old files, new ones are the answer
        return False
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    said = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    said |= set(names.get_values_for_type(x509.DNSName))
    return said == set(server_names(configuration)) and key.public_key() == certificate.public_key()


def access_list() -> str:
    """mosquitto's access list: patterns hold for every user, %u is the common name of the client's certificate."""
    return f"""\
# Written by `central-broker broker`; changes are lost. Whatever is not allowed is refused.
# A device writes below its own name only, and reads what the center says to devices.
pattern write {UP_PREFIX}%u
pattern read {RECEIPTS_PREFIX}#
pattern read {STATEMENTS}
pattern read {FORMS_PREFIX}#
pattern read {LISTS_PREFIX}#

# Consumers read what devices sent, and nothing else.
user {CONSUMER_NAME}
topic read {UP_PREFIX}+
topic deny {UP_PREFIX}{CONSUMER_NAME}
topic deny {RECEIPTS_PREFIX}#
topic deny {STATEMENTS}
topic deny {FORMS_PREFIX}#
topic deny {LISTS_PREFIX}#

# The publisher writes what the center says to devices.
user {PUBLISHER_NAME}
topic write {RECEIPTS_PREFIX}#
topic write {STATEMENTS}
topic write {FORMS_PREFIX}#
topic write {LISTS_PREFIX}#
topic deny {UP_PREFIX}{PUBLISHER_NAME}
"""


def mosquitto_configuration(directory: Path, configuration: BrokerConfiguration) -> str:
    """mosquitto.conf with the reason of every line."""
    return f"""\
# Written by `central-broker broker`; changes are lost. Set them in center.toml instead.
user {configuration.user}
per_listener_settings false
allow_anonymous false
acl_file {directory / "acl"}

# In memory only: 2.0.11 loses acknowledged messages when killed, in every persistence mode, and a half-kept state is
# worse than none. Tablets send again until the center's receipt answers, and receipts are published again on demand.
persistence false

# One message is one bundle. A larger one ends the connection, so that its sender notices: message_size_limit would
# acknowledge it and throw it away.
max_packet_size {PACKET_BYTES_MAX}
# For consumers, who acknowledge after a database transaction: must cover what one transaction collects.
max_inflight_messages {configuration.in_flight_max}
# For one client that is away or slow. What exceeds this is dropped, and sent again by its tablet.
max_queued_messages {configuration.queue_messages_max}
max_queued_bytes {configuration.queue_bytes_max}
persistent_client_expiration {SESSION_DAYS_MAX}d
queue_qos0_messages false
# The newest receipt of every device waits here for it, some hundred bytes each, and its list of who is counted, some
# kilobytes: a shortcut.
retain_available true
# Nobody reads $SYS.
sys_interval 0
set_tcp_nodelay true
connection_messages true
log_dest stderr
log_timestamp_format %Y-%m-%dT%H:%M:%S
log_type error
log_type warning
log_type notice

# Tablets and collection points. The file limit of the service must exceed the number of tablets (LimitNOFILE=65536).
listener {configuration.port} {configuration.listen_address}
max_connections -1
max_qos 1
allow_zero_length_clientid false
tls_version tlsv1.3
cafile {directory / "devices.pem"}
certfile {directory / "server.pem"}
keyfile {directory / "server.key"}
crlfile {directory / "revoked.pem"}
require_certificate true
# User name and client identifier are the certificate's: what a client says of itself counts for nothing.
use_identity_as_username true
use_username_as_clientid true

# The center's own consumers and publisher.
listener {configuration.center_port} {configuration.center_address}
max_connections -1
max_qos 1
tls_version tlsv1.3
cafile {directory / "center.pem"}
certfile {directory / "server.pem"}
keyfile {directory / "server.key"}
require_certificate true
use_identity_as_username true
"""


def next_steps(files: BrokerFiles) -> Sequence[str]:
    """What a person does next, a line each."""
    if not files.restart_needed:
        return (
            "systemctl reload census-broker     (the installed units do it by themselves; or send it SIGHUP)",
            "systemctl restart census-broker    if a revoked device is connected now: only this ends its connection",
        )
    return (
        f"by hand:     mosquitto -c {files.configuration}",
        "as service:  systemctl restart census-broker    (with LimitNOFILE=65536, if the unit is your own)",
    )


def _owner(user: str) -> tuple[int, int] | None:
    """Whom the files must belong to: mosquitto gives up root before it reads them. None when we cannot give away."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return None
    return entry.pw_uid, entry.pw_gid


def _write(path: Path, data: bytes, owner: tuple[int, int] | None, *, mode: int = 0o644) -> None:
    write_durably(path, data, mode=mode)
    if owner is not None:
        shutil.chown(path, *owner)
