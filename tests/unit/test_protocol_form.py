"""Forms as statements: what is written is read, and hostile bytes end in one typed error."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import statement
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.form import PublishedForm, form_subject, publish_form, read_form
from sync_protocol.keys import SigningKey
from sync_protocol.limits import XFORM_BYTES_MAX
from sync_protocol.statement import parse_statement, sign_statement

SIGNER = SigningKey(bytes(range(32)))
FORM = PublishedForm("household", "3", "Үй шаруашылығы", b"<h:html/>" * 100)
NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=250)


@given(form=st.builds(PublishedForm, form=NAMES, version=NAMES | st.just(""), title=NAMES, xform=st.binary(min_size=1)))
def test_what_is_written_is_read(form: PublishedForm) -> None:
    source = parse_statement(publish_form(SIGNER, form, 7).data)
    assert (source.kind, source.subject, source.serial) == (32, form_subject(form.form), 7)
    assert read_form(source) == form


def of_body(body: bytes, subject: bytes = form_subject("household")) -> statement.Statement:
    return sign_statement(SIGNER, kind=statement.FORM, subject=subject, serial=1, body=body)


@given(at=st.integers(0, 400), with_=st.integers(1, 255), cut=st.booleans())
def test_damaged_bodies_raise_nothing_else(at: int, with_: int, cut: bool) -> None:
    body = bytearray(publish_form(SIGNER, FORM, 1).body)
    at %= len(body)
    damaged = bytes(body[:at]) if cut else bytes(body[:at]) + bytes([body[at] ^ with_]) + bytes(body[at + 1 :])
    try:
        read = read_form(of_body(damaged))
    except ProtocolError:
        return
    assert read.form == FORM.form


def bomb(announced: int, real: int) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    coded = compressor.compress(bytes(real)) + compressor.flush()
    return (9).to_bytes(2, "big") + bytes(4) + announced.to_bytes(4, "big") + b"household" + coded


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", Fault.TRUNCATED),
        (bomb(XFORM_BYTES_MAX + 1, 10), Fault.OVERSIZED),
        (bomb(1_000, 50_000_000), Fault.BAD_CONTENT),
        (bomb(1_000, 999), Fault.BAD_CONTENT),
        (bomb(1_000, 1_000) + b"x", Fault.BAD_CONTENT),
        (bomb(0, 0), Fault.BAD_FIELD),
    ],
)
def test_a_body_that_announces_another_length_is_refused(body: bytes, fault: Fault) -> None:
    with pytest.raises(ProtocolError) as raised:
        read_form(of_body(body))
    assert raised.value.fault is fault


def test_a_form_stands_under_its_own_subject_only() -> None:
    with pytest.raises(ProtocolError, match="another form"):
        read_form(of_body(publish_form(SIGNER, FORM, 1).body, form_subject("other")))


@pytest.mark.parametrize(
    "form",
    [
        PublishedForm("", "1", "t", b"x"),
        PublishedForm("f", "1", "t", b""),
        PublishedForm("f" * 251, "1", "t", b"x"),
        PublishedForm("f", "1\n", "t", b"x"),
        PublishedForm("f", "1", "t" * 501, b"x"),
        PublishedForm("f", "1", "t", bytes(XFORM_BYTES_MAX + 1)),
    ],
)
def test_what_no_statement_can_hold_is_refused(form: PublishedForm) -> None:
    with pytest.raises(ProtocolError):
        publish_form(SIGNER, form, 1)
