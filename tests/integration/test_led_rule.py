"""The example of a udev rule for a light: udev reads it as it is meant, and what it runs gives just those files."""

from __future__ import annotations

import grp
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.shared_data import PROJECT_FOLDER

RULE = PROJECT_FOLDER / "docs" / "examples" / "90-census-led.rules"
LIGHT = "/devices/platform/i8042/serio0/input/input3/input3::scrolllock"
DESCRIPTION = f"P: {LIGHT}\nE: SUBSYSTEM=leds\nA: brightness=0\\n\nA: trigger=[none] timer\\n\n"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="rules in the place of the machine's own need a mount namespace"),
    pytest.mark.skipif(
        shutil.which("umockdev-run") is None, reason="umockdev is not installed: apt-get install umockdev"
    ),
    pytest.mark.skipif(shutil.which("udevadm") is None, reason="udev is not installed: apt-get install udev"),
]

# Nothing of it is left on this machine: neither the rule nor what udev writes down.
_TRY = """
set -e
mkdir -p /etc/udev/rules.d /run/udev
mount --bind "$1" /etc/udev/rules.d
mount -t tmpfs tmpfs /run/udev
exec umockdev-run --device "$2" -- udevadm test --action="$3" "/sys$4"
"""


def what_udev_would_run(folder: Path, action: str) -> list[str]:
    """Return the commands, as `udevadm test` names them."""
    rules = folder / "rules"
    rules.mkdir()
    shutil.copy(RULE, rules)
    (folder / "light.umockdev").write_text(DESCRIPTION)
    words = ["unshare", "--mount", "--propagation", "private", "bash", "-c", _TRY, "try"]
    words += [str(rules), str(folder / "light.umockdev"), action, LIGHT]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert "Invalid" not in said.stderr, said.stderr
    return [line.removeprefix("run: '").removesuffix("'") for line in said.stdout.splitlines() if "/bin/sh" in line]


@pytest.mark.parametrize("action", ["add", "change"])
def test_the_rule_gives_the_daemon_the_files_of_the_light_and_no_other(tmp_path: Path, action: str) -> None:
    (command,) = what_udev_would_run(tmp_path, action)
    found = re.fullmatch(r"/bin/sh -c '(.*)'", command)
    assert found is not None and f"/sys{LIGHT}" in command
    light = tmp_path / "light"
    light.mkdir()
    for name in ("trigger", "brightness", "max_brightness", "delay_on"):  # and no delay_off
        (light / name).touch(0o644)
    group = grp.getgrnam("daemon")
    script = found[1].replace(f"/sys{LIGHT}", str(light)).replace("edge-agent", group.gr_name)
    subprocess.run(["/bin/sh", "-c", script], check=True, timeout=20, cwd=tmp_path)
    given = {path.name for path in light.iterdir() if path.stat().st_gid == group.gr_gid}
    writable = {path.name for path in light.iterdir() if stat.S_IMODE(path.stat().st_mode) == 0o664}
    assert given == writable == {"trigger", "brightness", "delay_on"}


def test_the_rule_says_nothing_of_a_light_that_goes(tmp_path: Path) -> None:
    assert what_udev_would_run(tmp_path, "remove") == []
