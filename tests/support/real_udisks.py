"""The real udisksd on a private bus, told by hand what udev would have told it of loop devices. Needs root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from edge_agent.usb_watch.udisks_mounting import UdisksMounting
from tests.support.loop_media import LoopMedium
from tests.support.processes import wait_until

_PROGRAMS = (Path("/usr/libexec/udisks2/udisksd"), Path("/usr/lib/udisks2/udisksd"))
_UDEV_DATA = Path("/run/udev/data")


def why_no_real_udisks() -> str | None:
    """The reason to skip a test that needs udisksd; None when it can run here."""
    if not any(program.exists() for program in _PROGRAMS):
        return "udisksd is not installed: apt-get install udisks2"
    if Path("/run/udev/control").exists():
        return "a real udevd runs here, and its entries are not to be written by a test"
    if Path("/run/dbus/system_bus_socket").exists():
        return "a system bus runs here, whose UDisks2 would meddle"
    return None


@contextlib.contextmanager
def udev_entry(medium: LoopMedium, file_system: str) -> Iterator[None]:
    """What udev would have found out about the medium, in udev's own database."""
    entry = _UDEV_DATA / f"b{medium.device_number[0]}:{medium.device_number[1]}"
    _UDEV_DATA.mkdir(parents=True, exist_ok=True)
    lines = ["I:1", f"E:ID_FS_TYPE={file_system}", "E:ID_FS_USAGE=filesystem", f"E:ID_FS_LABEL=census{medium.number}"]
    entry.write_text("".join(f"{line}\n" for line in lines))
    try:
        yield
    finally:
        entry.unlink()


@contextlib.contextmanager
def real_udisks(bus_address: str) -> Iterator[None]:
    """udisksd, once it answers; it knows the loop devices that were there before it."""
    program = next(program for program in _PROGRAMS if program.exists())
    environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus_address}
    with subprocess.Popen(
        [str(program), "--no-debug"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            mounting = UdisksMounting(bus_address)
            wait_until(lambda: mounting.why_unavailable() is None, "udisksd to answer")
            yield
        finally:
            process.terminate()
