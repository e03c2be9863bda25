"""The polkit rule, asked of the real polkitd: the daemon's user may handle USB media, and nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.message_bus import message_bus, why_no_message_bus
from tests.support.processes import wait_until
from tests.support.shared_data import PROJECT_FOLDER

_RULE = PROJECT_FOLDER / "systemd" / "polkit" / "50-edge-agent.rules"
_POLKITD = (Path("/usr/lib/polkit-1/polkitd"), Path("/usr/libexec/polkitd"))
_ACTION = "org.freedesktop.udisks2."
_USB = {"drive.removable": "true", "drive.removable.bus": "usb"}
_USER_IDS = {"edge-agent": 64_901, "somebody": 64_902}

# Nothing but the rule decides: the machine's own rules and users are hidden from this polkitd.
_SET_UP = """
mount --make-rprivate /
for folder in /etc/polkit-1/rules.d /usr/share/polkit-1/rules.d; do
    mkdir -p $folder
    mount -t tmpfs -o mode=755 tmpfs $folder
done
cp "$1" /usr/share/polkit-1/rules.d/
mount --bind "$2" /etc/passwd
exec "$3" --no-debug
"""

Ask = Callable[..., bool]


def _why_no_polkit() -> str | None:
    if os.geteuid() != 0:
        return "a polkitd of one's own needs root"
    if not any(program.exists() for program in _POLKITD) or shutil.which("pkcheck") is None:
        return "polkit is not installed: apt-get install polkitd"
    if not Path("/usr/share/polkit-1/actions/org.freedesktop.UDisks2.policy").exists():
        return "the actions of UDisks2 are not installed: apt-get install udisks2"
    return why_no_message_bus()


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    """Asks whether a user may do an action of UDisks2 on a drive with these details."""
    if reason := _why_no_polkit():
        pytest.skip(reason)
    users = tmp_path / "passwd"
    lines = [f"{name}:x:{user_id}:{user_id}::/nonexistent:/usr/sbin/nologin\n" for name, user_id in _USER_IDS.items()]
    users.write_text(Path("/etc/passwd").read_text() + "".join(lines))
    users.chmod(0o644)
    program = next(str(program) for program in _POLKITD if program.exists())
    with contextlib.ExitStack() as stack:
        # polkitd gives up root, and would not get through the folders that pytest makes.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o711)
        address = stack.enter_context(message_bus(folder))
        environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address}
        words = ["unshare", "--mount", "bash", "-e", "-c", _SET_UP, "bash", str(_RULE), str(users), program]
        polkitd = stack.enter_context(
            subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        stack.callback(polkitd.terminate)
        subjects = {}
        for name, user_id in _USER_IDS.items():
            subject = subprocess.Popen(["setpriv", f"--reuid={user_id}", "--clear-groups", "sleep", "100"])
            subjects[name] = stack.enter_context(subject)
            stack.callback(subject.terminate)
        # Until setpriv has done its work the subjects are still root.
        wait_until(lambda: owners(subjects.values()) == list(_USER_IDS.values()), "subjects of their own")

        def answered(user: str, action: str, details: dict[str, str]) -> subprocess.CompletedProcess[str]:
            words = ["pkcheck", "--action-id", action, "--process", str(subjects[user].pid)]
            for key, value in details.items():
                words += ["--detail", key, value]
            return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

        def may(user: str, action: str, **details: str) -> bool:
            chosen = {key.replace("_", "."): value for key, value in details.items()}
            finished = answered(user, _ACTION + action, chosen or _USB)
            # 1: not authorized; 2: only after a password, which nobody is there to give. More is a failure.
            assert finished.returncode in (0, 1, 2), finished.stderr
            return finished.returncode == 0

        wait_until(lambda: answered("somebody", _ACTION + "filesystem-mount", {}).returncode in (0, 1, 2), "polkitd")
        yield may


def owners(processes: Iterable[subprocess.Popen[bytes]]) -> list[int]:
    return [Path(f"/proc/{process.pid}").stat().st_uid for process in processes]


@pytest.mark.root
def test_the_daemon_may_mount_unmount_and_power_off_usb_media(ask: Ask) -> None:
    for action in (
        "filesystem-mount",
        "filesystem-mount-other-seat",
        "filesystem-unmount-others",
        "power-off-drive",
        "power-off-drive-other-seat",
    ):
        assert ask("edge-agent", action), action


@pytest.mark.root
def test_the_daemon_may_do_nothing_else_to_usb_media(ask: Ask) -> None:
    for action in (
        "filesystem-mount-system",
        "filesystem-fstab",
        "filesystem-take-ownership",
        "modify-device",
        "modify-device-other-seat",
        "open-device",
        "encrypted-unlock-other-seat",
        "loop-setup",
        "power-off-drive-system",
    ):
        assert not ask("edge-agent", action), action


@pytest.mark.root
def test_the_daemon_may_touch_no_other_drive(ask: Ask) -> None:
    action = "filesystem-mount-other-seat"
    assert not ask("edge-agent", action, drive_removable="true", drive_removable_bus="sdio")
    assert not ask("edge-agent", action, drive_removable_bus="usb")
    assert not ask("edge-agent", action, device="/dev/sda1")


@pytest.mark.root
def test_nobody_else_gains_anything(ask: Ask) -> None:
    assert not ask("somebody", "filesystem-mount-other-seat")
    assert not ask("somebody", "filesystem-unmount-others")
    assert not ask("somebody", "power-off-drive-other-seat")
