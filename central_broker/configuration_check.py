"""Checks a center.toml against the table of keys, and says of every mistake what to write instead."""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from central_broker.configuration_schema import CENTER_DEFAULT, KEYS, SECTIONS, Key, Kind, Value

SYNTAX_MISTAKES_MAX = 20
"""Beyond that it is not a configuration file, and a longer list helps nobody."""

_TOML_PLACE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$")
_DNS_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Mistake:
    """One thing wrong: its line from 1 and its key (section.name), None where there is none; and the remedy."""

    line: int | None
    key: str | None
    problem: str
    remedy: str

    def __str__(self) -> str:
        place = ("" if self.line is None else f"line {self.line}: ") + ("" if self.key is None else f"{self.key}: ")
        return f"{place}{self.problem}; what to do: {self.remedy}"


class _Unfit(Exception):
    """A value that cannot be taken; never leaves this module."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


def check_text(text: str, center: Path) -> tuple[dict[str, dict[str, object]], tuple[Mistake, ...]]:
    """Return every section's values with defaults filled in, and all mistakes in the order of their lines."""
    document, mistakes = _read(text)
    lines = _lines_of_keys(text)
    mistakes += _strangers(document, lines)
    values: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    for key in KEYS:
        section = document.get(key.section, {})
        value = section.get(key.name, default_of(key, center)) if isinstance(section, dict) else key.default
        try:
            values[key.section][key.name] = _CHECKS[key.kind](key, value, center)
        except _Unfit as unfit:
            mistakes.append(Mistake(lines.get(key.path), key.path, unfit.problem, unfit.remedy))
    broker = values["broker"]
    ports = (broker.get("port"), broker.get("center_port"))
    if ports[0] == ports[1] and ports[0] is not None:
        remedy = "give the tablets' and the center's listener different ports, such as 8883 and 8884"
        line = lines.get("broker.center_port", lines.get("broker.port"))
        mistakes.append(Mistake(line, "broker.center_port", "both listeners have this port", remedy))
    mistakes.sort(key=lambda mistake: (mistake.line is None, mistake.line or 0))
    return values, tuple(mistakes)


def default_of(key: Key, center: Path) -> Value:
    """The key's default, which for directories depends on whether the center is installed in /etc or on its own."""
    return key.installed if key.installed and center == CENTER_DEFAULT else key.default


def _read(text: str) -> tuple[dict[str, Any], list[Mistake]]:
    """Parse TOML; a line that is wrong is noted and blanked, so that the mistakes after it are found as well."""
    lines = text.replace("\r\n", "\n").split("\n")
    mistakes: list[Mistake] = []
    while len(mistakes) < SYNTAX_MISTAKES_MAX:
        try:
            return tomllib.loads("\n".join(lines)), mistakes
        except tomllib.TOMLDecodeError as error:
            message = str(error)
            place = _TOML_PLACE.search(message)
            number = int(place.group(1)) if place and place.group(1) else None
            remedy = 'write  key = value  with text in double quotes, such as  user = "mosquitto", and numbers bare'
            problem = message[: place.start()] if place else message
            mistakes.append(Mistake(number, None, problem[:1].lower() + problem[1:], remedy))
            if number is None or not 1 <= number <= len(lines) or lines[number - 1].lstrip().startswith("["):
                break
            lines[number - 1] = ""
    return {}, mistakes


def _lines_of_keys(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            section = header.group(1)
            found.setdefault(section, number)
        elif key := re.match(r"\s*([\w.-]+)\s*=", line):
            found.setdefault(f"{section}.{key.group(1)}" if section else key.group(1), number)
    return found


def _strangers(document: dict[str, Any], lines: dict[str, int]) -> list[Mistake]:
    mistakes = []
    for section, content in document.items():
        line = lines.get(section)
        if section not in SECTIONS:
            near = difflib.get_close_matches(section, SECTIONS, 1)
            remedy = f"did you mean [{near[0]}]?" if near else "the sections are: " + ", ".join(SECTIONS)
            mistakes.append(Mistake(line, section, "there is no such section", remedy))
        elif not isinstance(content, dict):
            remedy = f"write [{section}] on a line of its own and its keys below"
            mistakes.append(Mistake(line, section, "this is a section, not a key", remedy))
        else:
            names = [key.name for key in KEYS if key.section == section]
            for name in (name for name in content if name not in names):
                near = difflib.get_close_matches(name, names, 1)
                remedy = f"did you mean {near[0]}?" if near else f"the keys of [{section}] are: {', '.join(names)}"
                path = f"{section}.{name}"
                mistakes.append(Mistake(lines.get(path, line), path, "there is no such key", remedy))
    return mistakes


def _number(key: Key, value: object, _center: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Unfit(
            f"{_shown(value)} is not a whole number", f"write a number without quotes:  {key.name} = {key.default}"
        )
    if not key.minimum <= value <= key.maximum:
        raise _Unfit(f"{value} is out of range", f"write a number from {key.minimum} to {key.maximum}")
    return value


def _string(key: Key, value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or value != value.strip():
        raise _Unfit(
            f"{_shown(value)} is not plain text", f'write text in quotes, such as  {key.name} = "{key.default}"'
        )
    return value


def _text(key: Key, value: object, _center: Path) -> str:
    text = _string(key, value)
    # These words go into mosquitto's configuration and into topics, where a space or + would mean something else.
    if not key.minimum <= len(text) <= key.maximum or not _PLAIN_WORD.fullmatch(text):
        remedy = (
            f'write {key.minimum} to {key.maximum} letters, digits, - _ or ., such as  {key.name} = "{key.default}"'
        )
        raise _Unfit(f"{_shown(text)} is not one word", remedy)
    return text


def _choice(key: Key, value: object, _center: Path) -> str:
    if value not in key.choices:
        raise _Unfit(f"{_shown(value)} is not one of the words", f"write one of {', '.join(map(repr, key.choices))}")
    return str(value)


def _directory(key: Key, value: object, center: Path) -> Path:
    text = _string(key, value)
    if not text or ".." in Path(text).parts:
        raise _Unfit(
            f"{_shown(text)} is not a path that can be taken", f'write one, such as  {key.name} = "{key.default}"'
        )
    return center / text


def _file(key: Key, value: object, center: Path) -> Path | None:
    return None if value == "" else _directory(key, value, center)


def _database(key: Key, value: object, center: Path) -> str:
    text = _string(key, value)
    if not text.startswith(("sqlite:///", "postgresql://")) and text:
        remedy = f'write "", "sqlite:///{center}/census.sqlite3" or "postgresql://USER@HOST/DATABASE"'
        raise _Unfit(f"{_shown(text)} names no database", remedy)
    if re.match(r"postgresql://[^/@]*:[^/@]*@", text):
        # The value is not shown: it holds what must not be seen.
        raise _Unfit(
            "the address holds a password", "put the password into ~/.pgpass (mode 0600) or use peer authentication"
        )
    return text


def _address(key: Key, value: object, _center: Path) -> str:
    try:
        return str(ipaddress.ip_address(_string(key, value)))
    except ValueError:
        raise _Unfit(
            f"{_shown(value)} is not an IP address", f'write one, such as  {key.name} = "{key.default}"'
        ) from None


def _names(key: Key, value: object, _center: Path) -> tuple[str, ...]:
    remedy = f'write a list, such as  {key.name} = ["10.8.0.1", "broker.census.example"]'
    if not isinstance(value, list | tuple) or not value:
        raise _Unfit(f"{_shown(value)} is not a list of names", remedy)
    for name in value:
        if not isinstance(name, str) or not (_is_address(name) or _DNS_NAME.fullmatch(name)):
            raise _Unfit(f"{_shown(name)} is neither an IP address nor a DNS name in small letters", remedy)
    return tuple(value)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


_CHECKS: dict[Kind, Callable[[Key, Any, Path], object]] = {
    Kind.NUMBER: _number,
    Kind.TEXT: _text,
    Kind.CHOICE: _choice,
    Kind.DIRECTORY: _directory,
    Kind.FILE: _file,
    Kind.DATABASE: _database,
    Kind.ADDRESS: _address,
    Kind.NAMES: _names,
}
