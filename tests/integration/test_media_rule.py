"""The udev rule for media, as the real udev reads it: no desktop mounts USB drives by itself; nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.shared_data import PROJECT_FOLDER
from tests.support.udev_rules import what_udev_says, why_no_udev_rules

RULE = PROJECT_FOLDER / "systemd" / "udev" / "70-edge-agent.rules"
USB = "/devices/pci0000:00/0000:00:14.0/usb1/1-1"
PORTS = {"usb": USB, "ata": "/devices/pci0000:00/0000:00:17.0/ata1"}
DRIVE = "P: {port}/block/sdb\nN: sdb\nE: SUBSYSTEM=block\nE: DEVTYPE=disk\nE: DEVNAME=/dev/sdb\n"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(why_no_udev_rules() is not None, reason=str(why_no_udev_rules())),
]


@pytest.mark.parametrize(
    ("bus", "action", "told"),
    [("usb", "add", True), ("usb", "change", True), ("ata", "add", False), ("usb", "remove", False)],
)
def test_desktops_leave_usb_drives_to_the_daemon(tmp_path: Path, bus: str, action: str, told: bool) -> None:
    description = f"P: {USB}\nE: SUBSYSTEM=usb\nE: DEVTYPE=usb_device\n\n" + DRIVE.format(port=PORTS[bus])
    lines = what_udev_says(RULE, description, f"{PORTS[bus]}/block/sdb", action, folder=tmp_path)
    assert "DEVNAME=/dev/sdb" in lines
    assert ("UDISKS_AUTO=0" in lines) is told
