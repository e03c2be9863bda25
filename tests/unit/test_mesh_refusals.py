"""How often the journal tells that no link came about, and of whom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

from structlog.testing import capture_logs

from edge_agent.mesh.allowance import Allowances
from edge_agent.mesh.refusals import LINES_PER_HOUR_MAX, Refusals, Refuser

DEVICE = b"d" * 16


def told(story: Callable[[Refusals], None]) -> list[MutableMapping[str, Any]]:
    async def run() -> None:
        story(Refusals())

    with capture_logs() as logs:
        asyncio.run(run())
    return logs


def test_a_device_whose_name_is_proven_is_told_once_for_all_its_addresses() -> None:
    def story(refusals: Refusals) -> None:
        for address in ("192.168.4.7", "fe80::7%wlan0", "2001:db8::7"):
            refusals.tell(address, "it was called in", by=Refuser.US, device=DEVICE)
            refusals.tell(address, "it closes", by=Refuser.IT, device=DEVICE)
        assert (refusals.refused, refusals.last) == (3, "2001:db8::7: it was called in")

    assert [line["event"] for line in told(story)] == ["neighbour_refused", "neighbour_refuses_us"]


def test_whoever_has_proven_nothing_is_told_by_address() -> None:
    def story(refusals: Refusals) -> None:
        for _ in range(2):
            for number in range(3):
                refusals.tell(f"192.168.4.{number}", "no answer", by=Refuser.NOBODY, dialled=True)
        assert refusals.refused == 0

    assert [line["address"] for line in told(story)] == [f"192.168.4.{number}" for number in range(3)]


def test_a_stranger_with_many_addresses_fills_no_journal() -> None:
    def story(refusals: Refusals) -> None:
        for number in range(5 * LINES_PER_HOUR_MAX):
            refusals.tell(f"fe80::{number:x}", "no certificate", by=Refuser.US)

    assert len(told(story)) == LINES_PER_HOUR_MAX


def test_of_many_that_come_those_seen_last_are_remembered() -> None:
    allowances = Allowances(1, 60, keys_max=2)
    assert [allowances.take(key, 0) for key in "aab"] == [True, False, True]
    assert not allowances.take("a", 1)
    assert allowances.take("c", 1), "and b is forgotten"
    assert not allowances.take("a", 1)
    assert allowances.take("b", 1)
