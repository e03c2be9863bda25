"""Keeps a part of the daemon up, whatever ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from edge_agent.repetition import Repetitions
from operations.journal import get_logger

log = get_logger()

_PART_PAUSE_SECONDS: Final = 30
"""Before a part that failed is tried again."""


async def keep_up(name: str, run: Callable[[], Awaitable[None]]) -> None:
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
