"""Files of forms as statements: what is written is read, and hostile bytes end in one typed error."""

from __future__ import annotations

import os
import zlib
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.form import PublishedForm, form_subject, publish_form, read_form, withdraw_form
from sync_protocol.form_file import FormFile, file_subject, is_file_name, publish_file, read_file
from sync_protocol.keys import SigningKey
from sync_protocol.limits import FORM_FILE_BYTES_MAX
from sync_protocol.statement import FORM, FORM_FILE, Statement, parse_statement, sign_statement

SIGNER = SigningKey(bytes(range(32)))
FILE = FormFile("household", "Ауылдар.csv", b"name,label\n" + b"590-17,\xd0\x90\n" * 50)
FORM_WITH_FILES = PublishedForm(
    "household", "3", "Household", b"<form/>", {name: sha256(name.encode()).digest() for name in ("map.png", "ә.csv")}
)
NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=50)


@given(form=NAMES, name=NAMES, content=st.binary())
def test_what_is_written_is_read(form: str, name: str, content: bytes) -> None:
    source = parse_statement(publish_file(SIGNER, FormFile(form, name, content), 7).data)
    assert (source.kind, source.subject, source.serial) == (34, file_subject(form, name), 7)
    assert read_file(source) == FormFile(form, name, content)


def of_body(body: bytes, subject: bytes = file_subject(FILE.form, FILE.name), kind: int = FORM_FILE) -> Statement:
    return sign_statement(SIGNER, kind=kind, subject=subject, serial=1, body=body)


@given(at=st.integers(0, 400), with_=st.integers(1, 255), cut=st.booleans())
def test_damaged_files_are_refused(at: int, with_: int, cut: bool) -> None:
    body = bytearray(publish_file(SIGNER, FILE, 1).body)
    at %= len(body)
    damaged = bytes(body[:at]) if cut else bytes(body[:at]) + bytes([body[at] ^ with_]) + bytes(body[at + 1 :])
    with pytest.raises(ProtocolError):
        read_file(of_body(damaged))


@given(body=st.binary(max_size=300))
def test_any_bytes_raise_nothing_else(body: bytes) -> None:
    for kind, read in ((FORM_FILE, read_file), (FORM, read_form)):
        try:
            read(of_body(body, kind=kind))
        except ProtocolError:
            continue
        pytest.fail("it was read under the subject of another")


def bomb(announced: int, real: int, coding: int = 1) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    coded = compressor.compress(bytes(real)) + compressor.flush()
    names = FILE.form.encode(), FILE.name.encode()
    lengths = len(names[0]).to_bytes(2, "big") + bytes([len(names[1]), coding]) + announced.to_bytes(4, "big")
    return lengths + sha256(bytes(real)).digest() + b"".join(names) + coded


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", Fault.TRUNCATED),
        (bomb(FORM_FILE_BYTES_MAX + 1, 10), Fault.OVERSIZED),
        (bomb(1_000, 50_000_000), Fault.BAD_CONTENT),
        (bomb(1_000, 999), Fault.BAD_CONTENT),
        (bomb(1_000, 1_000) + b"x", Fault.BAD_CONTENT),
        (bomb(1_000, 1_000, coding=2), Fault.BAD_FIELD),
    ],
)
def test_a_file_that_is_not_what_it_announces_is_refused(body: bytes, fault: Fault) -> None:
    with pytest.raises(ProtocolError) as raised:
        read_file(of_body(body))
    assert raised.value.fault is fault


def test_a_file_stands_under_its_own_subject_only() -> None:
    with pytest.raises(ProtocolError, match="another file"):
        read_file(of_body(publish_file(SIGNER, FILE, 1).body, file_subject("other", FILE.name)))


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "a/b", "../a", "a\\b", 'a"', "a\nb", "a" * 101, "ә" * 101, "𐍈" * 51]
)
def test_a_name_is_a_plain_one_and_never_a_path(name: str) -> None:
    assert not is_file_name(name)
    with pytest.raises(ProtocolError):
        publish_file(SIGNER, replace(FILE, name=name), 1)
    with pytest.raises(ProtocolError):
        publish_form(SIGNER, replace(FORM_WITH_FILES, files={name: bytes(32)}), 1)


def test_a_file_that_does_not_fit_a_statement_is_refused() -> None:
    with pytest.raises(ProtocolError) as raised:
        publish_file(SIGNER, replace(FILE, content=os.urandom(201 * 1024)), 1)
    assert raised.value.fault is Fault.OVERSIZED


def test_a_form_names_its_files_in_one_order_only() -> None:
    body = publish_form(SIGNER, FORM_WITH_FILES, 1).body
    assert read_form(of_body(body, form_subject("household"), FORM)) == FORM_WITH_FILES
    first, second = (
        bytes([len(name.encode())]) + digest + name.encode() for name, digest in FORM_WITH_FILES.files.items()
    )
    assert body.count(first + second) == 1
    for wrong in (second + first, first + first):
        with pytest.raises(ProtocolError, match=r"not in order|deflated"):
            read_form(of_body(body.replace(first + second, wrong), form_subject("household"), FORM))


def test_a_form_without_xform_is_withdrawn_and_has_nothing_else() -> None:
    withdrawn = withdraw_form(SIGNER, "household", "3", 8)
    assert read_form(withdrawn) == PublishedForm("household", "3", "", b"")
    with pytest.raises(ProtocolError, match="withdrawn"):
        read_form(of_body(withdrawn.body + b"x", form_subject("household"), FORM))
