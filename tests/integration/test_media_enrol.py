"""New sticks at a collection point: `edge-agent media check` and `media enrol` on real block devices."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.field import CommandFailed, Device, Field
from demo.processes import wait_until
from edge_agent.usb_watch.mounting import Mounted
from edge_agent.usb_watch.system_mounting import SystemMounting
from sync_protocol.medium import MEDIUM_FILE, MEDIUM_FOLDER
from tests.support.loop_media import LoopMedium, loop_medium, make_image, why_no_loop_media
from tests.support.small_center import SmallCenter

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

WORDS = ("--number", "0017", "--holder", "A. Akhmetova", "--internal")


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    """A tablet, and a laptop that may enrol media; nobody has started yet."""
    if reason := why_no_loop_media():
        pytest.skip(reason)
    with Field(tmp_path, 1, center_kind=SmallCenter) as made:
        made.devices.append(Device(tmp_path / "laptop", "laptop 3", made.center, settings={}, role="collection_point"))
        yield made


@pytest.fixture
def stick(tmp_path: Path) -> Iterator[LoopMedium]:
    if reason := why_no_loop_media():
        pytest.skip(reason)
    make_image(tmp_path / "image", "ext4")
    with loop_medium(tmp_path / "image") as medium:
        yield medium


def refusal(device: Device, *words: str | Path) -> str:
    with pytest.raises(CommandFailed) as failed:
        device.edge_agent(*words)
    return str(failed.value)


def listed(field: Field) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = field.center.ask("media", "list")
    return found


def test_a_delegated_laptop_enrols_a_stick_that_tablets_use_and_the_center_hears_of(
    field: Field, stick: LoopMedium, tmp_path: Path
) -> None:
    tablet, laptop = field.devices
    field.center.ask("media", "delegate", "laptop 3")
    field.start()
    wait_until(lambda: "delegated" not in _try_enrol(laptop, stick), "the laptop has heard that it may")
    (medium,) = listed_when_there(field)
    assert (medium["number"], medium["holder"], medium["certified_by"]) == ("0017", "A. Akhmetova", "laptop 3")
    assert medium["serial"] < 1 << 32 and medium["believed"]

    # The daemon of a tablet is another user, and the stick keeps who owns what.
    mounted = SystemMounting(tmp_path / "places").mount(stick.block_device("ext4"), writable=True)
    assert isinstance(mounted, Mounted)
    try:
        assert (mounted.path / MEDIUM_FOLDER).stat().st_mode & 0o7777 == 0o1777
        assert (mounted.path / MEDIUM_FOLDER / MEDIUM_FILE).stat().st_mode & 0o777 == 0o644
        tablet.relay.cut()
        tablet.submit([b'{"persons":[]}'], form="household")
        visit = json.loads(tablet.edge_agent("media", "export", mounted.path, "--json"))
        assert (visit["ending"], visit["medium"], visit["envelopes_written"]) == ("safe", medium["medium"], 1)
    finally:
        mounted.unmount()
    enrol = ("media", "enrol", stick.node)
    assert "another number" in refusal(laptop, *enrol, *WORDS)
    said = refusal(laptop, *enrol, "--number", "0018", "--holder", "B", "--internal", "--replace")
    assert "files of devices" in said, "what tablets have left there is not put at risk"


def _try_enrol(laptop: Device, stick: LoopMedium) -> str:
    try:
        return laptop.edge_agent("media", "enrol", stick.node, *WORDS)
    except CommandFailed as failed:
        return str(failed)


def listed_when_there(field: Field) -> list[dict[str, Any]]:
    wait_until(lambda: listed(field) != [], "the center has heard of the stick")
    return listed(field)


def test_enrolling_refuses_with_a_remedy_and_leaves_the_stick_as_it_was(field: Field, stick: LoopMedium) -> None:
    laptop = field.devices[1]
    enrol = ("media", "enrol", stick.node)
    before = stick.image.read_bytes()
    assert "systemctl start" in refusal(laptop, *enrol, *WORDS)
    field.start()
    assert "media delegate" in refusal(laptop, *enrol, *WORDS)
    assert "--internal" in refusal(laptop, "media", "check", stick.node)
    assert "no block device" in refusal(laptop, "media", "check", stick.image)
    assert stick.image.read_bytes() == before
    stick.image.write_bytes(bytes(len(before)))
    assert "mkfs.exfat" in refusal_of_delegated(field, laptop, *enrol, *WORDS)


def refusal_of_delegated(field: Field, laptop: Device, *words: str | Path) -> str:
    """What it says once the laptop is delegated; services that were told so know it."""
    field.center.ask("media", "delegate", "laptop 3")
    for process in (*field.center.consumers.values(), *field.center.publishers.values()):
        process.close()
    field.center.start_consumer()
    field.center.start_publisher()
    wait_until(lambda: "media delegate" not in refusal(laptop, *words), "the laptop has heard that it may")
    return refusal(laptop, *words)


def test_a_stick_is_checked_only_when_nobody_uses_it_and_keeps_what_is_on_it(
    field: Field, stick: LoopMedium, tmp_path: Path
) -> None:
    laptop = field.devices[1]
    before = stick.image.read_bytes()
    mounted = SystemMounting(tmp_path / "places").mount(stick.block_device("ext4"), writable=False)
    assert isinstance(mounted, Mounted)
    try:
        assert "umount" in refusal(laptop, "media", "check", stick.node, "--internal")
    finally:
        mounted.unmount()
    checked = json.loads(laptop.edge_agent("media", "check", stick.node, "--internal", "--json"))
    assert checked == {"device": str(stick.node), "genuine": True, "capacity_bytes": len(before)}
    subprocess.run(["e2fsck", "-fn", str(stick.image)], check=True, capture_output=True)


def test_the_center_checks_a_stick_and_makes_it_the_departments(field: Field, stick: LoopMedium) -> None:
    enrol = ("media", "enrol", "--device", stick.node, "--internal", "--holder", "A. Akhmetova")
    made = field.center.ask(*enrol, "--number", "0001")
    assert (made["number"], made["replaced"]) == ("0001", None)
    assert stick.mounts() == []
    subprocess.run(["e2fsck", "-fn", str(stick.image)], check=True, capture_output=True)
    with pytest.raises(CommandFailed, match="--replace"):
        field.center.ask(*enrol, "--number", "0002")
    assert field.center.ask(*enrol, "--number", "0002", "--replace")["replaced"] == made["medium"]
    with pytest.raises(CommandFailed, match="two places"):
        field.center.ask(*enrol, "--number", "0003", "--out", field.folder)
    with pytest.raises(CommandFailed, match="not on USB"):
        field.center.ask(*[word for word in enrol if word != "--internal"], "--number", "0003")
    written = field.center.ask("media", "write", "0001", "--device", stick.node, "--internal", "--replace")
    assert written["medium"] == made["medium"]
    assert stick.mounts() == []
