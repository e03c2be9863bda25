"""The endpoint as one part of the daemon: off by default, and the HTTP libraries are loaded only when it runs.

What it has in common with the endpoint of the census web site is `HttpEndpoint`.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_agent.engine.ports import QueueDesk
from edge_agent.queue.intake.intake import Intake
from edge_agent.queue.intake.notices import NoticeDesk
from edge_agent.queue.intake.openrosa.forms import FolderShelf
from edge_agent.queue.intake.openrosa.key import KEY_BYTES, address, read_or_make_key
from operations.journal import get_logger

if TYPE_CHECKING:
    from edge_agent.queue.intake.openrosa.desk import SubmissionDesk

log = get_logger()

FORMS_FOLDER_NAME: Final = "forms"
SPOOL_FOLDER_NAME: Final = "openrosa"
"""Where unfinished questionnaires are kept."""
LOOK_INTERVAL_SECONDS: Final = 3_600
"""Questionnaires whose client has given up are looked for so often."""


@dataclass(frozen=True)
class Surroundings:
    """What of the daemon an endpoint needs; `clock` in microseconds, `on_change` is told when its status changes."""

    queue: QueueDesk
    clock: Callable[[], int]
    on_change: Callable[[], None]


@dataclass(frozen=True)
class OpenRosaSettings:
    """What of the configuration the endpoint needs."""

    state_directory: Path
    port: int
    origins: frozenset[str]
    questionnaire_bytes_max: int


class HttpEndpoint(ABC):
    """Something that listens; `run` is one of the daemon's parts."""

    def __init__(self, port: int, intake: Intake, surroundings: Surroundings) -> None:
        self._port = port
        self._intake = intake
        self._queue = surroundings.queue
        self._clock = surroundings.clock
        self._on_change = surroundings.on_change
        self._address: str | None = None
        self._listening = False
        self._problem: str | None = None

    def status(self) -> dict[str, Any]:
        """Return how it stands: where clients find it, and why not."""
        return {"address": self._address, "listening": self._listening, "problem": self._problem}

    async def run(self) -> None:
        """Serve until cancelled; raises OSError when it cannot listen, or not with what it is given."""
        try:
            await self._serve()
        except OSError as error:
            self._problem = f"port {self._port}: {error.strerror or error}"
            self._on_change()
            raise
        finally:
            self._listening = False

    @abstractmethod
    async def _serve(self) -> None: ...

    def _desk(self, folder: Path, bytes_max: int, notices: NoticeDesk | None = None) -> SubmissionDesk:
        """Return a desk that keeps unfinished questionnaires in this folder."""
        from edge_agent.queue.intake.openrosa.batches import BatchFolder
        from edge_agent.queue.intake.openrosa.desk import SubmissionDesk

        batches = BatchFolder(folder)
        batches.prepare()
        return SubmissionDesk(
            self._intake,
            self._queue,
            batches,
            bytes_max=bytes_max,
            clock=self._clock,
            new_occasion=lambda: uuid.uuid4().hex,
            notices=notices,
        )

    def _begun(self, address: str) -> None:
        self._address, self._listening, self._problem = address, True, None
        self._on_change()


class OpenRosaEndpoint(HttpEndpoint):
    """Serves form programs of this device."""

    def __init__(self, settings: OpenRosaSettings, intake: Intake, surroundings: Surroundings) -> None:
        super().__init__(settings.port, intake, surroundings)
        self._settings = settings

    async def _serve(self) -> None:
        from edge_agent.queue.intake.openrosa.application import ApplicationSettings, application
        from edge_agent.queue.intake.openrosa.center_forms import CenterForms
        from edge_agent.queue.intake.openrosa.server import Doorway, listening

        settings = self._settings
        key = read_or_make_key(settings.state_directory, secrets.token_urlsafe(KEY_BYTES))
        spool_folder = settings.state_directory / SPOOL_FOLDER_NAME
        desk = self._desk(spool_folder, settings.questionnaire_bytes_max)
        forms = settings.state_directory / FORMS_FOLDER_NAME
        serving = application(
            desk,
            FolderShelf(forms, _tell_of_form),
            key=key,
            settings=ApplicationSettings(spool_folder, settings.questionnaire_bytes_max, settings.origins),
            clock=self._clock,
            renew=CenterForms(forms, self._queue, _tell_of_form).renew,
        )
        async with listening(serving, Doorway(settings.port)):
            self._begun(address(settings.port, key))
            log.info("openrosa_listening", port=settings.port)
            while True:
                await desk.complete_what_is_left()
                await asyncio.sleep(LOOK_INTERVAL_SECONDS)


def _tell_of_form(folder: str, problem: str) -> None:
    log.warning("openrosa_form_unusable", folder=folder, problem=problem)
