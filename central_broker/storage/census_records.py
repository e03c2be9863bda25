"""What the census tables are made of: forms, and questionnaires as rows. Values only; see `contract.Storage`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from central_broker.forms.answers import Finding
from central_broker.forms.tables import Table

Row = tuple[Any, ...]
"""One row of a census table as its database gives it."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a questionnaire says, as rows of its form's tables.

    Each row has, in the order of `Table.columns`, its answers; before them in a repeat the position and that of the
    row around it, in a select-multiple the position of the row that it belongs to. `replaces` is the instance id that
    an edited one puts itself in the place of.
    """

    replaces: str | None
    rows: Sequence[tuple[Table, Sequence[tuple[object, ...]]]]
    findings: Sequence[Finding] = ()


@dataclass(frozen=True, slots=True)
class FormRecord:
    """A version of a form that the center accepts, '' for every version; `xform` is its XForm, None where only its name
    is known.
    """

    form: str
    version: str
    title: str | None = None
    xform: bytes | None = None
    added_at: int | None = None
    statement: bytes | None = None
    """What devices are told of it: the form, or that it is withdrawn; None where they are told nothing of it."""


@dataclass(frozen=True, slots=True)
class StoredQuestionnaire:
    """A questionnaire as it was received and committed."""

    origin: bytes
    id: bytes
    batch: int
    form_version: str
    instance_id: str
    media_type: str
    created_at: int
    body: bytes
