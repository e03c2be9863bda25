"""A program for tests: talks to a listener by guard and bound socket, and writes what happens as JSON lines.

Each protection can be switched off, so that a test shows what it is there for.
"""

import argparse
import asyncio
import json
import socket
import sys

from edge_agent.mqtt.parted_sockets import PartedSockets
from edge_agent.mqtt.vpn_guard import Permitted, VpnGuard, VpnVerdict, bound_socket


def tell(event: str, **fields: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def plain_socket(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)


async def talk(connection: socket.socket, address: str, port: int) -> None:
    """Sends a number, waits for its echo among what the listener pushes, and goes on."""
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (address, port))
    tell("connected")
    received = b""
    number = 0
    while True:
        number += 1
        await loop.sock_sendall(connection, b"%d\n" % number)
        while b"echo %d\n" % number not in received:
            data = await loop.sock_recv(connection, 65536)
            if not data:
                raise ConnectionResetError("the listener has ended the connection")
            received = received[-100:] + data
        if number in (1, 10):
            tell("echoed", number=number)
        await asyncio.sleep(0.01)


async def one_connection(options: argparse.Namespace, guard: VpnGuard, parted: PartedSockets, held: Permitted) -> None:
    connection = plain_socket(options.address)
    if not options.without_binding:
        connection.close()
        connection = bound_socket(held.interface, options.address, held.source)
    connection.setblocking(False)
    talking = asyncio.create_task(talk(connection, options.address, options.port))
    changing: asyncio.Task[VpnVerdict] = asyncio.create_task(guard.wait_until_refused_or_changed(held))
    watched = {talking} if options.without_guard else {talking, changing}
    await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
    if changing.done():
        tell("ended_by_guard", verdict=str(changing.result()))
    for task in (talking, changing):
        task.cancel()
    for outcome in await asyncio.gather(talking, changing, return_exceptions=True):
        if isinstance(outcome, OSError):
            tell("ended_by_error", error=str(outcome))
    if options.without_parting:
        connection.close()
    else:
        parted.part(connection)


async def run(options: argparse.Namespace) -> None:
    parted = PartedSockets()
    async with VpnGuard(options.address, [options.pattern], port=options.port) as guard:
        while True:
            verdict = guard.verdict()
            if not isinstance(verdict, Permitted):
                tell("refused", reason=verdict.reason.value, interface=verdict.interface)
            held = await guard.wait_until_permitted()
            tell("permitted", interface=held.interface, index=held.index, source=held.source)
            await one_connection(options, guard, parted, held)
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pattern", default="wg*")
    parser.add_argument("--without-binding", action="store_true")
    parser.add_argument("--without-guard", action="store_true")
    parser.add_argument("--without-parting", action="store_true")
    asyncio.run(run(parser.parse_args()))
