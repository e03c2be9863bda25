"""What the center makes of a questionnaire with attachments: the content of its XML, and the files listed."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from central_broker.content_decoding import Unparsable, content_of, parts_of
from sync_protocol.attachments import Attachment, write_attachments
from sync_protocol.content import MEDIA_TYPE_ATTACHMENTS, MEDIA_TYPE_XML

XML = b'<data id="household" version="3"><attachments>no</attachments><photo>a.jpg</photo></data>'
PHOTO = Attachment("a.jpg", "image/jpeg", b"\xff\xd8")


def test_files_are_listed_where_no_question_can_be() -> None:
    body = write_attachments(XML, [PHOTO])
    content = json.loads(content_of(MEDIA_TYPE_ATTACHMENTS, body))
    assert content.pop("@attachments") == [
        {"name": "a.jpg", "media_type": "image/jpeg", "bytes": 2, "sha256": sha256(PHOTO.data).hexdigest()}
    ]
    assert content == json.loads(content_of(MEDIA_TYPE_XML, XML))
    assert parts_of(MEDIA_TYPE_ATTACHMENTS, body) == (XML, (PHOTO,))


def test_what_cannot_be_taken_apart_is_unparsable() -> None:
    with pytest.raises(Unparsable, match="cannot be taken apart"):
        content_of(MEDIA_TYPE_ATTACHMENTS, write_attachments(XML, [PHOTO])[:-1])
    with pytest.raises(Unparsable):
        content_of(MEDIA_TYPE_ATTACHMENTS, write_attachments(b"<data>", [PHOTO]))
