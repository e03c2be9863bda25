"""Neighbours: whether they could be found and let in, and what is in the way."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any, Final

from edge_agent import provisioning
from edge_agent.adapter_settings import mesh_rules
from edge_agent.commands.examination.finding import Finding, Subject, Verdict
from edge_agent.configuration import Configuration
from edge_agent.mesh.interfaces import InterfaceWatch
from edge_agent.mesh.peer_tls import NotADeviceError, PeerTls, device_of, peer_tls
from edge_agent.netlink import NetlinkError
from edge_agent.tls import TlsMaterial, TlsMaterialError

_HANDSHAKE_ROUNDS_MAX: Final = 10
_REINSTALL: Final = "install the provisioning file once more: sudo edge-agent enrol install FILE"
_ENROL_ANEW: Final = "have the center enrol the device anew, with the same request: its keys and its queue stay"


def check_mesh(subject: Subject) -> Iterator[Finding]:
    """A running daemon tells of its own sockets; without one they are tried."""
    mesh = subject.configuration.mesh
    if mesh.duty == "off":
        found = "switched off (mesh.duty): this device carries for nobody near, and nobody near carries for it"
        yield Finding("mesh", Verdict.OK, found)
        return
    yield from _tls(subject.configuration)
    if mesh.discovery and find_spec("zeroconf") is None:
        problem = "neighbours cannot be found: the Python package zeroconf is missing"
        yield Finding("mesh", Verdict.PROBLEM, problem, "install the release anew; discovery = false does without it")
    if not mesh.discovery and not mesh.static_peers:
        found = "this device looks for nobody (discovery = false, no static_peers): others must dial it"
        yield Finding("mesh", Verdict.NOTE, found)
    yield _interfaces(subject.configuration)
    status = None if subject.status is None else subject.status.get("mesh")
    if status is None and not subject.running:
        yield port_finding(mesh.port)
    elif status is not None:
        yield from daemon_findings(status, mesh.port)


def _tls(configuration: Configuration) -> Iterator[Finding]:
    try:
        device = provisioning.load(configuration.device.provisioning_directory)
    except provisioning.ProvisioningError:
        return  # the check of the keys tells it
    try:
        contexts = peer_tls(TlsMaterial(device.tls_authority, device.tls_certificate, device.tls_key))
    except TlsMaterialError as error:
        yield Finding("mesh", Verdict.PROBLEM, str(error), _REINSTALL)
        return
    yield handshake_finding(contexts, device.identity.device)


def handshake_finding(contexts: PeerTls, device: bytes) -> Finding:
    """Return whether the certificate serves for both sides of a connection: the device shakes hands with itself."""
    try:
        seen = _shake_hands(contexts)
    except ssl.SSLError as error:
        detail = getattr(error, "verify_message", "") or error.reason
        problem = f"neighbours would refuse this device's certificate, or it theirs: {detail}"
        return Finding("mesh", Verdict.PROBLEM, problem, _ENROL_ANEW)
    except NotADeviceError as error:
        return Finding("mesh", Verdict.PROBLEM, f"neighbours would refuse this device: {error}", _ENROL_ANEW)
    if seen != {device}:
        return Finding("mesh", Verdict.PROBLEM, "the TLS certificate is another device's", _REINSTALL)
    return Finding("mesh", Verdict.OK, "the certificate proves this device to neighbours, whoever dials")


def _shake_hands(contexts: PeerTls) -> set[bytes]:
    """Return whom the two sides of a connection in memory see; raises SSLError, NotADeviceError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = contexts.client.wrap_bio(to_client, to_server, server_side=False)
    server = contexts.server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_HANDSHAKE_ROUNDS_MAX):
        waiting = 0
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                waiting += 1
        if not waiting:
            break
    return {device_of(client), device_of(server)}


def _interfaces(configuration: Configuration) -> Finding:
    try:
        usable = InterfaceWatch(mesh_rules(configuration)).now()
    except (OSError, NetlinkError) as error:
        remedy = "look at ip link; if the kernel lacks AF_NETLINK, this machine cannot be used"
        return Finding("mesh", Verdict.PROBLEM, f"the network interfaces cannot be listed: {error}", remedy)
    if usable:
        names = ", ".join(interface.name for interface in usable)
        return Finding("mesh", Verdict.OK, f"neighbours can be met on {names}")
    found = "this device is on no local network: neighbours are met on an interface that is up and has an address"
    remedy = (
        "normal on the road; where others are near, join the same Wi-Fi network or plug in a cable; ip -brief address "
        "shows what there is. Those of vpn.interfaces and mesh.excluded_interfaces, and tunnels, do not count"
    )
    return Finding("mesh", Verdict.WARNING, found, remedy)


def port_finding(port: int) -> Finding:
    """Return whether the port is free; to be asked where no daemon runs."""
    with ExitStack() as stack:
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104  # nobody is let in
            try:
                tried = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                if family == socket.AF_INET6:
                    tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                # As the daemon does: connections that have just ended do not keep the port.
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind((address, port))
                tried.listen(1)
            except OSError as error:
                if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    continue  # a machine without IPv6
                problem = f"neighbours cannot be let in on port {port} (mesh.port): {error.strerror}"
                remedy = f"sudo ss -ltnp 'sport = :{port}' shows who has it: end that, or choose another port"
                return Finding("mesh", Verdict.PROBLEM, problem, remedy)
    return Finding("mesh", Verdict.OK, f"port {port} is free for neighbours")


def daemon_findings(mesh: dict[str, Any], port: int) -> Iterator[Finding]:
    """Yield what the running daemon tells of its part."""
    if not mesh["awake"]:
        yield Finding("mesh", Verdict.NOTE, f"no neighbour is looked for now: {mesh['asleep_because']}")
        return
    if mesh["interfaces"] and not mesh["listening"]:
        problem = f"the daemon lets no neighbour in: it does not listen on port {port}"
        remedy = "journalctl -u edge-agent CENSUS_EVENT=part_failed says why; then sudo systemctl restart edge-agent"
        yield Finding("mesh", Verdict.PROBLEM, problem, remedy)
        return
    near = len(mesh["neighbours"])
    if near:
        word = "neighbour is" if near == 1 else "neighbours are"
        yield Finding("mesh", Verdict.OK, f"{near} {word} connected (edge-agent mesh peers)")
    elif mesh["interfaces"]:
        remedy = (
            f"if one is near: the firewalls of both must let in UDP 5353 and TCP {port} from the local network, and "
            "the access point must let its clients see each other (no “client isolation”)"
        )
        yield Finding("mesh", Verdict.NOTE, "no neighbour is connected now", remedy)
    if mesh["last_refusal"] is not None:
        found = f"{mesh['refused']} connections refused since the start; the last: {mesh['last_refusal']}"
        yield Finding("mesh", Verdict.NOTE, found)
