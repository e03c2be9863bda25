"""The endpoint of the census web site as one part of the daemon: off by default, for an online device only."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.engine.identity import DeviceIdentity, role_of
from edge_agent.queue.intake.intake import Intake
from edge_agent.queue.intake.notices import NoticeDesk
from edge_agent.queue.intake.online.certificate import TlsFiles
from edge_agent.queue.intake.online.tokens import TokenFile
from edge_agent.queue.intake.openrosa.endpoint import LOOK_INTERVAL_SECONDS, HttpEndpoint, Surroundings
from operations.journal import get_logger
from sync_protocol.identity import Role

log = get_logger()

SPOOL_FOLDER_NAME: Final = "online"
_CERTIFICATE_LOOK_SECONDS: Final = 60


@dataclass(frozen=True)
class OnlineSettings:
    """What of the configuration the endpoint needs; without TLS files it is on loopback."""

    state_directory: Path
    address: str
    port: int
    tls: TlsFiles | None
    tokens_file: Path
    connections_max: int
    questionnaire_bytes_max: int


class NotOnline(OSError):
    """The device is certified as something else: what it would take in would not count as filled online."""


class OnlineEndpoint(HttpEndpoint):
    """Serves the web site's servers."""

    def __init__(
        self, settings: OnlineSettings, intake: Intake, surroundings: Surroundings, identity: DeviceIdentity
    ) -> None:
        super().__init__(settings.port, intake, surroundings)
        self._settings = settings
        self._identity = identity

    async def _serve(self) -> None:
        from edge_agent.queue.intake.online.application import application
        from edge_agent.queue.intake.openrosa.server import Doorway, listening
        from edge_agent.queue.intake.openrosa.submission import SubmissionAddress

        settings = self._settings
        await self._check_role()
        spool_folder = settings.state_directory / SPOOL_FOLDER_NAME
        desk = self._desk(spool_folder, settings.questionnaire_bytes_max, NoticeDesk(self._identity))
        tls = None if settings.tls is None else settings.tls.context()
        serving = application(
            desk,
            SubmissionAddress(desk, spool_folder, settings.questionnaire_bytes_max),
            TokenFile(settings.tokens_file, _tell_of_odd_lines),
            questionnaire_bytes_max=settings.questionnaire_bytes_max,
            clock=self._clock,
        )
        doorway = Doorway(settings.port, (settings.address,), tls, settings.connections_max)
        async with listening(serving, doorway), asyncio.TaskGroup() as group:
            self._begun(address_of(settings))
            log.info("online_listening", address=address_of(settings))
            if settings.tls is not None and tls is not None:
                group.create_task(keep_certificate(settings.tls, tls))
            while True:
                await desk.complete_what_is_left()
                await asyncio.sleep(LOOK_INTERVAL_SECONDS)

    async def _check_role(self) -> None:
        role = await self._queue.ask(lambda transaction: role_of(self._identity.device, transaction))
        if role is not Role.ONLINE:
            raise NotOnline(f"this device is certified as {role.name.lower().replace('_', ' ')}, not as online")


def address_of(settings: OnlineSettings) -> str:
    """Return what the web site's developers are told."""
    host = f"[{settings.address}]" if ":" in settings.address else settings.address
    return f"{'http' if settings.tls is None else 'https'}://{host}:{settings.port}"


async def keep_certificate(
    files: TlsFiles, context: ssl.SSLContext, look_seconds: float = _CERTIFICATE_LOOK_SECONDS
) -> None:
    """Have a context serve with what the files hold now; with the last that could be used, while that cannot be."""
    known = files.state()
    while True:
        await asyncio.sleep(look_seconds)
        try:
            state = files.state()
            if state != known:
                known = state
                files.load_into(context)
                log.info("online_certificate_renewed")
        except OSError as error:
            log.warning("online_certificate_unusable", problem=str(error.strerror or error))


def _tell_of_odd_lines(lines: tuple[int, ...]) -> None:
    log.warning("online_tokens_odd", lines=", ".join(map(str, lines)))
