"""The mounting contract against the real udisksd, in namespaces with a real udevd and a private message bus."""

from __future__ import annotations

import re
import sys

import pytest

from tests.support.loop_media import why_no_loop_media
from tests.support.message_bus import why_no_message_bus
from tests.support.real_udisks import run_beside_udev, why_no_real_udisks
from tests.support.shared_data import PROJECT_FOLDER

_CONTRACT = PROJECT_FOLDER / "tests" / "contract" / "test_mounting.py"


@pytest.mark.root
@pytest.mark.timeout(300)
def test_the_real_udisks_keeps_the_contract() -> None:
    for reason in filter(None, (why_no_loop_media(), why_no_message_bus(), why_no_real_udisks())):
        pytest.skip(reason)
    finished = run_beside_udev(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(_CONTRACT))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    passed = re.search(r"(\d+) passed", finished.stdout)
    assert passed is not None
    assert int(passed[1]) >= 20, finished.stdout
