"""Popstan through its XLSForm: sealed, accepted, and read back from typed tables by SQL, on both databases."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import islice
from typing import Any
from xml.sax.saxutils import escape

import pytest

from central_broker.acceptance import whole_decoder
from central_broker.directory import Directory
from central_broker.forms.columns import tables_of
from central_broker.forms.registry import FormRegistry
from central_broker.forms.tables import TableKind
from central_broker.forms.xform import read_xform
from central_broker.forms.xlsform import convert
from central_broker.messages import accept_messages, read_message
from central_broker.reprocessing import known_forms, reprocess_form
from central_broker.storage.census_records import FormRecord
from central_broker.storage.contract import Storage
from sync_protocol.bundle import Frame, FrameType, write_bundle
from sync_protocol.topics import up_topic
from tests.support.census_databases import rows, storage, url
from tests.support.center import Center, SealingDevice, device_record
from tests.support.shared_data import reason_missing, shared_data_folder

POPSTAN = shared_data_folder() / "popstan"
ENVELOPES_A_BUNDLE = 50

pytestmark = [
    pytest.mark.skipif(bool(reason_missing("popstan")), reason=reason_missing("popstan")),
    pytest.mark.timeout(240),
]


__all__ = ["storage", "url"]


def households() -> list[dict[str, Any]]:
    lines = gzip.decompress((POPSTAN / "households.jsonl.gz").read_bytes()).splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def xml_of(members: dict[str, Any]) -> str:
    parts = []
    for name, value in members.items():
        for one in value if isinstance(value, list) else [value]:
            parts.append(f"<{name}>{xml_of(one) if isinstance(one, dict) else escape(str(one))}</{name}>")
    return "".join(parts)


def submission(household: dict[str, Any], number: int, form: str, version: str) -> bytes:
    """A household as a form program writes it: this form has the members of `questionnaire` at the top."""
    answers = {**household["questionnaire"], "housing": household["housing"], "persons": household["persons"]}
    meta = f"<meta><instanceID>uuid:{number}</instanceID></meta>"
    return f"<?xml version='1.0'?><data id='{form}' version='{version}'>{xml_of(answers)}{meta}</data>".encode()


def test_totals_by_sql_are_those_of_the_census_and_every_household_is_kept_byte_for_byte(storage: Storage) -> None:
    xform = convert(POPSTAN / "household-form.md").xform
    definition = read_xform(xform)
    form, version = definition.form, definition.version
    storage.store_form(FormRecord(form, version, definition.title, xform, 1), tables_of(definition).tables)
    census, totals = households(), json.loads((POPSTAN / "totals.json").read_text())
    bodies = [submission(household, number, form, version) for number, household in enumerate(census)]

    center = Center()
    tablet = SealingDevice("tablet 17", center)
    record = device_record(center.certify(tablet))
    directory = Directory(
        trust=center.trust(),
        secrets=[center.recipient],
        devices=[record],
        forms=storage.forms(),
        registry=known_forms(storage, FormRegistry()),
    )
    numbered = iter(enumerate(bodies))
    while run := list(islice(numbered, ENVELOPES_A_BUNDLE)):
        frames = [
            Frame(FrameType.ENVELOPE, envelope.data)
            for number, body in run
            for envelope in tablet.seal(
                body, form=form, form_version=version, instance_id=f"uuid:{number}", media_type="text/xml"
            )
        ]
        message = read_message(up_topic(tablet.id), write_bundle(frames), 5)
        batch, ignored = accept_messages([message], directory)
        assert not ignored and not batch.held
        storage.commit(batch, whole_decoder(directory.registry), 10)

    tables = storage.form_tables(form)
    whole = tables[0].name
    (persons,) = (table.name for table in tables if table.kind is TableKind.REPEAT)

    def counted(sql: str) -> dict[str, int]:
        return {str(value): count for value, count in rows(storage, sql)}

    for _ in range(2):
        assert rows(storage, f"SELECT count(*) FROM {whole}") == [(totals["households"],)]
        assert rows(storage, f"SELECT count(*), sum(p04_age) FROM {persons}") == [
            (totals["persons"], totals["sum_age"])
        ]
        assert counted(f"SELECT p03_sex, count(*) FROM {persons} GROUP BY 1") == totals["sex"]
        assert counted(f"SELECT province, count(*) FROM {whole} GROUP BY 1") == totals["province"]
        joined = f"SELECT count(*) FROM {whole} JOIN {persons} USING (origin, id)"
        assert rows(storage, joined) == [(totals["persons"],)]
        found = {(path, rule): count for path, rule, count in storage.finding_counts(form)}
        assert found == dirt(census, definition_choices(xform))
        # The same again, from what was kept.
        assert reprocess_form(storage, form, lambda _: None).made == totals["households"]

    kept: dict[str, bytes] = {}
    after = (b"", b"")
    while page := storage.questionnaires(form, after, 500):
        kept |= {one.instance_id: one.body for one in page}
        after = (page[-1].origin, page[-1].id)
    assert kept == {f"uuid:{number}": body for number, body in enumerate(bodies)}


def definition_choices(xform: bytes) -> dict[str, frozenset[str]]:
    return {"/".join(one.path): one.choices for one in read_xform(xform).questions if one.choices is not None}


def dirt(census: list[dict[str, Any]], choices: dict[str, frozenset[str]]) -> dict[tuple[str, str], int]:
    """What is outside of its value set, counted without the code that is tested."""
    found: Counter[tuple[str, str]] = Counter()
    for household in census:
        said = [("housing", household["housing"]), *(("persons", person) for person in household["persons"])]
        for group, answers in said:
            for name, value in answers.items():
                path = f"{group}/{name}"
                if path in choices and str(value) not in choices[path]:
                    found[path, "not_a_choice"] += 1
    return dict(found)
