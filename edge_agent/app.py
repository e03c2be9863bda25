"""The composition root: the only file that names every adapter. Builds the daemon from its configuration and runs
it.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any, Final

from edge_agent import provisioning
from edge_agent.configuration import Configuration
from edge_agent.control import ControlHandler, LinkStatus, connection_query, status_document, status_line
from edge_agent.engine.engine import Engine
from edge_agent.engine.events import Started
from edge_agent.engine.settings import SECOND, EngineSettings
from edge_agent.engine.stepper import Stepper
from edge_agent.mqtt.bound_client import broker_tls_context
from edge_agent.mqtt.publisher import MqttPublisher, PublisherSettings
from edge_agent.mqtt.vpn_guard import Permitted, VpnGuard
from edge_agent.queue.intake.drop_folder import DropFolder
from edge_agent.queue.intake.intake import Intake, IntakeSettings
from edge_agent.queue.intake.local_protocol import CONTROL_SOCKET_NAME, SUBMIT_SOCKET_NAME, LocalServer
from edge_agent.queue.intake.submit_socket import SubmitHandler
from edge_agent.queue.mirror import FileHeadMirror
from edge_agent.queue.store import QueueStore
from edge_agent.runner import Runner
from operations.journal import get_logger
from operations.notify import ServiceState, watchdog_interval_seconds

log = get_logger()

_STATUS_INTERVAL_SECONDS: Final = 2
"""At most so often, and only after something happened, the status line is told anew."""


_PART_PAUSE_SECONDS: Final = 30


def clock() -> int:
    """Return microseconds since 1970 UTC, as far as the device knows."""
    return time.time_ns() // 1_000


def engine_settings(configuration: Configuration) -> EngineSettings:
    """Return what of the configuration the engine needs."""
    sync = configuration.sync
    return EngineSettings(
        receipt_wait=sync.receipt_wait_seconds * SECOND,
        receipt_wait_max=max(EngineSettings.receipt_wait_max, sync.receipt_wait_seconds * SECOND),
        receipt_silence_alarm=sync.receipt_silence_alarm_seconds * SECOND,
    )


def publisher_settings(configuration: Configuration) -> PublisherSettings:
    """Return what of the configuration the publisher needs."""
    broker = configuration.broker
    return PublisherSettings(
        address=broker.address,
        port=broker.port,
        keepalive_seconds=broker.keepalive_seconds,
        session_expiry_seconds=broker.session_expiry_seconds,
        connect_timeout_seconds=broker.connect_timeout_seconds,
        backoff_seconds_min=broker.backoff_seconds_min,
        backoff_seconds_max=broker.backoff_seconds_max,
        bundles_in_flight_max=configuration.sync.bundles_in_flight_max,
        bundle_bytes_max=configuration.sync.bundle_bytes_max,
    )


class Daemon:
    """Everything that runs on one device."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._device = provisioning.load(configuration.device.provisioning_directory)
        # Not for secrets: it only keeps devices from falling into step.
        self._randomness = random.Random().random  # noqa: S311
        self._service = ServiceState.from_environment()
        self._status_due: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT; raises StoreFault, ProvisioningError, TlsMaterialError or OSError at start."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with AsyncExitStack() as stack:
            thread = stack.enter_context(ThreadPoolExecutor(max_workers=1, thread_name_prefix="store"))
            state_directory = self._configuration.device.state_directory
            store = stack.enter_context(await loop.run_in_executor(thread, QueueStore, state_directory))
            mirror = FileHeadMirror(state_directory)
            stack.callback(mirror.close)
            engine = Engine(self._device.identity, engine_settings(self._configuration), self._randomness)
            self._runner = Runner(Stepper(engine, store, mirror), thread, clock)
            self._query = connection_query(store.connection)
            self._guard = VpnGuard(
                self._configuration.broker.address,
                self._configuration.vpn.interfaces,
                port=self._configuration.broker.port,
            )
            await stack.enter_async_context(self._guard)
            self._publisher = self._make_publisher()
            await self._runner.start(Started(mirror.position(), self._device.statements))
            await self._run_parts(stop)

    async def _run_parts(self, stop: asyncio.Event) -> None:
        parts = [self._runner.run(), self._publisher.run(), *self._intake_parts(), self._watchdog()]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
            self._runner.watch(self._status_changed)
            log.info("started", device=self._device.identity.device)
            self._service.ready("starting")
            self._status_changed()
            await stop.wait()
            log.info("stopping")
            self._service.stopping("stopping")
            for task in tasks:
                task.cancel()

    def _make_publisher(self) -> MqttPublisher:
        tls_context = broker_tls_context(self._device.tls_authority, self._device.tls_certificate, self._device.tls_key)
        return MqttPublisher(
            self._device.identity.device,
            publisher_settings(self._configuration),
            guard=self._guard,
            tls_context=tls_context,
            host=self._runner,
            randomness=self._randomness,
            clock=clock,
        )

    def _intake_parts(self) -> list[Coroutine[None, None, None]]:
        configuration = self._configuration
        settings = IntakeSettings(
            state_directory=configuration.device.state_directory,
            default_form=configuration.intake.default_form,
            questionnaire_bytes_max=configuration.intake.questionnaire_bytes_max,
            free_bytes_min=configuration.storage.free_bytes_min,
        )
        intake = Intake(settings, self._runner, clock)
        control = ControlHandler(self._runner.on_store_thread, self._query, self._status)
        runtime_directory = configuration.device.runtime_directory
        group = configuration.intake.submit_socket_group
        submit_server = LocalServer(runtime_directory / SUBMIT_SOCKET_NAME, group, SubmitHandler(intake))
        control_server = LocalServer(
            runtime_directory / CONTROL_SOCKET_NAME, configuration.device.operator_group, control
        )
        parts = [_keep_up("submit socket", submit_server.run), _keep_up("control socket", control_server.run)]
        if configuration.intake.drop_directory is not None:
            parts.append(_keep_up("drop folder", DropFolder(configuration.intake.drop_directory, intake, clock).run))
        return parts

    def _status(self) -> dict[str, Any]:
        """Read on the store's thread; the publisher's state is only looked at."""
        state = self._publisher.state
        broker = self._configuration.broker
        vpn = (
            f"VPN by {state.vpn.interface}"
            if isinstance(state.vpn, Permitted)
            else str(state.vpn or "VPN not known yet")
        )
        link = LinkStatus(
            vpn=vpn,
            broker=f"{broker.address} port {broker.port}",
            connected=state.connected,
            connected_since=state.connected_since,
            last_problem=state.last_problem,
        )
        return status_document(
            self._query,
            device=self._device.identity.device,
            link=link,
            silence_alarm=self._configuration.sync.receipt_silence_alarm_seconds * SECOND,
            now=clock(),
        )

    def _status_changed(self) -> None:
        if self._status_due is None:
            loop = asyncio.get_running_loop()
            self._status_due = loop.call_later(_STATUS_INTERVAL_SECONDS, lambda: loop.create_task(self._tell_status()))

    async def _tell_status(self) -> None:
        self._status_due = None
        document = await self._runner.on_store_thread(self._status)
        self._service.status(status_line(document))

    async def _watchdog(self) -> None:
        """Tell systemd that we live, by way of the store's thread: a daemon whose store hangs does not."""
        interval_seconds = watchdog_interval_seconds()
        while interval_seconds is not None:
            await self._runner.on_store_thread(self._service.watchdog)
            await asyncio.sleep(interval_seconds)


async def _keep_up(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a part again when the system fails it: the rest of the daemon does not depend on it."""
    while True:
        try:
            await run()
        except OSError as error:
            log.error("part_failed", part=name, problem=str(error))
        await asyncio.sleep(_PART_PAUSE_SECONDS)


def run(configuration: Configuration) -> None:
    """Run the daemon until it is told to stop."""
    asyncio.run(Daemon(configuration).run())
