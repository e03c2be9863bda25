"""The OpenRosa endpoint of the daemon as a process: what ODK Collect and Enketo say to it, byte by byte."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pytest

from central_broker.content_decoding import content_of
from edge_agent.queue.intake.openrosa.key import KEY_FILE_NAME
from sync_protocol.attachments import read_attachments
from tests.support.certificates import TestAuthority
from tests.support.collect import CollectClient, HttpAnswer, form_data, multipart, read_answer
from tests.support.openrosa_device import OpenRosaDevice, instance, openrosa_device
from tests.support.shared_data import reason_missing, shared_data_folder

RESPONSE = "{http://openrosa.org/http/response}"
LIST = "{http://openrosa.org/xforms/xformsList}"
MANIFEST = "{http://openrosa.org/xforms/xformsManifest}"
PHOTO, VOICE = ("a.jpg", "image/jpeg", b"\xff\xd8" + bytes(3000)), ("b.m4a", "audio/mp4", b"sound")
NO_SHARED_DATA = reason_missing("openrosa", "transportation")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[OpenRosaDevice]:
    with openrosa_device(tmp_path) as made:
        yield made


def message(answer: HttpAnswer) -> tuple[int, str]:
    """Status and nature of an answer that must be an OpenRosaResponse."""
    assert answer.headers["Content-Type"] == "text/xml; charset=utf-8"
    root = ElementTree.fromstring(answer.body)
    assert root.tag == f"{RESPONSE}OpenRosaResponse"
    found = root.find(f"{RESPONSE}message")
    assert found is not None and found.text
    return answer.status, found.attrib["nature"]


TAKEN, KEPT = (201, "submit_success"), (202, "submit_success")


def refused(status: int) -> tuple[int, str]:
    return status, "submit_error"


def test_a_client_that_asks_first_is_told_what_it_needs(device: OpenRosaDevice) -> None:
    client = device.serve()
    for method in ("HEAD", "GET"):
        answer = client.request(method, "/submission")
        assert answer.status == 204
        assert answer.headers["X-OpenRosa-Version"] == "1.0"
        assert answer.headers["X-OpenRosa-Accept-Content-Length"] == "10000000"
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["Date"])
    assert "Location" not in answer.headers, "ODK Collect would go there"


@pytest.mark.parametrize("chunks", [0, 1, 7, 1000])
def test_a_submission_is_sealed_exactly_as_it_came(device: OpenRosaDevice, chunks: int) -> None:
    client = device.serve()
    xml = instance("uuid:1", "Ақтөбе \r\n --x\r\n")
    answer = client.submit(xml, chunks=chunks)
    assert message(answer) == TAKEN
    assert answer.headers["X-OpenRosa-Version"] == "1.0"
    assert device.envelope_count() == 1
    device.process.terminate()
    ((metadata, body),) = device.questionnaires()
    assert (metadata.form, metadata.form_version, metadata.instance_id) == ("household", "3", "uuid:1")
    assert (metadata.media_type, body) == ("text/xml", xml)


def test_a_submission_with_files_is_one_questionnaire_that_can_be_taken_apart(device: OpenRosaDevice) -> None:
    client = device.serve()
    large = ("c.bin", "", os.urandom(700_000))
    parts = [form_data("xml_submission_file", instance("uuid:1"), filename="x.xml", media_type="text/xml")]
    parts += [
        form_data(name, data, filename=name, media_type=kind or None) for name, kind, data in (large, VOICE, PHOTO)
    ]
    parts += [form_data("survey_notes", b"a field of another family of programs")]
    body = multipart(parts, "b")
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert message(client.request("POST", "/submission", body, headers=headers)) == TAKEN
    assert message(client.request("POST", "/submission", body, headers=headers)) == TAKEN
    device.process.terminate()
    ((metadata, whole),) = device.questionnaires()
    assert metadata.media_type == "multipart/form-data"
    xml, files = read_attachments(whole)
    assert xml == instance("uuid:1")
    assert [(each.name, each.media_type, each.data) for each in files] == [
        PHOTO,
        VOICE,
        ("c.bin", "application/octet-stream", large[2]),
    ]
    assert [each["name"] for each in json.loads(content_of(metadata.media_type, whole))["@attachments"]] == [
        "a.jpg",
        "b.m4a",
        "c.bin",
    ]


def test_the_same_submission_counts_once_and_another_under_its_id_is_refused(device: OpenRosaDevice) -> None:
    client = device.serve()
    for _ in range(3):
        assert message(client.submit(instance("uuid:1"))) == TAKEN
    assert message(client.submit(instance("uuid:1", "other"))) == refused(409)
    assert message(client.submit(instance("uuid:1", "other"), [PHOTO], incomplete=True)) == refused(409)
    assert device.envelope_count() == 1
    device.process.kill9()
    device.serve()
    assert message(client.submit(instance("uuid:1", "other"))) == refused(409), "after a restart as well"
    edit = instance("uuid:2", "other").replace(b"</meta>", b"<deprecatedID>uuid:1</deprecatedID></meta>")
    assert message(client.submit(edit)) == TAKEN
    assert device.envelope_count() == 2


@pytest.mark.parametrize("seed", range(4))
def test_requests_of_one_submission_are_joined_in_whatever_order_they_come(device: OpenRosaDevice, seed: int) -> None:
    client = device.serve()
    order = random.Random(seed)
    files = [(f"{n}.jpg", "image/jpeg", bytes([n]) * (n * 50_000)) for n in range(1, 5)]
    order.shuffle(files)
    for each in files[:-1]:
        assert message(client.submit(instance("uuid:1"), [each], incomplete=True)) == KEPT
        if order.random() < 0.5:  # the client got no answer
            assert message(client.submit(instance("uuid:1"), [each], incomplete=True)) == KEPT
        if order.random() < 0.3:
            device.process.kill9()
            device.serve()
    assert device.envelope_count() == 0
    assert message(client.submit(instance("uuid:1"), files[-1:])) == TAKEN
    count = device.envelope_count()
    # Whatever of it is repeated, alone or all of it, is known.
    assert message(client.submit(instance("uuid:1"), files[-1:])) == TAKEN
    assert message(client.submit(instance("uuid:1"), files[:1], incomplete=True)) == KEPT
    assert message(client.submit(instance("uuid:1"))) == TAKEN
    assert device.envelope_count() == count
    device.process.terminate()
    ((_, whole),) = device.questionnaires()
    assert {(f.name, f.media_type, f.data) for f in read_attachments(whole)[1]} == set(files)


def test_a_file_that_came_too_late_is_sealed_by_itself(device: OpenRosaDevice) -> None:
    client = device.serve()
    assert message(client.submit(instance("uuid:1"), [PHOTO])) == TAKEN
    assert message(client.submit(instance("uuid:1"), [VOICE])) == TAKEN
    device.process.terminate()
    assert [[each.name for each in read_attachments(whole)[1]] for _, whole in device.questionnaires()] == [
        ["a.jpg"],
        ["b.m4a"],
    ]


@pytest.mark.skipif(bool(NO_SHARED_DATA), reason=NO_SHARED_DATA)
@pytest.mark.shared_data
def test_every_submission_of_the_transportation_survey_is_taken(device: OpenRosaDevice) -> None:
    folder = shared_data_folder() / "openrosa" / "transportation"
    client = device.serve()
    sources = sorted(folder.glob("instances*.xml"))
    assert len(sources) == 12
    answers = {path.name: message(client.submit(path.read_bytes())) for path in sources}
    # Two files there have one instanceID and differ: the second is no edit, and refused.
    conflicts = [name for name, answer in answers.items() if answer == refused(409)]
    assert len(conflicts) == 1 and "19-05-49" in conflicts[0]
    assert all(answer == TAKEN for name, answer in answers.items() if name not in conflicts)
    again = {path.name: message(client.submit(path.read_bytes())) for path in sources}
    assert again == answers
    device.process.terminate()
    assert {body for _, body in device.questionnaires()} == {
        path.read_bytes() for path in sources if path.name not in conflicts
    }


@pytest.mark.skipif(bool(NO_SHARED_DATA), reason=NO_SHARED_DATA)
@pytest.mark.shared_data
def test_many_long_questionnaires_at_once_are_all_there(device: OpenRosaDevice) -> None:
    template = (shared_data_folder() / "openrosa" / "250q" / "submission.template.xml").read_text()
    client = device.serve()
    filler = random.Random(250)

    def filled(number: int) -> bytes:
        text = template.replace("{{uuid}}", f"{number:032x}")
        return re.sub(r"\{\{randInt\}\}", lambda _: str(filler.randrange(1000)), text).encode()

    bodies = [filled(number) for number in range(80)]
    with ThreadPoolExecutor(max_workers=8) as programs:
        assert {message(answer) for answer in programs.map(client.submit, bodies)} == {TAKEN}
    device.process.kill9()
    assert sorted(body for _, body in device.questionnaires()) == sorted(bodies)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (instance("uuid:1"), "text/xml", 415),
        (b"", "multipart/form-data", 400),
        (b"", "multipart/form-data; boundary=b", 400),
        (b"--b\r\n", "multipart/form-data; boundary=b", 400),
        (multipart([form_data("photo", b"x", filename="a")], "b"), "multipart/form-data; boundary=b", 400),
        (multipart([form_data("xml_submission_file", b"<a>")], "b"), "multipart/form-data; boundary=b", 400),
        (multipart([form_data("xml_submission_file", b"<a/>")], "b"), "multipart/form-data; boundary=b", 400),
        (multipart([form_data("xml_submission_file", b"")], "b"), "multipart/form-data; boundary=b", 400),
        (
            multipart([form_data("xml_submission_file", instance("i" * 251))], "b"),
            "multipart/form-data; boundary=b",
            422,
        ),
        (
            multipart([form_data("xml_submission_file", instance("uuid:1"))] * 2, "b"),
            "multipart/form-data; boundary=b",
            400,
        ),
        (
            multipart(
                [form_data("xml_submission_file", instance("uuid:1")), form_data("../a", b"x", filename="a")], "b"
            ),
            "multipart/form-data; boundary=b",
            422,
        ),
        (
            multipart(
                [
                    form_data("xml_submission_file", b'<data id="f"><a/></data>', filename="x"),
                    form_data("*isIncomplete*", b"yes"),
                ],
                "b",
            ),
            "multipart/form-data; boundary=b",
            422,
        ),
    ],
)
def test_what_is_no_submission_is_refused_and_leaves_nothing(
    shared_device: tuple[OpenRosaDevice, CollectClient], body: bytes, content_type: str, status: int
) -> None:
    device, client = shared_device
    answer = client.request("POST", "/submission", body, headers={"Content-Type": content_type})
    assert message(answer) == refused(status)
    assert_nothing_is_left(device)


ENTITIES = b'<!DOCTYPE d [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><data id="f"><a>&b;</a></data>'


@pytest.mark.parametrize(
    "xml",
    [
        ENTITIES,
        b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><data id="f"/>',
        b'<data id="f">' + b"<a>" * 5000 + b"</a>" * 5000 + b"</data>",
        b'<?xml version="1.0" encoding="no-such"?><data id="f"/>',
        b"\x00" * 100,
    ],
)
def test_malicious_xml_is_refused(shared_device: tuple[OpenRosaDevice, CollectClient], xml: bytes) -> None:
    device, client = shared_device
    assert message(client.submit(xml)) == refused(400)
    assert_nothing_is_left(device)


@pytest.mark.parametrize("chunks", [0, 60_000])
def test_what_is_too_large_is_refused_with_bounded_memory(
    shared_device: tuple[OpenRosaDevice, CollectClient], chunks: int
) -> None:
    device, client = shared_device
    before = resident_kilobytes(device)
    answer = client.submit(instance("uuid:1"), [("v.mp4", "video/mp4", bytes(60_000_000))], chunks=chunks)
    assert message(answer) == refused(413)
    assert resident_kilobytes(device) < before + 20_000
    assert_nothing_is_left(device)


@pytest.fixture(scope="module")
def shared_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenRosaDevice, CollectClient]]:
    """For tests after which nothing is left."""
    with openrosa_device(tmp_path_factory.mktemp("shared")) as device:
        yield device, device.serve()


def assert_nothing_is_left(device: OpenRosaDevice) -> None:
    assert device.envelope_count() == 0
    assert list((device.state_directory / "openrosa").iterdir()) == []


def resident_kilobytes(device: OpenRosaDevice) -> int:
    """The most that the daemon ever had."""
    text = Path(f"/proc/{device.process.pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1])


def test_only_this_device_with_its_key_may_use_it(shared_device: tuple[OpenRosaDevice, CollectClient]) -> None:
    device, client = shared_device
    assert client.request("GET", "/formList").status == 200
    stranger = CollectClient(client.port, "x" * 64)
    assert message(stranger.submit(instance("uuid:1"))) == refused(401)
    assert stranger.request("HEAD", "/submission").status == 401
    assert stranger.request("GET", "/formList").status == 401
    assert CollectClient(client.port, "").request("HEAD", "/submission").status == 401
    assert CollectClient(client.port, client.key[:-1]).request("HEAD", "/submission").status == 401
    for host in ("evil.example", f"evil.example:{client.port}", "127.0.0.1.evil.example", "192.168.1.5", ""):
        rebinding = CollectClient(client.port, client.key, host=host or " ")
        assert rebinding.request("GET", "/formList").status == 421
    for host in ("localhost", f"LOCALHOST:{client.port}", f"[::1]:{client.port}"):
        assert CollectClient(client.port, client.key, host=host).request("GET", "/formList").status == 200
    for path in ("/", "/nothing", "/submission/", "/forms/x/form.xml", "/forms/..%2F..%2Fx/form.xml"):
        assert client.request("GET", path).status == 404
    assert message(client.request("DELETE", "/submission")) == refused(405)
    listening = {line.split()[1] for line in listeners() if line.split()[1].endswith(f":{client.port:04X}")}
    assert listening <= {f"0100007F:{client.port:04X}", f"{'0' * 24}01000000:{client.port:04X}"}
    assert listening
    assert stat.S_IMODE((device.state_directory / KEY_FILE_NAME).stat().st_mode) == 0o600
    assert client.key not in device.log.read_text()


def listeners() -> list[str]:
    """The kernel's lines on listening sockets."""
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [line for line in lines if line.split()[3] == "0A"]


def test_web_pages_are_let_in_by_name_only(tmp_path: Path) -> None:
    page = "http://localhost:8005"
    with openrosa_device(tmp_path, lines={"intake": f'openrosa_origins = ["{page}"]'}) as device:
        client = device.serve()
        answer = client.submit(instance("uuid:1"), headers={"Origin": page})
        assert message(answer) == TAKEN
        assert answer.headers["Access-Control-Allow-Origin"] == page
        assert "X-OpenRosa-Version" in answer.headers["Access-Control-Expose-Headers"]
        asked = client.request(
            "OPTIONS", "/submission", headers={"Origin": page, "Access-Control-Request-Method": "POST"}
        )
        assert asked.status == 204
        assert "POST" in asked.headers["Access-Control-Allow-Methods"]
        assert "Access-Control-Allow-Credentials" not in asked.headers
        own = client.submit(instance("uuid:1"), headers={"Origin": f"http://127.0.0.1:{client.port}"})
        assert message(own) == TAKEN
        for origin in ("http://evil.example", "null", "http://localhost:8006"):
            foreign = client.submit(instance("uuid:2"), headers={"Origin": origin})
            assert message(foreign) == refused(403)
            assert "Access-Control-Allow-Origin" not in foreign.headers
        assert device.envelope_count() == 1


def test_answers_are_in_the_language_that_the_client_asks_for(
    shared_device: tuple[OpenRosaDevice, CollectClient],
) -> None:
    _, client = shared_device
    said = {}
    for wanted, language in (("ru-RU,ru;q=0.9", "ru"), ("kk", "kk"), ("de, kk", "kk"), ("", "en"), ("fr", "en")):
        answer = client.submit(b"<a/>", headers={"Accept-Language": wanted})
        assert answer.headers["Content-Language"] == language
        said[language] = answer.body.decode()
    assert len(set(said.values())) == 3


def test_forms_are_found_with_what_belongs_to_them(device: OpenRosaDevice) -> None:
    client = device.serve()
    xform = (
        '<h:html xmlns="http://www.w3.org/2002/xforms" xmlns:h="http://www.w3.org/1999/xhtml"><h:head>'
        "<h:title>Үй &amp; отбасы</h:title><model><instance><data id='household' version='{}'/></instance>"
        "<instance id='other'><root id='no'/></instance></model></h:head><h:body/></h:html>"
    )
    forms = device.state_directory / "forms"
    for version in ("9", "10"):
        (forms / f"household {version}" / "media").mkdir(parents=True)
        (forms / f"household {version}" / "form.xml").write_text(xform.format(version))
    (forms / "household 10" / "media" / "карта 1.png").write_bytes(b"map")
    (forms / "broken").mkdir()
    (forms / "broken" / "form.xml").write_bytes(ENTITIES)
    (forms / "outside").symlink_to("/etc")
    (forms / "household 10" / "media" / "secret").symlink_to("/etc/passwd")

    answer = client.request("GET", "/formList")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/xml; charset=utf-8")
    assert answer.headers["X-OpenRosa-Version"] == "1.0"
    (form,) = ElementTree.fromstring(answer.body)
    said = {element.tag.removeprefix(LIST): element.text or "" for element in form}
    assert (said["formID"], said["name"], said["version"]) == ("household", "Үй & отбасы", "10")
    downloaded = client.request("GET", below(client, said["downloadUrl"]))
    assert downloaded.body.decode() == xform.format("10")
    assert said["hash"] == f"md5:{downloaded.headers['ETag'].strip(chr(34))}"
    known = {"If-None-Match": downloaded.headers["ETag"]}
    assert client.request("GET", below(client, said["downloadUrl"]), headers=known).status == 304

    (media,) = ElementTree.fromstring(client.request("GET", below(client, said["manifestUrl"])).body)
    listed = {element.tag.removeprefix(MANIFEST): element.text or "" for element in media}
    assert listed["filename"] == "карта 1.png"
    file = client.request("GET", below(client, listed["downloadUrl"]))
    assert (file.body, file.headers["Content-Type"]) == (b"map", "image/png")

    assert len(ElementTree.fromstring(client.request("GET", "/formList?listAllVersions=true").body)) == 2
    assert len(ElementTree.fromstring(client.request("GET", "/formList?formID=other").body)) == 0
    assert client.request("GET", "/forms/household%2010/media/secret").status == 404
    device.wait_for_event("openrosa_form_unusable")


def below(client: CollectClient, address: str) -> str:
    """The path of an address that the endpoint gave, below the key."""
    beginning = f"http://127.0.0.1:{client.port}/key/{client.key}"
    assert address.startswith(beginning)
    return address.removeprefix(beginning)


def test_people_are_told_the_address_and_what_is_wrong(device: OpenRosaDevice) -> None:
    def findings() -> list[tuple[str, str]]:
        found = device.document("doctor")["findings"]
        return [(each["verdict"], each["found"]) for each in found if each["check"] == "form programs"]

    assert ("ok", f"port {device.port} is free for them") in findings()
    with socket.create_server(("127.0.0.1", device.port)):
        assert any(verdict == "problem" and "cannot be used" in found for verdict, found in findings())
        device.start()
        device.wait_for_event("part_failed")
        assert "cannot submit: port" in device.run("status").output
        assert any(verdict == "problem" and "they cannot submit" in found for verdict, found in findings())
        device.process.terminate()
    client = device.serve()
    address = f"http://127.0.0.1:{device.port}/key/{client.key}"
    assert f"server address for ODK Collect, KoboCollect and Enketo: {address}\n" in device.run("status").output
    assert not any(verdict == "problem" for verdict, _ in findings())
    assert client.key not in device.run("doctor", "--json").output
    broken = device.state_directory / "forms" / "broken"
    broken.mkdir(parents=True)
    (broken / "form.xml").write_bytes(ENTITIES)
    assert any(verdict == "warning" and "forms/broken is not offered" in found for verdict, found in findings())
    key_file = device.state_directory / KEY_FILE_NAME
    key_file.chmod(0o644)
    assert any(verdict == "problem" and "0644" in found for verdict, found in findings())
    device.process.terminate()
    device.serve()
    assert device.client().key == client.key, "it is made once"


def test_a_program_that_asks_again_on_one_connection_is_answered(
    shared_device: tuple[OpenRosaDevice, CollectClient],
) -> None:
    _, client = shared_device
    with socket.create_connection((client.address, client.port), 20) as connection:
        keep = {"Connection": "keep-alive"}
        connection.sendall(client.head("HEAD", "/submission", 0, keep) + client.head("HEAD", "/submission", 0))
        first = read_answer(connection, "HEAD")
        assert first.status == 204
        assert first.body.startswith(b"HTTP/1.1 204")


def test_without_the_switch_nothing_listens_and_nothing_is_loaded(tmp_path: Path) -> None:
    with OpenRosaDevice(tmp_path / "device", TestAuthority(tmp_path / "authority")) as device:
        text = device.configuration.read_text().replace("openrosa = true", "")
        device.configuration.write_text(text)
        device.enrol().start()
        assert "ODK Collect" not in device.run("status").output
        loaded = Path(f"/proc/{device.process.pid}/maps").read_text()
        assert "starlette" not in loaded
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", device.port), 5)
        assert not (device.state_directory / KEY_FILE_NAME).exists()
