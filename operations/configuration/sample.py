"""Writes a configuration file with every key explained."""

from collections.abc import Mapping
from typing import Final

from operations.configuration.kinds import CHOICE, WHOLE_NUMBER
from operations.configuration.table import Key, Required, Table, Value, toml_value

COMMENT_COLUMNS: Final = 100


def sample_text(table: Table, chosen: Mapping[str, Value] | None = None) -> str:
    """A commented file that loads as it stands: every key with its help; defaults are commented out.

    `chosen` values, by section.name, are set.
    """
    given = chosen or {}
    lines = [f"# {line}" for line in table.heading]
    for section, purpose in table.sections.items():
        lines += ["", f"# {purpose}", f"[{section}]"]
        for key in table.keys_of(section):
            lines += ["", *_sample_key(key, given.get(key.path))]
    return "\n".join(lines) + "\n"


def _sample_key(key: Key, chosen: Value | None) -> list[str]:
    import textwrap  # a daemon never writes a sample

    text = key.help
    if key.kind is CHOICE:
        text += f" One of: {', '.join(key.choices)}."
    elif key.kind is WHOLE_NUMBER:
        text += f" From {key.minimum} to {key.maximum}."
    if key.example and not isinstance(key.default, Required):
        text += f" Example: {key.example}"
    lines = [f"# {line}" for line in textwrap.wrap(text, COMMENT_COLUMNS, break_on_hyphens=False)]
    if chosen is not None:
        return [*lines, f"{key.name} = {toml_value(chosen)}"]
    if isinstance(key.default, Required):
        return [*lines, f"{key.line}  # must be set"]
    return [*lines, f"#{key.name} = {toml_value(key.default)}"]
