"""Runs a command of the site's own when a visit begins and when it ends: a sound, a light, a window.

The command gets one word: `working`, `safe` or `failed`; and MEDIUM_NODE, MEDIUM_NUMBER and MEDIUM_SENTENCE in its
environment. Nothing waits for it, and what becomes of it changes nothing.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from edge_agent.usb_watch.media_watch import MediumState, Turn
from edge_agent.usb_watch.sentences import Sentence
from edge_agent.usb_watch.signs import word_for
from operations.journal import get_logger

log = get_logger()

_TIMEOUT_SECONDS: Final = 60


class Hook:
    """See the module, and `signs.Sign`; the command is run once for each word."""

    def __init__(self, command: Path, sentence: Sentence) -> None:
        self._command = command
        self._sentence = sentence
        self._running: set[asyncio.Task[None]] = set()

    def tell(self, turn: Turn, state: MediumState) -> None:
        """See `Sign`."""
        if turn not in (Turn.BEGAN, Turn.ENDED):
            return
        task = asyncio.get_running_loop().create_task(self._run(state))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, state: MediumState) -> None:
        environment = os.environ | {
            "MEDIUM_NODE": state.node,
            "MEDIUM_NUMBER": state.number or "",
            "MEDIUM_SENTENCE": self._sentence(state),
        }
        try:
            process = await asyncio.create_subprocess_exec(
                str(self._command), word_for(state).value, env=environment, stdin=asyncio.subprocess.DEVNULL
            )
        except OSError as error:
            log.warning("hook_failed", hook=str(self._command), problem=error.strerror or str(error))
            return
        try:
            status = await asyncio.wait_for(process.wait(), _TIMEOUT_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            log.warning("hook_failed", hook=str(self._command), problem=f"not done in {_TIMEOUT_SECONDS} seconds")
        else:
            if status:
                log.warning("hook_failed", hook=str(self._command), problem=f"it ended with {status}")
