"""What the tests of the whole device share: a broker with mutual TLS, a center behind it, an enrolled device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import TestAuthority
from tests.support.edge_device import EdgeDevice
from tests.support.mosquitto import Mosquitto, why_no_mosquitto
from tests.support.processes import free_port
from tests.support.receiving_center import ReceivingCenter

COMMITTED_AT = 1_791_000_000_123_456
"""A time that no clock of the test would give by chance."""


@pytest.fixture
def authority(tmp_path: Path) -> TestAuthority:
    return TestAuthority(tmp_path / "authority")


@pytest.fixture
def broker(tmp_path: Path, authority: TestAuthority) -> Iterator[Mosquitto]:
    reason = why_no_mosquitto()
    if reason:
        pytest.skip(reason)
    with Mosquitto(tmp_path / "broker", tls=authority.issue("broker", address="127.0.0.1")) as running:
        yield running


@pytest.fixture
def center(broker: Mosquitto, authority: TestAuthority) -> Iterator[ReceivingCenter]:
    with ReceivingCenter(broker.port, authority.issue("center")) as listening:
        yield listening


@pytest.fixture
def device(tmp_path: Path, authority: TestAuthority, broker: Mosquitto) -> Iterator[EdgeDevice]:
    """Enrolled; its daemon is not started."""
    with EdgeDevice(tmp_path / "device", authority, broker.port) as made:
        yield made.enrol()


@pytest.fixture
def lonely_device(tmp_path: Path, authority: TestAuthority) -> Iterator[EdgeDevice]:
    """Enrolled, and nobody listens where its broker should be."""
    with EdgeDevice(tmp_path / "device", authority, free_port()) as made:
        yield made.enrol()
