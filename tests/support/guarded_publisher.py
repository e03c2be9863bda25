"""A program for tests: publishes over MQTT by guard and bound client for ever; writes what happens as JSON lines."""

import argparse
import asyncio
import json
import sys
from pathlib import Path

import aiomqtt

from edge_agent.mqtt.bound_client import BoundClient, broker_tls_context
from edge_agent.mqtt.parted_sockets import PartedSockets
from edge_agent.mqtt.vpn_guard import VpnGuard


def tell(event: str, **fields: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


async def publish(client: BoundClient, idle: bool) -> None:
    async with client:
        number = 0
        while True:
            number += 1
            await client.publish("t", b"x" * 20_000, qos=1)
            if number in (1, 10):
                tell("published", number=number)
            if idle and number == 10:
                await asyncio.Event().wait()


async def run(options: argparse.Namespace) -> None:
    context = broker_tls_context(options.authority, options.certificate, options.key)
    parted = PartedSockets()
    async with VpnGuard(options.address, ["wg*"], port=options.port) as guard:
        while True:
            held = await guard.wait_until_permitted()
            tell("permitted", interface=held.interface)
            client = BoundClient(
                options.address,
                options.port,
                interface=held.interface,
                source=held.source,
                identifier="tablet-1",
                tls_context=context,
                parted_sockets=parted,
                connect_timeout_seconds=5,
            )
            publishing = asyncio.create_task(publish(client, options.idle))
            changing = asyncio.create_task(guard.wait_until_refused_or_changed(held))
            await asyncio.wait({publishing, changing}, return_when=asyncio.FIRST_COMPLETED)
            if changing.done():
                tell("ended_by_guard", verdict=str(changing.result()))
                client.abandon()
            for task in (publishing, changing):
                task.cancel()
            for outcome in await asyncio.gather(publishing, changing, return_exceptions=True):
                if isinstance(outcome, aiomqtt.MqttError):
                    tell("ended_by_error", error=str(outcome))
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    for name in ("--authority", "--certificate", "--key"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--idle", action="store_true", help="stay connected in silence after ten messages")
    asyncio.run(run(parser.parse_args()))
