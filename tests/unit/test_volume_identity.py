"""Writing who a medium is: a fault at any call, and what is on it afterwards."""

import os
import stat
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import pytest

from edge_agent.usb_watch.volume import FaultKind, Volume, VolumeFault
from sync_protocol.medium import MEDIUM_FILE, MEDIUM_FOLDER
from tests.support.device import Authority
from tests.support.medium_visit import ROOT, enrolled_medium
from tests.support.memory_medium import File, MemoryMedium, PowerCut

DEVICE = "0" * 32
NEW = b"the new identity" * 20


def write(medium: MemoryMedium) -> None:
    volume = Volume(ROOT, DEVICE, medium)
    volume.write_identity(NEW)
    volume.sync()


@pytest.mark.parametrize("trouble", ["gone", "torn", "power", "unreadable", "full"])
@pytest.mark.parametrize("start", [MemoryMedium(), enrolled_medium(Authority())], ids=["fresh", "replacing"])
def test_whatever_call_fails_the_next_try_completes(start: MemoryMedium, trouble: str) -> None:
    whole = deepcopy(start)
    whole.calls = 0
    write(whole)
    assert whole.durable[MEDIUM_FOLDER, MEDIUM_FILE] == NEW
    for number in range(whole.calls):
        medium = deepcopy(start)
        medium.calls, medium.trouble_at, medium.trouble = 0, number, trouble
        with suppress(VolumeFault, PowerCut):  # a call that only reads cannot be torn
            write(medium)
        medium.pull()
        write(medium)
        medium.pull()
        assert Volume(ROOT, DEVICE, medium).identity() == NEW, f"{trouble} at call {number}"


def test_a_full_medium_says_so_and_keeps_its_other_files() -> None:
    medium = MemoryMedium(capacity_bytes=300_000)
    medium.files["PHOTO.JPG",] = File(b"p" * 100_000)
    with pytest.raises(VolumeFault) as met:
        write(medium)
    assert met.value.kind is FaultKind.FULL
    assert medium.files["PHOTO.JPG",].data == b"p" * 100_000


def test_what_is_left_can_be_read_by_the_daemon_of_another_machine(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        volume = Volume(tmp_path, DEVICE)
        volume.write_identity(NEW)
        volume.write("0000000000000000-00000.CNS", b"bundle")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {MEDIUM_FOLDER: 0o755, MEDIUM_FILE: 0o644, DEVICE: 0o755, "0000000000000000-00000.CNS": 0o644}
