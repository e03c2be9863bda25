"""The kinds of values that more than one program has, and the parts from which a program makes its own kinds."""

import ipaddress
import re
from pathlib import Path
from typing import TypeAlias

from operations.configuration.likeness import nearest
from operations.configuration.mistakes import Unfit
from operations.configuration.table import Key, Kind

SHOWN_CHARACTERS_MAX = 60
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def shown(value: object) -> str:
    """The value as a mistake quotes it, cut when it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 3] + "…"


def check_string(key: Key, value: object) -> str:
    """A text of any length, in one piece and visible; raises Unfit."""
    if not isinstance(value, str):
        raise Unfit(f"{shown(value)} is not text", f"write {key.kind.words}, such as  {key.line}")
    if not value.isprintable() or value != value.strip():
        raise Unfit(f"{shown(value)} has spaces around it or characters that cannot be seen", "write it without them")
    return value


def check_path(key: Key, value: object) -> Path:
    """A path, absolute or not, that does not go up; raises Unfit."""
    text = check_string(key, value)
    if not text:
        raise Unfit("this path is empty", f"write one, such as  {key.line}")
    if ".." in Path(text).parts:
        raise Unfit(f"{shown(text)} goes up with ..", "write the path that is meant")
    return Path(text)


def check_address(key: Key, value: object, *, remedy: str, name_problem: str) -> Address:
    """An IP address; raises Unfit.

    `remedy` says what to write; `name_problem` is put behind "… is a host name, not an IP address".
    """
    text = check_string(key, value)
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    if re.fullmatch(r"\[.*\](:\d+)?|\d+\.\d+\.\d+\.\d+:\d+", text):
        raise Unfit(f"{shown(text)} is an address with brackets or a port", f"{remedy}; the port is a key of its own")
    if re.fullmatch(r"[A-Za-z0-9_.-]*[A-Za-z][A-Za-z0-9_.-]*", text):
        raise Unfit(f"{shown(text)} is a host name, not an IP address{name_problem}", remedy)
    raise Unfit(f"{shown(text)} is not an IP address", remedy)


def check_strings(value: object, *, what: str, example: str) -> list[str]:
    """A list of at least one text; raises Unfit. `what` names the texts, `example` is a line that would be right."""
    if isinstance(value, str):
        name = example.partition(" =")[0]
        raise Unfit(f"{shown(value)} is text, not a list", f'write a list:  {name} = ["{value}"]')
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise Unfit(f"{shown(value)} is not a list of {what} in quotes", f"write a list, such as  {example}")
    return value


def _whole_number(key: Key, value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d+\s*", value):
        raise Unfit(f"{shown(value)} is text, not a number", f"write it without quotes:  {key.name} = {value.strip()}")
    if isinstance(value, bool) or not isinstance(value, int):
        allowed = f"{key.line}  (from {key.minimum} to {key.maximum})"
        raise Unfit(f"{shown(value)} is not a whole number", f"write a whole number, such as  {allowed}")
    if not key.minimum <= value <= key.maximum:
        bound = f"less than {key.minimum}" if value < key.minimum else f"more than {key.maximum}"
        raise Unfit(f"{value} is {bound}", f"write a number from {key.minimum} to {key.maximum}")
    return value


def _text(key: Key, value: object) -> str:
    text = check_string(key, value)
    if not key.minimum <= len(text) <= key.maximum:
        raise Unfit(f"{shown(text)} is {len(text)} characters", f"write {key.minimum} to {key.maximum} characters")
    return text


def _true_or_false(key: Key, value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else value
    meant = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}
    likely = meant.get(str(word))
    remedy = f"write {key.name} = true or {key.name} = false, without quotes"
    if likely is not None:
        raise Unfit(f"{shown(value)} is text, not true or false", f"write it without quotes:  {key.name} = {likely}")
    raise Unfit(f"{shown(value)} is neither true nor false", remedy)


def _path(key: Key, value: object) -> Path:
    text = check_string(key, value)
    if not text.startswith("/"):
        raise Unfit(f"{shown(text)} is not an absolute path", f"begin it with /, such as  {key.line}")
    return check_path(key, text)


def _optional_path(key: Key, value: object) -> Path | None:
    return None if value == "" else _path(key, value)


def _choice(key: Key, value: object) -> str:
    if isinstance(value, str) and value in key.choices:
        return value
    near = nearest(value, key.choices) if isinstance(value, str) else None
    hint = f"; did you mean {near!r}?" if near else ""
    raise Unfit(f"{shown(value)} is not one of the words", f"write one of {', '.join(map(repr, key.choices))}{hint}")


WHOLE_NUMBER = Kind("a whole number", _whole_number)
TEXT = Kind("text in quotes", _text)
"""Between the key's minimum and maximum of characters."""
TRUE_OR_FALSE = Kind("true or false", _true_or_false)
PATH = Kind("an absolute path in quotes", _path)
OPTIONAL_PATH = Kind('an absolute path in quotes, or "" for none', _optional_path)
CHOICE = Kind("one of the words below, in quotes", _choice)
