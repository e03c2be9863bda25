"""Questionnaires with attachments: one way to write them, and nothing else is read."""

from __future__ import annotations

from email.message import Message
from email.parser import BytesParser
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_protocol.attachments import (
    OCTETS,
    XML_PART,
    Attachment,
    attachment_name_fault,
    is_media_type,
    read_attachments,
    write_attachments,
)
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.limits import ATTACHMENTS_MAX, NAME_CHARACTERS_MAX, QUESTIONNAIRE_BYTES_MAX

XML = b"<data id='household'><photo>a.jpg</photo></data>"
PHOTO = Attachment("a.jpg", "image/jpeg", b"\xff\xd8\xff\r\n--census-")
VOICE = Attachment("дауыс 1.m4a", "audio/mp4", b"")

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=NAME_CHARACTERS_MAX).filter(
    lambda name: attachment_name_fault(name) is None
)
media_types = st.sampled_from([OCTETS, "image/jpeg", "text/csv", "application/vnd.x-y+z"])
files = st.lists(
    st.builds(Attachment, names, media_types, st.binary(max_size=300)),
    min_size=1,
    max_size=8,
    unique_by=lambda f: f.name,
)


@settings(max_examples=150, deadline=None)
@given(xml=st.binary(max_size=300), attachments=files)
def test_what_was_written_is_read_and_order_does_not_matter(xml: bytes, attachments: list[Attachment]) -> None:
    body = write_attachments(xml, attachments)
    read_xml, read = read_attachments(body)
    assert read_xml == xml
    assert sorted(read, key=lambda each: each.name) == sorted(attachments, key=lambda each: each.name)
    assert write_attachments(xml, reversed(attachments)) == body


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_other_bytes_are_read(data: st.DataObject) -> None:
    """Every change of a body is refused with the one error: there are no two bodies for one questionnaire."""
    body = bytearray(write_attachments(XML, [PHOTO, VOICE]))
    at = data.draw(st.integers(0, len(body) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "insert", "drop"])):
        case "flip":
            body[at] ^= data.draw(st.integers(1, 255))
        case "cut":
            del body[at:]
        case "insert":
            body[at:at] = data.draw(st.binary(min_size=1, max_size=40))
        case _:
            del body[at : at + data.draw(st.integers(1, 60))]
    if bytes(body) == write_attachments(XML, [PHOTO, VOICE]):
        return
    with pytest.raises(ProtocolError):
        read_attachments(bytes(body))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=600))
def test_hostile_bytes_raise_the_one_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_attachments(body)


def test_the_body_is_laid_out_as_the_specification_says() -> None:
    parts = (
        b'Content-Disposition: form-data; name="xml_submission_file"; filename="xml_submission_file"\r\n'
        b"Content-Type: text/xml\r\nContent-Length: %d\r\n\r\n%s" % (len(XML), XML),
        b'Content-Disposition: form-data; name="a.jpg"; filename="a.jpg"\r\n'
        b"Content-Type: image/jpeg\r\nContent-Length: 14\r\n\r\n\xff\xd8\xff\r\n--census-",
    )
    boundary = b"census-" + sha256(b"census-sync/1 attachments\0" + b"".join(parts)).hexdigest()[:32].encode()
    expected = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"
    assert write_attachments(XML, [PHOTO]) == expected
    assert boundary == b"census-290c7ce133e72e3e24c615879c688334"


def test_any_parser_of_multipart_takes_the_files_apart() -> None:
    body = write_attachments(XML, [VOICE, PHOTO])
    boundary = body[2 : body.index(b"\r\n")].decode()
    head = f'Content-Type: multipart/form-data; boundary="{boundary}"\r\n\r\n'.encode()
    parts = BytesParser().parsebytes(head + body).get_payload()
    assert isinstance(parts, list)
    assert [part.get_payload(decode=True) for part in parts if isinstance(part, Message)] == [XML, PHOTO.data, b""]


@pytest.mark.parametrize(
    ("attachments", "fault"),
    [
        ([], Fault.BAD_FIELD),
        ([PHOTO, PHOTO], Fault.BAD_FIELD),
        ([Attachment(XML_PART, OCTETS, b"")], Fault.BAD_FIELD),
        ([Attachment('a"b', OCTETS, b"")], Fault.BAD_FIELD),
        ([Attachment("a\r\nb", OCTETS, b"")], Fault.BAD_FIELD),
        ([Attachment("../a", OCTETS, b"")], Fault.BAD_FIELD),
        ([Attachment("\ud800", OCTETS, b"")], Fault.BAD_FIELD),
        ([Attachment("n" * 251, OCTETS, b"")], Fault.BAD_FIELD),
        ([Attachment("a", "image", b"")], Fault.BAD_FIELD),
        ([Attachment("a", "image/jpeg\r\nX: y", b"")], Fault.BAD_FIELD),
        ([Attachment("a", OCTETS, bytes(QUESTIONNAIRE_BYTES_MAX))], Fault.OVERSIZED),
        ([Attachment(str(n), OCTETS, b"") for n in range(ATTACHMENTS_MAX + 1)], Fault.OVERSIZED),
    ],
)
def test_what_cannot_be_written_is_refused(attachments: list[Attachment], fault: Fault) -> None:
    with pytest.raises(ProtocolError) as raised:
        write_attachments(XML, attachments)
    assert raised.value.fault is fault


def test_a_thousand_attachments_can_be_written() -> None:
    attachments = [Attachment(f"{n:04}", OCTETS, b"") for n in range(ATTACHMENTS_MAX)]
    assert read_attachments(write_attachments(XML, attachments)) == (XML, tuple(attachments))


@pytest.mark.parametrize("text", ["Image/jpeg", "image/", "/jpeg", "image/jpeg; q=1", "", "a/" + "b" * 100])
def test_media_types_are_plain(text: str) -> None:
    assert not is_media_type(text)
