"""The doctor's judgement of what sticks need: file systems, polkit, mounts, and how people are told."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

from edge_agent.commands.examination import signs
from edge_agent.commands.examination.finding import Finding, Subject, Verdict
from edge_agent.commands.examination.media import check_media, kernel_finding, leftover_findings, polkit_finding
from edge_agent.commands.examination.service import Account, mount_holding
from edge_agent.commands.examination.signs import check_signs, group_finding, hook_finding, led_finding
from edge_agent.configuration import parse_configuration
from edge_agent.usb_watch.mount_table import MountEntry

STRANGER = Account("edge-agent", 4_000_000, frozenset({4_000_000}))
RULE = "50-edge-agent.rules"


def subject(usb: str) -> Subject:
    return Subject(parse_configuration(f'[broker]\naddress = "10.8.0.1"\n[usb]\n{usb}'), True, None, 0)


def mount(path: Path, *options: str) -> MountEntry:
    return MountEntry((8, 1), "/", path, frozenset(options), "vfat", "/dev/sdb1", frozenset({"rw"}))


def judged(finding: Finding) -> tuple[Verdict, bool]:
    """The verdict, and whether there is something to do."""
    return finding.verdict, bool(finding.remedy)


def test_media_that_are_switched_off_are_not_looked_into() -> None:
    (finding,) = check_media(subject('mounting = "off"'))
    assert judged(finding) == (Verdict.OK, False)


def test_a_daemon_that_is_to_mount_by_itself_is_asked_what_it_may_while_it_runs(tmp_path: Path) -> None:
    configuration = f'mounting = "system"\n[device]\nruntime_directory = "{tmp_path}"\nstate_directory = "{tmp_path}"'
    first, *_ = check_media(subject(configuration))
    assert first.verdict is Verdict.NOTE and "while it runs" in first.found


@pytest.mark.parametrize(
    ("known", "modules", "verdict", "named"),
    [
        ("nodev\tsysfs\n\text4\n\tvfat\n\texfat\n", "", Verdict.OK, "vfat, exfat, ext4"),
        (
            "\text4\n",
            "kernel/fs/fat/vfat.ko.xz: kernel/fs/fat/fat.ko.xz\nkernel/fs/exfat/exfat.ko:",
            Verdict.OK,
            "ext4",
        ),
        ("\text4\n\tvfat\n", "kernel/fs/exfatfs.ko:", Verdict.WARNING, "does not read exfat"),
        ("nodev\tvfatx\n", "", Verdict.PROBLEM, "does not read vfat, exfat, ext4"),
    ],
)
def test_file_systems_that_the_kernel_lacks_are_named(known: str, modules: str, verdict: Verdict, named: str) -> None:
    finding = kernel_finding(known, modules)
    assert judged(finding) == (verdict, verdict is not Verdict.OK)
    assert named in finding.found


@pytest.mark.parametrize(
    ("place", "version", "verdict"),
    [
        ("always", 122, Verdict.OK),
        ("new", 126, Verdict.OK),
        ("new", 122, Verdict.PROBLEM),
        ("new", None, Verdict.PROBLEM),
        (None, 126, Verdict.PROBLEM),
    ],
)
def test_polkits_rule_counts_where_polkit_reads_it(
    tmp_path: Path, place: str | None, version: int | None, verdict: Verdict
) -> None:
    always, new = tmp_path / "always", tmp_path / "new"
    if place is not None:
        (tmp_path / place).mkdir()
        (tmp_path / place / RULE).write_text("")
    assert judged(polkit_finding([always], [new], version)) == (verdict, verdict is not Verdict.OK)


def test_what_is_left_mounted_is_named_unless_a_visit_goes_on() -> None:
    left = [mount(Path("/run/edge-agent/media/medium-1"))]
    (finding,) = leftover_findings(left, is_visiting=False, is_running=True)
    assert judged(finding) == (Verdict.WARNING, True) and "medium-1" in finding.found
    assert not list(leftover_findings(left, is_visiting=True, is_running=True))
    assert not list(leftover_findings([], is_visiting=False, is_running=False))


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that everybody can pass, as far as modes of folders above it are concerned."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o111)
    return tmp_path


def test_a_hook_is_judged_as_the_daemons_user_meets_it(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "_HIDDEN_BY_UNIT", ())
    hook = open_folder / "folder" / "hook"
    assert hook_finding(hook, STRANGER).found.startswith("there is no program")
    hook.parent.mkdir(mode=0o700)
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    assert judged(hook_finding(hook, STRANGER)) == (Verdict.PROBLEM, True)
    hook.parent.chmod(0o711)
    assert judged(hook_finding(hook, STRANGER)) == (Verdict.OK, False)
    hook.chmod(0o754)
    assert "may not run" in hook_finding(hook, STRANGER).found
    monkeypatch.setattr(signs, "_HIDDEN_BY_UNIT", (open_folder,))
    hook.chmod(0o755)
    assert judged(hook_finding(hook, STRANGER)) == (Verdict.WARNING, True)


def test_a_group_that_is_missing_or_not_the_daemons_reaches_no_desktop() -> None:
    group = grp.getgrgid(os.getgid())
    member = Account("edge-agent", 4_000_000, frozenset({group.gr_gid}))
    assert group_finding(group.gr_name, member).verdict is Verdict.OK
    assert "is not in the group" in group_finding(group.gr_name, STRANGER).found
    assert "there is no group" in group_finding("no-such-group", STRANGER).found


def test_a_light_is_judged_by_its_files_and_by_how_the_service_sees_them(open_folder: Path) -> None:
    light = open_folder / "light"
    assert led_finding(light, STRANGER, None).found.startswith("there is no light")
    light.mkdir()
    light.chmod(0o755)
    (light / "trigger").write_text("[none] heartbeat\n")
    (light / "brightness").write_text("0")
    assert "cannot blink" in led_finding(light, STRANGER, None).found
    (light / "trigger").write_text("[none] timer heartbeat\n")
    assert "may not write" in led_finding(light, STRANGER, None).found
    for name in ("trigger", "brightness"):
        (light / name).chmod(0o666)
    assert led_finding(light, STRANGER, None).verdict is Verdict.OK
    assert led_finding(light, STRANGER, mount(open_folder, "rw")).verdict is Verdict.OK
    finding = led_finding(light, STRANGER, mount(open_folder, "ro"))
    assert judged(finding) == (Verdict.PROBLEM, True) and "read-only" in finding.found


def test_only_what_is_configured_is_examined() -> None:
    assert not list(check_signs(subject("")))
    (finding,) = check_signs(subject('led = "no such light"'))
    assert finding.verdict is Verdict.PROBLEM
    note, _ = check_signs(subject('led = "no such light"\nmounting = "off"'))
    assert note.verdict is Verdict.NOTE


def test_the_mount_that_holds_a_path_is_the_innermost_and_last() -> None:
    sys_, devices, over = (mount(Path(name), name) for name in ("/sys", "/sys/devices/a", "/sys/devices/a"))
    assert mount_holding(Path("/sys/devices/a/leds/x"), [sys_, devices, over]) is over
    assert mount_holding(Path("/sys/devices/b"), [sys_, devices]) is sys_
    assert mount_holding(Path("/proc"), [sys_]) is None
