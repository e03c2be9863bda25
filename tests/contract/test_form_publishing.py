"""Forms and their files as devices are given them, on both databases."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from central_broker import form_publishing
from central_broker.form_publishing import current, publish, withdraw
from central_broker.forms.definition import FormRefused
from central_broker.forms.files import files_named, files_of
from central_broker.storage.census_records import FormRecord
from central_broker.storage.contract import Storage
from sync_protocol.form import PublishedForm, read_form
from sync_protocol.form_file import read_file
from sync_protocol.keys import SigningKey
from sync_protocol.statement import parse_statement
from tests.support.census_databases import storage, url
from tests.support.center import seed
from tests.support.xforms import xform

__all__ = ["storage", "url"]

SIGNER = SigningKey(seed("issuer"))
XFORM = xform("<a/>", body='<input ref="/data/a"><label>A</label></input>')


def added(storage: Storage, form: str) -> PublishedForm:
    storage.store_form(FormRecord(form, "1", "T", XFORM, 1), ())
    return PublishedForm(form, "1", "T", XFORM)


def files_given(storage: Storage, form: str) -> dict[str, bytes]:
    return {name: read_file(parse_statement(data)).content for one, name, data in storage.form_files() if one == form}


def statement_of(storage: Storage, form: str) -> bytes | None:
    (record,) = (one for one in storage.form_records() if one.form == form)
    return record.statement


def test_files_that_are_too_much_together_are_refused_and_nothing_is_changed(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = added(storage, "first"), added(storage, "second")
    picture = Random(1).randbytes(1_000)
    of_first = publish(storage, SIGNER, first, {"a.png": picture}, 1).files_bytes
    monkeypatch.setattr(form_publishing, "PUBLISHED_FILES_BYTES_MAX", 2 * of_first - 1)
    with pytest.raises(FormRefused, match="together more than"):
        publish(storage, SIGNER, second, {"b.png": picture}, 2)
    assert (statement_of(storage, "second"), files_given(storage, "second")) == (None, {})
    # A withdrawn form's take next to no room.
    assert withdraw(storage, SIGNER, "first", 3)
    assert publish(storage, SIGNER, second, {"b.png": picture}, 4).is_new


def test_the_same_again_is_not_new_and_what_changed_is_newer_even_if_the_clock_was_set_back(storage: Storage) -> None:
    form = added(storage, "form")
    assert publish(storage, SIGNER, form, {"a.csv": b"a"}, 1_000).is_new
    before = statement_of(storage, "form")
    assert not publish(storage, SIGNER, form, {"a.csv": b"a"}, 2_000).is_new
    assert statement_of(storage, "form") == before
    publish(storage, SIGNER, form, {"b.csv": b"b"}, 5)
    after = statement_of(storage, "form")
    assert before is not None and after is not None
    assert parse_statement(after).serial > parse_statement(before).serial == 1_000
    assert set(read_form(parse_statement(after)).files) == {"b.csv"}
    assert files_given(storage, "form") == {"a.csv": b"", "b.csv": b"b"}, "the one before is taken back"


def test_a_withdrawn_form_is_given_no_more_until_it_is_published_again(storage: Storage) -> None:
    form = added(storage, "form")
    assert not withdraw(storage, SIGNER, "form", 1), "it was never given"
    publish(storage, SIGNER, form, {"a.csv": b"a"}, 2)
    assert withdraw(storage, SIGNER, "form", 3)
    assert not withdraw(storage, SIGNER, "form", 4)
    assert current(statement_of(storage, "form")) is None
    assert files_given(storage, "form") == {"a.csv": b""}
    assert publish(storage, SIGNER, form, {"a.csv": b"a"}, 5).is_new
    given = current(statement_of(storage, "form"))
    assert given is not None and given.xform == XFORM
    assert files_given(storage, "form") == {"a.csv": b"a"}


def test_the_files_that_a_form_names_are_found_external_lists_among_them(tmp_path: Path) -> None:
    shown = xform(
        "<a/><b/>",
        body='<input ref="/data/a"><label>A</label></input><input ref="/data/b" query="instance(\'x\')/root/item"/>',
        lists='<instance id="x" src="jr://file-csv/villages.csv"/><instance id="y" src="jr://instance/last-saved"/>'
        "<itext><translation lang='ru'><text id='a'><value form='image'>jr://images/map.png</value></text>"
        "</translation></itext>",
    )
    named = files_named(shown)
    assert named == {"villages.csv", "map.png", "itemsets.csv"}
    for name in named:
        (tmp_path / name).write_text(name)
    (tmp_path / "other.txt").write_text("not named")
    assert files_of(tmp_path, named) == {name: name.encode() for name in named}
    (tmp_path / "map.png").unlink()
    with pytest.raises(FormRefused, match=r"map\.png, which is not in"):
        files_of(tmp_path, named)
