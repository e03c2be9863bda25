"""Sticks: whether they are noticed, can be mounted and read here, and whether one was left mounted."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from edge_agent.commands.examination.finding import Finding, Subject, Verdict
from edge_agent.commands.examination.service import service_account, service_process
from edge_agent.configuration import Configuration
from edge_agent.usb_watch.mount_table import MountEntry, mounts_below
from edge_agent.usb_watch.mounting import MOUNTED_FILE_SYSTEMS
from edge_agent.usb_watch.system_mounting import SystemMounting

_AS_ROOT: Final = "run as root: sudo edge-agent doctor"
_LEAVE_ALONE: Final = 'or set mounting = "off" in [usb], if sticks are not used'
_UDISKS: Final = "UDisks2"
_BY_ITSELF: Final = "the daemon itself"
_UDISKS_TIMEOUT_SECONDS: Final = 10.0

_RULE: Final = "50-edge-agent.rules"
_ETC: Final = Path("/etc/polkit-1/rules.d")
_ALWAYS_READ: Final = (_ETC, Path("/usr/share/polkit-1/rules.d"))
_READ_BY_NEW_POLKIT: Final = (Path("/usr/local/share/polkit-1/rules.d"), Path("/run/polkit-1/rules.d"))
_NEW_POLKIT: Final = 126
"""The first release that reads those, too (polkit-org/polkit, pull requests 498 and 502)."""

_UDEV_CONTROL: Final = Path("/run/udev/control")
_MEDIA_FOLDERS: Final = (Path("/media"), Path("/run/media"))


def check_media(subject: Subject) -> Iterator[Finding]:
    """UDisks2 is asked over D-Bus, which starts it where it rests until it is needed."""
    if subject.configuration.usb.mounting == "off":
        yield Finding("media", Verdict.OK, "switched off (usb.mounting): sticks are left alone")
        return
    way, finding = _way_of_mounting(subject.configuration)
    yield finding
    if way == _UDISKS:
        yield polkit_finding(_ALWAYS_READ, _READ_BY_NEW_POLKIT, _polkit_version())
    yield _udev()
    yield kernel_finding(Path("/proc/filesystems").read_text(), _modules(os.uname().release))
    yield from _leftovers(subject)


def _way_of_mounting(configuration: Configuration) -> tuple[str | None, Finding]:
    """Return the first way that works, as the daemon looks for it, and the finding on all of them."""
    wanted = configuration.usb.mounting
    problems: list[str] = []
    if wanted in ("auto", "udisks"):
        problem = _why_no_udisks()
        if problem is None:
            return _UDISKS, Finding("media", Verdict.OK, f"sticks are mounted by {_UDISKS}")
        problems.append(problem)
    if wanted in ("auto", "system"):
        process = service_process(configuration)
        if process is None and wanted == "system":
            found = "whether the daemon may mount sticks by itself shows only while it runs"
            return None, Finding("media", Verdict.NOTE, found)
        problem = "the daemon does not run, or cannot be asked" if process is None else _why_not_itself(process)
        if problem is None:
            return _BY_ITSELF, Finding("media", Verdict.OK, f"sticks are mounted by {_BY_ITSELF}")
        problems.append(problem)
    # A machine without UDisks2 is no fault as long as nobody has asked for it.
    verdict = Verdict.WARNING if wanted == "auto" else Verdict.PROBLEM
    remedy = f"sudo apt-get install udisks2, {_LEAVE_ALONE}"
    if wanted == "system":
        remedy = f'give the service CAP_SYS_ADMIN, or set mounting = "udisks" and install udisks2, {_LEAVE_ALONE}'
    return None, Finding("media", verdict, f"sticks cannot be mounted: {'; '.join(problems)}", remedy)


def _why_no_udisks() -> str | None:
    from edge_agent.usb_watch.udisks_mounting import UdisksMounting  # loads D-Bus

    return UdisksMounting(timeout_seconds=_UDISKS_TIMEOUT_SECONDS).why_unavailable()


def _why_not_itself(process: int) -> str | None:
    try:
        return SystemMounting(Path("/"), process_status=Path(f"/proc/{process}/status")).why_unavailable()
    except OSError as error:
        return f"what the daemon may do cannot be seen: {error.strerror}"


def polkit_finding(always_read: Iterable[Path], read_by_new: Iterable[Path], version: int | None) -> Finding:
    """Return whether polkit lets the daemon use UDisks2; `version` is polkit's, None where it is not known."""
    unseen = False
    for folder in (*always_read, *read_by_new):
        try:
            (folder / _RULE).stat()
        except PermissionError:
            unseen = True
        except OSError:
            continue
        else:
            if folder in always_read or (version is not None and version >= _NEW_POLKIT):
                return Finding("media", Verdict.OK, f"polkit lets the daemon mount sticks: {folder / _RULE}")
            found = f"polkit before {_NEW_POLKIT} does not read {folder / _RULE}: the daemon may mount no stick"
            if not unseen:
                return Finding("media", Verdict.PROBLEM, found, f"sudo cp {folder / _RULE} {_ETC}/")
    if unseen:
        return Finding("media", Verdict.NOTE, "not checked whether polkit has the daemon's rule", _AS_ROOT)
    found = f"polkit's rule {_RULE} is not installed: the daemon may mount no stick"
    return Finding("media", Verdict.PROBLEM, found, f"copy it from share/polkit-1/rules.d to {_ETC} (installation.md)")


def _polkit_version() -> int | None:
    try:
        said = subprocess.run(["pkaction", "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\d+$", said.strip())
    # Releases were once numbered 0.105, 0.120, and then 121.
    return None if found is None or "0." in said else int(found[0])


def _udev() -> Finding:
    from edge_agent.usb_watch.hotplug import open_udev

    try:
        source = open_udev()
        drives = len(source.present())
        source.close()
    except OSError as error:
        problem = f"udev cannot be heard, so that no stick is noticed: {error.strerror or error}"
        return Finding("media", Verdict.PROBLEM, problem, "sudo apt-get install udev libudev1")
    if not _UDEV_CONTROL.exists():
        problem = "udev does not run, so that no stick is noticed"
        return Finding("media", Verdict.WARNING, problem, "sudo systemctl start systemd-udevd; containers have none")
    return Finding("media", Verdict.OK, f"udev can be heard, and knows {drives} block devices")


def kernel_finding(known: str, modules: str) -> Finding:
    """Return whether the kernel reads what sticks are formatted as.

    `known` is the text of /proc/filesystems, `modules` names the files of the modules that can be loaded.
    """
    has_now = {line.split()[-1] for line in known.splitlines() if line.strip()}
    could_load = set(re.findall(r"/([a-z0-9_]+)\.ko\b", modules))
    missing = [name for name in MOUNTED_FILE_SYSTEMS if name not in has_now | could_load]
    if not missing:
        return Finding("media", Verdict.OK, f"the kernel reads {', '.join(MOUNTED_FILE_SYSTEMS)}")
    readable = [name for name in MOUNTED_FILE_SYSTEMS if name not in missing]
    found = f"the kernel does not read {', '.join(missing)}"
    if not readable:
        return Finding("media", Verdict.PROBLEM, found, "install the distribution's own kernel, with its modules")
    remedy = f"format sticks as {' or '.join(readable)}, or install the distribution's own kernel, with its modules"
    return Finding("media", Verdict.WARNING, found, remedy)


def _modules(release: str) -> str:
    folder = Path("/lib/modules") / release
    texts = []
    for name in ("modules.builtin", "modules.dep"):
        try:
            texts.append((folder / name).read_text("utf-8", errors="replace"))
        except OSError:
            continue
    return "\n".join(texts)


def _leftovers(subject: Subject) -> Iterator[Finding]:
    account = service_account(subject.configuration)
    places = [subject.configuration.device.runtime_directory / "media"]
    if account is not None:
        places += [folder / account.name for folder in _MEDIA_FOLDERS]
    media: list[dict[str, Any]] = [] if subject.status is None else subject.status["media"]
    yield from leftover_findings(
        [entry for place in places for entry in mounts_below(place.resolve())],
        is_visiting=any(visit["ending"] is None for visit in media),
        is_running=subject.running,
    )


def leftover_findings(mounts: Iterable[MountEntry], *, is_visiting: bool, is_running: bool) -> Iterator[Finding]:
    """Yield what is mounted where only the daemon mounts, unless it is at work there."""
    paths = [str(entry.path) for entry in mounts]
    if not paths or is_visiting:
        return
    found = f"mounted by the daemon, and not in use by it: {', '.join(paths)}"
    doing = "restart" if is_running else "start"
    remedy = f"sudo systemctl {doing} edge-agent, which releases it; do not pull the stick out before"
    yield Finding("media", Verdict.WARNING, found, remedy)
