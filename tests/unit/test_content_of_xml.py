"""Bodies of XML at the center: whatever is declared or encoded how, it is read guardedly or refused."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import defusedxml.ElementTree as defused
import pytest
from defusedxml.common import DefusedXmlException
from hypothesis import example, given
from hypothesis import strategies as st

from central_broker.content_decoding import Unparsable, content_of
from edge_agent.queue.intake.recognition import XFormIdentity, read_xform
from sync_protocol.content import MEDIA_TYPE_XML

ENTITY = '<!DOCTYPE a [<!ENTITY b "cc">]><a>&b;</a>'
ENCODINGS = ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp037", "cp1251", "koi8-r", "utf-7"]


def xml_in(encoding: str, declared: str | None, inner: str) -> bytes:
    head = "" if declared is None else f"<?xml version='1.0' encoding='{declared}'?>"
    return (
        head.encode() + inner.encode(encoding, "replace")
        if encoding == "cp037"
        else (head + inner).encode(encoding, "replace")
    )


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("spaces", ["", " " * 5_000])
def test_no_encoding_hides_a_document_type(encoding: str, spaces: str) -> None:
    for declared in (None, encoding, "utf-8", encoding.upper()):
        with pytest.raises(Unparsable):
            content_of(
                MEDIA_TYPE_XML, xml_in(encoding, declared, ENTITY).replace(b" encoding", spaces.encode() + b" encoding")
            )


def reads(body: bytes) -> ElementTree.Element | None:
    """What the guarded parser makes of a body; None when it refuses it."""
    try:
        root: ElementTree.Element = defused.fromstring(body, forbid_dtd=True)
    except (DefusedXmlException, ElementTree.ParseError, ValueError, LookupError):
        return None
    return root


PIECES = st.sampled_from(
    [
        "<a>",
        "</a>",
        "<b/>",
        "x",
        "&amp;",
        "&b;",
        "<!DOCTYPE a>",
        "<!doctype a>",
        "<!--d-->",
        "<![CDATA[<!D]]>",
        "<?p?>",
        "\0",
    ]
)


@given(
    inner=st.lists(PIECES, max_size=8).map("".join),
    declared=st.sampled_from([None, *ENCODINGS, "none"]),
    encoding=st.sampled_from(ENCODINGS),
)
@example(inner="<a>&b;</a>", declared=None, encoding="utf-8")
def test_the_quick_way_reads_what_the_guarded_one_reads_and_refuses_what_it_refuses(
    inner: str, declared: str | None, encoding: str
) -> None:
    body = xml_in(encoding, declared, inner)
    guarded = reads(body)
    try:
        content_of(MEDIA_TYPE_XML, body)
    except Unparsable:
        assert guarded is None
    else:
        assert guarded is not None


@pytest.mark.parametrize(
    "namespaces",
    [
        "",  # orx is not declared
        ' xmlns:orx=""',
        ' xmlns:orx="http://www.w3.org/2000/xmlns/"',
    ],
)
def test_what_devices_take_with_wrong_namespaces_is_read_by_its_local_names(namespaces: str) -> None:
    meta = "<orx:meta><orx:instanceID>uuid:1</orx:instanceID></orx:meta>"
    body = f"<data id='f' orx:x='1'{namespaces}><a>1</a>{meta}</data>".encode()
    assert isinstance(read_xform(body), XFormIdentity)
    assert json.loads(content_of(MEDIA_TYPE_XML, body)) == {"@id": "f", "a": "1", "meta": {"instanceID": "uuid:1"}}


@pytest.mark.parametrize("wrong", ["<a><b></a>", "<a>", "<o:a><!DOCTYPE o></o:a>", "<o:a>&b;</o:a>"])
def test_wrong_namespaces_make_nothing_else_right(wrong: str) -> None:
    with pytest.raises(Unparsable, match="not XML: line 1, column"):
        content_of(MEDIA_TYPE_XML, wrong.encode())


def test_wrong_namespaces_hide_no_document_type() -> None:
    with pytest.raises(Unparsable, match="document type"):
        content_of(MEDIA_TYPE_XML, ENTITY.replace("<a>", "<o:a>").replace("</a>", "</o:a>").encode())
