"""The daemon as a process, from the command line to the broker and back by receipt."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from edge_agent.commands.status import moment
from edge_agent.queue.intake.local_protocol import connected
from sync_protocol.content import decode_content
from sync_protocol.receipt import SpanStatus
from tests.integration.edge_fixtures import COMMITTED_AT, authority, broker, center, device, lonely_device
from tests.support.certificates import TestAuthority
from tests.support.edge_device import EdgeDevice
from tests.support.mosquitto import Mosquitto
from tests.support.processes import wait_until
from tests.support.protocol_examples import CENTER, signing_key
from tests.support.receiving_center import ReceivingCenter

__all__ = ["authority", "broker", "center", "device", "lonely_device"]

DAY = 24 * 3600 * 1_000_000


def test_a_questionnaire_goes_up_is_marked_by_its_receipt_and_purged_behind_the_watermark(
    device: EdgeDevice, center: ReceivingCenter
) -> None:
    device.start()
    assert device.submit('{"persons":1}', '{"persons":2}')["accepted"] == 2
    wait_until(lambda: len(center.envelopes) == 2, "both envelopes are at the center")
    opened = {decode_content(envelope.open(CENTER))[1] for envelope in center.envelopes.values()}
    assert opened == {b'{"persons":1}', b'{"persons":2}'}
    device.wait_for_counts(sent=2, waiting=0)

    center.publish(device.name, center.receipt(device.name, serial=1, committed_at=COMMITTED_AT))
    device.wait_for_counts(synchronised=2, purged=0)
    (shown,) = device.document("queue", "show", "2")
    assert (shown["committed_at"], shown["state"], shown["purged_at"]) == (COMMITTED_AT, "synchronised", None)
    assert {row["committed_at"] for row in device.document("queue", "list")} == {COMMITTED_AT}

    center.publish(
        device.name, center.receipt(device.name, serial=2, committed_at=COMMITTED_AT, watermark=COMMITTED_AT + 1)
    )
    device.wait_for_counts(synchronised=0, purged=2)
    status = device.document("status")
    assert status["newest_signed_time"] == COMMITTED_AT + 1
    assert status["link"]["connected"]
    assert "clock is behind" not in str(status["alarms"]) or status["clock"] < COMMITTED_AT
    assert device.process.terminate() == 0
    assert device.counts()["purged"] == 2  # and without the daemon, from the queue itself


def test_a_killed_daemon_goes_on_where_it_was(device: EdgeDevice, center: ReceivingCenter) -> None:
    device.start()
    device.submit('{"persons":1}')
    wait_until(lambda: len(center.envelopes) == 1, "the envelope is at the center")
    device.process.kill9()
    # Its receipt waits at the broker for the device.
    center.publish(device.name, center.receipt(device.name, serial=1, committed_at=COMMITTED_AT))
    device.start()
    device.wait_for_counts(synchronised=1)
    assert device.submit('{"persons":2}')["first_sequence"] == 2
    wait_until(lambda: len(center.envelopes) == 2, "the second envelope is at the center")
    assert {envelope.epoch for envelope in center.envelopes.values()} == {1}


def test_a_broker_that_lost_the_session_gets_everything_open_again(
    device: EdgeDevice, center: ReceivingCenter, broker: Mosquitto
) -> None:
    device.start()
    device.submit('{"persons":1}')
    device.wait_for_counts(sent=1)
    wait_until(lambda: center.arrivals.total() == 1, "the envelope is at the center")
    broker.kill9()
    device.wait_for_event("connection_lost")
    device.submit('{"persons":2}')  # without a broker
    broker.restart()
    center.wait_until_listening()
    wait_until(lambda: len(center.envelopes) == 2, "the second envelope is at the center")
    # The first one came again unless the center's own subscription was not back yet; the device has sent it anyway.
    device.wait_for_event("resending")


def test_a_broker_that_declines_is_told_of_and_nothing_is_lost(
    tmp_path: Path, authority: TestAuthority, device: EdgeDevice, broker: Mosquitto
) -> None:
    broker.stop()
    access = tmp_path / "access"
    access.write_text("user center\ntopic #\n")
    options = [f"acl_file {access}"]
    material = authority.issue("broker", address="127.0.0.1")
    with Mosquitto(tmp_path / "strict", tls=material, port=broker.port, options=options) as strict:
        device.start()
        device.submit('{"persons":1}')
        # Heads alone may have been refused before.
        wait_until(
            lambda: any("1 envelopes" in line for line in device.logged("send_refused")), "the envelope is declined"
        )
        assert device.counts()["sent"] == 1
        access.write_text("user center\ntopic #\npattern write census/1/up/%u\npattern read census/1/#\n")
        strict.restart()
        with ReceivingCenter(broker.port, authority.issue("center")) as listening:
            # The device may have been faster than this center: the receipt's wait is not waited for here.
            wait_until(lambda: device.logged("sent"), "the broker takes it now")
            assert listening.heads >= 0


def test_forged_and_stale_receipts_change_nothing_and_are_told_of(device: EdgeDevice, center: ReceivingCenter) -> None:
    device.start()
    device.submit('{"persons":1}')
    wait_until(lambda: len(center.envelopes) == 1, "the envelope is at the center")
    forged = center.receipt(device.name, serial=9, committed_at=1, signer=signing_key("somebody"))
    center.publish(device.name, forged)
    device.wait_for_event("arrival_refused")
    assert device.counts()["sent"] == 1
    center.publish(device.name, center.receipt(device.name, serial=5, committed_at=COMMITTED_AT))
    device.wait_for_counts(synchronised=1)
    center.publish(device.name, center.receipt(device.name, serial=4, committed_at=1, status=SpanStatus.HELD))
    device.wait_for_event("statement_stale")
    assert device.counts()["synchronised"] == 1
    assert device.document("queue", "show", "1")[0]["committed_at"] == COMMITTED_AT


def test_held_envelopes_are_an_alarm(device: EdgeDevice, center: ReceivingCenter) -> None:
    device.start()
    device.submit('{"persons":1}')
    wait_until(lambda: len(center.envelopes) == 1, "the envelope is at the center")
    center.publish(
        device.name, center.receipt(device.name, serial=1, committed_at=COMMITTED_AT, status=SpanStatus.HELD)
    )
    device.wait_for_counts(held=1)
    result = device.run("status")
    assert result.exit_code == 3
    assert "ALARM: 1 envelopes are held" in result.output


def far_off(clock: str) -> tuple[str, ...]:
    """Words that start a program with another clock, in the same process: faketime itself would stand between."""
    library = subprocess.run(["faketime", "now", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True)
    preload = f"LD_PRELOAD={library.stdout.strip()}"
    return ("env", preload, f"FAKETIME=@{clock}", "FAKETIME_DONT_FAKE_MONOTONIC=1")


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed: apt-get install faketime")
@pytest.mark.parametrize("clock", ["1970-01-02 00:00:00", "2037-12-31 23:00:00"])
def test_with_a_clock_far_off_everything_still_flows(device: EdgeDevice, center: ReceivingCenter, clock: str) -> None:
    device.start(prefix=far_off(clock))
    device.submit('{"persons":1}')
    wait_until(lambda: len(center.envelopes) == 1, "the envelope is at the center")
    center.publish(device.name, center.receipt(device.name, serial=1, committed_at=COMMITTED_AT))
    device.wait_for_counts(synchronised=1)
    status = device.document("status")
    assert moment(status["clock"]).startswith(clock[:4])
    assert ("the clock is behind" in str(status["alarms"])) == clock.startswith("1970")
    (finding,) = (one for one in device.document("doctor")["findings"] if one["check"] == "broker")
    assert finding["verdict"] == "ok"
    device.submit('{"persons":2}')
    device.process.kill9()
    device.start()  # the clock is set right
    wait_until(lambda: len(center.envelopes) == 2, "the second envelope is at the center")
    center.publish(device.name, center.receipt(device.name, serial=2, committed_at=COMMITTED_AT))
    device.wait_for_counts(synchronised=2)
    assert {row["committed_at"] for row in device.document("queue", "list")} == {COMMITTED_AT}


@pytest.fixture
def journal(device: EdgeDevice) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        listening.bind(str(device.runtime_directory / "journal"))
        listening.settimeout(20)
        yield listening


def record_of(journal: socket.socket, event: str) -> dict[str, str]:
    """Return the next record of that event; its fields hold no line ends."""
    while True:
        lines = journal.recv(1 << 20).decode().splitlines()
        fields = dict(line.split("=", 1) for line in lines)
        if fields["CENSUS_EVENT"] == event:
            return fields


def test_the_journal_can_be_filtered_by_what_happened(
    device: EdgeDevice, center: ReceivingCenter, journal: socket.socket
) -> None:
    address = str(device.runtime_directory / "journal")
    device.start(program=("-m", "tests.support.journaled_daemon", "--journal", address))
    secret = "Айгуль"
    device.submit(f'{{"name":"{secret}"}}')
    accepted = record_of(journal, "accepted")
    assert (accepted["CENSUS_EPOCH"], accepted["CENSUS_SEQUENCE"]) == ("1", "1")
    wait_until(lambda: len(center.envelopes) == 1, "the envelope is at the center")
    center.publish(device.name, center.receipt(device.name, serial=1, committed_at=COMMITTED_AT))
    committed = record_of(journal, "committed")
    assert committed["SYSLOG_IDENTIFIER"] == "edge-agent"
    assert committed["CENSUS_COMMITTED_AT"] == str(COMMITTED_AT)
    assert committed["MESSAGE"].startswith("the census database committed sequences 1 to 1 of epoch 1")
    assert secret not in device.log.read_text()


def wait_for_notice(notices: socket.socket, *pieces: str) -> str:
    """Return the next word to the service manager that has all the pieces."""
    heard: list[str] = []
    for _ in range(100):
        text = notices.recv(4096).decode()
        heard.append(text)
        if all(piece in text for piece in pieces):
            return text
    raise AssertionError(f"{pieces} not in {heard[-20:]}")


def test_the_service_manager_hears_of_readiness_links_life_and_end(
    device: EdgeDevice, broker: Mosquitto, center: ReceivingCenter
) -> None:
    notices = device.listen_for_notices()
    device.start(wait=False)
    assert wait_for_notice(notices, "READY=1").startswith("READY=1")
    # Ready means that a form program can submit at once.
    with connected(device.runtime_directory / "submit.sock") as client:
        assert client.ask({"request": "submit", "form": "household"}, b'{"persons":1}')["ok"]
    wait_for_notice(notices, "WATCHDOG=1")
    wait_for_notice(notices, "STATUS=1 waiting", "; connected (VPN by lo)")
    broker.kill9()
    wait_for_notice(notices, "STATUS=1 waiting", "; not connected (VPN by lo; ")
    broker.restart()
    center.wait_until_listening()
    wait_for_notice(notices, "; connected (VPN by lo)")
    device.process.signal(signal.SIGTERM)
    wait_for_notice(notices, "STOPPING=1")
    assert device.process.wait() == 0
    assert not list(device.runtime_directory.glob("*.sock"))


def test_the_service_manager_hears_why_the_broker_is_not_reached(tmp_path: Path, authority: TestAuthority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)
        with EdgeDevice(tmp_path / "device", authority, listening.getsockname()[1]) as device:
            notices = device.enrol().listen_for_notices()
            device.start(wait=False)
            connection, _ = listening.accept()
            wait_for_notice(notices, "STATUS=0 waiting", "; not connected (VPN by lo)")
            connection.close()  # nothing happens in the queue: it is the link alone that changes
            wait_for_notice(notices, "STATUS=0 waiting", "; not connected (VPN by lo; ")


def test_a_silent_center_is_told_of_in_status_journal_and_to_the_service_manager(lonely_device: EdgeDevice) -> None:
    device = lonely_device
    device.start()
    device.submit('{"persons":1}')
    assert device.run("status").exit_code == 0
    device.process.terminate()
    with closing(sqlite3.connect(device.state_directory / "queue.db")) as queue, queue:
        queue.execute("UPDATE envelope SET received_at = received_at - ?", (4 * DAY,))
    notices = device.listen_for_notices()
    device.start()
    device.wait_for_event("receipt_silence")
    wait_for_notice(notices, "STATUS=ALARM: no receipt from the center for 4 d 0 h")
    result = device.run("status")
    assert result.exit_code == 3
    assert "ALARM: no receipt from the center for 4 d 0 h" in result.output
    silent = next(one for one in device.document("doctor")["findings"] if one["check"] == "receipts")
    assert (silent["verdict"], "none came yet" in silent["found"]) == ("problem", True)


def test_what_was_handed_over_before_the_end_is_kept(lonely_device: EdgeDevice) -> None:
    """Requests under way when SIGTERM comes: whatever was answered is in the queue."""
    device = lonely_device
    device.start()
    answers = []
    with connected(device.runtime_directory / "submit.sock") as client:
        for number in range(200):
            client.send({"request": "submit", "form": "household", "key": str(number)}, b'{"number":%d}' % number)
        answers.append(client.receive())
        device.process.signal(signal.SIGTERM)
        with suppress(Exception):
            while True:
                answers.append(client.receive())
    assert device.process.wait() == 0
    assert device.counts()["waiting"] >= len([answer for answer in answers if answer["ok"]]) >= 1


def test_sigterm_during_a_connect_ends_the_daemon_at_once(tmp_path: Path, authority: TestAuthority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        lines = {"broker": "connect_timeout_seconds = 300"}
        with EdgeDevice(tmp_path / "device", authority, port, lines=lines) as device:
            device.enrol().start()
            silent.settimeout(20)
            connection, _ = silent.accept()
            with connection:
                assert device.process.terminate() == 0


def test_a_broker_away_for_days_does_not_fill_the_journal(tmp_path: Path, authority: TestAuthority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)
        with EdgeDevice(tmp_path / "device", authority, listening.getsockname()[1]) as device:
            device.enrol().start()
            for _ in range(6):
                listening.accept()[0].close()
            assert 1 <= len(device.logged("broker_unreachable")) <= 2  # a reset or an end, as it happens
            link = device.document("status")["link"]
            assert link["last_problem"]
            assert link["problem_since"] is not None


def test_an_idle_daemon_rests(device: EdgeDevice, center: ReceivingCenter, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints its figures; what it may use is the benchmark's to judge."""
    device.start()
    device.submit('{"persons":1}')
    wait_until(lambda: len(center.envelopes) == 1, "the envelope is at the center")
    center.publish(device.name, center.receipt(device.name, serial=1, committed_at=COMMITTED_AT))
    device.wait_for_counts(synchronised=1)
    process = Path("/proc") / str(device.process.pid)
    cpu_seconds = sum(map(int, process.joinpath("stat").read_text().rsplit(")", 1)[1].split()[11:13])) / os.sysconf(
        "SC_CLK_TCK"
    )
    time.sleep(3)  # the status line that follows the last change
    before = context_switches(process)
    time.sleep(4)
    switches = context_switches(process) - before
    resident = next(line for line in process.joinpath("status").read_text().splitlines() if line.startswith("VmRSS"))
    with capsys.disabled():
        figures = f"{resident.split()[1]} kB resident, {cpu_seconds:.2f} s CPU to start, {switches / 4:.1f} switches/s"
        sys.stdout.write(f"\nidle daemon: {figures}\n")
    assert switches >= 0


def context_switches(process: Path) -> int:
    """Of all threads, voluntary or not."""
    total = 0
    for thread in process.joinpath("task").iterdir():
        for line in thread.joinpath("status").read_text().splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total
