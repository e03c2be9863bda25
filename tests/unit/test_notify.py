"""What systemd hears from a service."""

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from operations.notify import ServiceState, watchdog_interval_seconds


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@census-test-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(5)
        listening.bind(address.replace("@", "\0", 1))
        yield listening, address


def test_each_word_reaches_the_manager(manager: tuple[socket.socket, str]) -> None:
    listening, address = manager
    state = ServiceState.from_environment({"NOTIFY_SOCKET": address})
    assert state.ready("connected,\n2 waiting")
    assert listening.recv(4096) == b"READY=1\nSTATUS=connected, 2 waiting"
    assert state.status("нет связи 3 дня")
    assert listening.recv(4096).decode() == "STATUS=нет связи 3 дня"
    assert state.watchdog()
    assert listening.recv(4096) == b"WATCHDOG=1"
    assert state.reloading(12.5)
    assert listening.recv(4096) == b"RELOADING=1\nMONOTONIC_USEC=12500000"
    assert state.stopping("bye")
    assert listening.recv(4096) == b"STOPPING=1\nSTATUS=bye"


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    assert not ServiceState.from_environment({}).ready("x")
    assert not ServiceState("relative").ready("x")
    assert not ServiceState("@").ready("x")
    assert not ServiceState(str(tmp_path / "gone")).ready("x")


def test_a_manager_that_does_not_read_never_holds_the_service(manager: tuple[socket.socket, str]) -> None:
    state = ServiceState(manager[1])
    sent = 0
    while state.watchdog():
        sent += 1
        assert sent < 100_000
    assert not state.status("late")


def test_the_watchdog_is_fed_at_half_of_its_time_and_only_by_the_process_it_watches() -> None:
    assert watchdog_interval_seconds({"WATCHDOG_USEC": "30000000"}) == 15.0
    assert watchdog_interval_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 15.0
    assert watchdog_interval_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, process_id=8) is None
    assert watchdog_interval_seconds({"WATCHDOG_USEC": "0"}) is None
    assert watchdog_interval_seconds({"WATCHDOG_USEC": "soon"}) is None
    assert watchdog_interval_seconds({}) is None
