"""A program's table of keys against the dataclasses that its configuration is made of."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path

from operations.configuration import CHOICE, OPTIONAL_PATH, PATH, TEXT, TRUE_OR_FALSE, WHOLE_NUMBER, Kind, Table

_COMMON_TYPES: dict[Kind, set[object]] = {
    WHOLE_NUMBER: {int},
    TEXT: {str},
    TRUE_OR_FALSE: {bool},
    PATH: {Path},
    OPTIONAL_PATH: {Path | None},
}


def assert_table_makes(sections: Mapping[str, type], table: Table, own_types: Mapping[Kind, set[object]]) -> None:
    """Table and dataclasses name the same sections and keys, and each kind makes what the dataclass declares.

    `own_types`: as what the program's own kinds may be declared.
    """
    types = _COMMON_TYPES | dict(own_types)
    assert list(sections) == list(table.sections)
    assert {key.section for key in table.keys} == set(sections)
    for name, section in sections.items():
        hints = typing.get_type_hints(section)
        keys = {key.name: key for key in table.keys_of(name)}
        assert list(hints) == list(keys)
        for key in keys.values():
            if key.kind is CHOICE:
                assert typing.get_args(hints[key.name]) == key.choices
            else:
                assert hints[key.name] in types[key.kind], key.path
