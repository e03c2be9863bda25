"""The real udisksd beside a real udevd, in namespaces of their own. Needs root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from edge_agent.usb_watch.udisks_mounting import UdisksMounting
from tests.support.loop_media import LoopMedium
from tests.support.processes import wait_until

_UDISKS = (Path("/usr/libexec/udisks2/udisksd"), Path("/usr/lib/udisks2/udisksd"))
_UDEV = (Path("/lib/systemd/systemd-udevd"), Path("/usr/lib/systemd/systemd-udevd"))
# Set inside the namespaces, where udisksd and its udev are the test's own.
INSIDE = "CENSUS_TEST_PRIVATE_UDEV"

# /dev is a private copy, so that udevd changes no owner and no link of the real one; loop nodes are made by the tests.
_SET_UP = """
mount --make-rprivate /
ip link set lo up
mkdir -p /media
mount -t tmpfs -o mode=755 tmpfs /media
mkdir -p /run && mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/udev /run/lock /run/real-dev
mount --bind /dev /run/real-dev
mount -t tmpfs -o mode=755,dev tmpfs /dev
for node in null zero full random urandom tty loop-control; do cp -a /run/real-dev/$node /dev/; done
mkdir /dev/shm
ln -s /proc/self/fd /dev/fd
"$UDEVD" --daemon --resolve-names=never
exec "$@"
"""


def why_no_real_udisks() -> str | None:
    """The reason to skip a test that needs udisksd and udevd; None when they can run here."""
    for programs, name, package in ((_UDISKS, "udisksd", "udisks2"), (_UDEV, "systemd-udevd", "udev")):
        if not any(program.exists() for program in programs):
            return f"{name} is not installed: apt-get install {package}"
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    probe = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    return None if probe.returncode == 0 else f"no namespaces here: {probe.stderr.decode().strip()}"


def run_beside_udev(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs the words in namespaces with a udevd; everything that was started there ends with them."""
    environment = {**os.environ, "UDEVD": str(next(program for program in _UDEV if program.exists())), INSIDE: "1"}
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return subprocess.run(
        [*command, "bash", "-e", "-c", _SET_UP, "bash", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def wait_until_udev_knows(medium: LoopMedium) -> None:
    """Waits for udev to have looked at what is on the medium."""
    entry = Path(f"/run/udev/data/b{medium.device_number[0]}:{medium.device_number[1]}")
    subprocess.run(["udevadm", "trigger", "--settle", str(medium.node)], check=True, capture_output=True)
    wait_until(entry.exists, "udev's entry of the loop device")


@contextlib.contextmanager
def real_udisks(bus_address: str) -> Iterator[None]:
    """udisksd, once it answers; it knows the loop devices that were there before it."""
    program = next(program for program in _UDISKS if program.exists())
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
