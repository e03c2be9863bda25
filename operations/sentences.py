"""From an event and its fields to one readable sentence, by a table of templates that each program brings."""

import json
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass

from operations.documents import as_document

# Some values come from outside (a form's id, a broker's words): an escape sequence in one must not drive a terminal.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def plain(value: object) -> str:
    """The value as a person reads it: bytes as hex, times as ISO 8601, None as "none", control characters escaped.

    Line ends and tabs stay.
    """
    document = as_document(value)
    match document:
        case None:
            text = "none"
        case bool():
            text = "yes" if document else "no"
        case list() | dict():
            text = json.dumps(document, ensure_ascii=False)
        case _:
            text = str(document)
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)


def one_line(value: object) -> str:
    """The same, with line ends and tabs escaped too."""
    return plain(value).replace("\n", "\\n").replace("\t", "\\t")


@dataclass(frozen=True)
class Sentence:
    """One template, parsed: pieces of text, each followed by the name of a field (or None at the end)."""

    pieces: tuple[tuple[str, str | None], ...]

    def fill(self, fields: Mapping[str, object]) -> str:
        """The sentence with its fields; a field that is not there is shown as "?": a log line is never lost to it."""
        return "".join(
            text + ("" if name is None else one_line(fields[name]) if name in fields else "?")
            for text, name in self.pieces
        )

    def names(self) -> frozenset[str]:
        """The fields that the sentence already tells."""
        return frozenset(name for _, name in self.pieces if name is not None)


def parse_sentences(templates: Mapping[str, str]) -> dict[str, Sentence]:
    """The table, ready to fill.

    A template may use only `{field}`: no attribute, index, conversion or format, because fields come from outside.
    Raises ValueError naming the event whose template is not so.
    """
    return {event: _parse(event, template) for event, template in templates.items()}


def _parse(event: str, template: str) -> Sentence:
    pieces: list[tuple[str, str | None]] = []
    for text, name, form, conversion in string.Formatter().parse(template):
        if name is not None and (not name.isidentifier() or form or conversion):
            raise ValueError(f"the sentence of {event!r} may only use {{field}}, not {{{name}…}}: {template!r}")
        pieces.append((text, name))
    return Sentence(tuple(pieces))


def message_of(event: str, fields: Mapping[str, object], sentences: Mapping[str, Sentence]) -> str:
    """One line for a person: the event's sentence, then in brackets the fields that it does not tell."""
    sentence = sentences.get(event)
    told = frozenset[str]() if sentence is None else sentence.names()
    text = event.replace("_", " ") if sentence is None else sentence.fill(fields)
    rest = " ".join(f"{name}={one_line(value)}" for name, value in fields.items() if name not in told)
    return f"{text} ({rest})" if rest else text
