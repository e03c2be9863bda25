"""The example of a udev rule for a light: udev reads it as it is meant, and what it runs gives just those files."""

from __future__ import annotations

import grp
import re
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.shared_data import PROJECT_FOLDER
from tests.support.udev_rules import what_udev_says, why_no_udev_rules

RULE = PROJECT_FOLDER / "docs" / "examples" / "90-census-led.rules"
LIGHT = "/devices/platform/i8042/serio0/input/input3/input3::scrolllock"
DESCRIPTION = f"P: {LIGHT}\nE: SUBSYSTEM=leds\nA: brightness=0\\n\nA: trigger=[none] timer\\n\n"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(why_no_udev_rules() is not None, reason=str(why_no_udev_rules())),
]


def what_udev_would_run(folder: Path, action: str) -> list[str]:
    """Return the commands, as `udevadm test` names them."""
    lines = what_udev_says(RULE, DESCRIPTION, LIGHT, action, folder=folder)
    return [line.removeprefix("run: '").removesuffix("'") for line in lines if "/bin/sh" in line]


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
