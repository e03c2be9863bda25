"""Where log records end up: journald, text for people, JSON lines. A sink never raises: logging must not stop work."""

import contextlib
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol, TextIO

import msgspec

from operations.documents import as_document, iso_time
from operations.journald import Delivery, JournalSocket, field_name
from operations.sentences import Sentence, message_of, one_line, plain
from operations.structlog_without_rich import structlog

# syslog's numbers, which journald files a record under and `journalctl -p` filters by.
PRIORITIES: Mapping[str, int] = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
FIELD_PREFIX = "CENSUS_"
MESSAGE_CHARACTERS_MAX = 2_000  # a sentence; what is longer is whole in its own field
FIELD_CHARACTERS_MAX = 100_000  # the longest traceback fits many times


class Sink(Protocol):
    """Takes one record: its level, the event's name, its fields, the traceback if there is one, and the moment."""

    def write(
        self, level: str, event: str, fields: Mapping[str, object], traceback: str | None, moment: datetime
    ) -> None: ...


class TextSink:
    """Readable lines, in colour on a terminal only."""

    def __init__(self, stream: TextIO, sentences: Mapping[str, Sentence]) -> None:
        self._stream = stream
        self._sentences = sentences
        # The plain formatter is named because structlog's default, with rich about, prints the values of variables.
        self._render = structlog.dev.ConsoleRenderer(
            colors=_is_terminal(stream), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )

    def write(
        self, level: str, event: str, fields: Mapping[str, object], traceback: str | None, moment: datetime
    ) -> None:
        sentence = self._sentences.get(event)
        told = frozenset[str]() if sentence is None else sentence.names()
        # The event's name stays in front of its sentence: it is what `CENSUS_EVENT=` filters on.
        text = event if sentence is None else f"{event}: {sentence.fill(fields)}"
        record: dict[str, object] = {name: one_line(value) for name, value in fields.items() if name not in told}
        record |= {"timestamp": iso_time(moment.replace(microsecond=0)), "level": level, "event": text}
        if traceback is not None:
            record["exception"] = traceback
        _write_line(self._stream, str(self._render(None, level, record)))


class JsonSink:
    """One JSON object a line."""

    def __init__(self, stream: TextIO, sentences: Mapping[str, Sentence], identifier: str) -> None:
        self._stream = stream
        self._sentences = sentences
        self._identifier = identifier

    def write(
        self, level: str, event: str, fields: Mapping[str, object], traceback: str | None, moment: datetime
    ) -> None:
        record = {
            "timestamp": iso_time(moment),
            "level": level,
            "identifier": self._identifier,
            "event": event,
            "message": message_of(event, fields, self._sentences),
            "fields": as_document(fields),
        }
        if traceback is not None:
            record["traceback"] = traceback
        _write_line(self._stream, msgspec.json.encode(record).decode())


class JournalSink:
    """Native records, each field as CENSUS_<NAME>. What journald does not take goes to the fallback."""

    def __init__(
        self, identifier: str, sentences: Mapping[str, Sentence], journal: JournalSocket, fallback: Sink
    ) -> None:
        self._identifier = identifier
        self._sentences = sentences
        self._journal = journal
        self._fallback = fallback
        self._dropped = 0

    def write(
        self, level: str, event: str, fields: Mapping[str, object], traceback: str | None, moment: datetime
    ) -> None:
        delivery = self._send(level, event, fields, traceback)
        if delivery is Delivery.UNREACHABLE:
            self._fallback.write(level, event, fields, traceback, moment)
        elif delivery is Delivery.CONGESTED:
            # Not to stderr: under systemd that is a pipe to the same journald, and writing to it would wait.
            self._dropped += 1
        elif self._dropped:
            dropped, self._dropped = self._dropped, 0
            if self._send("warning", "log_records_dropped", {"count": dropped}, None) is Delivery.CONGESTED:
                self._dropped = dropped

    def _send(self, level: str, event: str, fields: Mapping[str, object], traceback: str | None) -> Delivery:
        record = {
            "MESSAGE": _cut(message_of(event, fields, self._sentences), MESSAGE_CHARACTERS_MAX),
            "PRIORITY": str(PRIORITIES.get(level, PRIORITIES["info"])),
            "SYSLOG_IDENTIFIER": self._identifier,
        }
        for name, value in fields.items():
            record[field_name(FIELD_PREFIX + name)] = _cut(plain(value), FIELD_CHARACTERS_MAX)
        record[FIELD_PREFIX + "EVENT"] = event
        if traceback is not None:
            record[FIELD_PREFIX + "TRACEBACK"] = _cut(traceback, FIELD_CHARACTERS_MAX)
        return self._journal.send(record)


def _cut(text: str, characters_max: int) -> str:
    if len(text) <= characters_max:
        return text
    return f"{text[:characters_max]}… [{len(text) - characters_max} more characters cut]"


def _is_terminal(stream: TextIO) -> bool:
    with contextlib.suppress(ValueError):
        return stream.isatty()
    return False


def _write_line(stream: TextIO, line: str) -> None:
    # A closed terminal or a full disk behind the stream must not end the daemon; there is nowhere left to say so.
    with contextlib.suppress(OSError, ValueError):
        stream.write(line + "\n")
        stream.flush()
