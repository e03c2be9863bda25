"""The mailbox link: MQTT over the VPN to the center's broker.

One connection at a time, each with a session of its own in the engine. What the engine gives out is published with
QoS 1 and settled by the broker's answer; what comes in (receipts, statements) goes to the engine. The backlog stays
in the queue: this holds only what is in flight.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Final

import aiomqtt
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.backoff import Backoff, failures_after
from edge_agent.engine.links import Link, center_mailbox
from edge_agent.engine.ports import LinkHost
from edge_agent.mqtt.bound_client import BoundClient
from edge_agent.mqtt.outlet import MqttOutlet, subscribe
from edge_agent.mqtt.parted_sockets import PartedSockets
from edge_agent.mqtt.vpn_guard import Permitted, Refused, VpnGuard, VpnVerdict
from edge_agent.repetition import Repetitions
from operations.journal import get_logger
from sync_protocol import topics

log = get_logger()

_FAREWELL_SECONDS: Final = 3
"""How long leaving the broker politely may take; the service manager does not wait for ever."""

FORMS_ANEW_SECONDS: Final = 24 * 3600
"""Forms and their files may be some megabytes, and the broker keeps for a session what is new of them. Once in so long
all of them are asked for: it may have dropped something."""


@dataclass(frozen=True)
class PublisherSettings:
    """Where the broker is and how patient to be with it."""

    address: str
    port: int
    keepalive_seconds: int
    session_expiry_seconds: int
    connect_timeout_seconds: int
    backoff_seconds_min: int
    backoff_seconds_max: int
    bundles_in_flight_max: int
    bundle_bytes_max: int


@dataclass
class PublisherState:
    """What `status` tells of the link; the engine never sees it."""

    vpn: VpnVerdict | None = None
    connected: bool = False
    connected_since: int | None = None
    last_problem: str | None = None
    problem_since: int | None = None
    """Since when the last problem has kept the broker away, by the device's clock."""


class MqttPublisher:
    """Keeps a connection to the broker whenever the VPN is there."""

    def __init__(
        self,
        device: bytes,
        settings: PublisherSettings,
        *,
        guard: VpnGuard,
        tls_context: ssl.SSLContext,
        host: LinkHost,
        randomness: Callable[[], float],
        clock: Callable[[], int],
        state: PublisherState,
        on_change: Callable[[], None],
    ) -> None:
        """`state` is kept up to date, and `on_change` called whenever something in it has changed."""
        self._device = device
        self._settings = settings
        self._backoff = Backoff(settings.backoff_seconds_min, settings.backoff_seconds_max)
        self._guard = guard
        self._tls_context = tls_context
        self._host = host
        self._randomness = randomness
        self._clock = clock
        self._link_numbers = count(1)
        self._forms_asked_seconds: float | None = None
        self._on_change = on_change
        self._repetitions = Repetitions()
        self.state = state

    async def run(self) -> None:
        """Connect, carry, reconnect, until cancelled; raises NetlinkError when the guard can no longer be relied on."""
        parted_sockets = PartedSockets()
        failures = 0
        try:
            while True:
                held = await self._wait_for_vpn()
                lasted_seconds = None
                try:
                    lasted_seconds = await self._carry_once(held, parted_sockets)
                except (aiomqtt.MqttError, OSError, ExceptionGroup) as error:
                    self._tell_problem(error)
                came_up = lasted_seconds is not None
                failures = failures_after(failures, came_up=came_up, lasted_seconds=lasted_seconds or 0)
                await self._pause(held, failures)
        finally:
            parted_sockets.close()

    async def _wait_for_vpn(self) -> Permitted:
        verdict = self._guard.verdict()
        if isinstance(verdict, Refused):
            if verdict != self.state.vpn:
                log.info("vpn_absent", reason=str(verdict), verdict=verdict.reason.value, interface=verdict.interface)
            self._set_vpn(verdict)
            verdict = await self._guard.wait_until_permitted()
        if verdict != self.state.vpn:
            log.info("vpn_present", interface=verdict.interface)
        self._set_vpn(verdict)
        return verdict

    def _set_vpn(self, verdict: VpnVerdict) -> None:
        changed = verdict != self.state.vpn
        self.state.vpn = verdict
        if changed:
            self._on_change()

    async def _pause(self, held: Permitted, failures: int) -> None:
        """Wait before the next try, with full jitter; a change of the VPN ends the wait."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.pause_seconds(failures, self._randomness())):
                await self._guard.wait_until_refused_or_changed(held)

    async def _carry_once(self, held: Permitted, parted_sockets: PartedSockets) -> float | None:
        """Hold one connection until it ends; return how many seconds it lasted, None if it never came up.

        Raises what kept it from coming up.
        """
        client = BoundClient(
            self._settings.address,
            self._settings.port,
            interface=held.interface,
            source=held.source,
            identifier=self._device.hex(),
            tls_context=self._tls_context,
            parted_sockets=parted_sockets,
            keepalive_seconds=self._settings.keepalive_seconds,
            session_expiry_seconds=self._settings.session_expiry_seconds,
            connect_timeout_seconds=self._settings.connect_timeout_seconds,
            bundles_in_flight_max=self._settings.bundles_in_flight_max,
        )
        watching = asyncio.create_task(self._guard.wait_until_refused_or_changed(held))
        carrying = asyncio.create_task(self._connect_and_carry(client))
        began_seconds = asyncio.get_running_loop().time()
        try:
            await asyncio.wait({watching, carrying}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                # Not one packet more, not even a farewell: the way to the broker is no longer the tunnel's.
                client.abandon()
        finally:
            watching.cancel()
            carrying.cancel()
            await asyncio.wait({watching, carrying}, timeout=_FAREWELL_SECONDS)
            client.abandon()
            await asyncio.wait({watching, carrying})
            came_up, self.state.connected = self.state.connected, False
            self.state.connected_since = None
            if came_up:
                self._on_change()
        lasted_seconds = asyncio.get_running_loop().time() - began_seconds
        self._tell_end(watching, carrying, came_up=came_up, lasted_seconds=lasted_seconds)
        return lasted_seconds if came_up else None

    def _tell_end(
        self,
        watching: asyncio.Task[VpnVerdict],
        carrying: asyncio.Task[None],
        *,
        came_up: bool,
        lasted_seconds: float,
    ) -> None:
        """Tell what ended the connection; raises NetlinkError, and what kept the connection from coming up."""
        error = None if carrying.cancelled() else carrying.exception()
        if not watching.cancelled():
            log.info("vpn_changed", verdict=str(watching.result()))
        elif error is not None and not came_up:
            raise error
        elif error is not None:
            self._tell_problem(error, after_seconds=round(lasted_seconds))

    async def _connect_and_carry(self, client: BoundClient) -> None:
        async with client:
            await subscribe(client, topics.STATEMENTS)
            await self._subscribe_to_forms(client)
            await subscribe(client, topics.lists_topic(self._device))
            self.state.connected, self.state.connected_since = True, self._clock()
            self.state.last_problem = self.state.problem_since = None
            self._on_change()
            log.info("connected", broker=self._settings.address, session_kept=client.session_present)
            async with asyncio.TaskGroup() as group:
                outlet = MqttOutlet(self._device, client, self._host, f"mqtt-{next(self._link_numbers)}", group)
                self._host.link_up(self._link(outlet, remembered=client.session_present), outlet)
                try:
                    async for message in client.messages:
                        if isinstance(message.payload, bytes):
                            await self._host.bundle_arrived(outlet.link_key, message.payload)
                finally:
                    if outlet.was_closed or len(client.messages):
                        # What was not recorded may have been a form, and the broker will not send that again.
                        self._forms_asked_seconds = None
                    outlet.end()
                    self._host.link_down(outlet.link_key)

    async def _subscribe_to_forms(self, client: BoundClient) -> None:
        """Have the broker send forms: all of them now and then, otherwise what this session has not been sent yet."""
        topic, now_seconds = topics.FORMS_PREFIX + "#", asyncio.get_running_loop().time()
        asked_seconds = self._forms_asked_seconds
        if asked_seconds is not None and now_seconds - asked_seconds < FORMS_ANEW_SECONDS:
            await subscribe(client, topic, SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        else:
            await subscribe(client, topic)
            self._forms_asked_seconds = now_seconds

    def _link(self, outlet: MqttOutlet, *, remembered: bool) -> Link:
        return center_mailbox(
            outlet.link_key,
            bundles_in_flight_max=self._settings.bundles_in_flight_max,
            bundle_bytes_max=self._settings.bundle_bytes_max,
            remembered=remembered,
        )

    def _tell_problem(self, error: BaseException, *, after_seconds: int | None = None) -> None:
        """Keep the problem for `status`, and tell it in the journal unless it has just been told."""
        problem = _innermost(error)
        text = str(problem)
        if not text or not isinstance(problem, aiomqtt.MqttError):  # whose name says nothing that its text does not
            text = f"{type(problem).__name__}: {problem}".removesuffix(": ")
        changed = text != self.state.last_problem
        if changed or self.state.problem_since is None:
            self.state.problem_since = self._clock()
        self.state.last_problem = text
        untold = self._repetitions.worth_telling(text, asyncio.get_running_loop().time())
        if untold is not None:
            fields = {"broker": self._settings.address, "port": self._settings.port, "problem": text}
            if untold:
                fields["times_untold"] = untold
            if after_seconds is None:
                log.warning("broker_unreachable", **fields)
            else:
                log.warning("connection_lost", **fields, after_seconds=after_seconds)
        if changed:
            self._on_change()


def _innermost(error: BaseException) -> BaseException:
    """Return what stands behind wrappers and groups: it is what a person can act on."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None:
            error = error.__cause__
        else:
            return error
