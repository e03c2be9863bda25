"""What is fuzzed: every reader of bytes that a form program, a form's author or a stranger on the way can choose.

A target takes any bytes. It returns when they were read or refused as the reader promises, and raises for everything
else: another exception is a crash, and AssertionError says that what was read is not what it should be.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from central_broker.acceptance import read_answers
from central_broker.content_decoding import Unparsable, content_of
from central_broker.forms.columns import FormTables, tables_of
from central_broker.forms.definition import FormRefused
from central_broker.forms.registry import FormRegistry
from central_broker.forms.xform import read_xform
from edge_agent.queue.intake.openrosa.receiving import ReceivedPost, Refusal, boundary_of, receive
from edge_agent.queue.intake.recognition import RawSubmission, Unacceptable, recognise
from sync_protocol.attachments import XML_PART, Attachment, read_attachments, write_attachments
from sync_protocol.content import MEDIA_TYPE_JSON, MEDIA_TYPE_XML
from sync_protocol.errors import ProtocolError
from sync_protocol.form import PublishedForm, form_subject, publish_form, read_form
from sync_protocol.form_file import FormFile, file_subject, publish_file, read_file
from sync_protocol.keys import SigningKey
from sync_protocol.limits import QUESTIONNAIRE_BYTES_MAX
from sync_protocol.statement import FORM, FORM_FILE, Statement, parse_statement
from tests.support.collect import multipart, submission_parts
from tests.support.xforms import xform

_FORM: Final = xform(
    "<village/><rooms/><area/><visited/><ended/><place/><heating/><devices/>"
    "<persons><name/><age/><languages/></persons><persons><name/></persons>",
    binds="".join(
        f'<bind nodeset="/data/{path}" type="{kind}"{more}/>'
        for path, kind, more in (
            ("village", "string", ' required="true()"'),
            ("rooms", "int", ""),
            ("area", "decimal", ""),
            ("visited", "date", ""),
            ("ended", "dateTime", ""),
            ("place", "geopoint", ""),
            ("heating", "select1", ""),
            ("devices", "select", ""),
            ("persons/age", "int", ""),
            ("persons/languages", "select", ""),
        )
    ),
    body='<select1 ref="/data/heating"><item><value>1</value></item></select1>'
    '<group ref="/data/persons"><repeat nodeset="/data/persons"><input ref="/data/persons/name"/>'
    '<select ref="/data/persons/languages"><itemset nodeset="instance(\'l\')/root/item"><value ref="name"/></itemset>'
    "</select></repeat></group>",
    lists='<instance id="l"><root><item><name>kk</name></item></root></instance>',
)
_ANSWERS: Final = (
    '<?xml version="1.0" encoding="UTF-8"?><data id="f" version="1" xmlns:orx="http://openrosa.org/xforms">'
    "<village>Аксу</village><rooms>3</rooms><area>41.5</area><visited>2021-10-05</visited>"
    "<ended>2021-10-05T09:30:00.000+06:00</ended><place>51.1 71.4 0 5</place><heating>1</heating>"
    "<devices>radio car</devices>"
    "<persons><name>Айгүл &amp; Co</name><age>33</age><languages>kk ru</languages></persons>"
    "<persons><name><![CDATA[<x>]]></name><age>four</age></persons>"
    "<orx:meta><orx:instanceID>uuid:1</orx:instanceID><orx:deprecatedID>uuid:0</orx:deprecatedID></orx:meta></data>"
).encode()
_JSON: Final = (
    b'{"form":"f","form_version":"1","meta":{"instanceID":"uuid:1"},"village":"\\u0410\\ud83d\\ude00","rooms":3,'
    b'"area":-1.5e-3,"visited":"2021-10-05","devices":["radio","car"],"persons":[{"age":33},null,{"age":1e400}]}'
)
_BOUNDARY: Final = "b"
_POST_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True)
class Target:
    """One reader, and inputs that lead into it."""

    read: Callable[[bytes], None]
    seeds: Sequence[bytes]
    dictionary: Sequence[str] = ()
    """Words that the inputs are made of."""


@cache
def _tables() -> FormTables:
    return tables_of(read_xform(_FORM))


@cache
def _registry() -> FormRegistry:
    return FormRegistry({("f", "1"): _FORM}, {("f", "1"): _tables()})


def read_form_definition(data: bytes) -> None:
    """An XForm that somebody gives to `central-broker forms add`: its tables, or FormRefused."""
    try:
        tables = tables_of(read_xform(data)).tables
    except FormRefused:
        return
    names = [table.name for table in tables]
    assert len(set(names)) == len(names), "two tables have one name"
    for table in tables:
        columns = [column.name for column in table.columns]
        assert len(set(columns)) == len(columns), "two columns have one name"


def read_xml_answers(data: bytes) -> None:
    """XForm instance XML: what the edge takes, the center makes rows of."""
    _answers(MEDIA_TYPE_XML, data)


def read_json_answers(data: bytes) -> None:
    """JSON: what the edge takes, the center makes rows of."""
    _answers(MEDIA_TYPE_JSON, data)


def _answers(media_type: str, data: bytes) -> None:
    raw = RawSubmission(data, media_type)
    taken = recognise(raw, default_form="f", bytes_max=QUESTIONNAIRE_BYTES_MAX, now=1, new_instance_id="uuid:new")
    try:
        content = content_of(media_type, data)
    except Unparsable:
        assert isinstance(taken, Unacceptable), "the edge has taken what the center cannot read"
        return
    assert isinstance(json.loads(content), dict)
    assert "\0" not in content and "\\u0000" not in content.replace("\\\\", ""), "a text that PostgreSQL refuses"
    content.encode()
    answers = read_answers("f", "1", content, _registry())
    assert answers is not None
    widths = {table.name: len(table.columns) for table in _tables().tables}
    for table, rows in answers.rows:
        assert all(len(row) >= widths[table.name] for row in rows)


def read_attached(data: bytes) -> None:
    """A body with attachments: read only if written in the one way (SPEC.md 2.2)."""
    try:
        xml, attachments = read_attachments(data)
    except ProtocolError:
        return
    assert write_attachments(xml, attachments) == data, "another body was read as if it were this one"


def receive_post(data: bytes) -> None:
    """The body of a request, in pieces whose length its first byte says, with a boundary that was announced."""
    pieces = 1 + data[0] if data else 1
    body = data[1:]
    try:
        post = _driven(receive(_chunks(body, pieces), _BOUNDARY.encode(), Path(tempfile.gettempdir()), _POST_BYTES_MAX))
    except Refusal:
        return
    with closing(post):
        _check_received(post, body)


def _check_received(post: ReceivedPost, body: bytes) -> None:
    assert post.data_bytes <= len(body)
    attachments = post.attachments()
    assert all(each.data in body for each in attachments), "bytes that nobody sent"
    try:
        xml = post.xml()
    except Refusal:
        return
    assert xml in body
    try:
        written = write_attachments(xml, attachments)
    except ProtocolError:
        return
    assert read_attachments(written)[0] == xml


def read_content_type(data: bytes) -> None:
    """The header that announces a boundary."""
    try:
        boundary_of(data.decode("latin-1"))
    except Refusal:
        return


def read_published_form(data: bytes) -> None:
    """A form as it travels: the whole statement, and its body alone, as if it had been signed."""
    with suppress(ProtocolError):
        _check_form(parse_statement(data))
    with suppress(ProtocolError):
        _check_form(Statement(b"", FORM, b"", form_subject("f"), 1, data))


def read_form_file(data: bytes) -> None:
    """A file of a form in a signed statement."""
    with suppress(ProtocolError):
        read_file(parse_statement(data))
    with suppress(ProtocolError):
        read_file(Statement(b"", FORM_FILE, b"", file_subject("f", "a.csv"), 1, data))


def _check_form(source: Statement) -> None:
    form = read_form(source)
    assert form.form and (form.xform or not form.files)


async def _chunks(body: bytes, size: int) -> AsyncIterator[bytes]:
    for offset in range(0, len(body), size):
        yield body[offset : offset + size]


def _driven(work: Coroutine[Any, Any, ReceivedPost]) -> ReceivedPost:
    """Run what never waits, without an event loop."""
    try:
        work.send(None)
    except StopIteration as ended:
        post: ReceivedPost = ended.value
        return post
    raise AssertionError("it waits for something")


_FILES: Final = [("a.jpg", "image/jpeg", b"\xff\xd8" + bytes(20)), ("b.mp3", "audio/mpeg", b"--b\r\n")]
_POST: Final = multipart(submission_parts(_ANSWERS, _FILES, incomplete=True), _BOUNDARY)
_PUBLISHED: Final = publish_form(SigningKey(bytes(32)), PublishedForm("f", "1", "Form", _FORM), 7)
_FORM_FILE: Final = publish_file(SigningKey(bytes(32)), FormFile("f", "a.csv", b"name,label\n" * 9), 7)

TARGETS: Final = {
    "form": Target(
        read_form_definition,
        [_FORM, xform("<q/>", binds='<bind nodeset="/data/q" type="int"/>')],
        ("<bind nodeset=", "type=", "<instance>", "<repeat nodeset=", "<itemset", "/data/", "select1", "<!DOCTYPE"),
    ),
    "xml": Target(
        read_xml_answers,
        [
            _ANSWERS,
            b'<data id="f"><persons/><persons><age> 7 </age></persons></data>',
            _ANSWERS.decode().encode("utf-16"),
        ],
        ("<persons>", "</persons>", "<age>", "encoding='", "utf-16", "koi8-r", "<!DOCTYPE", "<![CDATA[", "&#x10FFFF;"),
    ),
    "json": Target(
        read_json_answers,
        [_JSON, b'{"persons":{"age":"7"},"devices":"a b"}', b"\xef\xbb\xbf{}"],
        ('"persons":', '"\\u0000"', '"\\ud800"', "1e-400", "NaN", "null", '"devices":'),
    ),
    "attachments": Target(
        read_attached,
        [
            write_attachments(_ANSWERS, [Attachment(*one) for one in _FILES]),
            write_attachments(b"<a/>", [Attachment("a", "a/b", b"")]),
        ],
        ("Content-Disposition: form-data; name=", "Content-Length: ", "\r\n\r\n", "--census-"),
    ),
    "multipart": Target(
        receive_post,
        [bytes([255]) + _POST, bytes([3]) + _POST],
        ("--b\r\n", "--b--", "Content-Disposition: form-data; name=", f'"{XML_PART}"', "; filename=", "*isIncomplete*"),
    ),
    "content-type": Target(
        read_content_type,
        [b"multipart/form-data; boundary=b", b'multipart/form-data; charset=utf-8; boundary="a\\"b"'],
        ("multipart/form-data", "; boundary=", "boundary*=utf-8''", '"'),
    ),
    "form-file": Target(read_form_file, [_FORM_FILE.data, _FORM_FILE.body]),
    "published-form": Target(read_published_form, [_PUBLISHED.data, _PUBLISHED.body]),
}
"""By the name that `make fuzz` knows them by."""
