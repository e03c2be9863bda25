"""Bodies of questionnaires to JSON that every database accepts. Pure: no I/O, no clock.

`body` is always stored exactly; what is made here is the parsed `content` beside it. Databases cannot carry all that
JSON can say, so the content replaces:

- U+0000 and lone surrogates in texts and names, by U+FFFD;
- numbers that a double cannot carry (beyond ±1.8e308, nonzero below 1e-307) or with more than 300 digits, by a text
  with their digits.

XForm XML becomes one JSON object: the members of the root element by local name, `@id` and `@version` from its
attributes; a leaf is a text, an element with children an object (with its own text as `#text`), repeated siblings are
an array. Of a body with attachments it is that of its XML, and `@attachments` lists the files: an array of objects with
`name`, `media_type`, `bytes` and `sha256`. No element can have such a name.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, ParseError
from xml.parsers import expat

import defusedxml.ElementTree as defused
import msgspec
from defusedxml.common import DefusedXmlException, DTDForbidden

from sync_protocol.attachments import Attachment, read_attachments
from sync_protocol.content import MEDIA_TYPE_ATTACHMENTS, MEDIA_TYPE_JSON
from sync_protocol.errors import ProtocolError
from sync_protocol.limits import JSON_DEPTH_MAX

_DIGITS_MAX: Final = 300
_INTEGER_DIGITS_PLAIN: Final = 18
_GREATEST: Final = Decimal("1.7e308")
_LEAST: Final = Decimal("1e-307")
_PLAIN_BYTES_MAX: Final = 16_000
"""Below this no run of digits is too long for PostgreSQL's numeric (16,383 digits after the point)."""

_DELICATE_ESCAPE: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_DELICATE_EXPONENT: Final = re.compile(rb"[eE]-\d{3}")
_LONG_DIGITS: Final = re.compile(rb"\d{300}")
_ENCODING: Final = re.compile(rb"encoding\s*=\s*[\"']([^\"']*)[\"']")
_UNCARRIABLE: Final = re.compile("[\0\ud800-\udfff]")

_decoder: Final = msgspec.json.Decoder()
_encoder: Final = msgspec.json.Encoder(decimal_format="number")


class Unparsable(ValueError):
    """The body is not what its media type says; the message never quotes it."""


def content_of(media_type: str, body: bytes) -> str:
    """Return the content as JSON text of one object; raises Unparsable."""
    if media_type == MEDIA_TYPE_JSON:
        return _json_content(body)
    xml, attachments = parts_of(media_type, body)
    return _xml_content(xml, {"@attachments": [_described(each) for each in attachments]} if attachments else {})


def parts_of(media_type: str, body: bytes) -> tuple[bytes, tuple[Attachment, ...]]:
    """Return the XML of an XForm instance and the files that came with it; raises Unparsable."""
    if media_type != MEDIA_TYPE_ATTACHMENTS:
        return body, ()
    try:
        return read_attachments(body)
    except ProtocolError as error:
        raise Unparsable(f"the questionnaire and its attachments cannot be taken apart: {error.detail}") from None


def _described(attachment: Attachment) -> dict[str, Any]:
    return {
        "name": attachment.name,
        "media_type": attachment.media_type,
        "bytes": len(attachment.data),
        "sha256": sha256(attachment.data).hexdigest(),
    }


def _json_content(body: bytes) -> str:
    try:
        value = _decoder.decode(body)
        delicate = _is_delicate(body)
    except (ValueError, RecursionError):
        # Either not JSON, or JSON with something msgspec refuses (numbers, surrogates): the patient parser decides.
        value, delicate = None, True
    if delicate:
        value = _parse_patiently(body)
    if not isinstance(value, dict):
        raise Unparsable("the questionnaire is JSON, but not an object")
    # Nesting needs brackets: mostly there are too few of them to look further.
    if body.count(b"{") + body.count(b"[") > JSON_DEPTH_MAX:
        _check_depth(value)
    if not delicate:
        return body.decode()
    return _encoder.encode(_carriable(value)).decode()


def _is_delicate(body: bytes) -> bool:
    if b"\\u" in body and _DELICATE_ESCAPE.search(body):
        return True
    if len(body) > _PLAIN_BYTES_MAX and _LONG_DIGITS.search(body):
        return True
    # What is too great, msgspec has refused; what is too small, it has made zero.
    return (b"e-" in body or b"E-" in body) and _DELICATE_EXPONENT.search(body) is not None


def _parse_patiently(body: bytes) -> Any:
    try:
        return json.loads(
            body.decode("utf-8-sig"), parse_int=_number, parse_float=_number, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError:
        raise Unparsable("the questionnaire is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise Unparsable(
            f"the questionnaire is not JSON: {error.msg}, line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise Unparsable(f"the questionnaire nests deeper than {JSON_DEPTH_MAX} levels") from None


def _refuse_constant(name: str) -> Any:
    raise Unparsable(f"the questionnaire is not JSON: {name} is not a number of it")


def _number(literal: str) -> int | Decimal | str:
    if len(literal) <= _INTEGER_DIGITS_PLAIN and literal.lstrip("-").isdigit():
        return int(literal)
    if len(literal) > _DIGITS_MAX:
        return literal
    try:
        number = Decimal(literal)
    except ArithmeticError:  # an exponent that even Decimal does not count
        return literal
    size = number.copy_abs()  # abs() would round, and overflow
    return number if not size or _LEAST <= size <= _GREATEST else literal


def _carriable(value: Any) -> Any:
    """Return the value with every text carriable; its depth has been checked."""
    if isinstance(value, str):
        return _UNCARRIABLE.sub("�", value)
    if isinstance(value, dict):
        return {_UNCARRIABLE.sub("�", name): _carriable(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_carriable(member) for member in value]
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(JSON_DEPTH_MAX):
        level = [
            member
            for container in level
            for member in (container.values() if isinstance(container, dict) else container)
            if isinstance(member, dict | list)
        ]
        if not level:
            return
    raise Unparsable(f"the questionnaire nests deeper than {JSON_DEPTH_MAX} levels")


def _xml_content(body: bytes, beside: dict[str, Any]) -> str:
    try:
        root = _parsed(body)
    except DefusedXmlException:
        raise Unparsable("the questionnaire declares a document type or entities, which are not accepted") from None
    except expat.ExpatError as error:
        raise Unparsable(f"the questionnaire is not XML: line {error.lineno}, column {error.offset}") from None
    except (ValueError, LookupError):  # an encoding that is not known, or does not fit
        raise Unparsable("the questionnaire's XML encoding cannot be read") from None
    converted = _element(root, 1)
    content = converted if isinstance(converted, dict) else {"#text": converted}
    marks = {f"@{name}": root.attrib[name] for name in ("id", "version") if name in root.attrib}
    return _encoder.encode(marks | beside | content).decode()


def _parsed(body: bytes) -> Element:
    """Return the root; raises DefusedXmlException, ExpatError, ValueError or LookupError."""
    try:
        return ElementTree.fromstring(body) if _declares_nothing(body) else defused.fromstring(body, forbid_dtd=True)  # noqa: S314 - see there
    except ParseError:
        return _parsed_without_namespaces(body)


def _parsed_without_namespaces(body: bytes) -> Element:
    """As `_parsed`, of XML whose namespaces are wrong, a prefix that is not declared among them.

    Devices and ODK Central take it, as only local names count.
    """
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_document_type
    parser.StartElementHandler = lambda name, attributes: builder.start(name.rpartition(":")[2], attributes)
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(body, True)
    root: Element = builder.close()
    return root


def _refuse_document_type(name: str, system: str | None, public: str | None, _internal: int) -> None:
    raise DTDForbidden(name, system, public)


def _declares_nothing(body: bytes) -> bool:
    """Tell whether it is certain that a body has no document type, and so no entities of its own, without parsing it.

    The guarded parser takes three times as long as the plain one. Bytes can be searched only where they are UTF-8: not
    in UTF-16, which has zeros, nor in an encoding that the XML declaration names.
    """
    if b"<!D" in body or b"\0" in body:
        return False
    end = body.find(b"?>")
    named = _ENCODING.search(body, 0, end) if end >= 0 else None
    return named is None or named[1].lower() == b"utf-8"


def _element(element: Element, depth: int) -> dict[str, Any] | str:
    text = (element.text or "").strip()
    if not len(element):
        return text
    if depth >= JSON_DEPTH_MAX:
        raise Unparsable(f"the questionnaire nests deeper than {JSON_DEPTH_MAX} levels")
    members: dict[str, Any] = {"#text": text} if text else {}
    repeated: set[str] = set()
    for child in element:
        name = child.tag.rpartition("}")[2]
        value = _element(child, depth + 1)
        if name in repeated:
            members[name].append(value)
        elif name in members:
            members[name] = [members[name], value]
            repeated.add(name)
        else:
            members[name] = value
    return members
