"""The endpoint of the census web site on a real daemon, over real TLS; and the notices that it gives."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from edge_agent.queue.intake.online.certificate import TlsFiles
from edge_agent.queue.intake.online.endpoint import keep_certificate
from edge_agent.queue.intake.openrosa.server import Doorway, listening
from sync_protocol.notice import notice_number, read_token
from tests.support.certificates import TestAuthority
from tests.support.online_device import FORM, OnlineDevice, WebSite, new_instance, online_device, questionnaire
from tests.support.openrosa_device import instance
from tests.support.processes import free_port

NOTICE = "{urn:census-sync:notice}notice"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OnlineDevice, WebSite]]:
    """One device for all tests that leave it as it was."""
    with online_device(tmp_path_factory.mktemp("online")) as device:
        yield device, device.open_for_site()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[OnlineDevice]:
    with online_device(tmp_path) as made:
        yield made


Served = tuple[OnlineDevice, WebSite]


# What is taken, and how it is answered.


def test_a_questionnaire_in_json_is_sealed_with_its_answers_byte_for_byte_and_given_a_notice(
    device: OnlineDevice,
) -> None:
    site, instance_id = device.open_for_site(), new_instance()
    answers = '{ "village": "Аксу",\t"persons": [{"age": 33.50}], "empty": {} }'
    body = f'{{"form": "household", "version": "3", "instance_id": "{instance_id}", "answers": {answers} }}'
    handed = site.hand_in(body.encode())
    assert (handed.status, handed.document["outcome"]) == (201, "taken")
    notice = handed.document["notice"]
    assert notice["number"] == notice_number(FORM, instance_id)
    assert (read_token(notice["token"]).number, notice["form"]) == (notice["number"], FORM)
    again = site.hand_in(body.encode())
    assert (again.status, again.document["outcome"], again.document["notice"]) == (201, "repeated", notice)
    device.process.kill9()  # whatever was answered is on disk
    ((metadata, sealed),) = device.questionnaires()
    assert (metadata.form, metadata.form_version, metadata.instance_id) == (FORM, "3", instance_id)
    meta = f'{{"meta":{{"instanceID":"{instance_id}"}},'
    assert sealed.decode() == meta + answers.removeprefix("{")
    after_a_restart = device.open_for_site().hand_in(body.encode())
    assert after_a_restart.document["notice"] == notice


def test_a_submission_as_form_programs_make_it_is_given_the_same_kind_of_notice(served: Served) -> None:
    _, site = served
    instance_id = new_instance()
    asked = site.request("HEAD", "/submission")
    assert (asked.status, asked.headers["X-OpenRosa-Version"]) == (204, "1.0")
    answers = [site.submit(instance(instance_id)) for _ in range(2)]
    assert [one.status for one in answers] == [201, 201]
    found = [ElementTree.fromstring(one.body).find(NOTICE) for one in answers]
    assert found[0] is not None and found[1] is not None and found[0].attrib == found[1].attrib
    assert found[0].attrib["number"] == notice_number(FORM, instance_id)
    assert read_token(found[0].attrib["token"]).form == FORM


def test_of_a_submission_in_parts_only_the_last_answer_has_the_notice(served: Served) -> None:
    _, site = served
    xml = instance(new_instance())
    first = site.submit(xml, (("a.jpg", "image/jpeg", b"1"),), incomplete=True)
    assert first.status == 202 and ElementTree.fromstring(first.body).find(NOTICE) is None
    last = site.submit(xml, (("b.jpg", "image/jpeg", b"2"),))
    assert last.status == 201 and ElementTree.fromstring(last.body).find(NOTICE) is not None


def test_other_answers_under_one_instance_id_conflict_unless_they_are_an_edit(served: Served) -> None:
    device, site = served
    first, second = new_instance(), new_instance()
    assert site.hand_in(questionnaire(first)).status == 201
    count = device.envelope_count()
    conflict = site.hand_in(questionnaire(first, {"a": 2}))
    assert (conflict.status, conflict.document["notice"]) == (409, None)
    # However they come.
    assert site.submit(instance(first)).status == 409
    assert device.envelope_count() == count
    edit = site.hand_in(questionnaire(second, {"a": 2}, replaces=first))
    assert edit.status == 201
    assert edit.document["notice"]["number"] == notice_number(FORM, second)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff{}",
        b"[" * 5_000,
        b'{"form":"f"}',
        questionnaire("uuid:1", None, version=3),
        questionnaire("x", form=""),
        questionnaire("x", answers={}),
        questionnaire("x", answers=[]),
        questionnaire("x", answers={"meta": {}}),
        questionnaire("x", answers={"a": None}, extra=1),
        questionnaire("x", replaces="x"),
        questionnaire("x", form="a\nb"),
        questionnaire(" x"),
        questionnaire("x" * 300),
    ],
)
def test_json_that_is_no_questionnaire_is_refused_with_what_is_wrong(served: Served, body: Any) -> None:
    device, site = served
    count = device.envelope_count()
    handed = site.hand_in(body)
    assert (handed.status, handed.document["outcome"]) == (400, "bad_json")
    assert handed.document["detail"] and handed.document["message"]
    assert device.envelope_count() == count


@pytest.mark.parametrize(
    "instance_id",
    [
        *("uuid:1", "17", "uuid:0f5cf0b2-6f0a-1d0b-9f3e-2d8a9a6f1c11"),
        *("uuid:d9f39678-4b7e-4015-9202-bd8fe4d0c1f1x", "d9f39678-4b7e-4015-9202-bd8fe4d0c1f1"),
    ],
)
def test_an_instance_id_that_could_be_guessed_is_refused(served: Served, instance_id: str) -> None:
    device, site = served
    count = device.envelope_count()
    handed = site.hand_in(questionnaire(instance_id))
    assert (handed.status, handed.document["outcome"]) == (422, "unacceptable")
    assert "random UUID" in handed.document["detail"]
    assert site.submit(instance(instance_id)).status == 422
    assert site.submit(instance(instance_id), (("a", "text/plain", b"1"),), incomplete=True).status == 422
    assert device.envelope_count() == count


def test_a_form_whose_id_no_notice_has_room_for_is_refused(served: Served) -> None:
    _, site = served
    handed = site.hand_in(questionnaire(new_instance(), form="f" * 65))
    assert (handed.status, "64 bytes" in handed.document["detail"]) == (422, True)


def test_other_media_types_methods_places_and_sizes_are_answered_as_what_they_are(served: Served) -> None:
    _, site = served
    document = json.dumps(questionnaire(new_instance())).encode()
    asked: dict[int, Any] = {
        415: site.request("POST", "/questionnaires", document, headers={"Content-Type": "text/plain"}),
        405: site.request("GET", "/questionnaires"),
        413: site.hand_in(b'{"a":"' + bytes(2_000_000) + b'"}'),
    }
    for status, handed in asked.items():
        assert (handed.status, handed.document["notice"]) == (status, None)
    compressed = site.hand_in(document, **{"Content-Encoding": "gzip"})
    assert compressed.status == 415
    for path in ("/", "/formList", "/key/x/submission", "/questionnaires/"):
        assert site.request("GET", path).status == 404
    unannounced = site.request(
        "POST", "/questionnaires", repeat(b"x" * 60_000, 40), headers={"Content-Type": "application/json"}
    )
    assert unannounced.status == 413


def test_answers_come_in_the_language_asked_for(served: Served) -> None:
    _, site = served
    handed = site.hand_in(b"{", **{"Accept-Language": "kk"})
    assert (handed.headers["Content-Language"], "түзет" in handed.document["message"]) == ("kk", True)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
almost = st.fixed_dictionaries(
    {},
    optional={
        "form": st.sampled_from(["household", "", "\0", "f" * 300]) | json_values,
        "version": st.text(max_size=5) | json_values,
        "instance_id": st.builds(new_instance) | st.text(max_size=50) | json_values,
        "replaces": st.text(max_size=10) | json_values,
        "answers": st.dictionaries(st.text(max_size=5), json_values, max_size=3) | json_values,
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_hostile_json_is_refused_or_is_a_questionnaire_and_leaves_nothing_by_halves(
    served: Served, data: st.DataObject
) -> None:
    device, site = served
    body = bytearray(json.dumps(data.draw(almost)).encode())
    if data.draw(st.booleans()):
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(body)))
            body[at : at + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    before = device.envelope_count()
    handed = site.hand_in(bytes(body))
    assert handed.status in (201, 400, 409, 422)
    assert (handed.document["notice"] is not None) == (handed.status == 201)
    assert device.envelope_count() == before + (handed.document["outcome"] == "taken")
    assert device.logged("openrosa_failed") == []


# Who may.


def test_without_a_token_in_force_nothing_is_answered_but_401(served: Served) -> None:
    device, _ = served
    wrong = device.site("0" * 64)
    none = device.site("")
    other_scheme = {"Authorization": f"Basic {device.token}"}
    for handed in (
        wrong.hand_in(questionnaire(new_instance())),
        none.hand_in(questionnaire(new_instance())),
        none.request("GET", "/nothing"),
        none.request("HEAD", "/submission"),
        none.request("HEAD", "/submission", headers=other_scheme),
        none.submit(instance(new_instance())),
    ):
        assert (handed.status, handed.headers["WWW-Authenticate"]) == (401, 'Bearer realm="census"')
    log = device.log.read_text()
    assert "0" * 64 not in log and device.token not in log
    # Told once for each reason, and not with every request.
    assert len(device.logged("online_turned_away")) == 2


def test_a_token_is_replaced_without_a_break_and_without_a_restart(device: OnlineDevice) -> None:
    old, new = device.open_for_site(), device.site("n" * 64)
    assert (old.request("HEAD", "/submission").status, new.request("HEAD", "/submission").status) == (204, 401)
    device.put_tokens(device.token, "n" * 64)
    assert (old.request("HEAD", "/submission").status, new.request("HEAD", "/submission").status) == (204, 204)
    device.put_tokens("n" * 64)
    assert (old.request("HEAD", "/submission").status, new.request("HEAD", "/submission").status) == (401, 204)
    device.tokens_file.unlink()
    # Not 401, which would have the site give a questionnaire up.
    assert new.hand_in(questionnaire(new_instance())).status == 503
    device.put_tokens("n" * 64)
    assert new.request("HEAD", "/submission").status == 204


def test_the_endless_body_of_a_stranger_is_not_read(served: Served) -> None:
    device, _ = served
    context = ssl.create_default_context(cafile=str(device.site_authority.certificate_file))
    raw = socket.create_connection(("127.0.0.1", device.online_port), 30)
    with context.wrap_socket(raw, server_hostname="127.0.0.1") as connection:
        connection.sendall(b"POST /submission HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n")
        sent, ended = 0, threading.Event()

        def send() -> None:
            nonlocal sent
            with suppress(OSError):
                while not ended.is_set():
                    connection.sendall(bytes(16_384))
                    sent += 16_384

        with ThreadPoolExecutor(max_workers=1) as sender:
            sending = sender.submit(send)
            received = connection.recv(4_096)
            assert received.startswith(b"HTTP/1.1 401 ") and b"connection: close" in received.lower()
            sending.result(timeout=30)  # the endpoint ends the connection
            ended.set()
        # What lies in buffers of the kernel, and not the 256 MB that a program of this device may send in vain.
        assert sent < 16_000_000


def test_plain_http_and_old_tls_are_not_spoken(served: Served) -> None:
    device, _ = served
    with pytest.raises(OSError):
        WebSite(device.online_port, None, device.token).request("HEAD", "/submission")
    context = ssl.create_default_context(cafile=str(device.site_authority.certificate_file))
    with pytest.deprecated_call():
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    raw = socket.create_connection(("127.0.0.1", device.online_port), 30)
    with pytest.raises(ssl.SSLError):
        context.wrap_socket(raw, server_hostname="127.0.0.1")
    raw.close()
    assert device.site().request("HEAD", "/submission").status == 204


def test_connections_without_a_handshake_count_and_do_not_keep_the_site_out_for_ever(device: OnlineDevice) -> None:
    text = device.configuration.read_text()
    device.configuration.write_text(text.replace("[online]\n", "[online]\nconnections_max = 3\n"))
    site = device.open_for_site()
    silent: list[socket.socket] = []
    kept_out = False
    while not kept_out and len(silent) < 10:  # the last probe of whether it listens may still count
        silent.append(socket.create_connection(("127.0.0.1", device.online_port), 30))
        try:
            site.request("HEAD", "/submission")
        except OSError:
            kept_out = True
    assert kept_out
    for connection in silent:
        connection.close()
    answered = False
    while not answered:  # the endpoint hears of the ends a moment later
        with suppress(OSError):
            answered = site.request("HEAD", "/submission").status == 204


def test_a_device_of_another_role_does_not_serve_the_site_and_the_doctor_says_why(tmp_path: Path) -> None:
    with online_device(tmp_path, role="tablet") as device:
        device.start()
        device.wait_for_event("part_failed")
        status = device.document("status")["online"]
        assert (status["listening"], "certified as tablet" in status["problem"]) == (False, True)
        found = [one["found"] for one in device.document("doctor")["findings"] if one["check"] == "census web site"]
        assert any("enrolled as tablet" in one for one in found)


def test_the_doctor_finds_what_the_endpoint_needs_and_what_is_wrong_with_it(device: OnlineDevice) -> None:
    def found() -> dict[str, str]:
        findings = device.document("doctor")["findings"]
        return {one["found"]: one["verdict"] for one in findings if one["check"] == "census web site"}

    assert set(found().values()) == {"ok"} and any("1 tokens are in force" in one for one in found())
    device.put_tokens()
    device.tokens_file.write_text("secret-in-the-clear\n")
    device.tokens_file.chmod(0o666)
    device.material.key.chmod(0o644)
    device.site_authority.issue("other", address="127.0.0.1", days_valid=5)
    problems = " | ".join(text for text, verdict in found().items() if verdict in ("problem", "warning"))
    for part in ("no token is in force", "no SHA-256", "may write to", "private key"):
        assert part in problems
    assert "secret-in-the-clear" not in problems
    expired = device.site_authority.issue("web", address="127.0.0.1", days_valid=-1)
    assert any("not valid now" in one for one in found())
    expired.key.write_text("no key")
    assert any("TLS files cannot be used" in one for one in found())


async def _nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Answer no request: only handshakes are looked at."""


def test_a_new_certificate_is_served_without_a_restart_and_a_damaged_one_leaves_the_old(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path / "site", "census web site")
    old = authority.issue("web", address="127.0.0.1")
    files, port = TlsFiles(old.certificate, old.key), free_port()

    async def served_until(changed: Callable[[str], bool]) -> str:
        while True:
            shown = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
            if changed(shown):
                return shown
            await asyncio.sleep(0.01)

    async def live() -> None:
        context = files.context()
        async with listening(_nothing, Doorway(port, ("127.0.0.1",), context)):
            keeping = asyncio.create_task(keep_certificate(files, context, look_seconds=0.01))
            first = await served_until(bool)
            assert first.split() == old.certificate.read_text().split()
            old.key.write_text("damaged")
            await asyncio.sleep(0.1)
            assert await served_until(bool) == first
            new = authority.issue("web", address="127.0.0.1")
            second = await served_until(lambda shown: shown != first)
            assert second.split() == new.certificate.read_text().split()
            keeping.cancel()

    asyncio.run(live())


# Deaths.


def test_a_death_between_acceptance_and_answer_costs_the_site_one_repetition(device: OnlineDevice) -> None:
    site, instance_id = device.open_for_site(), new_instance()
    body = json.dumps(questionnaire(instance_id)).encode()
    context = ssl.create_default_context(cafile=str(device.site_authority.certificate_file))
    raw = socket.create_connection(("127.0.0.1", device.online_port), 30)
    with context.wrap_socket(raw, server_hostname="127.0.0.1") as connection:
        head = f"POST /questionnaires HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {device.token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        device.wait_for_event("accepted")
        device.process.kill9()
    again = device.open_for_site().hand_in(body)
    assert (again.status, again.document["outcome"]) == (201, "repeated")
    assert again.document["notice"]["number"] == notice_number(FORM, instance_id)
    assert site.hand_in(body).document["notice"] == again.document["notice"]
    assert device.envelope_count() == 1


def test_what_was_answered_before_a_death_is_there_once_and_repetitions_get_the_same_notice(
    device: OnlineDevice,
) -> None:
    device.open_for_site()
    answered: dict[str, Any] = {}
    stop = threading.Event()

    def hand_in_until_taken(instance_id: str) -> None:
        while not stop.is_set():
            with suppress(OSError):  # the daemon died; the site hands in again
                handed = device.site().hand_in(questionnaire(instance_id))
                if handed.status == 201:
                    answered[instance_id] = handed.document["notice"]
                    return

    instances = [new_instance() for _ in range(40)]
    with ThreadPoolExecutor(max_workers=4) as servers:
        handing = [servers.submit(hand_in_until_taken, one) for one in instances]
        for death in range(4):
            before = len(answered)
            while len(answered) < min(40, before + 3 + death) and not all(one.done() for one in handing):
                stop.wait(0.005)
            device.process.kill9()
            device.open_for_site()
        for one in handing:
            one.result(timeout=60)
    site = device.site()
    assert {one: site.hand_in(questionnaire(one)).document["notice"] for one in instances} == answered
    device.process.kill9()
    assert sorted(metadata.instance_id for metadata, _ in device.questionnaires()) == sorted(instances)
