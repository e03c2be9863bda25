"""What becomes of media, on a desktop: the daemon's socket, the person's program, and a session's bus between them."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from edge_agent.engine.media import Enrolled
from edge_agent.queue.intake.local_protocol import listening_socket
from edge_agent.usb_watch.actions import Ending, Outcome, Progress, Stage
from edge_agent.usb_watch.desktop import Desktop, DesktopFault, notices_from
from edge_agent.usb_watch.media_watch import MediumState, Turn
from edge_agent.usb_watch.notices import NOTICES_SOCKET_NAME, Notice, Notices
from edge_agent.usb_watch.sentences import sentences_in
from edge_agent.usb_watch.signs import Word
from tests.integration.edge_fixtures import authority
from tests.integration.test_media_by_hand import stick
from tests.support.certificates import TestAuthority
from tests.support.edge_device import EdgeDevice
from tests.support.fake_notifications import FakeNotifications
from tests.support.message_bus import message_bus, why_no_message_bus
from tests.support.processes import wait_until

__all__ = ["authority", "stick"]

needs_bus = pytest.mark.skipif(why_no_message_bus() is not None, reason=str(why_no_message_bus()))
GROUP = grp.getgrgid(os.getgid()).gr_name


def medium(stage: Stage | None = None, ending: Ending | None = None, nonce: str = "1" * 16) -> MediumState:
    outcome = None if ending is None else Outcome(ending, Enrolled(bytes(16), "0017", "somebody"), Progress())
    return MediumState(nonce, "/dev/sdb1", 1, stage=stage, outcome=outcome, number=None if outcome is None else "0017")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Notices, Path]]:
    path = folder / NOTICES_SOCKET_NAME
    notices = Notices(lambda: listening_socket(path, GROUP), sentences_in("ru"))
    task = asyncio.create_task(notices.run())
    await until(path.exists)
    try:
        yield notices, path
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def folder() -> Iterator[Path]:
    """A socket's path has at most 107 bytes; pytest's folders are deep."""
    with tempfile.TemporaryDirectory(prefix="edge-") as name:
        yield Path(name)


def test_whoever_listens_hears_each_turn_and_first_what_goes_on(folder: Path) -> None:
    async def scenario() -> None:
        async with served(folder) as (notices, path):
            notices.tell(Turn.BEGAN, medium(nonce="over"))
            notices.tell(Turn.ENDED, medium(ending=Ending.SAFE, nonce="over"))
            notices.tell(Turn.BEGAN, medium())
            notices.tell(Turn.STAGE, medium(Stage.READING))
            heard: list[Notice] = []

            async def listen() -> None:
                async for notice in notices_from(path):
                    heard.append(notice)

            listening = asyncio.create_task(listen())
            await until(lambda: len(heard) == 1)
            notices.tell(Turn.STAGE, medium(Stage.WRITING))
            notices.tell(Turn.OUT, medium(Stage.WRITING))
            notices.tell(Turn.ENDED, medium(ending=Ending.GONE))
            await until(lambda: len(heard) == 3)
            listening.cancel()
            assert [(one.medium, one.word, one.sentence) for one in heard] == [
                ("/dev/sdb1", Word.WORKING, "чтение: не вынимайте"),
                ("/dev/sdb1", Word.WORKING, "запись: не вынимайте"),
                ("0017", Word.FAILED, sentences_in("ru")(medium(ending=Ending.GONE))),
            ]

    asyncio.run(scenario())


def test_the_socket_is_for_the_group_alone(folder: Path) -> None:
    async def scenario() -> None:
        async with served(folder) as (_, path):
            status = path.stat()
            assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, os.getgid())

    asyncio.run(scenario())


def test_a_listener_that_does_not_read_is_cut_off_and_others_go_on(folder: Path) -> None:
    async def scenario() -> None:
        async with served(folder) as (notices, path):
            heard = 0

            async def listen() -> None:
                nonlocal heard
                async for _ in notices_from(path):
                    heard += 1

            listening = asyncio.create_task(listen())
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sleeper:
                sleeper.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sleeper, str(path))
                notices.tell(Turn.BEGAN, medium())
                await until(lambda: heard == 1)
                while not sleeper_is_cut_off(sleeper):
                    before = heard
                    notices.tell(Turn.STAGE, medium(Stage.WRITING))
                    await until(partial(lambda count: heard > count, before))
            listening.cancel()

    asyncio.run(scenario())


def sleeper_is_cut_off(sleeper: socket.socket) -> bool:
    """Whether the far end is closed: a write says so, and a read is just what the sleeper does not do."""
    try:
        sleeper.send(b".")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


@needs_bus
def test_a_visit_is_one_notification_that_is_kept_up_to_date(tmp_path: Path) -> None:
    async def scenario(address: str, fake: FakeNotifications) -> None:
        async with Desktop(address, seconds=0.05) as desktop:
            await desktop.show(Notice("a", "/dev/sdb1", Word.WORKING, "reading: do not remove it"))
            await desktop.show(Notice("b", "/dev/sdc1", Word.WORKING, "reading: do not remove it"))
            await desktop.show(Notice("a", "0017", Word.SAFE, "safe to remove"))
            await desktop.show(Notice("b", "0018", Word.FAILED, "it fails: take another one"))
            assert [(one.number, one.replaced) for one in fake.calls] == [(1, 0), (2, 0), (1, 1), (2, 2)]
            await until(lambda: fake.closed == [1])
            reading, _, safe, failed = fake.calls
            assert (safe.summary, safe.body) == ("USB 0017", "safe to remove")
            assert [one.hints["urgency"] for one in (reading, safe, failed)] == [1, 1, 2]
            assert [one.hints["resident"] for one in (reading, safe, failed)] == [True, False, True]
            assert [one.expire_milliseconds for one in (reading, safe, failed)] == [0, 50, 0]
            await desktop.show(Notice("c", "/dev/sdb1", Word.WORKING, "reading: do not remove it"))
            await desktop.forget()
            assert fake.closed == [1, fake.calls[-1].number], "what failed stays until somebody closes it"

    with message_bus(tmp_path) as address, FakeNotifications(address).running() as fake:
        asyncio.run(scenario(address, fake))


@needs_bus
@pytest.mark.parametrize(("capabilities", "body"), [(("body",), "<a> & b"), (("body-markup",), "&lt;a&gt; &amp; b")])
def test_what_looks_like_markup_is_shown_as_it_is(tmp_path: Path, capabilities: tuple[str, ...], body: str) -> None:
    async def scenario(address: str) -> None:
        async with Desktop(address) as desktop:
            await desktop.show(Notice("a", "1", Word.WORKING, "<a> & b"))

    with message_bus(tmp_path) as address, FakeNotifications(address, capabilities).running() as fake:
        asyncio.run(scenario(address))
    assert [one.body for one in fake.calls] == [body]


@needs_bus
def test_a_desktop_that_shows_nothing_and_one_that_is_not_there_say_so(tmp_path: Path) -> None:
    async def scenario(address: str) -> None:
        async with Desktop(address) as desktop:
            with pytest.raises(DesktopFault, match="no program on this desktop shows notifications"):
                await desktop.show(Notice("a", "1", Word.WORKING, "reading"))
        with pytest.raises(DesktopFault, match="no session bus"):
            async with Desktop(f"unix:path={tmp_path}/nowhere"):
                pass

    with message_bus(tmp_path) as address:
        asyncio.run(scenario(address))


@contextlib.contextmanager
def notifying(device: EdgeDevice, address: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`edge-agent notify`, as in the session whose bus is at that address."""
    words = [sys.executable, "-m", "edge_agent", "--configuration", str(device.configuration), "notify"]
    environment = os.environ | {"DBUS_SESSION_BUS_ADDRESS": address}
    with log.open("wb") as file, subprocess.Popen(words, env=environment, stdout=file, stderr=file) as process:
        try:
            yield process
        finally:
            process.kill()


@needs_bus
def test_the_person_at_the_machine_sees_what_becomes_of_a_stick(
    tmp_path: Path, authority: TestAuthority, stick: Path
) -> None:
    lines = {"usb": f'language = "kk"\nnotify_group = "{GROUP}"'}
    said = tmp_path / "said"
    with (
        EdgeDevice(tmp_path / "tablet", authority, 1, lines=lines) as device,
        message_bus(tmp_path) as address,
        FakeNotifications(address).running() as fake,
        notifying(device.enrol("tablet 17"), address, said) as program,
    ):
        # The program is there before the daemon, and says once why nothing can be shown.
        wait_until(lambda: b"does not run" in said.read_bytes(), "it tells that there is no daemon")
        device.start()
        device.submit('{"persons":1}')

        def last_words() -> list[str]:
            device.run("media", "export", str(stick))
            return [one.body for one in fake.calls][-1:]

        wait_until(lambda: last_words() == ["суырып алуға болады"], "the end of a visit is shown")
        last = fake.calls[-1]
        assert (last.summary, last.replaced, last.number) == ("USB 17", last.number, fake.calls[-2].number)
        assert said.read_bytes().count(b"\n") <= 2
        device.process.terminate()
        assert program.poll() is None, "it waits for the next daemon"
    assert not device.logged("part_failed")


@needs_bus
def test_the_program_ends_with_its_session(tmp_path: Path, authority: TestAuthority) -> None:
    with EdgeDevice(tmp_path / "tablet", authority, 1) as device:
        session = contextlib.ExitStack()
        address = session.enter_context(message_bus(tmp_path))
        with notifying(device, address, tmp_path / "said") as program:
            wait_until(lambda: b"does not run" in (tmp_path / "said").read_bytes(), "it is on the bus")
            session.close()
            assert program.wait(20) == 0
        nowhere = f"unix:path={tmp_path}/nowhere"
        with notifying(device, nowhere, tmp_path / "said") as program:
            assert program.wait(20) == 1
        assert b"no session bus" in (tmp_path / "said").read_bytes()
