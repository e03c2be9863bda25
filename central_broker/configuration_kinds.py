"""The kinds of values that only the center's configuration has."""

from __future__ import annotations

import ipaddress
import re
from datetime import date, datetime
from pathlib import Path
from typing import Final

from operations.configuration import Key, Kind, Unfit
from operations.configuration.kinds import check_address, check_path, check_string, check_strings, shown

_DNS_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_PLAIN_WORD: Final = re.compile(r"[A-Za-z0-9_.-]+")
_PASSWORD: Final = re.compile(r"://[^/?#]*:[^/?#]*@|\bpassword\s*=", re.IGNORECASE)


def _word(key: Key, value: object) -> str:
    text = check_string(key, value)
    # These words go into mosquitto's configuration and into topics, where a space or + would mean something else.
    if not key.minimum <= len(text) <= key.maximum or not _PLAIN_WORD.fullmatch(text):
        remedy = f"write {key.minimum} to {key.maximum} letters, digits, - _ or ., such as  {key.line}"
        raise Unfit(f"{shown(text)} is not one word", remedy)
    return text


def _optional_path(key: Key, value: object) -> Path | None:
    return None if value == "" else check_path(key, value)


def _database(_key: Key, value: object) -> str:
    remedy = 'write "", "sqlite:////srv/center/census.sqlite3" or "postgresql://USER@HOST/DATABASE"'
    # Nothing of the value is shown but its beginning: people put passwords into it, in more ways than can be told.
    if not isinstance(value, str):
        raise Unfit("the address is not text", remedy)
    if _PASSWORD.search(value):
        raise Unfit(
            "the address holds a password", "put the password into ~/.pgpass (mode 0600) or use peer authentication"
        )
    if value and not value.startswith(("sqlite:///", "postgresql://")):
        scheme = re.match(r"[A-Za-z0-9+.-]{1,20}://", value)
        raise Unfit(f"{shown(scheme.group() + '…') if scheme else 'this'} names no database", remedy)
    if not value.isprintable() or value != value.strip():
        raise Unfit("the address has spaces around it or characters that cannot be seen", "write it without them")
    return value


def _listening_address(key: Key, value: object) -> str:
    return str(check_address(key, value, remedy=f"write one, such as  {key.line}", name_problem=""))


def _names(key: Key, value: object) -> tuple[str, ...]:
    example = f'{key.name} = ["10.8.0.1", "broker.census.example"]'
    names = check_strings(value, what="names", example=example)
    for name in names:
        if not (_is_address(name) or _DNS_NAME.fullmatch(name)):
            problem = f"{shown(name)} is neither an IP address nor a DNS name in small letters"
            raise Unfit(problem, f"write a list, such as  {example}")
    return tuple(names)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _day(_key: Key, value: object) -> date:
    try:
        return date.fromisoformat(str(value))  # TOML has dates of its own, too
    except ValueError:
        raise Unfit(f"{shown(value)} is no day", 'write year, month and day, such as  "2021-10-01"') from None


def _moment(key: Key, value: object) -> datetime:
    remedy = f"write a date, a time and the offset from UTC, such as  {key.line}"
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise Unfit(f"{shown(value)} is no moment", remedy) from None
    if moment.tzinfo is None:
        raise Unfit(f"{shown(value)} could be any of 27 hours", remedy)
    return moment


WORD: Final = Kind("one word in quotes", _word)
"""Between the key's minimum and maximum of characters."""
ANY_PATH: Final = Kind("a path in quotes", check_path)
"""A relative one starts at the file's folder: `parse_configuration` puts it there."""
OPTIONAL_ANY_PATH: Final = Kind('a path in quotes, or ""', _optional_path)
DATABASE: Final = Kind('"", or the address of a database in quotes', _database)
LISTENING_ADDRESS: Final = Kind("an IP address in quotes", _listening_address)
NAMES: Final = Kind("a list of IP addresses and DNS names in quotes", _names)
DAY: Final = Kind('a day in quotes, such as "2021-10-01"', _day)
MOMENT: Final = Kind("a date and time with its offset from UTC, in quotes", _moment)
