"""The doctor's judgement on the mesh, where no device is needed for it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from edge_agent.commands.examination.finding import Subject, Verdict
from edge_agent.commands.examination.mesh import check_mesh, daemon_findings, handshake_finding, port_finding
from edge_agent.configuration import parse_configuration
from edge_agent.mesh.peer_tls import peer_tls
from edge_agent.tls import TlsMaterial
from tests.support.certificates import Material, TestAuthority

DEVICE = bytes(range(16))
AWAKE: dict[str, Any] = {
    "awake": True,
    "asleep_because": None,
    "interfaces": ["wlan0"],
    "listening": ["192.168.4.7 port 8884 on wlan0"],
    "refused": 0,
    "last_refusal": None,
    "neighbours": [],
}


def subject(mesh: str, tmp_path: Path) -> Subject:
    text = f'[device]\nprovisioning_directory = "{tmp_path}"\n[broker]\naddress = "10.8.0.1"\n[mesh]\n{mesh}\n'
    return Subject(parse_configuration(text), True, None, 0)


def material(issued: Material) -> TlsMaterial:
    return TlsMaterial(issued.authority, issued.certificate, issued.key)


def test_a_mesh_that_is_off_is_no_trouble(tmp_path: Path) -> None:
    (finding,) = check_mesh(subject('duty = "off"', tmp_path))
    assert finding.verdict is Verdict.OK
    assert "nobody near carries for it" in finding.found


def test_a_device_that_neither_looks_nor_dials_is_told_so(tmp_path: Path) -> None:
    found = [one.found for one in check_mesh(subject("discovery = false", tmp_path))]
    assert any("others must dial it" in one for one in found)
    peers = 'discovery = false\nstatic_peers = ["10.0.0.1"]'
    assert not any("others must dial it" in one.found for one in check_mesh(subject(peers, tmp_path)))


def test_a_port_that_another_program_has_is_a_problem() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finding = port_finding(port)
        assert (finding.verdict, f"port {port}" in finding.found) == (Verdict.PROBLEM, True)
        assert "ss -ltnp" in finding.remedy
    assert port_finding(port).verdict is Verdict.OK


def test_the_certificate_must_serve_for_both_sides(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path / "authority")
    good = peer_tls(material(authority.issue(DEVICE.hex())))
    assert handshake_finding(good, DEVICE).verdict is Verdict.OK
    another = handshake_finding(good, b"x" * 16)
    assert (another.verdict, "another device" in another.found) == (Verdict.PROBLEM, True)
    # A client's certificate, as devices had them before there was a mesh.
    client_only = handshake_finding(peer_tls(material(authority.issue("tablet"))), DEVICE)
    assert client_only.verdict is Verdict.PROBLEM
    assert "enrol the device anew" in client_only.remedy


def test_a_certificate_of_another_authority_is_a_problem(tmp_path: Path) -> None:
    ours, theirs = TestAuthority(tmp_path / "ours"), TestAuthority(tmp_path / "theirs")
    issued = theirs.issue(DEVICE.hex())
    mixed = peer_tls(TlsMaterial(ours.certificate_file, issued.certificate, issued.key))
    assert handshake_finding(mixed, DEVICE).verdict is Verdict.PROBLEM


@pytest.mark.parametrize(
    ("changed", "verdict", "found"),
    [
        ({}, Verdict.NOTE, "no neighbour is connected"),
        ({"neighbours": [{}]}, Verdict.OK, "1 neighbour is connected"),
        ({"neighbours": [{}, {}]}, Verdict.OK, "2 neighbours are connected"),
        ({"listening": []}, Verdict.PROBLEM, "does not listen on port 8884"),
        ({"awake": False, "asleep_because": "the device is on battery"}, Verdict.NOTE, "on battery"),
    ],
)
def test_what_the_daemon_tells_is_judged(changed: dict[str, Any], verdict: Verdict, found: str) -> None:
    (finding,) = daemon_findings({**AWAKE, **changed}, 8884)
    assert finding.verdict is verdict
    assert found in finding.found


def test_the_firewall_is_named_where_nobody_is_met_and_refusals_are_shown() -> None:
    nobody, refusals = daemon_findings({**AWAKE, "refused": 3, "last_refusal": "10.0.0.9: it is silent"}, 8884)
    assert "UDP 5353 and TCP 8884" in nobody.remedy
    assert refusals.found == "3 connections refused since the start; the last: 10.0.0.9: it is silent"
