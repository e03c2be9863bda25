"""The machine's own calls on a medium's files, where they answer otherwise than one would think."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.usb_watch.file_calls import SYSTEM_CALLS
from edge_agent.usb_watch.volume import BundleFile, FaultKind, Volume, VolumeFault
from sync_protocol.medium import MEDIUM_FILE, MEDIUM_FOLDER
from tests.support.device import memory_folder

DEVICE = "f" * 32
BUNDLE = BundleFile(DEVICE, f"{1:016x}-00000.CNS")


def forbid(path: Path) -> None:
    """Put something in this place that may not be opened: a device where devices are not allowed, or a secret."""
    if os.geteuid() != 0:
        path.touch(mode=0)
        return
    if not os.statvfs(path.parent).f_flag & os.ST_NODEV:
        pytest.skip("no file system in memory is mounted nodev here")
    os.mknod(path, 0o20666, os.makedev(1, 9))


def test_what_may_not_be_opened_is_no_identity_and_a_damaged_bundle_and_no_fault_of_the_medium() -> None:
    with memory_folder() as root:
        (root / MEDIUM_FOLDER / DEVICE).mkdir(parents=True)
        forbid(root / MEDIUM_FOLDER / MEDIUM_FILE)
        forbid(root / MEDIUM_FOLDER / BUNDLE.device / BUNDLE.name)
        volume = Volume(root, DEVICE, SYSTEM_CALLS)
        assert volume.identity() is None
        assert volume.listing().files == (BUNDLE,)
        with pytest.raises(VolumeFault) as fault:
            volume.read(BUNDLE)
        assert fault.value.kind is FaultKind.UNREADABLE
