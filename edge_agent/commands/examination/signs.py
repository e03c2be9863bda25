"""How people near the machine are told of sticks: the hook, the desktop, the light. Only what is configured is told."""

from __future__ import annotations

import grp
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge_agent.commands.examination.finding import Finding, Subject, Verdict
from edge_agent.commands.examination.service import (
    PASS,
    WRITE,
    Account,
    mount_seen_by,
    service_account,
    service_process,
)
from edge_agent.usb_watch.led import BRIGHTNESS, LEDS, TRIGGER
from edge_agent.usb_watch.mount_table import MountEntry

_HIDDEN_BY_UNIT: Final = tuple(Path(name) for name in ("/home", "/root", "/run/user", "/tmp", "/var/tmp"))  # noqa: S108  # named because the unit hides them
_EXAMPLES: Final = "(installation.md, “Telling people”)"


def check_signs(subject: Subject) -> Iterator[Finding]:
    usb = subject.configuration.usb
    account = service_account(subject.configuration)
    if usb.mounting == "off" and (usb.hook or usb.led or usb.notify_group):
        yield Finding("media", Verdict.NOTE, "hook, light and desktop are told of visits by hand only (usb.mounting)")
    if usb.hook is not None:
        yield hook_finding(usb.hook, account)
    if usb.notify_group:
        yield group_finding(usb.notify_group, account)
    if usb.led is not None:
        process = service_process(subject.configuration)
        folder = LEDS / usb.led
        seen = None if process is None or not folder.exists() else mount_seen_by(process, folder)
        yield led_finding(folder, account, seen)


def hook_finding(hook: Path, account: Account | None) -> Finding:
    """Return whether the daemon can run the site's own program."""
    if not hook.is_file():
        remedy = 'put it there, or write hook = "" in [usb]'
        return Finding("media", Verdict.PROBLEM, f"there is no program {hook} (usb.hook)", remedy)
    if account is not None and not account.may(hook, PASS):
        problem = f"{account.name} may not run {hook} (usb.hook)"
        return Finding("media", Verdict.PROBLEM, problem, f"sudo chmod 755 {hook}, and its folders likewise")
    if any(hook.is_relative_to(folder) for folder in _HIDDEN_BY_UNIT):
        found = f"{hook} (usb.hook) lies where the service cannot see it (ProtectHome=, PrivateTmp=)"
        return Finding("media", Verdict.WARNING, found, "move it to /usr/local/bin")
    return Finding("media", Verdict.OK, f"{hook} is run when a visit begins and ends")


def group_finding(group: str, account: Account | None) -> Finding:
    """Return whether desktops of the group can be told."""
    try:
        group_id = grp.getgrnam(group).gr_gid
    except KeyError:
        problem = f"there is no group {group} (usb.notify_group): no desktop is told"
        return Finding("media", Verdict.WARNING, problem, f"sudo groupadd --system {group}, then restart the daemon")
    if account is not None and account.user_id != 0 and group_id not in account.group_ids:
        problem = f"{account.name} is not in the group {group} (usb.notify_group): no desktop is told"
        remedy = f"sudo adduser {account.name} {group}, then restart the daemon"
        return Finding("media", Verdict.WARNING, problem, remedy)
    return Finding("media", Verdict.OK, f"desktops of the group {group} are told (edge-agent notify)")


def led_finding(folder: Path, account: Account | None, seen: MountEntry | None) -> Finding:
    """Return whether the daemon can use the light; `seen`: the mount by which it sees it, if known."""
    if not folder.is_dir():
        remedy = 'ls /sys/class/leds lists the names; write one of them, or led = "", in [usb]'
        return Finding("media", Verdict.PROBLEM, f"there is no light {folder.name} (usb.led)", remedy)
    if "timer" not in (folder / TRIGGER).read_text().split():
        remedy = "sudo modprobe ledtrig-timer; echo ledtrig-timer | sudo tee /etc/modules-load.d/census-led.conf"
        return Finding("media", Verdict.PROBLEM, f"the light {folder.name} cannot blink by itself", remedy)
    if account is not None and not all(account.may(folder / name, WRITE) for name in (TRIGGER, BRIGHTNESS)):
        problem = f"{account.name} may not write to {folder} (usb.led)"
        return Finding("media", Verdict.PROBLEM, problem, f"install the udev rule 90-census-led.rules {_EXAMPLES}")
    if seen is not None and seen.is_read_only:
        problem = f"for the service, {folder} is read-only (usb.led)"
        remedy = f"install the drop-in edge-agent-led.conf {_EXAMPLES}, then restart the daemon"
        return Finding("media", Verdict.PROBLEM, problem, remedy)
    return Finding("media", Verdict.OK, f"the light {folder.name} shows how sticks stand")
