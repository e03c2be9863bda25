"""The composition root: the only file that names every adapter. Builds the daemon from its configuration and runs it.

| part | when it fails |
|---|---|
| the runner (engine and queue) | the daemon ends, and is started anew by its service manager |
| sockets, drop folder, publisher, mesh, status line | that part alone is started again; the others go on |
| the queue's thread | the watchdog is not told any more, and the service manager starts the daemon anew |
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Final

from edge_agent import provisioning
from edge_agent.adapter_settings import (
    engine_settings,
    mesh_settings,
    online_settings,
    openrosa_settings,
    publisher_settings,
)
from edge_agent.configuration import Configuration
from edge_agent.control import ControlHandler, Report, connection_query
from edge_agent.engine.engine import Engine
from edge_agent.engine.events import Started
from edge_agent.engine.settings import SECOND
from edge_agent.engine.stepper import Stepper
from edge_agent.mesh.mesh_watch import MeshWatch
from edge_agent.mesh.peer_tls import peer_tls
from edge_agent.mesh_document import mesh_document
from edge_agent.mqtt.bound_client import broker_tls_context
from edge_agent.mqtt.publisher import MqttPublisher, PublisherState
from edge_agent.mqtt.vpn_guard import Permitted, VpnGuard
from edge_agent.notice_document import notice_document
from edge_agent.own_list import ListUnreadable, OwnListStatus, open_own_list, read_or_make_list_key
from edge_agent.own_standing import Clocks, OwnStanding
from edge_agent.parts import keep_up
from edge_agent.queue.intake.drop_folder import DropFolder
from edge_agent.queue.intake.intake import Intake, IntakeSettings
from edge_agent.queue.intake.local_protocol import (
    CONTROL_SOCKET_NAME,
    SUBMIT_SOCKET_NAME,
    LocalServer,
    listening_socket,
)
from edge_agent.queue.intake.online.endpoint import OnlineEndpoint
from edge_agent.queue.intake.openrosa.endpoint import OpenRosaEndpoint
from edge_agent.queue.intake.openrosa.endpoint import Surroundings as EndpointSurroundings
from edge_agent.queue.intake.submit_socket import SubmitHandler
from edge_agent.queue.mirror import FileHeadMirror
from edge_agent.queue_opening import open_queue
from edge_agent.runner import Runner
from edge_agent.status_document import LinkStatus, status_document, status_line
from edge_agent.tls import TlsMaterial
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
from sync_protocol.counted_list import CountedList
from sync_protocol.domains import NAME_BYTES
from sync_protocol.keys import SEED_BYTES

log = get_logger()

_STATUS_INTERVAL_SECONDS: Final = 2
"""At most so often, and only after something happened, the status line is told anew."""

_LISTENING_POLL_SECONDS: Final = 0.01
_LISTENING_SECONDS_MAX: Final = 5
"""The submit socket listens within milliseconds, or its part has failed and is tried again later."""


def clock() -> int:
    """Return microseconds since 1970 UTC, as far as the device knows."""
    return time.time_ns() // 1_000


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
        self._openrosa: OpenRosaEndpoint | None = None
        self._list_status = OwnListStatus(self._device.identity.device, configuration.device.state_directory)
        self._online: OnlineEndpoint | None = None

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT; raises StoreFault or OSError when it cannot start."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with AsyncExitStack() as stack:
            thread = stack.enter_context(ThreadPoolExecutor(max_workers=1, thread_name_prefix="store"))
            state_directory = self._configuration.device.state_directory
            store = stack.enter_context(await open_queue(state_directory, thread))
            mirror = FileHeadMirror(state_directory)
            stack.callback(mirror.close)
            engine = Engine(self._device.identity, engine_settings(self._configuration), self._randomness)
            self._runner = Runner(Stepper(engine, store, mirror), thread, clock)
            self._query = connection_query(store.connection)
            sentence = sentences_in(self._configuration.usb.language)
            self._signs = self._telling(sentence)
            self._media = self._media_watch()
            self._standing = self._own_standing()
            self._mesh = None if self._configuration.mesh.duty == "off" else self._mesh_watch()
            enrolment = MediumEnrolment(
                self._runner, self._device.identity, draw_name=lambda: secrets.token_bytes(NAME_BYTES), clock=clock
            )
            self._media_desk = MediaDesk(self._media, enrolment, sentence)
            await self._runner.start(Started(mirror.position(), self._device.statements))
            if self._configuration.device.counted_lists:
                self._announce_list_key()
            await self._run_parts(stop)

    def _announce_list_key(self) -> None:
        try:
            directory = self._configuration.device.state_directory
            key = read_or_make_list_key(directory, secrets.token_bytes(SEED_BYTES))
        except (ListUnreadable, OSError) as error:
            # Questionnaires do not wait for lists.
            log.error("list_key_unusable", problem=str(error))
        else:
            self._runner.announce_key(key.public_key.public_bytes)

    async def _run_parts(self, stop: asyncio.Event) -> None:
        for name in (SUBMIT_SOCKET_NAME, CONTROL_SOCKET_NAME, NOTICES_SOCKET_NAME):
            # Left by a daemon that was killed: the queue's lock, which we hold, says that no other one runs.
            (self._configuration.device.runtime_directory / name).unlink(missing_ok=True)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self._runner.run())
            parts = [group.create_task(part) for part in (*self._intake_parts(), *self._other_parts())]
            self._runner.watch(self._stepped)
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
        parts = [] if self._configuration.usb.mounting == "off" else [keep_up("USB watch", self._watch_media)]
        if self._mesh is not None:
            parts += [keep_up("mesh", self._mesh.run), keep_up("own standing", self._standing.run)]
        return [
            *parts,
            *(keep_up(name, run) for name, run in self._signs.parts),
            keep_up("publisher", self._publish),
            keep_up("status line", self._tell_status),
            keep_up("watchdog", self._watchdog),
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

    def _own_standing(self) -> OwnStanding:
        directory, kept_free = self._configuration.device.state_directory, self._configuration.storage.free_bytes_min

        def free_bytes() -> int:
            room = os.statvfs(directory)
            return room.f_bavail * room.f_frsize - kept_free

        def told() -> None:
            if self._mesh is not None:
                self._mesh.hello_changed()

        return OwnStanding(
            self._device.identity.device,
            self._runner,
            foreign_bytes_max=engine_settings(self._configuration).foreign_bytes_max,
            free_bytes=free_bytes,
            reaches_center=lambda: self._link_state.connected,
            # It runs on while the device sleeps.
            clocks=Clocks(clock, lambda: time.clock_gettime(time.CLOCK_BOOTTIME)),
            on_change=told,
        )

    def _mesh_watch(self) -> MeshWatch:
        device = self._device
        return MeshWatch(
            device.identity.device,
            mesh_settings(self._configuration),
            tls=peer_tls(TlsMaterial(device.tls_authority, device.tls_certificate, device.tls_key)),
            host=self._runner,
            queue=self._runner,
            hello=self._standing.hello,
            randomness=self._randomness,
            draw=secrets.token_bytes,
            clock=clock,
            on_change=self._changed.set,
        )

    def _stepped(self) -> None:
        self._changed.set()
        self._standing.queue_changed()

    def _link_changed(self) -> None:
        self._changed.set()
        self._standing.link_changed()

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
                on_change=self._link_changed,
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
        check_notice = partial(notice_document, self._query, self._device.identity.root_public_key)
        control = ControlHandler(
            self._runner.on_store_thread,
            self._query,
            self._status,
            self._media_desk,
            check_notice=check_notice,
            own_list=self._own_list,
        )
        runtime_directory = configuration.device.runtime_directory
        group = configuration.intake.submit_socket_group
        submit_server = LocalServer(runtime_directory / SUBMIT_SOCKET_NAME, group, SubmitHandler(intake))
        control_server = LocalServer(
            runtime_directory / CONTROL_SOCKET_NAME, configuration.device.operator_group, control
        )
        parts = [keep_up("submit socket", submit_server.run), keep_up("control socket", control_server.run)]
        if configuration.intake.drop_directory is not None:
            parts.append(keep_up("drop folder", DropFolder(configuration.intake.drop_directory, intake, clock).run))
        surroundings = EndpointSurroundings(self._runner, clock, self._changed.set)
        if configuration.intake.openrosa:
            self._openrosa = OpenRosaEndpoint(openrosa_settings(configuration), intake, surroundings)
            parts.append(keep_up("OpenRosa endpoint", self._openrosa.run))
        if configuration.online.enabled:
            self._online = OnlineEndpoint(online_settings(configuration), intake, surroundings, self._device.identity)
            parts.append(keep_up("online endpoint", self._online.run))
        return parts

    def _own_list(self) -> CountedList | None:
        return open_own_list(self._query, self._device.identity.device, self._configuration.device.state_directory)

    def _status(self) -> Report:
        """Look at links and media now, on the event loop, and return what puts the queue's part to it."""
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
        mesh = mesh_document(
            self._configuration.mesh.duty,
            None if self._mesh is None else self._mesh.situation(),
            () if self._mesh is None else self._mesh.states(),
            now=clock(),
        )
        return partial(
            status_document,
            self._query,
            device=self._device.identity.device,
            link=link,
            silence_alarm=self._configuration.sync.receipt_silence_alarm_seconds * SECOND,
            now=clock(),
            media=[visit for visit in self._media_desk.visits() if visit["shown"]],
            mesh=mesh,
            openrosa=None if self._openrosa is None else self._openrosa.status(),
            counted_list=self._list_status,
            online=None if self._online is None else self._online.status(),
        )

    async def _tell_status(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._service.status(status_line(await self._runner.on_store_thread(self._status())))
            await asyncio.sleep(_STATUS_INTERVAL_SECONDS)

    async def _watchdog(self) -> None:
        """Tell systemd that we live, by way of the store's thread: a daemon whose store hangs does not."""
        interval_seconds = watchdog_interval_seconds()
        while interval_seconds is not None:
            await self._runner.on_store_thread(self._service.watchdog)
            await asyncio.sleep(interval_seconds)
        await asyncio.Event().wait()


def run(configuration: Configuration) -> None:
    """Run the daemon until it is told to stop.

    Raises ProvisioningError, TlsMaterialError, StoreFault or OSError when it cannot start, ExceptionGroup when its core
    fails.
    """
    asyncio.run(Daemon(configuration).run())
