"""The peer of a visit: `cp` of the same files to or from the same medium, every file and folder synced."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.media_places import Place
from sync_protocol.medium import MEDIUM_FOLDER


@dataclass
class Copied:
    """What it took: seconds, and CPU seconds of this process and the programs that it ran."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


def copy_to(place: Place, bundles: Path, *, reads_back: bool = False) -> Copied:
    """Mount, copy one device's folder of bundles there, and unmount; `reads_back`: mount again and compare."""
    with _counted() as copied:
        with place.mounted() as root:
            _run("cp", "-r", str(bundles), str(root / MEDIUM_FOLDER))
            make_durable(root / MEDIUM_FOLDER)
        if reads_back:
            with place.mounted() as root:
                _run("diff", "-r", str(bundles), str(root / MEDIUM_FOLDER / bundles.name))
    return copied


def copy_from(place: Place, device: str, target: Path) -> Copied:
    """Mount and copy one device's folder of bundles from there; unmounting is not counted."""
    started, cpu = time.perf_counter(), _cpu_seconds()
    with place.mounted() as root:
        _run("cp", "-r", str(root / MEDIUM_FOLDER / device), str(target))
        make_durable(target)
        return Copied(time.perf_counter() - started, _cpu_seconds() - cpu)


def make_durable(folder: Path) -> None:
    """Sync every file and folder from here down."""
    for parent, _, names in os.walk(folder, topdown=False):
        for path in (*(Path(parent, name) for name in names), Path(parent)):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextmanager
def _counted() -> Iterator[Copied]:
    copied = Copied()
    started, cpu = time.perf_counter(), _cpu_seconds()
    yield copied
    copied.seconds, copied.cpu_seconds = time.perf_counter() - started, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
