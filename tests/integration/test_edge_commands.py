"""What people meet: enrolment, the doctor, refusals, and the commands without a daemon."""

from __future__ import annotations

import gzip
import os
import pty
import re
import select
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.commands.examination.service import service_account, service_process
from edge_agent.configuration import load_configuration
from edge_agent.queue.store import QUEUE_FILE_NAME
from sync_protocol.records import encode_record
from tests.integration.edge_fixtures import authority, broker, device, lonely_device
from tests.support.certificates import TestAuthority
from tests.support.edge_device import EdgeDevice
from tests.support.mosquitto import Mosquitto

__all__ = ["authority", "broker", "device", "lonely_device"]

NOBODY = 65534


def findings(device: EdgeDevice, check: str) -> list[tuple[str, str]]:
    """Return (verdict, found) of one check."""
    return [(one["verdict"], one["found"]) for one in device.document("doctor")["findings"] if one["check"] == check]


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


def test_enrolment_makes_keys_for_one_reader_and_a_second_request_keeps_them(
    tmp_path: Path, authority: TestAuthority
) -> None:
    with EdgeDevice(tmp_path / "device", authority, 1) as device:
        device.succeed("enrol", "request", "--name", "tablet 17")
        directory = device.provisioning_directory
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert modes(directory) == {"signing.key": 0o600, "tls.key": 0o600, "request.json": 0o644}
        before = [(directory / name).read_bytes() for name in ("signing.key", "tls.key")]
        first = device.name
        said = device.document("enrol", "request", "--name", "tablet 18")
        assert (said["keys_kept"], said["device"], said["name"]) == (True, first.hex(), "tablet 18")
        assert [(directory / name).read_bytes() for name in ("signing.key", "tls.key")] == before


def test_only_the_answer_to_this_devices_request_is_installed(tmp_path: Path, authority: TestAuthority) -> None:
    with (
        EdgeDevice(tmp_path / "one", authority, 1) as one,
        EdgeDevice(tmp_path / "other", authority, 1) as other,
    ):
        one.succeed("enrol", "request", "--name", "one")
        other.succeed("enrol", "request", "--name", "other")
        answer = tmp_path / "answer.json"
        for data, expected in (
            (encode_record(other.provisioning()), f"it is for device {other.name.hex()}"),
            ((one.provisioning_directory / "request.json").read_bytes(), "this is a device's request"),
            (b"\x00\xff", "not a Provisioning file"),
            (b"[" * 300_000, "has at most"),
            (encode_record(one.provisioning()).replace(b"BEGIN", b"BEGONE"), "certificates cannot be read"),
        ):
            answer.write_bytes(data)
            result = one.run("enrol", "install", str(answer))
            assert result.exit_code == 1
            assert expected in result.stderr
            assert "what to do: " in result.stderr
            assert not (one.provisioning_directory / "provisioning.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_gives_the_keys_to_the_owner_of_the_state_directory(tmp_path: Path, authority: TestAuthority) -> None:
    with EdgeDevice(tmp_path / "device", authority, 1) as device:
        os.chown(device.state_directory, NOBODY, NOBODY)
        device.enrol()
        directory = device.provisioning_directory
        owners = {path.name: path.stat().st_uid for path in (directory, *directory.iterdir())}
        assert set(owners.values()) == {NOBODY}, owners
        assert not [one for one in findings(device, "keys") if one[0] == "problem"]
        os.chown(directory / "signing.key", 0, 0)
        assert [one for one in findings(device, "keys") if one[0] == "problem" and "belongs to root" in one[1]]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_gives_away_nothing_behind_a_link(tmp_path: Path, authority: TestAuthority) -> None:
    """The daemon's user owns the directory: a link that it left there must not give it another's file."""
    precious = tmp_path / "precious"
    precious.write_text("root's")
    with EdgeDevice(tmp_path / "device", authority, 1) as device:
        device.enrol()
        os.chown(device.state_directory, NOBODY, NOBODY)
        (device.provisioning_directory / "authority.crt").unlink()
        (device.provisioning_directory / "authority.crt").symlink_to(precious)
        result = device.run("enrol", "request", "--name", "tablet 17")
        assert (result.exit_code, precious.stat().st_uid) == (1, 0)


def test_the_doctor_works_before_enrolment_and_with_a_broken_configuration(
    tmp_path: Path, authority: TestAuthority
) -> None:
    with EdgeDevice(tmp_path / "device", authority, 1) as device:
        assert "the device is not enrolled" in findings(device, "keys")[0][1]
        device.configuration.write_text(
            f'[device]\nstate_directory = "{device.state_directory}"\nbogus = 1\n[broker]\nport = "x"\n'
            "[sync]\nreceipt_wait_seconds = 9000\nreceipt_silence_alarm_seconds = 600\n"
        )
        result = device.run("doctor")
        assert result.exit_code == 1
        ((verdict, found),) = findings(device, "configuration")
        assert verdict == "problem"
        for mistake in ("bogus", "broker.port", "broker.address", "receipt_wait_seconds"):
            assert mistake in found
        assert any(str(device.state_directory) in found for _, found in findings(device, "disk"))
        assert findings(device, "broker")[0][0] == "note"


def test_the_doctor_greets_the_broker_itself_and_disturbs_no_running_daemon(
    device: EdgeDevice, broker: Mosquitto
) -> None:
    assert findings(device, "broker") == [("ok", f"127.0.0.1 port {broker.port} greets this device (TLS 1.3, MQTT 5)")]
    assert device.run("doctor").exit_code == 0
    device.start()
    (before,) = device.wait_for_event("connected")
    ((verdict, found),) = findings(device, "broker")
    assert (verdict, found.startswith("the daemon is connected")) == ("ok", True)
    assert findings(device, "queue")[0][1].startswith("in use by the daemon")
    assert device.logged("connected") == [before]
    assert not device.logged("connection_lost")


def test_the_doctor_tells_a_refused_device_from_a_false_broker_and_from_none(
    tmp_path: Path, device: EdgeDevice, broker: Mosquitto, authority: TestAuthority
) -> None:
    broker.stop()
    assert findings(device, "broker")[0][1].startswith("nothing listens")
    stranger = TestAuthority(tmp_path / "stranger", "another authority")
    with Mosquitto(tmp_path / "false", tls=stranger.issue("broker", address="127.0.0.1"), port=broker.port):
        ((verdict, found),) = findings(device, "broker")
        assert (verdict, "is not the census broker" in found) == ("problem", True)
    server = authority.issue("broker", address="127.0.0.1")
    picky = type(server)(stranger.certificate_file, server.certificate, server.key)
    with Mosquitto(tmp_path / "picky", tls=picky, port=broker.port):
        ((verdict, found),) = findings(device, "broker")
        assert verdict == "problem"
        assert "refuses this device's certificate" in found or "ended the connection" in found


def test_the_doctor_finds_a_damaged_queue_and_says_how_to_save_it(lonely_device: EdgeDevice) -> None:
    device = lonely_device
    device.start()
    device.submit('{"persons":1}')
    device.process.terminate()
    assert findings(device, "queue")[0][0] == "ok"
    path = device.state_directory / QUEUE_FILE_NAME
    with closing(path.open("r+b")) as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    (found,) = (one for one in device.document("doctor")["findings"] if one["check"] == "queue")
    assert found["verdict"] == "problem"
    assert "do not start the daemon" in found["remedy"]


def test_the_doctor_knows_the_daemons_process_and_whom_it_runs_as(lonely_device: EdgeDevice) -> None:
    configuration = load_configuration(lonely_device.configuration)
    assert service_process(configuration) is None
    lonely_device.start()
    assert service_process(configuration) == lonely_device.process.pid
    account = service_account(configuration)
    assert account is not None and account.user_id == os.geteuid()
    assert lonely_device.document("doctor")["problems"] == 0
    assert [verdict for verdict, _ in findings(lonely_device, "media")] == ["ok"]


def test_commands_work_without_a_daemon_from_the_queue_itself(lonely_device: EdgeDevice) -> None:
    device = lonely_device
    assert device.run("status").exit_code == 1
    device.start()
    device.submit('{"persons":1}', '{"persons":2}')
    running = device.document("queue", "list")
    device.process.terminate()
    assert device.document("queue", "list") == running
    status = device.document("status")
    assert (status["running"], status["envelopes"]["waiting"]) == (False, 2)
    assert "the daemon does not run" in device.succeed("status")
    assert device.run("queue", "show", "3").exit_code == 1
    refused = device.run("submit", str(device.configuration))
    assert refused.exit_code == 1
    assert "the daemon does not run" in refused.stderr


def test_malformed_submissions_get_a_clear_refusal_and_queue_nothing(lonely_device: EdgeDevice, tmp_path: Path) -> None:
    device = lonely_device
    device.start()
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "a.xml").write_text("<open><unclosed></open>")
    (folder / "b.json").write_text('{"persons":')
    (folder / "c.json").write_bytes(b"")
    (folder / "d.xml").write_text('<!DOCTYPE x [<!ENTITY a "b">]><x id="f">&a;</x>')
    (folder / "e.json").write_bytes(b'{"form":"household","photo":"' + b"x" * 10_000_001)
    (folder / "f.json.gz").write_bytes(b"not gzip")
    (folder / "g.jsonl.gz").write_bytes(gzip.compress(b'{"form":"household"}\n' * 9)[:-12])
    (folder / "h.json").write_text('{"persons":1}')  # names no form
    result = device.run("submit", "--json", str(folder))
    assert result.exit_code == 1
    refused = {Path(one["questionnaire"]).name: one for one in device.document("submit", str(folder))["refused"]}
    assert set(refused) == {path.name for path in folder.iterdir()}
    assert all(one["problem"] and one["remedy"] for one in refused.values())
    assert "more than the 10,000,000 allowed" in refused["e.json"]["problem"]
    assert "gzip" in refused["f.json.gz"]["problem"]
    assert device.counts()["waiting"] <= 9  # the whole lines before the cut
    assert device.process.is_alive


def test_the_list_fits_a_terminal_of_80_columns(lonely_device: EdgeDevice) -> None:
    device = lonely_device
    device.start()
    device.submit(*(f'{{"persons":{number}}}' for number in range(12)))
    text = on_a_terminal(device, "queue", "list")
    rows = [line for line in text.splitlines() if " waiting " in line]
    assert len(rows) == 12  # none is wrapped
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())


def test_status_can_be_watched(lonely_device: EdgeDevice) -> None:
    device = lonely_device
    device.start()
    text = on_a_terminal(device, "status", "--watch", until="Ctrl-C ends")
    assert "waiting to be sent" in text


def on_a_terminal(device: EdgeDevice, *words: str, until: str | None = None) -> str:
    """Run a command on a terminal of 80 columns, to its end or until it has written something; then end it."""
    near, far = pty.openpty()
    arguments = [sys.executable, "-m", "edge_agent", "--configuration", str(device.configuration), *words]
    environment = {**os.environ, "COLUMNS": "80", "LINES": "40", "TERM": "xterm"}
    process = subprocess.Popen(arguments, stdout=far, stderr=far, stdin=far, env=environment)
    os.close(far)
    written = b""
    try:
        while select.select([near], [], [], 20)[0]:
            try:
                more = os.read(near, 65536)
            except OSError:  # how a terminal says that nobody is at its other end
                break
            written += more
            if until is not None and until.encode() in written:
                break
    finally:
        process.terminate()
        process.wait()
        os.close(near)
    return re.sub("\x1b\\[[0-9;?]*[A-Za-z]|\r", "", written.decode(errors="replace"))
