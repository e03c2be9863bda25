"""A device with its whole mesh, as a program: writes a line of JSON whenever something changed; ends on SIGTERM.

Takes lines of JSON: {"submit": "text"} makes a questionnaire.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from edge_agent.backoff import Backoff
from edge_agent.mesh.dialling import Address
from edge_agent.mesh.duty import Duty
from edge_agent.mesh.interfaces import InterfaceRules
from edge_agent.mesh.mesh_watch import MeshWatch, MeshWatchSettings
from edge_agent.mesh.neighbours import MeshSettings
from edge_agent.mesh.peer_tls import peer_tls
from edge_agent.tls import TlsMaterial
from sync_protocol.mesh import Hello
from tests.support.device import key_of, questionnaire
from tests.support.living_device import Living, living


def say(event: str, **fields: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def address(text: str) -> Address:
    host, _, port = text.rpartition("/")
    return Address(host, int(port))


async def take_commands(one: Living) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        text = json.loads(line)["submit"]
        submission = key_of(text), questionnaire(f'{{"household":"{text}"}}'.encode(), f"uuid:{text}")
        await one.runner.accept([submission])
        say("submitted", ids=[found.hex() for found in await one.runner.on_store_thread(one.device.envelope_ids)])


async def tell(one: Living, watch: MeshWatch) -> None:
    before: dict[str, object] = {}
    while True:
        situation = watch.situation()
        held = await one.runner.on_store_thread(lambda: one.device.rows("id", "own = 0"))
        now: dict[str, object] = {
            "neighbours": sorted(state.device.hex() for state in watch.states()),
            "addresses": sorted(state.address for state in watch.states()),
            "holds": sorted(row[0].hex() for row in held if isinstance(row[0], bytes)),
            "awake": situation.awake,
            "because": situation.asleep_because,
            "interfaces": list(situation.interfaces),
            "listening": sorted(situation.listening),
            "refused": situation.refused,
            "last": situation.last_refusal,
        }
        if now != before:
            before = now
            say("state", **now)
        await asyncio.sleep(0.05)


async def watch_mesh(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.folder)
    async with living(folder / "device", arguments.name) as one:
        name = one.device.id.hex()
        say("started", device=name)
        certificates = Path(arguments.certificates)
        material = TlsMaterial(
            certificates / "authority.crt", certificates / f"{name}.crt", certificates / f"{name}.key"
        )
        shift = 0 if arguments.clock is None else arguments.clock - time.time_ns() // 1000
        watch = MeshWatch(
            one.device.id,
            MeshWatchSettings(
                InterfaceRules(("wg*", "tun*"), tuple(arguments.exclude)),
                port=arguments.port,
                discovery=not arguments.no_discovery,
                static_peers=tuple(map(address, arguments.peer)),
                duty=Duty(arguments.duty),
                power_supplies=Path(arguments.power),
                links=MeshSettings(backoff=Backoff(1, 1)),
            ),
            tls=peer_tls(material),
            host=one.runner,
            queue=one.runner,
            hello=lambda: Hello(arguments.reaches_center, None, 1_000_000),
            randomness=random.random,
            draw=secrets.token_bytes,
            clock=lambda: time.time_ns() // 1000 + shift,
            on_change=lambda: None,
        )
        running = asyncio.create_task(watch.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        others = [asyncio.create_task(work) for work in (take_commands(one), tell(one, watch))]
        with suppress(asyncio.CancelledError):
            await running
        for task in others:
            task.cancel()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--certificates", required=True)
    parser.add_argument("--port", type=int, default=8884)
    parser.add_argument("--exclude", action="append", default=[])
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("--no-discovery", action="store_true")
    parser.add_argument("--reaches-center", action="store_true")
    parser.add_argument("--duty", default="always")
    parser.add_argument("--power", default="/nonexistent")
    parser.add_argument("--clock", type=int)
    asyncio.run(watch_mesh(parser.parse_args()))


if __name__ == "__main__":
    main()
