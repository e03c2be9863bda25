"""The OpenRosa endpoint while everything goes wrong: deaths, a full disk, slow and many clients, hostile bytes."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.engine.effects import Accepted
from edge_agent.engine.events import Started
from edge_agent.queue.intake.intake import Intake, IntakeSettings
from edge_agent.queue.intake.openrosa.application import ApplicationSettings, application
from edge_agent.queue.intake.openrosa.batches import Batch, BatchFolder
from edge_agent.queue.intake.openrosa.desk import UNFINISHED_SECONDS, SubmissionDesk
from edge_agent.queue.intake.openrosa.forms import FolderShelf
from edge_agent.queue.intake.openrosa.server import CONNECTIONS_MAX, BoundedProtocol, Doorway, listening
from edge_agent.queue.intake.recognition import RawSubmission, Unacceptable
from edge_agent.runner import Runner
from sync_protocol.attachments import Attachment, read_attachments
from tests.support.collect import CollectClient, HttpAnswer, multipart, read_answer, submission_parts
from tests.support.device import Authority, Device
from tests.support.openrosa_device import OpenRosaDevice, instance, openrosa_device
from tests.support.processes import free_port

KEY = "k" * 64
ANSWERS = {201, 202, 400, 408, 409, 413, 415, 422, 503, 507}
"""What a submission may be answered; never 500."""


@pytest.fixture
def device(tmp_path: Path) -> Iterator[OpenRosaDevice]:
    with openrosa_device(tmp_path) as made:
        yield made


# Deaths.


def test_a_death_while_what_was_taken_is_let_go_leaves_nothing_to_take_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = BatchFolder(tmp_path / "openrosa")
    batches.prepare()
    batch = Batch(b"i" * 32, b"x" * 32)
    for number, last in ((1, False), (2, True)):
        batches.add(batch, b"<a/>", [Attachment(f"{number}.jpg", "image/jpeg", b"x")], last=last)

    def killed(folder: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            min(folder.iterdir()).unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            batches.conclude(batch, batches.join(batch))
    again = BatchFolder(tmp_path / "openrosa")
    again.prepare()
    assert again.batches() == [] and again.of_instance(b"i" * 32) == []
    assert set(again.taken_files(batch)) == {"1.jpg", "2.jpg"}
    assert [path.suffix for path in (tmp_path / "openrosa").iterdir()] == [".taken"]


def test_what_was_answered_before_a_death_is_there_and_nothing_twice(device: OpenRosaDevice) -> None:
    """The daemon is killed again and again while programs submit, in one request or in three, and repeat themselves."""
    device.serve()
    files = [(f"{n}.jpg", "image/jpeg", bytes([n]) * 40_000) for n in range(3)]
    accepted: set[str] = set()
    stop = threading.Event()

    def submit_until_taken(instance_id: str) -> None:
        requests: list[tuple[list[tuple[str, str, bytes]], bool]] = [([], False)]
        if int(instance_id) % 2:
            requests = [([each], each is not files[-1]) for each in files]
        while not stop.is_set():
            with suppress(OSError, IndexError):  # the daemon died; the program sends all of it again
                client = device.client()
                if all(
                    client.submit(instance(instance_id), each, incomplete=more).status in (201, 202)
                    for each, more in requests
                ):
                    accepted.add(instance_id)
                    return

    with ThreadPoolExecutor(max_workers=4) as programs:
        submitting = [programs.submit(submit_until_taken, str(number)) for number in range(60)]
        for death in range(6):
            before = len(accepted)
            while len(accepted) < min(60, before + 3 + death) and not all(each.done() for each in submitting):
                stop.wait(0.005)
            device.process.kill9()
            device.serve()
        for each in submitting:
            each.result(timeout=60)
    assert len(accepted) == 60
    left = [path for path in (device.state_directory / "openrosa").iterdir() if path.is_dir()]
    assert left == []
    device.process.kill9()
    found = [(metadata.instance_id, body) for metadata, body in device.questionnaires()]
    assert sorted(instance_id for instance_id, _ in found) == sorted(str(number) for number in range(60))
    for instance_id, body in found:
        if int(instance_id) % 2:
            xml, read = read_attachments(body)
            assert {(each.name, each.data) for each in read} == {(name, data) for name, _, data in files}
            assert xml == instance(instance_id)
        else:
            assert body == instance(instance_id)


def test_a_batch_whose_last_request_came_before_a_death_is_completed_at_the_next_start(device: OpenRosaDevice) -> None:
    client = device.serve()
    files = [("a", "image/jpeg", b"1"), ("b", "image/jpeg", b"2")]
    assert client.submit(instance("uuid:1"), files[:1], incomplete=True).status == 202
    device.process.kill9()
    folder = device.state_directory / "openrosa"
    batches = BatchFolder(folder)
    (batch,) = batches.batches()
    joined = batches.join(batch)
    # As it is when the daemon dies behind the last request's fsync; and what it leaves when it dies before.
    batches.add(batch, joined.xml, _attachments(files[1:]), last=True)
    (folder / batch.name / ".000003.77.part").write_bytes(b"torn")
    client = device.serve()
    device.wait_for_event("accepted")
    assert client.submit(instance("uuid:1"), files[1:]).status == 201
    assert device.envelope_count() == 1
    device.process.terminate()
    ((_, body),) = device.questionnaires()
    assert [each.data for each in read_attachments(body)[1]] == [b"1", b"2"]


def _attachments(files: list[tuple[str, str, bytes]]) -> list[Attachment]:
    return [Attachment(*each) for each in files]


class DyingIntake(Intake):
    """The device dies whenever something is handed to its queue."""

    async def take(self, raws: Sequence[RawSubmission], occasion: str) -> Sequence[Accepted | Unacceptable]:
        raise OSError("dead")


def test_a_last_request_is_on_disk_before_the_queue_is_asked(tmp_path: Path) -> None:
    files = [("a", "image/jpeg", b"1"), ("b", "image/jpeg", b"2")]

    def submit(client: CollectClient) -> None:
        assert client.submit(instance("uuid:1"), files[:1], incomplete=True).status == 202
        assert client.submit(instance("uuid:1"), files[1:]).status == 503

    def repeat(client: CollectClient) -> None:
        answer = client.submit(instance("uuid:1"), files[1:])
        assert answer.status == 201 and b"before" in answer.body

    serve_here(tmp_path, submit, DyingIntake)
    assert len(list((tmp_path / "openrosa").glob("*/*.last.post"))) == 1
    serve_here(tmp_path, repeat)
    assert list((tmp_path / "openrosa").glob("*/*.post")) == []


def test_a_batch_that_nobody_completes_is_taken_after_a_day(device: OpenRosaDevice) -> None:
    client = device.serve()
    assert client.submit(instance("uuid:1"), [("a", "image/jpeg", b"1")], incomplete=True).status == 202
    device.process.terminate()
    device.serve()
    assert device.envelope_count() == 0
    device.process.terminate()
    (post,) = (device.state_directory / "openrosa").glob("*/*.post")
    then = post.stat().st_mtime - UNFINISHED_SECONDS - 1
    os.utime(post, (then, then))
    device.serve()
    device.wait_for_event("openrosa_unfinished_taken")
    assert device.envelope_count() == 1


def test_a_damaged_batch_is_put_aside_and_told(device: OpenRosaDevice) -> None:
    client = device.serve()
    first, last = ("a", "image/jpeg", b"1"), ("b", "image/jpeg", b"2")
    assert client.submit(instance("uuid:1"), [first], incomplete=True).status == 202
    (post,) = (device.state_directory / "openrosa").glob("*/*.post")
    post.write_bytes(post.read_bytes()[:-3])
    assert client.submit(instance("uuid:1"), [last]).status == 503
    device.wait_for_event("openrosa_batch_damaged")
    assert client.submit(instance("uuid:1"), [first], incomplete=True).status == 202
    assert client.submit(instance("uuid:1"), [last]).status == 201
    assert len(list((device.state_directory / "openrosa-damaged").glob("*/*.post"))) == 1


# A full disk.


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    with openrosa_device(tmp_path, lines={"storage": ""}) as device:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(device.state_directory)],
            check=False,
            capture_output=True,
            text=True,
        )
        if mounted.returncode:
            pytest.skip(f"cannot mount: {mounted.stderr.strip()}")
        try:
            _fill_and_submit(device)
        finally:
            device.process.terminate()
            subprocess.run(["umount", "--lazy", str(device.state_directory)], check=True)


def _fill_and_submit(device: OpenRosaDevice) -> None:
    client = device.serve()
    photo = ("a.jpg", "image/jpeg", os.urandom(300_000))
    assert client.submit(instance("uuid:1")).status == 201
    assert client.submit(instance("uuid:2"), [photo], incomplete=True).status == 202
    ballast = device.state_directory / "ballast"
    room = os.statvfs(device.state_directory)
    ballast.write_bytes(bytes(room.f_bavail * room.f_frsize - 200_000))
    requests: list[Callable[[], HttpAnswer]] = [
        lambda: client.submit(instance("uuid:3")),
        lambda: client.submit(instance("uuid:2"), [("b.jpg", "image/jpeg", os.urandom(300_000))]),
        lambda: client.submit(instance("uuid:4"), [photo], incomplete=True),
        lambda: client.submit(instance("uuid:5"), [("v.mp4", "video/mp4", os.urandom(3_000_000))]),
    ]
    for request in requests:
        answer = request()
        assert answer.status == 507
        assert b"disk" in answer.body
    assert device.envelope_count() == 1
    ballast.unlink()
    assert client.submit(instance("uuid:3")).status == 201
    assert client.submit(instance("uuid:2"), [("b.jpg", "image/jpeg", b"b")]).status == 201
    device.process.terminate()
    found = {metadata.instance_id: body for metadata, body in device.questionnaires()}
    assert set(found) == {"uuid:1", "uuid:2", "uuid:3"}
    assert [each.data for each in read_attachments(found["uuid:2"])[1]] == [photo[2], b"b"]


# Slow clients, and many.


def serve_here(folder: Path, work: Callable[[CollectClient], None], intake_kind: type[Intake] = Intake) -> None:
    """Run the endpoint in this process, impatient, on the real queue; `work` runs on a thread."""
    device = Device(folder / "queue", Authority()).start()

    async def live() -> None:
        with ThreadPoolExecutor(max_workers=1) as thread:
            runner = Runner(device.stepper, thread, lambda: device.now)
            await runner.start(Started(None, ()))
            running = asyncio.create_task(runner.run())
            intake = intake_kind(IntakeSettings(folder, "", 10**7, 0), runner, lambda: device.now)
            batches = BatchFolder(folder / "openrosa")
            batches.prepare()
            desk = SubmissionDesk(
                intake, runner, batches, bytes_max=10**7, clock=lambda: device.now, new_occasion=lambda: "1"
            )
            served = application(
                desk,
                FolderShelf(folder / "forms", lambda *_: None),
                key=KEY,
                settings=ApplicationSettings(batches.folder, 10**7, frozenset(), pause_seconds_max=0.3),
                clock=lambda: device.now,
                renew=partial(asyncio.sleep, 0),
            )
            port = free_port()
            async with listening(served, Doorway(port)):
                await desk.complete_what_is_left()
                await asyncio.to_thread(work, CollectClient(port, KEY))
            running.cancel()
            await asyncio.wait({running})

    try:
        asyncio.run(live())
    finally:
        device.stop()


def test_slow_clients_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "idle_seconds_max", 0.3)

    def work(client: CollectClient) -> None:
        body = multipart(submission_parts(instance("uuid:1")), "b")
        head = client.head("POST", "/submission", len(body), {"Content-Type": "multipart/form-data; boundary=b"})
        for sent in (b"", head[:40], head[:-2]):
            with socket.create_connection((client.address, client.port), 20) as connection:
                connection.sendall(sent)
                with suppress(ConnectionResetError):
                    assert connection.recv(1000) == b""
        with socket.create_connection((client.address, client.port), 20) as connection:
            connection.sendall(head + body[:-10])
            assert read_answer(connection, "POST").status == 408
        assert client.submit(instance("uuid:1")).status == 201

    serve_here(tmp_path, work)
    assert list((tmp_path / "openrosa").iterdir()) == []


def test_no_answer_waits_for_an_acknowledgement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[int] = []
    made = BoundedProtocol.connection_made

    def noted(protocol: BoundedProtocol, transport: asyncio.Transport) -> None:
        options.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        made(protocol, transport)

    monkeypatch.setattr(BoundedProtocol, "connection_made", noted)

    def ask(client: CollectClient) -> None:
        assert client.request("HEAD", "/submission").status == 204

    serve_here(tmp_path, ask)
    assert options and all(options)


def test_connections_are_bounded(tmp_path: Path) -> None:
    def work(client: CollectClient) -> None:
        opened = [socket.create_connection((client.address, client.port), 20) for _ in range(CONNECTIONS_MAX)]
        # It is ended at once, long before the others would be for their silence.
        refused = socket.create_connection((client.address, client.port), BoundedProtocol.idle_seconds_max / 3)
        with suppress(ConnectionResetError):
            assert refused.recv(1) == b""
        for connection in (*opened, refused):
            connection.close()
        answer = None
        while answer is None:  # the server hears of the ends a moment later
            with suppress(OSError, IndexError):
                answer = client.submit(instance("uuid:1"))
        assert answer.status == 201

    serve_here(tmp_path, work)


# Hostile bytes.


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenRosaDevice, CollectClient]]:
    with openrosa_device(tmp_path_factory.mktemp("fuzzed")) as device:
        yield device, device.serve()


bodies = st.one_of(
    st.binary(max_size=400),
    st.lists(
        st.sampled_from(
            [
                b"--b",
                b"--",
                b"\r\n",
                b"\r\n\r\n",
                b"\n",
                b"Content-Disposition: form-data; name=",
                b'"xml_submission_file"',
                b'; filename="x"',
                b'"*isIncomplete*"',
                b"yes",
                b"Content-Type: text/xml",
                b"Content-Transfer-Encoding: base64",
                b'<data id="f"><meta><instanceID>uuid:1</instanceID></meta></data>',
                b"<a>",
                b"\xff",
                b"\x00",
            ]
        ),
        max_size=40,
    ).map(b"".join),
)
WHOLE = multipart(submission_parts(instance("uuid:fuzz"), [("a.jpg", "image/jpeg", b"data")], incomplete=True), "b")


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_hostile_bytes_are_refused_and_leave_nothing(
    fuzzed: tuple[OpenRosaDevice, CollectClient], data: st.DataObject
) -> None:
    device, client = fuzzed
    if data.draw(st.booleans()):
        body = bytearray(WHOLE)
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(body)))
            body[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    else:
        body = bytearray(data.draw(bodies))
    folder = device.state_directory / "openrosa"
    before = device.envelope_count(), sorted(folder.rglob("*"))
    headers = {"Content-Type": data.draw(st.sampled_from(["multipart/form-data; boundary=b"] * 4 + ["text/xml", ";;"]))}
    answer = client.request("POST", "/submission", bytes(body), headers=headers, chunks=data.draw(st.integers(0, 9)))
    assert answer.status in ANSWERS
    if answer.status >= 300:
        assert (device.envelope_count(), sorted(folder.rglob("*"))) == before


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=300), begin=st.sampled_from([b"", b"POST /", b"GET /key/ HTTP/1.1\r\nHost: a\r\n"]))
def test_hostile_requests_do_not_end_the_endpoint(
    fuzzed: tuple[OpenRosaDevice, CollectClient], raw: bytes, begin: bytes
) -> None:
    device, client = fuzzed
    with socket.create_connection((client.address, client.port), 20) as connection:
        connection.sendall(begin + raw)
        connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            received = connection.recv(65_536)
            assert received == b"" or (received.startswith(b"HTTP/1.1 ") and not received.startswith(b"HTTP/1.1 5"))
    assert client.request("HEAD", "/submission").status == 204
    assert device.logged("openrosa_failed") == []
