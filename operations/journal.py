"""Sets up structlog for a program of ours: to journald with fields, as text for people, or as JSON lines.

`from operations.journal import get_logger` is how every module gets its logger: structlog's own, imported small.
"""

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from operations.journald import JOURNAL_SOCKET, JournalSocket, is_journal_stream
from operations.sentences import parse_sentences
from operations.sinks import JournalSink, JsonSink, Sink, TextSink
from operations.structlog_without_rich import structlog

get_logger = structlog.get_logger

Style = Literal["auto", "journal", "text", "json"]
Level = Literal["debug", "info", "warning", "error", "critical"]


def configure_logging(
    identifier: str,
    *,
    style: Style = "auto",
    level: Level = "info",
    sentences: Mapping[str, str] | None = None,
    stream: TextIO | None = None,
    journal_path: str = JOURNAL_SOCKET,
) -> None:
    """Makes structlog and the standard library's logging write one way, for the whole process.

    `identifier` becomes SYSLOG_IDENTIFIER; `sentences` maps event names to templates with {field}. "auto" is journald
    when stderr is the journal's own stream, else text. `stream` stands for stderr. Raises ValueError for a template
    that uses more than {field}.
    """
    sink = _sink(identifier, style, sentences or {}, sys.stderr if stream is None else stream, journal_path)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            # Frames and the error's own text, never the values of local variables: those hold answers and keys.
            structlog.processors.format_exc_info,
            _for_sink,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _SinkLogger(sink),
        cache_logger_on_first_use=False,
    )
    # Libraries (aiomqtt, asyncio) speak through logging; only their warnings are worth a tablet's journal.
    root = logging.getLogger()
    for handler in tuple(root.handlers):
        if isinstance(handler, LibraryHandler):
            root.removeHandler(handler)
    root.addHandler(LibraryHandler(sink))
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))


def _sink(identifier: str, style: Style, sentences: Mapping[str, str], stream: TextIO, journal_path: str) -> Sink:
    table = parse_sentences(sentences)
    if style == "json":
        return JsonSink(stream, table, identifier)
    text = TextSink(stream, table)
    if style == "journal" or (style == "auto" and _is_journal(stream)):
        return JournalSink(identifier, table, JournalSocket(journal_path), fallback=text)
    return text


def _is_journal(stream: TextIO) -> bool:
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return False
    return is_journal_stream(os.environ.get("JOURNAL_STREAM"), descriptor)


def _for_sink(_logger: object, _name: str, record: MutableMapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """structlog's last step: from its dictionary to the arguments of the sink."""
    level = str(record.pop("level"))
    event = str(record.pop("event", ""))
    traceback = record.pop("exception", None)
    return (level, event, record, traceback), {}


class _SinkLogger:
    """The object that structlog calls by level; every level goes to the one sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def msg(self, level: str, event: str, fields: Mapping[str, object], traceback: str | None) -> None:
        self._sink.write(level, event, fields, traceback, datetime.now(UTC))

    debug = info = warning = warn = error = critical = fatal = exception = log = msg


class LibraryHandler(logging.Handler):
    """Carries the records of libraries that use the standard `logging` into the same sink, as event "library"."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        level = "debug" if record.levelno < logging.INFO else record.levelname.lower()
        try:
            traceback = logging.Formatter().formatException(record.exc_info) if record.exc_info else None
            fields = {"library": record.name, "text": record.getMessage()}
            self._sink.write(level, "library", fields, traceback, datetime.fromtimestamp(record.created, UTC))
        except (TypeError, ValueError):  # a library's own mistake in its format string
            self.handleError(record)
