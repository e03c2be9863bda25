"""The local socket for form programs: answers in order, shared commits, and clients that misbehave."""

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_agent.queue.intake import local_protocol
from edge_agent.queue.intake.local_protocol import LINE_BYTES_MAX, LocalServer, connected
from edge_agent.queue.intake.submit_socket import SubmitHandler
from sync_protocol.limits import QUESTIONNAIRE_BYTES_MAX
from tests.support.living_device import BYTES_MAX, Living, living

Answer = dict[str, Any]


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, body: bytes, **members: object) -> None:
        header = {"request": "submit", **members, **({"bytes": len(body)} if body else {})}
        await self.raw(json.dumps(header).encode() + b"\n" + body)

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer | None:
        """Return the next answer, None at the end of the conversation."""
        async with asyncio.timeout(30):
            line = await self.reader.readline()
        answer: Answer | None = json.loads(line) if line else None
        return answer

    async def ask(self, body: bytes, **members: object) -> Answer:
        await self.send(body, **members)
        answer = await self.answer()
        assert answer is not None
        return answer


@dataclass
class Served:
    path: Path
    living: Living

    async def client(self) -> Client:
        return Client(*await asyncio.open_unix_connection(self.path))

    async def still_works(self) -> None:
        client = await self.client()
        assert (await client.ask(b'{"a":1}'))["ok"]
        client.writer.close()


@asynccontextmanager
async def serving(base: Path) -> AsyncIterator[Served]:
    async with living(base / "queue") as one:
        path = base / "submit.sock"
        server = asyncio.create_task(LocalServer(path, "no-such-group", SubmitHandler(one.intake)).run())
        try:
            async with asyncio.timeout(30):
                while not path.exists():
                    await asyncio.sleep(0.005)
            yield Served(path, one)
            assert not server.done(), "the server must never end by itself"
        finally:
            server.cancel()
            async with asyncio.timeout(10):
                with suppress(asyncio.CancelledError):
                    await server
        assert not path.exists()


def run(tmp_path: Path, story: Callable[[Served], Awaitable[None]]) -> None:
    async def told() -> None:
        async with serving(tmp_path) as served:
            await story(served)

    asyncio.run(told())


def test_a_questionnaire_is_accepted_and_its_place_answered(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        client = await served.client()
        assert await client.ask(b'{"a":1}', key="k") == {
            "ok": True,
            "epoch": 1,
            "first_sequence": 1,
            "last_sequence": 1,
            "repeated": False,
        }
        assert (await client.ask(b'{"a":1}', key="k"))["repeated"]
        assert (await client.ask(b'{"a":1}', key="other"))["first_sequence"] == 2
        assert (await client.ask(b'{"a":2}', key="k"))["first_sequence"] == 3
        assert stat.S_IMODE(served.path.stat().st_mode) == 0o660

    run(tmp_path, story)


def test_a_refusal_says_why_and_the_conversation_goes_on(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        client = await served.client()
        refusal = await client.ask(b"<a>")
        assert not refusal["ok"] and not refusal["again"] and "well-formed" in refusal["problem"] and refusal["remedy"]
        for members, problem in (
            ({"request": "other"}, "submit"),
            ({"form": 7}, "form of the request is not a str"),
        ):
            assert problem in (await client.ask(b"{}", **members))["problem"]
        assert "nothing in it" in (await client.ask(b""))["problem"]
        assert "bytes, more than" in (await client.ask(b"x" * (BYTES_MAX + 1)))["problem"]
        assert (await client.ask(b"{}"))["ok"]

    run(tmp_path, story)


def test_answers_come_in_the_order_of_the_requests_and_waiting_ones_share_commits(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        commits: list[str] = []
        store = served.living.device.store
        assert store is not None
        store.connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        clients = [await served.client() for _ in range(4)]
        for client in clients:
            await client.raw(
                b"".join(b'{"request":"submit","bytes":%d}\n{"n":%d}' % (len(b'{"n":%d}' % n), n) for n in range(100))
            )
        for client in clients:
            places = [(await client.answer() or {})["first_sequence"] for _ in range(100)]
            assert places == sorted(places)
        store.connection.set_trace_callback(None)
        assert served.living.instances() == 400
        # Each event that accepts is followed by one that wakes; together they are far fewer than the questionnaires.
        assert len(commits) < 100

    run(tmp_path, story)


def test_a_mix_of_good_and_refused_requests_is_answered_in_order(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        client = await served.client()
        bodies = [b'{"n":1}', b"<", b'{"n":2}', b"[]", b'{"n":3}'] * 8
        for body in bodies:
            await client.send(body)
        answers = [(await client.answer() or {})["ok"] for _ in bodies]
        assert answers == [body.startswith(b"{") for body in bodies]

    run(tmp_path, story)


@pytest.mark.parametrize(
    "garbage",
    [
        b"garbage\n",
        b"\n",
        b"[1]\n",
        b'{"a":"\xff"}\n',
        b'{"a":' * 9000 + b"\n",
        b'{"bytes":-1}\n',
        b'{"bytes":true}\n',
        b'{"bytes":"7"}\n',
        b'{"bytes":%d}\n' % (QUESTIONNAIRE_BYTES_MAX + 1),
        b'{"bytes":1%s}\n' % (b"0" * 50),
        b'{"a":"' + b"x" * (4 * LINE_BYTES_MAX),
        b"\0" * (4 * LINE_BYTES_MAX),
        b'{"bytes":10}',
    ],
)
def test_garbage_ends_its_conversation_after_what_was_asked_before_is_answered(tmp_path: Path, garbage: bytes) -> None:
    async def story(served: Served) -> None:
        client = await served.client()
        await client.send(b'{"a":1}')
        with suppress(ConnectionError):
            await client.raw(garbage)
            client.writer.write_eof()
        first = await client.answer()
        assert first is not None and first["ok"]
        with suppress(ConnectionError):
            second = await client.answer()
            assert second is not None and not second["ok"] and second["problem"] and second["remedy"]
            assert await client.answer() is None
        await served.still_works()

    run(tmp_path, story)


def test_a_body_that_ends_early_is_not_submitted(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        client = await served.client()
        await client.raw(b'{"request":"submit","bytes":100}\n{"a":1}')
        client.writer.close()
        await served.still_works()
        assert served.living.instances() == 1

    run(tmp_path, story)


def test_a_client_that_stalls_within_a_request_is_ended_and_one_that_is_silent_between_requests_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_protocol, "_REQUEST_TIMEOUT_SECONDS", 0.3)

    async def story(served: Served) -> None:
        silent, in_line, in_body = [await served.client() for _ in range(3)]
        await in_line.raw(b'{"request"')
        await in_body.raw(b'{"request":"submit","bytes":9}\n{')
        for client in (in_line, in_body):
            answer = await client.answer()
            assert answer is not None and "did not end" in answer["problem"]
            assert await client.answer() is None
        assert (await silent.ask(b"{}"))["ok"]

    run(tmp_path, story)


def test_a_client_that_reads_no_answers_holds_up_nobody_else(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        client = await served.client()
        flood = asyncio.create_task(client.raw(b'{"request":"%s"}\n' % (b"x" * 200) * 20_000))
        for _ in range(5):
            await served.still_works()
        flood.cancel()
        with suppress(asyncio.CancelledError):
            await flood
        client.writer.transport.abort()

    run(tmp_path, story)


def test_the_thirty_third_client_is_told_to_come_again(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        clients = [await served.client() for _ in range(32)]
        for client in clients:
            assert (await client.ask(b"{}"))["ok"]
        extra = await served.client()
        answer = await extra.answer()
        assert answer is not None and not answer["ok"] and answer["again"]
        assert await extra.answer() is None
        clients[0].writer.close()
        await clients[0].writer.wait_closed()
        await asyncio.sleep(0.05)
        await served.still_works()

    run(tmp_path, story)


def test_the_server_ends_while_clients_are_connected(tmp_path: Path) -> None:
    async def story(served: Served) -> None:
        client = await served.client()
        assert (await client.ask(b"{}"))["ok"]

    run(tmp_path, story)


def test_making_the_socket_takes_no_rights_from_what_others_make_meanwhile(tmp_path: Path) -> None:
    async def make_folders() -> set[int]:
        modes = set()
        for number in range(50):
            folder = tmp_path / f"folder{number}"
            folder.mkdir()
            modes.add(stat.S_IMODE(folder.stat().st_mode))
            await asyncio.sleep(0)
        return modes

    async def story() -> None:
        before = os.umask(0o022)
        try:
            async with living(tmp_path / "queue") as one:
                server = LocalServer(tmp_path / "submit.sock", "no-such-group", SubmitHandler(one.intake))
                running = asyncio.create_task(server.run())
                assert await make_folders() == {0o755}
                running.cancel()
                await asyncio.wait({running})
        finally:
            os.umask(before)

    asyncio.run(story())


def test_a_command_talks_to_the_socket_and_is_told_when_nobody_answers(tmp_path: Path) -> None:
    def ask(path: Path) -> Answer:
        with connected(path) as client:
            return client.ask({"request": "submit"}, b'{"a":1}')

    async def story(served: Served) -> None:
        assert (await asyncio.to_thread(ask, served.path))["ok"]

    run(tmp_path, story)
    with pytest.raises(FileNotFoundError):
        ask(tmp_path / "submit.sock")
