"""The doctor's own judgement, where no device is needed for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.commands.doctor import run_check
from edge_agent.commands.examination import connection
from edge_agent.commands.examination.connection import connect_packet
from edge_agent.commands.examination.device import check_clock
from edge_agent.commands.examination.finding import Finding, Subject, Verdict, read_configuration
from edge_agent.commands.examination.storage import file_system_of
from edge_agent.configuration import parse_configuration
from edge_agent.mqtt.vpn_guard import Refusal, Refused

YEAR = 31_556_952_000_000


def subject(now: int, signed_time: int | None = None) -> Subject:
    status = {"newest_signed_time": signed_time, "running": True}
    return Subject(parse_configuration('[broker]\naddress = "10.8.0.1"'), True, status, now)


@pytest.mark.parametrize(
    ("now", "signed_time", "verdict"),
    [
        (0, None, Verdict.WARNING),
        (53 * YEAR, None, Verdict.WARNING),
        (56 * YEAR, None, Verdict.OK),
        (56 * YEAR, 55 * YEAR, Verdict.OK),
        (56 * YEAR, 57 * YEAR, Verdict.WARNING),
        (72 * YEAR, None, Verdict.WARNING),
        (9_000 * YEAR, None, Verdict.WARNING),
    ],
)
def test_a_clock_that_cannot_be_right_is_a_warning(now: int, signed_time: int | None, verdict: Verdict) -> None:
    (finding,) = check_clock(subject(now, signed_time))
    assert finding.verdict is verdict
    assert bool(finding.remedy) == (verdict is Verdict.WARNING)


def test_a_check_that_fails_is_a_finding_and_keeps_what_it_had_found() -> None:
    def check(_subject: Subject) -> Iterator[Finding]:
        yield Finding("disk", Verdict.OK, "so far")
        raise KeyError("nothing")

    first, second = run_check("disk", check, subject(0))
    assert first.found == "so far"
    assert (second.verdict, second.found) == (Verdict.PROBLEM, "this check itself failed: KeyError: 'nothing'")


def test_the_file_system_is_that_of_the_innermost_and_last_mount(tmp_path: Path) -> None:
    inner = tmp_path / "a b"
    inner.mkdir()
    mounts = (
        "22 1 8:1 / / rw - ext4 /dev/root rw\n"
        f"23 22 0:20 / {tmp_path} rw shared:1 - vfat /dev/sda1 rw\n"
        f"24 23 0:21 / {tmp_path}/a\\040b rw - ext4 /dev/sdb1 rw\n"
        f"25 23 0:22 / {tmp_path}/a\\040b rw - tmpfs tmpfs rw\n"
    )
    assert file_system_of(inner, mounts) == "tmpfs"
    assert file_system_of(tmp_path, mounts) == "vfat"
    assert file_system_of(tmp_path.parent, mounts) == "ext4"


def test_the_doctors_greeting_keeps_the_session_that_the_daemon_has() -> None:
    packet = connect_packet("0" * 32, 2_592_000)
    assert packet[0] == 0x10
    assert packet[1] == len(packet) - 2
    assert packet[2:9] == b"\x00\x04MQTT\x05"
    assert packet[9] & 0b10 == 0  # clean start would throw the daemon's session away
    assert packet[13:18] == b"\x11" + (2_592_000).to_bytes(4, "big")  # so would an expiry of zero
    assert packet.endswith(b"\x00\x20" + b"0" * 32)


@pytest.mark.parametrize("reason", list(Refusal))
def test_whatever_keeps_the_broker_from_being_spoken_to_there_is_something_to_do(
    monkeypatch: pytest.MonkeyPatch, reason: Refusal
) -> None:
    monkeypatch.setattr(connection, "_verdict", lambda _: Refused(reason, "wg0"))
    (finding,) = connection.check_vpn(subject(56 * YEAR))
    assert finding.verdict is Verdict.WARNING and finding.remedy
    assert finding.found == str(Refused(reason, "wg0"))


def test_what_is_right_in_a_broken_configuration_is_used(tmp_path: Path) -> None:
    path = tmp_path / "edge-agent.toml"
    path.write_text('[device]\nstate_directory = "/a/b"\n[broker]\naddress = "10.8.0.1"\nport = 0\nprot = 1\n')
    configuration, broker_known, finding = read_configuration(path)
    assert (configuration.device.state_directory, configuration.broker.port) == (Path("/a/b"), 8883)
    assert (broker_known, configuration.broker.address) == (True, "10.8.0.1")
    assert finding.verdict is Verdict.PROBLEM
    path.write_bytes(b"\xff\xfe")
    assert read_configuration(path)[1] is False
