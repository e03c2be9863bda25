"""Bodies of XML at the center: whatever is declared or encoded how, it is read guardedly or refused."""

from __future__ import annotations

from xml.etree import ElementTree

import defusedxml.ElementTree as defused
import pytest
from defusedxml.common import DefusedXmlException
from hypothesis import example, given
from hypothesis import strategies as st

from central_broker.content_decoding import Unparsable, content_of
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
