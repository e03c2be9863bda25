"""The forms that the center knows with all that they ask, ready to read questionnaires by. Pure; made anew when forms
have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from central_broker.forms.columns import FormTables, tables_of
from central_broker.forms.definition import FormRefused
from central_broker.forms.tables import Table
from central_broker.forms.xform import read_xform

Version = tuple[str, str]
"""(form, version)"""


@dataclass(frozen=True)
class FormRegistry:
    """How questionnaires of each known version are read; by `xforms` a next registry sees what it need not read."""

    xforms: Mapping[Version, bytes] = field(default_factory=dict)
    tables: Mapping[Version, FormTables] = field(default_factory=dict)

    def form_tables(self, form: str, version: str) -> FormTables | None:
        """Return how questionnaires of a version are read; None where only the form's name is known."""
        return self.tables.get((form, version))

    def renewed(
        self, xforms: Iterable[tuple[Version, bytes]], tables_so_far: Callable[[str], Sequence[Table]]
    ) -> FormRegistry:
        """Return the registry of these forms; `tables_so_far` gives a form's tables in the database.

        An XForm that a newer release of this program has stored, and this one refuses, is known by name only.
        """
        given = dict(xforms)
        so_far = {form: tuple(tables_so_far(form)) for form in {form for form, _ in given}}
        tables: dict[Version, FormTables] = {}
        for version, xform in given.items():
            before = self.tables.get(version)
            if before is not None and self.xforms[version] == xform and set(before.tables) == set(so_far[version[0]]):
                tables[version] = before
                continue
            try:
                tables[version] = tables_of(read_xform(xform), so_far[version[0]])
            except FormRefused:
                continue
        return FormRegistry(given, tables)
