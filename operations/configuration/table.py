"""The table of what may stand in a configuration file; the checks, the help and the sample come from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeAlias

from operations.configuration.mistakes import Unfit

Value: TypeAlias = int | bool | str | tuple[str, ...]
"""What a default may be; written in TOML as a number, true or false, a text, a list of texts."""


class Required(Enum):
    """Stands where a key has no default."""

    REQUIRED = "required"


@dataclass(frozen=True)
class Kind:
    """What a value must be: `words` as a person is told, and its check.

    The check is given the key and what TOML gave (a tuple comes as a list), returns the value as the program takes it,
    and raises Unfit.
    """

    words: str
    check: Callable[[Key, object], object]


@dataclass(frozen=True)
class Key:
    """One key: where it stands, what it must be, its default and range, and what a person needs to know of it."""

    section: str
    name: str
    kind: Kind
    default: Value | Required
    help: str
    minimum: int = 0
    maximum: int = 0
    choices: tuple[str, ...] = ()
    example: str = ""
    """As it would be typed; needed where there is no default."""

    @property
    def path(self) -> str:
        """section.name, as errors name it."""
        return f"{self.section}.{self.name}"

    @property
    def line(self) -> str:
        """A line that would be right: the example's, or else the default's."""
        shown = "" if isinstance(self.default, Required) else toml_value(self.default)
        return f"{self.name} = {self.example or shown}"


@dataclass(frozen=True)
class AtMost:
    """Two numbers (section.name) of which the first may not be more than the second."""

    lower: str
    upper: str


@dataclass(frozen=True)
class Different:
    """Two values (section.name) that may not be the same; the second is the one that is told."""

    one: str
    other: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class Consistent:
    """Several values that have to go together: `check` is given those without a mistake, by section and name, and
    returns what is wrong (as Unfit, which is not raised). `told` is the one (section.name) whose line is told.
    """

    told: str
    check: Callable[[Mapping[str, Mapping[str, Any]]], Unfit | None]


Rule: TypeAlias = AtMost | Different | Consistent


@dataclass(frozen=True)
class Table:
    """Everything that may stand in the file of one program.

    `heading` are the sample's first lines; `sections` are names with their purpose, in order; `sample_place` says where
    a person finds a sample, as in "compare the line with …".
    """

    heading: tuple[str, ...]
    sample_place: str
    sections: Mapping[str, str]
    keys: tuple[Key, ...]
    rules: tuple[Rule, ...] = ()

    def keys_of(self, section: str) -> tuple[Key, ...]:
        """The keys of one section, in order."""
        return tuple(key for key in self.keys if key.section == section)

    def with_defaults(self, defaults: Mapping[str, Value]) -> Table:
        """The same with other defaults, by section.name."""
        keys = (replace(key, default=defaults[key.path]) if key.path in defaults else key for key in self.keys)
        return replace(self, keys=tuple(keys))


def toml_value(value: Value) -> str:
    """The value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in escaped) + '"'
