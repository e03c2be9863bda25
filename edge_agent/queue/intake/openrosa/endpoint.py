"""The endpoint as one part of the daemon: off by default, and the HTTP libraries are loaded only when it runs."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_agent.engine.ports import QueueDesk
from edge_agent.queue.intake.intake import Intake
from edge_agent.queue.intake.openrosa.forms import FolderShelf
from edge_agent.queue.intake.openrosa.key import KEY_BYTES, address, read_or_make_key
from operations.journal import get_logger

log = get_logger()

FORMS_FOLDER_NAME: Final = "forms"
_LOOK_INTERVAL_SECONDS: Final = 3_600
"""Questionnaires whose client has given up are looked for so often."""


@dataclass(frozen=True)
class OpenRosaSettings:
    """What of the configuration the endpoint needs."""

    state_directory: Path
    port: int
    origins: frozenset[str]
    questionnaire_bytes_max: int


class OpenRosaEndpoint:
    """Serves form programs of this device; `run` is one of the daemon's parts."""

    def __init__(
        self,
        settings: OpenRosaSettings,
        intake: Intake,
        queue: QueueDesk,
        clock: Callable[[], int],
        on_change: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._queue = queue
        self._clock = clock
        self._on_change = on_change
        self._address: str | None = None
        self._listening = False
        self._problem: str | None = None

    def status(self) -> dict[str, Any]:
        """Return how it stands: where clients find it, and why not."""
        return {"address": self._address, "listening": self._listening, "problem": self._problem}

    async def run(self) -> None:
        """Serve until cancelled; raises OSError when the port or the folder cannot be used."""
        try:
            await self._serve()
        except OSError as error:
            self._problem = f"port {self._settings.port}: {error.strerror or error}"
            self._on_change()
            raise
        finally:
            self._listening = False

    async def _serve(self) -> None:
        from edge_agent.queue.intake.openrosa.application import ApplicationSettings, application
        from edge_agent.queue.intake.openrosa.batches import BatchFolder
        from edge_agent.queue.intake.openrosa.center_forms import CenterForms
        from edge_agent.queue.intake.openrosa.desk import SubmissionDesk, spool_folder
        from edge_agent.queue.intake.openrosa.server import listening

        settings = self._settings
        key = read_or_make_key(settings.state_directory, secrets.token_urlsafe(KEY_BYTES))
        batches = BatchFolder(spool_folder(settings.state_directory))
        batches.prepare()
        desk = SubmissionDesk(
            self._intake,
            self._queue,
            batches,
            bytes_max=settings.questionnaire_bytes_max,
            clock=self._clock,
            new_occasion=lambda: uuid.uuid4().hex,
        )
        forms = settings.state_directory / FORMS_FOLDER_NAME
        serving = application(
            desk,
            FolderShelf(forms, _tell_of_form),
            key=key,
            settings=ApplicationSettings(batches.folder, settings.questionnaire_bytes_max, settings.origins),
            clock=self._clock,
            renew=CenterForms(forms, self._queue, _tell_of_form).renew,
        )
        async with listening(serving, settings.port):
            self._address, self._listening, self._problem = address(settings.port, key), True, None
            self._on_change()
            log.info("openrosa_listening", port=settings.port)
            while True:
                await desk.complete_what_is_left()
                await asyncio.sleep(_LOOK_INTERVAL_SECONDS)


def _tell_of_form(folder: str, problem: str) -> None:
    log.warning("openrosa_form_unusable", folder=folder, problem=problem)
