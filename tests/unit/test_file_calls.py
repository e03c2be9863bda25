"""The machine's own calls on a medium's files, where they answer otherwise than one would think."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edge_agent.usb_watch.file_calls import SYSTEM_CALLS
from edge_agent.usb_watch.volume import BundleFile, FaultKind, Volume, VolumeFault
from sync_protocol.medium import MEDIUM_FILE, MEDIUM_FOLDER
from tests.support.device import memory_folder

DEVICE = "f" * 32
BUNDLE = BundleFile(DEVICE, f"{1:016x}-00000.CNS")


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the kernel answer as it does to a device on a medium that is mounted nodev."""
    really_open = os.open

    def opened(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path in names:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", opened)


def test_what_may_not_be_opened_is_no_identity_and_a_damaged_bundle_and_no_fault_of_the_medium(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with memory_folder() as root:
        (root / MEDIUM_FOLDER / DEVICE).mkdir(parents=True)
        (root / MEDIUM_FOLDER / MEDIUM_FILE).touch()
        (root / MEDIUM_FOLDER / BUNDLE.device / BUNDLE.name).touch()
        forbid(monkeypatch, MEDIUM_FILE, BUNDLE.name)
        volume = Volume(root, DEVICE, SYSTEM_CALLS)
        assert volume.identity() is None
        assert volume.listing().files == (BUNDLE,)
        with pytest.raises(VolumeFault) as fault:
            volume.read(BUNDLE)
        assert fault.value.kind is FaultKind.ODD
