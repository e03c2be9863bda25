"""What the real udev makes of one rule file, for a device that umockdev describes. Needs root: a mount namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

# Nothing of it is left on this machine: neither the rule nor what udev writes down.
_TRY = """
set -e
mkdir -p /etc/udev/rules.d /run/udev
mount --bind "$1" /etc/udev/rules.d
mount -t tmpfs tmpfs /run/udev
exec umockdev-run --device "$2" -- udevadm test --action="$3" "/sys$4"
"""


def why_no_udev_rules() -> str | None:
    """The reason to skip a test of a rule; None when it can run here."""
    if os.geteuid() != 0:
        return "rules in the place of the machine's own need a mount namespace, and so root"
    if shutil.which("umockdev-run") is None:
        return "umockdev is not installed: apt-get install umockdev"
    if shutil.which("udevadm") is None:
        return "udev is not installed: apt-get install udev"
    return None


def what_udev_says(rule: Path, description: str, device: str, action: str, *, folder: Path) -> list[str]:
    """Return the lines of `udevadm test`: the device's properties, and what would be run."""
    rules = folder / "rules"
    rules.mkdir()
    shutil.copy(rule, rules)
    (folder / "device.umockdev").write_text(description)
    words = ["unshare", "--mount", "--propagation", "private", "bash", "-c", _TRY, "try"]
    words += [str(rules), str(folder / "device.umockdev"), action, device]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    complaints = [line for line in said.stderr.splitlines() if f"{rule.name}:" in line and "nvalid" in line]
    if complaints:
        raise AssertionError(complaints)
    return said.stdout.splitlines()
