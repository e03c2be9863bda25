"""The drop folder with the kernel's own notices: what is taken, when, and how often."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent.queue.intake import drop_folder
from edge_agent.queue.intake.drop_folder import REFUSED, TAKEN, DropFolder
from sync_protocol.content import Metadata, decode_content
from sync_protocol.envelope import parse_envelope
from tests.support.device import Authority, Device
from tests.support.living_device import Living, living

PROJECT = Path(__file__).resolve().parents[2]


@dataclass
class Watched:
    folder: Path
    living: Living

    def metadata(self) -> list[Metadata]:
        return contents(self.living.device)

    def forms(self) -> list[str]:
        return [one.form for one in self.metadata()]

    def refused(self) -> dict[str, str]:
        """Return the reason beside each refused file, by the file's own name."""
        why = ".why.txt"
        files = (self.folder / REFUSED).glob(f"*{why}")
        return {one.name.partition("-")[2].removesuffix(why): one.read_text() for one in files}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)

    async def until_taken(self, envelopes: int) -> None:
        await self.until(lambda: self.living.instances() == envelopes and not any((self.folder / TAKEN).iterdir()))

    async def mark(self) -> None:
        """Drop one more file and wait for it, so that what was to be left alone has had its chance."""
        before = self.living.instances()
        write(self.folder / "mark.json", b'{"mark":%d}' % before)
        await self.until_taken(before + 1)


def contents(device: Device) -> list[Metadata]:
    found = []
    for (data,) in device.rows("data"):
        assert isinstance(data, bytes)
        found.append(decode_content(parse_envelope(data).open(Authority().center))[0])
    return found


def write(path: Path, body: bytes) -> None:
    path.write_bytes(body)


@asynccontextmanager
async def watching(base: Path) -> AsyncIterator[Watched]:
    folder = base / "drop"
    folder.mkdir(exist_ok=True)
    empty = not any(folder.iterdir())
    async with living(base / "queue") as one:
        watched = Watched(folder, one)
        running = asyncio.create_task(DropFolder(folder, one.intake, lambda: time.time_ns() // 1000).run())
        await watched.until(lambda: (folder / REFUSED).exists() or running.done())
        if empty:
            await watched.mark()
        try:
            yield watched
            assert not running.done(), "the drop folder must never end by itself"
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


def run(tmp_path: Path, story: Callable[[Watched], Awaitable[None]]) -> None:
    async def told() -> None:
        async with watching(tmp_path) as watched:
            await story(watched)

    asyncio.run(told())


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drop_folder, "_LOOK_INTERVAL_SECONDS", 0.2)
    monkeypatch.setattr(drop_folder, "_SETTLED_SECONDS", 0.2)


def test_a_file_is_taken_when_its_writer_closes_it_or_moves_it_in(tmp_path: Path) -> None:
    async def story(watched: Watched) -> None:
        write(watched.folder / "closed.json", b'{"a":1}')
        write(tmp_path / "moved.json", b'{"a":2}')
        (tmp_path / "moved.json").rename(watched.folder / "moved.json")
        write(watched.folder / "renamed.json.part", b'{"a":3}')
        (watched.folder / "renamed.json.part").rename(watched.folder / "renamed.json")
        await watched.until_taken(4)
        assert {path.name for path in watched.folder.iterdir()} == {TAKEN, REFUSED}

    run(tmp_path, story)


def test_what_was_there_before_the_start_is_taken(tmp_path: Path) -> None:
    (tmp_path / "drop" / "visit").mkdir(parents=True)
    for path in ("a.json", "visit/b.json"):
        write(tmp_path / "drop" / path, b'{"a":1}')
        os.utime(tmp_path / "drop" / path, (1_700_000_000, 1_700_000_000))

    async def story(watched: Watched) -> None:
        await watched.until_taken(2)
        assert sorted(watched.forms()) == ["household", "visit"]

    run(tmp_path, story)


def test_a_subfolder_names_the_form_whatever_its_letters(tmp_path: Path, quick_looks: None) -> None:
    async def story(watched: Watched) -> None:
        for form in ("visit", "a~b", "50%7E", "анкета"):
            (watched.folder / form).mkdir()
            write(watched.folder / form / "x~y.json", form.encode().join((b'{"a":"', b'"}')))
        await watched.until_taken(5)
        assert set(watched.forms()) == {"household", "visit", "a~b", "50%7E", "анкета"}

    run(tmp_path, story)


def test_names_of_unfinished_files_hidden_folders_links_and_pipes_are_left_alone(
    tmp_path: Path, quick_looks: None
) -> None:
    async def story(watched: Watched) -> None:
        for name in (".hidden.json", "a.json.part", "b.tmp"):
            write(watched.folder / name, b'{"a":1}')
        (watched.folder / ".trash").mkdir()
        write(watched.folder / ".trash" / "c.json", b'{"a":1}')
        write(tmp_path / "secret.json", b'{"a":1}')
        (watched.folder / "link.json").symlink_to(tmp_path / "secret.json")
        (tmp_path / "elsewhere").mkdir()
        write(tmp_path / "elsewhere" / "d.json", b'{"a":1}')
        (watched.folder / "linked").symlink_to(tmp_path / "elsewhere")
        os.mkfifo(watched.folder / "pipe.json")
        await asyncio.sleep(0.6)
        await watched.mark()
        assert watched.living.instances() == 2 and watched.refused() == {}
        assert (tmp_path / "elsewhere" / "d.json").exists() and (tmp_path / "secret.json").exists()

    run(tmp_path, story)


def test_a_file_is_not_taken_while_its_writer_is_still_at_it(tmp_path: Path, quick_looks: None) -> None:
    async def story(watched: Watched) -> None:
        with (watched.folder / "slow.jsonl").open("wb", buffering=0) as slow:
            slow.write(b'{"a":1}\n')
            await asyncio.sleep(0.8)
            await watched.mark()
            assert watched.living.instances() == 2
            slow.write(b'{"a":2}\n')
        await watched.until_taken(4)

    run(tmp_path, story)


def test_an_abandoned_file_is_taken_in_the_end(
    tmp_path: Path, quick_looks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop_folder, "_ABANDONED_SECONDS", 0.5)

    async def story(watched: Watched) -> None:
        write(tmp_path / "linked.json", b'{"a":1}')
        (watched.folder / "linked.json").hardlink_to(tmp_path / "linked.json")
        await watched.until_taken(2)

    run(tmp_path, story)


def test_lines_are_accepted_all_or_none(tmp_path: Path) -> None:
    async def story(watched: Watched) -> None:
        write(watched.folder / "good.jsonl", b'{"a":1}\n\n{"a":2}\r\n{"a":3}')
        await watched.until_taken(4)
        write(watched.folder / "bad.jsonl", b'{"a":4}\n{"a":\n{"a":6}\n')
        write(watched.folder / "empty.jsonl", b"\n\n")
        await watched.until(lambda: len(watched.refused()) == 2)
        assert watched.living.instances() == 4
        assert "questionnaire 2 of 3" in watched.refused()["bad.jsonl"]
        assert "nothing in it" in watched.refused()["empty.jsonl"]

    run(tmp_path, story)


def test_equal_files_without_an_instance_id_are_two_and_with_one_they_are_the_same(tmp_path: Path) -> None:
    async def story(watched: Watched) -> None:
        for name, body in (("a", b'{"a":1}'), ("b", b'{"a":1}'), ("c", b'{"instanceID":"\\u00e9"}')):
            write(watched.folder / f"{name}.json", body)
        await watched.until_taken(4)
        write(watched.folder / "d.json", b'{"instanceID":"\\u00e9"}')
        await watched.mark()
        await watched.until_taken(5)

    run(tmp_path, story)


def test_a_refused_file_lies_beside_its_reason(tmp_path: Path) -> None:
    async def story(watched: Watched) -> None:
        write(watched.folder / "broken.xml", b"<a>")
        await watched.until(lambda: "broken.xml" in watched.refused())
        assert "what to do:" in watched.refused()["broken.xml"]
        await watched.until(lambda: any(p.name.endswith("-broken.xml") for p in (watched.folder / REFUSED).iterdir()))
        assert not any((watched.folder / TAKEN).iterdir())

    run(tmp_path, story)


def test_a_file_that_cannot_be_accepted_now_stays_and_is_tried_again(tmp_path: Path, quick_looks: None) -> None:
    async def story(watched: Watched) -> None:
        watched.living.refusing = True
        write(watched.folder / "later.json", b'{"a":1}')
        await watched.until(lambda: any((watched.folder / TAKEN).iterdir()))
        await asyncio.sleep(0.5)
        assert watched.refused() == {} and any((watched.folder / TAKEN).iterdir())
        watched.living.refusing = False
        await watched.until_taken(2)

    run(tmp_path, story)


def test_odd_names_are_taken_and_long_ones_shortened(tmp_path: Path, quick_looks: None) -> None:
    async def story(watched: Watched) -> None:
        names = ["ж", "я" * 120 + ".json", "new\nline.json", "~~~.json", "a" * 250]
        raw_names = [name.encode() for name in names] + [b"\xcf\xf0\xe8\xe2\xe5\xf2.json", b"\xff~\xfe"]
        for number, name in enumerate(raw_names):
            write(watched.folder / os.fsdecode(name), b'{"n":%d}' % number)
        await watched.until_taken(1 + len(raw_names))
        (watched.folder / ("ф" * 100)).mkdir()
        write(watched.folder / ("ф" * 100) / "x.json", b"{}")
        await watched.until(lambda: "x.json" in watched.refused())
        unreadable = watched.folder / os.fsdecode(b"\xcf\xf0")
        unreadable.mkdir()
        write(unreadable / "y.json", b"{}")
        await watched.until(lambda: "y.json" in watched.refused())
        await watched.mark()

    run(tmp_path, story)


def test_files_and_folders_that_vanish_end_nothing(tmp_path: Path, quick_looks: None) -> None:
    async def story(watched: Watched) -> None:
        for number in range(60):
            folder = watched.folder / f"form{number}"
            folder.mkdir()
            write(folder / "x.json.part", b"{}")
            if number % 3 == 0:
                await asyncio.sleep(0.005)
            shutil.rmtree(folder)
            write(watched.folder / "gone.json.part", b"{}")
            (watched.folder / "gone.json.part").unlink()
        await watched.mark()

    run(tmp_path, story)


def test_a_refusal_that_finds_no_room_for_its_reason_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device", str(path))

    async def story(watched: Watched) -> None:
        with monkeypatch.context() as full:
            full.setattr(Path, "write_text", fail)
            write(watched.folder / "broken.xml", b"<a>")
            await watched.until(lambda: any((watched.folder / TAKEN).iterdir()))
            await asyncio.sleep(0.2)
        assert any((watched.folder / TAKEN).iterdir()), "it is there for the next look"
        write(watched.folder / "good.json", b"{}")
        await watched.until(lambda: watched.living.instances() == 2)

    run(tmp_path, story)


@pytest.mark.parametrize("step", ["accept", "unlink"])
def test_a_crash_between_rename_and_removal_accepts_the_file_once(tmp_path: Path, step: str) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    for name in ("one.json", "two.jsonl"):
        write(folder / name, b'{"a":1}\n{"a":1}\n' if name.endswith("l") else b'{"a":1}')
        os.utime(folder / name, (1_700_000_000, 1_700_000_000))
    command = [sys.executable, "-m", "tests.support.living_device", str(tmp_path / "queue"), str(folder)]
    for _ in range(3):
        killed = subprocess.run([*command, step], cwd=PROJECT, check=False, capture_output=True, timeout=60)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert any((folder / TAKEN).iterdir())

    async def story(watched: Watched) -> None:
        await watched.until_taken(3)
        assert watched.refused() == {}

    run(tmp_path, story)
