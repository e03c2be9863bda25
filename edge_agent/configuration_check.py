"""Checks a configuration text against the table of keys and says of every mistake what to write instead."""

import difflib
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.configuration_schema import KEYS, SECTIONS, Key, Kind, Required
from edge_agent.configuration_text import ParsedText, parse_text

INTERFACE_NAME_CHARACTERS_MAX = 15  # the kernel's IFNAMSIZ without its zero


@dataclass(frozen=True)
class Mistake:
    """One thing wrong: the line from 1 and the key (section.name), each None where there is none; the remedy."""

    line: int | None
    key: str | None
    problem: str
    remedy: str

    def __str__(self) -> str:
        place = ("" if self.line is None else f"line {self.line}: ") + ("" if self.key is None else f"{self.key}: ")
        return f"{place}{self.problem}; what to do: {self.remedy}"


class _Wrong(Exception):
    """A value that cannot be taken; travels only from a check to `check_document`."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


def check_document(text: str) -> tuple[dict[str, dict[str, object]], tuple[Mistake, ...]]:
    """Every section's values with defaults filled in, and all mistakes in the order of their lines."""
    parsed = parse_text(text)
    mistakes = [Mistake(wrong.line, wrong.key, wrong.problem, wrong.remedy) for wrong in parsed.mistakes]
    mistakes += _unknown(parsed)
    values: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    for key in KEYS:
        section = parsed.values.get(key.section, {})
        if not isinstance(section, dict):
            continue
        if key.name in section:
            try:
                values[key.section][key.name] = _CHECKS[key.kind](key, section[key.name])
            except _Wrong as wrong:
                mistakes.append(Mistake(_line(parsed, key.path), key.path, wrong.problem, wrong.remedy))
        elif not isinstance(key.default, Required):
            values[key.section][key.name] = _CHECKS[key.kind](
                key, list(key.default) if isinstance(key.default, tuple) else key.default
            )
        elif parsed.complete and key.path not in parsed.unreadable:
            remedy = f"write in [{key.section}]:  {key.name} = {key.example}"
            mistakes.append(Mistake(parsed.lines.get(key.section), key.path, "this key must be set", remedy))
    mistakes += _contradictions(values, parsed)
    mistakes.sort(key=lambda mistake: (mistake.line is None, mistake.line or 0))
    return values, tuple(mistakes)


def _line(parsed: ParsedText, path: str) -> int | None:
    return parsed.lines.get(path, parsed.lines.get(path.partition(".")[0]))


def _unknown(parsed: ParsedText) -> list[Mistake]:
    mistakes = []
    for section, content in parsed.values.items():
        if section not in SECTIONS:
            mistakes.append(_unknown_section(section, content, _line(parsed, section)))
        elif not isinstance(content, dict):
            problem = "this is a section, not a key" if not isinstance(content, list) else "this section stands once"
            remedy = f"write [{section}] on a line of its own and its keys below"
            mistakes.append(Mistake(_line(parsed, section), section, problem, remedy))
        else:
            names = [key.name for key in KEYS if key.section == section]
            for name in content:
                if name not in names:
                    path = f"{section}.{name}"
                    mistakes.append(
                        Mistake(_line(parsed, path), path, "there is no such key", _nearest_key(section, name))
                    )
    return mistakes


def _unknown_section(name: str, content: object, line: int | None) -> Mistake:
    if not isinstance(content, dict | list):
        homes = [key.section for key in KEYS if key.name == name]
        remedy = (
            f"move it below [{homes[0]}]" if homes else "every key stands below one of the sections: " + _sections()
        )
        return Mistake(line, name, "this key stands outside of any section", remedy)
    near = difflib.get_close_matches(name.lower(), SECTIONS, 1)
    return Mistake(
        line,
        name,
        "there is no such section",
        f"did you mean [{near[0]}]?" if near else f"the sections are: {_sections()}",
    )


def _sections() -> str:
    return ", ".join(f"[{name}]" for name in SECTIONS)


def _nearest_key(section: str, name: str) -> str:
    names = [key.name for key in KEYS if key.section == section]
    elsewhere = [key.section for key in KEYS if key.name == name]
    if elsewhere:
        return f"move it below [{elsewhere[0]}]"
    near = difflib.get_close_matches(name.lower(), names, 1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"delete the line; the keys of [{section}] are: {', '.join(names)}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _whole_number(key: Key, value: object) -> int:
    allowed = f"{key.name} = {key.default}  (from {key.minimum} to {key.maximum})"
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d+\s*", value):
        raise _Wrong(
            f"{_shown(value)} is text, not a number", f"write it without quotes:  {key.name} = {value.strip()}"
        )
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Wrong(f"{_shown(value)} is not a whole number", f"write a whole number, such as  {allowed}")
    if not key.minimum <= value <= key.maximum:
        bound = f"less than {key.minimum}" if value < key.minimum else f"more than {key.maximum}"
        raise _Wrong(f"{value} is {bound}", f"write a number from {key.minimum} to {key.maximum}")
    return value


def _string(key: Key, value: object) -> str:
    if not isinstance(value, str):
        example = key.example or f'"{key.default}"'
        raise _Wrong(f"{_shown(value)} is not text", f"write {key.kind.value}, such as  {key.name} = {example}")
    return value


def _text(key: Key, value: object) -> str:
    text = _string(key, value)
    if any(not character.isprintable() for character in text) or text != text.strip():
        raise _Wrong(f"{_shown(text)} has spaces around it or characters that cannot be seen", "write it without them")
    if not key.minimum <= len(text) <= key.maximum:
        raise _Wrong(f"{_shown(text)} is {len(text)} characters", f"write {key.minimum} to {key.maximum} characters")
    return text


def _path(key: Key, value: object) -> Path:
    text = _string(key, value)
    if not text.startswith("/") or "\0" in text:
        raise _Wrong(
            f"{_shown(text)} is not an absolute path", f'begin it with /, such as  {key.name} = "{key.default}"'
        )
    if ".." in Path(text).parts:
        raise _Wrong(f"{_shown(text)} goes up with ..", "write the path that is meant")
    return Path(text)


def _optional_path(key: Key, value: object) -> Path | None:
    return None if value == "" else _path(key, value)


def _address(key: Key, value: object) -> str:
    text = _string(key, value).strip()
    form = f"write the broker's address inside the VPN, such as  {key.name} = {key.example}"
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        if re.fullmatch(r"\[.*\](:\d+)?|\d+\.\d+\.\d+\.\d+:\d+", text):
            raise _Wrong(
                f"{_shown(text)} is an address with brackets or a port", f"{form}; port is a key of its own"
            ) from None
        if re.fullmatch(r"[A-Za-z0-9_.-]*[A-Za-z][A-Za-z0-9_.-]*", text):
            why = "a name would be looked up outside the tunnel, where anybody can see and answer it"
            raise _Wrong(f"{_shown(text)} is a host name, not an IP address: {why}", form) from None
        raise _Wrong(f"{_shown(text)} is not an IP address", form) from None
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id is not None or address.ipv4_mapped is not None):
        raise _Wrong(f"{_shown(text)} has a scope or stands for an IPv4 address", form)
    if address.is_unspecified or address.is_multicast or address.is_link_local or address == _BROADCAST:
        raise _Wrong(f"{_shown(text)} is not the address of one host that a route leads to", form)
    return str(address)


_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def _patterns(key: Key, value: object) -> tuple[str, ...]:
    example = f'{key.name} = ["wg*", "tun*"]'
    if isinstance(value, str):
        raise _Wrong(f"{_shown(value)} is text, not a list", f'write a list:  {key.name} = ["{value}"]')
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise _Wrong(f"{_shown(value)} is not a list of names in quotes", f"write a list, such as  {example}")
    for pattern in value:
        if not re.sub(r"\[.*?\]", "", pattern).strip("*?"):
            problem = f"{_shown(pattern)} fits every interface: the broker would be spoken to outside the VPN"
            raise _Wrong(problem, f"name the VPN's interfaces, such as  {example}")
        if len(pattern.replace("*", "")) > INTERFACE_NAME_CHARACTERS_MAX or re.search(r"[\s/]", pattern):
            problem = f"{_shown(pattern)} fits no interface: names have at most 15 characters, no spaces and no /"
            raise _Wrong(problem, "`ip link` lists the names on this device")
    return tuple(value)


def _choice(key: Key, value: object) -> str:
    text = value.lower() if isinstance(value, str) else ""
    if value in key.choices:
        return text
    near = difflib.get_close_matches(text, key.choices, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise _Wrong(f"{_shown(value)} is not one of the words", f"write one of {', '.join(map(repr, key.choices))}{hint}")


_CHECKS: dict[Kind, Callable[[Key, Any], object]] = {
    Kind.WHOLE_NUMBER: _whole_number,
    Kind.TEXT: _text,
    Kind.PATH: _path,
    Kind.OPTIONAL_PATH: _optional_path,
    Kind.ADDRESS: _address,
    Kind.PATTERNS: _patterns,
    Kind.CHOICE: _choice,
}

# Pairs where the first may not be more than the second.
_ORDERED = (
    ("broker.backoff_seconds_min", "broker.backoff_seconds_max"),
    ("sync.receipt_wait_seconds", "sync.receipt_silence_alarm_seconds"),
)


def _contradictions(values: dict[str, dict[str, object]], parsed: ParsedText) -> list[Mistake]:
    mistakes = []
    for lower_path, upper_path in _ORDERED:
        lower, upper = (values[path.split(".")[0]].get(path.split(".")[1]) for path in (lower_path, upper_path))
        if isinstance(lower, int) and isinstance(upper, int) and lower > upper:
            line = parsed.lines.get(lower_path, parsed.lines.get(upper_path))
            problem = f"{lower} is more than {upper_path}, which is {upper}"
            mistakes.append(Mistake(line, lower_path, problem, "lower this one or raise the other"))
    return mistakes
