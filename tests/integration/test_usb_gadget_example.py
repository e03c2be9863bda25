"""The example that makes a tablet a network adapter, on folders that stand for configfs: what it writes, refuses."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.shared_data import PROJECT_FOLDER

SCRIPT = PROJECT_FOLDER / "docs" / "examples" / "usb-gadget.sh"

pytestmark = pytest.mark.skipif(not Path("/etc/machine-id").exists(), reason="this machine has no machine-id")


def run(folder: Path, word: str) -> subprocess.CompletedProcess[str]:
    places = {"USB_GADGET_CONFIGFS": str(folder / "configfs"), "USB_GADGET_CONTROLLERS": str(folder / "udc")}
    words = ["sh", str(SCRIPT), word]
    return subprocess.run(words, env={**os.environ, **places}, capture_output=True, text=True, check=False, timeout=20)


def test_it_names_both_ends_and_gives_them_addresses_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "configfs").mkdir()
    (tmp_path / "udc" / "fe980000.usb").mkdir(parents=True)
    assert run(tmp_path, "start").returncode == 0
    gadget = tmp_path / "configfs" / "census"
    function = gadget / "functions" / "ncm.0"
    assert (gadget / "UDC").read_text() == "fe980000.usb\n"
    assert (gadget / "configs" / "c.1" / "ncm.0").resolve() == function
    addresses = [(function / name).read_text() for name in ("dev_addr", "host_addr")]
    assert addresses[0] != addresses[1]
    assert all(re.fullmatch(r"02(:[0-9a-f]{2}){5}\n", address) for address in addresses)
    again = run(tmp_path, "start")
    assert again.returncode == 0 and "already" in again.stderr


def test_a_machine_that_cannot_says_why_and_is_left_as_it_was(tmp_path: Path) -> None:
    refused = run(tmp_path, "start")
    assert refused.returncode == 1 and "no USB gadgets" in refused.stderr
    (tmp_path / "configfs").mkdir()
    refused = run(tmp_path, "start")
    assert refused.returncode == 1 and "no USB socket" in refused.stderr
    assert not list((tmp_path / "configfs").iterdir())
    assert run(tmp_path, "stop").returncode == 0
    assert run(tmp_path, "restart").returncode == 2
