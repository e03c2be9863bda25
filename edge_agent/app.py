"""The composition root: the only file that names every adapter. Builds the daemon from its configuration and runs it.

| part | when it fails |
|---|---|
| the runner (engine and queue) | the daemon ends, and is started anew by its service manager |
| sockets, drop folder, publisher, status line | that part alone is started again; the others go on |
| the queue's thread | the watchdog is not told any more, and the service manager starts the daemon anew |
"""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from edge_agent import provisioning
from edge_agent.configuration import Configuration
from edge_agent.control import ControlHandler, LinkStatus, connection_query, status_document, status_line
from edge_agent.engine.engine import Engine
from edge_agent.engine.events import Started
from edge_agent.engine.settings import SECOND, EngineSettings
from edge_agent.engine.stepper import Stepper
from edge_agent.mqtt.bound_client import broker_tls_context
from edge_agent.mqtt.publisher import MqttPublisher, PublisherSettings, PublisherState
from edge_agent.mqtt.vpn_guard import Permitted, VpnGuard
from edge_agent.queue.intake.drop_folder import DropFolder
from edge_agent.queue.intake.intake import Intake, IntakeSettings
from edge_agent.queue.intake.local_protocol import (
    CONTROL_SOCKET_NAME,
    SUBMIT_SOCKET_NAME,
    LocalServer,
    listening_socket,
)
from edge_agent.queue.intake.submit_socket import SubmitHandler
from edge_agent.queue.mirror import FileHeadMirror
from edge_agent.queue.store import QueueBusy, QueueStore
from edge_agent.repetition import Repetitions
from edge_agent.runner import Runner
from edge_agent.usb_watch.folder_mounting import FolderMounting
from edge_agent.usb_watch.hotplug import Hotplug
from edge_agent.usb_watch.media_document import MediaDesk
from edge_agent.usb_watch.media_watch import MediaWatch
from edge_agent.usb_watch.medium_enrolment import MediumEnrolment
from edge_agent.usb_watch.mounting import Mounting
from edge_agent.usb_watch.notices import NOTICES_SOCKET_NAME
from edge_agent.usb_watch.sentences import Sentence, sentences_in
from edge_agent.usb_watch.system_mounting import SystemMounting
from edge_agent.usb_watch.telling import Telling
from edge_agent.usb_watch.visiting import Surroundings, VisitSettings
from operations.journal import get_logger
from operations.notify import ServiceState, watchdog_interval_seconds
from sync_protocol.domains import NAME_BYTES

log = get_logger()

_STATUS_INTERVAL_SECONDS: Final = 2
"""At most so often, and only after something happened, the status line is told anew."""

_PART_PAUSE_SECONDS: Final = 30
"""Before a part that failed is tried again."""

_QUEUE_BUSY_POLL_SECONDS: Final = 0.1
_QUEUE_BUSY_SECONDS_MAX: Final = 60
"""A command looks for a moment, `doctor` reads a large queue through; what lasts longer is another daemon."""

_LISTENING_POLL_SECONDS: Final = 0.01
_LISTENING_SECONDS_MAX: Final = 5
"""The submit socket listens within milliseconds, or its part has failed and is tried again later."""


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


def ways_of_mounting(configuration: Configuration) -> list[Mounting]:
    """Return the ways that the configuration allows, the one to be tried first before the other."""
    ways: list[Mounting] = []
    if configuration.usb.mounting in ("auto", "udisks"):
        from edge_agent.usb_watch.udisks_mounting import UdisksMounting  # D-Bus is loaded only where media are mounted

        ways.append(UdisksMounting())
    if configuration.usb.mounting in ("auto", "system"):
        ways.append(SystemMounting(configuration.device.runtime_directory / "media"))
    return ways


class Daemon:
    """Everything that runs on one device."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._device = provisioning.load(configuration.device.provisioning_directory)
        # Not for secrets: it only keeps devices from falling into step.
        self._randomness = random.Random().random  # noqa: S311
        self._tls_context = broker_tls_context(
            self._device.tls_authority, self._device.tls_certificate, self._device.tls_key
        )
        self._service = ServiceState.from_environment()
        self._link_state = PublisherState()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT; raises StoreFault or OSError when it cannot start."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with AsyncExitStack() as stack:
            thread = stack.enter_context(ThreadPoolExecutor(max_workers=1, thread_name_prefix="store"))
            state_directory = self._configuration.device.state_directory
            store = stack.enter_context(await _open_queue(state_directory, thread))
            mirror = FileHeadMirror(state_directory)
            stack.callback(mirror.close)
            engine = Engine(self._device.identity, engine_settings(self._configuration), self._randomness)
            self._runner = Runner(Stepper(engine, store, mirror), thread, clock)
            self._query = connection_query(store.connection)
            sentence = sentences_in(self._configuration.usb.language)
            self._signs = self._telling(sentence)
            self._media = self._media_watch()
            enrolment = MediumEnrolment(
                self._runner, self._device.identity, draw_name=lambda: secrets.token_bytes(NAME_BYTES), clock=clock
            )
            self._media_desk = MediaDesk(self._media, enrolment, sentence)
            await self._runner.start(Started(mirror.position(), self._device.statements))
            await self._run_parts(stop)

    async def _run_parts(self, stop: asyncio.Event) -> None:
        for name in (SUBMIT_SOCKET_NAME, CONTROL_SOCKET_NAME, NOTICES_SOCKET_NAME):
            # Left by a daemon that was killed: the queue's lock, which we hold, says that no other one runs.
            (self._configuration.device.runtime_directory / name).unlink(missing_ok=True)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self._runner.run())
            parts = [group.create_task(part) for part in (*self._intake_parts(), *self._other_parts())]
            self._runner.watch(self._changed.set)
            await self._submissions_are_accepted()
            log.info("started", device=self._device.identity.device)
            self._service.ready("starting")
            self._changed.set()
            await stop.wait()
            log.info("stopping")
            self._service.stopping("stopping")
            # First nothing new comes in; then what came in is recorded; then the queue closes.
            for part in parts:
                part.cancel()
            await asyncio.wait(parts)
            await self._everything_is_recorded()
            running.cancel()

    async def _submissions_are_accepted(self) -> None:
        """Return when form programs can reach us: READY means that (or when it is clear that they cannot for now)."""
        path = self._configuration.device.runtime_directory / SUBMIT_SOCKET_NAME
        with suppress(TimeoutError):
            async with asyncio.timeout(_LISTENING_SECONDS_MAX):
                while not path.exists():  # noqa: ASYNC110  # asyncio does not tell when a server begins to listen
                    await asyncio.sleep(_LISTENING_POLL_SECONDS)

    async def _everything_is_recorded(self) -> None:
        """Return when every event before now has been handled."""
        await self._runner.caught_up()

    def _other_parts(self) -> list[Coroutine[None, None, None]]:
        parts = [] if self._configuration.usb.mounting == "off" else [_keep_up("USB watch", self._watch_media)]
        return [
            *parts,
            *(_keep_up(name, run) for name, run in self._signs.parts),
            _keep_up("publisher", self._publish),
            _keep_up("status line", self._tell_status),
            _keep_up("watchdog", self._watchdog),
        ]

    def _media_watch(self) -> MediaWatch:
        wait_seconds = self._configuration.usb.receipt_wait_seconds
        surroundings = Surroundings(
            host=self._runner,
            queue=self._runner,
            mounting=FolderMounting(),
            identity=self._device.identity,
            settings=VisitSettings(receipts_quiet_seconds=wait_seconds),
            reaches_center=lambda: wait_seconds > 0 and self._link_state.connected,
        )
        return MediaWatch(
            surroundings,
            Hotplug,
            nonce=lambda: secrets.token_hex(8),
            clock=clock,
            on_change=self._changed.set,
            on_turn=self._signs.tell,
        )

    def _telling(self, sentence: Sentence) -> Telling:
        usb, path = self._configuration.usb, self._configuration.device.runtime_directory / NOTICES_SOCKET_NAME
        listen = partial(listening_socket, path, usb.notify_group) if usb.notify_group else None
        return Telling(sentence, hook=usb.hook, listen=listen, led=usb.led)

    async def _watch_media(self) -> None:
        await self._media.run(ways_of_mounting(self._configuration))

    async def _publish(self) -> None:
        """A guard whose notices from the kernel have failed is of no use: it is made anew with the publisher."""
        broker = self._configuration.broker
        async with VpnGuard(broker.address, self._configuration.vpn.interfaces, port=broker.port) as guard:
            publisher = MqttPublisher(
                self._device.identity.device,
                publisher_settings(self._configuration),
                guard=guard,
                tls_context=self._tls_context,
                host=self._runner,
                randomness=self._randomness,
                clock=clock,
                state=self._link_state,
                on_change=self._changed.set,
            )
            await publisher.run()

    def _intake_parts(self) -> list[Coroutine[None, None, None]]:
        configuration = self._configuration
        settings = IntakeSettings(
            state_directory=configuration.device.state_directory,
            default_form=configuration.intake.default_form,
            questionnaire_bytes_max=configuration.intake.questionnaire_bytes_max,
            free_bytes_min=configuration.storage.free_bytes_min,
        )
        intake = Intake(settings, self._runner, clock)
        control = ControlHandler(self._runner.on_store_thread, self._query, self._status, self._media_desk)
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
        state = self._link_state
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
            problem_since=state.problem_since,
        )
        return status_document(
            self._query,
            device=self._device.identity.device,
            link=link,
            silence_alarm=self._configuration.sync.receipt_silence_alarm_seconds * SECOND,
            now=clock(),
            media=[visit for visit in self._media_desk.visits() if visit["shown"]],
        )

    async def _tell_status(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._service.status(status_line(await self._runner.on_store_thread(self._status)))
            await asyncio.sleep(_STATUS_INTERVAL_SECONDS)

    async def _watchdog(self) -> None:
        """Tell systemd that we live, by way of the store's thread: a daemon whose store hangs does not."""
        interval_seconds = watchdog_interval_seconds()
        while interval_seconds is not None:
            await self._runner.on_store_thread(self._service.watchdog)
            await asyncio.sleep(interval_seconds)
        await asyncio.Event().wait()


async def _open_queue(directory: Path, thread: ThreadPoolExecutor) -> QueueStore:
    """Open the queue on its thread; raises StoreFault. A command may be looking at it just now: that is waited for."""
    loop = asyncio.get_running_loop()
    give_up_seconds = loop.time() + _QUEUE_BUSY_SECONDS_MAX
    while True:
        try:
            return await loop.run_in_executor(thread, QueueStore, directory)
        except QueueBusy:
            if loop.time() > give_up_seconds:
                raise
        await asyncio.sleep(_QUEUE_BUSY_POLL_SECONDS)


async def _keep_up(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a part again whatever ended it: the rest of the daemon does not depend on it."""
    repetitions = Repetitions()
    while True:
        try:
            await run()
        except Exception as error:  # a fault in one part must not keep the others from working
            problem = f"{type(error).__name__}: {error}"
            untold = repetitions.worth_telling(problem, asyncio.get_running_loop().time())
            if untold is not None:
                # The system's refusals explain themselves; anything else is a mistake of ours, and its place matters.
                log.error("part_failed", part=name, problem=problem, exc_info=not isinstance(error, OSError))
        await asyncio.sleep(_PART_PAUSE_SECONDS)


def run(configuration: Configuration) -> None:
    """Run the daemon until it is told to stop.

    Raises ProvisioningError, TlsMaterialError, StoreFault or OSError when it cannot start, ExceptionGroup when its core
    fails.
    """
    asyncio.run(Daemon(configuration).run())
