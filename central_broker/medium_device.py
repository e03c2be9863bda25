"""Mounting a stick for a moment, by the machine's own mount(8) and umount(8). As root."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from central_broker.medium_folder import MediumFolderError


@contextmanager
def mounted(device: Path, *, writable: bool) -> Iterator[Path]:
    """Mount a device at a folder of our own; raises MediumFolderError, also when it cannot be unmounted."""
    place = Path(tempfile.mkdtemp(prefix="central-broker-"))
    try:
        options = f"nosuid,nodev,noexec,noatime,{'rw' if writable else 'ro'}"
        _run("mount", "--options", options, str(device), str(place), remedy=f"format it: mkfs.exfat {device}")
        try:
            yield place
        finally:
            _run("umount", str(place), remedy="close what is open on it, then unmount it by hand")
    finally:
        # Only ever an empty folder goes.
        with suppress(OSError):
            place.rmdir()


def _run(*words: str, remedy: str) -> None:
    try:
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise MediumFolderError(f"{words[0]} cannot be run: {error.strerror}", "install mount") from None
    if answer.returncode:
        raise MediumFolderError(" ".join(answer.stderr.split()) or f"{words[0]} failed", remedy)
