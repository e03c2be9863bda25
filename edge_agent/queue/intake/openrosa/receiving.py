"""One POST as it streams in: multipart/form-data taken apart into a spool, bounded in memory whatever is sent.

The spool holds the data of all parts one after the other: in memory while they are few, in a nameless file beside the
queue otherwise, which is gone with the process.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from edge_agent.queue.intake.openrosa.answers import Answer, Outcome
from sync_protocol.attachments import OCTETS, XML_PART, Attachment, attachment_name_fault, is_media_type
from sync_protocol.limits import KIBIBYTE

MEMORY_BYTES_MAX: Final = 256 * KIBIBYTE
"""Of one request; nearly every questionnaire stays below it, and no file is made for it."""
PARTS_MAX: Final = 256
"""ODK Collect sends at most 101 files and two further parts in one request."""
ENVELOPE_BYTES_MAX: Final = 256 * KIBIBYTE
"""Boundaries and headers of a request, beside the questionnaire's own bytes."""

_INCOMPLETE_FIELD: Final = "*isIncomplete*"
_HEADER_BYTES_MAX: Final = 8 * KIBIBYTE
_HEADERS_OF_PART_MAX: Final = 16
_FIELD_BYTES_MAX: Final = 64
_BOUNDARY_BYTES_MAX: Final = 200
"""RFC 2046 allows 70; some programs take more."""


class Refusal(Exception):
    """The request cannot be used; carries the answer."""

    def __init__(self, outcome: Outcome, detail: str = "") -> None:
        super().__init__(detail)
        self.answer = Answer(outcome, detail)


@dataclass
class _Part:
    name: str
    media_type: str
    offset: int
    length: int = 0


class ReceivedPost:
    """What one request brought; a context manager that lets its spool go."""

    def __init__(self, folder: Path) -> None:
        self._spool = tempfile.SpooledTemporaryFile[bytes](MEMORY_BYTES_MAX, dir=str(folder))  # closed by `close`
        self._xml: _Part | None = None
        self._files: dict[str, _Part] = {}
        self.incomplete = False
        """The client says that further requests bring the rest."""

    @property
    def has_attachments(self) -> bool:
        return bool(self._files)

    @property
    def data_bytes(self) -> int:
        """Of XML and attachments together."""
        parts = [*self._files.values(), *([] if self._xml is None else [self._xml])]
        return sum(part.length for part in parts)

    def xml(self) -> bytes:
        """Return the XML, exactly as it came; raises Refusal when there is none."""
        if self._xml is None:
            raise Refusal(Outcome.NO_XML)
        return self._read(self._xml)

    def attachments(self) -> list[Attachment]:
        """Read the attachments into memory."""
        return [Attachment(part.name, part.media_type, self._read(part)) for part in self._files.values()]

    def _read(self, part: _Part) -> bytes:
        self._spool.seek(part.offset)
        return self._spool.read(part.length)

    def begin(self, name: str, media_type: str) -> _Part:
        """Begin a part whose data follow; raises Refusal."""
        part = _Part(name, media_type, self._spool.seek(0, 2))
        if name == XML_PART:
            if self._xml is not None:
                raise Refusal(Outcome.NO_XML)
            self._xml = part
        else:
            fault = attachment_name_fault(name)
            if fault is not None:
                raise Refusal(Outcome.UNACCEPTABLE, f"an attachment's name cannot be used: {fault}")
            if name in self._files:
                raise Refusal(Outcome.UNACCEPTABLE, "two attachments have the same name")
            self._files[name] = part
        return part

    def append(self, part: _Part, data: bytes) -> None:
        """Add to the part that was begun last; raises OSError."""
        self._spool.write(data)
        part.length += len(data)

    def close(self) -> None:
        # What was not yet written to a full disk cannot be, and is not wanted any more.
        with suppress(OSError):
            self._spool.close()


class _Reader:
    """Callbacks of the multipart parser, which knows nothing of what parts mean."""

    def __init__(self, post: ReceivedPost) -> None:
        self._post = post
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value, self._header_bytes = b"", b"", 0
        self._part: _Part | None = None
        self._plain: bytearray | None = None
        self._parts = 0
        self.ended = False

    def on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise Refusal(Outcome.UNACCEPTABLE, f"it has more than {PARTS_MAX} parts")
        self._headers, self._header_bytes = {}, 0
        self._part, self._plain = None, None

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += self._counted(data, start, end)

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._counted(data, start, end)

    def _counted(self, data: bytes, start: int, end: int) -> bytes:
        self._header_bytes += end - start
        if self._header_bytes > _HEADER_BYTES_MAX:
            raise Refusal(Outcome.MALFORMED, "the headers of a part are too long")
        return bytes(data[start:end])

    def on_header_end(self) -> None:
        if len(self._headers) == _HEADERS_OF_PART_MAX:
            raise Refusal(Outcome.MALFORMED, "a part has too many headers")
        self._headers[self._field.lower()] = self._value
        self._field, self._value = b"", b""

    def on_headers_finished(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if disposition != b"form-data" or b"name" not in options:
            raise Refusal(Outcome.MALFORMED, "a part does not say its name")
        try:
            name = options[b"name"].decode()
        except UnicodeDecodeError:
            raise Refusal(Outcome.MALFORMED, "the name of a part is not UTF-8") from None
        if name != XML_PART and b"filename" not in options:
            # A field that is no file: only one of them means anything here.
            self._plain = bytearray() if name == _INCOMPLETE_FIELD else None
            return
        self._part = self._post.begin(name, _media_type(self._headers.get(b"content-type", b"")))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part is not None:
            self._post.append(self._part, data[start:end])
        elif self._plain is not None and len(self._plain) < _FIELD_BYTES_MAX:
            self._plain += data[start:end]

    def on_part_end(self) -> None:
        if self._plain is not None and bytes(self._plain).strip().lower() == b"yes":
            self._post.incomplete = True

    def on_end(self) -> None:
        self.ended = True


def _media_type(header: bytes) -> str:
    text = header.partition(b";")[0].strip().lower().decode("ascii", errors="replace")
    return text if is_media_type(text) else OCTETS


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a request names; raises Refusal when it is no multipart/form-data."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise Refusal(Outcome.NOT_MULTIPART)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= _BOUNDARY_BYTES_MAX:
        raise Refusal(Outcome.MALFORMED, "the request names no boundary")
    return boundary


async def receive(chunks: AsyncIterator[bytes], boundary: bytes, folder: Path, bytes_max: int) -> ReceivedPost:
    """Read a whole request of at most so many bytes. Raises Refusal, or OSError when the disk cannot take it."""
    post = ReceivedPost(folder)
    try:
        await _read_all(chunks, boundary, post, bytes_max)
    except BaseException:
        post.close()
        raise
    return post


async def _read_all(chunks: AsyncIterator[bytes], boundary: bytes, post: ReceivedPost, bytes_max: int) -> None:
    reader = _Reader(post)
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": reader.on_part_begin,
            "on_header_field": reader.on_header_field,
            "on_header_value": reader.on_header_value,
            "on_header_end": reader.on_header_end,
            "on_headers_finished": reader.on_headers_finished,
            "on_part_data": reader.on_part_data,
            "on_part_end": reader.on_part_end,
            "on_end": reader.on_end,
        },
    )
    received = 0
    try:
        async for chunk in chunks:
            received += len(chunk)
            if received > bytes_max:
                raise Refusal(Outcome.TOO_LARGE, f"a request has at most {bytes_max:,} bytes")
            if chunk and not reader.ended:
                parser.write(chunk)
        parser.finalize()
    except FormParserError:
        raise Refusal(Outcome.MALFORMED, "it is not what multipart/form-data should be") from None
    if not reader.ended:
        raise Refusal(Outcome.MALFORMED, "it ends before its last boundary")
