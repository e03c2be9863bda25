"""Media by the daemon and its commands: a folder stands for a stick that somebody has mounted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_protocol.identity import Standing
from sync_protocol.medium import MEDIUM_FILE, MEDIUM_FOLDER, certify_medium, write_medium_identity
from tests.integration.edge_fixtures import COMMITTED_AT, authority, broker, center
from tests.support.certificates import TestAuthority
from tests.support.edge_device import EdgeDevice
from tests.support.mosquitto import Mosquitto
from tests.support.processes import wait_until
from tests.support.protocol_examples import ISSUER, TIME, key_certificate
from tests.support.receiving_center import ReceivingCenter

__all__ = ["authority", "broker", "center"]


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """An enrolled medium."""
    certificate = certify_medium(
        ISSUER,
        medium=b"m" * 16,
        number="17",
        holder="Serik Omarov",
        standing=Standing.ACTIVE,
        issued_at=TIME,
        expires_at=0,
        serial=TIME,
    )
    folder = tmp_path / "stick"
    (folder / MEDIUM_FOLDER).mkdir(parents=True)
    (folder / MEDIUM_FOLDER / MEDIUM_FILE).write_bytes(write_medium_identity([key_certificate()], certificate))
    return folder


@pytest.fixture
def tablet(tmp_path: Path, authority: TestAuthority) -> Iterator[EdgeDevice]:
    """A tablet that never has a link: nobody listens where its broker should be."""
    with EdgeDevice(tmp_path / "tablet", authority, 1) as device:
        device.enrol("tablet 17").start()
        yield device


@pytest.fixture
def laptop(tmp_path: Path, authority: TestAuthority, broker: Mosquitto) -> Iterator[EdgeDevice]:
    lines = {"usb": "receipt_wait_seconds = 1"}
    with EdgeDevice(tmp_path / "laptop", authority, broker.port, lines=lines) as device:
        device.enrol("laptop 3", role="collection_point").start()
        yield device


def bundles(stick: Path) -> list[Path]:
    return sorted(path for path in (stick / MEDIUM_FOLDER).glob("*/*") if path.suffix == ".CNS")


def test_questionnaires_go_by_stick_and_laptop_to_the_center_and_the_receipt_comes_back(
    tablet: EdgeDevice, laptop: EdgeDevice, center: ReceivingCenter, stick: Path
) -> None:
    assert tablet.submit('{"persons":1}', '{"persons":2}', '{"persons":3}')["accepted"] == 3
    assert "safe to remove" in tablet.succeed("media", "export", str(stick))
    (visit,) = tablet.document("media", "list")
    assert (visit["number"], visit["holder"], visit["envelopes_written"]) == ("17", "Serik Omarov", 3)
    assert visit["safe_to_remove"] and visit["files_checked"] == visit["files_written"] == len(bundles(stick))
    assert tablet.counts()["waiting"] == 3, "a medium's word frees nobody"

    laptop.run("media", "export", str(stick))
    wait_until(lambda: len(center.envelopes) == 3, "the center has them")
    assert laptop.counts()["carried_for_others"] == 3
    receipt = center.receipt(tablet.name, serial=1, committed_at=COMMITTED_AT, watermark=COMMITTED_AT)
    center.publish(tablet.name, receipt)
    laptop.wait_for_counts(carried_for_others=0)
    laptop.succeed("media", "export", str(stick))

    tablet.succeed("media", "export", str(stick))
    tablet.wait_for_counts(purged=3)
    assert not [path for path in bundles(stick) if tablet.name.hex() in str(path) and path.stat().st_size > 3000]
    (shown,) = tablet.document("queue", "show", "2")
    assert shown["committed_at"] == COMMITTED_AT


def test_a_folder_that_is_no_enrolled_medium_is_left_alone_and_can_be_imported(
    tablet: EdgeDevice, stick: Path, tmp_path: Path, authority: TestAuthority
) -> None:
    tablet.submit('{"persons":1}')
    tablet.succeed("media", "export", str(stick))
    plain = tmp_path / "plain"
    (stick / MEDIUM_FOLDER).rename(plain)
    (plain / MEDIUM_FILE).unlink()
    stick.rmdir()
    (tmp_path / "copy").mkdir()
    plain.rename(tmp_path / "copy" / MEDIUM_FOLDER)
    before = sorted((tmp_path / "copy").rglob("*"))
    with EdgeDevice(tmp_path / "laptop", authority, 1) as laptop:
        laptop.enrol("laptop 3", role="collection_point").start()
        refused = laptop.run("media", "export", str(tmp_path / "copy"))
        assert refused.exit_code == 1 and "not enrolled" in refused.output
        assert "1 read" not in refused.output and laptop.counts()["carried_for_others"] == 0
        assert "read" in laptop.succeed("media", "import", str(tmp_path / "copy"))
        assert laptop.counts()["carried_for_others"] == 1
        assert [one["ending"] for one in laptop.document("media", "list")] == ["left_alone", "read"]
        assert "was not finished" not in laptop.log.read_text()
    assert sorted((tmp_path / "copy").rglob("*")) == before


def test_commands_without_a_daemon_or_with_a_folder_that_it_cannot_read_say_what_to_do(
    tmp_path: Path, authority: TestAuthority
) -> None:
    with EdgeDevice(tmp_path / "tablet", authority, 1) as device:
        device.enrol()
        asked = device.run("media", "list")
        assert asked.exit_code == 1 and "systemctl start edge-agent" in asked.output
        device.start()
        assert "no medium has been plugged in" in device.succeed("media", "list")
        assert device.document("media", "list") == []
        asked = device.run("media", "show", "12")
        assert asked.exit_code == 1 and "media list" in asked.output
