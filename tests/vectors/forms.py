"""Vectors of forms (SPEC.md §4.2) and their files (§4.4): signed and deflated, so every run makes the same."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from sync_protocol.form import PublishedForm, publish_form, read_form, withdraw_form
from sync_protocol.form_file import FormFile, publish_file, read_file
from sync_protocol.keys import SigningKey
from sync_protocol.statement import Statement, sign_statement

if TYPE_CHECKING:
    from tests.vectors.generate import Writer

_MAP = FormFile("household", "карта.png", sha256(b"golden vector map").digest())
_VILLAGES = FormFile("household", "villages.csv", b"name,label\n" * 20)
_FORM = PublishedForm("household", "3", "Үй шаруашылығы", b"<h:html/>")
_WITH_FILES = replace(_FORM, version="4", files={one.name: sha256(one.content).digest() for one in (_VILLAGES, _MAP)})


def write_forms(writer: Writer, content: SigningKey) -> None:
    """Write what is right, and one mistake each."""
    with_files = publish_form(content, _WITH_FILES, 2)
    withdrawn = withdraw_form(content, "household", "4", 3)
    forms = {"form": publish_form(content, _FORM, 1), "form_with_files": with_files, "form_withdrawn": withdrawn}
    for name, source in forms.items():
        form = read_form(source)
        writer.accept(
            name,
            "form",
            source.data,
            **_fields(source),
            form=form.form,
            version=form.version,
            title=form.title,
            xform=form.xform.decode(),
            files={one: digest.hex() for one, digest in form.files.items()},
        )
    villages = publish_file(content, _VILLAGES, 1)
    files = {
        "form_file_as_is": publish_file(content, _MAP, 1),
        "form_file_deflated": villages,
        "form_file_taken_back": publish_file(content, replace(_VILLAGES, content=b""), 2),
    }
    for name, source in files.items():
        file = read_file(source)
        writer.accept(
            name,
            "form_file",
            source.data,
            **_fields(source),
            form=file.form,
            file_name=file.name,
            content=file.content.hex(),
        )

    def again(source: Statement, body: bytes) -> bytes:
        return sign_statement(content, kind=source.kind, subject=source.subject, serial=4, body=body).data

    body = with_files.body
    for name, wrong, fault in (
        ("form_with_too_many_files", body[:6] + b"\x33" + body[7:], "oversized"),
        ("form_with_a_path_for_a_file", body.replace(b"villages.csv", b"villag/s.csv"), "bad_field"),
        ("form_with_a_file_less_than_announced", body[:6] + b"\3" + body[7:], "truncated"),
    ):
        writer.refuse(name, "form", again(with_files, wrong), fault)
    writer.refuse("form_withdrawn_with_content", "form", again(withdrawn, withdrawn.body + b"\3\0"), "bad_field")
    body = villages.body
    for name, wrong, fault in (
        ("form_file_of_unknown_coding", body[:3] + b"\2" + body[4:], "bad_field"),
        ("form_file_shorter_than_announced", body[:7] + b"\xff" + body[8:], "bad_content"),
        ("form_file_with_another_digest", body[:8] + bytes(32) + body[40:], "bad_content"),
        ("form_file_under_another_name", body.replace(b"villages", b"Villages"), "bad_field"),
        ("form_file_announces_too_much", body[:4] + b"\xff" + body[5:], "oversized"),
        ("form_file_ends_in_its_prefix", body[:39], "truncated"),
    ):
        writer.refuse(name, "form_file", again(villages, wrong), fault)


def _fields(source: Statement) -> dict[str, object]:
    return {
        "kind": source.kind,
        "signer": source.signer.hex(),
        "subject": source.subject.hex(),
        "serial": source.serial,
        "body_sha256": sha256(source.body).hexdigest(),
    }
