"""A tablet put back to an older state, and a receipt that reaches further than what it has left."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.device import Authority, Device, committed, receipt


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="a span that ends beyond the queue cannot be verified by its last id: marks are withdrawn, and what the "
    "center has is sent again for ever; receipts would have to split a span where the device's chain ended",
)
def test_what_an_older_queue_still_has_keeps_its_sync_marks(tmp_path: Path) -> None:
    device = Device(tmp_path / "state", Authority()).start()
    device.link_up()
    for number in range(1, 6):
        device.submit(str(number))
    device.receive(receipt(device, committed(1, 1, 5, device.envelope_ids()[-1]), serial=1))
    device.stop()
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    device.start()
    for number in range(6, 10):
        device.submit(str(number))
    last_id = device.envelope_ids()[-1]
    device.stop()
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "copy").rename(tmp_path / "state")
    device.start()
    device.link_up()
    device.receive(receipt(device, committed(1, 1, 9, last_id), serial=2))
    assert [at is not None for (at,) in device.rows("committed_at")] == [True] * 5
