"""A questionnaire with attachments as one body (SPEC.md §2.2): written in one way only, and read only when so written.

The format is also correct `multipart/form-data`, so that any parser of it can take the files apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from sync_protocol.domains import ATTACHMENTS
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.limits import ATTACHMENTS_MAX, NAME_CHARACTERS_MAX, QUESTIONNAIRE_BYTES_MAX

XML_PART: Final = "xml_submission_file"
"""The first part's name, by the OpenRosa form submission API."""
OCTETS: Final = "application/octet-stream"
"""The media type of an attachment that names none."""

_XML_PART_TYPE: Final = "text/xml"
_MEDIA_TYPE_CHARACTERS_MAX: Final = 100
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*", re.ASCII)
_BOUNDARY_DIGITS: Final = 32
_BOUNDARY_PREFIX: Final = b"census-"
_BOUNDARY_LINE_BYTES: Final = 2 + len(_BOUNDARY_PREFIX) + _BOUNDARY_DIGITS + 2
_HEADER: Final = re.compile(
    rb'Content-Disposition: form-data; name="([^"\r\n]{1,1000})"; filename="\1"\r\n'
    rb"Content-Type: ([^\r\n]{1,100})\r\nContent-Length: (0|[1-9][0-9]{0,8})\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Attachment:
    """One file, under the name by which the questionnaire's XML speaks of it."""

    name: str
    media_type: str
    data: bytes


def attachment_name_fault(name: str) -> str | None:
    """Return what is wrong with a name for an attachment, or None."""
    if not 1 <= len(name) <= NAME_CHARACTERS_MAX:
        return f"it does not have 1 to {NAME_CHARACTERS_MAX} characters"
    if not name.isprintable() or set(name) & set('"/\\') or name in (".", ".."):
        return "it has characters that no file's name may have"
    return "it is the name of the XML itself" if name == XML_PART else None


def is_media_type(text: str) -> bool:
    """Return whether an attachment may name this as its media type: small letters, without parameters."""
    return len(text) <= _MEDIA_TYPE_CHARACTERS_MAX and _MEDIA_TYPE.fullmatch(text) is not None


def write_attachments(xml: bytes, attachments: Iterable[Attachment]) -> bytes:
    """Return the one body that these make, in whatever order they come.

    Raises ProtocolError (oversized, bad_field) when there is none, a name or media type cannot be, or a name comes
    twice.
    """
    ordered = sorted(attachments, key=lambda attachment: attachment.name.encode(errors="surrogatepass"))
    _check_attachments(ordered)
    parts = [(_header(XML_PART, _XML_PART_TYPE, len(xml)), xml)]
    parts += [(_header(each.name, each.media_type, len(each.data)), each.data) for each in ordered]
    delimiter = b"--" + _boundary(parts)
    pieces: list[bytes] = []
    for header, data in parts:
        pieces += [delimiter, b"\r\n", header, data, b"\r\n"]
    pieces += [delimiter, b"--\r\n"]
    if sum(map(len, pieces)) > QUESTIONNAIRE_BYTES_MAX:
        raise ProtocolError(
            Fault.OVERSIZED, f"a questionnaire and its attachments have at most {QUESTIONNAIRE_BYTES_MAX} bytes"
        )
    return b"".join(pieces)


def read_attachments(body: bytes) -> tuple[bytes, tuple[Attachment, ...]]:
    """Return the XML and the attachments of a body that `write_attachments` may have made.

    Raises ProtocolError (truncated, oversized, bad_field, bad_content, trailing_bytes) for any other.
    """
    if len(body) > QUESTIONNAIRE_BYTES_MAX:
        raise ProtocolError(Fault.OVERSIZED, "the body is larger than a questionnaire may be")
    delimiter = body[: _BOUNDARY_LINE_BYTES - 2]
    if body[_BOUNDARY_LINE_BYTES - 2 : _BOUNDARY_LINE_BYTES] != b"\r\n":
        raise ProtocolError(Fault.BAD_CONTENT, "the body does not begin with a boundary of SPEC.md 2.2")
    xml, offset = _read_part(body, _BOUNDARY_LINE_BYTES, (XML_PART, _XML_PART_TYPE))
    parts = [(_header(XML_PART, _XML_PART_TYPE, len(xml)), xml)]
    attachments: list[Attachment] = []
    while not body.startswith(delimiter + b"--\r\n", offset):
        if not body.startswith(delimiter + b"\r\n", offset):
            raise ProtocolError(Fault.TRUNCATED, "a boundary is missing behind a part")
        if len(attachments) == ATTACHMENTS_MAX:
            raise ProtocolError(Fault.OVERSIZED, f"there are more than {ATTACHMENTS_MAX} attachments")
        attachment, offset = _read_attachment(body, offset + _BOUNDARY_LINE_BYTES)
        attachments.append(attachment)
        parts.append((_header(attachment.name, attachment.media_type, len(attachment.data)), attachment.data))
    if offset + len(delimiter) + 4 != len(body):
        raise ProtocolError(Fault.TRAILING_BYTES, "something follows the last boundary")
    _check_attachments(attachments)
    if delimiter != b"--" + _boundary(parts):
        raise ProtocolError(Fault.BAD_CONTENT, "the boundary is not the one that the parts make")
    return xml, tuple(attachments)


def _check_attachments(attachments: list[Attachment]) -> None:
    if not attachments:
        raise ProtocolError(Fault.BAD_FIELD, "a questionnaire without attachments is text/xml")
    if len(attachments) > ATTACHMENTS_MAX:
        raise ProtocolError(Fault.OVERSIZED, f"a questionnaire has at most {ATTACHMENTS_MAX} attachments")
    before = b""
    for attachment in attachments:
        if attachment_name_fault(attachment.name) is not None or not is_media_type(attachment.media_type):
            raise ProtocolError(Fault.BAD_FIELD, "an attachment's name or media type cannot be")
        name = attachment.name.encode()
        if name <= before:
            raise ProtocolError(Fault.BAD_FIELD, "two attachments have one name, or they are out of order")
        before = name


def _header(name: str, media_type: str, length: int) -> bytes:
    return (
        f'Content-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        f"Content-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def _boundary(parts: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return what no part can contain by chance or by design, as it follows from all of them."""
    digest = sha256(ATTACHMENTS)
    for header, data in parts:
        digest.update(header)
        digest.update(data)
    return _BOUNDARY_PREFIX + digest.hexdigest()[:_BOUNDARY_DIGITS].encode()


def _read_attachment(body: bytes, offset: int) -> tuple[Attachment, int]:
    name, media_type, start, length = _read_header(body, offset)
    data, behind = _read_data(body, start, length)
    return Attachment(name, media_type, data), behind


def _read_part(body: bytes, offset: int, expected: tuple[str, str]) -> tuple[bytes, int]:
    name, media_type, start, length = _read_header(body, offset)
    if (name, media_type) != expected:
        raise ProtocolError(Fault.BAD_FIELD, "the first part is not the XML")
    return _read_data(body, start, length)


def _read_header(body: bytes, offset: int) -> tuple[str, str, int, int]:
    """Return a part's name, media type, where its data begin, and their length."""
    found = _HEADER.match(body, offset)
    if found is None:
        raise ProtocolError(Fault.BAD_CONTENT, "a part's header is not as SPEC.md 2.2 writes it")
    name, media_type, length = found.groups()
    try:
        return name.decode(), media_type.decode("ascii"), found.end(), int(length)
    except UnicodeDecodeError:
        raise ProtocolError(Fault.BAD_FIELD, "a part's name is not UTF-8") from None


def _read_data(body: bytes, start: int, length: int) -> tuple[bytes, int]:
    """Return the data and the offset behind their line end; a length is believed only when the bytes are there."""
    end = start + length
    if body[end : end + 2] != b"\r\n":
        raise ProtocolError(Fault.TRUNCATED, "a part announces more or fewer bytes than there are")
    return body[start:end], end + 2
