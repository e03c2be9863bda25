"""The forms that the center gives to devices, put into the folder that form programs are served from.

They come as statements, which the engine has verified and keeps; here they become files, one folder for each form:

    <state directory>/forms/center-<subject of its statements>/form.xml

Looked at when a form program asks for the list, so that an idle device does nothing. An operator's own folders are left
alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from edge_agent.engine.ports import QueueDesk
from edge_agent.engine.store import StoreFault
from edge_agent.queue.intake.openrosa.forms import XFORM_FILE_NAME
from operations.durable_files import write_durably
from sync_protocol import statement
from sync_protocol.errors import ProtocolError
from sync_protocol.form import PublishedForm, read_form
from sync_protocol.statement import parse_statement

PREFIX: Final = "center-"


class CenterForms:
    """Keeps the folder as the center's newest statements say; `tell` is given a folder's name and what is wrong."""

    def __init__(self, folder: Path, queue: QueueDesk, tell: Callable[[str, str], None]) -> None:
        self._folder = folder
        self._queue = queue
        self._tell = tell
        self._refused: set[bytes] = set()
        self._turn = asyncio.Lock()

    async def renew(self) -> None:
        """Write what is new; what cannot be written now is written another time."""
        async with self._turn:
            try:
                given = await self._queue.ask(lambda transaction: transaction.statements(statement.FORM))
                await asyncio.to_thread(self._write, given)
            except (StoreFault, OSError) as error:
                self._tell(PREFIX.rstrip("-"), f"the center's forms cannot be written: {error}")

    def _write(self, given: Sequence[bytes]) -> None:
        sources = {f"{PREFIX}{source.subject.hex()}": source for source in map(parse_statement, given)}
        if sources:
            self._folder.mkdir(mode=0o750, exist_ok=True)
        for name, source in sources.items():
            try:
                self._put(name, read_form(source))
            except ProtocolError as error:
                if source.data not in self._refused:
                    self._refused.add(source.data)
                    self._tell(name, error.detail)

    def _put(self, name: str, form: PublishedForm) -> None:
        path = self._folder / name / XFORM_FILE_NAME
        if path.is_file() and path.read_bytes() == form.xform:
            return
        path.parent.mkdir(mode=0o750, exist_ok=True)
        write_durably(path, form.xform, mode=0o640)
