"""Households as a form program submits them, and the form whose tables they fill."""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

import msgspec

from central_broker.forms.columns import tables_of
from central_broker.forms.registry import FormRegistry
from central_broker.forms.tables import Table
from central_broker.forms.xform import read_xform
from central_broker.forms.xlsform import convert
from central_broker.storage.census_records import FormRecord
from tests.support.shared_data import reason_missing, shared_data_folder

MISSING: Final = reason_missing("popstan", "household-form.md") or reason_missing("openrosa", "250q")
"""Why nothing can be measured; empty where it can."""

_SEED: Final = 250


class HouseholdForm:
    """The Popstan form, and its households as XForm XML and as JSON of the same members."""

    def __init__(self, count: int) -> None:
        folder = shared_data_folder() / "popstan"
        xform = convert(folder / "household-form.md").xform
        definition = read_xform(xform)
        self.form, self.version = definition.form, definition.version
        self.record = FormRecord(self.form, self.version, definition.title, xform, 1)
        self.tables: tuple[Table, ...] = tables_of(definition).tables
        self.registry = FormRegistry().renewed([((self.form, self.version), xform)], lambda _: self.tables)
        lines = gzip.decompress((folder / "households.jsonl.gz").read_bytes()).splitlines()[:count]
        households = [_members(msgspec.json.decode(line)) for line in lines]
        self.as_xml = [self._submission(members, number) for number, members in enumerate(households)]
        self.as_json = [msgspec.json.encode(members) for members in households]

    def _submission(self, members: Mapping[str, Any], number: int) -> bytes:
        meta = f"<meta><instanceID>uuid:{number:032x}</instanceID></meta>"
        return (
            f'<?xml version="1.0"?><data id="{self.form}" version="{self.version}">{_xml(members)}{meta}</data>'
        ).encode()


def _members(household: Mapping[str, Any]) -> dict[str, Any]:
    """The form has the members of `questionnaire` at its top."""
    return {**household["questionnaire"], "housing": household["housing"], "persons": household["persons"]}


def _xml(members: Mapping[str, Any]) -> str:
    parts = []
    for name, value in members.items():
        for one in value if isinstance(value, list) else [value]:
            parts.append(f"<{name}>{_xml(one) if isinstance(one, dict) else escape(str(one))}</{name}>")
    return "".join(parts)


def long_questionnaires(first: int, count: int) -> list[bytes]:
    """Questionnaires with 250 answers, of the form that ODK Central is tested with; instance ids from `first` on."""
    template = (shared_data_folder() / "openrosa" / "250q" / "submission.template.xml").read_text()
    filler = random.Random(_SEED)
    return [
        re.sub(
            r"\{\{randInt\}\}",
            lambda _: str(filler.randrange(1000)),
            template.replace("{{uuid}}", f"{number:032x}"),
        ).encode()
        for number in range(first, first + count)
    ]
