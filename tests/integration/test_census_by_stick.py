"""A census without a link: every household of the sample data by stick and laptop, receipts on the same stick."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from demo.field import Device, Field
from demo.processes import wait_until
from sync_protocol.medium import MEDIUM_FOLDER
from tests.support.account import (
    assert_complete,
    assert_gapless,
    assert_marks_are_commit_times,
    digests,
    envelopes_at_center,
    stored,
)
from tests.support.small_center import SmallCenter

FORM: Final = "popstan_household"
WAIT_SECONDS: Final = 120.0
SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "sync": {"receipt_wait_seconds": 10},
    "usb": {"receipt_wait_seconds": 5},
}

pytestmark = [pytest.mark.shared_data, pytest.mark.timeout(400)]


@pytest.fixture
def field(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Field]:
    url: str | None = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_dsn")
    with Field(tmp_path, 1, database_url=url, forms=[FORM], device_settings=SETTINGS, center_kind=SmallCenter) as made:
        laptop = Device(tmp_path / "laptop", "laptop 3", made.center, settings=SETTINGS, role="collection_point")
        made.devices.append(laptop)
        made.start()
        yield made


def enrolled(field: Field, number: str) -> Path:
    """Return a stick that the center has enrolled."""
    folder = field.folder / f"stick-{number}"
    folder.mkdir()
    field.center.ask("media", "enrol", "--number", number, "--holder", "S. Omarov", "--out", folder)
    return folder


def submit(device: Device, bodies: list[bytes]) -> None:
    for start in range(0, len(bodies), 50):
        device.submit(bodies[start : start + 50], form=FORM)


def visit(device: Device, stick: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(device.edge_agent("media", "export", stick, "--json"))
    assert document["ending"] == "safe" and document["damaged_files"] == []
    return document


def counts(device: Device) -> dict[str, int]:
    found: dict[str, int] = device.status()["envelopes"]
    return found


@pytest.mark.parametrize(("field", "share"), [("sqlite", 4872), ("postgresql", 1200)], indirect=["field"])
def test_every_household_comes_by_sticks_and_a_laptop_exactly_once_and_the_tablet_purges_by_the_stick(
    field: Field, share: int, popstan_folder: Path
) -> None:
    tablet, laptop = field.devices
    households = gzip.decompress((popstan_folder / "households.jsonl.gz").read_bytes()).splitlines()[:share]
    assert len(households) == share
    first, second = households[: -share // 3], households[-share // 3 :]
    red, blue = enrolled(field, "0001"), enrolled(field, "0002")
    tablet.relay.cut()

    # No link at all: tablet, stick, laptop, center, and back on the same stick.
    submit(tablet, first)
    assert visit(tablet, red)["envelopes_written"] == len(first)
    assert counts(tablet)["waiting"] == len(first), "a stick frees nobody"
    assert visit(laptop, red)["envelopes_read"] == len(first)
    wait_until(lambda: stored(field.center) == digests(first), "they are committed", timeout_seconds=WAIT_SECONDS)
    field.center.back_up()
    wait_until(lambda: counts(laptop)["carried_for_others"] == 0, "custody is over", timeout_seconds=WAIT_SECONDS)
    visit(laptop, red)
    visit(tablet, red)
    assert counts(tablet)["purged"] == len(first)
    assert assert_marks_are_commit_times(tablet, envelopes_at_center(field.center)) == len(first)
    left = [path for path in (red / MEDIUM_FOLDER).rglob("*.CNS") if tablet.status()["device"] in str(path)]
    assert sum(path.stat().st_size for path in left) < 100_000, "what is not needed any more was taken away"

    # The same envelopes by two sticks, by the laptop and by the tablet's own link, all at once.
    submit(tablet, second)
    laptop.relay.cut()
    for stick in (red, blue):
        assert visit(tablet, stick)["envelopes_written"] == len(second)
        assert visit(laptop, stick)["envelopes_read"] == len(second)
    assert counts(laptop)["carried_for_others"] == len(second)
    tablet.relay.heal()
    laptop.relay.heal()
    field.wait_until_synchronised(timeout_seconds=WAIT_SECONDS)
    wait_until(
        lambda: stored(field.center) == digests(households), "all households are there", timeout_seconds=WAIT_SECONDS
    )
    field.center.back_up()
    wait_until(lambda: counts(tablet)["purged"] == len(households), "all are purged", timeout_seconds=WAIT_SECONDS)
    wait_until(lambda: counts(laptop)["carried_for_others"] == 0, "nobody carries any", timeout_seconds=WAIT_SECONDS)

    known = envelopes_at_center(field.center)
    assert assert_marks_are_commit_times(tablet, known) == len(known) == len(households)
    assert_gapless(known)
    assert_complete(field.center)
    assert stored(field.center) == digests(households)
