"""Parts of the daemon that fail: each alone, and told of once."""

from __future__ import annotations

import fcntl
from contextlib import suppress
from pathlib import Path

from tests.integration.edge_fixtures import authority, broker, lonely_device
from tests.support.certificates import TestAuthority
from tests.support.edge_device import EdgeDevice
from tests.support.mosquitto import Mosquitto

__all__ = ["authority", "broker", "lonely_device"]


def test_a_drop_folder_that_cannot_be_used_stops_nothing_else(lonely_device: EdgeDevice) -> None:
    device = lonely_device
    device.drop_directory.write_text("a file where the folder should be")
    device.start()
    (line,) = device.wait_for_event("part_failed")
    assert "drop folder" in line
    assert "Traceback" not in device.log.read_text()  # the system's own words are enough
    assert device.submit('{"persons":1}')["accepted"] == 1


def has_event_loop(pid: int) -> bool:
    """Whether the process holds an epoll descriptor; others may come and go while it is looked for."""
    for link in (Path("/proc") / str(pid) / "fd").iterdir():
        with suppress(FileNotFoundError):
            if "eventpoll" in str(link.readlink()):
                return True
    return False


def test_a_command_that_looks_at_the_queue_only_delays_the_daemons_start(lonely_device: EdgeDevice) -> None:
    device = lonely_device
    with (device.state_directory / "queue.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = device.start(wait=False)
        process.wait_until(lambda: has_event_loop(process.pid), "its event loop runs")
        assert not device.logged("started")
    device.wait_for_event("started")


def test_the_same_device_twice_backs_off_instead_of_taking_turns_at_the_broker(
    tmp_path: Path, authority: TestAuthority, broker: Mosquitto
) -> None:
    """A clone (a copied disk) connects under the same name: each connection ends the other one at once."""
    with EdgeDevice(tmp_path / "one", authority, broker.port) as one:
        one.enrol()
        with EdgeDevice(tmp_path / "two", authority, broker.port) as two:
            one.provisioning_directory.rename(tmp_path / "shared")
            for device in (one, two):
                device.provisioning_directory.symlink_to(tmp_path / "shared")
                lines = {"broker": "keepalive_seconds = 60"}
                device.write_configuration(broker.port, lines)
            one.start()
            one.wait_for_event("connected")
            two.start()
            one.wait_for_event("connected", times=3)
            assert len(one.logged("connection_lost")) == 1
            assert one.document("status")["link"] is not None
