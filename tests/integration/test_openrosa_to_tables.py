"""From ODK Collect's request on a tablet, over the broker, to typed rows at the center."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from xml.etree import ElementTree

import pytest

from central_broker.forms.xlsform import convert
from demo.field import CommandFailed, Field
from sync_protocol.attachments import Attachment, read_attachments
from tests.support.collect import CollectClient
from tests.support.processes import free_port, wait_until
from tests.support.shared_data import reason_missing, shared_data_folder
from tests.support.small_center import SmallCenter

WAIT_SECONDS = 60.0
FORM_LIST = "{http://openrosa.org/xforms/xformsList}"
MANIFEST = "{http://openrosa.org/xforms/xformsManifest}"
FOLDER = shared_data_folder() / "openrosa" / "transportation"
MISSING = reason_missing("openrosa", "transportation")

FORM = """\
| survey | | | |
| | type | name | label |
| | text | village | Village |
| | image | front | Photograph of the front |
| | begin_repeat | persons | Persons |
| | integer | age | Age |
| | end_repeat | | |
| settings | | | |
| | form_id | version | form_title |
| | dwelling | 1 | Dwelling |
"""
FORM_WITH_LIST = """\
| survey | | | |
| | type | name | label |
| | select_one_from_file villages.csv | village | Village |
| settings | | | |
| | form_id | version | form_title |
| | visit | 1 | Visit |
"""
REAL_FORM, REAL_VERSION = "transportation_2011_07_25", "2014111"
PHOTO = bytes(range(256)) * 1_500  # more than one envelope holds


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    settings = {"intake": {"openrosa": True, "openrosa_port": free_port()}}
    form = tmp_path / "dwelling.md"
    form.write_text(FORM)
    # The real one in the version that its submissions name, and by its id for those of other versions.
    forms = [str(form)] if MISSING else [str(form), str(FOLDER / "form.xlsx"), REAL_FORM]
    with Field(tmp_path / "field", 1, forms=forms, device_settings=settings, center_kind=SmallCenter) as made:
        made.start()
        yield made


def client_of(field: Field) -> CollectClient:
    (device,) = field.devices
    wait_until(lambda: device.status()["openrosa"]["address"] is not None, "the endpoint listens")
    address: str = device.status()["openrosa"]["address"]
    host, _, key = address.removeprefix("http://").partition("/key/")
    return CollectClient(int(host.rpartition(":")[2]), key)


def dwelling(instance: str, village: str, ages: list[str], *, front: str = "", replaces: str = "") -> bytes:
    persons = "".join(f"<persons><age>{age}</age></persons>" for age in ages)
    edited = f"<orx:deprecatedID>{replaces}</orx:deprecatedID>" if replaces else ""
    meta = f"<orx:meta><orx:instanceID>{instance}</orx:instanceID>{edited}</orx:meta>"
    return (
        f'<data id="dwelling" version="1" xmlns:orx="http://openrosa.org/xforms"><village>{village}</village>'
        f"<front>{front}</front>{persons}{meta}</data>"
    ).encode()


def test_what_collect_submits_becomes_rows_with_edits_in_place_and_photographs_kept(field: Field) -> None:
    client, center = client_of(field), field.center
    first = dwelling("uuid:1", "Аксу", ["33", "four"], front="a.jpg")
    assert client.submit(first, [("a.jpg", "image/jpeg", PHOTO)]).status == 201
    assert client.submit(dwelling("uuid:2", "Есиль", [])).status == 201
    assert client.submit(dwelling("uuid:3", "Есиль-2", ["5"], replaces="uuid:2")).status == 201
    assert client.submit(dwelling("uuid:3", "Есиль-2", ["5"], replaces="uuid:2")).status in (201, 202)
    wait_until(
        lambda: center.query("SELECT count(*) FROM form_dwelling") == [(3,)],
        "all three are rows",
        timeout_seconds=WAIT_SECONDS,
    )
    assert center.query("SELECT village, front FROM form_dwelling_current ORDER BY 1") == [
        ("Аксу", "a.jpg"),
        ("Есиль-2", None),
    ]
    assert center.query("SELECT position, age FROM form_dwelling__persons ORDER BY age") == [(2, None), (1, 5), (1, 33)]
    assert center.query("SELECT path, position, rule, value FROM finding") == [
        ("persons/age", 2, "not_a_number", "four")
    ]
    ((body,),) = center.query("SELECT body FROM questionnaire WHERE instance_id = 'uuid:1'")
    assert read_attachments(bytes(body)) == (first, (Attachment("a.jpg", "image/jpeg", PHOTO),))
    field.wait_until_synchronised(timeout_seconds=WAIT_SECONDS)


def test_a_version_that_is_added_while_the_center_runs_makes_rows_of_what_was_held_and_of_what_comes(
    field: Field, tmp_path: Path
) -> None:
    client, center = client_of(field), field.center
    second = tmp_path / "second.md"
    second.write_text(FORM.replace("| dwelling | 1 |", "| dwelling | 2 |"))

    def of_version_2(instance: str) -> bytes:
        return dwelling(instance, "Аксу", ["33"]).replace(b'version="1"', b'version="2"')

    def rows_of(instance: str) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = center.query(
            f"SELECT form_version FROM form_dwelling WHERE instance_id = '{instance}'"
        )
        return found

    assert client.submit(of_version_2("uuid:early")).status == 201
    wait_until(
        lambda: center.query("SELECT count(*) FROM held WHERE reason = 'unknown_form'") == [(1,)],
        "it is held",
        timeout_seconds=WAIT_SECONDS,
    )
    assert center.ask("forms", "add", second)["held_as_unknown_form"] == 1
    assert center.ask("held", "retry", "--reason", "unknown_form")["committed"] == 1
    assert rows_of("uuid:early") == [("2",)]
    assert client.submit(of_version_2("uuid:late")).status == 201
    wait_until(lambda: rows_of("uuid:late") == [("2",)], "the consumer knows it", timeout_seconds=WAIT_SECONDS)


def offered(client: CollectClient) -> dict[str, str]:
    """Version by form id, as the form list says."""
    root = ElementTree.fromstring(client.request("GET", "/formList").body)
    return {str(one.findtext(f"{FORM_LIST}formID")): str(one.findtext(f"{FORM_LIST}version")) for one in root}


def test_a_form_that_the_center_publishes_is_offered_on_the_tablet_in_its_newest_version(
    field: Field, tmp_path: Path
) -> None:
    client, center = client_of(field), field.center
    assert offered(client) == {}
    assert center.ask("forms", "publish", "dwelling")["version"] == "1"
    wait_until(lambda: offered(client) == {"dwelling": "1"}, "the tablet offers it", timeout_seconds=WAIT_SECONDS)
    second = tmp_path / "second.md"
    second.write_text(FORM.replace("| dwelling | 1 |", "| dwelling | 2 |"))
    center.ask("forms", "add", second)
    center.ask("forms", "publish", "dwelling")
    wait_until(lambda: offered(client) == {"dwelling": "2"}, "it has the new version", timeout_seconds=WAIT_SECONDS)
    assert {one["version"]: one["published"] for one in center.ask("forms", "list") if one["form"] == "dwelling"} == {
        "1": False,
        "2": True,
    }
    (path,) = (field.devices[0].folder / "state" / "forms").glob("center-*/form.xml")
    assert path.read_bytes() == convert(second).xform
    field.devices[0].close()
    field.devices[0].start()
    assert offered(client_of(field)) == {"dwelling": "2"}, "kept over a restart"


def media_of(client: CollectClient) -> dict[str, bytes]:
    """What the manifest of the one form that is offered lists, downloaded."""
    (form,) = ElementTree.fromstring(client.request("GET", "/formList").body)
    key = f"/key/{client.key}"
    manifest_address = str(form.findtext(f"{FORM_LIST}manifestUrl")).partition(key)[2]
    files = {}
    for one in ElementTree.fromstring(client.request("GET", manifest_address).body):
        said = {element.tag.removeprefix(MANIFEST): str(element.text) for element in one}
        files[said["filename"]] = client.request("GET", said["downloadUrl"].partition(key)[2]).body
        assert said["hash"] == f"md5:{md5(files[said['filename']], usedforsecurity=False).hexdigest()}"
    return files


def test_a_form_is_offered_with_its_files_until_it_is_withdrawn_and_again_when_it_is_published(
    field: Field, tmp_path: Path
) -> None:
    client, center = client_of(field), field.center
    path, folder = tmp_path / "visit.md", tmp_path / "media"
    path.write_text(FORM_WITH_LIST)
    center.ask("forms", "add", path)
    folder.mkdir()
    with pytest.raises(CommandFailed, match=r"villages\.csv"):
        center.ask("forms", "publish", "visit", "--files", folder)
    contents = {"villages.csv": "name,label\n1,Аксу\n".encode()}
    (folder / "villages.csv").write_bytes(contents["villages.csv"])
    (folder / "draft.csv").write_bytes(b"x")
    published = center.ask("forms", "publish", "visit", "--files", folder)
    assert (published["files"], published["unnamed_files"], published["is_new"]) == (
        ["villages.csv"],
        ["draft.csv"],
        True,
    )
    assert center.ask("forms", "publish", "visit", "--files", folder)["is_new"] is False
    wait_until(lambda: offered(client) == {"visit": "1"}, "it is offered", timeout_seconds=WAIT_SECONDS)
    assert media_of(client) == contents
    assert center.ask("forms", "withdraw", "visit") == {"form": "visit", "withdrawn": True}
    wait_until(lambda: offered(client) == {}, "it is offered no more", timeout_seconds=WAIT_SECONDS)
    assert [one["withdrawn"] for one in center.ask("forms", "list") if one["form"] == "visit"] == [True]
    late = dwelling("uuid:late", "Аксу", []).replace(b'id="dwelling"', b'id="visit"')
    assert client.submit(late).status == 201
    wait_until(
        lambda: center.query("SELECT count(*) FROM form_visit") == [(1,)],
        "what was filled in is accepted",
        timeout_seconds=WAIT_SECONDS,
    )
    center.ask("forms", "publish", "visit", "--files", folder)
    wait_until(lambda: offered(client) == {"visit": "1"}, "it is back", timeout_seconds=WAIT_SECONDS)
    assert media_of(client) == contents


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_submissions_of_a_real_form_become_rows_of_its_tables(field: Field) -> None:
    client, center = client_of(field), field.center
    sent = sorted(FOLDER.glob("instances*.xml"))
    statuses = [client.submit(path.read_bytes()).status for path in sent]
    # Two files have one instance id and different answers, and neither says that it is an edit.
    assert (statuses.count(201), statuses.count(409)) == (len(sent) - 1, 1)
    field.wait_until_synchronised(timeout_seconds=WAIT_SECONDS)
    kept = {bytes(body) for (body,) in center.query("SELECT body FROM questionnaire")}
    assert kept == {path.read_bytes() for path, status in zip(sent, statuses, strict=True) if status == 201}
    shown = center.ask("forms", "show", REAL_FORM)
    whole = next(one["table"] for one in shown["tables"] if one["kind"] == "questionnaire")
    versions = dict(center.query("SELECT form_version, count(*) FROM questionnaire GROUP BY 1"))
    assert set(versions) == {REAL_VERSION, "20170517", ""}
    rows = center.query(f"SELECT form_version, count(*) FROM {whole} GROUP BY 1")
    assert rows == [(REAL_VERSION, versions[REAL_VERSION])]
