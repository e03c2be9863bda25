"""The whole way on input that nobody here wrote: every household and every OpenRosa submission of the sample data."""

from __future__ import annotations

import gzip
import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from demo import run as demo_run
from demo.field import Center, Device, Field
from demo.processes import wait_until
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
OPENROSA_FORMS: Final = ("transportation_2011_07_25", "250_questions")
TEMPLATE_COPIES: Final = 20
WAIT_SECONDS: Final = 120.0
DATABASES: Final = ("sqlite", "postgresql")

pytestmark = [pytest.mark.shared_data, pytest.mark.timeout(400)]

SQLITE_SUMS: Final = {
    "households": "SELECT count(*) FROM questionnaire WHERE form = 'popstan_household'",
    "persons": "SELECT count(*) FROM questionnaire q, json_each(q.content, '$.persons') p",
    "sex": "SELECT json_extract(p.value, '$.p03_sex'), count(*)"
    " FROM questionnaire q, json_each(q.content, '$.persons') p GROUP BY 1",
    "sum_age": "SELECT sum(json_extract(p.value, '$.p04_age'))"
    " FROM questionnaire q, json_each(q.content, '$.persons') p",
    "province": "SELECT json_extract(content, '$.questionnaire.province'), count(*) FROM questionnaire"
    " WHERE form = 'popstan_household' GROUP BY 1",
}
POSTGRESQL_SUMS: Final = {
    "households": "SELECT count(*) FROM questionnaire WHERE form = 'popstan_household'",
    "persons": "SELECT count(*) FROM questionnaire q, jsonb_array_elements(q.content -> 'persons') p",
    "sex": "SELECT p ->> 'p03_sex', count(*)"
    " FROM questionnaire q, jsonb_array_elements(q.content -> 'persons') p GROUP BY 1",
    "sum_age": "SELECT sum((p ->> 'p04_age')::int)"
    " FROM questionnaire q, jsonb_array_elements(q.content -> 'persons') p",
    "province": "SELECT content -> 'questionnaire' ->> 'province', count(*) FROM questionnaire"
    " WHERE form = 'popstan_household' GROUP BY 1",
}


@pytest.fixture
def field(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Field]:
    # One of the two is made by `central-broker init`, at the full cost of sealed keys.
    url: str | None = None
    kind: type[Center] = Center
    if request.param == "postgresql":
        url, kind = request.getfixturevalue("postgresql_dsn"), SmallCenter
    settings = {"sync": {"receipt_wait_seconds": 10}}
    with Field(tmp_path, 3, database_url=url, forms=[FORM], device_settings=settings, center_kind=kind) as made:
        made.start()
        yield made


@pytest.mark.parametrize("field", DATABASES, indirect=True)
def test_every_household_reaches_the_census_exactly_once_through_outages(
    field: Field, popstan_folder: Path, openrosa_folder: Path
) -> None:
    bodies = gzip.decompress((popstan_folder / "households.jsonl.gz").read_bytes()).splitlines()
    account = demo_run.run(field, bodies, FORM, tell=print, collection_seconds=12, chunk=20)
    assert account.document() | {"devices": []} == {
        "balances": True,
        "devices": [],
        "doubled": 0,
        "lost": 0,
        **dict.fromkeys(("accepted", "sealed", "committed", "marks_equal", "purged"), 4872),
    }
    assert sums(field.center) == json.loads((popstan_folder / "totals.json").read_text())
    assert stored(field.center) == digests(bodies)
    assert_everything_committed(field)
    follow_the_openrosa_submissions(field, openrosa_folder)


def assert_everything_committed(field: Field) -> None:
    known = envelopes_at_center(field.center)
    assert sum(assert_marks_are_commit_times(device, known) for device in field.devices) == len(known)
    assert_gapless(known)
    assert_complete(field.center)


def sums(center: Center) -> dict[str, Any]:
    """What totals.json says, computed by the database."""
    statements = SQLITE_SUMS if center.database_url.startswith("sqlite") else POSTGRESQL_SUMS
    answers = {name: center.query(sql) for name, sql in statements.items()}
    grouped = ("sex", "province")
    return {
        name: {str(value): count for value, count in rows} if name in grouped else rows[0][0]
        for name, rows in answers.items()
    }


def follow_the_openrosa_submissions(field: Field, folder: Path) -> None:
    """Of forms unknown at first: held, and kept by the tablet whatever is backed up; then made known and retried."""
    center, device = field.center, field.devices[0]
    files = openrosa_files(folder, field.folder / "submissions")
    before = device.status()["envelopes"]
    assert before["held"] == 0
    hand_over(device, files)
    wait_until(lambda: device.status()["envelopes"]["held"] == len(files), "all are held", timeout_seconds=WAIT_SECONDS)
    shown = center.ask("held", "list")
    assert shown["counts"] == {"unknown_form": len(files)}
    assert all(row["detail"].startswith("form '") for row in shown["held"])
    center.back_up()
    newest_watermark = center.ask("backup", "status")["watermark"]
    assert newest_watermark >= max(one.committed_at for one in envelopes_at_center(center))
    # The receipt with this watermark has come when a household submitted now is marked by an even newer one.
    device.submit([b'{"questionnaire": {}, "probe": 1}'], form=FORM)
    field.wait_until_synchronised(timeout_seconds=WAIT_SECONDS)
    assert device.status()["envelopes"] == before | {"held": len(files), "synchronised": 1}
    for form in OPENROSA_FORMS:
        center.ask("forms", "add", form)
    retried = center.ask("held", "retry", "--reason", "unknown_form")
    assert (retried["committed"], retried["held"]) == (len(files), 0)
    wait_until(lambda: device.status()["envelopes"]["held"] == 0, "marked as committed", timeout_seconds=WAIT_SECONDS)
    expected = digests(path.read_bytes() for path in files)
    assert sum((stored(center, form) for form in OPENROSA_FORMS), start=digests([])) == expected
    assert_everything_committed(field)
    again = json.loads(device.edge_agent("submit", "--json", *files[1::2]))
    assert (again["repeated"], again["accepted"]) == (len(files[1::2]), 0)
    center.back_up()
    demo_run.wait_until_purged(field)
    assert sum((stored(center, form) for form in OPENROSA_FORMS), start=digests([])) == expected
    assert_everything_committed(field)


def hand_over(device: Device, files: list[Path]) -> None:
    """Every other file through the drop folder, the rest by the command."""
    drop = device.folder / "drop"
    for path in files[::2]:
        part = drop / f"{path.name}.part"
        part.write_bytes(path.read_bytes())
        part.rename(drop / path.name)
    device.edge_agent("submit", *files[1::2])


def openrosa_files(folder: Path, made: Path) -> list[Path]:
    """Return the submissions of ODK Collect, and copies of the template, filled from a seed."""
    made.mkdir()
    chance = random.Random(250)
    template = (folder / "250q" / "submission.template.xml").read_text()
    for number in range(TEMPLATE_COPIES):
        filled = template.replace("{{uuid}}", str(uuid.UUID(int=chance.getrandbits(128), version=4)))
        while "{{randInt}}" in filled:
            filled = filled.replace("{{randInt}}", str(chance.randrange(10_000)), 1)
        (made / f"250q-{number}.xml").write_text(filled)
    return [*sorted((folder / "transportation").glob("instances*.xml")), *sorted(made.glob("*.xml"))]
