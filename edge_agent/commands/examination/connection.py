"""The way to the center: VPN, broker, and the daemon that uses them."""

from __future__ import annotations

import grp
import json
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from edge_agent import provisioning
from edge_agent.commands.examination.finding import Finding, Subject, Verdict
from edge_agent.commands.status import moment
from edge_agent.configuration import Configuration
from edge_agent.mqtt.bound_client import broker_tls_context
from edge_agent.mqtt.vpn_guard import Permitted, Refusal, Refused, VpnGuard, VpnVerdict, bound_socket
from edge_agent.tls import TlsMaterialError

_CALL_CENTER: Final = "call the center"
_VPN_REMEDIES: Final = {
    Refusal.NO_ROUTE: "connect the VPN; wg show and ip route tell how it stands",
    Refusal.NOT_VPN_INTERFACE: "connect the VPN; if that interface is the VPN, name it in vpn.interfaces",
    Refusal.INTERFACE_DOWN: "connect the VPN: ip link tells how its interface stands",
    Refusal.NO_ADDRESS: "connect the VPN anew: ip address tells what its interface has",
}


def check_vpn(subject: Subject) -> Iterator[Finding]:
    if not subject.broker_known:
        yield Finding("vpn", Verdict.NOTE, "not checked: the configuration does not say where the broker is")
        return
    verdict = _verdict(subject.configuration)
    if isinstance(verdict, Refused):
        # Being without a link is normal for a tablet: everything waits, nothing is lost.
        yield Finding("vpn", Verdict.WARNING, str(verdict), _VPN_REMEDIES[verdict.reason])
        return
    address = subject.configuration.broker.address
    yield Finding("vpn", Verdict.OK, f"the broker {address} is reached by {verdict.interface}")
    if verdict.interface != "lo" and not _has_rule(address):
        found = (
            "no routing rule keeps the broker's address in the VPN: after a crash of the daemon the kernel itself may "
            "answer the broker by another way (no content in it, but it shows whom this device reports to)"
        )
        family = "-6 " if ":" in address else ""
        remedy = (
            f"with the VPN: ip {family}rule add to {address} lookup 7117; "
            f"ip {family}route add {address} dev {verdict.interface} table 7117; "
            f"ip {family}route add unreachable {address} metric 9999 table 7117"
        )
        yield Finding("vpn", Verdict.NOTE, found, remedy)


def _verdict(configuration: Configuration) -> VpnVerdict:
    broker = configuration.broker
    return VpnGuard(broker.address, configuration.vpn.interfaces, port=broker.port).verdict()


def _has_rule(address: str) -> bool:
    """Whether a rule of policy routing names the address; where ip(8) is missing, none is assumed."""
    program = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        return False
    family = "-6" if ":" in address else "-4"
    answer = subprocess.run([program, family, "-json", "rule", "show"], capture_output=True, timeout=10, check=False)
    with suppress(ValueError):
        return any(rule.get("dst") == address for rule in json.loads(answer.stdout))
    return False


def check_daemon(subject: Subject) -> Iterator[Finding]:
    device, intake = subject.configuration.device, subject.configuration.intake
    for group, key, what in (
        (intake.submit_socket_group, "intake.submit_socket_group", "hand over questionnaires"),
        (device.operator_group, "device.operator_group", "look at the queue"),
    ):
        try:
            grp.getgrnam(group)
        except KeyError:
            problem = f"there is no group {group} ({key}): only root and the daemon's user can {what}"
            yield Finding("daemon", Verdict.WARNING, problem, f"sudo groupadd --system {group}")
    if subject.running:
        yield Finding("daemon", Verdict.OK, "it runs and answers")
    else:
        remedy = "sudo systemctl enable --now edge-agent (once nothing else here is a problem)"
        yield Finding("daemon", Verdict.WARNING, "it does not run: nothing is accepted or sent", remedy)


def check_broker(subject: Subject) -> Iterator[Finding]:
    """A running daemon's connection is not disturbed: a second one of the same device would end it."""
    if not subject.broker_known:
        yield Finding("broker", Verdict.NOTE, "not checked: the configuration does not say where it is")
    elif subject.status is not None and subject.running:
        yield _told_by_daemon(subject.status["link"])
    else:
        verdict = _verdict(subject.configuration)
        if isinstance(verdict, Permitted):
            yield _tried(subject.configuration, verdict)
        else:
            yield Finding("broker", Verdict.NOTE, "not tried: it is spoken to through the VPN only")


def _told_by_daemon(link: dict[str, Any]) -> Finding:
    if link["connected"]:
        since = moment(link["connected_since"])
        return Finding("broker", Verdict.OK, f"the daemon is connected to {link['broker']} since {since}")
    if link["last_problem"]:
        problem = f"since {moment(link['problem_since'])} the daemon cannot connect: {link['last_problem']}"
        remedy = "if it lasts: stop the daemon and run doctor again, which then tries by itself and tells more"
        return Finding("broker", Verdict.WARNING, problem, remedy)
    return Finding("broker", Verdict.NOTE, "the daemon is not connected yet")


def _tried(configuration: Configuration, held: Permitted) -> Finding:
    """Connect as the daemon would, say hello as the device, and leave."""
    try:
        device = provisioning.load(configuration.device.provisioning_directory)
        context = broker_tls_context(device.tls_authority, device.tls_certificate, device.tls_key)
    except (provisioning.ProvisioningError, TlsMaterialError):
        return Finding("broker", Verdict.NOTE, "not tried: it takes this device's keys")
    broker = configuration.broker
    place = f"{broker.address} port {broker.port}"
    try:
        with bound_socket(held.interface, broker.address, held.source) as plain:
            plain.settimeout(broker.connect_timeout_seconds)
            plain.connect((broker.address, broker.port))
            with context.wrap_socket(plain, server_hostname=broker.address) as connection:
                connection.sendall(connect_packet(device.identity.device.hex(), broker.session_expiry_seconds))
                code = _reason_code(connection)
                with suppress(OSError):
                    connection.sendall(_DISCONNECT)
    except ssl.SSLCertVerificationError as error:
        problem = f"what answers at {place} is not the census broker: {error.verify_message}"
        return Finding("broker", Verdict.PROBLEM, problem, f"trust it with nothing; {_CALL_CENTER}")
    except ssl.SSLError as error:
        problem = f"{place} refuses this device's certificate or TLS: {error.reason or error}"
        remedy = f"have the center look whether the device is enrolled and not withdrawn; {_CALL_CENTER}"
        return Finding("broker", Verdict.PROBLEM, problem, remedy)
    except ConnectionRefusedError:
        problem = f"nothing listens at {place}"
        return Finding(
            "broker", Verdict.PROBLEM, problem, f"compare address and port with the center's; {_CALL_CENTER}"
        )
    except (OSError, _NoGreeting) as error:
        problem = f"no answer from {place}: {error}"
        remedy = (
            f"a tunnel can be up with nobody behind it: wg show tells its last handshake; if it lasts, {_CALL_CENTER}"
        )
        return Finding("broker", Verdict.WARNING, problem, remedy)
    if code == 0:
        return Finding("broker", Verdict.OK, f"{place} greets this device (TLS 1.3, MQTT 5)")
    reason = _REASONS.get(code, f"reason code 0x{code:02x}")
    return Finding("broker", Verdict.PROBLEM, f"{place} declines this device: {reason}", _CALL_CENTER)


# MQTT 5 by hand (OASIS standard, 3.1, 3.2, 3.14): a client library would take and acknowledge the receipts that wait
# for the daemon.

_DISCONNECT: Final = b"\xe0\x00"
_CONNACK: Final = 0x20
_REASONS: Final = {
    0x84: "it does not speak MQTT 5",
    0x85: "the client identifier is not valid",
    0x86: "bad user name or password",
    0x87: "not authorized",
    0x88: "server unavailable",
    0x89: "server busy",
    0x8A: "banned",
    0x97: "quota exceeded",
    0x9F: "connection rate exceeded",
}


class _NoGreeting(Exception):
    """What came back is no CONNACK."""


def connect_packet(identifier: str, session_expiry_seconds: int) -> bytes:
    """Return a CONNECT that keeps the daemon's session as it is, and lets at most one waiting message come."""
    clean_start_off, keepalive_seconds, receive_maximum = 0, 30, 1
    properties = struct.pack(">BIBH", 0x11, session_expiry_seconds, 0x21, receive_maximum)
    name = identifier.encode()
    body = (
        struct.pack(">H4sBBH", 4, b"MQTT", 5, clean_start_off, keepalive_seconds)
        + bytes((len(properties),))
        + properties
        + struct.pack(">H", len(name))
        + name
    )
    if len(body) > 127:
        raise ValueError("a device's name is 32 characters")
    return bytes((0x10, len(body))) + body


def _reason_code(connection: socket.socket) -> int:
    """Read the CONNACK as far as its reason code; raises _NoGreeting or OSError."""
    received = b""
    while len(received) < 5:
        more = connection.recv(4096)
        if not more:
            raise _NoGreeting("it ended the connection without a word")
        received += more
    # Its length takes one byte up to 127 bytes and two beyond; then flags, then the reason code.
    code_at = 3 if received[1] < 0x80 else 4
    if received[0] != _CONNACK:
        raise _NoGreeting("it does not speak MQTT")
    return received[code_at]
