"""Runs discovery by itself and writes a line of JSON for each thing that happens; ends with a goodbye on SIGTERM."""

import argparse
import asyncio
import json
import os
import random
import secrets
import signal
import sys

from edge_agent.mesh.discovery import ASK_SECONDS_MAX, Discovery, Scope
from edge_agent.mesh.interfaces import InterfaceRules, InterfaceWatch


def say(event: str, **fields: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def resident_kilobytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as handle:  # noqa: PTH123  # read many times
        return int(handle.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


async def discover(arguments: argparse.Namespace) -> None:
    def found(address: str, port: int, scope: Scope) -> None:
        say("found", address=address, port=port, interface=scope.interface)

    def lost(address: str, port: int, scope: Scope) -> None:
        say("lost", address=address, port=port, interface=scope.interface)

    async with InterfaceWatch(InterfaceRules(tuple(arguments.vpn), tuple(arguments.exclude))) as watch:
        discovery = Discovery(
            watch,
            arguments.port,
            on_found=found,
            on_lost=lost,
            on_odd=lambda oddity, interface: say("odd", oddity=oddity.value, interface=interface),
            draw=secrets.token_bytes,
            random=random.Random(),
            ask_seconds_max=arguments.ask_seconds_max,
        )
        running = asyncio.create_task(discovery.run())
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, running.cancel)
        loop.add_signal_handler(signal.SIGUSR1, lambda: say("resident", kilobytes=resident_kilobytes()))
        say("started", kilobytes=resident_kilobytes())
        try:
            await running
        except asyncio.CancelledError:
            say("left")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--vpn", action="append", default=["wg*", "tun*"])
    parser.add_argument("--exclude", action="append", default=[])
    parser.add_argument("--ask-seconds-max", type=float, default=ASK_SECONDS_MAX)
    asyncio.run(discover(parser.parse_args()))


if __name__ == "__main__":
    main()
