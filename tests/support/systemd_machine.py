"""A machine with a systemd of its own: this host's files below an overlay in memory, loopback for a network.

Needs root and systemd-nspawn. Nothing outside changes: what is written, and whoever runs in it, goes with it.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.support.shared_data import PROJECT_FOLDER

PROGRAMS: Final = Path("/opt/census-sync/bin")
_PROJECT: Final = "/opt/census-project"
_PACKAGES: Final = "/opt/census-packages"
_BOOT_SECONDS_MAX: Final = 60.0
_WAIT_SECONDS_MAX: Final = 60.0

_START = """
set -e
folder=$1; shift
mkdir -p "$folder"
mount -t tmpfs -o mode=0755 tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
chmod 0755 "$folder/root"
: > "$folder/root/etc/machine-id"
for unit in mosquitto postgresql; do
    rm -f "$folder/root/etc/systemd/system/multi-user.target.wants/$unit.service"
done
exec systemd-nspawn --register=no --keep-unit --quiet --directory="$folder/root" "$@"
"""


def why_no_machine() -> str | None:
    """The reason to skip a test that needs such a machine; None when one can be tried."""
    if os.geteuid() != 0:
        return "a machine with its own systemd needs root"
    if shutil.which("systemd-nspawn") is None:
        return "systemd-nspawn is not installed: apt-get install systemd-container"
    if not Path("/usr/lib/systemd/systemd").exists():
        return "systemd is not installed"
    if _python() is None:
        version = ".".join(platform.python_version_tuple()[:2])
        return f"there is no Python {version} outside of home directories, which units cannot see"
    return None


def _python() -> str | None:
    """An interpreter of our version that a hardened service can start."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (Path(sys.base_prefix) / "bin" / version, Path("/usr/bin") / version):
        if candidate.exists() and not str(candidate.resolve()).startswith(("/root/", "/home/")):
            return str(candidate)
    return None


class NoBootError(Exception):
    """systemd does not come up here (no overlay, no control groups, ...)."""


class SystemdMachine:
    """Boots on entering; everything in it is killed on leaving."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "machine"
        self._console = folder / "console.log"
        self._name = f"census-{uuid.uuid4().hex[:10]}"
        self._leader = 0

    def __enter__(self) -> SystemdMachine:
        words = [
            *("unshare", "--mount", "--propagation", "private", "bash", "-c", _START, "start", str(self._folder)),
            *(f"--machine={self._name}", "--boot", "--private-network", "--console=passive"),
            *(f"--bind-ro={PROJECT_FOLDER}:{_PROJECT}", f"--bind-ro={sysconfig.get_path('purelib')}:{_PACKAGES}"),
        ]
        with self._console.open("wb") as console:
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT)
        try:
            self._wait_for_boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _wait_for_boot(self) -> None:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        deadline = time.monotonic() + _BOOT_SECONDS_MAX
        while time.monotonic() < deadline and self._process.poll() is None:
            # Before nspawn is there, the shell has short-lived children of its own.
            if self._process_name() == "systemd-nspawn" and (found := children.read_text().split()):
                self._leader = int(found[0])
                if self.try_shell("systemctl is-system-running --wait").stdout.strip() in ("running", "degraded"):
                    return
            time.sleep(0.1)
        raise NoBootError(f"systemd does not come up here: {self._console.read_text(errors='replace')[-500:].strip()}")

    def _process_name(self) -> str:
        return (
            Path(f"/proc/{self._process.pid}/comm").read_text().strip().replace("systemd-nspaw", "systemd-nspawn")[:14]
        )

    def _end(self) -> None:
        if self._process.poll() is None:
            # The first process in there, by whose end all others end and nspawn tidies up.
            os.kill(self._leader or self._process.pid, signal.SIGKILL)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def try_shell(self, script: str, *, user: str = "root") -> subprocess.CompletedProcess[str]:
        """Run a script inside as this user, with all of his groups."""
        path = f"{PROGRAMS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        words = ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-C", "--"]
        words += ["env", "-i", f"PATH={path}", "LANG=C.UTF-8", "HOME=/"]
        words += [] if user == "root" else ["runuser", "-u", user, "--"]
        words += ["bash", "-c", script]
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120, cwd="/"
        )

    def shell(self, script: str, *, user: str = "root") -> str:
        """The same, which must end well; returns what it says."""
        done = self.try_shell(script, user=user)
        if done.returncode != 0:
            journal = self.try_shell("journalctl --no-pager --lines 60").stdout
            raise AssertionError(f"{script}\n{done.stdout}{done.stderr}\n{journal}")
        return done.stdout

    def wait_for(self, condition: str) -> None:
        """Return once this script ends well."""
        deadline = time.monotonic() + _WAIT_SECONDS_MAX
        while (done := self.try_shell(condition)).returncode != 0:
            if time.monotonic() > deadline:
                units = self.try_shell("systemctl --no-pager status 'census-*' edge-agent").stdout
                raise AssertionError(f"never true: {condition}\n{done.stdout}{done.stderr}\n{units}")
            time.sleep(0.1)

    def main_process(self, unit: str) -> int:
        """The unit's main process as numbered inside; 0 while there is none."""
        return int(self.shell(f"systemctl show --property=MainPID --value {unit}"))

    def install(self) -> None:
        """What `make install-venv` does, without fetching anything: the environment of these tests is used."""
        self.shell(
            f"""
            set -e
            umask 022
            {_python()} -m venv --without-pip {PROGRAMS.parent}
            printf '{_PROJECT}\\n{_PACKAGES}\\n' > "$(echo {PROGRAMS.parent}/lib/python3*/site-packages)/census.pth"
            for pair in edge-agent:edge_agent.commands central-broker:central_broker.commands; do
                program={PROGRAMS}/${{pair%%:*}}
                printf '#!{PROGRAMS}/python\\nfrom %s import main\\nmain()\\n' "${{pair##*:}}" > "$program"
                chmod 0755 "$program"
            done
            PREFIX=/usr/local BINDIR={PROGRAMS} LIBDIR=/usr/local/lib {_PROJECT}/scripts/install-files
            systemd-sysusers /usr/local/lib/sysusers.d/census-*.conf
            systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/census-*.conf
            systemctl daemon-reload
            """
        )
