"""What a form program handed over: recognised as a questionnaire, or refused with what is wrong and what to do.

Shallow on purpose: well-formed, bounded, and saying which form it is. What the answers mean is the center's to judge.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Final
from xml.parsers import expat

import msgspec

from sync_protocol.attachments import read_attachments
from sync_protocol.content import MEDIA_TYPE_ATTACHMENTS, MEDIA_TYPE_JSON, MEDIA_TYPE_XML, Questionnaire
from sync_protocol.errors import ProtocolError
from sync_protocol.limits import JSON_DEPTH_MAX, NAME_CHARACTERS_MAX

_META: Final = "meta"
_INSTANCE_ID: Final = "instanceID"
_DEPRECATED_ID: Final = "deprecatedID"
_TEXT_CHARACTERS_MAX: Final = 4 * NAME_CHARACTERS_MAX
"""An id with the white space around it; what is longer is refused afterwards."""
_STRING_OR_BRACKET: Final = re.compile(rb'"(?:[^"\\]|\\.?)*+"?|[\[\]{}]', re.DOTALL)
"""A string that never ends reaches to the end of the text, so that every byte is looked at once only."""


@dataclass(frozen=True)
class Unacceptable:
    """Why bytes are no questionnaire, and what to do."""

    problem: str
    remedy: str
    again: bool = False
    """The same bytes may be accepted later: the trouble is not theirs."""
    full: bool = False
    """The trouble is that the disk has no room."""


@dataclass(frozen=True)
class RawSubmission:
    """Bytes as they came, with what their bringer says of them; empty strings where it says nothing."""

    body: bytes
    media_type: str = ""
    form: str = ""
    form_version: str = ""
    instance_id: str = ""


@dataclass
class XFormIdentity:
    """What a questionnaire says of itself; empty where it says nothing."""

    form: str = ""
    form_version: str = ""
    instance_id: str = ""
    deprecated_id: str = ""
    """Of the questionnaire that this one is an edit of."""


def recognise(
    raw: RawSubmission, *, default_form: str, bytes_max: int, now: int, new_instance_id: str = ""
) -> Questionnaire | Unacceptable:
    """Return the questionnaire. One that brings no instance id is given `new_instance_id`, or a random one."""
    if not raw.body.strip():
        return Unacceptable("there is nothing in it", "submit the filled form")
    if len(raw.body) > bytes_max:
        remedy = "make its photographs smaller, or raise intake.questionnaire_bytes_max"
        return Unacceptable(f"it has {len(raw.body):,} bytes, more than the {bytes_max:,} allowed", remedy)
    media_type = raw.media_type or _guess(raw.body)
    if media_type in ("text/xml", "application/xml"):
        found, media_type = read_xform(raw.body), MEDIA_TYPE_XML
    elif media_type == MEDIA_TYPE_ATTACHMENTS:
        found = _read_with_attachments(raw.body)
    elif media_type == MEDIA_TYPE_JSON:
        found = _read_json(raw.body)
    else:
        return Unacceptable(
            f"its media type is {media_type!r}", "submit XForm XML (text/xml) or JSON (application/json)"
        )
    if isinstance(found, Unacceptable):
        return found
    form = raw.form or found.form or (default_form if media_type == MEDIA_TYPE_JSON else "")
    if not form:
        remedy = 'name the form: --form, the root element\'s id attribute, a member "form", or intake.default_form'
        return Unacceptable("it does not say which form it is", remedy)
    instance_id = raw.instance_id or found.instance_id or new_instance_id or f"uuid:{uuid.uuid4()}"
    form_version = raw.form_version or found.form_version
    for what, text in (("form", form), ("form version", form_version), ("instance id", instance_id)):
        if len(text) > NAME_CHARACTERS_MAX or not text.isprintable():
            return Unacceptable(
                f"its {what} is longer than {NAME_CHARACTERS_MAX} characters or not printable", "correct it"
            )
    return Questionnaire(form, form_version, instance_id, media_type, max(0, now), raw.body)


def _guess(body: bytes) -> str:
    return MEDIA_TYPE_XML if body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") else MEDIA_TYPE_JSON


class _JsonHints(msgspec.Struct):
    form: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    form_version: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    instance_id: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    instanceID: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)  # the spelling of OpenRosa
    meta: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


def json_problem(body: bytes) -> str | None:
    """Return why bytes are nothing that a JSON parser should be given; None when they may be."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f"it is not UTF-8 text: byte {error.start + 1}"
    return f"its JSON is nested deeper than {JSON_DEPTH_MAX} levels" if _depth(body) > JSON_DEPTH_MAX else None


def _read_json(body: bytes) -> XFormIdentity | Unacceptable:
    problem = json_problem(body)
    if problem is not None:
        return Unacceptable(problem, "correct the form program")
    try:
        hints = msgspec.json.decode(body, type=_JsonHints)
    except (msgspec.DecodeError, RecursionError) as error:
        return Unacceptable(f"it is not a JSON object: {error}", "correct the form program")
    meta = _JsonHints()
    if bytes(hints.meta).startswith(b"{"):
        meta = msgspec.json.decode(hints.meta, type=_JsonHints)
    instance_ids = (hints.instance_id, hints.instanceID, meta.instanceID, meta.instance_id)
    instance_id = next((text for text in map(_text, instance_ids) if text), "")
    return XFormIdentity(_text(hints.form), _text(hints.form_version), instance_id)


def _text(raw: msgspec.Raw) -> str:
    """Return a JSON string's text, and nothing for anything else: a household may well have a member called form."""
    return msgspec.json.decode(raw, type=str) if bytes(raw).startswith(b'"') else ""


def _depth(body: bytes) -> int:
    """Return how deep the brackets are nested; counting ends beyond the limit."""
    depth = deepest = 0
    for found in _STRING_OR_BRACKET.finditer(body):
        token = found.group() if found.end() - found.start() == 1 else b'"'
        if token != b'"':
            depth += 1 if token in b"[{" else -1
            deepest = max(deepest, depth)
            if deepest > JSON_DEPTH_MAX:
                break
    return deepest


def _read_with_attachments(body: bytes) -> XFormIdentity | Unacceptable:
    try:
        xml, _ = read_attachments(body)
    except ProtocolError as error:
        problem = f"its parts are not written as a questionnaire with attachments is: {error.detail}"
        return Unacceptable(problem, "hand it over by the OpenRosa endpoint, or write it as SPEC.md 2.2 says")
    return read_xform(xml)


def read_xform(body: bytes) -> XFormIdentity | Unacceptable:
    """Return what XForm instance XML says of itself, or why it is none."""
    reader = _XFormReader()
    try:
        reader.read(body)
    except _Doctype:
        return Unacceptable("its XML declares a document type or entities", "submit plain XForm instance XML")
    except _TooDeep:
        return Unacceptable(f"its XML is nested deeper than {JSON_DEPTH_MAX} levels", "correct the form program")
    except (expat.ExpatError, ValueError, LookupError) as error:
        return Unacceptable(f"it is not well-formed XML: {error}", "correct the form program")
    return reader.found


class _TooDeep(Exception):
    pass


class _Doctype(Exception):
    pass


class _XFormReader:
    """Finds the root's id and version and what meta (OpenRosa metadata) holds, whatever their namespace prefixes.

    On expat itself, without the layers of SAX: on a tablet they cost more than sealing does. Entities can be declared
    in a document type only, and the beginning of one ends the reading.
    """

    def __init__(self) -> None:
        self.found = XFormIdentity()
        self._path: list[str] = []
        self._text: str | None = None
        """Of the element of meta that is being read."""

    def read(self, body: bytes) -> None:
        """Read the whole text; raises _Doctype, _TooDeep, ExpatError, ValueError or LookupError."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.Parse(body, True)

    def _refuse(self, *_: object) -> None:
        raise _Doctype

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._path:
            self.found.form = attributes.get("id", "")
            self.found.form_version = attributes.get("version", "")
        self._path.append(name.rpartition(":")[2])
        depth = len(self._path)
        if depth > JSON_DEPTH_MAX:
            raise _TooDeep
        # Of three levels, and below meta: of hundreds of answers none is looked at closer.
        is_meta = depth == 3 and self._path[1] == _META and self._path[2] in (_INSTANCE_ID, _DEPRECATED_ID)
        self._text = "" if is_meta else None

    def _characters(self, content: str) -> None:
        if self._text is not None and len(self._text) <= _TEXT_CHARACTERS_MAX:
            self._text += content

    def _end(self, _name: str) -> None:
        if self._text is not None and self._path[-1] == _INSTANCE_ID:
            self.found.instance_id = (self.found.instance_id + self._text).strip()
        elif self._text is not None:
            self.found.deprecated_id = self._text.strip()
        self._path.pop()
        self._text = None
