"""Reads a TOML text with the line of every key, and goes on after a syntax error to find the next one."""

import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

from operations.configuration.mistakes import Mistake

SYNTAX_MISTAKES_MAX = 20  # beyond that it is not a configuration file, and a longer list helps nobody

_HEADER = re.compile(r"^\s*\[{1,2}\s*([^\[\]#]+?)\s*\]{1,2}\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:["']?[\w-]+["']?)(?:\s*\.\s*["']?[\w-]+["']?)*)\s*=(.*)$""")
_AT_LINE = re.compile(r"\s*\(at line (\d+), column \d+\)$")

# What to write instead, by a piece of tomllib's message. The examples are keys that every program's file has.
_REMEDIES = (
    ("Cannot overwrite", "keep one of the two lines and delete the other"),
    ("Cannot declare", "put all keys of the section under one heading"),
    ("Expected '='", 'write the key, an equals sign and a value, such as  level = "info"'),
    ("Invalid value", 'put text in double quotes, such as  level = "info"; numbers go without spaces or units'),
    ("Unescaped '\\'", "put a text with backslashes in single quotes"),
    ("Illegal character", "close the quotes at the end of the text"),
    ("Unterminated string", "close the quotes at the end of the text"),
    ("Unclosed array", "close the list with ]"),
    ("Expected ']'", "write the section's name alone on its line in brackets, such as  [log]"),
    ("Expected newline", "write one key a line, and put text in double quotes; comments begin with #"),
)


@dataclass
class ParsedText:
    """What could be read: values, the first line of each section and key ("section", "section.key"), and mistakes."""

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    complete: bool = True  # False when what follows a mistake could not be read: then nothing is "missing"
    unreadable: set[str] = field(default_factory=set)  # keys that are there, on a line with a mistake


def parse_text(text: str, sample_place: str) -> ParsedText:
    """Parses the text. A single line with a mistake is left out and the rest read, so that all are found at once.

    `sample_place` completes the remedy "compare the line with …" where there is no better one.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    parsed = ParsedText(lines=_lines_of_keys(lines))
    while True:
        try:
            parsed.values = tomllib.loads("\n".join(lines) + "\n")
        except tomllib.TOMLDecodeError as error:
            number, problem = _place(str(error))
            path = None if number is None else _path_at(lines, number)
            remedy = _remedy(problem, sample_place)
            parsed.mistakes.append(Mistake(number, path, problem[:1].lower() + problem[1:], remedy))
            if number is None or not _can_be_left_out(lines, number) or len(parsed.mistakes) >= SYNTAX_MISTAKES_MAX:
                parsed.complete = False
                return parsed
            parsed.unreadable.add(path or "")
            lines[number - 1] = ""
        else:
            return parsed


def _place(message: str) -> tuple[int | None, str]:
    found = _AT_LINE.search(message)
    if found is None:
        return None, message.removesuffix(" (at end of document)")
    return int(found.group(1)), message[: found.start()]


def _remedy(problem: str, sample_place: str) -> str:
    otherwise = f"compare the line with {sample_place}"
    return next((remedy for piece, remedy in _REMEDIES if piece in problem), otherwise)


def _can_be_left_out(lines: list[str], number: int) -> bool:
    """Whether the line stands for itself: leaving out a heading or a part of a list would make the rest wrong."""
    if not 1 <= number <= len(lines):
        return False
    line = lines[number - 1]
    words_only = not any(character in line for character in "[]{}\"'=")
    key = _KEY.match(line)
    return words_only or (key is not None and not any(character in key.group(2) for character in "[]{}"))


def _lines_of_keys(lines: list[str]) -> dict[str, int]:
    """Section and key paths with their first line, by looking at each line alone: tomllib does not tell."""
    found: dict[str, int] = {}
    section = ""
    for number, line in enumerate(lines, start=1):
        if header := _HEADER.match(line):
            section = _bare(header.group(1))
            found.setdefault(section, number)
        elif key := _KEY.match(line):
            path = _bare(key.group(1))
            found.setdefault(f"{section}.{path}" if section else path, number)
            if not section and "." in path:
                found.setdefault(path.partition(".")[0], number)
    return found


def _path_at(lines: list[str], number: int) -> str | None:
    """The key that the line begins with, below the last heading before it; None for a line without a word."""
    if not 1 <= number <= len(lines) or not (word := re.match(r"""\s*["']?([\w-]+)""", lines[number - 1])):
        return None
    section = ""
    for line in lines[: number - 1]:
        if header := _HEADER.match(line):
            section = _bare(header.group(1))
    return f"{section}.{word.group(1)}".strip(".")


def _bare(path: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in path.split("."))
